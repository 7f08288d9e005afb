"""The command line as if it had been typed after `eval $(chromadb-compaction local env)`."""

from __future__ import annotations

import functools
import json
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from botocore.loaders import JSONFileLoader

from chromadb_compaction.cli.app import run
from tests.stack import Stack


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    code: int | str | None
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it said to a program."""
        return json.loads(self.out)

    @property
    def has_one_error(self) -> bool:
        """Return whether stderr has one error, on one line, and at most its next step on a second."""
        labels = [line.partition(": ")[0] for line in self.err.splitlines()]
        return labels in (["error"], ["error", "next"])


Cli = Callable[..., Ended]

read_service_files = functools.cache(JSONFileLoader().load_file)
"""botocore's, but each file once: in a process of its own every command needs them once, here hundreds share one."""


def command_line(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Return a function that types `chromadb-compaction` and its arguments at this stack."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging.getLogger("chromadb_compaction"), "handlers", [])
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda _self, path: read_service_files(path))
    for name, value in stack.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(stack.home.path / "put-journals"))

    def typed(*arguments: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run(arguments)
        said = capsys.readouterr()
        return Ended(end.value.code, said.out, said.err)

    return typed
