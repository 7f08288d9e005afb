"""MergeBatch: every delta of a batch is merged, quarantined or missing, and a second run has the same result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from chromadb_compaction.configuration import Space
from chromadb_compaction.deltas.attempts import Attempts, attempts_of, read_attempts
from chromadb_compaction.deltas.formats import read_delta
from chromadb_compaction.deltas.outcomes import LONGEST_REASON, DeltaOutcome, decode_outcomes
from chromadb_compaction.errors import DeltaFailedError, LockLostError, ObjectMissingError, SnapshotTooLargeError
from chromadb_compaction.layout import (
    batch_key,
    compacted_key,
    parts_key,
    quarantine_key,
    reason_key,
    report_key,
    run_key,
    shapes_key,
)
from chromadb_compaction.messages import BatchRef, CollectionShape, MergeBatchRequest, MergedBatch
from chromadb_compaction.pending import listed as listed_deltas
from chromadb_compaction.pending.listed import find_archived
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.spill import SpillingMerge
from chromadb_compaction.settings import Settings
from chromadb_compaction.steps.merge_batch import merge_batch
from tests.builders import NOW, BuiltDelta, a_delta, a_drop, a_jsonl_delta, a_uuid7
from tests.fakes.leases import InMemoryLeaseStore
from tests.fakes.objects import InMemoryObjectStore
from tests.fakes.queue import InMemoryDeltaQueue
from tests.runs import decode_run


class Disk(NamedTuple):
    free: int


EXECUTION = "arn:aws:states:eu-central-1:000000000000:execution:chromadb-compaction-dev:one"
BATCH = batch_key(EXECUTION, 1, 0)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = Services(
        settings=Settings(chromadb_bucket="a-bucket", chromadb_cache_dir=str(tmp_path)),
        objects=InMemoryObjectStore(clock=lambda: NOW),
        leases=InMemoryLeaseStore(),
        queue=InMemoryDeltaQueue(),
        clock=lambda: NOW,
    )
    services.leases.acquire(services.settings.lock_id, EXECUTION, now=NOW, seconds=900)
    return services


def with_settings(services: Services, **changed: object) -> Services:
    return services._replace(settings=services.settings.model_copy(update=changed))


def stored(services: Services) -> dict[str, Any]:
    assert isinstance(services.objects, InMemoryObjectStore)
    return services.objects.objects


def listed(services: Services, deltas: Sequence[BuiltDelta]) -> list[ObjectInfo]:
    return [delta.put_into(services.objects) for delta in deltas]


def request_for(
    services: Services, infos: Sequence[ObjectInfo], *, dimension: int | None = 2, space: str = "l2"
) -> MergeBatchRequest:
    shape = CollectionShape.model_validate(
        {"collection": "docs", "dimension": dimension, "space": space, "embedding_function": None, "records": 0}
    )
    services.objects.put(BATCH, json.dumps([info.model_dump() for info in infos]).encode())
    services.objects.put(shapes_key(EXECUTION, 1), json.dumps([shape.model_dump()]).encode())
    size = sum(info.bytes for info in infos)
    return MergeBatchRequest(
        execution=EXECUTION,
        pass_number=1,
        batch=BatchRef(key=BATCH, collection="docs", deltas=len(infos), bytes=size),
    )


def merge(services: Services, *deltas: BuiltDelta, **shape: Any) -> MergedBatch:
    return merge_batch(request_for(services, listed(services, deltas), **shape), services)


def outcomes(services: Services) -> list[DeltaOutcome]:
    return decode_outcomes(services.objects.get(report_key(BATCH)).body)


def calls(services: Services) -> list[tuple[str, str]]:
    assert isinstance(services.objects, InMemoryObjectStore)
    return services.objects.calls


def reason_for(services: Services, delta: BuiltDelta) -> str:
    reason = json.loads(services.objects.get(reason_key(quarantine_key(delta.key))).body)["reason"]
    assert isinstance(reason, str)
    return reason


def test_the_run_holds_the_newest_version_of_each_id(services: Services) -> None:
    older = a_delta({"a": [1, 1], "b": [1, 1]}, at=NOW - 2)
    newer = a_jsonl_delta([{"id": "b", "op": "delete"}, {"id": "c", "embedding": [3, 3]}], at=NOW - 1)

    result = merge(services, newer, older)

    run = decode_run(services.objects.get(run_key(BATCH)).body)
    assert run.select(["id", "deleted", "embedding"]).to_pylist() == [
        {"id": "a", "deleted": False, "embedding": [1, 1]},
        {"id": "b", "deleted": True, "embedding": None},
        {"id": "c", "deleted": False, "embedding": [3, 3]},
    ]
    assert result == MergedBatch(
        collection="docs",
        run=run_key(BATCH),
        parts=parts_key(BATCH),
        report=report_key(BATCH),
        merged=2,
        quarantined=0,
        missing=0,
        rows=3,
        bytes=len(services.objects.get(run_key(BATCH)).body),
    )


def test_the_report_accounts_for_every_delta(services: Services) -> None:
    valid, corrupt = a_delta({"a": [1, 1], "b": [2, 2]}), a_delta({"a": [float("nan"), 1]})
    infos = listed(services, [valid, corrupt])
    gone = ObjectInfo(key=a_delta().key, bytes=5, etag="gone", modified=NOW)

    merge_batch(request_for(services, [*infos, gone]), services)

    reason = "row 0 (id 'a'): embedding holds NaN"
    one, two = (hashlib.sha256(each.body).hexdigest() for each in (valid, corrupt))
    merged, refused = infos
    assert outcomes(services) == [
        DeltaOutcome(key=valid.key, etag=merged.etag, bytes=merged.bytes, status="merged", rows=2, sha256=one),
        DeltaOutcome(
            key=corrupt.key, etag=refused.etag, bytes=refused.bytes, status="quarantined", reason=reason, sha256=two
        ),
        DeltaOutcome(key=gone.key, etag="gone", bytes=5, status="missing"),
    ]


def test_a_delta_whose_key_was_merged_with_other_content_is_quarantined_whole(services: Services) -> None:
    rewritten, other = a_delta({"a": [2, 2]}), a_delta({"b": [1, 1]})
    services.objects.put(compacted_key(rewritten.key), a_delta({"a": [1, 1]}).body)

    result = merge(services, rewritten, other)

    assert (result.quarantined, result.merged, result.rows) == (1, 1, 1)
    assert "under a new UUIDv7" in str(outcomes(services)[0].reason)
    assert services.objects.get(quarantine_key(rewritten.key)).body == rewritten.body


def twins() -> tuple[BuiltDelta, BuiltDelta]:
    """Return two valid deltas of one name, in the two formats."""
    name = a_uuid7(NOW)
    row = {"id": "a", "embedding": [2, 2]}
    return a_delta({"a": [1, 1]}, name=name), a_jsonl_delta([row], name=name)


def test_two_files_of_one_name_are_both_quarantined_and_each_reason_names_the_other(services: Services) -> None:
    parquet, jsonl = twins()

    result = merge(services, jsonl, parquet, a_delta({"b": [1, 1]}, at=NOW + 1))

    assert (result.quarantined, result.merged) == (2, 1)
    reasons = {outcome.key: str(outcome.reason) for outcome in outcomes(services)}
    assert jsonl.key in reasons[parquet.key]
    assert parquet.key in reasons[jsonl.key]
    assert services.objects.get(quarantine_key(jsonl.key)).body == jsonl.body


def test_a_second_file_of_a_merged_name_is_quarantined(services: Services) -> None:
    merged, late = twins()
    services.objects.put(compacted_key(merged.key), merged.body)

    assert merge(services, late).quarantined == 1
    assert merged.key in str(outcomes(services)[0].reason)


def test_a_replayed_delta_is_merged_again_though_its_name_has_two_archived_files(services: Services) -> None:
    for each in twins():
        services.objects.put(compacted_key(each.key), each.body)

    assert merge(services, twins()[0]).merged == 1


def test_a_delta_of_the_size_of_the_archived_one_is_compared_by_content(services: Services) -> None:
    first, second = a_delta({"a": [1, 1]}), a_delta({"a": [2, 2]})
    assert len(first.body) == len(second.body)
    services.objects.put(compacted_key(second.key), first.body)

    assert merge(services, second).quarantined == 1


def test_a_replayed_delta_is_merged_again_though_its_copy_has_another_etag(services: Services) -> None:
    replayed = a_delta({"a": [1, 1]})
    archived = compacted_key(replayed.key)
    services.objects.put(archived, replayed.body)
    stored(services)[archived] = stored(services)[archived]._replace(etag='"of another key"')

    assert merge(services, replayed).merged == 1


def test_only_the_archive_of_the_batch_s_own_time_is_listed(services: Services) -> None:
    older, newer = a_delta({"a": [1, 1]}, at=NOW - 900), a_delta({"a": [2, 2]}, at=NOW - 800)
    before, after = a_delta(at=NOW - 1000), a_delta(at=NOW - 700)
    for each in (before, after):
        services.objects.put(compacted_key(each.key), each.body)
    infos = listed(services, [older, newer])

    assert find_archived(infos, services) == {}
    services.objects.put(compacted_key(older.key), b"other")
    services.objects.put(compacted_key(newer.key), b"another")
    assert set(find_archived(infos, services)) == {older.key, newer.key}


def test_a_corrupt_delta_is_quarantined_whole_with_its_reason_and_stays_pending(services: Services) -> None:
    corrupt = a_delta({"a": [1, 1], "b": [1, 2, 3]})

    result = merge(services, corrupt)

    assert (result.quarantined, result.run) == (1, None)
    assert services.objects.get(quarantine_key(corrupt.key)).body == corrupt.body
    assert services.objects.get(corrupt.key).body == corrupt.body
    assert json.loads(services.objects.get(reason_key(quarantine_key(corrupt.key))).body) == {
        "format": 1,
        "delta": corrupt.key,
        "reason": "row 1 (id 'b'): embedding has 3 dimensions, but that of row 0 has 2",
        "quarantined_at": NOW,
        "execution": EXECUTION,
        "etag": outcomes(services)[0].etag,
    }


@pytest.mark.parametrize(
    ("corrupt", "reason"),
    [
        (a_delta({"a": [1, 1, 1]}), "its embeddings have 3 dimensions, but the collection 'docs' has 2"),
        (a_delta({"a": [1, 1]}, name="not-a-uuid"), "is not a UUIDv7"),
        (a_delta({"a": [1, 1]}, name=a_uuid7(NOW + 4000)), "ahead of S3's clock"),
        (a_delta({"a": [1, 1]}, metadatas={"a": {"nested": {"x": 1}}}), "metadata key 'nested' holds an object"),
        (a_delta()._replace(body=b"no Parquet"), "the file is not Parquet"),
        (a_delta({"a": [1, 1]})._replace(key="delta/docs/readme.txt"), "does not have the form"),
    ],
)
def test_ninety_nine_valid_deltas_are_merged_beside_a_corrupt_one(
    services: Services, corrupt: BuiltDelta, reason: str
) -> None:
    valid = [a_delta({f"id-{number}": [number, 0]}) for number in range(99)]

    result = merge(services, *valid, corrupt)

    assert (result.merged, result.quarantined, result.rows) == (99, 1, 99)
    assert reason in reason_for(services, corrupt)


def test_the_reason_is_short_even_if_it_quotes_long_values(services: Services) -> None:
    key = "é" * 500_000
    hostile = a_jsonl_delta(
        [{"id": "a", "embedding": [1, 2], "metadata": {key: "x" * 100_000, "n": [[]], "\0" * 9_000: 1}}]
    )
    wordy = a_jsonl_delta([{"id": "a", "op": ["x" * 100_000]}])
    named = a_jsonl_delta([{"id": "a", key: 1}])

    assert merge(services, hostile, wordy, named).quarantined == 3

    assert all(0 < len(outcome.reason or "") <= LONGEST_REASON for outcome in outcomes(services))


@pytest.mark.parametrize("space", ["l2", "cosine", "ip"])
def test_a_vector_whose_distances_would_overflow_is_quarantined(services: Services, space: Space) -> None:
    far = a_delta({"a": [1, 1], "b": [1e30, 1]}, {"c"})

    assert merge(services, far, space=space).quarantined == 1
    assert reason_for(services, far).startswith("row 1 (id 'b'): embedding is too long")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"embedding": [1] * 20_000}, "embedding has 20000 dimensions"),
        ({"embedding": [1, 2], "metadata": {"a": [1] * 20_000}}, "metadata has 20000 values"),
        ({"embedding": [1, 2], "document": "x" * (17 << 20)}, "it has 17,825,817 bytes"),
    ],
)
def test_a_row_beyond_the_limits_is_quarantined(services: Services, row: dict[str, object], reason: str) -> None:
    large = a_jsonl_delta([{"id": "a", **row}])

    assert merge(services, large, a_delta({"b": [1, 2]})).quarantined == 1
    assert reason_for(services, large).startswith(f"row 0 (id 'a'): {reason}")


def test_a_file_over_the_limit_is_quarantined_unread(services: Services) -> None:
    limited = with_settings(services, max_delta_bytes=100)
    large = a_delta({"a": [1, 1]})

    assert merge(limited, large).quarantined == 1
    assert f"the file has {len(large.body)} bytes, more than 100" in reason_for(services, large)


def test_deltas_for_which_the_disk_has_no_space_are_left_pending_and_the_others_merged(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(services, listed(services, [a_delta({name: [1, 1]}) for name in "abc"]))
    space = iter([10**9, 100])
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Disk(free=next(space)))

    merged = merge_batch(request, services)

    assert (merged.merged, merged.left, merged.rows) == (1, 2, 1)
    statuses = [outcome.status for outcome in decode_outcomes(services.objects.get(merged.report).body)]
    assert statuses == ["merged", "left", "left"]


def test_a_delta_that_alone_does_not_fit_the_disk_fails_the_task_and_is_marked(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta = a_delta({"a": [1, 1]})
    request = request_for(services, listed(services, [delta]))
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Disk(free=100))

    with pytest.raises(SnapshotTooLargeError, match=rf"{delta.key}.*raise merge-batch's ephemeral storage"):
        merge_batch(request, services)

    assert attempts_for(services, delta).failures == 1


def test_a_delta_larger_than_the_memory_fails_the_task_and_is_marked(services: Services) -> None:
    small = with_settings(services, aws_lambda_function_memory_size=350)
    delta = a_delta({"a": [1, 1]})
    request = request_for(small, listed(small, [delta]))

    for _retry in range(2):
        with pytest.raises(SnapshotTooLargeError, match=r"raise merge-batch's memory, or lower MAX_DELTA_BYTES"):
            merge_batch(request, small)

    assert attempts_for(services, delta).failures == 1


def test_an_unreadable_delta_stays_pending_is_marked_and_the_others_are_merged(services: Services) -> None:
    odd, good = a_delta({"a": [1, 1]}), a_delta({"b": [1, 1]})
    fake_objects(services).unreadable.add(odd.key)

    merged = merge(services, odd, good)

    assert (merged.merged, merged.unreadable, merged.rows) == (1, 1, 1)
    assert attempts_for(services, odd) == Attempts(unreadable=True, latest=attempts_for(services, odd).latest)
    (outcome, _) = decode_outcomes(services.objects.get(merged.report).body)
    assert (outcome.status, outcome.reason) == ("unreadable", f"{odd.key} is archived; restore it")


def test_a_bad_delta_that_cannot_be_copied_into_quarantine_is_unreadable(services: Services) -> None:
    limited = with_settings(services, max_delta_bytes=100)
    large = a_delta({"a": [1, 1]})
    fake_objects(services).unreadable.add(large.key)

    assert merge(limited, large).unreadable == 1


def test_an_unforeseen_error_fails_the_task_and_names_and_marks_every_delta_that_causes_it(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good, worse = (a_delta({name: [1, 1]}) for name in "abc")
    request = request_for(services, listed(services, [bad, good, worse]))

    def read(key: str, *arguments: Any, **options: Any) -> Any:
        if key != good.key:
            raise KeyError("a case that nobody thought of")
        return read_delta(key, *arguments, **options)

    monkeypatch.setattr(listed_deltas, "read_delta", read)

    with pytest.raises(DeltaFailedError, match=f"{bad.key} failed: KeyError") as caught:
        merge_batch(request, services)

    assert caught.value.key == bad.key
    assert [attempts_for(services, each).failures for each in (bad, good, worse)] == [1, 0, 1]


def fake_objects(services: Services) -> InMemoryObjectStore:
    assert isinstance(services.objects, InMemoryObjectStore)
    return services.objects


def attempts_for(services: Services, delta: Any) -> Attempts:
    found = services.objects.head(delta.key)
    assert found is not None
    return attempts_of(found, read_attempts(services.objects))


def test_a_delta_that_is_quarantined_unread_needs_no_memory(services: Services) -> None:
    small = with_settings(services, aws_lambda_function_memory_size=351, max_delta_bytes=100)

    assert merge(small, a_delta({"a": [1, 1]})).quarantined == 1


def test_deltas_are_merged_on_disk_if_memory_holds_only_a_few(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpillingMerge.__init__, "__kwdefaults__", {"held_bytes": 200, "piece_bytes": 100})
    deltas = [a_delta({f"id-{number % 5}": [number, 0]}, name=a_uuid7(NOW - 100 + number)) for number in range(20)]

    assert merge(services, *deltas).rows == 5

    run = decode_run(services.objects.get(run_key(BATCH)).body)
    assert run["embedding"].to_pylist() == [[number, 0] for number in range(15, 20)]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_second_run_writes_the_same_objects(services: Services) -> None:
    request = request_for(
        services, listed(services, [a_delta({"a": [1, 1]}), a_delta({"a": [2, 2]}, {"b"}), a_delta({"a": [1]})])
    )
    first = merge_batch(request, services)
    bodies = {key: found.body for key, found in stored(services).items()}

    assert merge_batch(request, services) == first
    assert {key: found.body for key, found in stored(services).items()} == bodies


def test_a_delta_changed_since_the_listing_stays_pending(services: Services) -> None:
    delta = a_delta({"a": [1, 1]})
    request = request_for(services, listed(services, [delta]))
    services.objects.put(delta.key, a_delta({"a": [2, 2]}).body)

    result = merge_batch(request, services)

    assert (result.missing, result.run) == (1, None)


def test_a_corrupt_delta_deleted_before_its_quarantine_is_missing(services: Services) -> None:
    corrupt = a_delta({"a": [1]})
    request = request_for(services, listed(services, [corrupt]))

    def delete_it(call: str, key: str) -> None:
        if call == "copy":
            stored(services).pop(corrupt.key, None)

    assert isinstance(services.objects, InMemoryObjectStore)
    services.objects.before = delete_it

    assert merge_batch(request, services).missing == 1
    assert quarantine_key(corrupt.key) not in stored(services)


def test_what_a_pending_drop_of_another_pass_may_free_stays_pending(services: Services) -> None:
    drop, older, newer = a_drop(at=NOW - 2), a_delta({"a": [1] * 3}, at=NOW - 3), a_delta({"a": [1] * 3}, at=NOW - 1)
    services.objects.put(drop.key, drop.body)

    assert (merge(services, newer).missing, merge(services, older).quarantined) == (1, 1)

    services.objects.put(drop.key, b"not a drop")
    assert merge(services, newer).quarantined == 1


def test_deltas_with_only_deletes_need_no_dimension(services: Services) -> None:
    result = merge(services, a_delta(deletes={"a"}), a_delta(), dimension=None)

    assert (result.merged, result.rows) == (2, 1)


def test_an_upsert_that_the_pass_was_planned_without_is_missing(services: Services) -> None:
    assert merge(services, a_delta({"a": [1, 1]}), dimension=None).missing == 1


def test_all_deltas_under_an_invalid_collection_name_are_quarantined(services: Services) -> None:
    corrupt = a_delta({"a": [1, 1]}, collection="x")
    request = request_for(services, listed(services, [corrupt]))
    batch = request.batch.model_copy(update={"collection": "x"})

    result = merge_batch(request.model_copy(update={"batch": batch}), services)

    assert result.quarantined == 1
    assert "breaks the rule" in reason_for(services, corrupt)


def test_an_unexpected_error_fails_the_task_and_quarantines_nothing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_options: object) -> None:
        raise MemoryError

    delta = a_delta({"a": [1, 1]})
    request = request_for(services, listed(services, [delta]))
    monkeypatch.setattr("chromadb_compaction.pending.listed.read_delta", broken)

    with pytest.raises(DeltaFailedError, match="MemoryError"):
        merge_batch(request, services)
    assert quarantine_key(delta.key) not in stored(services)


def test_a_missing_batch_manifest_fails_the_task(services: Services) -> None:
    request = request_for(services, [])
    services.objects.delete([BATCH])

    with pytest.raises(ObjectMissingError):
        merge_batch(request, services)


def test_without_the_lease_nothing_is_read(services: Services) -> None:
    request = request_for(services, listed(services, [a_delta({"a": [1, 1]})]))
    services.leases.release(services.settings.lock_id, EXECUTION)

    with pytest.raises(LockLostError):
        merge_batch(request, services)
    assert run_key(BATCH) not in stored(services)


def test_a_hundred_deltas_merge_to_the_state_of_a_model(services: Services) -> None:
    chance = np.random.default_rng(7)
    deltas: list[BuiltDelta] = []
    model: dict[str, list[float] | None] = {}
    for number in range(100):
        ids = [f"id-{n}" for n in chance.choice(300, 20, replace=False)]
        upserts = {row_id: chance.standard_normal(2).astype(np.float32).tolist() for row_id in ids[:15]}
        deltas.append(a_delta(upserts, ids[15:], name=a_uuid7(NOW - 100 + number)))
        model |= {**upserts, **dict.fromkeys(ids[15:])}

    merge(services, *deltas[::-1])

    run = decode_run(services.objects.get(run_key(BATCH)).body)
    assert dict(zip(run["id"].to_pylist(), run["embedding"].to_pylist(), strict=True)) == model
