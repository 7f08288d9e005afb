"""The output of a command: text for a person, or one JSON document for a program."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from chromadb_compaction.cli.common.console import err, out, print_error
from chromadb_compaction.cli.common.control_characters import escape_json
from chromadb_compaction.cli.common.exits import exit_code
from chromadb_compaction.cli.common.watch import watch_lines, watch_screen
from chromadb_compaction.errors import CompactionError

Value = TypeVar("Value")
Render = Callable[[Value], Iterable[RenderableType]]
"""Returns what a person sees of a value, from top to bottom. A `str` is rich markup. Lines are never wrapped."""


class Output(ABC):
    """The form in which a command prints its result. Commands get one from `output_for`.

    Attributes:
        progress: The console for progress bars. It writes to stderr, or nowhere.
    """

    progress: Console

    @abstractmethod
    def show(self, value: Value, render: Render[Value]) -> None:
        """Print a command's result to standard output. A command has at most one result.

        Args:
            value: A pydantic model, or any value that pydantic can convert to JSON.
            render: Renders `value` for a person.
        """

    @abstractmethod
    def show_next(self, value: Value, render: Render[Value]) -> None:
        """Print one of several results, one below the other. For a program it is a document on one line.

        Args:
            value: As in `show`.
            render: Renders `value` for a person.
        """

    @abstractmethod
    def watch(self, read: Callable[[], Value], render: Render[Value], *, every: float) -> None:
        """Print a new result again and again until Ctrl-C.

        Args:
            read: Reads the next result.
            render: Renders a result for a person.
            every: Seconds between two readings.
        """

    @abstractmethod
    def fail(self, error: Mapping[str, Any]) -> None:
        """Print the error that ended a command before it had a result.

        Args:
            error: The error's kind, message, next_step and fields, as CompactionError.as_dict() returns them.
        """


class ConsoleOutput(Output):
    """Text with colours and tables."""

    progress = err

    def show(self, value: Value, render: Render[Value]) -> None:
        """Print what `render` returns."""
        for part in render(value):
            out.print(part, soft_wrap=isinstance(part, str | Text))

    def show_next(self, value: Value, render: Render[Value]) -> None:
        """Print what `render` returns."""
        self.show(value, render)

    def watch(self, read: Callable[[], Value], render: Render[Value], *, every: float) -> None:
        """Draw each result in place of the last one."""
        watch_screen(lambda: render(read()), every=every)

    def fail(self, error: Mapping[str, Any]) -> None:
        """Print message and next step to stderr."""
        print_error(error["message"], error["next_step"])


class JsonOutput(Output):
    """One JSON document in UTF-8; with `watch`, one per line. Errors are printed for a person too, on stderr."""

    progress = Console(quiet=True, force_terminal=False)

    def show(self, value: Value, render: Render[Value]) -> None:  # noqa: ARG002 - for a person only
        """Print `value` as an indented document."""
        sys.stdout.write(_document(value, indent=2) + "\n")
        sys.stdout.flush()  # `local up` keeps running after its result

    def show_next(self, value: Value, render: Render[Value]) -> None:  # noqa: ARG002 - as above
        """Print `value` as one line."""
        sys.stdout.write(_document(value) + "\n")
        sys.stdout.flush()

    def watch(self, read: Callable[[], Value], render: Render[Value], *, every: float) -> None:  # noqa: ARG002 - as above
        """Print each result as one line."""
        watch_lines(lambda: _document(read()), every=every)

    def fail(self, error: Mapping[str, Any]) -> None:
        """Print the error as a document of one line, and for a person to stderr."""
        sys.stdout.write(_document({"error": error}, fallback=str) + "\n")
        CONSOLE.fail(error)


def _document(value: object, indent: int | None = None, fallback: Callable[[Any], Any] | None = None) -> str:
    from pydantic_core import to_json

    return escape_json(to_json(value, indent=indent, fallback=fallback).decode())


CONSOLE = ConsoleOutput()
JSON = JsonOutput()
_META_KEY = "chromadb_compaction.output"


def output_for(*, as_json: bool) -> Output:
    """Return the output that the --json flag asks for."""
    return JSON if as_json else CONSOLE


def chosen_output(context: typer.Context) -> Output:
    """Return the output of the command that `context` runs. It is the console until --json has been parsed."""
    output: Output = context.meta.get(_META_KEY, CONSOLE)
    return output


def exit_with(error: CompactionError) -> typer.Exit:
    """Print the error of a command that has shown its result, and return the exit to raise."""
    print_error(error.message, error.next_step)
    return typer.Exit(exit_code(error))


def remember_output(context: typer.Context, as_json: bool) -> bool:  # noqa: FBT001 - typer passes it by position
    """Remember the value of --json for `chosen_output`, and return it."""
    context.meta[_META_KEY] = output_for(as_json=as_json)
    return as_json
