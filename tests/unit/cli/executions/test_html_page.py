"""The history page: whole, escaped, and in need of nothing else."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from chromadb_compaction.cli.executions.chart import draw
from chromadb_compaction.cli.executions.failure_report import tell_failure
from chromadb_compaction.cli.executions.html_page import page
from tests.histories import BATCH, RecordedExecution, a_failed_execution

EVIL = "<script>alert('x')</script> & \"quotes\""
VOID = {"meta", "br"}


class Parsed(HTMLParser):
    """A page's tags, attributes and text. Raises AssertionError when a tag is closed that is not open."""

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


def html_of(told: RecordedExecution) -> str:
    return page(told.execution, told.timeline, tell_failure(told.execution, told.timeline, None))


def test_every_state_and_every_batch_is_on_the_page() -> None:
    told = a_failed_execution(batches=3)

    text = Parsed(html_of(told)).text

    for visit in told.timeline.visits:
        assert visit.name in text
    for number in range(3):
        assert f"batch {number:04d}" in text


def test_every_tag_that_opens_closes() -> None:
    assert Parsed(html_of(a_failed_execution())).open == []


def test_the_page_asks_the_network_for_nothing_and_runs_nothing() -> None:
    html = html_of(a_failed_execution())
    parsed = Parsed(html)

    assert not {"script", "link", "img", "iframe", "a"} & set(parsed.tags)
    assert not {"src", "href", "onload", "onclick", "srcset"} & {name for name, _ in parsed.attributes}
    for reference in ("http:", "https:", "url(", "@import"):
        assert reference not in html


def test_what_others_have_written_is_text_and_never_markup() -> None:
    told = a_failed_execution(name=EVIL, error=EVIL, message=EVIL)

    parsed = Parsed(html_of(told))

    assert "script" not in parsed.tags
    assert parsed.text.count("<script>alert('x')</script>") > 3


def test_the_failure_says_where_it_was_and_what_to_type() -> None:
    text = Parsed(html_of(a_failed_execution())).text

    assert "In MergeBatches, batch 0000." in text
    assert "chromadb-compaction compact --wait" in text


@pytest.mark.parametrize(("batches", "unfolded"), [(12, True), (13, False)])
def test_a_map_of_many_batches_is_folded(batches: int, unfolded: bool) -> None:  # noqa: FBT001 - a parameter of the test
    attributes = Parsed(html_of(a_failed_execution(batches=batches))).attributes

    assert (("open", "") in attributes) is unfolded


def test_each_attempt_is_a_bar_within_its_states_stay() -> None:
    told = a_failed_execution(batches=2)
    assert told.execution.stopped is not None

    rows = {row.label: row for row in draw(told.timeline, told.execution.started, told.execution.stopped).rows}
    first = rows["batch 0000"]
    [stay] = [bar for bar in rows["MergeBatches"].bars if bar.kind == "stay"]

    assert [bar.kind for bar in first.bars] == ["failed", "failed"]
    assert first.remark == "docs, 100 deltas"
    assert rows["MergeBatches"].remark == "2 batches, 2 failed attempts"
    for bar in first.bars:
        assert stay.begin <= bar.begin
        assert bar.begin + bar.length <= stay.begin + stay.length + 1e-9


def test_the_batch_that_failed_is_told_by_its_key() -> None:
    told = a_failed_execution()
    story = tell_failure(told.execution, told.timeline, None)

    assert story is not None
    assert (story.state, story.batch) == ("MergeBatches", BATCH.format(0))
