"""`local up`, `local env` and `local down`: the whole system on this machine."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from chromadb_compaction.cli.common.options import JsonFlag
from chromadb_compaction.cli.common.output import output_for
from chromadb_compaction.local.defaults import DEFAULT_HOME, DEFAULT_LAMBDA_PORT, DEFAULT_STACK

if TYPE_CHECKING:
    from types import FrameType

    from chromadb_compaction.local.home import StackHome
    from chromadb_compaction.local.stack import LocalStack

app = typer.Typer(help="Run everything on this machine: start, use and stop the local stack.", no_args_is_help=True)

Directory = Annotated[Path, typer.Option("--dir", envvar="LOCAL_STACK_DIR", help="Where the stack keeps its files.")]
Stack = Annotated[str, typer.Option("--stack", help="Name of the stack; one server can hold several.")]


@app.command()
def up(
    *,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to serve on. Default: a free one.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once it runs, instead of running until Ctrl-C.")
    ] = False,
    state_machine_endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Deploy the state machine into the Step Functions engine at this address."),
    ] = None,
    lambda_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port at which that engine calls functions.")
    ] = DEFAULT_LAMBDA_PORT,
    stack: Stack = DEFAULT_STACK,
    directory: Directory = DEFAULT_HOME,
    as_json: JsonFlag = False,
) -> None:
    """Start the local AWS services and deploy the Pulumi program into them. If they run already, deploy it again.

    Objects of an earlier stack in the directory are kept. Queue, lock and history begin empty.

    Example: `chromadb-compaction local up --detach`
    """
    from chromadb_compaction.local import server
    from chromadb_compaction.local.deployment import Deployment, Engine, bring_up
    from chromadb_compaction.local.home import StackHome

    began = time.monotonic()
    home = StackHome(directory)
    served = home.is_served()
    signal.signal(signal.SIGTERM, _interrupt)
    engine = Engine(state_machine_endpoint, lambda_port) if state_machine_endpoint else None
    deployed = bring_up(
        home, Deployment(stack, publishes=False), port=port, end_with_parent=not detach, durable=True, engine=engine
    )
    try:
        seconds = round(time.monotonic() - began, 2)
        facts = {"stack": deployed.name, "endpoint": deployed.endpoint, "seconds": seconds, "directory": str(home.path)}
        output_for(as_json=as_json).show(facts, lambda _: _render(home, deployed, seconds))
        if not detach and not served:
            server.wait(home)
    except KeyboardInterrupt:
        server.stop(home, keep_objects=True)


@app.command()
def env(*, stack: Stack = DEFAULT_STACK, directory: Directory = DEFAULT_HOME, as_json: JsonFlag = False) -> None:
    """Print the variables that point the AWS clients and this command line at the stack.

    Example: `eval "$(chromadb-compaction local env)"`
    """
    from chromadb_compaction.local.home import StackHome
    from chromadb_compaction.local.stack import load

    deployed = load(StackHome(directory), stack)
    output_for(as_json=as_json).show(deployed.environment(), lambda _: map(Text, deployed.shell_lines()))


@app.command()
def down(
    *,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete all objects of the stack, after a question.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    directory: Directory = DEFAULT_HOME,
    as_json: JsonFlag = False,
) -> None:
    """Stop the server with all its functions. The objects stay for the next `local up`, and so do the logs.

    Example: `chromadb-compaction local down --delete`
    """
    from chromadb_compaction.local import server
    from chromadb_compaction.local.home import StackHome

    home = StackHome(directory)
    deleted = delete and home.has_objects()
    if deleted and not yes:
        typer.confirm(f"delete every object of the local stack in {home.path}?", abort=True, err=True)
    stopped = server.stop(home, keep_objects=not delete)
    message = "stopped" if stopped else f"no local stack runs in {home.path}"
    if deleted:
        message += "; its objects are deleted"
    output_for(as_json=as_json).show({"stopped": stopped, "deleted": deleted}, lambda _: [Text(message)])


def _render(home: StackHome, deployed: LocalStack, seconds: float) -> Iterator[Text]:
    yield Text(
        f"stack {deployed.name} is up at {deployed.endpoint} ({seconds:.1f} s); logs in {home.server_log.parent}"
    )
    yield Text("use it: eval $(chromadb-compaction local env)   stop it: chromadb-compaction local down")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
