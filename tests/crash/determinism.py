"""What stands in for threads and for a disk that comes and goes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self


class OneByOne:
    """An executor that does one thing after the other. As with threads, all have begun before one's error is raised."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, call: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Call every item, and raise the first error after the last: the others were on their way already."""
        answers: dict[int, Any] = {}
        errors: dict[int, Exception] = {}
        for number, item in self.ordered(list(enumerate(items))):
            try:
                answers[number] = call(item)
            except Exception as error:  # noqa: BLE001 - an executor keeps any error for whoever asks
                errors[number] = error
        if errors:
            raise errors[min(errors)]
        return iter([answers[number] for number in sorted(answers)])

    def submit(self, call: Callable[[Any], Any], item: Any) -> Future[Any]:
        """Call an item at once, and keep its answer or error for whoever asks."""
        done: Future[Any] = Future()
        try:
            done.set_result(call(item))
        except Exception as error:  # noqa: BLE001 - an executor keeps any error for whoever asks
            done.set_exception(error)
        return done

    def ordered(self, items: list[Any]) -> list[Any]:
        """Return the items in the order in which they are to be called."""
        return items

    def shutdown(self, **_: object) -> None:
        """Nothing is left to do."""


class LastFirst(OneByOne):
    """One that begins with the last: threads may be that unfair."""

    def ordered(self, items: list[Any]) -> list[Any]:
        """Return the items backwards."""
        return items[::-1]


def files_on(disk: Path) -> dict[str, bytes]:
    """Return every file below the directory."""
    return {str(path.relative_to(disk)): path.read_bytes() for path in disk.rglob("*") if path.is_file()}


def write_files(disk: Path, files: dict[str, bytes]) -> None:
    """Let the directory hold these files and no others."""
    shutil.rmtree(disk, ignore_errors=True)
    for path, content in files.items():
        (disk / path).parent.mkdir(parents=True, exist_ok=True)
        (disk / path).write_bytes(content)
