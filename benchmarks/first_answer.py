"""Print the seconds to import the query function, and of its first two answers. It imports nothing else before."""

from __future__ import annotations

import contextlib
import json
import sys
import time


def measure(event: object) -> dict[str, float]:
    """Return the seconds. Raises RuntimeError if an answer holds no records."""
    started = time.perf_counter()
    from tasks.query import handler

    times = [time.perf_counter()]
    for _ in range(2):
        # Metrics and log lines go to standard output, as Lambda expects.
        with contextlib.redirect_stdout(sys.stderr):
            found = handler(event, None)
        times.append(time.perf_counter())
        if not found.get("ids"):
            raise RuntimeError(f"the query function did not answer: {found}")
    imported, first, second = times
    return {"import": imported - started, "first": first - imported, "second": second - first}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(json.loads(sys.argv[1]))) + "\n")
