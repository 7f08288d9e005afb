"""Measuring in a process of its own, which nothing that ran before has warmed or burdened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

CHECKOUT = Path(__file__).parent.parent
AS_IT_IS: Mapping[str, str] = MappingProxyType({})


def run_child(module: str, *arguments: str, environment: Mapping[str, str] = AS_IT_IS) -> dict[str, Any]:
    """Run `python -m module` and return the JSON object that it prints. Raises CalledProcessError if it fails.

    `environment` is added to this process's own.
    """
    ended = subprocess.run(  # noqa: S603 - this interpreter and a module of this package, without a shell
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        check=True,
        cwd=CHECKOUT,
        env={**os.environ, **environment},
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
