"""The history page, from the histories that real interpreters write."""

from __future__ import annotations

from html.parser import HTMLParser

from chromadb_compaction.cli.executions.client import Execution
from chromadb_compaction.cli.executions.failure_report import report_failure
from chromadb_compaction.cli.executions.html_page import page
from chromadb_compaction.cli.executions.timeline import read_timeline
from tests.statemachine.answers import a_listing, a_run
from tests.statemachine.conftest import RunMachine
from tests.statemachine.engines import Finished
from tests.statemachine.script import Raises, Script

ARN = "arn:aws:states:us-east-1:123456789012:execution:chromadb-compaction-dev:the-one"


class Labels(HTMLParser):
    """Collects the chart's labels, and what each bar's title says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.labels: list[str] = []
        self.titles: list[str] = []
        self._in_label = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self._in_label = known.get("class") == "label"
        if tag == "i":
            self.titles.append(str(known["title"]))

    def handle_data(self, data: str) -> None:
        if self._in_label:
            self.labels.append(data.strip())
            self._in_label = False


def drawn(finished: Finished) -> Labels:
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
    return Labels(html)


def test_every_batch_is_a_row_under_its_map(run: RunMachine, script: Script) -> None:
    script.tell("ListDeltas", a_listing(batches=3))

    labels = drawn(run()).labels

    batches = [label for label in labels if label.startswith("batch")]
    assert labels.index("MergeBatches") < labels.index(batches[0])
    assert "UploadSnapshot" in labels
    assert batches == ["batch 0000", "batch 0001", "batch 0002"]


def test_a_retry_is_a_bar_of_its_own_that_says_why(run: RunMachine, script: Script) -> None:
    script.tell("ListDeltas", a_listing(batches=1))
    script.tell("MergeBatch", Raises("TransientStorageError", "503 Slow Down"), a_run)

    titles = drawn(run()).titles

    # An engine that hides iterations does not say whose attempt failed: there the retry is the batch's first bar.
    failed = next(title for title in titles if "TransientStorageError: 503 Slow Down" in title)
    assert failed.startswith("attempt 1, ")
    assert any(title.startswith("attempt") and title.endswith("done") for title in titles[titles.index(failed) - 1 :])
