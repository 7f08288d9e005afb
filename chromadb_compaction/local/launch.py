"""The server's process: ministack, and a watch that ends it with whatever started it, where that is wanted."""

from __future__ import annotations

import os
import signal
import threading
import time

from ministack.app import main

from chromadb_compaction.local.server import PARENT_VARIABLE


def end_with(parent: int) -> None:
    """Kill this process group, Lambda workers included, once `parent` is no longer this process's parent."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    # ministack has read its level by now; the workers inherit what is left, and are to log at their own.
    os.environ.pop("LOG_LEVEL", None)
    os.chdir(os.environ["TMPDIR"])
    if PARENT_VARIABLE in os.environ:
        threading.Thread(target=end_with, args=(int(os.environ[PARENT_VARIABLE]),), daemon=True).start()
    main()
