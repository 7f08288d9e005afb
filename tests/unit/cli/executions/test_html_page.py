"""The history page: complete, escaped and self-contained."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from chromadb_compaction.cli.executions.chart import draw
from chromadb_compaction.cli.executions.client import Execution
from chromadb_compaction.cli.executions.failure_report import report_failure
from chromadb_compaction.cli.executions.html_page import page
from chromadb_compaction.cli.executions.timeline import Timeline
from tests.histories import BATCH, a_failed_execution

MARKUP = "<script>alert('x')</script> & \"quotes\""
VOID = {"meta", "br"}


class ParsedPage(HTMLParser):
    """A page's tags, attributes and text. Raises AssertionError if a tag that is not open is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def html_of(execution: Execution, timeline: Timeline) -> str:
    return page(execution, timeline, report_failure(execution, timeline, None))


def test_every_state_and_every_batch_is_on_the_page() -> None:
    execution, timeline = a_failed_execution(batches=3)

    text = ParsedPage(html_of(execution, timeline)).text

    for visit in timeline.visits:
        assert visit.name in text
    for number in range(3):
        assert f"batch {number:04d}" in text


def test_every_opened_tag_is_closed() -> None:
    assert ParsedPage(html_of(*a_failed_execution())).open == []


def test_the_page_loads_nothing_and_has_no_script() -> None:
    html = html_of(*a_failed_execution())
    parsed = ParsedPage(html)

    assert not {"script", "link", "img", "iframe", "a"} & set(parsed.tags)
    assert not {"src", "href", "onload", "onclick", "srcset"} & {name for name, _ in parsed.attributes}
    for reference in ("http:", "https:", "url(", "@import"):
        assert reference not in html


def test_markup_in_names_and_messages_is_escaped() -> None:
    parsed = ParsedPage(html_of(*a_failed_execution(name=MARKUP, error=MARKUP, message=MARKUP)))

    assert "script" not in parsed.tags
    assert parsed.text.count("<script>alert('x')</script>") > 3


def test_the_failure_names_its_state_and_batch_and_the_next_command() -> None:
    text = ParsedPage(html_of(*a_failed_execution())).text

    assert "In MergeBatches, batch 0000." in text
    assert "chromadb-compaction compact --wait" in text


@pytest.mark.parametrize(("batches", "expanded"), [(12, True), (13, False)])
def test_more_than_twelve_batches_are_collapsed(batches: int, expanded: bool) -> None:  # noqa: FBT001 - a parameter of the test
    attributes = ParsedPage(html_of(*a_failed_execution(batches=batches))).attributes

    assert (("open", "") in attributes) is expanded


def test_each_attempt_is_a_bar_within_the_time_of_its_state() -> None:
    execution, timeline = a_failed_execution(batches=2)
    assert execution.stopped is not None

    rows = {row.label: row for row in draw(timeline, execution.started, execution.stopped).rows}
    first = rows["batch 0000"]
    [stay] = [bar for bar in rows["MergeBatches"].bars if bar.kind == "stay"]

    assert [bar.kind for bar in first.bars] == ["failed", "failed"]
    assert first.remark == "docs, 100 deltas"
    assert rows["MergeBatches"].remark == "2 batches, 2 failed attempts"
    for bar in first.bars:
        assert stay.begin <= bar.begin
        assert bar.begin + bar.length <= stay.begin + stay.length + 1e-9


def test_the_report_has_the_key_of_the_failed_batch() -> None:
    execution, timeline = a_failed_execution()

    failure = report_failure(execution, timeline, None)

    assert failure is not None
    assert (failure.state, failure.batch) == ("MergeBatches", BATCH.format(0))
