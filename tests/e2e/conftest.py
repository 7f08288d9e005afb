"""Stacks for the tests: one server per test process, and one deployment per configuration, emptied for each test."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping

import pytest

from chromadb_compaction.local import server
from chromadb_compaction.local.deployment import Deployment, deploy_stack
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.local.resources.clients import AwsClients
from tests.stack import Stack

LOG_LINES = 60
DeployStack = Callable[..., Stack]


class StackPool:
    """Deployed stacks by configuration, kept because a new one takes seconds with its cold functions."""

    def __init__(self, home: StackHome, aws: AwsClients) -> None:
        self._home = home
        self._aws = aws
        self._stacks: dict[tuple[object, object], Stack] = {}
        self._deployed = 0

    def take(self, config: Mapping[str, str], environment: Mapping[str, str]) -> Stack:
        """Return an empty stack with this configuration."""
        key = (frozenset(config.items()), frozenset(environment.items()))
        if key in self._stacks:
            stack = self._stacks[key]
            stack.empty()
        else:
            stack = self._stacks[key] = self._deploy(config, environment)
        stack.mark_logs()
        return stack

    def forget(self, config: Mapping[str, str]) -> None:
        """Let later tests with this configuration get a new stack."""
        self._stacks.pop((frozenset(config.items()), frozenset()), None)

    def put_back(self, stack: Stack) -> None:
        """End a test's use of a stack. A stack with a running execution is not used again."""
        running = stack.running_executions()
        for execution in running:
            stack.sfn.stop_execution(executionArn=execution, cause="the test is over")
        if running:
            self._stacks = {key: kept for key, kept in self._stacks.items() if kept is not stack}

    def _deploy(self, config: Mapping[str, str], environment: Mapping[str, str]) -> Stack:
        self._deployed += 1
        # A query finds at once what a test has just written, or published.
        usual = {"enableCompaction": "false", "readRefreshSeconds": "0"}
        deployment = Deployment(f"test{self._deployed}", {**usual, **config}, environment)
        return Stack(deploy_stack(self._home, deployment, self._aws), self._home)


@pytest.fixture(scope="session")
def local_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackHome]:
    """Start one server per test process. It ends with the process, even if that is killed."""
    home = StackHome(tmp_path_factory.mktemp("local-stack"))
    server.start(home, end_with_parent=True)
    yield home
    server.stop(home)


@pytest.fixture(scope="session")
def stack_pool(local_server: StackHome) -> StackPool:
    """The pool of stacks in the server."""
    record = local_server.record()
    assert record is not None
    return StackPool(local_server, AwsClients(record.endpoint, record.secret))


@pytest.fixture
def deploy(stack_pool: StackPool, request: pytest.FixtureRequest) -> Iterator[DeployStack]:
    """Yield a function that returns an empty stack: `deploy(config={"maxBatchesPerPass": "2"}, environment={...})`.

    `config` has the keys of `pulumi config set chromadb:<key>`; `environment` goes to every function.
    """
    taken: list[Stack] = []
    request.node.stash[STACKS] = taken

    def take(*, config: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None) -> Stack:
        stack = stack_pool.take(config or {}, environment or {})
        taken.append(stack)
        return stack

    yield take
    for stack in taken:
        stack_pool.put_back(stack)


@pytest.fixture
def stack(deploy: DeployStack) -> Stack:
    """An empty stack with the program's defaults and without its schedule."""
    return deploy()


@pytest.fixture
def small_passes(deploy: DeployStack) -> Stack:
    """An empty stack with five deltas per batch and two batches per pass."""
    return deploy(config={"compactionBatchSize": "5", "maxBatchesPerPass": "2"})


@pytest.fixture
def every_minute(deploy: DeployStack) -> Stack:
    """An empty stack that EventBridge compacts every minute."""
    return deploy(config={"enableCompaction": "true", "compactionSchedule": "rate(1 minute)"})


STACKS = pytest.StashKey[list[Stack]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of server and functions for a test that failed."""
    report = yield
    if report.failed:
        for stack in item.stash.get(STACKS, []):
            for name, text in stack.new_logs().items():
                report.sections.append((f"log of {name}", "\n".join(text.splitlines()[-LOG_LINES:])))
    return report
