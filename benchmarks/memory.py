"""The peak memory of the local stack's functions, as the kernel keeps it for each worker process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEBIBYTE = 1024 * 1024
POLL_SECONDS = 0.5
_PROC = Path("/proc")


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


def _note(peaks: dict[str, float], suffix: str) -> None:
    for process in _PROC.glob("[0-9]*"):
        try:
            function = _function(process)
            if function.endswith(suffix):
                short = function.removeprefix("chromadb-").removesuffix(suffix)
                peaks[short] = max(peaks.get(short, 0.0), _peak(process))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has ended since, or is somebody else's


def _function(process: Path) -> str:
    variables = (process / "environ").read_bytes().split(b"\0")
    prefix = b"AWS_LAMBDA_FUNCTION_NAME="
    return next((each.removeprefix(prefix).decode() for each in variables if each.startswith(prefix)), "")


def _peak(process: Path) -> float:
    lines = (process / "status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) * 1024 / MEBIBYTE for line in lines if line.startswith("VmHWM:")), 0.0)


def peak_mebibytes() -> float:
    """Return this process's own peak so far."""
    return _peak(_PROC / "self")
