"""A put that is stopped anywhere and run again: nothing is written twice, lost, or newer than it should be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
import uuid_utils

from chromadb_compaction import layout
from chromadb_compaction.deltas.versions import uuid7_seconds
from chromadb_compaction.errors import TransientStorageError
from tests.fakes.services import Fakes
from tests.puts import (
    ALL,
    DELTAS,
    KilledError,
    deltas_of,
    journals,
    put,
    rows_of,
    stop,
)


def test_a_put_writes_every_record_once_and_removes_its_journal(fakes: Fakes, source: Path) -> None:
    done = put(fakes, source)

    assert rows_of(fakes) == ALL
    assert (done.records, done.records_before, len(done.deltas)) == (40, 0, DELTAS)
    assert list(journals(source)) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(DELTAS))
def test_a_put_continues_after_a_kill_before_or_after_any_write(
    fakes: Fakes, source: Path, when: str, number: int
) -> None:
    stored = 0

    def kill(call: str, _key: str) -> None:
        nonlocal stored
        stored += call == "put"
        if call == "put" and stored == number + 1:
            raise KilledError

    setattr(fakes.objects, when, kill)
    with pytest.raises(KilledError):
        put(fakes, source)
    resumed = put(fakes, source)

    assert rows_of(fakes) == ALL
    assert len(fakes.objects.objects) == len(resumed.deltas) == DELTAS
    assert resumed.records + resumed.records_before == len(ALL)


def test_a_lost_response_does_not_write_a_delta_twice(fakes: Fakes, source: Path) -> None:
    def lose(call: str, _key: str) -> None:
        if call == "put" and len(fakes.objects.keys()) == 3:
            raise TransientStorageError("the response was lost")

    fakes.objects.after = lose
    with pytest.raises(TransientStorageError):
        put(fakes, source)
    fakes.objects.after = lambda _call, _key: None
    put(fakes, source)

    assert rows_of(fakes) == ALL
    assert len(fakes.objects.objects) == DELTAS


def test_a_journal_line_that_a_crash_cut_off_is_ignored(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=4)
    (journal,) = journals(source)
    journal.write_bytes(journal.read_bytes()[:-10])

    stop(fakes, source, stored=6)
    resumed = put(fakes, source)

    assert rows_of(fakes) == ALL
    assert (resumed.deltas_before, len(resumed.deltas)) == (6, DELTAS)


def test_deltas_that_were_merged_or_quarantined_meanwhile_are_not_written_again(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=4)
    for number, key in enumerate(sorted(fakes.objects.keys(layout.DELTA_PREFIX))):
        moved = layout.quarantine_key(key) if number else layout.compacted_key(key)
        fakes.objects.objects[moved] = fakes.objects.objects.pop(key)
    fakes.objects.calls.clear()

    put(fakes, source)

    assert rows_of(fakes) == ALL
    assert len([call for call, _ in fakes.objects.calls if call == "put"]) == DELTAS - 4


def test_deltas_that_others_wrote_meanwhile_are_newer(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=2)
    written_by_others = UUID(int=uuid_utils.uuid7().int)

    put(fakes, source)

    assert max(deltas_of(fakes)) < str(written_by_others)


def test_a_put_that_wrote_nothing_has_the_time_of_its_next_run(fakes: Fakes, source: Path) -> None:
    fakes.objects.before = kill_on_put
    with pytest.raises(KilledError):
        put(fakes, source)
    fakes.objects.before = lambda _call, _key: None
    written_by_others = UUID(int=uuid_utils.uuid7().int)

    put(fakes, source)

    assert min(deltas_of(fakes)) > str(written_by_others)


def kill_on_put(call: str, _key: str) -> None:
    if call == "put":
        raise KilledError


def test_deltas_of_others_that_are_newer_than_a_put_are_counted(fakes: Fakes, source: Path) -> None:
    assert put(fakes, source).newer is None
    before = len(fakes.objects.objects)
    stop(fakes, source, stored=before + 2)
    names = [str(UUID(int=uuid_utils.uuid7().int)) for _ in range(3)]
    fakes.objects.put(layout.delta_key("docs", names[0]), b"")
    fakes.objects.put(layout.compacted_key(layout.delta_key("docs", names[1])), b"")
    fakes.objects.put(layout.delta_key("other", names[2]), b"")
    fakes.objects.put(layout.delta_key("docs", "zzz"), b"")

    resumed = put(fakes, source)

    assert resumed.newer is not None
    assert (resumed.newer.deltas, resumed.newer.oldest) == (2, uuid7_seconds(UUID(names[0])))


def test_pyarrow_is_not_loaded_before_the_first_delta_is_written() -> None:
    """Use a new process. pyarrow would take memory that a put needs for the index of a ChromaDB directory."""
    modules = "chromadb_compaction.cli.sources.transfer, chromadb_compaction.cli.sources.chroma_collections"
    code = f"import sys, {modules}; sys.exit('pyarrow' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
