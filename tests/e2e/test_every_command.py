"""Every command and every option, with and without --json, where it succeeds and where it fails."""

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
from tests.e2e.command_cases import CASES, Fails, Succeeds, Words
from tests.e2e.command_setups import Baseline, make_baseline, restored_sandbox
from tests.e2e.commands import Cli, CommandResult, command_line
from tests.e2e.conftest import STACKS, StackPool
from tests.e2e.setups import Sandbox
from tests.stack import Stack

pytestmark = pytest.mark.e2e


class Runner(NamedTuple):
    """The sandbox, the values for the names in arguments, and the command line."""

    sandbox: Sandbox
    facts: dict[str, str]
    cli: Cli

    def run(self, command: Words, case: Succeeds | Fails, *more: str) -> CommandResult:
        """Run the setup of a case, then its command."""
        if case.setup:
            case.setup(self.sandbox)
        return self.cli(*command, *map(self.fill_in, shlex.split(case.arguments)), *more)

    def fill_in(self, words: str) -> str:
        """Return `words` with each name in angle brackets replaced by its value."""
        for name, value in self.facts.items():
            words = words.replace(f"<{name}>", value)
        return words


@pytest.fixture(scope="module")
def everything(
    stack_pool: StackPool, local_server: StackHome, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stack, Baseline]]:
    """Yield a stack with something of everything. Making the content takes longer than restoring it."""
    stack = stack_pool.take({}, {})
    yield stack, make_baseline(Sandbox(stack, tmp_path_factory.mktemp("preparing"), []))
    stack_pool.put_back(stack)


@pytest.fixture
def runner(
    everything: tuple[Stack, Baseline],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Runner]:
    stack, baseline = everything
    request.node.stash[STACKS] = [stack]
    cli = command_line(stack, monkeypatch, capsys)
    monkeypatch.setenv("CHROMADB_CACHE_DIR", str(tmp_path / "cache"))
    terminate = signal.getsignal(signal.SIGTERM)
    facts = {
        "files": str(tmp_path),
        "server": str(stack.home.path),
        "port": str(urlsplit(stack.deployed.endpoint).port),
    }
    with restored_sandbox(stack, baseline, tmp_path) as sandbox:
        yield Runner(sandbox, {**baseline.facts, **facts, "stack": stack.deployed.name}, cli)
        signal.signal(signal.SIGTERM, terminate)


def case_name(command: Words, case: Succeeds | Fails) -> str:
    setup = case.setup.__name__.replace("_", " ") if case.setup else ""
    return " ".join(filter(None, (*command, case.arguments, setup and f"({setup})")))


SUCCEEDS = {case_name(command, case): (command, case) for command in CASES for case in CASES[command].succeeds}
FAILS = {case_name(command, case): (command, case) for command in CASES for case in CASES[command].fails}


@pytest.mark.parametrize("name", SUCCEEDS)
def test_a_command_prints_its_result(runner: Runner, name: str) -> None:
    command, case = SUCCEEDS[name]

    ended = runner.run(command, case)

    assert ended.code == 0, ended.err
    assert runner.fill_in(case.prints) in ended.out + ended.err


@pytest.mark.parametrize("name", SUCCEEDS)
def test_a_command_with_json_prints_nothing_but_json(runner: Runner, name: str) -> None:
    command, case = SUCCEEDS[name]

    ended = runner.run(command, case, "--json")

    assert ended.code == 0, ended.err
    answer = ended.json[0] if isinstance(ended.json, list) else ended.json
    assert CASES[command].json_key in answer


@pytest.mark.parametrize("name", FAILS)
def test_a_command_that_fails_exits_with_its_code_and_an_error_on_stderr(runner: Runner, name: str) -> None:
    command, case = FAILS[name]

    plain = runner.run(command, case)
    as_json = runner.run(command, case._replace(setup=None), "--json")

    for ended in (plain, as_json):
        assert ended.code == case.code, ended.err
        assert runner.fill_in(case.prints) in ended.err
        assert "Traceback" not in ended.err
    assert not as_json.out or as_json.json is not None


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


def test_every_command_has_cases_that_succeed_and_cases_that_fail() -> None:
    assert CASES.keys() == COMMANDS.keys()
    assert all(cases.succeeds and cases.fails for cases in CASES.values())


@pytest.mark.parametrize("command", CASES, ids=" ".join)
def test_every_option_of_a_command_is_used_in_a_case(command: Words) -> None:
    lines: list[Succeeds | Fails] = [*CASES[command].succeeds, *CASES[command].fails]
    used = {word for line in lines for word in shlex.split(line.arguments)} | {"--json"}
    options = [set(option.opts) for option in COMMANDS[command].params if option.param_type_name == "option"]
    assert [names for names in options if not names & used] == []
