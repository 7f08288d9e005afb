"""The replacement of a directory in one step."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

_AT_FDCWD: Final = -100
_EXCHANGE: Final = 2
_NOT_SUPPORTED: Final = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def install(new: Path, target: Path) -> None:
    """Put the directory `new` in the place of `target`. What `target` held is under the name `new` afterwards.

    A reader that opens `target` meanwhile finds the old content or the new one, whole. Only where the system cannot
    exchange two directories, `target` is missing for a moment.
    """
    if not target.exists() or not any(target.iterdir()):
        new.rename(target)  # replaces an empty directory, too
        return
    if not _exchange(new, target):
        aside = new.with_name(f"{new.name}.before")
        target.rename(aside)
        new.rename(target)
        aside.rename(new)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two directories by one call of the system, and return whether it can."""
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(library, "renameat2"):  # Linux
        failed = library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE)
    elif hasattr(library, "renamex_np"):  # macOS
        failed = library.renamex_np(*names, _EXCHANGE)
    else:
        return False
    number = ctypes.get_errno()
    if failed and number not in _NOT_SUPPORTED:
        raise OSError(number, os.strerror(number), str(other))
    return not failed
