"""The root of the program that a local stack deploys: the folders `infra`, `statemachine` and `tasks`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_IN_WHEEL = _PACKAGE / "_program"

ROOT = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parent
"""The folder of a wheel that holds the three, or the checkout."""

PYTHONPATH = os.pathsep.join(dict.fromkeys((str(ROOT), str(_PACKAGE.parent))))
"""The import path of the server and the functions, so that they run the code of this package."""


def make_importable() -> None:
    """Put the root first on `sys.path`. A wheel keeps it off the path, because `infra` and `tasks` are common names."""
    if sys.path[0] != str(ROOT):
        sys.path.insert(0, str(ROOT))
