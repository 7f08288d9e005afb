"""The commands of the README's deployment, typed as they stand there, with stubs in place of Pulumi and Docker."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from infra import program
from infra.config import parse_config
from tests.stubs import DIGEST, Stubs, deployment_stubs

README = Path(program.__file__).with_name("README.md").read_text(encoding="utf-8")
BASE_IMAGE = f"public.ecr.aws/lambda/python@{DIGEST}"


def block(heading: str) -> str:
    """Return the block of commands below a heading that builds and deploys, with the values that a reader fills in."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    (chosen,) = (each for each in blocks if "infra/build_zip" in each)
    filled = chosen.replace("<region>", "eu-west-1").replace("<the commit before>", "HEAD~1")
    assert not re.search(r"<\w", filled), filled
    return filled


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder in the form of a checkout, whose zip is built by a stub."""
    Stubs(tmp_path, tmp_path / "calls.log").add("infra/build_zip")
    (tmp_path / "infra" / "Pulumi.yaml").touch()
    return tmp_path


def type_in(checkout: Path, commands: str) -> list[str]:
    """Run commands as a person types them in the root of a checkout, and return the calls of the stubs."""
    stubs = deployment_stubs(checkout)
    path = f"{stubs.folder}:{os.environ['PATH']}"
    subprocess.run(["bash", "-eu", "-c", commands], cwd=checkout, env={**os.environ, "PATH": path}, check=True)
    return stubs.calls


def test_the_first_deployment_builds_configures_and_deploys(checkout: Path) -> None:
    calls = type_in(checkout, block("First deployment"))

    programs = [call.partition(": ")[2] for call in calls]
    assert [each for each in programs if not each.startswith(("uv", "docker"))] == [
        "build_zip ",
        "pulumi stack init dev",
        "pulumi config set aws:region eu-west-1",
        f"pulumi config set chromadb:baseImage {BASE_IMAGE}",
        "pulumi config set chromadb:alarmEmail you@example.com",
        "pulumi up",
    ]
    assert all(call.startswith("infra: ") for call in calls if " pulumi " in call)
    assert parse_config({"baseImage": BASE_IMAGE}).base_image == BASE_IMAGE


@pytest.mark.parametrize("heading", ["Update", "Rollback"])
def test_other_code_is_built_before_it_is_deployed(checkout: Path, heading: str) -> None:
    calls = type_in(checkout, block(heading))

    build, *_ = (number for number, call in enumerate(calls) if "build_zip" in call)
    deploy = max(number for number, call in enumerate(calls) if call == "infra: pulumi up")
    assert build < deploy


def test_every_program_in_a_command_is_known() -> None:
    known = {
        "aws", "cd", "chromadb-compaction", "digest=$(docker", "git", "infra/build_zip", "infra/try_on_aws", "pulumi",
        "python", "set", "uv", "ARCHITECTURE=x86_64",
    }  # fmt: skip
    lines = [line for text in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in text.splitlines()]
    used = {line.split()[0] for line in lines if line.strip() and not line.startswith((" ", "#"))}
    assert used <= known
