"""Plot a sweep: one bar per point, with the seconds of each phase stacked."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.sweeps import PHASES, Sweep

mpl.rcParams["svg.hashsalt"] = "chromadb-compaction"  # so that equal plots have equal bytes
_COLOURS = mpl.colormaps["tab10"]


def draw(sweep: Sweep, path: Path) -> None:
    """Write the plot as SVG."""
    figure = Figure(figsize=(7.5, 0.9 + 0.5 * len(sweep.points)), layout="constrained")
    axes = figure.add_subplot()
    labels = [point.label for point in sweep.points]
    left = [0.0] * len(labels)
    for number, phase in enumerate(PHASES):
        seconds = [point.seconds[phase] for point in sweep.points]
        axes.barh(labels, seconds, left=left, label=phase, color=_COLOURS(number), height=0.6)
        left = [before + more for before, more in zip(left, seconds, strict=True)]
    axes.invert_yaxis()
    axes.set_title(sweep.title, fontsize=10)
    axes.set_xlabel("seconds")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None})
