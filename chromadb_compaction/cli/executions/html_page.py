"""An execution's history as one HTML page that needs nothing else: no network, no scripts."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from chromadb_compaction.cli.common.formatting import duration
from chromadb_compaction.cli.executions.chart import Bar, Chart, Row, draw
from chromadb_compaction.cli.history_style import STYLE

if TYPE_CHECKING:
    from chromadb_compaction.cli.executions.client import Execution
    from chromadb_compaction.cli.executions.failure_report import FailureStory
    from chromadb_compaction.cli.executions.timeline import StateVisit, Timeline

BATCHES_UNFOLDED = 12
"""A Map of more batches starts folded: the states should fit one screen."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What the page may load: nothing at all."""


_LEGEND = " ".join(
    f'<span class="key {kind}"></span>{meaning}'
    for kind, meaning in (
        ("stay", "in the state"),
        ("done", "attempt done"),
        ("failed", "attempt failed"),
        ("running", "still running"),
    )
)


def page(execution: Execution, timeline: Timeline, story: FailureStory | None) -> str:
    """Return the page. Everything that others have written (names, messages, log lines) is escaped."""
    now = execution.stopped or datetime.now(execution.started.tzinfo)
    chart = draw(timeline, execution.started, now)
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(execution.name)} · {escape(execution.status)}</title>",
            f"<style>{STYLE}</style></head><body><main>",
            _head(execution),
            _failure(story),
            _chart(chart),
            _states(timeline, execution, now),
            "</main></body></html>\n",
        )
    )


def _head(execution: Execution) -> str:
    started = execution.started.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    took = f"{'took' if execution.stopped else 'runs for'} {duration(execution.seconds)}"
    return (
        f'<header><p class="kind">Compaction execution</p><h1>{escape(execution.name)}</h1>'
        f'<p><span class="status {escape(execution.status.lower())}">{escape(execution.status)}</span>'
        f' <span class="facts">started {started}, {took}</span></p><p class="arn">{escape(execution.arn)}</p></header>'
    )


def _failure(story: FailureStory | None) -> str:
    if story is None:
        return ""
    got_over = "" if story.next else " The execution got over it."
    kind = "failure" if story.next else "failure over"
    parts = [
        f'<section class="{kind}"><h2>{escape(story.error)}</h2>',
        f"<p>{escape(story.message or 'no message')}</p>",
        f'<p class="where">In {escape(story.where)}.{got_over}</p>',
    ]
    if story.next:
        parts.append(f"<p>{escape(_sentence(story.meaning or ''))}</p>")
        parts.append(f'<p class="next">Next, type: <code>{escape(story.next)}</code></p>')
    if story.lines:
        request = f", request {story.request}" if story.request else ""
        lines = escape("\n".join(story.lines))
        parts.append(f'<p class="where">{escape(f"{story.log_group}{request}")}</p><pre>{lines}</pre>')
    return "\n".join((*parts, "</section>"))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _chart(chart: Chart) -> str:
    share = chart.ticks[1][0] if len(chart.ticks) > 1 else 1.0
    ticks = "".join(f'<span style="left:{_percent(at)}">{escape(text)}</span>' for at, text in chart.ticks)
    parts = [
        f'<section class="chart" style="--step:{_percent(share)}"><h2>When</h2>',
        f'<p class="legend">{_LEGEND}</p>',
        f'<div class="row axis"><span></span><div class="ticks">{ticks}</div><span></span></div>',
    ]
    rows = list(chart.rows)
    while rows:
        parts.append(_row(rows.pop(0)))
        batches = []
        while rows and rows[0].of:
            batches.append(rows.pop(0))
        parts.append(_batches(batches))
    return "\n".join((*filter(None, parts), "</section>"))


def _batches(rows: list[Row]) -> str:
    if not rows:
        return ""
    unfolded = " open" if len(rows) <= BATCHES_UNFOLDED else ""
    inner = "\n".join(map(_row, rows))
    return f"<details{unfolded}><summary>batches of {escape(str(rows[0].of))}</summary>\n{inner}\n</details>"


def _row(row: Row) -> str:
    bars = "".join(map(_bar, row.bars))
    remark = f" <small>{escape(row.remark)}</small>" if row.remark else ""
    kind = "row batch" if row.of else "row"
    return (
        f'<div class="{kind}"><span class="label">{escape(row.label)}{remark}</span>'
        f'<div class="track">{bars}</div><span class="took">{duration(row.seconds)}</span></div>'
    )


def _bar(bar: Bar) -> str:
    place = f"left:{_percent(bar.begin)};width:{_percent(bar.length)}"
    return f'<i class="{bar.kind}" style="{place}" title="{escape(bar.title)}"></i>'


def _percent(share: float) -> str:
    return f"{share * 100:.3f}%"


def _states(timeline: Timeline, execution: Execution, now: datetime) -> str:
    rows = "\n".join(_state(visit, execution.started, now) for visit in timeline.visits)
    return (
        '<section><h2>States</h2><div class="wide"><table><thead><tr><th>State</th><th>At</th><th>Took</th>'
        f"<th>Attempts</th></tr></thead><tbody>\n{rows}\n</tbody></table></div></section>"
    )


def _state(visit: StateVisit, started: datetime, now: datetime) -> str:
    at = duration(max((visit.entered - started).total_seconds(), 0.0))
    errors = Counter(f"{each.error}: {each.message}" for each in visit.failures)
    of = f" <small>in {escape(visit.inside)}</small>" if visit.inside else ""
    mark = ' class="bad"' if visit.failed else ""
    row = (
        f"<tr{mark}><td>{escape(visit.name)}{of}</td><td>+{at}</td><td>{duration(visit.seconds(now))}</td>"
        f"<td>{visit.attempts or ''}</td></tr>"
    )
    return row + "".join(
        f'<tr class="error"><td colspan="4">{f"{count} times " if count > 1 else ""}{escape(error)}</td></tr>'
        for error, count in errors.items()
    )
