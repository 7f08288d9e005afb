"""Each function has the right code, size and timeout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pulumi import FileArchive

from chromadb_compaction.settings import Settings
from infra.config import ConfigurationRefused, parse_config
from infra.environment import ALLOCATORS, READ_BOUNDS
from infra.task_lambdas import task_specs
from tests.infra.declared import IMAGE, VERSION, declared

ZIPPED = ["acquire-lock", "list-deltas", "clean-up", "release-lock"]
IN_IMAGE = ["merge-batch", "compactor", "fold-partitions", "producer", "query"]
RENEWING = ["list-deltas", "merge-batch", "compactor", "fold-partitions", "clean-up"]


def function(task: str, **config: str) -> dict[str, Any]:
    return declared(**config).function(task)


def test_there_is_one_function_for_each_task_and_no_other() -> None:
    names = {f.inputs["name"] for f in declared().of_type("Function")}
    assert names == {f"chromadb-{task}-dev" for task in ZIPPED + IN_IMAGE}


@pytest.mark.parametrize("task", ZIPPED)
def test_functions_without_chromadb_are_small_zips(task: str) -> None:
    inputs = function(task)
    assert inputs["handler"] == f"tasks.{task.replace('-', '_')}.handler"
    assert inputs["runtime"] == "python3.12"
    assert "imageUri" not in inputs


def test_the_zip_is_made_of_the_configured_directory(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    archive = function("clean-up", packageDir=str(tmp_path))["code"]
    assert isinstance(archive, FileArchive)
    assert archive.path == str(tmp_path)


@pytest.mark.parametrize("task", IN_IMAGE)
def test_functions_with_chromadb_are_images_that_start_their_own_handler(task: str) -> None:
    inputs = function(task)
    assert (inputs["packageType"], inputs["imageUri"]) == ("Image", IMAGE)
    assert inputs["imageConfig"] == {"commands": [f"tasks.{task.replace('-', '_')}.handler"]}
    assert not {"runtime", "handler", "code"} & inputs.keys()


@pytest.mark.parametrize("task", ZIPPED + IN_IMAGE)
def test_every_function_runs_on_arm_unless_the_architecture_is_configured(task: str) -> None:
    assert function(task)["architectures"] == ["arm64"]
    assert function(task, architecture="x86_64")["architectures"] == ["x86_64"]


@pytest.mark.parametrize("task", ZIPPED + IN_IMAGE)
def test_every_function_gets_every_setting(task: str) -> None:
    variables = function(task)["environment"]["variables"]
    bounds = {name: str(Settings.model_fields[name.lower()].default) for name in READ_BOUNDS}
    of_people = {name for name in declared().outputs if "_POLICY" in name}
    exported = {name: value for name, value in declared().outputs.items() if name not in of_people}
    assert variables == exported | bounds | (ALLOCATORS if task in IN_IMAGE else {})


@pytest.mark.parametrize("task", RENEWING)
def test_a_task_that_cannot_renew_ends_before_its_lease(task: str) -> None:
    inputs = function(task)
    assert inputs["timeout"] < int(inputs["environment"]["variables"]["LOCK_TIMEOUT_MINUTES"]) * 60


@pytest.mark.parametrize("task", ZIPPED + IN_IMAGE)
def test_every_function_publishes_a_version_that_its_alias_names(task: str) -> None:
    assert function(task)["publish"] is True
    (alias,) = (a.inputs for a in declared().of_type("Alias") if a.inputs["functionName"] == f"chromadb-{task}-dev")
    assert (alias["name"], alias["functionVersion"]) == ("live", VERSION)


@pytest.mark.parametrize("task", ["compactor", "query"])
def test_functions_that_hold_a_snapshot_have_the_largest_disk(task: str) -> None:
    assert function(task)["ephemeralStorage"] == {"size": 10240}


@pytest.mark.parametrize("task", ["compactor", "query"])
def test_the_size_of_functions_that_hold_a_snapshot_can_be_configured(task: str) -> None:
    inputs = function(task, memory=f'{{"{task}": 5120}}', ephemeralStorage=f'{{"{task}": 4096}}')
    assert (inputs["memorySize"], inputs["ephemeralStorage"]) == (5120, {"size": 4096})


def test_the_timeout_of_one_function_can_be_configured() -> None:
    stack = declared(timeout='{"merge-batch": 600}')
    assert [stack.function(task)["timeout"] for task in ("merge-batch", "compactor")] == [600, 840]


@pytest.mark.parametrize("task", ZIPPED + IN_IMAGE)
def test_every_function_is_traced(task: str) -> None:
    assert function(task)["tracingConfig"] == {"mode": "Active"}


def test_no_function_needs_more_memory_than_a_new_account_has() -> None:
    assert all(f.inputs["memorySize"] <= 3008 for f in declared().of_type("Function"))


def test_the_functions_that_list_and_clean_up_have_512_megabytes() -> None:
    assert [function(task)["memorySize"] for task in ("list-deltas", "clean-up")] == [512, 512]


def test_concurrency_is_reserved_for_four_functions() -> None:
    reserved = {
        f.inputs["name"]: f.inputs["reservedConcurrentExecutions"]
        for f in declared().of_type("Function")
        if "reservedConcurrentExecutions" in f.inputs
    }
    assert reserved == {
        "chromadb-merge-batch-dev": 10,
        "chromadb-fold-partitions-dev": 10,
        "chromadb-compactor-dev": 2,
        "chromadb-release-lock-dev": 2,
    }


def test_reserved_concurrency_can_be_switched_off() -> None:
    stack = declared(reserveConcurrency="false")
    assert not [f for f in stack.of_type("Function") if "reservedConcurrentExecutions" in f.inputs]


@pytest.mark.parametrize(
    ("settings", "most"),
    [({}, 10), ({"mapConcurrency": "3"}, 3), ({"reserveConcurrency": "false"}, 4)],
)
def test_the_maps_and_the_reservations_of_their_functions_agree(settings: dict[str, str], most: int) -> None:
    stack = declared(**settings)
    definition = json.loads(stack.one("StateMachine", "chromadb-compaction-dev")["definition"])
    maps = {"MergeBatches": "chromadb-merge-batch-dev", "FoldPartitions": "chromadb-fold-partitions-dev"}

    for state, function in maps.items():
        assert definition["States"][state]["MaxConcurrency"] == most
        assert stack.one("Function", function).get("reservedConcurrentExecutions", most) == most


def test_the_function_that_folds_has_the_compactors_size_unless_it_has_its_own() -> None:
    stack = declared(memory='{"compactor": 5120}', timeout='{"compactor": 600, "fold-partitions": 300}')
    folds = stack.function("fold-partitions")
    assert (folds["memorySize"], folds["timeout"]) == (5120, 300)


@pytest.mark.parametrize("task", ZIPPED + IN_IMAGE)
def test_every_function_has_a_log_that_expires(task: str) -> None:
    assert declared().one("LogGroup", f"/aws/lambda/chromadb-{task}-dev")["retentionInDays"] == 30


def test_the_days_that_logs_are_kept_can_be_configured() -> None:
    assert {log.inputs["retentionInDays"] for log in declared(logRetentionDays="90").of_type("LogGroup")} == {90}


@pytest.mark.parametrize(
    "config",
    [
        {"lockTimeoutMinutes": "14"},
        {"timeout": '{"clean-up": 900}'},
        {
            "lockTimeoutMinutes": "5",
            "timeout": '{"list-deltas": 60, "merge-batch": 60, "compactor": 300, "clean-up": 60}',
        },
    ],
)
def test_no_task_of_the_workflow_may_outlive_its_lease(config: dict[str, str]) -> None:
    with pytest.raises(ConfigurationRefused, match=r"longer than its lease of \d+ s; raise lockTimeoutMinutes"):
        task_specs(parse_config({"imageUri": IMAGE, **config}))


def test_a_query_may_run_longer_than_a_lease() -> None:
    short = '{"list-deltas": 60, "merge-batch": 60, "compactor": 60, "clean-up": 60}'
    specs = task_specs(parse_config({"imageUri": IMAGE, "lockTimeoutMinutes": "2", "timeout": short}))
    assert {spec.task: spec.seconds for spec in specs}["query"] == 300
