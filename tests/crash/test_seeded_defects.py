"""The campaign finds each deliberate mistake within a few runs."""

from pathlib import Path

import pytest

from tests.crash.campaign import Campaign
from tests.crash.defects import DEFECTS, Defect
from tests.crash.faults import FaultKind
from tests.crash.folds import FoldMemory
from tests.crash.scenarios import SCENARIOS
from tests.fakes.aws.protocol import Call


@pytest.mark.parametrize("defect", DEFECTS, ids=[defect.name for defect in DEFECTS])
def test_a_seeded_defect_is_found(defect: Defect, tmp_path: Path) -> None:
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == defect.scenario)

    with defect.seeded():
        findings = Campaign(scenario, tmp_path / "disk", only=defect.shown_by).run(stop_at_first=True)

    assert [violation for violation in findings.violations if defect.message in str(violation)]


def test_remembered_results_equal_those_of_another_run(tmp_path: Path) -> None:
    """A seeded defect gives problems to compare."""
    defect = next(defect for defect in DEFECTS if defect.name == "deltas are archived before the swap")
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == defect.scenario)

    folds = FoldMemory()

    with defect.seeded():
        remembered, run_again = (
            Campaign(scenario, tmp_path / "disk", folds=folds, only=in_the_upload, remember=remember).run()
            for remember in (True, False)
        )

    assert remembered.ended == run_again.ended
    assert [str(v) for v in remembered.violations] == [str(v) for v in run_again.violations]
    assert remembered.violations
    assert remembered.continuations < run_again.continuations


def in_the_upload(state: str, call: Call, kind: FaultKind) -> bool:
    return state == "UploadSnapshot" and call.writes and kind.name in {"crash after, dies", "throttled"}
