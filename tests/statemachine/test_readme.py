"""The README of the definition agrees with it: the diagram, the table of the state, the sizes."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import pytest

from tests.statemachine.definition import ASL_FILE, load, transitions
from tests.statemachine.sizes import COLLECTION, TYPICAL_COLLECTION, a_full_state, most_history_events

README = (ASL_FILE.parent / "README.md").read_text(encoding="utf-8")
NODE = r"(\w+)(?:[\[({]+([^\])}]+)[\])}]+)?"
ARROW = re.compile(rf"\s*{NODE}\s+(?:-->|-- (?:[^-]+) -->|-\. ([^.]+) \.->)\s+{NODE}")
KIBIBYTE = 1024


class Edge(NamedTuple):
    """A transition in the diagram or in the definition."""

    source: str
    target: str
    caught: bool


def diagram_edges() -> set[Edge]:
    """Return the diagram's transitions, with the state names of the definition."""
    lines = re.search(r"```mermaid\nflowchart TD\n(.*?)```", README, re.DOTALL)
    assert lines
    arrows = [ARROW.fullmatch(line) for line in lines[1].splitlines()]
    matched = [arrow for arrow in arrows if arrow]
    assert len(matched) == len(arrows), "a line of the diagram is not an arrow"
    ends = [(arrow[1], arrow[2]) for arrow in matched] + [(arrow[4], arrow[5]) for arrow in matched]
    questions = {name for name, label in ends if label and label.endswith("?")}
    names = {name: f"{name}?" if name in questions else name for name, _ in ends}
    return {Edge(names[arrow[1]], names[arrow[4]], caught=arrow[3] is not None) for arrow in matched}


def defined_edges() -> set[Edge]:
    """Return the definition's transitions. Error names end in Error or are States.ALL."""
    errors = ("Error", "States.ALL")
    return {Edge(arrow.source, arrow.target, caught=arrow.why.endswith(errors)) for arrow in transitions(load())}


def rows(header: str) -> list[list[str]]:
    """Return the cells of the table whose first line starts with `header`."""
    table = README[README.index(header) :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


STATE_FIELDS = rows("| name | added by")
EXAMPLES = {row[0].strip("`"): row[3].strip("`").rpartition("`, then `")[2] for row in STATE_FIELDS}
SIZES = rows("| | batches per pass")


def test_the_diagram_has_exactly_the_transitions_of_the_definition() -> None:
    assert diagram_edges() == defined_edges()


def test_the_table_lists_every_field_that_a_task_or_a_catch_adds() -> None:
    states = load()["States"].values()
    # FoldPartitions adds its results to `work`.
    paths = {state["ResultPath"] for state in states if "ResultPath" in state} - {"$.work.folded"}
    caught = {catcher["ResultPath"] for state in states for catcher in state.get("Catch", [])}

    listed = {f"$.{row[0].strip('`')}" for row in STATE_FIELDS}

    assert listed == (paths | caught | {"$.lease"}) - {"$"}


@pytest.mark.parametrize("row", STATE_FIELDS, ids=lambda row: row[0])
def test_no_field_of_the_state_exceeds_its_size_in_the_table(row: list[str]) -> None:
    part = a_full_state(batches=40, passes=25).get(row[0].strip("`"))

    assert len(json.dumps(part)) <= int(row[4].removesuffix(" KiB")) * KIBIBYTE


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if example.startswith(("{", "["))])
def test_the_example_in_the_table_has_the_keys_of_the_messages(name: str) -> None:
    assert _keys(json.loads(EXAMPLES[name])) == _keys(a_full_state(batches=40, passes=25)[name])


@pytest.mark.parametrize("row", SIZES, ids=lambda row: row[0])
def test_the_sizes_are_those_of_the_messages(row: list[str]) -> None:
    batches, passes = int(row[1]), int(row[2])
    extreme = "512" in row[0]
    state = a_full_state(
        batches=batches, passes=passes, collection=COLLECTION if extreme else TYPICAL_COLLECTION, failed=extreme
    )

    assert len(json.dumps(state)) <= int(row[3].removesuffix(" KiB")) * KIBIBYTE
    assert most_history_events(load(), batches=batches, passes=passes) == int(row[4].replace(",", ""))


def _keys(value: object) -> object:
    """Return the keys of a JSON value at every depth. A list has those of its first item."""
    if isinstance(value, list):
        return [_keys(each) for each in value[:1]]
    if isinstance(value, dict):
        return {name: _keys(part) for name, part in value.items() if name != "seconds"}
    return None
