"""The harness finds what it is for: each mistake that would break an invariant shows within a handful of runs."""

from pathlib import Path

import pytest

from tests.crash.campaign import Campaign
from tests.crash.defects import DEFECTS, Defect
from tests.crash.faults import Kind
from tests.crash.folds import FoldMemory
from tests.crash.scenarios import SCENARIOS
from tests.fakes.aws.protocol import Call


@pytest.mark.parametrize("defect", DEFECTS, ids=[defect.name for defect in DEFECTS])
def test_a_seeded_defect_is_found(defect: Defect, tmp_path: Path) -> None:
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == defect.scenario)

    with defect.planted():
        findings = Campaign(scenario, tmp_path / "disk", only=defect.shown_by).run(stop_at_first=True)

    assert [violation for violation in findings.violations if defect.said in str(violation)]


def test_outcomes_that_are_remembered_are_those_that_another_run_would_have(tmp_path: Path) -> None:
    """With a defect planted, so that there are problems to compare."""
    defect = next(defect for defect in DEFECTS if defect.name == "deltas go before the swap")
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == defect.scenario)

    folds = FoldMemory()

    with defect.planted():
        remembered, run_again = (
            Campaign(scenario, tmp_path / "disk", folds=folds, only=in_the_upload, remember=remember).run()
            for remember in (True, False)
        )

    assert remembered.ended == run_again.ended
    assert [str(v) for v in remembered.violations] == [str(v) for v in run_again.violations]
    assert remembered.violations
    assert remembered.continuations < run_again.continuations


def in_the_upload(state: str, call: Call, kind: Kind) -> bool:
    return state == "UploadSnapshot" and call.writes and kind.name in {"crash after, dies", "throttled"}
