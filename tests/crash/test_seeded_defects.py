"""The harness finds what it is for: each mistake that would break an invariant shows within a handful of runs."""

from pathlib import Path

import pytest

from tests.crash.campaign import Campaign
from tests.crash.defects import DEFECTS, Defect
from tests.crash.scenarios import SCENARIOS


@pytest.mark.parametrize("defect", DEFECTS, ids=[defect.name for defect in DEFECTS])
def test_a_seeded_defect_is_found(defect: Defect, tmp_path: Path) -> None:
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == defect.scenario)

    with defect.planted():
        findings = Campaign(scenario, tmp_path / "disk", only=defect.shown_by).run(stop_at_first=True)

    assert [violation for violation in findings.violations if defect.said in str(violation)]
