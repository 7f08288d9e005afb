"""The names that a local stack has unless others are given."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DEFAULT_HOME: Final = Path(".local-stack")
DEFAULT_STACK: Final = "local"
DEFAULT_LAMBDA_PORT: Final = 8084
"""The port at which compose.yaml lets AWS's Step Functions engine call functions."""
