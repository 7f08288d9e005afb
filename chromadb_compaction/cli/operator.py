"""Who types: the name under which a command holds the lock and signs what it does."""

from __future__ import annotations

import getpass
import socket
import uuid


def operator_name() -> str:
    """Return e.g. operator:ada@laptop/5b0c...: of this command alone, so that a second one does not share its lock."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"operator:{user}@{socket.gethostname()}/{uuid.uuid4()}"
