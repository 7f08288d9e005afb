"""A deployed stack, as the command line and the tests use it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from pydantic import BaseModel, ConfigDict, Field

from chromadb_compaction.local.errors import LocalStackError, LocalStackNotRunningError
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.local.server import ADMIN_KEY, HOST, REGION
from chromadb_compaction.settings import Settings, load_settings


class LocalStack(BaseModel):
    """One stack in one server.

    Args:
        name: The stack's name.
        endpoint: The server's URL.
        secret: The admin's secret access key. It is kept in the server's record alone.
        state_machine_endpoint: The URL of another Step Functions engine, which has the state machine. None: the server.
        exports: What the Pulumi program exported, under the names of the functions' environment variables.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    endpoint: str
    secret: str = Field(repr=False)
    state_machine_endpoint: str | None = None
    exports: Mapping[str, str]

    def environment(self) -> dict[str, str]:
        """Return the variables with which AWS clients and this package's command line use the stack as its admin."""
        return {
            **self.exports,
            "AWS_ENDPOINT_URL": self.endpoint,
            # Empty counts as not set, and replaces what the shell may have.
            "AWS_ENDPOINT_URL_SFN": self.state_machine_endpoint or "",
            "AWS_ACCESS_KEY_ID": ADMIN_KEY,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            # The server would refuse a token that the caller's shell holds for AWS.
            "AWS_SESSION_TOKEN": "",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            **proxy_exemption(os.environ),
        }

    def shell_lines(self) -> list[str]:
        """Return `export NAME=value` lines for `eval`."""
        return [f"export {name}={shlex.quote(value)}" for name, value in sorted(self.environment().items())]

    def settings(self) -> Settings:
        """Return the settings that the functions have."""
        return load_settings(self.exports)

    def client(self, service: str, config: Config | None = None) -> Any:  # noqa: ANN401 - one type per service
        """Return a boto3 client of the admin. It ignores credentials and proxies of the environment."""
        direct = Config(proxies={}).merge(config or Config())
        return admin_session(self.secret).client(service, endpoint_url=self._endpoint_of(service), config=direct)

    def _endpoint_of(self, service: str) -> str:
        return (service == "stepfunctions" and self.state_machine_endpoint) or self.endpoint


def admin_session(secret: str) -> Any:  # noqa: ANN401 - boto3's types accept literal service names only
    """Return a session with the admin's credentials."""
    return boto3.Session(aws_access_key_id=ADMIN_KEY, aws_secret_access_key=secret, region_name=REGION)


def proxy_exemption(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that exempt this machine from the shell's proxy. Empty if there is no proxy."""
    if not any(environment.get(name) for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")):
        return {}
    hosts = (environment.get("no_proxy") or environment.get("NO_PROXY") or "").split(",")
    exempt = ",".join([*(host for host in hosts if host and host != HOST), HOST])
    return {"NO_PROXY": exempt, "no_proxy": exempt}


def save(home: StackHome, stack: LocalStack) -> None:
    """Write a deployed stack for `load`."""
    _file(home, stack.name).write_text(stack.model_dump_json(indent=2, exclude={"secret"}), encoding="utf-8")


def load(home: StackHome, name: str) -> LocalStack:
    """Return a deployed stack of the running server. Raises LocalStackNotRunningError, LocalStackError."""
    record = home.record()
    if record is None:
        raise LocalStackNotRunningError(
            f"no local stack runs in {home.path}", next_step="start one: chromadb-compaction local up --detach"
        )
    try:
        return LocalStack.model_validate({**json.loads(_file(home, name).read_bytes()), "secret": record.secret})
    except (FileNotFoundError, ValueError) as error:
        known = ", ".join(sorted(file.stem for file in home.exports.glob("*.json"))) or "none"
        raise LocalStackError(
            f"the stack {name!r} is not deployed (deployed: {known})",
            next_step=f"deploy it: chromadb-compaction local up --detach --stack {name}",
        ) from error


def _file(home: StackHome, name: str) -> Path:
    return home.exports / f"{name}.json"
