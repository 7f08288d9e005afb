"""The policies for people: each kind of user can run all of its commands, and can do no more."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import boto3
import pytest
from chromadb.errors import ChromaError

from chromadb_compaction import Client, DeltaWriter
from chromadb_compaction.errors import CompactionError
from tests.e2e.attempts import DELTA, FILE, KEYS, MARKER, POINTER, QUARANTINED, Role, is_denied
from tests.e2e.command_cases import CASES, Succeeds, Words
from tests.e2e.command_setups import Baseline, make_baseline, restored_sandbox
from tests.e2e.commands import Cli, command_line
from tests.e2e.conftest import STACKS, StackPool
from tests.e2e.people import person
from tests.e2e.setups import Sandbox
from tests.stack import Stack

pytestmark = pytest.mark.e2e

READING: frozenset[Words] = frozenset(
    {
        ("query",),
        ("serve",),
        ("collections", "list"),
        ("collections", "show"),
        ("snapshots", "list"),
        ("snapshots", "show"),
        ("snapshots", "pull"),
        ("snapshots", "verify"),
    }
)
COMMANDS: Mapping[str, frozenset[Words]] = {
    "writer": frozenset({("put",)}),
    "reader": READING,
    "operator": frozenset(command for command in CASES if command[0] != "local"),
}
"""The commands of each kind of user."""

ALLOWED: Mapping[str, tuple[str, ...]] = {
    "writer": ("put delta/*", "queue send"),
    "reader": ("get snapshot/*", "list snapshot/", "get delta/*", "list delta/"),
    "operator": (
        "list *",
        "get *",
        *(f"{verb} {prefix}/*" for verb in ("put", "delete") for prefix in ("delta", "quarantine", "snapshot")),
        "copy snapshot to delta",
        "lock *_item",
        "queue send",
        "dead letter",
        "read dead letters",
        "start",
    ),
}
"""The attempts that each policy allows."""


@pytest.fixture(scope="module")
def prepared(stack_pool: StackPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Baseline]]:
    """Yield a stack with something of everything."""
    stack = stack_pool.take({}, {})
    baseline = make_baseline(Sandbox(stack, tmp_path_factory.mktemp("preparing"), []))
    yield stack, baseline
    stack_pool.put_back(stack)


class Office(NamedTuple):
    """The sandbox, the values for the names in arguments, and the command line."""

    sandbox: Sandbox
    facts: Mapping[str, str]
    cli: Cli
    monkeypatch: pytest.MonkeyPatch

    def act_as(self, *kinds: str) -> None:
        """Use the credentials of a person with these policies."""
        # boto3 keeps a session with the credentials of its first client.
        self.monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        for name, value in person(self.sandbox.stack, *kinds).environment().items():
            self.monkeypatch.setenv(name, value)

    def words(self, arguments: str) -> list[str]:
        """Return arguments with each name in angle brackets replaced by its value."""
        filled = arguments
        for name, value in self.facts.items():
            filled = filled.replace(f"<{name}>", value)
        return shlex.split(filled)


@pytest.fixture
def office(
    prepared: tuple[Stack, Baseline],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Office]:
    stack, baseline = prepared
    request.node.stash[STACKS] = [stack]
    cli = command_line(stack, monkeypatch, capsys)
    monkeypatch.setenv("CHROMADB_CACHE_DIR", str(tmp_path / "cache"))
    with restored_sandbox(stack, baseline, tmp_path) as sandbox:
        yield Office(sandbox, {**baseline.facts, "files": str(tmp_path)}, cli, monkeypatch)


def named(kind: str, command: Words, case: Succeeds) -> str:
    return " ".join((f"{kind}:", *command, case.arguments, case.setup.__name__ if case.setup else ""))


COMMAND_CASES = {
    named(kind, command, case): (kind, command, case)
    for kind, commands in COMMANDS.items()
    for command in sorted(commands)
    for case in CASES[command].succeeds
}
FIRST_CASES = {named(kind, command, CASES[command].succeeds[0]) for kind in COMMANDS for command in COMMANDS[kind]}


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[] if each in FIRST_CASES else pytest.mark.slow) for each in COMMAND_CASES]
)
def test_a_person_can_run_every_command_of_their_kind(office: Office, name: str) -> None:
    kind, command, case = COMMAND_CASES[name]
    if case.setup:
        case.setup(office.sandbox)
    office.act_as(kind)

    ended = office.cli(*command, *office.words(case.arguments))

    assert ended.code == 0, ended.err


@pytest.mark.parametrize("kind", ["writer", "reader"])
@pytest.mark.parametrize("command", ["compact", "status", "lock show", "deltas requeue --all", "snapshots rollback 1"])
def test_writers_and_readers_cannot_operate(office: Office, kind: str, command: str) -> None:
    office.act_as(kind)

    ended = office.cli(*command.split())

    assert ended.code != 0, ended.out
    assert "is denied" in ended.out + ended.err


# Programs.


def test_a_writers_program_writes_deltas_and_cannot_read(office: Office) -> None:
    office.act_as("writer")

    with DeltaWriter() as writer:
        writer.upsert("notes", ["by a writer"], [[0.0] * 255 + [1.0]])

    assert [key for key in office.sandbox.stack.keys("delta/notes/") if office.facts["pending"] not in key]
    with Client() as client, pytest.raises((ChromaError, CompactionError), match=r"(?i)denied|permission"):
        client.list_collections()


def test_a_readers_program_reads_what_is_published_and_pending_and_cannot_write(office: Office) -> None:
    office.act_as("reader")
    before = office.sandbox.stack.keys()

    with Client() as client:
        notes = client.get_collection("notes", embedding_function=None)
        assert notes.count() > 0
        with pytest.raises((ChromaError, CompactionError), match=r"(?i)denied|permission"):
            notes.delete(ids=notes.peek(1)["ids"])

    writer = DeltaWriter()
    writer.upsert("notes", ["by a reader"], [[0.0] * 255 + [1.0]])
    with pytest.raises(CompactionError, match=r"(?i)denied|permission"):
        writer.flush()
    assert office.sandbox.stack.keys() == before


def test_a_program_with_both_policies_uses_the_whole_client(office: Office) -> None:
    office.act_as("writer", "reader")

    with Client() as client:
        notes = client.get_collection("notes", embedding_function=None)
        (known,) = notes.peek(1)["ids"]
        notes.update(ids=[known], metadatas=[{"seen": True}])
        assert (notes.get(ids=[known])["metadatas"] or [{}])[0]["seen"] is True


# The policies allow nothing else.


@pytest.mark.parametrize("kind", ALLOWED)
def test_a_policy_allows_nothing_else(office: Office, kind: str) -> None:
    stack = office.sandbox.stack
    stack.put_objects(dict.fromkeys(KEYS, b"content"))

    attempts = Role(stack, person(stack, kind).arn).attempts()

    denied = {name: is_denied(attempt) for name, attempt in attempts.items()}
    assert denied == {name: not any(fnmatchcase(name, pattern) for pattern in ALLOWED[kind]) for name in denied}
    stack.empty()
    assert {f"get {POINTER}", f"put {DELTA}", f"delete {FILE}", f"put {MARKER}", f"put {QUARANTINED}"} <= denied.keys()
