"""Clean-ups with the list of kept snapshots, which list only what they prune."""

from __future__ import annotations

import json

import pytest

from chromadb_compaction import layout
from chromadb_compaction.snapshots.kept import read_parent
from chromadb_compaction.snapshots.pruning import prune
from tests.fakes.published import a_snapshot_id, point_to, put_snapshot
from tests.fakes.services import Fakes, new_fakes

DAY = 86_400
HOUR = 3_600


def a_line(count: int) -> Fakes:
    """Return a bucket with `count` snapshots, each the parent of the next, of which a clean-up keeps the last three."""
    fakes = new_fakes(snapshot_retention_count=2, snapshot_retention_days=3 / 24)
    for sequence in range(1, count + 1):
        publish(fakes, sequence)
    return fakes


def publish(fakes: Fakes, sequence: int, *, files: list[str] | None = None) -> None:
    """Publish a snapshot, and clean up an hour later."""
    parent = a_snapshot_id(sequence - 1) if sequence > 1 else None
    put_snapshot(fakes, sequence, parent=parent, files=files)
    fakes.clock.tick(HOUR)
    fakes.objects.calls.clear()
    prune(point_to(fakes, sequence), fakes.services)


def own_file(sequence: int) -> str:
    return layout.snapshot_file_key(a_snapshot_id(sequence), "docs", "chroma.sqlite3")


def lists(fakes: Fakes) -> set[str]:
    """Return what was listed by the last clean-up, without marks."""
    return {key for call, key in fakes.objects.calls if call == "list" and "claim" not in key}


def complete(fakes: Fakes) -> set[str | None]:
    return {layout.snapshot_of_key(key) for key in fakes.objects.objects if key.endswith("/manifest.json")}


def test_a_clean_up_lists_only_what_it_prunes() -> None:
    fakes = a_line(6)

    assert complete(fakes) == {a_snapshot_id(each) for each in (4, 5, 6)}
    assert lists(fakes) == {"snapshot/0000000003-", "snapshot/0000000004-"}
    assert not fakes.objects.keys(f"snapshot/{a_snapshot_id(3)}")
    read = {key for call, key in fakes.objects.calls if call == "get" and key.endswith("manifest.json")}
    assert read == {layout.manifest_key(a_snapshot_id(4))}


def test_a_file_that_a_kept_snapshot_names_stays_and_goes_within_a_day_after_it() -> None:
    fakes = a_line(3)
    publish(fakes, 4, files=[own_file(3), own_file(4)])
    for sequence in (5, 6, 7):
        publish(fakes, sequence, files=[own_file(3), own_file(sequence)])
    assert own_file(3) in fakes.objects.objects
    assert own_file(4) not in fakes.objects.objects

    for sequence in (8, 9, 10, 11):
        publish(fakes, sequence)
    fakes.clock.tick(DAY)
    publish(fakes, 12)

    assert lists(fakes) == {"snapshot/"}
    assert own_file(3) not in fakes.objects.objects


def test_a_clean_up_a_day_later_finds_an_upload_that_was_given_up() -> None:
    fakes = a_line(3)
    given_up = layout.snapshot_file_key("0000000002-eeeeeeee", "docs", "chroma.sqlite3")
    fakes.objects.put(given_up, b"")
    publish(fakes, 4)
    assert given_up in fakes.objects.objects

    fakes.clock.tick(DAY + 1)
    publish(fakes, 5)

    assert given_up not in fakes.objects.objects


@pytest.mark.parametrize("damage", [None, b"{", b'{"format": 2}', b'{"format":1,"listed_at":0,"snapshots":[]}'])
def test_without_a_list_or_with_a_damaged_one_everything_is_listed(damage: bytes | None) -> None:
    fakes = a_line(5)
    fakes.objects.delete([layout.kept_key()])
    if damage is not None:
        fakes.objects.put(layout.kept_key(), damage)

    publish(fakes, 6)
    assert "snapshot/" in lists(fakes)
    assert complete(fakes) == {a_snapshot_id(each) for each in (4, 5, 6)}
    publish(fakes, 7)
    assert "snapshot/" not in lists(fakes)


def test_snapshots_whose_clean_up_was_left_out_are_added() -> None:
    fakes = a_line(4)
    for sequence in (5, 6, 7):
        put_snapshot(fakes, sequence, parent=a_snapshot_id(sequence - 1))
        fakes.clock.tick(HOUR)

    publish(fakes, 8)

    assert "snapshot/" not in lists(fakes)
    assert complete(fakes) == {a_snapshot_id(each) for each in (6, 7, 8)}


def test_what_an_overtaken_pass_wrote_stays_whole_while_it_is_kept() -> None:
    fakes = a_line(6)
    # A pass on the base 4 was overtaken by the one that published 5.
    overtaken = "0000000005-eeeeeeee"
    base = json.loads(fakes.objects.get(layout.manifest_key(a_snapshot_id(4))).body)
    body = base | {"snapshot_id": overtaken, "parent": a_snapshot_id(4)}
    fakes.objects.put(layout.manifest_key(overtaken), json.dumps(body).encode())

    publish(fakes, 7)

    assert "snapshot/" in lists(fakes)
    assert own_file(4) in fakes.objects.objects


def test_a_crash_in_the_middle_is_finished_by_the_next_clean_up() -> None:
    fakes = a_line(5)
    put_snapshot(fakes, 6, parent=a_snapshot_id(5))
    fakes.clock.tick(HOUR)
    fakes.objects.delete([layout.manifest_key(a_snapshot_id(3))])

    prune(point_to(fakes, 6), fakes.services)

    assert not fakes.objects.keys(f"snapshot/{a_snapshot_id(3)}")
    publish(fakes, 7)
    assert lists(fakes) == {"snapshot/0000000004-", "snapshot/0000000005-"}


def test_the_parent_is_read_from_the_beginning_of_a_manifest() -> None:
    fakes = a_line(2)

    assert read_parent(a_snapshot_id(2), fakes.services) == a_snapshot_id(1)
    assert read_parent(a_snapshot_id(1), fakes.services) is None
    assert read_parent(a_snapshot_id(9), fakes.services) is None
    fakes.objects.put(layout.manifest_key(a_snapshot_id(2)), b"\xff")
    assert read_parent(a_snapshot_id(2), fakes.services) is None
