"""Run the main job on this machine: producers write deltas, one execution merges them, queries find the records."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.rule import Rule
from rich.text import Text

from chromadb_compaction.aws.workflow import start, step_functions
from chromadb_compaction.cli.commands.compact import render_summary
from chromadb_compaction.cli.common import clients
from chromadb_compaction.cli.common.console import err
from chromadb_compaction.cli.common.formatting import counted, duration
from chromadb_compaction.cli.common.output import CONSOLE
from chromadb_compaction.cli.executions.client import describe, state_machine
from chromadb_compaction.cli.executions.summary import Summary, summarise
from chromadb_compaction.cli.executions.timeline import Timeline
from chromadb_compaction.cli.executions.waiting import follow_on
from chromadb_compaction.cli.views.overview import Overview, read_overview
from chromadb_compaction.errors import CompactionError
from chromadb_compaction.layout import execution_name
from chromadb_compaction.local.defaults import DEFAULT_HOME, DEFAULT_LAMBDA_PORT
from chromadb_compaction.local.deployment import Deployment, Engine, bring_up
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.local.server import stop
from chromadb_compaction.settings import MEBIBYTE, required
from demo.corpus import source_files
from demo.producers import COLLECTION, run_producers
from demo.questions import QUESTIONS, ask, show

PRODUCERS = 4
FEWEST_DELTAS = 101
FEWEST_RECORDS = 2000

CONFIG = {"pendingDeltas": "1000", "pendingBytes": str(128 * MEBIBYTE)}
"""More than the defaults, so that an answer before the compaction includes every delta of the demo."""

NEXT_COMMANDS = (
    "source .venv/bin/activate",
    'eval "$(chromadb-compaction local env)"',
    f'chromadb-compaction query "wait for several threads" -c {COLLECTION}',
    "chromadb-compaction status",
    "chromadb-compaction local down --delete",
)

console = Console(highlight=False)


class DemoFailedError(CompactionError):
    """A check of the demo failed. The message names it."""


def main() -> None:
    """Run the demo and exit with 0 only if every check passed."""
    options = _options()
    began = time.monotonic()
    endpoint = options.state_machine_endpoint
    engine = Engine(endpoint, options.lambda_port) if endpoint else None
    try:
        with local_stack(options.directory, keep=options.keep, engine=engine):
            demonstrate()
    except CompactionError as error:
        fail(f"{error}; logs are in {options.directory / 'logs'}")
    except KeyboardInterrupt:
        fail("interrupted")
    console.print(f"\n[bold green]All checks passed[/] in {took(time.monotonic() - began, options.installation)}.")
    if options.keep:
        console.print("The local stack is still running. Try these commands:")
        for command in NEXT_COMMANDS:
            console.print(f"  [bold]{command}[/]")


def took(demo: float, installation: float) -> str:
    """Return how long everything took, from the start of scripts/demo. Both are seconds."""
    whole = duration(demo + installation)
    return f"{whole}, {duration(installation)} of them for the installation" if installation >= 1 else whole


def demonstrate() -> None:
    """Write deltas, compact, query, and check that the counts match."""
    title(f"{PRODUCERS} producers write the docstrings of Python's standard library as deltas")
    deltas, records = produce()

    title("They can be found at once, before any compaction")
    answer_questions(snapshot=None)

    title("One execution of the state machine merges the deltas")
    client = step_functions()
    arn = start(state_machine(clients.settings()), client)
    timeline = follow_on(err, client, arn)
    summary = summarise(timeline)
    check_summary(summary, deltas=deltas, records=records)
    console.print(f"Execution [bold]{execution_name(arn)}[/] took {duration(describe(client, arn).seconds)}.")
    for line in explain_first_download(timeline):
        console.print(line)
    CONSOLE.show(summary, render_summary)

    title("The published snapshot answers questions in plain English")
    answer_questions(snapshot=summary.snapshot_id)

    check_nothing_is_left(read_overview(clients.services(), client), records=records)


def explain_first_download(timeline: Timeline) -> Iterator[str]:
    """Yield the reason why DownloadSnapshot takes time although nothing has been published before."""
    for visit in timeline.visits:
        if visit.name == "DownloadSnapshot" and visit.left is not None:
            seconds = duration(visit.seconds(visit.left))
            yield (
                f"No snapshot existed, so DownloadSnapshot downloaded nothing: its {seconds} started the function"
                " and imported ChromaDB. UploadSnapshot used the same function."
            )
            return


def produce() -> tuple[int, int]:
    """Run the producers and return how many deltas and records they wrote."""
    files = source_files()
    deltas = records = 0
    text = (
        "{task.completed:,} of {task.total:,} modules, {task.fields[records]:,} records, {task.fields[deltas]:,} deltas"
    )
    began = time.monotonic()
    with Progress(BarColumn(), TextColumn(text), console=console) as bar:
        task = bar.add_task("", total=len(files), records=0, deltas=0)
        for written in run_producers(files, processes=PRODUCERS):
            deltas += written.deltas
            records += written.records
            bar.update(task, advance=1, records=records, deltas=deltas)
    console.print(
        f"Wrote [bold]{counted(records, 'record')}[/] as [bold]{counted(deltas, 'delta')}[/]"
        f" in {duration(time.monotonic() - began)}."
    )
    expect(deltas >= FEWEST_DELTAS, f"only {deltas} deltas were written; the demo needs at least {FEWEST_DELTAS}")
    expect(
        records >= FEWEST_RECORDS,
        f"only {records} records were written; does this Python have its library's source?",
    )
    return deltas, records


def check_summary(summary: Summary, *, deltas: int, records: int) -> None:
    """Raise DemoFailedError unless the execution merged exactly what was written."""
    expect(summary.status == "SUCCEEDED", f"the execution is {summary.status}: {summary.error}: {summary.message}")
    expect(summary.held is None, f"another execution held the lock: {summary.held}")
    expect(summary.merged == deltas, f"{summary.merged} deltas were merged, but {deltas} were written")
    expect(summary.quarantined == 0, f"{summary.quarantined} deltas were quarantined")
    expect(summary.batches > 1, "there was only one batch, so no batches were merged in parallel")
    published = {each.collection: each.records for each in summary.collections}
    expect(published == {COLLECTION: records}, f"the snapshot holds {published}, but {records} records were written")


def answer_questions(*, snapshot: str | None) -> None:
    """Ask every question. Raises DemoFailedError if an answer is wrong, or does not come from `snapshot`.

    None: nothing is published yet, so that the answers come from the pending deltas alone.
    """
    function = required(clients.settings().chromadb_query_function, "CHROMADB_QUERY_FUNCTION")
    for question in QUESTIONS:
        asked = ask(function, question)
        show(asked, console)
        expect(asked.is_right, f"{question.module} is not among the answers to {question.text!r}")
        pending = asked.answer.pending
        expect(pending is not None and pending.left == 0, f"the answer lacks pending deltas: {pending}")
        found = asked.answer.snapshot_id
        expect(found == snapshot, f"the answer came from the snapshot {found}, not from {snapshot}")


def check_nothing_is_left(overview: Overview, *, records: int) -> None:
    """Raise DemoFailedError if a delta is pending or quarantined, a message is queued, or the lock is held."""
    expect(overview.lock is None, "the lock is still held")
    pending, quarantine = overview.pending, overview.quarantine
    expect(pending is not None and pending.deltas == 0, f"deltas are still pending: {pending}")
    expect(quarantine is not None and quarantine.deltas == 0, f"deltas are in quarantine: {quarantine}")
    expect(overview.queue is not None and overview.queue.messages == 0, "the queue still holds messages")
    expect(
        overview.dead_letters is not None and overview.dead_letters.messages == 0,
        "there are dead-letter messages",
    )
    expect(overview.snapshot is not None and overview.snapshot.records == records, "the snapshot lacks records")


def expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise DemoFailedError with the message `otherwise` unless the condition holds."""
    if not holds:
        raise DemoFailedError(otherwise)


@contextmanager
def local_stack(directory: Path, *, keep: bool, engine: Engine | None = None) -> Iterator[None]:
    """Start a local stack for this process and its children, and stop it again unless `keep`.

    With `engine` its executions run in that Step Functions engine.
    """
    home = StackHome(directory)
    if home.is_served():
        raise DemoFailedError(
            f"a local stack already runs in {home.path}", next_step="stop it: .venv/bin/chromadb-compaction local down"
        )
    if home.has_objects():
        raise DemoFailedError(
            f"{home.path} holds the objects of a local stack",
            next_step="delete them: .venv/bin/chromadb-compaction local down --delete; or name another --directory",
        )
    remove_aws_variables()
    title("Start the local AWS services and deploy the Pulumi program")
    began = time.monotonic()
    with console.status("Starting ..."):
        stack = bring_up(home, Deployment(config=CONFIG), end_with_parent=not keep, durable=keep, engine=engine)
    console.print(f"The local stack runs at {stack.endpoint}. It started in {duration(time.monotonic() - began)}.")
    os.environ.update(stack.environment())
    try:
        yield
    except BaseException:
        stop(home)
        raise
    if not keep:
        stop(home)


def remove_aws_variables() -> None:
    """Remove the shell's AWS variables, so that the demo cannot reach an AWS account."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            del os.environ[name]


def title(text: str) -> None:
    """Print a heading."""
    console.print()
    console.print(Rule(f"[bold]{text}[/]", align="left", style="cyan"))


def fail(message: str) -> NoReturn:
    """Print why the demo failed and exit with 1."""
    console.print(Text.assemble(("\nThe demo failed: ", "bold red"), message))
    sys.exit(1)


class _Options(argparse.Namespace):
    keep: bool
    directory: Path
    state_machine_endpoint: str | None
    lambda_port: int
    installation: float


def _options() -> _Options:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the local stack running at the end")
    parser.add_argument("--directory", type=Path, default=DEFAULT_HOME, help="the directory of the local stack")
    parser.add_argument(
        "--state-machine-endpoint", metavar="URL", help="run the execution in the Step Functions engine at this address"
    )
    parser.add_argument(
        "--lambda-port", type=int, default=DEFAULT_LAMBDA_PORT, help="the port at which that engine calls functions"
    )
    parser.add_argument("--installation", type=float, default=0, help=argparse.SUPPRESS)  # seconds that it took
    return parser.parse_args(namespace=_Options())


if __name__ == "__main__":
    main()
