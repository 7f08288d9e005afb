"""Measure in a new process, so that earlier measurements have no effect on its caches and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

CHECKOUT = Path(__file__).parent.parent
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


def run_child(module: str, *arguments: str, environment: Mapping[str, str] = NO_VARIABLES) -> dict[str, Any]:
    """Run `python -m module` and return the JSON object that it prints. Raises CalledProcessError if it fails.

    `environment` is added to this process's variables.
    """
    completed = subprocess.run(  # noqa: S603 - this interpreter and a module of this package, without a shell
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        check=True,
        cwd=CHECKOUT,
        env={**os.environ, **environment},
    )
    printed: dict[str, Any] = json.loads(completed.stdout)
    return printed


def seconds_until_seen(writes: int, write: Callable[[int], None], module: str, *arguments: str) -> list[float]:
    """Return the seconds from each call of `write(number)` until `python -m module` has found what it writes.

    The child prints a line when it is ready, and then for each write the time at which it found it, in Unix seconds.
    """
    command = [sys.executable, "-m", module, *arguments]
    seconds = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as watcher:  # noqa: S603 - as above
        if watcher.stdout is None:
            raise RuntimeError("the watcher has no output")
        watcher.stdout.readline()
        for number in range(writes):
            called = time.time()
            write(number)
            seconds.append(float(watcher.stdout.readline()) - called)
            if seconds[-1] < 0:
                raise RuntimeError(f"write {number} was found before it was written")
    return seconds


def say(value: object) -> None:
    """Print a value as a line of JSON, for the parent process."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def say_when_found(writes: int, is_found: Callable[[int], bool]) -> None:
    """Print the time at which each write was found first, for `seconds_until_seen`."""
    say("ready")
    for number in range(writes):
        while not is_found(number):
            time.sleep(0.005)
        say(time.time())
