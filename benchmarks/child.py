"""Measure in a new process, so that earlier measurements have no effect on its caches and memory."""

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
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


def run_child(module: str, *arguments: str, environment: Mapping[str, str] = NO_VARIABLES) -> dict[str, Any]:
    """Run `python -m module` and return the JSON object that it prints. Raises CalledProcessError if it fails.

    `environment` is added to this process's variables.
    """
    completed = subprocess.run(  # noqa: S603 - this interpreter and a module of this package, without a shell
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        check=True,
        cwd=CHECKOUT,
        env={**os.environ, **environment},
    )
    printed: dict[str, Any] = json.loads(completed.stdout)
    return printed
