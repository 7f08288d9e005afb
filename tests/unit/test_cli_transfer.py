"""A put that is stopped, wherever, and given again: nothing twice, nothing missing, nothing older over newer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import uuid_utils

from chromadb_compaction import layout, writer
from chromadb_compaction.adapters.chroma import open_directory
from chromadb_compaction.cli import chroma_source, record_files, transfer
from chromadb_compaction.cli.chroma_places import chroma_directory
from chromadb_compaction.cli.chroma_source import ChromaCollection
from chromadb_compaction.cli.record_files import RecordFiles, Source
from chromadb_compaction.cli.transfer import How, Transfer
from chromadb_compaction.delta_formats import read_delta
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError, TransientStorageError
from tests.fakes.cloud import Cloud, a_cloud

RECORDS: list[dict[str, Any]] = [{"id": f"id-{n:02}", "embedding": [n, 1], "metadata": {"n": n}} for n in range(40)]
DELTAS = 8
"""What 40 records of 36 bytes make with the sizes below."""


class KilledError(BaseException):
    """What nobody catches, as nobody catches SIGKILL."""


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setattr(writer, "TARGET_BYTES", 200)
    monkeypatch.setattr(writer, "MOST_BYTES", 250)
    monkeypatch.setattr(record_files, "CHUNK", 7)
    return a_cloud()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return holding(tmp_path / "records.jsonl", RECORDS)


def holding(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def put(cloud: Cloud, source: Path, **options: Any) -> Transfer:
    return put_source(cloud, RecordFiles([source], "docs"), source.parent / "journals", **options)


def put_source(cloud: Cloud, source: Source, journals: Path, **options: Any) -> Transfer:
    with closing(Transfer(source, cloud.services, How(journals, **options))) as running:
        for _ in running.run():
            pass
        running.forget()
    return running


def stop(cloud: Cloud, source: Path, *, stored: int) -> None:
    stop_source(cloud, RecordFiles([source], "docs"), source.parent / "journals", stored=stored)


def stop_source(cloud: Cloud, source: Source, journals: Path, *, stored: int) -> None:
    """Let a put be killed when it has stored so many deltas, before it can note the last."""

    def kill(call: str, _key: str) -> None:
        if call == "put" and len(cloud.objects.keys()) == stored:
            raise KilledError

    cloud.objects.after = kill
    with pytest.raises(KilledError):
        put_source(cloud, source, journals)
    cloud.objects.after = lambda _call, _key: None


def rows_of(cloud: Cloud) -> list[str]:
    """Return the ids of all deltas' rows, wherever the deltas are now, in the order of their versions."""
    return [row for _, rows in sorted(deltas_of(cloud).items()) for row in rows]


def deltas_of(cloud: Cloud) -> dict[str, list[str]]:
    def read(key: str) -> list[Any]:
        pending = layout.delta_key("docs", Path(key).stem)
        return read_delta(pending, cloud.objects.objects[key].body, now=4e9, max_bytes=10**6).table["id"].to_pylist()

    return {Path(key).stem: read(key) for key in cloud.objects.objects}


def journals(source: Path) -> Iterator[Path]:
    return (source.parent / "journals").glob("*")


ALL = [record["id"] for record in RECORDS]


def test_what_is_put_is_written_once_and_its_journal_goes(cloud: Cloud, source: Path) -> None:
    done = put(cloud, source)

    assert rows_of(cloud) == ALL
    assert (done.records, done.records_before, len(done.deltas)) == (40, 0, DELTAS)
    assert list(journals(source)) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(DELTAS))
def test_killed_before_or_after_any_delta_is_stored_a_put_goes_on(
    cloud: Cloud, source: Path, when: str, number: int
) -> None:
    stored = 0

    def kill(call: str, _key: str) -> None:
        nonlocal stored
        stored += call == "put"
        if call == "put" and stored == number + 1:
            raise KilledError

    setattr(cloud.objects, when, kill)
    with pytest.raises(KilledError):
        put(cloud, source)
    resumed = put(cloud, source)

    assert rows_of(cloud) == ALL
    assert len(cloud.objects.objects) == len(resumed.deltas) == DELTAS
    assert resumed.records + resumed.records_before == len(ALL)


def test_a_lost_response_leaves_one_delta_and_not_two(cloud: Cloud, source: Path) -> None:
    def lose(call: str, _key: str) -> None:
        if call == "put" and len(cloud.objects.keys()) == 3:
            raise TransientStorageError("the response was lost")

    cloud.objects.after = lose
    with pytest.raises(TransientStorageError):
        put(cloud, source)
    cloud.objects.after = lambda _call, _key: None
    put(cloud, source)

    assert rows_of(cloud) == ALL
    assert len(cloud.objects.objects) == DELTAS


def test_a_line_of_the_journal_that_a_crash_cut_off_does_not_count(cloud: Cloud, source: Path) -> None:
    stop(cloud, source, stored=4)
    (journal,) = journals(source)
    journal.write_bytes(journal.read_bytes()[:-10])

    stop(cloud, source, stored=6)
    resumed = put(cloud, source)

    assert rows_of(cloud) == ALL
    assert (resumed.deltas_before, len(resumed.deltas)) == (5, DELTAS)


def test_what_is_merged_meanwhile_is_not_written_again(cloud: Cloud, source: Path) -> None:
    stop(cloud, source, stored=4)
    for number, key in enumerate(sorted(cloud.objects.keys(layout.DELTA_PREFIX))[:3]):
        moved = layout.quarantine_key(key) if number else layout.compacted_key(key)
        cloud.objects.objects[moved] = cloud.objects.objects.pop(key)
    cloud.objects.calls.clear()

    put(cloud, source)

    assert rows_of(cloud) == ALL
    assert len([call for call, _ in cloud.objects.calls if call == "put"]) == DELTAS - 3


def test_however_late_it_is_finished_what_others_wrote_meanwhile_is_newer(cloud: Cloud, source: Path) -> None:
    stop(cloud, source, stored=2)
    written_by_others = UUID(int=uuid_utils.uuid7().int)

    put(cloud, source)

    assert max(deltas_of(cloud)) < str(written_by_others)


def test_a_put_that_has_stored_nothing_begins_when_it_is_given_again(cloud: Cloud, source: Path) -> None:
    cloud.objects.before = killing_puts
    with pytest.raises(KilledError):
        put(cloud, source)
    cloud.objects.before = lambda _call, _key: None
    written_by_others = UUID(int=uuid_utils.uuid7().int)

    put(cloud, source)

    assert min(deltas_of(cloud)) > str(written_by_others)


def killing_puts(call: str, _key: str) -> None:
    if call == "put":
        raise KilledError


CHANGES: dict[str, list[dict[str, Any]]] = {
    "an embedding": [{**RECORDS[0], "embedding": [9, 9]}, *RECORDS[1:]],
    "metadata": [RECORDS[0], {**RECORDS[1], "metadata": {"n": "1"}}, *RECORDS[2:]],
    "a document": [{**RECORDS[0], "document": "new"}, *RECORDS[1:]],
    "a delete": [{"id": "id-00", "op": "delete"}, *RECORDS[1:]],
    "a record gone": RECORDS[1:],
    "the order": [RECORDS[1], RECORDS[0], *RECORDS[2:]],
    "the rest gone": RECORDS[:3],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_whose_written_records_have_changed_is_refused(cloud: Cloud, source: Path, change: str) -> None:
    stop(cloud, source, stored=3)
    before = dict(cloud.objects.objects)
    holding(source, CHANGES[change])

    with pytest.raises(InvalidRequestError, match=r"has changed since this put was stopped: .*--restart"):
        put(cloud, source)

    assert cloud.objects.objects == before


def test_records_that_come_after_the_written_ones_may_change(cloud: Cloud, source: Path) -> None:
    stop(cloud, source, stored=3)
    holding(source, [*RECORDS[:30], {"id": "new", "embedding": [1, 2]}])

    put(cloud, source)

    assert rows_of(cloud) == [*ALL[:30], "new"]


def test_a_chroma_directory_whose_written_records_have_changed_is_refused_and_one_that_was_only_read_is_not(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    with open_directory(theirs) as client:
        docs = client.create_collection("docs", embedding_function=None)
        docs.add(ids=ALL, embeddings=np.arange(80, dtype=np.float32).reshape(40, 2))
    monkeypatch.setattr(chroma_source, "PAGE_ROWS", 7)

    with chroma_directory(theirs, tmp_path) as place:
        stop_source(cloud, ChromaCollection(place, "docs", "docs"), tmp_path / "journals", stored=3)
    with open_directory(theirs) as client:
        client.get_collection("docs", embedding_function=None).query(query_embeddings=np.ones((1, 2), np.float32))
    with chroma_directory(theirs, tmp_path) as place:
        dry = put_source(cloud, ChromaCollection(place, "docs", "docs"), tmp_path / "journals", dry_run=True)
    with open_directory(theirs) as client:
        client.get_collection("docs", embedding_function=None).update(ids=["id-00"], metadatas=[{"n": -1}])

    assert dry.deltas_before == 2
    with (
        chroma_directory(theirs, tmp_path) as place,
        pytest.raises(InvalidRequestError, match=r"the collection docs of .* has changed since"),
    ):
        put_source(cloud, ChromaCollection(place, "docs", "docs"), tmp_path / "journals")


def test_a_restart_puts_everything_again_as_newer(cloud: Cloud, source: Path) -> None:
    stop(cloud, source, stored=3)
    first = set(deltas_of(cloud))
    holding(source, RECORDS[1:])

    restarted = put(cloud, source, restart=True)

    again = {name: rows for name, rows in deltas_of(cloud).items() if name not in first}
    assert [row for _, rows in sorted(again.items()) for row in rows] == ALL[1:]
    assert min(again) > max(first)
    assert restarted.records_before == 0


def test_deltas_that_are_gone_from_the_bucket_stop_it(cloud: Cloud, source: Path) -> None:
    stop(cloud, source, stored=4)
    del cloud.objects.objects[min(cloud.objects.objects)]

    with pytest.raises(InvalidRequestError, match=r"^1 delta that this put.* are not in the bucket.*--restart"):
        put(cloud, source)


def test_whoever_may_only_write_deltas_can_go_on_too(
    cloud: Cloud, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(_key: str) -> None:
        raise ConfigurationError("access denied")

    monkeypatch.setattr(cloud.objects, "head", deny)
    stop(cloud, source, stored=3)

    put(cloud, source)

    assert rows_of(cloud) == ALL


def test_two_of_the_same_put_do_not_run_at_once(cloud: Cloud, source: Path) -> None:
    how = How(source.parent / "journals")
    first = Transfer(RecordFiles([source], "docs"), cloud.services, how)

    with closing(first), pytest.raises(InvalidRequestError, match="under way already"):
        put(cloud, source)


def test_a_dry_run_checks_everything_and_leaves_nothing(cloud: Cloud, source: Path) -> None:
    dry = put(cloud, source, dry_run=True)

    assert (dry.records, len(dry.deltas)) == (40, DELTAS)
    assert cloud.objects.objects == {}
    assert not (source.parent / "journals").exists()


def test_a_dry_run_says_what_is_left_of_a_put_that_was_stopped(cloud: Cloud, source: Path) -> None:
    stop(cloud, source, stored=4)
    (journal,) = journals(source)
    before = (journal.read_bytes(), dict(cloud.objects.objects))

    dry = put(cloud, source, dry_run=True)

    assert (dry.deltas_before, len(dry.deltas)) == (3, DELTAS)
    assert dry.records == 40 - dry.records_before > 0
    assert (journal.read_bytes(), cloud.objects.objects) == before


def test_a_record_that_is_refused_is_named_and_once_mended_the_put_goes_on(cloud: Cloud, source: Path) -> None:
    holding(source, [*RECORDS[:30], {**RECORDS[30], "metadata": {"n": [1, "b"]}}, *RECORDS[31:]])

    with pytest.raises(InvalidRequestError, match=r"^records\.jsonl: record 31 \(id 'id-30'\): .*; \d deltas of") as no:
        put(cloud, source)
    holding(source, RECORDS)
    resumed = put(cloud, source)

    assert "of this call" not in str(no.value)
    assert rows_of(cloud) == ALL
    assert resumed.deltas_before > 0


def test_a_dimension_that_the_published_collection_has_not_is_refused_before_anything_is_written(
    cloud: Cloud, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_published_dimension", lambda _services, _collection: 3)

    with pytest.raises(InvalidRequestError, match="embeddings have 2 dimensions, but the collection has 3; nothing"):
        put(cloud, source)

    assert cloud.objects.objects == {}


def test_a_journal_that_cannot_be_kept_is_told_of(cloud: Cloud, source: Path) -> None:
    (source.parent / "journals").write_text("in the way", encoding="utf-8")

    with pytest.raises(ConfigurationError, match="set XDG_STATE_HOME"):
        put(cloud, source)
