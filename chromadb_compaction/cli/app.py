"""The command line as a whole: its commands, and the message and exit code of a command that fails."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from chromadb_compaction.cli.common.console import note, warn
from chromadb_compaction.cli.common.exits import ExitCode, exit_code
from chromadb_compaction.cli.common.output import chosen_output
from chromadb_compaction.cli.common.reported import reported_errors
from chromadb_compaction.errors import CompactionError

if TYPE_CHECKING:
    from types import TracebackType

PROGRAM = "chromadb-compaction"


class Program(TyperGroup):
    """All commands. An error of a command is printed by its output, and exits with the error's code."""

    def invoke(self, context: typer.Context) -> Any:  # type: ignore[override]  # noqa: ANN401 - typer's own
        """Run the command that was typed. With --debug, raise its error."""
        try:
            return super().invoke(context)
        except reported_errors() as error:
            if context.params["debug"]:
                raise
            chosen_output(context).fail(_as_dict(error))
            context.exit(exit_code(error) if isinstance(error, CompactionError) else ExitCode.FAILED)


def build() -> typer.Typer:
    """Return the application with every command. Commands import heavy libraries only when they run."""
    from chromadb_compaction.cli.commands.collections import app as collections
    from chromadb_compaction.cli.commands.compact import compact
    from chromadb_compaction.cli.commands.deltas import app as deltas
    from chromadb_compaction.cli.commands.doctor import doctor
    from chromadb_compaction.cli.commands.history import history
    from chromadb_compaction.cli.commands.local import app as local
    from chromadb_compaction.cli.commands.lock import app as lock
    from chromadb_compaction.cli.commands.put import put
    from chromadb_compaction.cli.commands.query import query
    from chromadb_compaction.cli.commands.replica import app as replica
    from chromadb_compaction.cli.commands.serve import serve
    from chromadb_compaction.cli.commands.snapshots import app as snapshots
    from chromadb_compaction.cli.commands.status import status
    from chromadb_compaction.cli.commands.why import why

    app = typer.Typer(
        name=PROGRAM,
        cls=Program,
        help="Compact ChromaDB collections kept on S3: put deltas, compact them, query the published snapshot.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    app.callback()(_start)
    for command in (put, compact, status, history, query, why, serve, doctor):
        app.command()(command)
    app.add_typer(collections, name="collections")
    app.add_typer(snapshots, name="snapshots")
    app.add_typer(deltas, name="deltas")
    app.add_typer(replica, name="replica")
    app.add_typer(lock, name="lock")
    app.add_typer(local, name="local")
    return app


def run(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code. By default the arguments are those that were typed."""
    typer.main.get_command(build()).main(args=arguments, prog_name=PROGRAM)


def print_traceback(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Print an error as Python does, to the console that escapes control characters."""
    note("".join(traceback.format_exception(error)).rstrip())


def _print_version(value: bool) -> None:  # noqa: FBT001 - typer passes it by position
    if value:
        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


def _start(
    context: typer.Context,
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Set up messages: a warning takes one line, and an unexpected error shows its traceback only with --debug."""

    def print_unexpected(kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        # Python exits with 1 after this hook: ExitCode.FAILED.
        next_step = f"for the traceback type: {PROGRAM} --debug ..."
        message = f"{kind.__name__}: {error}"
        chosen_output(context).fail({"kind": kind.__name__, "message": message, "next_step": next_step})

    sys.excepthook = print_traceback if debug else print_unexpected
    warnings.showwarning = lambda message, *_args, **_options: warn(str(message))
    # The library logs some warnings too. Printing them again would repeat them.
    logging.getLogger("chromadb_compaction").addHandler(logging.NullHandler())


def _as_dict(error: Exception) -> dict[str, object]:
    if isinstance(error, CompactionError):
        return error.as_dict()
    next_step = f"see what is wrong: {PROGRAM} doctor"
    return {"kind": type(error).__name__, "message": str(error), "next_step": next_step}
