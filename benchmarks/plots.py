"""Plot a sweep: one bar per point, with the seconds of each phase stacked."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.sweeps import PHASES, Sweep

mpl.rcParams["svg.hashsalt"] = "chromadb-compaction"  # so that equal plots have equal bytes

COLOURS: Final = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999", "#000000")
"""Okabe and Ito's colours, which people who see fewer colours tell apart: jfly.uni-koeln.de/color."""
VISIBLE: Final = 0.01
"""The least share of the longest bar with which a phase is drawn in a colour of its own, and named in the legend."""
WIDTH: Final = 5.0
"""Inches. At a phone's width the text is still read without zooming."""


def draw(sweep: Sweep, path: Path) -> None:
    """Write the plot as SVG, on white, so that a dark page does not hide its text."""
    longest = max(sum(point.seconds[phase] for phase in PHASES) for point in sweep.points)
    shown = [phase for phase in PHASES if any(point.seconds[phase] >= VISIBLE * longest for point in sweep.points)]
    figure = Figure(figsize=(WIDTH, 2.0 + 0.5 * len(sweep.points)), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    labels = [point.label for point in sweep.points]
    left = [0.0] * len(labels)
    for phase in shown:
        seconds = [point.seconds[phase] for point in sweep.points]
        colour = COLOURS[PHASES.index(phase)]
        axes.barh(labels, seconds, left=left, label=phase, color=colour, height=0.65, edgecolor="white", linewidth=0.5)
        left = [before + more for before, more in zip(left, seconds, strict=True)]
    for label, end in zip(labels, left, strict=True):
        axes.annotate(f"{end:.1f} s", (end, label), xytext=(4, 0), textcoords="offset points", va="center", fontsize=11)
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set_ylabel(sweep.axis, fontsize=11)
    axes.set_xlabel("seconds", fontsize=11)
    axes.tick_params(labelsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, fontsize=11, frameon=False)
    figure.savefig(path, metadata={"Date": None})
