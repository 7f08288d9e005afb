"""The page about cost says what it costs: every amount follows from its formula, and all from the program."""

from __future__ import annotations

import math
import re

import pytest
from pydantic.alias_generators import to_camel

from infra import prices
from infra.config import parse_config
from infra.cost import DEFAULTS, PAGE, TURNS, Load, bill, options, rewritten, total, turned
from tests.infra.declared import IMAGE, declared

LIMIT = 32
ROW = re.compile(r"^\| (?P<what>[^|]+) \| (?P<formula>[^|]*x [^|]*) \| \$(?P<amount>[\d.,]+) \|$", re.MULTILINE)


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_reference_load_stays_within_its_budget() -> None:
    assert total(bill(Load(), DEFAULTS)) < LIMIT


def test_the_page_is_what_the_program_would_write_now() -> None:
    assert rewritten(page()) == page()


def test_every_formula_on_the_page_gives_its_amount() -> None:
    rows = list(ROW.finditer(page()))
    assert len(rows) == len(bill(Load(), DEFAULTS)) + len(options(Load(), DEFAULTS))
    for row in rows:
        factors = [float(part.strip(" $").split(" ")[0].replace(",", "")) for part in row["formula"].split(" x ")]
        assert math.prod(factors) == pytest.approx(float(row["amount"]), abs=0.006), row["what"]


def test_the_amounts_on_the_page_add_up_to_its_total() -> None:
    table = page().partition("<!-- reference -->")[2].partition("<!-- end of reference -->")[0]
    amounts = [float(row["amount"]) for row in ROW.finditer(table)]
    stated = re.search(r"\*\*\$([\d.]+)\*\*", table)
    assert stated
    # Each of the amounts is rounded.
    assert sum(amounts) == pytest.approx(float(stated[1]), abs=0.005 * (len(amounts) + 1))


def test_the_bill_is_calculated_with_the_defaults_that_pulumi_deploys() -> None:
    assert parse_config({"imageUri": IMAGE}).model_copy(update={"image_uri": "any"}) == DEFAULTS


def test_every_metric_that_an_alarm_watches_is_paid_for() -> None:
    (alarms,) = (line for line in bill(Load(), DEFAULTS) if line.what == "alarms")
    queries = [query for alarm in declared().of_type("MetricAlarm") for query in alarm.inputs["metricQueries"]]
    assert alarms.factors[0][0] == sum("metric" in query for query in queries)


def test_what_is_turned_is_a_setting_with_a_value_that_is_accepted() -> None:
    for _what, changes, _load in TURNS:
        typed = {to_camel(name): value for name, value in changes.items()}
        assert parse_config({"imageUri": IMAGE, **typed}).model_dump() == turned(changes).model_dump() | {
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


def test_no_price_is_nothing() -> None:
    assert all(value > 0 for name, value in vars(prices).items() if name.isupper())
