"""Figures of sweeps: surfaces over two factors, parallel coordinates, panels, sensitivities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.metrics import METRICS
from bcellsim.names import unknown
from bcellsim.plot.style import COLOURS, MARKS, folded, keep, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_MOST_LINES, _MOST_PANELS = 2_000, 24
#: Values of a column up to which all of them are written, not the ends alone.
_FEW = 8


def response_surface(table: pd.DataFrame, x: str, y: str, value: str) -> Figure:
    """Draw a value over two factors: cells of a grid, or contours between sampled points.

    Parameters
    ----------
    table : DataFrame
        A row for each pair of values: `Sweep.summary`, of one threshold.
    x, y : str
        Columns of numbers.
    value : str
        The column to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no such column, several rows share a pair, or nothing is finite.
    """
    import matplotlib.pyplot as plt

    _check(table, [x, y, value])
    if table.duplicated([x, y]).any():
        raise ValueError(
            f"several rows share {x} and {y}: choose one of the others, such as one threshold"
        )
    table = table[np.isfinite(table[value])]
    if not len(table):
        raise ValueError(f"{value} is nowhere a finite number")
    figure, axis = plt.subplots(figsize=(6, 4.5), layout="constrained")
    limits = {"vmin": 0, "vmax": 1} if value == "suppressed_throughout" else {}
    gridded = table[x].nunique() * table[y].nunique() <= 2 * len(table)
    if gridded:
        cells = table.pivot_table(index=y, columns=x, values=value, dropna=False, sort=False)
        for axis_of, name in (("columns", x), ("index", y)):
            if table[name].dtype.kind in "fiu":  # texts stay in the order of the design
                cells = cells.sort_index(axis=axis_of)
        drawn = axis.pcolormesh(
            np.arange(cells.shape[1] + 1), np.arange(cells.shape[0] + 1), cells.to_numpy(),
            cmap="cividis", **limits,
        )  # fmt: skip
        axis.set_xticks(np.arange(cells.shape[1]) + 0.5, _ticks(cells.columns))
        axis.set_yticks(np.arange(cells.shape[0]) + 0.5, _ticks(cells.index))
    else:
        levels = np.linspace(0, 1, 11) if limits else 11
        numbers = (table[name].to_numpy(float) for name in (x, y, value))
        drawn = axis.tricontourf(*numbers, levels=levels, cmap="cividis")
        axis.plot(table[x], table[y], ".", color="black", ms=2, alpha=0.5)
    figure.colorbar(drawn, label=_label(table, value))
    axis.set_xlabel(_label(table, x))
    axis.set_ylabel(_label(table, y))
    return _finished(figure, table, (x, y))


def parallel_coordinates(table: pd.DataFrame, columns: Sequence[str], value: str) -> Figure:
    """Draw each row as a line across columns, coloured by a value; the highest are on top.

    Parameters
    ----------
    table : DataFrame
        Rows of a sweep or of its summary.
    columns : sequence of str
        Two or more columns; text is drawn in the order in which it comes.
    value : str
        The column that colours the lines.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no such column, only one, or more rows than can be told apart.
    """
    import matplotlib.pyplot as plt
    from matplotlib.collections import LineCollection

    _check(table, [*columns, value])
    if len(columns) < 2:
        raise ValueError("parallel coordinates need two columns or more")
    rows = table[np.isfinite(table[value])].sort_values(value)
    if not 0 < len(rows) <= _MOST_LINES:
        raise ValueError(f"1 to {_MOST_LINES:,} rows can be drawn, not {len(rows):,}: summarise")
    figure, axis = plt.subplots(figsize=(2 + 1.6 * (len(columns) + 1), 4.5), layout="constrained")
    heights, names = [], [*columns, value]
    for j, name in enumerate(names):
        height, ends = _height(rows[name])
        heights.append(height)
        axis.axvline(j, color="0.3", lw=0.8)
        side = {"xytext": (-4, 0), "ha": "right"} if j == 0 else {"xytext": (4, 0), "ha": "left"}
        for at, text in ends:
            axis.annotate(text, (j, at), textcoords="offset points", **side, zorder=5,
                          fontsize="small", va="center", bbox={"fc": "white", "ec": "none",
                          "alpha": 0.8, "pad": 0.5})  # fmt: skip
    lines = np.stack([np.broadcast_to(np.arange(len(names)), (len(rows), len(names))),
                      np.column_stack(heights)], axis=-1)  # fmt: skip
    bundle = LineCollection(lines, cmap="cividis", lw=1.0, alpha=0.6)
    bundle.set_array(rows[value].to_numpy(float))
    axis.add_collection(bundle)
    axis.set_xlim(-0.5, len(names) - 0.6)
    axis.set_ylim(-0.08, 1.08)
    axis.set_yticks([])
    axis.set_xticks(range(len(names)), [_label(table, name).replace(" [", "\n[") for name in names])
    figure.colorbar(bundle, label=_label(table, value)).solids.set_alpha(1.0)
    return _finished(figure, table, columns)


def _height(column):
    """Return values between 0 and 1, and the places and texts of the ticks."""
    if column.dtype == object or str(column.dtype).startswith("str"):
        texts = list(dict.fromkeys(column))
        places = np.linspace(0.0, 1.0, len(texts)) if len(texts) > 1 else np.array([0.5])
        of = dict(zip(texts, places, strict=True))
        return column.map(of).to_numpy(float), [(of[text], text) for text in texts]
    low, high = float(column.min()), float(column.max())
    width, shown = (high - low) or 1.0, np.unique(column)
    shown = shown if len(shown) <= _FEW else [low, high]
    return (column.to_numpy(float) - low) / width, [((v - low) / width, f"{v:.4g}") for v in shown]


def small_multiples(
    table: pd.DataFrame, x: str, value: str, *, panels: str, lines: str | None = None
) -> Figure:
    """Draw a value over one factor, a panel for each value of another, a line for a third.

    Parameters
    ----------
    table : DataFrame
        A row for each combination: `Sweep.summary`.
    x : str
        The column along the axis.
    value : str
        The column to draw.
    panels : str
        The column that has a panel for each of its values.
    lines : str, optional
        The column that has a line for each of its values.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no such column, or there are too many panels.
    """
    import matplotlib.pyplot as plt

    _check(table, [x, value, panels, *([lines] if lines else [])])
    of = list(dict.fromkeys(table[panels]))
    if len(of) > _MOST_PANELS:
        raise ValueError(f"{panels} has {len(of)} values: at most {_MOST_PANELS} panels are drawn")
    if table.duplicated([x, panels, *([lines] if lines else [])]).any():
        raise ValueError("several rows share a point: choose one of the others, or give lines")
    across = min(3, len(of))
    figure, axes = plt.subplots(
        -(-len(of) // across), across, squeeze=False, sharex=True, sharey=True,
        figsize=(1.5 + 2.7 * across, 1.2 + 2.3 * -(-len(of) // across)), layout="constrained",
    )  # fmt: skip
    kinds = list(dict.fromkeys(table[lines])) if lines else [None]
    for axis, panel in zip(axes.flat, of, strict=False):
        for i, kind in enumerate(kinds):
            rows = table[table[panels] == panel]
            rows = rows[rows[lines] == kind] if lines else rows
            shown = np.where(np.isfinite(rows[value]), rows[value], np.nan)
            colour, line = style(i)
            axis.plot(rows[x], shown, line, marker=MARKS[i % len(MARKS)], ms=4, color=colour,
                      label=_text(table, lines, kind))  # fmt: skip
        axis.set_title(_text(table, panels, panel), fontsize="small")
    for axis in axes.flat[len(of) :]:
        axis.set_visible(False)
    for axis in axes.flat[max(len(of) - across, 0) : len(of)]:  # the lowest panel of each column
        axis.tick_params(labelbottom=True)
    figure.supxlabel(_label(table, x), fontsize="medium")
    figure.supylabel(_label(table, value), fontsize="medium")
    if lines:
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, fontsize="small", loc="outside right upper")
    return _finished(figure, table, (x, panels, lines))


def sensitivities(table: pd.DataFrame) -> Figure:
    """Draw the indices of `bcellsim.sensitivity` with their intervals, a panel a threshold.

    Parameters
    ----------
    table : DataFrame
        Sobol indices as bars, alone and with interactions; Morris measures as points.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the table is another one, or has several models.
    """
    import matplotlib.pyplot as plt

    _check(table, ["factor", "threshold", "metric"])
    if "model" in table:
        raise ValueError("the table has several models: choose the rows of one")
    levels = list(dict.fromkeys(table["threshold"]))
    figure, axes = plt.subplots(1, len(levels), squeeze=False, sharey=True, layout="constrained",
                                figsize=(1.5 + 3.6 * len(levels), 4))  # fmt: skip
    for axis, level in zip(axes[0], levels, strict=True):
        rows = table[table["threshold"] == level]
        (_bars if "st" in table else _points)(axis, rows)
        axis.set_title(f"≤ {level:g} cells/µL", fontsize="small")
    for axis in axes[0, 1:]:
        axis.set_ylabel("")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="outside lower center", ncols=5)
    metric = table["metric"].iloc[0].replace("_", " ")
    return _finished(figure, table, ("threshold",), f"{metric}: intervals at 95 %")


def _bars(axis, rows):
    place = np.arange(len(rows))
    for i, (key, label) in enumerate([("s1", "alone (first order)"),
                                      ("st", "with interactions (total)")]):  # fmt: skip
        axis.bar(place + 0.4 * i - 0.2, rows[key], 0.38, yerr=rows[f"{key}_ci"], capsize=3,
                 color=COLOURS[i], label=label, hatch=("", "//")[i])  # fmt: skip
    axis.set_xticks(place, rows["factor"], rotation=30)
    axis.set_ylabel("Share of the variance")
    axis.axhline(0, color="0.3", lw=0.8)


def _points(axis, rows):
    unit = METRICS[rows["metric"].iloc[0]].unit
    of = f" [{unit}]" if unit else ""
    for i, row in enumerate(rows.itertuples()):
        axis.errorbar(row.mu_star, row.sigma, xerr=row.mu_star_ci, capsize=3, ls="",
                      marker=MARKS[(i + i // len(MARKS)) % len(MARKS)],
                      color=style(i)[0], label=row.factor)  # fmt: skip
    axis.margins(0.08)
    axis.set_xlabel(f"Mean size of elementary effects{of}")
    axis.set_ylabel(f"Their standard deviation{of}")


def _check(table, names):
    for name in names:
        if name not in table.columns:
            raise ValueError(unknown("column", name, table.columns))


def _label(table, name):
    """Return a name with its unit."""
    units = table.attrs.get("units", {})
    metric = next((m for m in METRICS if name == m or name.startswith(f"{m}_")), None)
    unit = units.get(name) or (METRICS[metric].unit if metric else "")
    if name.endswith(("_share", "_throughout")):
        unit = "share"
    text = name.replace("_", " ")
    return f"{text} [{unit}]" if unit else text


def _text(table, column, value):
    if column is None:
        return None
    unit = table.attrs.get("units", {}).get(column, "")
    shown = value if isinstance(value, str) else f"{value:g}"
    return f"{column.replace('_', ' ')} {shown} {unit}".strip()


def _ticks(values):
    return [value if isinstance(value, str) else f"{value:.4g}" for value in values]


def _finished(figure, table, drawn, said=""):
    """Return a figure with a title, that says what does not vary either, and with its table."""
    fixed = [
        _text(table, name, table[name].iloc[0])
        for name in table.attrs.get("units", {})
        if name in table and name not in (*drawn, *METRICS) and len(set(table[name])) == 1
    ]
    lines = [said, table.attrs.get("source", ""), ", ".join(fixed)]
    title = "\n".join(folded(line) for line in lines if line)
    figure.suptitle(title, fontsize="small")
    return keep(figure, table)
