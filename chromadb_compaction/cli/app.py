"""The commands, and how each of them ends: with a code that scripts can rely on, and one line when it fails."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError

from chromadb_compaction.cli.common.console import note, print_error
from chromadb_compaction.cli.common.exits import ExitCode, exit_code
from chromadb_compaction.errors import CompactionError

if TYPE_CHECKING:
    from types import TracebackType

PROGRAM = "chromadb-compaction"


class Debugging:
    """Whether --debug was given; set while the command line is parsed."""

    on = False

    def option(
        self, *, debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False
    ) -> None:
        """Take the option that stands before every command."""
        self.on = debug


def build(debugging: Debugging) -> typer.Typer:
    """Return the application with every command. Commands import what is heavy when they run."""
    from chromadb_compaction.cli.commands.compact import compact
    from chromadb_compaction.cli.commands.deltas import app as deltas
    from chromadb_compaction.cli.commands.doctor import doctor
    from chromadb_compaction.cli.commands.history import history
    from chromadb_compaction.cli.commands.local import app as local
    from chromadb_compaction.cli.commands.lock import app as lock
    from chromadb_compaction.cli.commands.put import put
    from chromadb_compaction.cli.commands.query import query
    from chromadb_compaction.cli.commands.snapshots import app as snapshots
    from chromadb_compaction.cli.commands.status import status
    from chromadb_compaction.cli.commands.why import why

    app = typer.Typer(
        name=PROGRAM,
        help="Compact ChromaDB collections kept on S3: put deltas, compact them, query the published snapshot.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    app.callback()(debugging.option)
    for command in (put, compact, status, history, query, why, doctor):
        app.command()(command)
    app.add_typer(snapshots, name="snapshots")
    app.add_typer(deltas, name="deltas")
    app.add_typer(lock, name="lock")
    app.add_typer(local, name="local")
    return app


def run(arguments: Sequence[str] | None = None) -> None:
    """Run one command (None: the one that was typed) and exit with its code."""
    debugging = Debugging()

    def last_word(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        # Python exits with 1 after this hook: ExitCode.FAILED.
        if debugging.on:
            sys.__excepthook__(kind, error, trace)
        else:
            print_error(f"{kind.__name__}: {error}; for the traceback type: {PROGRAM} --debug ...")

    sys.excepthook = last_word
    _speak_plainly()
    try:
        typer.main.get_command(build(debugging)).main(args=arguments, prog_name=PROGRAM)
    except (CompactionError, ClientError, BotoCoreError) as error:
        if debugging.on:
            raise
        print_error(_in_words(error))
        sys.exit(exit_code(error) if isinstance(error, CompactionError) else ExitCode.FAILED)


def _speak_plainly() -> None:
    """Show warnings as one line each; what the library also logs of them would only repeat that."""
    warnings.showwarning = lambda message, *_args, **_options: note(f"warning: {message}")
    logging.getLogger("chromadb_compaction").addHandler(logging.NullHandler())


def _in_words(error: Exception) -> str:
    if isinstance(error, CompactionError):
        return str(error)
    return f"{error}; see what is wrong: {PROGRAM} doctor"
