"""The peak memory and the processor time of the local stack's functions, as the kernel keeps them for each worker."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MEBIBYTE = 1024 * 1024
FACTOR, REST = 2.2, 250e6
"""What a fold may take: so many times the bytes of all the collection's vectors, and so many bytes more."""
POLL_SECONDS = 0.5
_PROC = Path("/proc")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""A process has ended since it was listed, or is somebody else's."""


@contextmanager
def watched_workers(suffix: str) -> Iterator[dict[str, float]]:
    """Give a dictionary that holds, after the block, the peak MiB of each function whose name ends in `suffix`.

    The kernel's high-water mark is read twice a second, so a worker that ends in between loses little. Empty
    where there is no /proc.
    """
    peaks: dict[str, float] = {}
    done = threading.Event()

    def poll() -> None:
        while not done.wait(POLL_SECONDS):
            _note(peaks, suffix)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()
        _note(peaks, suffix)


def processor_seconds(suffix: str) -> dict[str, float]:
    """Return what the workers that now live have taken so far, by the names of their functions."""
    seconds: dict[str, float] = {}
    for short, process in _workers(suffix):
        with suppress(*_GONE):
            # After the command in parentheses, which may hold anything: the 14th and 15th field of the line.
            fields = (process / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            seconds[short] = seconds.get(short, 0.0) + ticks / os.sysconf("SC_CLK_TCK")
    return seconds


def _note(peaks: dict[str, float], suffix: str) -> None:
    for short, process in _workers(suffix):
        with suppress(*_GONE):
            peaks[short] = max(peaks.get(short, 0.0), _peak(process))


def _workers(suffix: str) -> Iterator[tuple[str, Path]]:
    for process in _PROC.glob("[0-9]*"):
        with suppress(*_GONE):
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
    """Return the MiB that a fold of a collection may take whose vectors have so many components together."""
    return (FACTOR * 4 * values + REST) / MEBIBYTE


def peak_mebibytes() -> float:
    """Return this process's own peak so far."""
    return _peak(_PROC / "self")
