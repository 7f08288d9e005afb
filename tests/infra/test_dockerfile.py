"""A linter accepts the Dockerfile."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "infra" / "Dockerfile"


def lint(dockerfile: str) -> list[str]:
    """Return the findings of hadolint, which needs no network."""
    ran = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", "--format", "tty", "-"],
        input=dockerfile,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    return ran.stdout.splitlines()


def test_the_linter_finds_nothing() -> None:
    assert lint(DOCKERFILE.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("line", "rule"),
    [("FROM debian", "DL3006"), ("FROM debian:latest", "DL3007"), ("FROM debian:12\nRUN sudo ls", "DL3004")],
)
def test_the_linter_does_find_faults(line: str, rule: str) -> None:
    assert [found for found in lint(f"{line}\n") if rule in found]


def test_every_ignored_rule_has_a_reason() -> None:
    lines = DOCKERFILE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("# hadolint ignore="):
            assert re.match(r"# [A-Z]", lines[number - 1]), line


def test_nothing_runs_as_root_and_no_build_tool_is_left() -> None:
    final = DOCKERFILE.read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!root$|0$)\S+$", final, re.MULTILINE)
    assert not re.search(r"^RUN ", final, re.MULTILINE)


def test_every_stage_starts_from_the_base_image_that_has_a_digest() -> None:
    lines = DOCKERFILE.read_text(encoding="utf-8").splitlines()
    stages = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert set(stages) == {"${BASE_IMAGE}"}
    assert "ARG BASE_IMAGE" in lines, "without a default"
    assert not [line for line in lines if line.startswith("# syntax=")], "it names an image by a tag"


def test_the_files_in_the_image_can_be_read_by_every_user() -> None:
    final = DOCKERFILE.read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    copies = [line for line in final.splitlines() if line.startswith("COPY ")]
    assert copies
    assert all("--chmod=0755" in line for line in copies)


def test_the_image_is_built_with_the_uv_of_this_checkout() -> None:
    pinned = re.search(
        r"^uv==(\S+)", (DOCKERFILE.parent / "uv_requirement.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    used = re.search(r"^UV_VERSION=(\S+)", (ROOT / "scripts" / "bootstrap").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned
    assert used
    assert pinned[1] == used[1]
