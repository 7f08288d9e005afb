"""Replacements for threads, and for a disk that can be saved and restored."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self


class SequentialExecutor:
    """An executor that makes one call after the other. As with threads, an error is raised after all calls."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, call: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Call every item, then raise the first error if there is one."""
        results: dict[int, Any] = {}
        errors: dict[int, Exception] = {}
        for number, item in self.ordered(list(enumerate(items))):
            try:
                results[number] = call(item)
            except Exception as error:  # noqa: BLE001 - an executor passes on every error
                errors[number] = error
        if errors:
            raise errors[min(errors)]
        return iter([results[number] for number in sorted(results)])

    def submit(self, call: Callable[[Any], Any], item: Any) -> Future[Any]:
        """Call an item at once, and return its result or error as a finished future."""
        future: Future[Any] = Future()
        try:
            future.set_result(call(item))
        except Exception as error:  # noqa: BLE001 - an executor passes on every error
            future.set_exception(error)
        return future

    def ordered(self, items: list[Any]) -> list[Any]:
        """Return the items in the order of the calls."""
        return items

    def shutdown(self, **_: object) -> None:
        """Do nothing."""


class ReversedExecutor(SequentialExecutor):
    """An executor that starts with the last item, as threads may."""

    def ordered(self, items: list[Any]) -> list[Any]:
        """Return the items in reverse."""
        return items[::-1]


def files_on(disk: Path) -> dict[str, bytes]:
    """Return every file below the directory."""
    return {str(path.relative_to(disk)): path.read_bytes() for path in disk.rglob("*") if path.is_file()}


def write_files(disk: Path, files: dict[str, bytes]) -> None:
    """Replace the content of the directory by these files."""
    shutil.rmtree(disk, ignore_errors=True)
    for path, content in files.items():
        (disk / path).parent.mkdir(parents=True, exist_ok=True)
        (disk / path).write_bytes(content)
