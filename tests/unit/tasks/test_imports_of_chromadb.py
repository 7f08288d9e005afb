"""Functions import ChromaDB while they start. A query function does so beside the rest and the first download."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys, threading
blocked = threading.Event()
from chromadb_compaction.chroma import client
client._settings = lambda: blocked.wait(60)
import tasks.query
before = "chromadb" in sys.modules
blocked.set()
for thread in threading.enumerate():
    if thread.name == "import chromadb":
        thread.join()
print(json.dumps([before, "chromadb.api.rust" in sys.modules, callable(tasks.query.handler)]))
"""


def test_the_handler_is_ready_before_chromadb_is_imported() -> None:
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert json.loads(answer.stdout) == [False, True, True]


@pytest.mark.parametrize("kind", ["provisioned-concurrency", "snap-start"])
def test_an_environment_that_starts_before_a_request_imports_everything(kind: str) -> None:
    program = "import sys, tasks.query; print('chromadb.api.rust' in sys.modules)"
    environment = {**os.environ, "AWS_LAMBDA_INITIALIZATION_TYPE": kind}

    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )

    assert answer.stdout == "True\n"


@pytest.mark.parametrize("task", ["compactor", "fold_partitions"])
def test_a_function_that_folds_imports_chromadb_while_it_starts(task: str) -> None:
    program = f"import sys, tasks.{task}; print('chromadb.api.rust' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert answer.stdout == "True\n"


def test_the_names_of_the_database_are_chromadbs() -> None:
    from chromadb import config

    from chromadb_compaction.chroma import client

    assert (client.DEFAULT_TENANT, client.DEFAULT_DATABASE) == (config.DEFAULT_TENANT, config.DEFAULT_DATABASE)
