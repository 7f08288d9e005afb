"""compose.yaml starts an engine that fits the local stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from chromadb_compaction.local.defaults import DEFAULT_LAMBDA_PORT
from chromadb_compaction.local.server import ACCOUNT, HOST, REGION

FILE = Path(__file__).parents[2] / "compose.yaml"


def test_the_engine_has_the_stacks_account_region_and_port_for_functions() -> None:
    services: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
    (engine,) = services.values()
    assert engine["environment"] == {
        "AWS_ACCOUNT_ID": ACCOUNT,
        "AWS_DEFAULT_REGION": REGION,
        "LAMBDA_ENDPOINT": f"http://{HOST}:{DEFAULT_LAMBDA_PORT}",
    }
    # The stack listens on this machine's loopback address alone.
    assert engine["network_mode"] == "host"
