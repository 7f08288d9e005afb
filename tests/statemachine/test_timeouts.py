"""Who gives up first: the function, then its state, then the machine."""

from __future__ import annotations

import pytest

from infra.config import CompactionConfig
from infra.state_machine import PLACEHOLDERS
from infra.task_lambdas import task_specs
from tests.statemachine.definition import Json, load, tasks

IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/chromadb-compaction:test"
SECONDS: dict[str, int] = {spec.task: spec.seconds for spec in task_specs(CompactionConfig(imageUri=IMAGE))}


def function_seconds(state: Json) -> int:
    """Return the timeout of the function that a task calls."""
    return SECONDS[PLACEHOLDERS[state["Parameters"]["FunctionName"].strip("${}")]]


@pytest.mark.parametrize("task", sorted(tasks(load())))
def test_a_function_ends_before_its_state_gives_it_up_so_that_none_works_on_unseen(task: str) -> None:
    state = tasks(load())[task]

    assert function_seconds(state) < state["TimeoutSeconds"]


def test_the_machine_outlasts_any_one_pass_even_if_each_task_takes_all_its_time() -> None:
    states = tasks(load())
    once = sum(state["TimeoutSeconds"] for name, state in states.items() if name != "MergeBatch")
    rounds_of_the_map = 40 // load()["States"]["MergeBatches"]["MaxConcurrency"]

    assert once + rounds_of_the_map * states["MergeBatch"]["TimeoutSeconds"] < load()["TimeoutSeconds"]
