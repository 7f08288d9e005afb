"""The commands of docs/operations.md, run unchanged: they work, and they print what the page shows."""

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
from tests.e2e.page_commands import Block, Ids, SetupStep, read_page
from tests.e2e.people import person
from tests.e2e.setups import SETUPS, Sandbox
from tests.stack import Stack

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
SECTIONS = {section.heading: section for section in read_page(PAGE.read_text(encoding="utf-8"))}
SECONDS = 120

AWS = """#!/bin/sh
# Version 1 of the AWS command line ignores AWS_ENDPOINT_URL for SQS.
exec {bin}/aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"
"""
PULUMI = """#!/bin/sh
# Prints the outputs of the stack, and logs every other command.
if [ "$*" = "stack output --shell" ]; then cat "$PULUMI_OUTPUTS"; else printf '%s\\n' "$*" >> "$PULUMI_LOG"; fi
"""


class CommandResult(NamedTuple):
    """The exit code and the output of a block's commands."""

    code: int
    printed: str


class Terminal:
    """An operator's shell for the page's blocks, with `aws` and this package's program on its path."""

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
        self._pulumi_log = directory / "pulumi-log"
        outputs = directory / "outputs"
        exports = stack.deployed.exports.items()
        outputs.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in exports))
        for name, script in (("aws", AWS.format(bin=shlex.quote(str(programs)))), ("pulumi", PULUMI)):
            (own / name).write_text(script, encoding="utf-8")
            (own / name).chmod(0o755)
        self._environment = {
            **os.environ,
            **stack.env,
            **person(stack, "operator").environment(),
            "PATH": f"{own}:{programs}:{os.environ['PATH']}",
            "PULUMI_OUTPUTS": str(outputs),
            "PULUMI_LOG": str(self._pulumi_log),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "",
            "TZ": "UTC",
        }

    def run(self, commands: str) -> CommandResult:
        """Run commands until one fails. Only an administrator may delete a version of an object."""
        admin = self._stack.env if "--version-id" in commands else {}
        done = subprocess.run(
            ["bash", "-c", f"set -euo pipefail\n{self._with_real_names(commands)}"],
            cwd=self._directory,
            env={**self._environment, **admin},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )
        return CommandResult(done.returncode, self._with_page_names(done.stdout))

    def take_pulumi_commands(self) -> list[list[str]]:
        """Return the commands that Pulumi has got since the last call, each as its words."""
        if not self._pulumi_log.exists():
            return []
        lines = self._pulumi_log.read_text(encoding="utf-8").splitlines()
        self._pulumi_log.unlink()
        return [line.split(" ") for line in lines]

    def _with_page_names(self, printed: str) -> str:
        """Replace the names of the stack, its account and region by those of the page."""
        for shown, real in self._names.items():
            printed = re.sub(rf"{real}\b", shown, printed)
        return printed

    def _with_real_names(self, commands: str) -> str:
        for shown, real in self._names.items():
            commands = re.sub(rf"{shown}\b", real, commands)
        return commands


@pytest.fixture
def sandbox(stack: Stack, tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(stack, tmp_path, [])
    yield sandbox
    # The page enables the schedule, but other tests on this stack need it disabled.
    stack.deployed.client("events").disable_rule(Name=f"chromadb-compaction-{stack.deployed.name}-schedule")
    stack.eventually(lambda: not stack.running_executions(), "the executions that the page started have ended")
    for undo in sandbox.undo:
        undo()


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_commands_of_the_page_print_what_the_page_shows(
    heading: str, sandbox: Sandbox, deploy: Callable[..., Stack]
) -> None:
    terminal, ids, settings = Terminal(sandbox.stack, sandbox.directory), Ids(), Settings()
    for step in SECTIONS[heading].steps:
        if isinstance(step, SetupStep):
            SETUPS[step.name](sandbox)
            continue
        run_block(step, sandbox.stack, terminal, ids)
        for words in terminal.take_pulumi_commands():
            settings.apply(words)
            if settings.up:
                deploy(config=settings.chosen)


def run_block(block: Block, stack: Stack, terminal: Terminal, ids: Ids) -> None:
    before = executions(stack)
    ended = terminal.run(ids.with_real_ids(block))
    assert ended.code == block.exit_code, f"line {block.line}: exit code {ended.code}\n{ended.printed}"
    if block.output is not None:
        ids.compare(block, ended.printed)
    if "aws lambda invoke" in block.commands:
        # The command returns before the execution has started.
        stack.eventually(lambda: executions(stack) > before, "the invocation starts an execution")


def executions(stack: Stack) -> int:
    pages = stack.sfn.get_paginator("list_executions").paginate(stateMachineArn=str(stack.settings.state_machine_arn))
    return sum(len(page["executions"]) for page in pages)


class Settings:
    """The values of `pulumi config set`, for a deployment that checks whether the program accepts them."""

    def __init__(self) -> None:
        self.chosen: dict[str, str] = {}
        self.up = False

    def apply(self, words: list[str]) -> None:
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


def test_every_setup_is_used_on_the_page() -> None:
    steps = [step for section in SECTIONS.values() for step in section.steps]
    assert {step.name for step in steps if isinstance(step, SetupStep)} == SETUPS.keys()
