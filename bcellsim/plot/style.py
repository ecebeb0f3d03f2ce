"""What figures have in common: colors, lines, marks, axes, and the table of what is drawn.

Colours are Okabe and Ito's, which the colour-blind can tell apart; lines and marks differ as well.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.explore import thresholds
from bcellsim.names import unknown
from bcellsim.simulate import described

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Okabe & Ito 2008, without the yellow that is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "0.55"
#: Largest value over smallest one that a log axis shows.
_DECADES = 1e6
_LINE = 84  # characters of a title


def style(i: int) -> tuple[str, str]:
    """Return color and line style of the i-th curve."""
    return COLOURS[i % len(COLOURS)], LINES[i % len(LINES)]


def keep(figure: Figure, table: pd.DataFrame) -> Figure:
    """Put the table of what a figure draws beside it, and return the figure."""
    figure.bcellsim_data = table.reset_index(drop=True)
    return figure


def data(figure: Figure) -> pd.DataFrame:
    """Return the table of what a figure draws, to be written or drawn elsewhere.

    Figures of fits and forecasts keep none: their data are the tables of the result they draw.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        A figure of `bcellsim.plot`.

    Raises
    ------
    ValueError
        If the figure keeps no table.
    """
    if not hasattr(figure, "bcellsim_data"):
        raise ValueError("this figure keeps no table: its data are the result that it draws")
    return figure.bcellsim_data


def save(figure: Figure, *paths: Path | str) -> None:
    """Write a figure to files of the kinds their names end in, the same bytes each time; close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    *paths : Path or str
        Where to write it, such as ``counts.png`` and ``counts.svg``.
    """
    import matplotlib.pyplot as plt

    undated = {".png": {"Software": None}, ".svg": {"Date": None}}
    with plt.rc_context({"svg.hashsalt": "bcellsim"}):
        for path in map(Path, paths):
            figure.savefig(path, dpi=150, metadata=undated.get(path.suffix))
    plt.close(figure)


def log_axis(axis) -> None:
    """Make the vertical axis logarithmic, of at most six decades."""
    from matplotlib.ticker import LogFormatter

    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(LogFormatter())
    low, high = axis.get_ylim()
    if high / max(low, 1e-300) > _DECADES:
        axis.set_ylim(bottom=high / _DECADES)


def check_output(output: str | None, outputs: Sequence[str]) -> str:
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


def percent_axis(axis) -> None:
    """Write the ticks of an axis, such as ``axes.yaxis``, as percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def thresholds_of(below: float | str | Sequence[float]) -> list[float]:
    """Return the thresholds to draw; none is given as an empty sequence."""
    return [] if np.ndim(below) and not len(below) else thresholds(below)


def draw_thresholds(axis, levels: Sequence[float]) -> None:
    """Draw a line at each threshold, with its value at the right edge."""
    for level in levels:
        axis.axhline(level, color="0.3", lw=0.8, ls=(0, (5, 3)))
        axis.annotate(
            f"{level:g}", (1.0, level), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize="small",
        )  # fmt: skip


def level_panels(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each induction and threshold, and what the panel is of."""
    found = []
    for induction, level in itertools.product(
        sorted(table["induction"].unique()), sorted(table["threshold"].unique())
    ):
        rows = table[(table["induction"] == induction) & (table["threshold"] == level)]
        if len(rows):
            found.append((f"≤ {level:g} cells/µL from {induction / 7:g} w on", rows))
    return found


def everybody(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of all subjects, of a table that has rows of groups too."""
    return table[table["group"] == "all"] if "group" in table else table


def told_apart(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the model in the name of regimens that several models have."""
    if "model" not in table or len(set(table["model"])) == 1:
        return table
    found = table.assign(regimen=table["regimen"] + " (" + table["model"] + ")")
    found.attrs = table.attrs
    return found


def question_title(table: pd.DataFrame) -> str:
    """Return model, number of subjects and horizon of a comparison; empty if it does not say."""
    facts = table.attrs
    if not facts:
        return ""
    n = table["n_subjects"].max() if "n_subjects" in table else table["subject"].nunique()
    years = facts["until"] / 365.25
    return folded(f"{described(facts)},") + f"\n{int(n):,} virtual patients, {years:.3g} y"


def folded(title: str) -> str:
    """Fold a title that is longer than a figure is wide."""
    return textwrap.fill(title, _LINE, break_long_words=False, break_on_hyphens=False)
