"""No fault of a single call to AWS loses, doubles or resurrects rows, or publishes half a snapshot."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.campaign import Campaign
from tests.crash.scenarios import SCENARIOS, Scenario
from tests.reliability_report import RELIABILITY

QUICK = {"first snapshot", "updates and deletes on a base"}


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
