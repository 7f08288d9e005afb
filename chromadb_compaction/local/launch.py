"""The server's process: ministack. On request it ends when the process that started it ends."""

from __future__ import annotations

import os
import signal
import threading
import time

import ministack.app
from ministack.core import iam_evaluator

from chromadb_compaction.local.request_guard import guarded
from chromadb_compaction.local.server import LAMBDA_PORT_VARIABLE, PARENT_VARIABLE


def kill_after(parent: int) -> None:
    """Kill this process group, Lambda workers included, when `parent` has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


def verify_the_admin() -> None:
    """Let ministack check the admin's signature.

    By itself it allows every request that names the admin's key, the key "test", an account, or no key.
    """
    admin = os.environ["AWS_ACCESS_KEY_ID"]
    iam_evaluator.is_root_access_key = lambda key: key == admin
    iam_evaluator._is_root_key = lambda _key: False  # noqa: SLF001 - it exempts a key from the check


if __name__ == "__main__":
    # ministack has read its log level. The workers inherit this environment and must log at their own level.
    os.environ.pop("LOG_LEVEL", None)
    os.chdir(os.environ["TMPDIR"])
    if PARENT_VARIABLE in os.environ:
        threading.Thread(target=kill_after, args=(int(os.environ[PARENT_VARIABLE]),), daemon=True).start()
    if port := os.environ.pop(LAMBDA_PORT_VARIABLE, None):
        from chromadb_compaction.local.lambda_gateway import Gateway

        Gateway(os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_SECRET_ACCESS_KEY"]).serve(int(port))
    verify_the_admin()
    # main() serves the module's `app`.
    ministack.app.app = guarded(ministack.app.app)
    ministack.app.main()
