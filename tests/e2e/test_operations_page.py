"""docs/operations.md, typed as it stands: what an operator is told to do works, and prints what the page shows."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from chromadb_compaction.local import server
from tests.e2e.pages import Block, Ids, Rehearsal, read_page
from tests.e2e.rehearsals import REHEARSALS, Stage
from tests.stack import Stack

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
SECTIONS = {section.heading: section for section in read_page(PAGE.read_text(encoding="utf-8"))}
SECONDS = 120

AWS = """#!/bin/sh
# Version 1 of the AWS command line asks the real SQS, whatever AWS_ENDPOINT_URL says, unless it is told so here.
exec {bin}/aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"
"""
PULUMI = """#!/bin/sh
# Answers what Pulumi would of the stack, and notes what it is told to do.
if [ "$*" = "stack output --shell" ]; then cat "$PULUMI_OUTPUTS"; else printf '%s\\n' "$*" >> "$PULUMI_TOLD"; fi
"""


class Ended(NamedTuple):
    """How a block's commands ended, and all that they printed."""

    code: int
    printed: str


class Terminal:
    """A shell at which the page's blocks are typed, with `aws` and this package's program at hand."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self._stack = stack
        self._directory = directory
        self._names = {
            "-prod": f"-{stack.deployed.name}",
            "123456789012": server.ACCOUNT,
            "eu-central-1": server.REGION,
        }
        own, programs = directory / "bin", Path(sys.executable).parent
        own.mkdir()
        self._told = directory / "told-to-pulumi"
        outputs = directory / "outputs"
        outputs.write_text("".join(f"{name}={value}\n" for name, value in stack.deployed.exports.items()))
        for name, script in (("aws", AWS.format(bin=shlex.quote(str(programs)))), ("pulumi", PULUMI)):
            (own / name).write_text(script, encoding="utf-8")
            (own / name).chmod(0o755)
        self._environment = {
            **os.environ,
            **stack.env,
            "PATH": f"{own}:{programs}:{os.environ['PATH']}",
            "PULUMI_OUTPUTS": str(outputs),
            "PULUMI_TOLD": str(self._told),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "",
            "TZ": "UTC",
        }

    def type(self, commands: str) -> Ended:
        """Type commands, the first that fails being the last."""
        done = subprocess.run(
            ["bash", "-c", f"set -euo pipefail\n{self._as_it_is(commands)}"],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )
        return Ended(done.returncode, self._as_on_the_page(done.stdout))

    def told_to_pulumi(self) -> list[list[str]]:
        """Return the commands that Pulumi was given since the last time, each as its words."""
        if not self._told.exists():
            return []
        lines = self._told.read_text(encoding="utf-8").splitlines()
        self._told.unlink()
        return [line.split(" ") for line in lines]

    def _as_on_the_page(self, printed: str) -> str:
        """Give the stack, its account and region the names that they have on the page."""
        for shown, real in self._names.items():
            printed = re.sub(rf"{real}\b", shown, printed)
        return printed

    def _as_it_is(self, commands: str) -> str:
        for shown, real in self._names.items():
            commands = re.sub(rf"{shown}\b", real, commands)
        return commands


@pytest.fixture
def stage(stack: Stack, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(stack, tmp_path, [])
    yield stage
    # The page starts the schedule again, which other tests on this stack do not expect.
    stack.deployed.client("events").disable_rule(Name=f"chromadb-compaction-{stack.deployed.name}-schedule")
    stack.eventually(lambda: not stack.running_executions(), "what the page has started is over")
    for undo in stage.undo:
        undo()


@pytest.mark.parametrize("heading", SECTIONS)
def test_what_the_page_tells_to_type_does_what_it_says(
    heading: str, stage: Stage, deploy: Callable[..., Stack]
) -> None:
    terminal, ids, settings = Terminal(stage.stack, stage.directory), Ids(), Settings()
    for step in SECTIONS[heading].steps:
        if isinstance(step, Rehearsal):
            REHEARSALS[step.name](stage)
            continue
        type_as_it_stands(step, stage.stack, terminal, ids)
        for words in terminal.told_to_pulumi():
            settings.tell(words)
            if settings.up:
                deploy(config=settings.chosen)


def type_as_it_stands(block: Block, stack: Stack, terminal: Terminal, ids: Ids) -> None:
    before = executions(stack)
    ended = terminal.type(ids.typed(block))
    assert ended.code == block.exit_code, f"line {block.line}: exit code {ended.code}\n{ended.printed}"
    if block.output is not None:
        ids.learn(block, ended.printed)
    if "aws lambda invoke" in block.commands:
        # It returns before what it starts has started.
        stack.eventually(lambda: executions(stack) > before, "the invocation starts an execution")


def executions(stack: Stack) -> int:
    pages = stack.sfn.get_paginator("list_executions").paginate(stateMachineArn=str(stack.settings.state_machine_arn))
    return sum(len(page["executions"]) for page in pages)


class Settings:
    """What `pulumi config set` was told, for a deployment that shows whether the program takes it."""

    def __init__(self) -> None:
        self.chosen: dict[str, str] = {}
        self.up = False

    def tell(self, words: list[str]) -> None:
        self.up = words == ["up"]
        if self.up:
            return
        assert words[:2] == ["config", "set"], words
        path = words[2] == "--path"
        name, value = words[2 + path].removeprefix("chromadb:"), " ".join(words[3 + path :])
        if path:
            name, key = name.split(".")
            value = json.dumps({**json.loads(self.chosen.get(name, "{}")), key: json.loads(value)})
        self.chosen[name] = value


def test_every_rehearsal_is_on_the_page() -> None:
    steps = [step for section in SECTIONS.values() for step in section.steps]
    assert {step.name for step in steps if isinstance(step, Rehearsal)} == REHEARSALS.keys()
