from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from chromadb_compaction.cli.common.exits import NothingFoundError
from chromadb_compaction.cli.executions.client import find
from chromadb_compaction.errors import AmbiguousIdError

MACHINE = "arn:aws:states:us-east-1:000000000000:stateMachine:compaction"
ARN = MACHINE.replace("stateMachine", "execution")


class NoSuchExecutionError(Exception):
    pass


class Executions:
    """A Step Functions client with executions of these names, the newest first."""

    exceptions = SimpleNamespace(ExecutionDoesNotExist=NoSuchExecutionError, InvalidArn=NoSuchExecutionError)

    def __init__(self, *names: str) -> None:
        self._names = names

    def list_executions(self, **asked: Any) -> dict[str, Sequence[object]]:
        return {"executions": [self._description(name) for name in self._names[: asked["maxResults"]]]}

    def describe_execution(self, **asked: Any) -> dict[str, object]:
        name = asked["executionArn"].removeprefix(f"{ARN}:")
        if name not in self._names:
            raise NoSuchExecutionError
        return self._description(name)

    def _description(self, name: str) -> dict[str, object]:
        started = datetime.fromtimestamp(1000.0 - self._names.index(name), UTC)
        return {"executionArn": f"{ARN}:{name}", "name": name, "status": "SUCCEEDED", "startDate": started}


def found(name: str | None) -> str:
    client: Any = Executions("2be34bff-9aef", "2be3ffff-0000", "nightly")
    return find(client, MACHINE, name).name


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (None, "2be34bff-9aef"),
        ("latest", "2be34bff-9aef"),
        ("nightly", "nightly"),
        ("nigh", "nightly"),
        (f"{ARN}:nightly", "nightly"),
    ],
)
def test_an_execution_is_found_by_name_arn_beginning_or_as_the_latest(typed: str | None, name: str) -> None:
    assert found(typed) == name


def test_a_beginning_of_several_names_lists_them() -> None:
    with pytest.raises(AmbiguousIdError, match="2be3 may mean 2be34bff-9aef, 2be3ffff-0000"):
        found("2be3")


def test_another_name_is_not_found() -> None:
    with pytest.raises(NothingFoundError, match="there is no execution"):
        found("nig")
