"""Reshaping: a collection may be split and merged between any two folds, and is the same as one directory of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chromadb_compaction.chroma.client import SQLITE_FILE, open_collection
from chromadb_compaction.configuration import CollectionMetadata, KeptSettings, Register, newer_version
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.fold.fold import FoldRequest, FoldResult, fold_collection
from chromadb_compaction.fold.reshaping import Reshaped, Source, reshape
from chromadb_compaction.layout import LEDGER_FILE
from chromadb_compaction.manifest import Conservation
from chromadb_compaction.rows.id_ranges import ALL_IDS, IdRange, ranges
from chromadb_compaction.rows.ledger import FoldCounts, decode_ledger
from tests.differential.histories import HISTORIES, IDS, History
from tests.runs import a_run, decode_run, encode_run

NAME = "docs"
Record = tuple[bytes, str | None, dict[str, Any] | None, str | None]


class Pass(NamedTuple):
    """One pass: the number of the run, what its delta does beside the rows, and the borders of the partitions."""

    run: int
    drops: bool
    states: bool
    borders: tuple[str, ...]

    @property
    def version(self) -> str:
        return str(UUID(int=self.run + 1))


class Beside(NamedTuple):
    """The settings and drops that a collection keeps beside its rows."""

    dimension: int | None = None
    settings: KeptSettings | None = None
    dropped: str | None = None


class Directory(NamedTuple):
    """A directory of the collection. It is missing if `result` does not exist."""

    ids: IdRange
    path: Path
    result: FoldResult

    @property
    def ledger(self) -> pa.Table:
        return decode_ledger((self.path / LEDGER_FILE).read_bytes())


class LocalCollection:
    """A collection on the local disk that is folded several times, each time as the given ranges of ids."""

    def __init__(self, parent: Path, history: History) -> None:
        self.parent = parent
        self.history = history
        self.beside = Beside()
        self.directories: list[Directory] = []
        self.folds = 0

    def fold(self, runs: Sequence[Path], units: Sequence[IdRange], change: Pass | None = None) -> list[FoldResult]:
        self.folds += 1
        before = self.beside
        dropped, kept = before.dropped, before.settings or KeptSettings()
        if change is not None and change.drops:
            dropped = newer_version(dropped, change.version)
        if change is not None and change.states:
            stated: Register[CollectionMetadata] = Register(version=change.version, value={"n": change.run})
            kept = kept.merged(KeptSettings(metadata=stated, stated=change.version))
        shape = self.history.settings
        after = kept.since(dropped).with_shape_of(shape)
        made = [self._fold_unit(runs, ids, after, dropped) for ids in units]
        results = [each.result for each in made]
        if any(each.exists for each in results):
            dimension = next((each.dimension for each in results if each.exists and each.dimension), None)
            self.beside = Beside(dimension, after, dropped)
        else:
            self.beside = Beside(dropped=dropped)
        self.directories = [each for each in made if each.result.exists]
        return results

    def _fold_unit(self, runs: Sequence[Path], ids: IdRange, after: KeptSettings, dropped: str | None) -> Directory:
        name = f"{self.folds}-{ids.first.encode().hex()}"
        sources = [each for each in self.directories if overlap(each.ids, ids)]
        whole = sources[0] if len(sources) == 1 and sources[0].ids == ids else None
        path = whole.path if whole else self.parent / name
        path.mkdir(exist_ok=True)
        base: dict[str, Any] = {}
        if whole:
            base = {"ledger": path / LEDGER_FILE, "base_sum": whole.result.conservation.next}
        elif sources:
            base = reshape(
                [Source(each.path, each.result.conservation.next) for each in sources],
                ids,
                collection=NAME,
                dimension=self.beside.dimension,
                space=self.history.space,
                into=self.parent / f"{name}.base",
            )._asdict()
        request = FoldRequest(
            collection=NAME,
            dimension=self.beside.dimension,
            space=self.history.space,
            directory=path,
            runs=list(runs),
            next_ledger=path / LEDGER_FILE,
            settings=after,
            base_settings=self.beside.settings,
            dropped_before=dropped,
            drops=dropped != self.beside.dropped,
            ids=ids,
            **{"ledger": None, **base},
        )
        return Directory(ids, path, fold_collection(request))

    def ledger(self) -> list[dict[str, Any]]:
        return [row for each in self.directories for row in each.ledger.to_pylist()]

    def records(self) -> list[tuple[str, Record]]:
        return sorted(pair for each in self.directories for pair in records_of(each.path))

    def metadata(self) -> list[Any]:
        found = []
        for each in self.directories:
            if (each.path / SQLITE_FILE).exists():
                with open_collection(each.path, NAME) as collection:
                    found.append((collection.metadata, collection.configuration_json))
        return found


def records_of(path: Path) -> list[tuple[str, Record]]:
    if not (path / SQLITE_FILE).exists():
        return []
    with open_collection(path, NAME) as collection:
        found: Any = collection.get(include=["embeddings", "documents", "metadatas", "uris"])
    columns = (found[name] for name in ("ids", "embeddings", "documents", "metadatas", "uris"))
    return [(row_id, (vector.tobytes(), *texts)) for row_id, vector, *texts in zip(*columns, strict=True)]


def overlap(one: IdRange, other: IdRange) -> bool:
    return (other.end is None or one.first < other.end) and (one.end is None or other.first < one.end)


@st.composite
def cases(draw: st.DrawFn) -> tuple[History, list[Pass]]:
    history = draw(HISTORIES)
    order = draw(st.permutations(range(len(history.folds))))
    borders = st.lists(st.sampled_from((*IDS, "b\0", "ü\U0001f98a")), unique=True, max_size=2)
    flags = st.sampled_from((False, False, True))
    passes = [Pass(run, draw(flags), draw(flags), tuple(sorted(draw(borders), key=str.encode))) for run in order]
    return history, passes


quiet = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(quiet, max_examples=8)
@given(case=cases())
def test_a_collection_that_is_split_and_merged_is_the_same_as_one_that_is_not(
    case: tuple[History, list[Pass]],
) -> None:
    check(*case)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(quiet, max_examples=1000)
@given(case=cases())
def test_very_many_collections_that_are_split_and_merged_are_the_same(case: tuple[History, list[Pass]]) -> None:
    check(*case)


def check(history: History, passes: Sequence[Pass]) -> None:
    """Fold the passes into one directory and into partitions, and compare. Then merge the partitions, and compare."""
    with TemporaryDirectory() as parent:
        for name in ("whole", "parts"):
            Path(parent, name).mkdir()
        whole, parts = LocalCollection(Path(parent, "whole"), history), LocalCollection(Path(parent, "parts"), history)
        for each in passes:
            run = Path(parent, f"{each.run}.parquet")
            run.write_bytes(encode_run(history.run(each.run)))
            [expected] = whole.fold([run], [ALL_IDS], each)
            results = parts.fold([run], ranges(["", *each.borders]), each)
            compare(whole, parts, expected, results)
        [expected] = whole.fold([], [ALL_IDS])
        results = parts.fold([], [ALL_IDS])
        compare(whole, parts, expected, results)
        assert parts.metadata() == whole.metadata()


def compare(whole: LocalCollection, parts: LocalCollection, expected: FoldResult, results: list[FoldResult]) -> None:
    assert parts.records() == whole.records()
    assert parts.ledger() == whole.ledger()
    assert parts.beside == whole.beside
    assert Conservation.total(each.conservation for each in results) == expected.conservation
    assert FoldCounts(*map(sum, zip(*(each.counts for each in results), strict=True))) == expected.counts
    assert len({repr(each) for each in parts.metadata()}) <= 1


@pytest.fixture
def docs(tmp_path: Path) -> LocalCollection:
    """A collection of three rows in one directory."""
    (tmp_path / "docs").mkdir()
    collection = LocalCollection(tmp_path / "docs", History(2, "l2", []))
    run = tmp_path / "run.parquet"
    run.write_bytes(encode_run(a_run({"a": [1, 0], "b": [2, 0], "c": [3, 0]})))
    collection.fold([run], [ALL_IDS])
    return collection


def reshaped(collection: LocalCollection, sources: Sequence[Source], ids: IdRange = ALL_IDS) -> Reshaped:
    into = collection.parent / "into"
    return reshape(sources, ids, collection=NAME, dimension=2, space="l2", into=into)


def source_of(collection: LocalCollection) -> Source:
    [directory] = collection.directories
    return Source(directory.path, directory.result.conservation.next)


def test_a_ledger_that_is_not_the_manifests_is_refused(docs: LocalCollection) -> None:
    with pytest.raises(VerificationError, match="the rows of the ledger have the sum"):
        reshaped(docs, [Source(docs.directories[0].path, "1" * 32)])


def test_directories_that_hold_the_same_ids_are_refused(docs: LocalCollection) -> None:
    with pytest.raises(VerificationError, match="the ledgers of its directories overlap"):
        reshaped(docs, [source_of(docs), source_of(docs)])


def test_a_ledger_with_records_but_without_a_database_is_refused(docs: LocalCollection) -> None:
    (docs.directories[0].path / SQLITE_FILE).unlink()

    with pytest.raises(VerificationError, match="no ChromaDB database"):
        reshaped(docs, [source_of(docs)])


def test_the_sums_of_both_sides_of_a_border_are_the_sum_of_the_whole(docs: LocalCollection) -> None:
    source = source_of(docs)
    left, right = (
        reshape([source], ids, collection=NAME, dimension=2, space="l2", into=docs.parent / (ids.first or "least"))
        for ids in ranges(["", "b"])
    )

    assert [decode_run(each.moved.read_bytes())["id"].to_pylist() for each in (left, right)] == [["a"], ["b", "c"]]
    assert (int(left.base_sum, 16) + int(right.base_sum, 16) - int(source.next_sum, 16)) % 2**128 == 0


def test_a_moved_row_that_is_lost_or_changed_stops_the_fold(docs: LocalCollection) -> None:
    base = reshaped(docs, [source_of(docs)])
    moved = decode_run(base.moved.read_bytes())
    request = FoldRequest(
        collection=NAME,
        dimension=2,
        space="l2",
        directory=docs.parent / "new",
        ledger=base.ledger,
        base_sum=base.base_sum,
        runs=[],
        next_ledger=docs.parent / "next.parquet",
        moved=base.moved,
    )
    for wrong in (moved.slice(1), a_run({"a": [1, 0], "b": [2, 0], "c": [3, 1]})):
        base.moved.write_bytes(encode_run(wrong))

        with pytest.raises(VerificationError, match="are not those of the ledger"):
            fold_collection(request)
    assert not request.directory.exists()
