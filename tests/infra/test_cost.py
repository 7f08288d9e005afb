"""The cost page agrees with the program: every amount follows from its formula."""

from __future__ import annotations

import math
import re

import pytest
from pydantic.alias_generators import to_camel

from infra import prices
from infra.config import parse_config
from infra.cost import DEFAULTS, PAGE, VARIATIONS, Load, bill, changed_config, options, rewritten, total
from tests.infra.declared import IMAGE, declared

LIMIT = 32
ROW = re.compile(r"^\| (?P<what>[^|]+) \| (?P<formula>[^|]*x [^|]*) \| \$(?P<amount>[\d.,]+) \|$", re.MULTILINE)


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_reference_load_stays_within_its_budget() -> None:
    assert total(bill(Load(), DEFAULTS)) < LIMIT


def test_the_page_is_up_to_date() -> None:
    assert rewritten(page()) == page()


def test_every_formula_on_the_page_gives_its_amount() -> None:
    rows = list(ROW.finditer(page()))
    assert len(rows) == len(bill(Load(), DEFAULTS)) + len(options(Load(), DEFAULTS))
    for row in rows:
        factors = [float(part.strip(" $").split(" ")[0].replace(",", "")) for part in row["formula"].split(" x ")]
        assert math.prod(factors) == pytest.approx(float(row["amount"]), abs=0.006), row["what"]


def test_the_amounts_on_the_page_add_up_to_the_total() -> None:
    table = page().partition("<!-- reference -->")[2].partition("<!-- end of reference -->")[0]
    amounts = [float(row["amount"]) for row in ROW.finditer(table)]
    stated = re.search(r"\*\*\$([\d.]+)\*\*", table)
    assert stated
    # The amounts are rounded.
    assert sum(amounts) == pytest.approx(float(stated[1]), abs=0.005 * (len(amounts) + 1))


def test_the_bill_uses_the_defaults_that_pulumi_deploys() -> None:
    assert parse_config({"imageUri": IMAGE}).model_copy(update={"image_uri": "any"}) == DEFAULTS


def test_the_bill_includes_every_metric_that_an_alarm_watches() -> None:
    (alarms,) = (line for line in bill(Load(), DEFAULTS) if line.what == "alarms")
    queries = [query for alarm in declared().of_type("MetricAlarm") for query in alarm.inputs["metricQueries"]]
    assert alarms.factors[0][0] == sum("metric" in query for query in queries)


def test_every_variation_changes_settings_to_valid_values() -> None:
    for _what, changes, _load in VARIATIONS:
        typed = {to_camel(name): value for name, value in changes.items()}
        assert parse_config({"imageUri": IMAGE, **typed}).model_dump() == changed_config(changes).model_dump() | {
            "image_uri": IMAGE
        }


@pytest.mark.parametrize(
    ("grown", "dearer"),
    [
        (Load(snapshot_gb=2), "snapshots kept"),
        (Load(compactor_seconds=90), "compactor"),
        (Load(deltas=200), "merge-batch"),
    ],
)
def test_the_bill_grows_with_the_load(grown: Load, dearer: str) -> None:
    before, after = ({line.what: line.dollars for line in bill(load, DEFAULTS)} for load in (Load(), grown))
    assert after[dearer] == pytest.approx(2 * before[dearer])
    assert sum(after.values()) > sum(before.values())


def test_the_parts_of_an_upload_are_those_of_the_code() -> None:
    from chromadb_compaction.aws.object_store import PARTS

    (small, large) = (
        next(line for line in bill(Load(snapshot_gb=gigabytes), DEFAULTS) if line.what == "S3 writes and listings")
        for gigabytes in (1, 2)
    )
    assert large.factors[1][0] - small.factors[1][0] == 1024**3 / PARTS.multipart_chunksize


def test_no_price_is_zero() -> None:
    assert all(value > 0 for name, value in vars(prices).items() if name.isupper())
