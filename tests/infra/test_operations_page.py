"""The operations page lists every alarm and every metric, and its links lead to sections that exist."""

from __future__ import annotations

import re
from pathlib import Path

from chromadb_compaction import metrics
from infra.alarms import EARLY_START, alarm_specs
from infra.config import parse_config
from infra.names import StackNames
from tests.infra.declared import IMAGE

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
CONFIG = parse_config({"imageUri": IMAGE, "replicaRegion": "eu-central-1"})
NAMES = StackNames(stack="dev", account="123456789012", region="eu-west-1")


def first_cells(heading: str) -> list[str]:
    """Return the names in the first column of the table with this header."""
    table = PAGE.partition(f"{heading}\n")[2].partition("\n\n")[0]
    return re.findall(r"`([\w-]+)`", " ".join(row.split("|")[1] for row in table.splitlines()))


def test_every_alarm_is_in_the_table_of_alarms() -> None:
    alarms = {spec.name for spec in alarm_specs(NAMES, CONFIG)} | {EARLY_START}
    assert alarms == {name for name in first_cells("| alarm or symptom | meaning | go to |") if name.islower()}


def test_every_metric_is_in_the_table_of_metrics() -> None:
    assert {measure.metric for measure in metrics.Measure} | {metrics.PHASE} == set(
        first_cells("| metric | meaning | act when |")
    )


def test_every_link_within_the_page_leads_to_a_heading() -> None:
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings
