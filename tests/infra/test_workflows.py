"""The workflows of GitHub Actions are valid, hold no long-lived keys, and run files that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
VALIDATOR = Path(sys.executable).with_name("check-jsonschema")


def parsed(file: Path) -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return workflow


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = parsed(file)["jobs"]
    return found


def steps(file: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(file).values():
        yield from job["steps"]


def validate(file: Path) -> subprocess.CompletedProcess[str]:
    """Check a workflow against the schema, which the validator has inside."""
    command: list[str | Path] = [VALIDATOR, "--builtin-schema", "vendor.github-workflows", file]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_has_the_form_that_github_accepts(file: Path) -> None:
    checked = validate(file)
    assert checked.returncode == 0, checked.stdout


def test_the_validator_does_find_faults(tmp_path: Path) -> None:
    faulty = tmp_path / "faulty.yml"
    faulty.write_text("on: push\njobs: {a: {runs-on: x, steps: [{use: y}]}}\n")
    assert validate(faulty).returncode != 0


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_no_workflow_uses_a_secret(file: Path) -> None:
    assert "secrets." not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_may_only_read_unless_a_job_needs_more(file: Path) -> None:
    assert parsed(file)["permissions"] == {"contents": "read"}
    more = {name: job["permissions"] for name, job in jobs(file).items() if "permissions" in job}
    allowed = {"preview": {"contents": "read", "id-token": "write", "pull-requests": "write"}}
    assert more == (allowed if file.stem == "infrastructure" else {})


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_no_text_of_a_pull_request_is_part_of_a_script(file: Path) -> None:
    assert [step["run"] for step in steps(file) if "${{" in step.get("run", "")] == []


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_every_action_has_a_version_and_no_checkout_keeps_the_token(file: Path) -> None:
    used = [step for step in steps(file) if "uses" in step]
    assert all(re.fullmatch(r"[\w.-]+/[\w./-]+@v\d+", step["uses"]) for step in used)
    checkouts = [step for step in used if step["uses"].startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_every_script_is_valid_and_every_file_in_it_exists(file: Path) -> None:
    for step in steps(file):
        script = step.get("run", "")
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        named = re.findall(r"(?<![\w./:-])((?:infra|scripts|\.ci)/[\w./-]+)", script)
        assert [name for name in named if not (CHECKOUT / name).exists()] == []


def test_a_preview_runs_for_pull_requests_of_this_repository_alone() -> None:
    condition = jobs(CHECKOUT / ".github" / "workflows" / "infrastructure.yml")["preview"]["if"]
    assert "github.event_name == 'pull_request'" in condition
    assert "github.event.pull_request.head.repo.full_name == github.repository" in condition


def test_the_image_is_tried_as_lambda_runs_it() -> None:
    scripts = " ".join(step.get("run", "") for step in steps(CHECKOUT / ".github" / "workflows" / "infrastructure.yml"))
    for part in ("--platform linux/arm64", "--provenance=false", "--read-only", "--network none", "smoke_test.py"):
        assert part in scripts
