"""Measure the peak memory and the CPU time of the local stack's functions, from the kernel's counters per worker."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chromadb_compaction.settings import MEBIBYTE

FACTOR, REST = 2.2, 250e6
"""The memory limit of a fold: FACTOR times the bytes of all the collection's vectors, and REST bytes more."""
POLL_SECONDS = 0.5
_PROC = Path("/proc")
_UNREADABLE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""A process has ended since it was listed, or belongs to another user."""


@contextmanager
def watched_workers(suffix: str) -> Iterator[dict[str, float]]:
    """Yield a dictionary that holds, after the block, the peak MiB of each function whose name ends in `suffix`.

    The kernel's high-water mark is read twice a second, so the last growth of a worker that ends may be missed. The
    dictionary stays empty on a system without /proc.
    """
    peaks: dict[str, float] = {}
    done = threading.Event()

    def poll() -> None:
        while not done.wait(POLL_SECONDS):
            _update_peaks(peaks, suffix)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()
        _update_peaks(peaks, suffix)


def processor_seconds(suffix: str) -> dict[str, float]:
    """Return the CPU seconds so far of the workers that are running, by function name."""
    seconds: dict[str, float] = {}
    for short, process in _workers(suffix):
        with suppress(*_UNREADABLE):
            # Fields 14 and 15 of the line, counted after the command in parentheses, which may contain spaces.
            fields = (process / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            seconds[short] = seconds.get(short, 0.0) + ticks / os.sysconf("SC_CLK_TCK")
    return seconds


def _update_peaks(peaks: dict[str, float], suffix: str) -> None:
    for short, process in _workers(suffix):
        with suppress(*_UNREADABLE):
            peaks[short] = max(peaks.get(short, 0.0), _peak(process))


def _workers(suffix: str) -> Iterator[tuple[str, Path]]:
    for process in _PROC.glob("[0-9]*"):
        with suppress(*_UNREADABLE):
            function = _function(process)
            if function.endswith(suffix):
                yield function.removeprefix("chromadb-").removesuffix(suffix), process


def _function(process: Path) -> str:
    variables = (process / "environ").read_bytes().split(b"\0")
    prefix = b"AWS_LAMBDA_FUNCTION_NAME="
    return next((each.removeprefix(prefix).decode() for each in variables if each.startswith(prefix)), "")


def _peak(process: Path) -> float:
    lines = (process / "status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) * 1024 / MEBIBYTE for line in lines if line.startswith("VmHWM:")), 0.0)


def allowed_mebibytes(values: int) -> float:
    """Return the memory limit of a fold in MiB, for vectors with `values` components in total."""
    return (FACTOR * 4 * values + REST) / MEBIBYTE


def peak_mebibytes() -> float:
    """Return this process's peak memory so far in MiB."""
    return _peak(_PROC / "self")
