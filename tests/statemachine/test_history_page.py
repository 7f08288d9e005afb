"""The history page, from the histories of real interpreters."""

from __future__ import annotations

from html.parser import HTMLParser

from chromadb_compaction.cli.executions.client import Execution
from chromadb_compaction.cli.executions.failure_report import report_failure
from chromadb_compaction.cli.executions.html_page import page
from chromadb_compaction.cli.executions.timeline import read_timeline
from tests.statemachine.conftest import RunMachine
from tests.statemachine.engines import Finished
from tests.statemachine.fake_functions import FakeFunctions, Raises
from tests.statemachine.task_results import a_listing, a_plan, a_run, a_snapshot

ARN = "arn:aws:states:us-east-1:123456789012:execution:chromadb-compaction-dev:the-one"


class ChartTexts(HTMLParser):
    """The labels of the chart's rows and the titles of its bars."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.labels: list[str] = []
        self.titles: list[str] = []
        self._in_label = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self._in_label = attributes.get("class") == "label"
        if tag == "i":
            self.titles.append(str(attributes["title"]))

    def handle_data(self, data: str) -> None:
        if self._in_label:
            self.labels.append(data.strip())
            self._in_label = False


def chart_texts(finished: Finished) -> ChartTexts:
    timeline = read_timeline(finished.history)
    times = [event["timestamp"] for event in finished.history]
    execution = Execution(
        arn=ARN,
        name="the-one",
        status=finished.status,
        started=min(times),
        stopped=max(times),
        error=timeline.failure.error if timeline.failure else None,
        message=timeline.failure.message if timeline.failure else None,
    )
    html = page(execution, timeline, report_failure(execution, timeline, None))
    return ChartTexts(html)


def test_every_batch_is_a_row_under_its_map(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("ListDeltas", a_listing(batches=3))

    labels = chart_texts(run()).labels

    batches = [label for label in labels if label.startswith("batch")]
    assert labels.index("MergeBatches") < labels.index(batches[0])
    assert "UploadSnapshot" in labels
    assert batches == ["batch 0000", "batch 0001", "batch 0002"]


def test_a_retry_has_its_own_bar_with_the_error(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("ListDeltas", a_listing(batches=1))
    functions.set_behaviours("MergeBatch", Raises("TransientStorageError", "503 Slow Down"), a_run)

    titles = chart_texts(run()).titles

    # Without iterations the history does not say whose attempt failed, and the retry is the batch's first bar.
    failed = next(title for title in titles if "TransientStorageError: 503 Slow Down" in title)
    assert failed.startswith("attempt 1, ")
    assert any(title.startswith("attempt") and title.endswith("done") for title in titles[titles.index(failed) - 1 :])


def test_the_folds_of_other_functions_have_rows_of_their_own(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("UploadSnapshot", a_plan, a_snapshot)

    labels = chart_texts(run()).labels

    items = [label for label in labels if label.startswith("item")]
    assert items == ["item 0000", "item 0001"]
    assert labels.index("FoldPartitions") < labels.index(items[0])
    assert labels.count("UploadSnapshot") == 2
