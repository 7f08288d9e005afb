"""The stack exports the settings that the functions and the command line read."""

from __future__ import annotations

import asyncio
import runpy
from pathlib import Path

import pulumi
import pytest

from chromadb_compaction.settings import Settings, load_settings
from infra import program
from infra.environment import PREFETCH, READ_BOUNDS
from tests.infra.declared import EXISTING_TABLE, Recorder, declared, run_with

SET_BY_STACK = {
    "chromadb_bucket": "chromadb-vectors-dev-123456789012",
    "chromadb_stack": "dev",
    "delta_queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/chromadb-delta-queue-dev",
    "delta_dlq_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/chromadb-delta-queue-dev-dlq",
    "dynamodb_table": "portfolio-dev",
    "state_machine_arn": "arn:aws:states:eu-west-1:123456789012:stateMachine:chromadb-compaction-dev",
    "chromadb_compactor_function": "chromadb-compactor-dev:live",
    "chromadb_producer_function": "chromadb-producer-dev:live",
    "chromadb_query_function": "chromadb-query-dev:live",
}
OF_PEOPLE = {"WRITER_POLICY_ARN", "READER_POLICY_ARN", "OPERATOR_POLICY_ARN", "WRITER_POLICY", "READER_POLICY"}
SET_BY_LAMBDA = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"
CONFIGURED = {
    "lockId": ("LOCK_ID", "another"),
    "lockTimeoutMinutes": ("LOCK_TIMEOUT_MINUTES", "30"),
    "compactionBatchSize": ("COMPACTION_BATCH_SIZE", "50"),
    "compactedRetentionDays": ("COMPACTED_RETENTION_DAYS", "14"),
    "maxBatchesPerPass": ("MAX_BATCHES_PER_PASS", "10"),
    "maxPassBytes": ("MAX_PASS_BYTES", "1000000"),
    "maxPasses": ("MAX_PASSES", "2"),
    "maxDeltaBytes": ("MAX_DELTA_BYTES", "2000000"),
    "maxDeltaFailures": ("MAX_DELTA_FAILURES", "5"),
    "readRefreshSeconds": ("READ_REFRESH_SECONDS", "2.5"),
    "embeddingFunction": ("CHROMADB_EMBEDDING_FUNCTION", "default"),
}


def test_every_setting_is_exported_under_its_own_name() -> None:
    settings = {field.upper() for field in Settings.model_fields}
    assert declared().outputs.keys() - OF_PEOPLE == settings - {SET_BY_LAMBDA, PREFETCH, *READ_BOUNDS}


def test_the_exports_are_the_stacks_resources_and_the_functions_defaults() -> None:
    expected = Settings.model_validate(SET_BY_STACK)
    assert load_settings(declared().outputs) == expected


@pytest.mark.parametrize("setting", CONFIGURED)
def test_configured_values_reach_the_functions(setting: str) -> None:
    variable, value = CONFIGURED[setting]
    assert declared(**{setting: value}).outputs[variable] == value


@pytest.mark.parametrize(
    ("setting", "variable"),
    [
        *zip(("pendingRows", "pendingBytes", "pendingDeltas"), READ_BOUNDS, strict=True),
        ("queryPrefetchCollections", PREFETCH),
    ],
)
def test_what_only_the_query_function_needs_is_not_exported_to_clients(setting: str, variable: str) -> None:
    stack = declared(**{setting: "500"})

    assert stack.function("query")["environment"]["variables"][variable] == "500"
    assert variable not in stack.outputs


def test_the_configured_retention_reaches_the_functions() -> None:
    outputs = declared(snapshotRetention='{"count": 3, "days": 0.5}').outputs
    assert (outputs["SNAPSHOT_RETENTION_COUNT"], outputs["SNAPSHOT_RETENTION_DAYS"]) == ("3", "0.5")


def test_pulumi_up_exports_every_output(monkeypatch: pytest.MonkeyPatch) -> None:
    exported: dict[str, object] = {}
    monkeypatch.setattr(pulumi, "export", exported.__setitem__)

    def pulumi_up() -> dict[str, object]:
        runpy.run_path(str(Path(program.__file__).with_name("__main__.py")), run_name="__main__")
        return exported

    run_with(Recorder(EXISTING_TABLE), pulumi_up)
    assert exported.keys() == declared().outputs.keys()


def test_the_program_runs_after_another_test_has_ended_the_threads_event_loop() -> None:
    asyncio.run(asyncio.sleep(0))

    assert run_with(Recorder(EXISTING_TABLE), dict) == {}
