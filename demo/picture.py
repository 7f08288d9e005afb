"""Draw the time chart of `history --html` as an SVG, for the README. scripts/history-picture runs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from chromadb_compaction.aws.workflow import step_functions
from chromadb_compaction.cli.common import clients
from chromadb_compaction.cli.common.formatting import duration
from chromadb_compaction.cli.executions.chart import Bar, Chart, Row, draw
from chromadb_compaction.cli.executions.client import find, read_history, state_machine

PICTURE = Path(__file__).parents[1] / "docs" / "history.svg"

_WIDTH: Final = 900
_LABELS: Final = 250
_TIMES: Final = 80
_TRACK: Final = _WIDTH - _LABELS - _TIMES
_ROW: Final = 24
_TOP: Final = 78
_MARGIN: Final = 16

_LEGEND: Final = (("stay", "time in state"), ("done", "attempt succeeded"), ("failed", "attempt failed"))
_STYLE: Final = """
.paper{fill:#fff}.line{stroke:#d9dee3}.lane{fill:#f1f4f6}.stay{fill:#c3ccd4}.done{fill:#1f7a4d}.failed{fill:#c4302b}
.running{fill:#1b6ec2}text{font:14px system-ui,sans-serif;fill:#1c2024}.soft{fill:#5c6670;font-size:12px}
.title{font-weight:600}
@media (prefers-color-scheme:dark){.paper{fill:#15181b}.line{stroke:#333a41}.lane{fill:#1f2429}.stay{fill:#4a545e}
.done{fill:#46b37b}.failed{fill:#f0655f}.running{fill:#5aa7f0}text{fill:#e6e9ec}.soft{fill:#9aa5b0}}
"""
"""The colours of the page."""


def main() -> None:
    """Draw the execution that the first argument names, by default the last one of the stack in the environment."""
    client = step_functions()
    execution = find(client, state_machine(clients.settings()), sys.argv[1] if len(sys.argv) > 1 else None)
    stopped = execution.stopped or execution.started
    chart = draw(read_history(client, execution.arn), execution.started, stopped)
    title = f"Compaction execution {execution.name}: {execution.status}, took {duration(execution.seconds)}"
    PICTURE.write_text(picture(chart, title), encoding="utf-8")
    sys.stdout.write(f"Wrote {PICTURE}\n")


def picture(chart: Chart, title: str) -> str:
    """Return the SVG. States that take no time are left out, because a picture has no tooltips to find them by."""
    rows = [row for row in chart.rows if row.of or row.seconds > 0.005 or any(bar.kind != "stay" for bar in row.bars)]
    height = _TOP + len(rows) * _ROW + _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
        f'<text class="title" x="{_MARGIN}" y="24">{escape(title)}</text>',
        *_legend(),
        *_axis(chart, height),
    ]
    for number, row in enumerate(rows):
        lines += _row(row, _TOP + number * _ROW)
    return "\n".join((*lines, "</svg>\n"))


def _legend() -> Iterator[str]:
    for number, (kind, meaning) in enumerate(_LEGEND):
        left = _MARGIN + number * 150
        yield f'<rect class="{kind}" x="{left}" y="37" width="16" height="10" rx="2"/>'
        yield f'<text class="soft" x="{left + 22}" y="46">{meaning}</text>'


def _axis(chart: Chart, height: int) -> Iterator[str]:
    for at, label in chart.ticks:
        x = _LABELS + at * _TRACK
        yield f'<line class="line" x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{height - _MARGIN}"/>'
        yield f'<text class="soft" x="{x + 3:.1f}" y="{_TOP - 10}">{escape(label)}</text>'


def _row(row: Row, top: int) -> Iterator[str]:
    indent, lane = (18, 10) if row.of else (0, 16)
    remark = f' <tspan class="soft">{escape(row.remark)}</tspan>' if row.remark else ""
    yield f'<text x="{_MARGIN + indent}" y="{top + 15}">{escape(row.label)}{remark}</text>'
    yield f'<rect class="lane" x="{_LABELS}" y="{top + (20 - lane) / 2}" width="{_TRACK}" height="{lane}" rx="2"/>'
    yield from (_bar(bar, top, lane) for bar in row.bars)
    took = f'<text class="soft" x="{_WIDTH - _MARGIN}" y="{top + 15}" text-anchor="end">'
    yield f"{took}{duration(row.seconds)}</text>"


def _bar(bar: Bar, top: int, lane: int) -> str:
    thick = lane if bar.kind == "stay" else lane * 0.6
    return (
        f'<rect class="{bar.kind}" x="{_LABELS + bar.begin * _TRACK:.1f}" y="{top + (20 - thick) / 2:.1f}"'
        f' width="{max(bar.length * _TRACK, 2):.1f}" height="{thick:.1f}" rx="2"/>'
    )


if __name__ == "__main__":
    main()
