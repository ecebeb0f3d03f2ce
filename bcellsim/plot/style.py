"""What the figures share: colours, log axes, thresholds.

Colours are Okabe and Ito's, which the colour-blind can tell apart; line styles differ as well.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.explore import thresholds
from bcellsim.names import unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")


def style(i: int) -> tuple[str, str]:
    """Return colour and line style of curve number `i`."""
    return COLOURS[i % len(COLOURS)], LINES[i % len(LINES)]


def log_axis(axis) -> None:
    """Make the vertical axis logarithmic, over six decades at most."""
    from matplotlib.ticker import LogFormatter

    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(LogFormatter())
    low, high = axis.get_ylim()
    if high / max(low, 1e-300) > 1e6:
        axis.set_ylim(bottom=high * 1e-6)


def check_output(output: str | None, outputs) -> str:
    """Return the output asked for; by default the count, or without one the first.

    Raises
    ------
    ValueError
        If it is none of those drawn.
    """
    if output is None:
        return "bcell" if "bcell" in outputs else outputs[0]
    if output not in outputs:
        raise ValueError(unknown("output", output, outputs))
    return output


def thresholds_of(below) -> list[float]:
    """Return the thresholds to draw; none is given as an empty sequence."""
    return [] if np.ndim(below) and not len(below) else thresholds(below)


def folded(title: str) -> str:
    """Return a title in lines that fit the width of a figure."""
    return textwrap.fill(title, 90, break_long_words=False, break_on_hyphens=False)


def draw_thresholds(axis, levels) -> None:
    """Draw thresholds as dashed lines, with their values at the right."""
    for level in levels:
        axis.axhline(level, color="0.3", lw=0.8, ls=(0, (5, 3)))
        axis.annotate(
            f"{level:g}", (1.0, level), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize="small",
        )  # fmt: skip


def save(figure: Figure, *paths: Path) -> None:
    """Write a figure to files of the kinds their names end in, the same bytes each time; close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    *paths : Path
        Where to write it, such as ``counts.png`` and ``counts.svg``.
    """
    import matplotlib.pyplot as plt

    undated = {".png": {"Software": None}, ".svg": {"Date": None}}
    with plt.rc_context({"svg.hashsalt": "bcellsim"}):
        for path in paths:
            figure.savefig(path, dpi=150, metadata=undated.get(path.suffix))
    plt.close(figure)
