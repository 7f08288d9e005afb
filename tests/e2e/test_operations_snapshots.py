"""The operator's commands that show and change snapshots, deltas and the origin of a record."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import Cli, command_line
from tests.e2e.model import Delta, Row, content_of, expected, published
from tests.stack import Stack

pytestmark = pytest.mark.e2e

HOLDER = "arn:aws:states:us-east-1:000000000000:execution:chromadb-compaction-local:the-holder"


@pytest.fixture
def cli(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    monkeypatch.setenv("CHROMADB_CACHE_DIR", str(tmp_path / "cache"))
    return command_line(stack, monkeypatch, capsys)


def upsert(*ids: str, value: float = 1.0, collection: str = "docs") -> Delta:
    rows = tuple(Row(id_, (value, 2.0), f"text of {id_} at {value}", {"n": 1, "share": 0.1 + value}) for id_ in ids)
    return Delta(collection, rows)


def compacted(stack: Stack, *deltas: Delta) -> str:
    """Merge the deltas in an execution of their own and return the snapshot's id."""
    stack.put_objects({delta.key: delta.body() for delta in deltas})
    result = stack.compact()
    assert result.status == "SUCCEEDED"
    snapshot_id = result.output["snapshot"]["snapshot_id"]
    assert isinstance(snapshot_id, str)
    return snapshot_id


def hold_lock(stack: Stack) -> None:
    leases = stack.services(cache_dir=Path()).leases
    leases.acquire(stack.settings.lock_id, HOLDER, now=time.time(), seconds=600)


def flip_a_byte(stack: Stack, key: str) -> None:
    body = stack.get(key)
    stack.put_objects({key: body[:-1] + bytes([body[-1] ^ 1])})


def test_rollback_with_replay_and_a_compaction_remove_the_rows_of_a_bad_delta(
    cli: Cli, stack: Stack, tmp_path: Path
) -> None:
    good = [upsert("a", "b"), upsert("c")]
    bad = Delta("docs", (Row("a"), Row("b", (9.0, 9.0), "nonsense")))
    late = upsert("d", collection="more")
    target = compacted(stack, good[0])
    undone = compacted(stack, bad, good[1], late)

    planned = cli("snapshots", "rollback", target, "--replay", "--dry-run", "--json")
    assert stack.keys("delta/") == []
    done = cli("snapshots", "rollback", target, "--replay")
    pending = {each["key"] for each in cli("deltas", "list", "--json").json}
    refused = cli("deltas", "quarantine", bad.name, "--reason", "written by the broken importer")
    compact = cli("compact", "--wait", "--json")

    assert planned.json["undone"] == [undone]
    assert set(planned.json["replayed"]) == pending == {bad.key, good[1].key, late.key}
    assert f"Published snapshot {target} in place of {undone}" in done.out
    assert "chromadb-compaction compact --wait" in done.out
    assert (done.code, refused.code, compact.code) == (0, 0, 0)
    assert published(stack.s3, stack.bucket, tmp_path) == expected([*good, late])
    assert "broken importer" in cli("deltas", "quarantined").out
    assert stack.lease() is None
    assert cli("snapshots", "verify", "--full").code == 0


def test_a_delta_that_a_replay_leaves_out_is_never_pending(cli: Cli, stack: Stack, tmp_path: Path) -> None:
    good, bad = upsert("a"), upsert("a", "b", value=9.0)
    target = compacted(stack, good)
    compacted(stack, bad)

    done = cli("snapshots", "rollback", target, "--replay", "--without", bad.name)

    assert done.code == 0
    assert stack.keys("delta/") == []
    assert published(stack.s3, stack.bucket, tmp_path) == expected([good])
    assert [each["delta"] for each in cli("deltas", "quarantined", "--json").json] == [bad.key]


def test_the_query_function_follows_a_previous_pointer_restored_with_boto3_alone(
    stack: Stack,
) -> None:
    question: dict[str, Any] = {"collection": "docs", "query_embeddings": [[1.0, 2.0]], "n_results": 5}
    first = compacted(stack, upsert("a"))
    second = compacted(stack, upsert("b"))
    assert stack.invoke("query", question)["snapshot_id"] == second

    versions = stack.s3.list_object_versions(Bucket=stack.bucket, Prefix="snapshot/CURRENT")["Versions"]
    previous = next(each for each in versions if not each["IsLatest"])
    source: Any = {"Bucket": stack.bucket, "Key": "snapshot/CURRENT", "VersionId": previous["VersionId"]}
    stack.s3.copy_object(Bucket=stack.bucket, Key="snapshot/CURRENT", CopySource=source)

    answer = stack.invoke("query", question)
    assert (answer["snapshot_id"], answer["ids"]) == (first, [["a"]])


def test_snapshots_are_listed_shown_pulled_and_verified(cli: Cli, stack: Stack, tmp_path: Path) -> None:
    older, newer = upsert("a", "b"), Delta("docs", (Row("a"),))
    first, second = compacted(stack, older), compacted(stack, newer)

    listed = cli("snapshots", "list")
    lines = cli("snapshots", "list", "--json").json
    shown = cli("snapshots", "show")
    manifest = cli("snapshots", "show", first, "--json").json
    pulled = cli("snapshots", "pull", str(tmp_path / "copy"))
    old = cli("snapshots", "pull", str(tmp_path / "old"), "--snapshot", first, "-c", "docs", "--json")
    again = cli("snapshots", "pull", str(tmp_path / "copy"))
    verified = cli("snapshots", "verify")
    full = cli("snapshots", "verify", first, "--full", "--json")

    assert [line for line in listed.out.splitlines() if "▶" in line and second in line]
    assert [each["snapshot_id"] for each in lines["snapshots"]] == [second, first]
    assert (lines["current"], lines["snapshots"][1]["records"]) == (second, 2)
    assert second in shown.out
    assert (manifest["published"], manifest["collections"]["docs"]["records"]) == (False, 2)
    assert "1 record" in pulled.out
    assert content_of(tmp_path / "copy/docs", "docs") == expected([older, newer])["docs"]
    assert content_of(Path(old.json["collections"][0]["directory"]), "docs") == expected([older])["docs"]
    assert (again.code, "0 B of them fetched now" in again.out) == (0, True)
    assert "is whole" in verified.out
    assert (full.code, full.json["records"], full.json["problems"]) == (0, 2, [])


def test_damage_is_named_and_a_rollback_from_it_loses_nothing(cli: Cli, stack: Stack, tmp_path: Path) -> None:
    older, newer = upsert("a"), upsert("b")
    first, second = compacted(stack, older), compacted(stack, newer)
    damaged_key = next(key for key in stack.keys(f"snapshot/{second}/") if key.endswith("files.pack"))
    flip_a_byte(stack, damaged_key)

    verified = cli("snapshots", "verify")
    stack.s3.delete_object(Bucket=stack.bucket, Key=damaged_key)
    listed = cli("snapshots", "list")
    refused = cli("snapshots", "rollback", second)
    pulled = cli("snapshots", "pull", str(tmp_path / "copy"))
    done = cli("snapshots", "rollback", first, "--replay")

    assert (verified.code, damaged_key in verified.out) == (5, True)
    assert (listed.code, "missing" in listed.out) == (5, True)
    assert (refused.code, damaged_key in refused.err) == (5, True)
    assert (pulled.code, (tmp_path / "copy/docs").exists()) == (5, False)
    assert done.code == 0
    assert stack.compact().status == "SUCCEEDED"
    assert published(stack.s3, stack.bucket, tmp_path) == expected([older, newer])


def test_a_missing_pointer_is_reported_and_a_rollback_replaces_it(cli: Cli, stack: Stack, tmp_path: Path) -> None:
    older, newer = upsert("a"), upsert("b")
    first = compacted(stack, older)
    compacted(stack, newer)
    stack.s3.delete_object(Bucket=stack.bucket, Key="snapshot/CURRENT")

    listed = cli("snapshots", "list")
    done = cli("snapshots", "rollback", first, "--replay", "--json")

    assert (listed.code, "snapshot/CURRENT is missing" in listed.err) == (5, True)
    assert (done.code, done.json["lineage_known"], done.json["replayed"]) == (0, False, [newer.key])
    assert stack.compact().status == "SUCCEEDED"
    assert published(stack.s3, stack.bucket, tmp_path) == expected([older, newer])


def test_no_command_changes_anything_while_an_execution_holds_the_lock(cli: Cli, stack: Stack) -> None:
    snapshot_id = compacted(stack, upsert("a"))
    waiting = upsert("b")
    stack.put_objects({waiting.key: waiting.body()})
    hold_lock(stack)

    rollback = cli("snapshots", "rollback", snapshot_id)
    quarantine = cli("deltas", "quarantine", waiting.name, "--reason", "no")
    planned = cli("snapshots", "rollback", snapshot_id, "--dry-run")

    assert (rollback.code, "the-holder" in rollback.err) == (3, True)
    assert (quarantine.code, "the-holder" in quarantine.err) == (3, True)
    assert (planned.code, "the-holder" in planned.err) == (0, True)
    assert stack.keys("delta/") == [waiting.key]


def test_quarantined_deltas_are_listed_with_the_reason_and_requeued_after_a_fix(
    cli: Cli, stack: Stack, tmp_path: Path
) -> None:
    good, wide = upsert("a"), Delta("docs", (Row("wide", (1.0, 2.0, 3.0)),))
    nameless = Delta("docs", (Row("x", (1.0, 2.0)),), name="yesterday")
    compacted(stack, good, wide, nameless)

    listed = cli("deltas", "quarantined")
    refused = cli("deltas", "requeue", nameless.name)
    # The fixed file has the collection's dimension.
    fixed = Delta("docs", (Row("wide", (1.0, 2.0)),), name=wide.name)
    stack.put_objects({f"quarantine/docs/{wide.name}.parquet": fixed.body()})
    planned = cli("deltas", "requeue", "--all", "-c", "docs", "--dry-run")
    requeued = cli("deltas", "requeue", "--all", "--json")
    unknown = cli("deltas", "requeue", "no-such-delta")
    pending = cli("deltas", "list")

    assert (wide.key in listed.out, "dimension" in listed.out, "UUIDv7" in listed.out) == (True, True, True)
    assert (refused.code, "UUIDv7" in refused.err) == (2, True)
    assert "1 delta would be pending again" in planned.out
    assert requeued.json["moved"] == [wide.key]
    assert list(requeued.json["refused"]) == [nameless.key]
    assert (unknown.code, "deltas quarantined" in unknown.err) == (4, True)
    assert wide.name in pending.out
    quarantined = "quarantine/docs/yesterday.parquet"
    assert stack.keys("quarantine/") == [quarantined, f"{quarantined}.reason.json"]
    assert stack.compact().status == "SUCCEEDED"
    assert "wide" in published(stack.s3, stack.bucket, tmp_path)["docs"]


def test_why_names_the_delta_and_the_first_snapshot_of_a_record(cli: Cli, stack: Stack) -> None:
    older, newer = upsert("a", "b"), Delta("docs", (Row("c", (1.0, 1.0)), Row("b")))
    first, second = compacted(stack, older), compacted(stack, newer)
    waiting = upsert("z")
    stack.put_objects({waiting.key: waiting.body()})

    live = cli("why", "a", "-c", "docs", "--json").json
    deleted = cli("why", "b", "-c", "docs")
    unknown = cli("why", "z", "-c", "docs")
    elsewhere = cli("why", "a", "-c", "nowhere")

    assert (live["delta"], live["row"], live["deleted"]) == (older.name, 0, False)
    assert (live["first_snapshot"], live["place"], live["pending_deltas"]) == (first, "compacted", 1)
    assert abs(datetime.fromisoformat(live["written_at"]).timestamp() - time.time()) < 600
    for words in ("deleted", newer.name, "row 1", second, f"compacted/docs/{newer.name}.parquet"):
        assert words in deleted.out
    assert (unknown.code, "deltas list" in unknown.err) == (4, True)
    assert elsewhere.code == 4


def test_on_an_empty_stack_the_commands_name_the_next_step(cli: Cli) -> None:
    listed = cli("snapshots", "list")
    pending = cli("deltas", "list")
    ended = [cli("snapshots", "show"), cli("snapshots", "verify"), cli("why", "a", "-c", "docs")]

    assert (listed.code, "compact --wait" in listed.out) == (4, True)
    assert (pending.code, "Nothing is pending" in pending.out) == (0, True)
    assert [each.code for each in ended] == [4, 4, 4]
    assert all(each.has_one_error for each in ended)
