"""`local up`, `local env`, `local down`: the whole system on this machine."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chromadb_compaction.local import server
from chromadb_compaction.local.home import DEFAULT_HOME, StackHome
from chromadb_compaction.local.stack import DEFAULT_STACK, LocalStack, load

if TYPE_CHECKING:
    from types import FrameType

app = typer.Typer(help="Run everything on this machine: start, use and stop the local stack.", no_args_is_help=True)

Directory = Annotated[
    Path, typer.Option("--dir", envvar="LOCAL_STACK_DIR", help="Where the stack keeps everything it writes.")
]
Stack = Annotated[str, typer.Option("--stack", help="Name of the stack; one server can hold several.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def up(
    *,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to serve on. Default: a free one.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once it runs, instead of serving until Ctrl-C.")
    ] = False,
    stack: Stack = DEFAULT_STACK,
    directory: Directory = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Start the local AWS services and deploy the Pulumi program into them. Doing it again deploys again.

    Example: `chromadb-compaction local up --detach`
    """
    # Pulumi takes a second to import: the other commands should not pay for it.
    from chromadb_compaction.local.deployment import Deployment, bring_up

    began = time.monotonic()
    home = StackHome(directory)
    served = home.is_served()
    signal.signal(signal.SIGTERM, _interrupt)
    deployed = bring_up(home, Deployment(stack), port=port, end_with_parent=not detach)
    try:
        _report(home, deployed, seconds=time.monotonic() - began, as_json=as_json)
        if not detach and not served:
            server.wait(home)
    except KeyboardInterrupt:
        server.stop(home)


@app.command()
def env(*, stack: Stack = DEFAULT_STACK, directory: Directory = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Print what points the AWS clients and this command line at the stack.

    Example: `eval "$(chromadb-compaction local env)"`
    """
    deployed = load(StackHome(directory), stack)
    typer.echo(json.dumps(deployed.environment(), indent=2) if as_json else "\n".join(deployed.shell_lines()))


@app.command()
def down(*, directory: Directory = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Stop the server with all its functions, and remove everything it stored except logs.

    Example: `chromadb-compaction local down`
    """
    home = StackHome(directory)
    stopped = server.stop(home)
    if as_json:
        typer.echo(json.dumps({"stopped": stopped}))
    else:
        typer.echo("stopped" if stopped else f"no local stack runs in {home.path}")


def _report(home: StackHome, deployed: LocalStack, *, seconds: float, as_json: bool) -> None:
    if as_json:
        facts = {"stack": deployed.name, "endpoint": deployed.endpoint, "seconds": round(seconds, 2)}
        typer.echo(json.dumps(facts | {"directory": str(home.path)}))
        return
    typer.echo(
        f"stack {deployed.name} is up at {deployed.endpoint} ({seconds:.1f} s); logs in {home.server_log.parent}"
    )
    typer.echo("use it: eval $(chromadb-compaction local env)   stop it: chromadb-compaction local down")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
