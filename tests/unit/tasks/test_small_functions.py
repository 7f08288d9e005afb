"""The lock, listing and clean-up functions start without the libraries that only other functions need."""

import json
import subprocess
import sys

import pytest

HEAVY = ("chromadb", "numpy", "pandas", "pyarrow")
MOST_SECONDS = 3.0
"""Processor time. Half a second is usual, and `import chromadb` alone would add 1.6."""

PROGRAM = """
import json, sys, time
start = time.process_time()
import tasks.{task}
seconds = time.process_time() - start
print(json.dumps({{"heavy": [name for name in {heavy} if name in sys.modules], "seconds": seconds,
                   "handler": callable(tasks.{task}.handler)}}))
"""


@pytest.mark.parametrize("task", ["acquire_lock", "list_deltas", "clean_up", "release_lock"])
def test_a_small_function_imports_no_heavy_library(task: str) -> None:
    program = PROGRAM.format(task=task, heavy=HEAVY)

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    measured = json.loads(answer.stdout)
    assert measured["heavy"] == []
    assert measured["handler"]
    assert measured["seconds"] < MOST_SECONDS
