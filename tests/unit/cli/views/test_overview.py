from __future__ import annotations

import io
from itertools import chain
from typing import TYPE_CHECKING, cast

import pytest
from rich.console import Console

from chromadb_compaction import layout
from chromadb_compaction.cli.commands.status import render
from chromadb_compaction.cli.views.overview import Overview, read_overview
from chromadb_compaction.deltas.attempts import mark
from chromadb_compaction.deltas.outcomes import QuarantineReason
from chromadb_compaction.errors import ConfigurationError, UnreadableObjectError
from chromadb_compaction.layout import quarantine_key, reason_key
from chromadb_compaction.ports import DeltaNotification
from tests.fakes.published import a_snapshot_id, point_to, put_snapshot
from tests.fakes.services import EXECUTION, Fakes, new_fakes

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

DELTA = "delta/docs/01890000-0000-7000-8000-000000000001.parquet"


def overview_of(fakes: Fakes) -> Overview:
    return read_overview(fakes.services, cast("SFNClient", None))


def text_of(overview: Overview) -> str:
    console = Console(file=io.StringIO(), width=200)
    for part in render(overview):
        console.print(part)
    return cast("io.StringIO", console.file).getvalue()


def test_every_line_says_so_when_there_is_nothing() -> None:
    text = text_of(overview_of(new_fakes()))

    for words in ("free", "nothing published yet", "none", "empty", "not configured"):
        assert words in text


def test_the_holder_of_the_lock_is_named_with_its_times() -> None:
    fakes = new_fakes(dynamodb_table="table")
    fakes.hold_lease(EXECUTION)
    fakes.clock.tick(65)

    assert "held by first for 1 min 5 s, renewed 1 min 5 s ago, 13 min 55 s left" in text_of(overview_of(fakes))


def test_an_expired_lock_is_called_expired() -> None:
    fakes = new_fakes(dynamodb_table="table")
    fakes.hold_lease(EXECUTION)
    fakes.clock.tick(16 * 60)

    assert "expired: first did not release it" in text_of(overview_of(fakes))


def test_a_lock_item_that_is_not_a_lease_is_shown_beside_everything_else() -> None:
    fakes = new_fakes(dynamodb_table="table")
    fakes.leases.malformed.add(fakes.settings.lock_id)

    overview = overview_of(fakes)

    assert "malformed: The holder of lock" in text_of(overview)
    assert "nothing published yet" in text_of(overview)


def test_pending_deltas_are_counted_without_folder_markers() -> None:
    fakes = new_fakes()
    fakes.objects.put("delta/docs/", b"")
    fakes.objects.put(DELTA, b"12345")
    fakes.clock.tick(120)

    pending = overview_of(fakes).pending

    assert pending is not None
    assert (pending.deltas, pending.bytes, pending.oldest_seconds) == (1, 5, 120)


def test_a_quarantined_delta_is_shown_with_its_reason_under_the_name_it_had() -> None:
    fakes = new_fakes()
    kept = quarantine_key(DELTA)
    reason = QuarantineReason(
        delta=DELTA, reason="row 3: NaN in [embedding]", quarantined_at=0, execution=EXECUTION, etag="e"
    )
    fakes.objects.put(kept, b"content")
    fakes.objects.put(reason_key(kept), reason.model_dump_json().encode())

    overview = overview_of(fakes)

    assert overview.quarantine is not None
    assert overview.quarantine.deltas == 1
    assert f"{DELTA}: row 3: NaN in [embedding]" in text_of(overview)


def test_a_quarantined_delta_that_had_to_be_renamed_is_shown_under_the_name_it_had() -> None:
    fakes = new_fakes()
    named = "delta/docs/" + "x" * 1000
    kept = quarantine_key(named)
    reason = QuarantineReason(delta=named, reason="not a UUIDv7", quarantined_at=0, execution=EXECUTION, etag="e")
    fakes.objects.put(kept, b"content")
    fakes.objects.put(reason_key(kept), reason.model_dump_json().encode())

    quarantine = overview_of(fakes).quarantine

    assert quarantine is not None
    assert quarantine.latest[0].delta == named


def test_a_quarantined_delta_without_a_reason_is_shown_too() -> None:
    fakes = new_fakes()
    fakes.objects.put(quarantine_key(DELTA), b"content")

    assert "no reason is stored beside quarantine/" in text_of(overview_of(fakes))


def test_a_corrupt_snapshot_is_reported_beside_everything_else() -> None:
    fakes = new_fakes()
    fakes.objects.put("snapshot/CURRENT", b"{}")
    fakes.objects.put(DELTA, b"12345")

    overview = overview_of(fakes)

    assert overview.snapshot_corrupt is not None
    assert overview.pending is not None
    assert overview.pending.deltas == 1
    assert "corrupt: " in text_of(overview)


def test_queue_depths_are_shown_with_the_messages_in_flight() -> None:
    fakes = new_fakes()
    fakes.queue.notify([DeltaNotification(DELTA, rows=1, bytes=1)] * 4)
    list(chain.from_iterable(fakes.queue.receive(1)))

    assert "3 messages, 1 in flight" in text_of(overview_of(fakes))


def test_a_queue_that_is_not_configured_is_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = new_fakes()
    monkeypatch.setattr(fakes.queue, "depth", lambda: None)
    monkeypatch.setattr(fakes.queue, "dead_letter_depth", lambda: None)

    text = text_of(overview_of(fakes))

    assert [line.split()[-2:] for line in text.splitlines() if line.startswith(("Queue", "Dead"))] == [
        ["not", "configured"]
    ] * 2


def test_a_part_that_cannot_be_read_shows_its_error_beside_the_others() -> None:
    fakes = new_fakes()
    fakes.objects.put(DELTA, b"12345")
    fakes.queue.before = refuse_queues

    overview = overview_of(fakes)

    lines = text_of(overview).splitlines()
    assert set(overview.errors) == {"queue", "dead_letters"}
    assert "error: there is no queue" in next(line for line in lines if line.startswith("Queue"))
    assert "1 delta" in next(line for line in lines if line.startswith("Pending"))


def test_a_pending_delta_that_could_not_be_merged_is_named_with_its_reason() -> None:
    fakes = new_fakes()
    fakes.objects.put(DELTA, b"12345")
    (listed,) = fakes.objects.list("delta/")
    error = UnreadableObjectError(f"{DELTA} is archived", next_step="restore it", key=DELTA)
    mark(listed, error, EXECUTION, fakes.objects)

    assert f"{DELTA}: {DELTA} is archived; restore it" in text_of(overview_of(fakes))

    fakes.objects.put(DELTA, b"written again")
    assert "restore it" not in text_of(overview_of(fakes))


def test_if_no_part_can_be_read_the_first_error_is_raised() -> None:
    fakes = new_fakes()
    fakes.queue.before = refuse_queues
    fakes.objects.before = lambda *_: refuse_queues("")

    with pytest.raises(ConfigurationError):
        overview_of(fakes)


def refuse_queues(_call: str) -> None:
    raise ConfigurationError("there is no queue")


def test_a_missing_file_of_the_published_snapshot_is_damage() -> None:
    fakes = new_fakes()
    put_snapshot(fakes, 1)
    point_to(fakes, 1)
    assert overview_of(fakes).snapshot_corrupt is None

    fakes.objects.delete([layout.snapshot_file_key(a_snapshot_id(1), "docs", "chroma.sqlite3")])

    assert "chroma.sqlite3 is missing" in str(overview_of(fakes).snapshot_corrupt)
    assert "--replay" in str(overview_of(fakes).snapshot_corrupt)
