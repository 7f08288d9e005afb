"""`serve`: ChromaDB's own HTTP server over the bucket."""

from __future__ import annotations

import signal
import socket
import warnings
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from chromadb_compaction.cli.common.options import JsonFlag
from chromadb_compaction.cli.common.output import output_for
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.local.request_guard import is_loopback

if TYPE_CHECKING:
    from types import FrameType

DEFAULT_PORT = 8000
STOP_SECONDS = 30
"""The time that a stopping server waits for the requests that it has begun."""


def serve(
    *,
    host: Annotated[
        str, typer.Option(help="Address to serve on. Another one than this machine's own needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on. 0: a free one.")] = DEFAULT_PORT,
    token: Annotated[
        str | None, typer.Option(envvar="SERVE_TOKEN", help="Secret that every request must carry.", show_default=False)
    ] = None,
    read_level: Annotated[
        Literal["fresh", "snapshot"],
        typer.Option(help="Read the published snapshot with the writes that it does not hold yet, or alone."),
    ] = "fresh",
    allow_reset: Annotated[
        bool, typer.Option("--allow-reset", help="Allow `reset`, which drops every collection of the bucket.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Serve the bucket as a ChromaDB server, for chromadb.HttpClient and ChromaDB's clients in other languages.

    It runs until Ctrl-C or SIGTERM, and then finishes the requests that it has begun.

    Example: `chromadb-compaction serve --port 8000`
    """
    if token is not None and not token.strip():
        raise InvalidRequestError("the token is empty", next_step="give a long random one, or leave --token out")
    if token is None and not is_loopback(f"//{_url_host(host)}"):
        raise InvalidRequestError(
            f"without a token, every machine that reaches {host} could read and write the bucket",
            next_step="give one: SERVE_TOKEN=... chromadb-compaction serve --host ...",
        )
    import uvicorn

    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.common.http_guard import guarded
    from chromadb_compaction.client.chroma_api.collection_store import CollectionStore
    from chromadb_compaction.client.chroma_api.http_server import BucketServer

    # ChromaDB's server uses a class that FastAPI has replaced, and would say so at its first response.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
    services = clients.services()
    app = guarded(BucketServer(CollectionStore(services, read_level=read_level), allow_reset=allow_reset).app(), token)
    with _listening(host, port) as listener:
        port = listener.getsockname()[1]
        url = f"http://{_url_host(host)}:{port}"
        facts = {
            "url": url,
            "bucket": services.settings.chromadb_bucket,
            "read_level": read_level,
            "token": token is not None,
        }
        output_for(as_json=as_json).show(facts, lambda _: [_line(facts, host, port)])
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=STOP_SECONDS, server_header=False, lifespan="on"
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            # The server raises a signal once more when it has stopped. That would end the command with an error.
            signal.signal(number, _ignore)
        uvicorn.Server(config).run(sockets=[listener])


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


def _line(facts: dict[str, object], host: str, port: int) -> Text:
    headers = ', headers={"Authorization": "Bearer ..."}' if facts["token"] else ""
    return Text(
        f"serving {facts['bucket']} at {facts['url']}   connect:"
        f' chromadb.HttpClient(host="{host}", port={port}{headers})   stop: Ctrl-C'
    )


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises InvalidRequestError if it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InvalidRequestError(
            f"cannot serve on {host} port {port}: {error.strerror or error}", next_step="choose another --port"
        ) from error


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
