"""`python -m tests.chromadb_suite [TESTS]`: start a local stack, serve it, and run ChromaDB's tests on it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from chromadb_compaction.local import server
from chromadb_compaction.local.deployment import Deployment, deploy_stack
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.local.resources.clients import AwsClients
from tests.chromadb_suite.run import ALL, compacting, run_suite, serving


def main(tests: list[str]) -> int:
    """Run the tests, all by default. Return 0 if all of them passed."""
    with tempfile.TemporaryDirectory() as directory:
        home = StackHome(Path(directory, "stack"))
        running = server.start(home, end_with_parent=True)
        try:
            deployment = Deployment("suite", {"enableCompaction": "false"}, {})
            stack = deploy_stack(home, deployment, AwsClients(running.endpoint, running.secret))
            environment = {**stack.environment(), "CHROMADB_CACHE_DIR": str(Path(directory, "cache"))}
            with serving(environment) as port, compacting(environment):
                result = run_suite(port, tests or ALL, show=True)
        finally:
            server.stop(home)
    return 0 if result.passed and not result.failed + result.errors else 1


if __name__ == "__main__":
    os.environ.setdefault("PROPERTY_TESTING_PRESET", "fast")
    sys.exit(main(sys.argv[1:]))
