"""Figures of comparisons of schedules."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.names import unknown
from bcellsim.plot.style import folded
from bcellsim.simulate import described

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def heatmap(
    table: pd.DataFrame, *, value: str = "suppressed_throughout", target: float | None = 0.9
) -> Figure:
    """Draw a metric of `explore` over interval and dose, a panel for each threshold and induction.

    Parameters
    ----------
    table : DataFrame
        Result of `explore` on a `grid`.
    value : str
        A column of the table.
    target : float, optional
        Cells that reach it are outlined.

    Raises
    ------
    ValueError
        If the table has no such column, or no doses and intervals.
    """
    import matplotlib.pyplot as plt

    if value not in table.columns:
        raise ValueError(unknown("column", value, table.columns))
    table = table[table["interval"].notna()]
    if not len(table):
        raise ValueError("a heat map needs regimens with a dose and an interval, made by `grid`")
    panels = [
        key for key in itertools.product(_levels(table, "induction"), _levels(table, "threshold"))
        if len(_panel(table, key))
    ]  # fmt: skip
    columns = min(len(panels), len(_levels(table, "threshold")))
    lines = -(-len(panels) // columns)
    intervals, doses = _levels(table, "interval"), list(dict.fromkeys(table["dose"]))
    figure, axes = plt.subplots(
        lines, columns, squeeze=False, sharex=True, sharey=True, layout="constrained",
        figsize=(1.8 + columns * max(2.5, 0.75 * len(intervals)),
                 1.6 + lines * max(1.6, 0.5 * len(doses))),
    )  # fmt: skip
    share = value in ("suppressed_throughout", "suppressed_fraction_mean")
    image = None
    for axis, key in zip(axes.flat, panels, strict=False):
        cells = _cells(_panel(table, key), doses, intervals, value)
        shown = np.where(np.isfinite(cells), cells, np.nan)
        limits = {"vmin": 0, "vmax": 1} if share else {}
        image = axis.imshow(shown, cmap="cividis", aspect="auto", **limits)
        _annotate(axis, cells, shown, image, share, target)
        axis.set_title(f"≤ {key[1]:g} cells/µL from {key[0] / 7:g} w on", fontsize="small")
        axis.set_xticks(range(len(intervals)), [f"{interval / 7:g}" for interval in intervals])
        axis.set_yticks(range(len(doses)), doses)
    for axis in axes[-1]:
        axis.set_xlabel("Interval [week]")
    labels = {"suppressed_throughout": "Share of patients\nsuppressed throughout"}
    outlined = f"\n(outlined: {target:.0%} or more)" if share and target is not None else ""
    figure.colorbar(image, ax=axes, label=labels.get(value, value) + outlined)
    if table.attrs:
        figure.suptitle(folded(_grid_title(table)), fontsize="small")
    return figure


def _levels(table, column):
    return sorted(table[column].unique())


def _cells(rows, doses, intervals, value):
    """Return a column of the table over dose and interval, NaN where there is no row."""
    cells = np.full((len(doses), len(intervals)), np.nan)
    for row in rows.to_dict("records"):
        cells[doses.index(row["dose"]), intervals.index(row["interval"])] = row[value]
    return cells


def _grid_title(table):
    facts = table.attrs
    return (
        f"{described(facts)}, "
        f"{int(table['n_subjects'].iloc[0]):,} virtual patients, {facts['until'] / 365.25:.3g} y"
    )


def _panel(table, key):
    return table[(table["induction"] == key[0]) & (table["threshold"] == key[1])]


def _annotate(axis, cells, shown, image, share, target):
    from matplotlib.patches import Rectangle

    for (i, j), number in np.ndenumerate(cells):
        if np.isnan(number):
            continue
        dark = np.isfinite(shown[i, j]) and image.norm(shown[i, j]) < 0.5
        text = f"{100 * number:.0f}%" if share else (f"{number:.3g}" if number < np.inf else "∞")
        axis.text(j, i, text, ha="center", va="center", fontsize="small",
                  color="white" if dark else "black")  # fmt: skip
        if share and target is not None and number >= target:
            axis.add_patch(
                Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec="#D55E00", lw=2.5, zorder=3)
            )
