"""ChromaDB's own tests against `serve`, while compactions run. `scripts/chromadb-suite` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chromadb_suite.run import ALL, compacting, run_suite, serving
from tests.stack import Stack

pytestmark = pytest.mark.e2e

QUICK = ("test_api.py", "api/test_collection.py", "api/test_numpy_list_inputs.py", "configurations")
"""The files that take less than a minute. Their asynchronous client is left to the whole suite."""

NUMBER_OF_QUICK_TESTS = 150
"""At least so many pass: a suite that finds no tests would pass too."""


@pytest.mark.timeout(600)
def test_the_quick_part_of_chromadbs_tests_passes(stack: Stack, tmp_path: Path) -> None:
    environment = {**stack.env, "CHROMADB_CACHE_DIR": str(tmp_path / "cache")}
    with serving(environment) as port, compacting(environment):
        result = run_suite(port, QUICK, ["-k", "not async_integration"])

    assert (result.failed, result.errors) == (0, 0), result.output[-20_000:]
    assert result.passed >= NUMBER_OF_QUICK_TESTS


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_all_of_chromadbs_tests_pass(stack: Stack, tmp_path: Path) -> None:
    environment = {**stack.env, "CHROMADB_CACHE_DIR": str(tmp_path / "cache")}
    with serving(environment) as port, compacting(environment):
        result = run_suite(port, ALL)

    assert (result.failed, result.errors) == (0, 0), result.output[-20_000:]
