from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.errors import AmbiguousIdError, ObjectMissingError
from chromadb_compaction.operations.discard import discard
from chromadb_compaction.operations.quarantine import Selection
from chromadb_compaction.operations.typed_ids import SHORTEST, find_deltas, find_id, find_snapshot
from chromadb_compaction.snapshots.catalogue import read_catalogue
from tests.fakes.published import a_snapshot_id
from tests.merged_history import OPERATOR, MergedHistory

IDS = ("0190e5c0-aaaa", "0190e5c0-abbb", "0190ffff-cccc")
KEYS = tuple(f"delta/docs/{each}.parquet" for each in IDS)


@given(ids=st.sets(st.text("ab", min_size=SHORTEST, max_size=8), min_size=1), typed=st.text("ab", max_size=8))
def test_an_id_is_found_only_by_itself_or_by_a_beginning_that_no_other_has(ids: set[str], typed: str) -> None:
    beginning = [each for each in ids if len(typed) >= SHORTEST and each.startswith(typed)]
    if typed not in ids and len(beginning) > 1:
        with pytest.raises(AmbiguousIdError) as raised:
            find_id(typed, ids)
        assert raised.value.candidates == sorted(beginning)
    else:
        assert find_id(typed, ids) == (typed if typed in ids else next(iter(beginning), None))


def test_an_ambiguous_beginning_names_the_candidates() -> None:
    with pytest.raises(AmbiguousIdError, match="0190e5c0 may mean 0190e5c0-aaaa, 0190e5c0-abbb") as raised:
        find_id("0190e5c0", IDS)

    assert raised.value.candidates == ["0190e5c0-aaaa", "0190e5c0-abbb"]


@pytest.mark.parametrize("typed", ["2", "0000000002", a_snapshot_id(2), a_snapshot_id(2)[:13]])
def test_a_snapshot_is_found_by_its_number_or_its_beginning(history: MergedHistory, typed: str) -> None:
    found = find_snapshot(typed, read_catalogue(history.fakes.services))

    assert found.manifest.snapshot_id == a_snapshot_id(2)


def test_the_latest_snapshot_is_the_published_one(history: MergedHistory) -> None:
    history.roll_back(3)

    found = find_snapshot("latest", read_catalogue(history.fakes.services))

    assert found.manifest.snapshot_id == a_snapshot_id(3)


def test_a_beginning_of_several_snapshots_names_them(history: MergedHistory) -> None:
    with pytest.raises(AmbiguousIdError, match=a_snapshot_id(4)):
        find_snapshot("00000000", read_catalogue(history.fakes.services))


def test_a_rollback_to_a_number_publishes_the_whole_id(history: MergedHistory) -> None:
    done = history.roll_back(2, snapshot_id="2")

    assert done.snapshot_id == history.pointer.snapshot_id == a_snapshot_id(2)


@pytest.mark.parametrize("typed", [IDS[2], KEYS[2], "0190f", "delta/docs/0190f", "latest"])
def test_a_delta_is_found_by_its_uuid_its_key_or_their_beginning(typed: str) -> None:
    assert find_deltas(typed, KEYS) == [KEYS[2]]


@pytest.mark.parametrize("typed", ["0190e5c0-aaab", "019", ""])
def test_a_delta_of_another_name_is_not_found(typed: str) -> None:
    assert find_deltas(typed, KEYS) == []


def test_a_uuid_means_the_deltas_of_all_collections_that_have_it() -> None:
    keys = (*KEYS, "delta/notes/0190ffff-cccc.parquet")

    assert find_deltas("0190f", keys) == [keys[2], keys[3]]


def test_a_selection_names_the_candidates_of_a_beginning() -> None:
    with pytest.raises(AmbiguousIdError, match="0190e5c0-abbb"):
        Selection(["0190e5c0"]).of(KEYS, state="pending", prefix="delta/")


def test_a_quarantined_delta_is_discarded_by_its_beginning_or_as_the_latest(history: MergedHistory) -> None:
    history.roll_back(2, replay=True, without=(history.merged[4],))
    stem = history.merged[4].rpartition("/")[2].partition(".")[0]

    for typed in (stem[:30], "latest"):
        [discarded] = discard(history.fakes.services, [typed], operator=OPERATOR, dry_run=True).discarded
        assert discarded.partition("/")[2] == history.merged[4].partition("/")[2]
    with pytest.raises(ObjectMissingError):
        discard(history.fakes.services, [stem[:3]], operator=OPERATOR, dry_run=True)
