"""The command line, run in this process with the environment of `chromadb-compaction local env`."""

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


class CommandResult(NamedTuple):
    """The exit code and the output of a command."""

    code: int | str | None
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The printed JSON."""
        return json.loads(self.out)

    @property
    def has_one_error(self) -> bool:
        """Return whether stderr has one error, on one line, and at most its next step on a second."""
        labels = [line.partition(": ")[0] for line in self.err.splitlines()]
        return labels in (["error"], ["error", "next"])


Cli = Callable[..., CommandResult]

read_service_files = functools.cache(JSONFileLoader().load_file)
"""Read each file of botocore only once, because hundreds of commands share this process."""


def command_line(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Return a function that runs `chromadb-compaction` with the given arguments against this stack."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging.getLogger("chromadb_compaction"), "handlers", [])
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda _self, path: read_service_files(path))
    for name, value in stack.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(stack.home.path / "put-journals"))

    def run_command(*arguments: str) -> CommandResult:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run(arguments)
        printed = capsys.readouterr()
        return CommandResult(end.value.code, printed.out, printed.err)

    return run_command
