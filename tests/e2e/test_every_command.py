"""Every command is driven, for a person and for a program, when all is well and when it is not."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click
import pytest
import typer

from chromadb_compaction.cli.app import build
from chromadb_compaction.local.home import StackHome
from tests.e2e.commands import Cli, Ended, command_line
from tests.e2e.conftest import STACKS, StackPool
from tests.e2e.driven import DRIVEN, Fails, Typed, Words
from tests.e2e.rehearsals import Stage
from tests.e2e.stages import Usual, prepare, write_files
from tests.stack import Stack

pytestmark = pytest.mark.e2e


class Driver(NamedTuple):
    """The stage, what stands for what in arguments, and the program."""

    stage: Stage
    facts: dict[str, str]
    cli: Cli

    def type(self, command: Words, typed: Typed | Fails, *more: str) -> Ended:
        """Type a command line once what it is given has happened."""
        if typed.given:
            typed.given(self.stage)
        return self.cli(*command, *map(self.named, shlex.split(typed.arguments)), *more)

    def named(self, words: str) -> str:
        """Return `words` with what stands for something replaced by it."""
        for name, value in self.facts.items():
            words = words.replace(f"<{name}>", value)
        return words


@pytest.fixture(scope="module")
def everything(
    stack_pool: StackPool, local_server: StackHome, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stack, Usual]]:
    """Give a stack on which there is something of everything; making it takes longer than putting it back."""
    stack = stack_pool.take({}, {})
    yield stack, prepare(Stage(stack, tmp_path_factory.mktemp("preparing"), []))
    stack_pool.put_back(stack)


@pytest.fixture
def driver(
    everything: tuple[Stack, Usual],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Driver]:
    stack, usual = everything
    request.node.stash[STACKS] = [stack]
    stack.mark_logs()
    usual.restore(stack)
    stage = Stage(stack, tmp_path, [])
    write_files(stage)
    cli = command_line(stack, monkeypatch, capsys)
    monkeypatch.setenv("CHROMADB_CACHE_DIR", str(tmp_path / "cache"))
    terminate = signal.getsignal(signal.SIGTERM)
    facts = {
        "files": str(tmp_path),
        "server": str(stack.home.path),
        "port": str(urlsplit(stack.deployed.endpoint).port),
    }
    yield Driver(stage, {**usual.facts, **facts, "stack": stack.deployed.name}, cli)
    signal.signal(signal.SIGTERM, terminate)
    for undo in reversed(stage.undo):
        undo()
    for execution in stack.running_executions():
        stack.sfn.stop_execution(executionArn=execution)


def named(command: Words, typed: Typed | Fails) -> str:
    given = typed.given.__name__.replace("_", " ") if typed.given else ""
    return " ".join(filter(None, (*command, typed.arguments, given and f"({given})")))


SUCCEEDS = {named(command, typed): (command, typed) for command in DRIVEN for typed in DRIVEN[command].succeeds}
FAILS = {named(command, typed): (command, typed) for command in DRIVEN for typed in DRIVEN[command].fails}


@pytest.mark.parametrize("case", SUCCEEDS)
def test_a_command_tells_a_person(driver: Driver, case: str) -> None:
    command, typed = SUCCEEDS[case]

    ended = driver.type(command, typed)

    assert ended.code == 0, ended.err
    assert driver.named(typed.says) in ended.out + ended.err


@pytest.mark.parametrize("case", SUCCEEDS)
def test_a_command_tells_a_program_nothing_but_json(driver: Driver, case: str) -> None:
    command, typed = SUCCEEDS[case]

    ended = driver.type(command, typed, "--json")

    assert ended.code == 0, ended.err
    answer = ended.json[0] if isinstance(ended.json, list) else ended.json
    assert DRIVEN[command].answers in answer


@pytest.mark.parametrize("case", FAILS)
def test_a_command_that_fails_says_so_by_its_code_and_on_stderr(driver: Driver, case: str) -> None:
    command, typed = FAILS[case]

    told = driver.type(command, typed)
    told_a_program = driver.type(command, typed._replace(given=None), "--json")

    for ended in (told, told_a_program):
        assert ended.code == typed.code, ended.err
        assert driver.named(typed.says) in ended.err
        assert "Traceback" not in ended.err
    assert not told_a_program.out or told_a_program.json is not None


def commands() -> dict[Words, click.Command]:
    """Return every command of the program by its words."""

    def below(group: Any, *words: str) -> Iterator[tuple[Words, click.Command]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from below(command, *words, name)
            else:
                yield (*words, name), command

    return dict(below(typer.main.get_command(build())))


COMMANDS = commands()


def test_every_command_of_the_program_is_driven() -> None:
    assert DRIVEN.keys() == COMMANDS.keys()
    assert all(driven.succeeds and driven.fails for driven in DRIVEN.values())


@pytest.mark.parametrize("command", DRIVEN, ids=" ".join)
def test_every_option_of_a_command_is_driven(command: Words) -> None:
    lines: list[Typed | Fails] = [*DRIVEN[command].succeeds, *DRIVEN[command].fails]
    typed = {word for line in lines for word in shlex.split(line.arguments)} | {"--json"}
    options = [set(option.opts) for option in COMMANDS[command].params if option.param_type_name == "option"]
    assert [names for names in options if not names & typed] == []
