"""Crashes of a command at one of its calls to the object store."""

from __future__ import annotations

from tests.fakes.services import Fakes


class CrashError(Exception):
    """The machine stops."""


def crash_at(fakes: Fakes, moment: int) -> None:
    """Let the call number `moment`, counted from 0, raise CrashError, and so every later call."""
    left = moment

    def count_down(_call: str, _key: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise CrashError

    fakes.objects.before = count_down
