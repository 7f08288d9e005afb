"""The order of the timeouts: the function's is the shortest, then its state's, then the machine's."""

from __future__ import annotations

import pytest

from infra.config import CompactionConfig
from infra.state_machine import PLACEHOLDERS
from infra.task_lambdas import task_specs
from tests.statemachine.definition import Json, load, tasks

IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/chromadb-compaction@sha256:" + "0" * 64
SECONDS: dict[str, int] = {spec.task: spec.seconds for spec in task_specs(CompactionConfig(imageUri=IMAGE))}


def function_seconds(state: Json) -> int:
    """Return the timeout of the function that a task calls."""
    return SECONDS[PLACEHOLDERS[state["Parameters"]["FunctionName"].strip("${}")]]


@pytest.mark.parametrize("task", sorted(tasks(load())))
def test_the_timeout_of_a_function_is_shorter_than_that_of_its_state(task: str) -> None:
    state = tasks(load())[task]

    assert function_seconds(state) < state["TimeoutSeconds"]


def test_the_timeout_of_the_machine_is_longer_than_a_pass_of_the_longest_tasks() -> None:
    states = tasks(load())
    once = sum(state["TimeoutSeconds"] for name, state in states.items() if name != "MergeBatch")
    rounds_of_the_map = 40 // load()["States"]["MergeBatches"]["MaxConcurrency"]

    assert once + rounds_of_the_map * states["MergeBatch"]["TimeoutSeconds"] < load()["TimeoutSeconds"]
