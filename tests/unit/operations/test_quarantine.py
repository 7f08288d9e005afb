"""Deltas that a person moves into quarantine and out of it again, whatever stops on the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chromadb_compaction.deltas.outcomes import QuarantineReason
from chromadb_compaction.errors import InvalidRequestError, LockHeldError, ObjectMissingError
from chromadb_compaction.layout import delta_key, quarantine_key, reason_key
from chromadb_compaction.operations.quarantine import Moved, Selection, list_refused, quarantine, requeue
from tests.builders import NOW, a_uuid7
from tests.fakes.cloud import EXECUTION, Cloud, a_cloud

OPERATOR = "operator:me@here/1"
FIRST, SECOND = str(a_uuid7(NOW, 1)), str(a_uuid7(NOW + 1, 2))


@pytest.fixture
def cloud() -> Cloud:
    return a_cloud()


def refuse(cloud: Cloud, name: str, *, collection: str = "docs", reason: str | None = "no good") -> str:
    """Put a delta into quarantine and return the key under which it was pending."""
    key = delta_key(collection, name)
    cloud.objects.put(quarantine_key(key), name.encode())
    if reason is not None:
        note = QuarantineReason(delta=key, reason=reason, quarantined_at=NOW, execution=EXECUTION, etag='"x"')
        cloud.objects.put(reason_key(quarantine_key(key)), note.model_dump_json().encode())
    return key


def requeued(cloud: Cloud, *names: str, dry_run: bool = False, collection: str | None = None) -> Moved:
    selection = Selection(names, everything=not names, collection=collection)
    return requeue(cloud.services, selection, operator=OPERATOR, dry_run=dry_run)


def test_a_requeued_delta_is_pending_and_its_reason_is_gone(cloud: Cloud) -> None:
    key = refuse(cloud, FIRST)

    assert requeued(cloud, FIRST).moved == [key]

    assert cloud.objects.keys() == {key}
    assert cloud.leases.leases == {}


def test_a_delta_whose_name_was_too_long_is_listed_under_the_name_it_had(cloud: Cloud) -> None:
    key = refuse(cloud, "x" * 1005)

    (listed,) = list_refused(cloud.services)

    assert (listed.delta, listed.key) == (key, quarantine_key(key))
    assert listed.key.startswith("quarantine/_renamed/")


def test_all_of_one_collection_are_requeued(cloud: Cloud) -> None:
    key, other = refuse(cloud, FIRST), refuse(cloud, SECOND, collection="more")

    assert requeued(cloud, collection="docs").moved == [key]
    assert quarantine_key(other) in cloud.objects.objects


def test_a_dry_run_names_them_and_moves_none(cloud: Cloud) -> None:
    key = refuse(cloud, FIRST)
    before = cloud.objects.keys()

    assert requeued(cloud, FIRST, dry_run=True).moved == [key]
    assert (cloud.objects.keys(), cloud.leases.calls) == (before, [])


@pytest.mark.parametrize("name", ["yesterday", str(a_uuid7(NOW + 7200, 1)), FIRST.upper()])
def test_a_name_that_can_never_be_a_version_is_refused_and_nothing_else_is_moved(cloud: Cloud, name: str) -> None:
    refuse(cloud, name)
    refuse(cloud, SECOND)
    before = cloud.objects.keys()

    with pytest.raises(InvalidRequestError, match=r"UUIDv7|ahead of S3's clock"):
        requeued(cloud, SECOND, name)

    assert cloud.objects.keys() == before


def test_all_are_requeued_but_those_that_can_never_be_merged(cloud: Cloud) -> None:
    good, bad = refuse(cloud, FIRST), refuse(cloud, "yesterday")

    moved = requeued(cloud)

    assert (moved.moved, list(moved.refused)) == ([good], [bad])
    assert quarantine_key(bad) in cloud.objects.objects


def test_what_is_pending_under_the_same_name_is_never_overwritten(cloud: Cloud) -> None:
    key = refuse(cloud, FIRST)
    cloud.objects.put(key, b"something else altogether")

    with pytest.raises(InvalidRequestError, match="other content"):
        requeued(cloud, FIRST)

    assert cloud.objects.get(key).body == b"something else altogether"


def test_an_unknown_name_is_not_found(cloud: Cloud) -> None:
    with pytest.raises(ObjectMissingError, match="deltas quarantined"):
        requeued(cloud, FIRST)


@pytest.mark.parametrize("selection", [Selection([]), Selection([FIRST], everything=True)])
def test_either_names_or_all_must_be_given(cloud: Cloud, selection: Selection) -> None:
    with pytest.raises(InvalidRequestError, match="--all"):
        requeue(cloud.services, selection, operator=OPERATOR, dry_run=False)


def test_a_pending_delta_is_put_into_quarantine_with_the_reason(cloud: Cloud) -> None:
    key = delta_key("docs", FIRST)
    cloud.objects.put(key, b"bad")

    quarantine(cloud.services, Selection([FIRST]), reason="a broken importer", operator=OPERATOR, dry_run=False)

    assert cloud.objects.keys("delta/") == set()
    [refused] = list_refused(cloud.services)
    assert (refused.delta, refused.reason, refused.execution) == (key, "a broken importer", OPERATOR)


def test_a_delta_without_a_reason_is_listed_all_the_same(cloud: Cloud) -> None:
    key = refuse(cloud, FIRST, reason=None)

    assert [(each.delta, each.reason) for each in list_refused(cloud.services)] == [(key, None)]


def into(cloud: Cloud) -> object:
    return quarantine(cloud.services, Selection([], everything=True), reason="bad", operator=OPERATOR, dry_run=False)


@pytest.mark.parametrize("move", [requeued, into])
def test_while_an_execution_holds_the_lock_nothing_is_moved(cloud: Cloud, move: Callable[[Cloud], object]) -> None:
    refuse(cloud, FIRST)
    cloud.objects.put(delta_key("docs", SECOND), b"pending")
    before = cloud.objects.keys()
    cloud.hold_lease()

    with pytest.raises(LockHeldError, match=EXECUTION):
        move(cloud)

    assert cloud.objects.keys() == before


class CrashError(Exception):
    """The machine stops."""


@pytest.mark.parametrize("move", [requeued, into])
@pytest.mark.parametrize("moment", range(5))
def test_a_crash_at_any_point_leaves_every_delta_somewhere(
    cloud: Cloud, move: Callable[[Cloud], object], moment: int
) -> None:
    there, pending = refuse(cloud, FIRST), delta_key("docs", SECOND)
    cloud.objects.put(pending, b"pending")
    left = moment

    def count_down(_call: str, _key: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise CrashError

    cloud.objects.before = count_down
    with pytest.raises(CrashError):
        move(cloud)

    keys = cloud.objects.keys()
    assert all(key in keys or quarantine_key(key) in keys for key in (there, pending))
