"""Figures of results. Nothing is simulated or fitted here.

Colours are Okabe and Ito's, which the colour-blind can tell apart; line styles differ as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.explore import thresholds
from bcellsim.names import unknown
from bcellsim.simulate import described

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from bcellsim.fit import Fit

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", "-.", ":")
_MOST_RIBBONS = 4


def trajectories(
    data: xr.Dataset, *, below: float | str | Sequence[float] = (), output: str | None = None
) -> Figure:
    """Draw counts with their 50 and 90 % bands over subjects, and concentrations below them.

    Parameters
    ----------
    data : xarray.Dataset
        Result of `simulate`.
    below : float, str, or a sequence of them
        Thresholds to draw [unit of the output].
    output : str, optional
        The output of the upper panel, on a log axis: by default the count, or without one the drug.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no such output, or a threshold is not a number above 0.
    """
    import matplotlib.pyplot as plt

    output = _output(output, [name for name in data.data_vars if "time" in data[name].dims])
    levels = _thresholds(below)
    if "regimen" not in data.dims:
        data = data.expand_dims(regimen=[data.attrs.get("regimen", "")])
    lower = next((n for n in ("conc", "amount") if n in data and n != output), None)
    figure, axes = plt.subplots(
        2 if lower else 1, 1, sharex=True, figsize=(8, 6 if lower else 4), layout="constrained",
        height_ratios=[2, 1] if lower else None, squeeze=False,
    )  # fmt: skip
    top = axes[0, 0]
    for axis, name in zip(axes[:, 0], [output, lower], strict=False):
        for i in range(data.sizes["regimen"]):
            _band(axis, data, name, i)
        about = data[name].attrs
        axis.set_ylabel(f"{about['long_name']}\n[{about['unit']}]")
    _log_axis(top)
    _draw_thresholds(top, levels)
    _dose_ticks(top, data)
    if data.sizes["regimen"] > 1 or data.sizes.get("subject", 1) > 1:
        handles, labels = top.get_legend_handles_labels()
        figure.legend(handles, labels, fontsize="small", loc="outside lower center", ncols=2)
    axes[-1, 0].set_xlabel("Time since first dose [day]")
    if lower:
        axes[-1, 0].set_ylim(bottom=0)
    axes[-1, 0].set_xlim(float(data.time[0]), float(data.time[-1]))
    figure.suptitle(_title(data), fontsize="medium")
    return figure


def _band(axis, data, name, i):
    values = data[name].isel(regimen=i)
    colour, line = _style(i)
    label = str(data.regimen.values[i])
    time = data.time.values
    if "subject" not in values.dims or values.sizes["subject"] == 1:
        axis.plot(time, values.squeeze().values, line, color=colour, label=label)
        return
    quantiles = np.nanquantile(
        values.transpose("subject", "time").values, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0
    )
    if data.sizes["regimen"] <= _MOST_RIBBONS:
        band = "50 and 90 % of subjects" if i == data.sizes["regimen"] - 1 else None
        axis.fill_between(time, quantiles[0], quantiles[4], color=colour, alpha=0.15, lw=0)
        axis.fill_between(
            time, quantiles[1], quantiles[3], color=colour, alpha=0.3, lw=0, label=band
        )
    axis.plot(time, quantiles[2], line, color=colour, label=f"{label} (median)".strip())


def _style(i):
    return _COLOURS[i % len(_COLOURS)], _LINES[i % len(_LINES)]


def _log_axis(axis):
    from matplotlib.ticker import LogFormatter

    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(LogFormatter())
    low, high = axis.get_ylim()
    if high / max(low, 1e-300) > 1e6:
        axis.set_ylim(bottom=high * 1e-6)


def _output(output, outputs):
    """Return the output asked for; by default the count, or without one the first."""
    if output is None:
        return "bcell" if "bcell" in outputs else outputs[0]
    if output not in outputs:
        raise ValueError(unknown("output", output, outputs))
    return output


def _thresholds(below):
    """Return the thresholds to draw; none is given as an empty sequence."""
    return [] if np.ndim(below) and not len(below) else thresholds(below)


def _draw_thresholds(axis, levels):
    for level in levels:
        axis.axhline(level, color="0.3", lw=0.8, ls=(0, (5, 3)))
        axis.annotate(
            f"{level:g}", (1.0, level), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize="small",
        )  # fmt: skip


def _dose_ticks(axis, data):
    """Mark each dose with a tick under the curves, a row a regimen."""
    n = data.sizes["regimen"]
    for i in range(n):
        times = data.dose_time.isel(regimen=i).values
        height = 0.02 + 0.03 * (n - 1 - i)
        axis.plot(
            times, np.full(len(times), height), "|", color=_style(i)[0], ms=7, mew=1.2,
            transform=axis.get_xaxis_transform(),
        )  # fmt: skip


def _title(data):
    facts = data.attrs
    n = data.sizes.get("subject", 1)
    who = f"{n:,} virtual patients" if n > 1 else "typical subject"
    seed = f", seed {facts['seed']}" if "seed" in facts else ""
    return f"{described(facts)}, {who}{seed}; ticks: doses"


def fit(
    result: Fit, *, below: float | str | Sequence[float] = (), output: str | None = None
) -> Figure:
    """Draw a fit with its data: observed, fitted and typical course; censored rows as triangles.

    Parameters
    ----------
    result : Fit
        Result of `fit_individual`.
    below : float, str, or a sequence of them
        Thresholds to draw [unit of the output].
    output : str, optional
        The output to draw: by default the count, or without one the drug.

    Raises
    ------
    ValueError
        If there is no such output, or a threshold is not a number above 0.
    """
    import matplotlib.pyplot as plt

    from bcellsim.structures import OUTPUTS

    output = _output(output, [name for name in OUTPUTS if name in result.curves])
    levels = _thresholds(below)
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    curves, rows = result.curves, result.residuals
    rows = rows[rows["DVID"] == output]
    exact, censored = rows[rows["CENS"] == 0], rows[rows["CENS"] == 1]
    axis.plot(curves["TIME"], curves[output], "-", color=_COLOURS[0], label="fitted")
    axis.plot(
        curves["TIME"], curves[f"{output}_typical"], "--", color="0.5",
        label="typical subject" if result.prior else "start of the search",
    )  # fmt: skip
    axis.plot(exact["TIME"], exact["DV"], "o", color=_COLOURS[1], label="observed", zorder=3)
    if len(censored):
        axis.plot(
            censored["TIME"], censored["DV"], "v", mfc="none", color=_COLOURS[1],
            label="below this limit", zorder=3,
        )  # fmt: skip
    doses = [event.time for event in result.regimen.doses()]
    axis.plot(
        doses, np.full(len(doses), 0.02), "|", color="k", ms=9, mew=1.5, label="dose",
        transform=axis.get_xaxis_transform(),
    )  # fmt: skip
    _log_axis(axis)
    _draw_thresholds(axis, levels)
    axis.set_xlabel("Time [day]")
    axis.set_ylabel(f"{OUTPUTS[output].meaning} [{OUTPUTS[output].unit}]")
    axis.legend(fontsize="small")
    method = "MAP" if result.prior else "least squares"
    axis.set_title(
        f"{result.model.name} ({result.model.citation or 'no publication'}), {method}",
        fontsize="medium",
    )
    return figure


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
        figure.suptitle(_grid_title(table), fontsize="small")
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
