"""uv, as tests use it to install what uv.lock names into directories and environments of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SEARCH_PATH = f"{os.environ['PATH']}:{CHECKOUT / '.uv' / 'bin'}"


def skip_without_uv() -> None:
    if shutil.which("uv", path=SEARCH_PATH) is None:
        pytest.skip("needs uv on PATH or in .uv/bin")


def run(*command: str | Path) -> str:
    """Run a command that may call uv, in the checkout, and return what it printed."""
    environment = {**os.environ, "PATH": SEARCH_PATH}
    return subprocess.run(command, env=environment, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, text=True).stdout


def export(*options: str) -> str:
    """Return requirements with the versions of uv.lock: the core's, and those of the extras in `options`."""
    return run(
        "uv", "export", "--frozen", "--quiet", "--no-default-groups", "--no-emit-project", "--no-hashes", *options
    )
