from __future__ import annotations

import json
from datetime import UTC, datetime

from chromadb_compaction.cli.failure_logs import LogLine, pick


def line(second: int, message: str) -> LogLine:
    return LogLine("/aws/lambda/some", datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC), message)


def structured(level: str, message: str, execution: str = "mine") -> str:
    return json.dumps({"level": level, "message": message, "execution": execution})


def test_the_last_error_of_this_execution_explains_the_failure() -> None:
    lines = [
        line(3, structured("ERROR", "second")),
        line(1, structured("ERROR", "first")),
        line(4, structured("INFO", "report")),
        line(5, structured("ERROR", "foreign", execution="other")),
    ]

    found = pick(lines, execution="mine", error="ValueError")

    assert found is not None
    assert found.message == "second"


def test_without_such_a_line_the_last_that_names_the_error_does() -> None:
    found = pick([line(1, "[ERROR] ValueError: x\n"), line(2, "END")], execution="mine", error="ValueError")

    assert found is not None
    assert found.message == "[ERROR] ValueError: x"


def test_nothing_is_invented() -> None:
    assert pick([line(1, "START"), line(2, "END")], execution="mine", error="ValueError") is None
