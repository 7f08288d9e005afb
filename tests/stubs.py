"""Programs that record how they are called, in place of those that this machine does not have."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

DIGEST = f"sha256:{'2' * 64}"


class Stubs(NamedTuple):
    """A folder of stubs for PATH, and the log of their calls."""

    folder: Path
    log: Path

    def add(self, name: str, script: str = "") -> None:
        """Add a program that records its folder's name and its arguments, and then runs `script` (of sh)."""
        program = self.folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        record = f'echo "$(basename "$PWD"): {program.name} $*" >> "{self.log}"'
        program.write_text(f"#!/bin/sh\n{record}\n{script}\n", encoding="utf-8")
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """The calls so far, as `folder: program arguments`."""
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []


def deployment_stubs(root: Path) -> Stubs:
    """Return stubs of what a deployment calls: uv, git, docker, pulumi, and the script that builds the zip."""
    stubs = Stubs(root / "stubs", root / "calls.log")
    for name in ("uv", "git", "pulumi"):
        stubs.add(name)
    stubs.add("docker", f"echo {DIGEST}")
    return stubs
