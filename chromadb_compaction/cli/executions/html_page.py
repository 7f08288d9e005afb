"""An execution's history as one self-contained HTML page without scripts or requests."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from chromadb_compaction.cli.common.control_characters import escape_text
from chromadb_compaction.cli.common.formatting import duration
from chromadb_compaction.cli.executions.chart import Bar, Chart, Row, draw

if TYPE_CHECKING:
    from chromadb_compaction.cli.executions.client import Execution
    from chromadb_compaction.cli.executions.failure_report import FailureReport
    from chromadb_compaction.cli.executions.timeline import StateVisit, Timeline

BATCHES_SHOWN = 12
"""Batches of a Map that are shown at first. More are collapsed, so that the states fit one screen."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The content security policy: the page may load nothing."""


_LEGEND = " ".join(
    f'<span class="key {kind}"></span>{meaning}'
    for kind, meaning in (
        ("stay", "time in state"),
        ("done", "attempt succeeded"),
        ("failed", "attempt failed"),
        ("running", "attempt running"),
    )
)


def page(execution: Execution, timeline: Timeline, failure: FailureReport | None) -> str:
    """Return the page. All names, messages and log lines are escaped, their control characters too."""
    now = execution.stopped or datetime.now(execution.started.tzinfo)
    chart = draw(timeline, execution.started, now)
    text = "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(execution.name)} · {escape(execution.status)}</title>",
            f"<style>{STYLE}</style></head><body><main>",
            _head(execution),
            _failure(failure),
            _chart(chart),
            _states(timeline, execution, now),
            "</main></body></html>\n",
        )
    )
    return escape_text(text)


def _head(execution: Execution) -> str:
    started = execution.started.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    took = f"{'took' if execution.stopped else 'running for'} {duration(execution.seconds)}"
    return (
        f'<header><p class="kind">Compaction execution</p><h1>{escape(execution.name)}</h1>'
        f'<p><span class="status {escape(execution.status.lower())}">{escape(execution.status)}</span>'
        f' <span class="facts">started {started}, {took}</span></p><p class="arn">{escape(execution.arn)}</p></header>'
    )


def _failure(failure: FailureReport | None) -> str:
    if failure is None:
        return ""
    recovered = "" if failure.next else " The execution recovered."
    css_class = "failure" if failure.next else "failure recovered"
    parts = [
        f'<section class="{css_class}"><h2>{escape(failure.error)}</h2>',
        f"<p>{escape(failure.message or 'no message')}</p>",
        f'<p class="where">In {escape(failure.where)}.{recovered}</p>',
    ]
    if failure.next:
        meaning = failure.meaning or ""
        if failure.published:
            parts.append(f"<p>Published before that: {escape(failure.published)}</p>")
        parts.append(f"<p>{escape(meaning[:1].upper() + meaning[1:])}.</p>")
        parts.append(f'<p class="next">Next: <code>{escape(failure.next)}</code></p>')
    if failure.lines:
        request = f", request {failure.request}" if failure.request else ""
        lines = escape("\n".join(failure.lines))
        parts.append(f'<p class="where">{escape(f"{failure.log_group}{request}")}</p><pre>{lines}</pre>')
    return "\n".join((*parts, "</section>"))


def _chart(chart: Chart) -> str:
    step = chart.ticks[1][0] if len(chart.ticks) > 1 else 1.0
    ticks = "".join(f'<span style="left:{_percent(at)}">{escape(text)}</span>' for at, text in chart.ticks)
    parts = [
        f'<section class="chart" style="--step:{_percent(step)}"><h2>Timeline</h2>',
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
    expanded = " open" if len(rows) <= BATCHES_SHOWN else ""
    inner = "\n".join(map(_row, rows))
    return f"<details{expanded}><summary>Batches of {escape(str(rows[0].of))}</summary>\n{inner}\n</details>"


def _row(row: Row) -> str:
    bars = "".join(map(_bar, row.bars))
    remark = f" <small>{escape(row.remark)}</small>" if row.remark else ""
    kind = "row batch" if row.of else "row"
    return (
        f'<div class="{kind}"><span class="label">{escape(row.label)}{remark}</span>'
        f'<div class="track">{bars}</div><span class="took">{duration(row.seconds)}</span></div>'
    )


def _bar(bar: Bar) -> str:
    position = f"left:{_percent(bar.begin)};width:{_percent(bar.length)}"
    return f'<i class="{bar.kind}" style="{position}" title="{escape(bar.title)}"></i>'


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.3f}%"


def _states(timeline: Timeline, execution: Execution, now: datetime) -> str:
    rows = "\n".join(_state(visit, execution.started, now) for visit in timeline.visits)
    return (
        '<section><h2>States</h2><div class="wide"><table><thead><tr><th>State</th><th>Started after</th>'
        f"<th>Duration</th><th>Attempts</th></tr></thead><tbody>\n{rows}\n</tbody></table></div></section>"
    )


def _state(visit: StateVisit, started: datetime, now: datetime) -> str:
    at = duration(max((visit.entered - started).total_seconds(), 0.0))
    errors = Counter(f"{each.error}: {each.message}" for each in visit.failures)
    of = f" <small>in {escape(visit.inside)}</small>" if visit.inside else ""
    mark = ' class="failed-state"' if visit.failed else ""
    row = (
        f"<tr{mark}><td>{escape(visit.name)}{of}</td><td>+{at}</td><td>{duration(visit.seconds(now))}</td>"
        f"<td>{visit.attempts or ''}</td></tr>"
    )
    return row + "".join(
        f'<tr class="error"><td colspan="4">{f"{count} times " if count > 1 else ""}{escape(error)}</td></tr>'
        for error, count in errors.items()
    )


STYLE = """
:root{--paper:#fff;--ink:#1c2024;--soft:#5c6670;--line:#d9dee3;--lane:#f1f4f6;--stay:#c3ccd4;--done:#1f7a4d;
--failed:#c4302b;--failed-ink:#8f1f1b;--running:#1b6ec2;--box:#fdf1f0;--code:#f1f4f6}
@media (prefers-color-scheme:dark){:root{--paper:#15181b;--ink:#e6e9ec;--soft:#9aa5b0;--line:#333a41;--lane:#1f2429;
--stay:#4a545e;--done:#46b37b;--failed:#f0655f;--failed-ink:#ff9a95;--running:#5aa7f0;--box:#2a1a1a;--code:#22282e}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1180px;margin:0 auto;padding:1.5rem 1.25rem 3rem}
h1{font-size:1.35rem;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:0 0 .5rem}
p{margin:.4rem 0;overflow-wrap:anywhere}
section{margin-top:1.75rem}
.kind,.arn,.facts,.where,.legend,small{color:var(--soft)}
.kind{margin:0;font-size:.85rem}
.arn,.where{font-size:.85rem}
small{font-size:.8em;font-weight:400}
.status{display:inline-block;padding:0 .55rem;border-radius:1rem;border:1px solid;font-weight:600;font-size:.85rem}
.succeeded{color:var(--done)}.running{color:var(--running)}.aborted{color:var(--soft)}
.failed,.timed_out{color:var(--failed)}
.failure{background:var(--box);border-left:4px solid var(--failed);border-radius:4px;padding:.9rem 1.1rem}
.failure h2{color:var(--failed-ink)}
.recovered{background:var(--lane);border-left-color:var(--soft)}
.recovered h2{color:var(--ink)}
code,pre{font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
code{display:inline-block;background:var(--code);padding:.1rem .35rem;border-radius:3px}
pre{background:var(--code);margin:.4rem 0 0;padding:.7rem .8rem;border-radius:4px;white-space:pre-wrap;
overflow-wrap:anywhere;max-height:13rem;overflow-y:auto}
.legend{font-size:.85rem;margin-bottom:.75rem}
.key{display:inline-block;width:1.1rem;height:.7rem;border-radius:2px;margin:0 .3rem 0 .6rem}
.key:first-child{margin-left:0}
.row{display:grid;grid-template-columns:minmax(9rem,17rem) 1fr 5.5rem;gap:.15rem .8rem;align-items:center;
padding:.16rem 0}
.label{overflow-wrap:anywhere;line-height:1.25}
.batch .label{padding-left:1.1rem;font-size:.9rem}
.took{text-align:right;color:var(--soft);font-size:.85rem;font-variant-numeric:tabular-nums;white-space:nowrap}
.ticks{position:relative;height:1.2rem;font-size:.75rem;color:var(--soft)}
.ticks span{position:absolute;white-space:nowrap;padding-left:2px}
.ticks span:last-child:not(:first-child){transform:translateX(-30%)}
.track{position:relative;height:1.05rem;border-radius:2px;background-color:var(--lane);
background-image:linear-gradient(to right,var(--line) 1px,transparent 1px);background-size:var(--step) 100%}
.batch .track{height:.8rem}
.track i{position:absolute;top:0;bottom:0;min-width:2px;border-radius:2px}
.track i.done,.track i.failed,.track i.running{top:20%;bottom:20%}
.stay{background:var(--stay)}
i.done,.key.done{background:var(--done)}
i.running,.key.running{background:var(--running);opacity:.8}
i.failed,.key.failed{background:repeating-linear-gradient(135deg,var(--failed) 0 4px,var(--failed-ink) 4px 7px)}
summary{cursor:pointer;color:var(--soft);font-size:.85rem;padding:.1rem 0}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:500}
td:nth-child(2),td:nth-child(3){white-space:nowrap;font-variant-numeric:tabular-nums}
.error td{overflow-wrap:anywhere;color:var(--soft);padding-left:1.1rem}
td:first-child{overflow-wrap:anywhere}
.failed-state td:first-child{color:var(--failed-ink);font-weight:600}
@media (max-width:640px){main{padding:1rem .8rem 2rem}.row{grid-template-columns:1fr auto;padding:.3rem 0}
.row .track,.row .ticks{grid-column:1/-1;order:3}.axis span:empty{display:none}.batch .label{padding-left:.6rem}
.ticks span:nth-child(even):not(:last-child){display:none}
th,td{padding-right:.4rem}table{font-size:.82rem}}
@media print{details>*{display:revert}pre{max-height:none}}
"""
