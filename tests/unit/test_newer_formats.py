"""An object of a newer format is never called damaged, and never overwritten."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from chromadb_compaction import layout
from chromadb_compaction.cli.common.exits import ExitCode, exit_code
from chromadb_compaction.cli.sources.journal import Journal, JournalHeader
from chromadb_compaction.cli.views.checks import check_snapshot
from chromadb_compaction.cli.views.snapshots import read_snapshot_list
from chromadb_compaction.deltas.header import DeltaHeader, parse_header
from chromadb_compaction.deltas.outcomes import QuarantineReason, unpack_outcomes
from chromadb_compaction.errors import CorruptDeltaError, NewerFormatError
from chromadb_compaction.manifest import Manifest, Pointer, parse_stored
from chromadb_compaction.operations.quarantine import list_quarantined
from chromadb_compaction.operations.rollback import RollbackRequest, rollback
from chromadb_compaction.operations.verify import verify_snapshot
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.snapshots.pruning import NOTHING, prune
from tests.fakes.published import a_snapshot_id, point_to, put_snapshot
from tests.fakes.services import Fakes, new_fakes

NEWER = json.dumps({"format": 99, "shards": 3}).encode()
QUARANTINED = "quarantine/docs/0190e5c0-0000-7000-8000-000000000001.parquet"


@pytest.fixture
def fakes() -> Fakes:
    """Two snapshots, the second one published."""
    made = new_fakes(snapshot_retention_count=1, snapshot_retention_days=0.000001)
    put_snapshot(made, 1)
    put_snapshot(made, 2)
    point_to(made, 2)
    return made


@pytest.mark.parametrize("model", [Manifest, Pointer, QuarantineReason, JournalHeader, DeltaHeader])
def test_every_stored_format_with_a_number_follows_the_rule(model: type[BaseModel]) -> None:
    with pytest.raises(NewerFormatError, match=r"the/key has format 99 .*newer version.*; upgrade") as raised:
        parse_stored(model, NEWER, "the/key")

    assert (raised.value.key, raised.value.format) == ("the/key", 99)
    assert exit_code(raised.value) == ExitCode.NEWER_FORMAT


@pytest.mark.parametrize("body", [b'{"format": 1}', b'{"format": "99"}', b'{"format": true}', b"[99]", b"{", b"\xff"])
def test_any_other_fault_is_not_a_newer_format(body: bytes) -> None:
    with pytest.raises(ValidationError):
        parse_stored(Pointer, body, "the/key")


def test_a_list_of_outcomes_that_became_an_object_with_a_number_is_newer() -> None:
    with pytest.raises(NewerFormatError, match=r"deltas\.json\.gz has format 99"):
        unpack_outcomes(gzip.compress(NEWER), "deltas.json.gz")


def test_a_delta_of_a_newer_format_is_quarantined_until_the_functions_are_upgraded() -> None:
    with pytest.raises(CorruptDeltaError, match=r"newer version.*; upgrade the functions, then .*requeue"):
        parse_header(NEWER)


def test_a_journal_of_a_newer_format_stays(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, ["a"])
    journal.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(NEWER + b"\n")

    with pytest.raises(NewerFormatError):
        Journal.open(tmp_path, ["a"], restart=True)

    assert path.read_bytes() == NEWER + b"\n"


def test_a_pointer_of_a_newer_format_is_not_rolled_back_over(fakes: Fakes) -> None:
    fakes.objects.put(layout.pointer_key(), NEWER)

    with pytest.raises(NewerFormatError):
        rollback(RollbackRequest(snapshot_id=a_snapshot_id(1), operator="operator:a"), fakes.services)

    assert fakes.objects.get(layout.pointer_key()).body == NEWER
    with pytest.raises(NewerFormatError):
        read_pointer(fakes.services)
    with pytest.raises(NewerFormatError):
        verify_snapshot(fakes.services, None, full=False)


def test_a_published_manifest_of_a_newer_format_is_not_rolled_back_over(fakes: Fakes) -> None:
    fakes.objects.put(layout.manifest_key(a_snapshot_id(2)), NEWER)
    point_to(fakes, 2)
    published = read_pointer(fakes.services)
    assert published is not None

    with pytest.raises(NewerFormatError):
        rollback(RollbackRequest(snapshot_id=a_snapshot_id(1), operator="operator:a"), fakes.services)
    with pytest.raises(NewerFormatError):
        read_manifest(fakes.services, published.pointer)

    assert read_pointer(fakes.services) == published


def test_nothing_is_pruned_beside_a_manifest_of_a_newer_format(fakes: Fakes) -> None:
    put_snapshot(fakes, 3)
    fakes.objects.put(layout.manifest_key(a_snapshot_id(2)), NEWER)
    fakes.clock.tick(10)

    assert prune(a_snapshot_id(2), fakes.services) == NOTHING


@pytest.mark.parametrize("key", [layout.pointer_key(), layout.manifest_key(a_snapshot_id(2))])
def test_what_an_operator_reads_advises_to_upgrade_and_nothing_else(fakes: Fakes, key: str) -> None:
    fakes.objects.put(key, NEWER)
    if key != layout.pointer_key():
        point_to(fakes, 2)

    listed, checked = read_snapshot_list(fakes.services), check_snapshot(fakes.services)

    assert listed.problem_kind == "NewerFormat"
    assert checked.verdict == "fail"
    for text in (str(listed.problem), f"{checked.found} {checked.fix}"):
        assert "upgrade" in text
        assert "rollback" not in text


def test_a_reason_of_a_newer_format_hides_no_other_delta(fakes: Fakes) -> None:
    fakes.objects.put(QUARANTINED, b"x")
    fakes.objects.put(layout.reason_key(QUARANTINED), NEWER)

    (found,) = list_quarantined(fakes.services)

    assert "newer version" in str(found.reason)


def test_json_that_is_nested_too_deeply_is_damaged_and_not_newer() -> None:
    with pytest.raises(ValidationError):
        parse_stored(Pointer, b"[" * 100_000, "snapshot/CURRENT")
