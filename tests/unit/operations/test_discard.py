"""An operator discards what can never be merged, and nothing else."""

from __future__ import annotations

import pytest

from chromadb_compaction import layout
from chromadb_compaction.deltas.quarantine import copy_into_quarantine
from chromadb_compaction.errors import InvalidRequestError, LockHeldError, ObjectMissingError
from chromadb_compaction.operations.discard import Discarded, discard
from tests.builders import a_uuid7
from tests.fakes.services import Fakes, new_fakes

ID = str(a_uuid7(number=1))
DELTA = layout.delta_key("docs", ID)
OTHER = layout.delta_key("docs", str(a_uuid7(number=2)))
FOREIGN = ["delta/notes.txt", "delta/docs/", "delta/docs/not-a-uuid.parquet", "delta/docs/deep/er.parquet"]


@pytest.fixture
def fakes() -> Fakes:
    """One quarantined delta, one pending, and foreign objects."""
    made = new_fakes()
    for key in (DELTA, OTHER, *FOREIGN):
        made.objects.put(key, key.encode())
    quarantine(made, DELTA)
    made.objects.delete([DELTA])
    return made


def quarantine(fakes: Fakes, key: str) -> None:
    source = fakes.objects.head(key)
    assert source is not None
    copy_into_quarantine(key, source, fakes.services, reason="NaN", execution="arn")


def discarded(fakes: Fakes, *names: str, dry_run: bool = False) -> Discarded:
    return discard(fakes.services, names, operator="operator:a", dry_run=dry_run)


@pytest.mark.parametrize("name", [ID, DELTA, layout.quarantine_key(DELTA)])
def test_a_quarantined_delta_is_deleted_with_its_reason(fakes: Fakes, name: str) -> None:
    assert discarded(fakes, name).discarded == [layout.quarantine_key(DELTA)]

    assert fakes.objects.keys("quarantine/") == set()
    assert fakes.leases.leases == {}


@pytest.mark.parametrize("key", FOREIGN)
def test_an_object_that_is_not_a_delta_is_deleted(fakes: Fakes, key: str) -> None:
    before = fakes.objects.keys("")

    assert discarded(fakes, key).discarded == [key]
    assert before - fakes.objects.keys("") == {key}


@pytest.mark.parametrize("name", [OTHER, layout.delta_stem(OTHER)])
def test_a_delta_that_would_be_merged_is_never_discarded(fakes: Fakes, name: str) -> None:
    before = fakes.objects.keys("")

    with pytest.raises(InvalidRequestError, match="is pending"):
        discarded(fakes, FOREIGN[0], name)

    assert fakes.objects.keys("") == before


def test_an_unknown_name_discards_nothing(fakes: Fakes) -> None:
    with pytest.raises(ObjectMissingError, match="deltas quarantined"):
        discarded(fakes, ID, "nothing")

    assert layout.quarantine_key(DELTA) in fakes.objects.keys("")


def test_a_dry_run_names_the_objects_and_changes_nothing(fakes: Fakes) -> None:
    before = fakes.objects.keys("")

    assert discarded(fakes, ID, dry_run=True).discarded == [layout.quarantine_key(DELTA)]
    assert fakes.objects.keys("") == before
    assert fakes.leases.calls == []


def test_an_object_that_is_written_again_meanwhile_stays_with_its_reason(fakes: Fakes) -> None:
    key = layout.quarantine_key(DELTA)
    fakes.objects.run_before_next("delete_if", lambda _: fakes.objects.put(key, b"fixed"))

    found = discarded(fakes, ID)

    assert (found.discarded, found.written_again) == ([], [key])
    assert {key, layout.reason_key(key)} <= fakes.objects.keys("quarantine/")


def test_a_reason_that_another_quarantined_delta_shares_stays(fakes: Fakes) -> None:
    twin = layout.delta_key("docs", ID, ".jsonl.gz")
    fakes.objects.put(twin, b"twin")
    quarantine(fakes, twin)

    discarded(fakes, layout.quarantine_key(DELTA))

    assert layout.quarantine_key(twin) in fakes.objects.keys("quarantine/")
    assert layout.reason_key(layout.quarantine_key(twin)) in fakes.objects.keys("quarantine/")


def test_while_an_execution_holds_the_lock_nothing_is_discarded(fakes: Fakes) -> None:
    fakes.hold_lease()

    with pytest.raises(LockHeldError):
        discarded(fakes, ID)

    assert layout.quarantine_key(DELTA) in fakes.objects.keys("")
