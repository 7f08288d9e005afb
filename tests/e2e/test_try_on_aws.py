"""The trial of a stack on AWS, run on the local stack: `pulumi` and `docker` are stubs, and everything else is real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import Stack
from tests.stubs import Stubs, deployment_stubs

pytestmark = pytest.mark.e2e

SCRIPT = Path(__file__).parents[2] / "infra" / "try_on_aws"


@pytest.fixture
def stubs(tmp_path: Path, stack: Stack) -> Stubs:
    """Return stubs whose `pulumi stack output` prints the local stack's outputs."""
    shutil.copytree(SCRIPT.parent, tmp_path / "infra", ignore=lambda *_: ["__pycache__"])
    Stubs(tmp_path, tmp_path / "calls.log").add("infra/build_zip")
    outputs = tmp_path / "outputs.sh"
    outputs.write_text("\n".join(stack.deployed.shell_lines()), encoding="utf-8")
    stubs = deployment_stubs(tmp_path)
    stubs.add("pulumi", f'[ "$1 $2" != "stack output" ] || cat "{outputs}"')
    return stubs


def run(tmp_path: Path, stubs: Stubs, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CHROMADB_"))}
    path = f"{stubs.folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**kept, "PATH": path, "XDG_STATE_HOME": str(tmp_path)}
    command: list[str | Path] = [tmp_path / "infra" / "try_on_aws", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def verbs(stubs: Stubs) -> list[str]:
    """Return the commands of Pulumi that change a stack, in order."""
    words = [call.split()[2:] for call in stubs.calls if ": pulumi " in call]
    return [" ".join(each[:2]) if each[0] == "stack" else each[0] for each in words if each[0] != "config"]


def test_the_trial_compacts_checks_and_destroys(tmp_path: Path, stubs: Stubs) -> None:
    ran = run(tmp_path, stubs, "us-east-1", "architecture", "x86_64")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert verbs(stubs) == ["stack init", "up", "stack output", "preview", "destroy", "stack rm"]
    settings = [call.partition("config set ")[2].split()[2:] for call in stubs.calls if "config set" in call]
    assert ["chromadb:protectData", "false"] in settings
    assert ["chromadb:architecture", "x86_64"] in settings
    assert "is whole" in ran.stdout
    assert ran.stdout.rstrip().endswith("everything worked")


def test_a_trial_that_fails_is_destroyed_too_and_fails(tmp_path: Path, stubs: Stubs, stack: Stack) -> None:
    stack.put_objects({"snapshot/CURRENT": b"no pointer"})

    ran = run(tmp_path, stubs, "us-east-1")

    assert ran.returncode != 0
    assert verbs(stubs)[-2:] == ["destroy", "stack rm"]
    assert "everything worked" not in ran.stdout


def test_a_trial_that_is_not_destroyed_says_how_to_destroy_it(tmp_path: Path, stubs: Stubs) -> None:
    stubs.add("pulumi", '[ "$1" = destroy ] && exit 255; [ "$1" = up ] && exit 1; exit 0')

    ran = run(tmp_path, stubs, "us-east-1")

    assert ran.returncode == 1
    assert "is not destroyed; run: cd infra && pulumi destroy" in ran.stderr
