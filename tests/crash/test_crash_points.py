"""No fault of a single call to AWS loses, doubles or resurrects rows, or publishes half a snapshot."""

from collections.abc import Callable
from pathlib import Path

import pytest

from chromadb_compaction.layout import RUNNING_PREFIX
from chromadb_compaction.manifest import shards
from tests.crash.campaign import Campaign
from tests.crash.faults import FaultKind
from tests.crash.scenarios import SCENARIOS, Scenario
from tests.fakes.aws.protocol import Call
from tests.reliability_report import RELIABILITY

QUICK = {"updates and deletes on a base"}


def _scenarios() -> list[object]:
    return [
        pytest.param(scenario, id=scenario.name, marks=[] if scenario.name in QUICK else pytest.mark.slow)
        for scenario in SCENARIOS
    ]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", _scenarios())
def test_no_fault_of_a_single_call_does_damage(
    scenario: Scenario, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    findings = Campaign(scenario, tmp_path / "disk").run()
    record_property(RELIABILITY, findings.counts())

    assert [str(violation) for violation in findings.violations] == []
    assert findings.runs > 10 * findings.crash_points > 0


def test_a_process_killed_by_a_delta_that_a_drop_makes_fit_does_no_damage(tmp_path: Path) -> None:
    """The next pass is without the drop, so the delta contradicts the shape that it knows."""
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == "dropped collections")

    findings = Campaign(scenario, tmp_path / "disk", only=killed_in_the_download).run()

    assert findings.runs > 0
    assert [str(violation) for violation in findings.violations] == []


def test_no_fault_of_a_call_about_a_shard_does_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MOST_WITHOUT_SHARDS", 0)
    monkeypatch.setattr(shards, "NAMES_IN_A_SHARD", 1)
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == "updates and deletes on a base")

    findings = Campaign(scenario, tmp_path / "disk", only=killed_or_overtaken_at_a_shard).run()

    assert findings.runs > 10
    assert [str(violation) for violation in findings.violations] == []


def killed_or_overtaken_at_a_shard(_state: str, call: Call, kind: FaultKind) -> bool:
    return "/shard-" in call.target and kind.name.startswith(("crash", "overtaken"))


def killed_in_the_download(state: str, call: Call, kind: FaultKind) -> bool:
    marks = call.target.startswith(RUNNING_PREFIX) and call.operation == "PutObject"
    return state == "DownloadSnapshot" and marks and kind.name == "crash after, caught"
