"""Deltas that an operator moves into quarantine and back, even if the command crashes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chromadb_compaction.deltas.outcomes import QuarantineReason
from chromadb_compaction.errors import InvalidRequestError, LockHeldError, ObjectMissingError
from chromadb_compaction.layout import delta_key, former_reason_key, quarantine_key, reason_key
from chromadb_compaction.operations.quarantine import Moved, Selection, list_quarantined, quarantine, requeue
from chromadb_compaction.times import iso_time
from tests.builders import NOW, a_uuid7
from tests.fakes.services import EXECUTION, Fakes, new_fakes
from tests.unit.operations.crashes import CrashError, crash_at

OPERATOR = "operator:me@here/1"
FIRST, SECOND = str(a_uuid7(NOW, 1)), str(a_uuid7(NOW + 1, 2))


@pytest.fixture
def fakes() -> Fakes:
    return new_fakes()


def put_quarantined(fakes: Fakes, name: str, *, collection: str = "docs", reason: str | None = "no good") -> str:
    """Put a delta in quarantine, and return its pending key."""
    key = delta_key(collection, name)
    fakes.objects.put(quarantine_key(key), name.encode())
    if reason is not None:
        note = QuarantineReason(delta=key, reason=reason, quarantined_at=NOW, execution=EXECUTION, etag='"x"')
        fakes.objects.put(reason_key(quarantine_key(key)), note.model_dump_json().encode())
    return key


def requeued(fakes: Fakes, *names: str, dry_run: bool = False, collection: str | None = None) -> Moved:
    selection = Selection(names, everything=not names, collection=collection)
    return requeue(fakes.services, selection, operator=OPERATOR, dry_run=dry_run)


def test_a_requeued_delta_is_pending_and_its_reason_is_gone(fakes: Fakes) -> None:
    key = put_quarantined(fakes, FIRST)

    assert requeued(fakes, FIRST).moved == [key]

    assert fakes.objects.keys() == {key}
    assert fakes.leases.leases == {}


def test_a_delta_whose_name_was_too_long_is_listed_under_the_name_it_had(fakes: Fakes) -> None:
    key = put_quarantined(fakes, "x" * 1005)

    (listed,) = list_quarantined(fakes.services)

    assert (listed.delta, listed.key) == (key, quarantine_key(key))
    assert listed.key.startswith("quarantine/_renamed/")


def test_all_of_one_collection_are_requeued(fakes: Fakes) -> None:
    key, other = put_quarantined(fakes, FIRST), put_quarantined(fakes, SECOND, collection="more")

    assert requeued(fakes, collection="docs").moved == [key]
    assert quarantine_key(other) in fakes.objects.objects


def test_a_dry_run_returns_the_deltas_and_moves_none(fakes: Fakes) -> None:
    key = put_quarantined(fakes, FIRST)
    before = fakes.objects.keys()

    assert requeued(fakes, FIRST, dry_run=True).moved == [key]
    assert (fakes.objects.keys(), fakes.leases.calls) == (before, [])


@pytest.mark.parametrize("name", ["yesterday", str(a_uuid7(NOW + 7200, 1)), FIRST.upper()])
def test_a_name_that_can_never_be_a_version_is_refused_and_nothing_else_is_moved(fakes: Fakes, name: str) -> None:
    put_quarantined(fakes, name)
    put_quarantined(fakes, SECOND)
    before = fakes.objects.keys()

    with pytest.raises(InvalidRequestError, match=r"UUIDv7|ahead of S3's clock"):
        requeued(fakes, SECOND, name)

    assert fakes.objects.keys() == before


def test_all_are_requeued_except_those_that_can_never_be_merged(fakes: Fakes) -> None:
    valid, invalid = put_quarantined(fakes, FIRST), put_quarantined(fakes, "yesterday")

    moved = requeued(fakes)

    assert (moved.moved, list(moved.refused)) == ([valid], [invalid])
    assert quarantine_key(invalid) in fakes.objects.objects


def test_a_pending_delta_of_the_same_name_is_never_overwritten(fakes: Fakes) -> None:
    key = put_quarantined(fakes, FIRST)
    for other in (b"something else altogether", FIRST.upper().encode()):
        fakes.objects.put(key, other)

        with pytest.raises(InvalidRequestError, match="other content"):
            requeued(fakes, FIRST)

        assert fakes.objects.get(key).body == other


def test_a_delta_pending_with_the_same_content_under_another_etag_is_requeued(fakes: Fakes) -> None:
    key = put_quarantined(fakes, FIRST)
    fakes.objects.put(key, FIRST.encode())
    fakes.objects.objects[key] = fakes.objects.objects[key]._replace(etag='"of another key"')

    assert requeued(fakes, FIRST).moved == [key]


def test_two_formats_of_one_name_have_their_own_reasons_and_keep_them(fakes: Fakes) -> None:
    parquet, jsonl = delta_key("docs", FIRST), delta_key("docs", FIRST, ".jsonl.gz")
    for key in (parquet, jsonl):
        fakes.objects.put(key, key.encode())
        quarantine(fakes.services, Selection([key]), reason=f"about {key}", operator=OPERATOR, dry_run=False)

    assert {each.delta: each.reason for each in list_quarantined(fakes.services)} == {
        parquet: f"about {parquet}",
        jsonl: f"about {jsonl}",
    }
    requeued(fakes, parquet)
    assert [each.reason for each in list_quarantined(fakes.services)] == [f"about {jsonl}"]


def test_a_reason_of_an_older_version_is_read_and_goes_with_its_delta_alone(fakes: Fakes) -> None:
    parquet, jsonl = delta_key("docs", FIRST), delta_key("docs", FIRST, ".jsonl.gz")
    former = former_reason_key(quarantine_key(parquet))
    note = QuarantineReason(delta=jsonl, reason="old", quarantined_at=NOW, execution=EXECUTION, etag='"x"')
    fakes.objects.put(former, note.model_dump_json().encode())
    for key in (parquet, jsonl):
        fakes.objects.put(quarantine_key(key), key.encode())

    assert {each.delta: each.reason for each in list_quarantined(fakes.services)} == {parquet: None, jsonl: "old"}
    requeued(fakes, parquet)
    assert former in fakes.objects.objects
    requeued(fakes, jsonl)
    assert fakes.objects.keys() == {parquet, jsonl}


def test_an_unknown_name_is_not_found(fakes: Fakes) -> None:
    with pytest.raises(ObjectMissingError, match="deltas quarantined"):
        requeued(fakes, FIRST)


@pytest.mark.parametrize("selection", [Selection([]), Selection([FIRST], everything=True)])
def test_either_names_or_all_must_be_given(fakes: Fakes, selection: Selection) -> None:
    with pytest.raises(InvalidRequestError, match="--all"):
        requeue(fakes.services, selection, operator=OPERATOR, dry_run=False)


def test_a_pending_delta_is_put_into_quarantine_with_the_reason(fakes: Fakes) -> None:
    key = delta_key("docs", FIRST)
    fakes.objects.put(key, b"bad")

    quarantine(fakes.services, Selection([FIRST]), reason="a broken importer", operator=OPERATOR, dry_run=False)

    assert fakes.objects.keys("delta/") == set()
    [refused] = list_quarantined(fakes.services)
    assert (refused.delta, refused.reason, refused.execution) == (key, "a broken importer", OPERATOR)


def test_a_delta_without_a_reason_is_listed_too(fakes: Fakes) -> None:
    key = put_quarantined(fakes, FIRST, reason=None)

    assert [(each.delta, each.reason) for each in list_quarantined(fakes.services)] == [(key, None)]


def test_the_time_of_quarantine_is_iso_8601_in_json(fakes: Fakes) -> None:
    put_quarantined(fakes, FIRST)

    (listed,) = list_quarantined(fakes.services)

    assert (listed.at, listed.model_dump(mode="json")["at"]) == (NOW, iso_time(NOW))


def quarantine_all(fakes: Fakes) -> object:
    return quarantine(fakes.services, Selection([], everything=True), reason="bad", operator=OPERATOR, dry_run=False)


@pytest.mark.parametrize("move", [requeued, quarantine_all])
def test_while_an_execution_holds_the_lock_nothing_is_moved(fakes: Fakes, move: Callable[[Fakes], object]) -> None:
    put_quarantined(fakes, FIRST)
    fakes.objects.put(delta_key("docs", SECOND), b"pending")
    before = fakes.objects.keys()
    fakes.hold_lease()

    with pytest.raises(LockHeldError, match=EXECUTION):
        move(fakes)

    assert fakes.objects.keys() == before


@pytest.mark.parametrize("move", [requeued, quarantine_all])
@pytest.mark.parametrize("moment", range(5))
def test_a_crash_at_any_point_leaves_every_delta_somewhere(
    fakes: Fakes, move: Callable[[Fakes], object], moment: int
) -> None:
    there, pending = put_quarantined(fakes, FIRST), delta_key("docs", SECOND)
    fakes.objects.put(pending, b"pending")
    crash_at(fakes, moment)
    with pytest.raises(CrashError):
        move(fakes)

    keys = fakes.objects.keys()
    assert all(key in keys or quarantine_key(key) in keys for key in (there, pending))
