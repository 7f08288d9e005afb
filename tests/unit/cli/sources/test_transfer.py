"""A put that is stopped, wherever, and given again: nothing twice, nothing missing, nothing older over newer."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
import uuid_utils

from chromadb_compaction import layout
from chromadb_compaction.errors import TransientStorageError
from tests.fakes.services import Fakes
from tests.puts import (
    ALL,
    DELTAS,
    RECORDS,
    KilledError,
    deltas_of,
    fakes_with_small_deltas,
    holding,
    journals,
    put,
    rows_of,
    stop,
)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    return fakes_with_small_deltas(monkeypatch)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return holding(tmp_path / "records.jsonl", RECORDS)


def test_what_is_put_is_written_once_and_its_journal_goes(fakes: Fakes, source: Path) -> None:
    done = put(fakes, source)

    assert rows_of(fakes) == ALL
    assert (done.records, done.records_before, len(done.deltas)) == (40, 0, DELTAS)
    assert list(journals(source)) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(DELTAS))
def test_killed_before_or_after_any_delta_is_stored_a_put_goes_on(
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


def test_a_lost_response_leaves_one_delta_and_not_two(fakes: Fakes, source: Path) -> None:
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


def test_a_line_of_the_journal_that_a_crash_cut_off_does_not_count(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=4)
    (journal,) = journals(source)
    journal.write_bytes(journal.read_bytes()[:-10])

    stop(fakes, source, stored=6)
    resumed = put(fakes, source)

    assert rows_of(fakes) == ALL
    assert (resumed.deltas_before, len(resumed.deltas)) == (5, DELTAS)


def test_what_is_merged_meanwhile_is_not_written_again(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=4)
    for number, key in enumerate(sorted(fakes.objects.keys(layout.DELTA_PREFIX))[:3]):
        moved = layout.quarantine_key(key) if number else layout.compacted_key(key)
        fakes.objects.objects[moved] = fakes.objects.objects.pop(key)
    fakes.objects.calls.clear()

    put(fakes, source)

    assert rows_of(fakes) == ALL
    assert len([call for call, _ in fakes.objects.calls if call == "put"]) == DELTAS - 3


def test_however_late_it_is_finished_what_others_wrote_meanwhile_is_newer(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=2)
    written_by_others = UUID(int=uuid_utils.uuid7().int)

    put(fakes, source)

    assert max(deltas_of(fakes)) < str(written_by_others)


def test_a_put_that_has_stored_nothing_begins_when_it_is_given_again(fakes: Fakes, source: Path) -> None:
    fakes.objects.before = killing_puts
    with pytest.raises(KilledError):
        put(fakes, source)
    fakes.objects.before = lambda _call, _key: None
    written_by_others = UUID(int=uuid_utils.uuid7().int)

    put(fakes, source)

    assert min(deltas_of(fakes)) > str(written_by_others)


def killing_puts(call: str, _key: str) -> None:
    if call == "put":
        raise KilledError
