"""Everything that finds no pointer says whether it was lost, and how to restore it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from chromadb_compaction import layout
from chromadb_compaction.cli.views.checks import check_snapshot
from chromadb_compaction.cli.views.overview import read_overview
from chromadb_compaction.cli.views.snapshots import read_snapshot_list
from chromadb_compaction.deltas.outcomes import pack_outcomes
from chromadb_compaction.errors import NoSnapshotError, NoSuchCollectionError, SnapshotCorruptError
from chromadb_compaction.messages import ListDeltasRequest
from chromadb_compaction.operations.provenance import find_provenance
from chromadb_compaction.operations.pull import pull_snapshot
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.missing_pointer import lost_pointer
from chromadb_compaction.snapshots.reader import SnapshotReader
from chromadb_compaction.steps.list_deltas import list_deltas
from chromadb_compaction.steps.query import answer
from chromadb_compaction.steps.query_messages import CountRequest
from tests.fakes.published import a_snapshot_id, outcome_of, put_delta, put_snapshot
from tests.fakes.services import EXECUTION, Fakes, new_fakes

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient


def status(services: Services) -> str | None:
    return read_overview(services, cast("SFNClient", None)).snapshot_corrupt


def doctor(services: Services) -> str | None:
    finding = check_snapshot(services)
    return f"{finding.found}; {finding.fix}" if finding.verdict == "fail" else None


def snapshots_list(services: Services) -> str | None:
    return read_snapshot_list(services).problem


def raised_by(command: Callable[[Services], object]) -> Callable[[Services], str | None]:
    def run(services: Services) -> str | None:
        try:
            command(services)
        except SnapshotCorruptError as error:
            return str(error)
        except (NoSnapshotError, NoSuchCollectionError):
            pass
        return None

    return run


query = raised_by(
    lambda s: answer(CountRequest(action="count", collection="docs"), s, reader=FreshReader(SnapshotReader()))
)
pull = raised_by(lambda s: pull_snapshot(s, None, Path("never-made")))
why = raised_by(lambda s: find_provenance(s, "docs", "a"))
compact = raised_by(lambda s: list_deltas(ListDeltasRequest(execution=EXECUTION, previous_pass=0), s))
COMMANDS = [status, doctor, snapshots_list, query, pull, why, compact]


def a_bucket(*, published: bool) -> Fakes:
    fakes = new_fakes()
    fakes.hold_lease()
    put_snapshot(fakes, 1)
    merged = [outcome_of(fakes, put_delta(fakes, 1))]
    fakes.objects.put(layout.merged_deltas_key(a_snapshot_id(1)), pack_outcomes(merged))
    if published:
        fakes.objects.put(layout.cleaned_key(a_snapshot_id(1)), b"{}")
    return fakes


@pytest.mark.parametrize("command", COMMANDS)
def test_a_lost_pointer_is_named_with_the_rollback_that_restores_it(
    command: Callable[[Services], str | None],
) -> None:
    said = str(command(a_bucket(published=True).services))

    assert "snapshot/CURRENT is missing" in said
    assert f"snapshots rollback {a_snapshot_id(1)} --replay" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_before_the_first_snapshot_is_published_there_is_nothing_wrong(
    command: Callable[[Services], str | None],
) -> None:
    assert command(a_bucket(published=False).services) is None


def test_the_rollback_names_the_newest_snapshot_that_can_be_read() -> None:
    keys = [layout.cleaned_key(a_snapshot_id(number)) for number in (1, 2, 3)]

    error = lost_pointer(keys, prefix=layout.SNAPSHOT_PREFIX, readable={a_snapshot_id(1), a_snapshot_id(2)})

    assert f"snapshot {a_snapshot_id(3)} has been published" in str(error)
    assert f"rollback {a_snapshot_id(2)} --replay" in str(error)
