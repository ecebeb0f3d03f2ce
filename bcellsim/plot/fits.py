"""Figures of an individual fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.plot.style import (
    COLOURS,
    check_output,
    draw_thresholds,
    log_axis,
    thresholds_of,
)
from bcellsim.structures import OUTPUTS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bcellsim.fit import Fit


def fit(
    result: Fit, *, below: float | str | Sequence[float] = (), output: str | None = None
) -> Figure:
    """Draw a fit with its data: observed, fitted and typical course; censored rows as triangles.

    Parameters
    ----------
    result : Fit
        Result of `fit_individual`; its `curves` and `residuals` are the data of the figure.
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

    output = check_output(output, [name for name in OUTPUTS if name in result.curves])
    levels = thresholds_of(below)
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    curves = result.curves
    axis.plot(curves["TIME"], curves[output], "-", color=COLOURS[0], label="fitted")
    axis.plot(
        curves["TIME"], curves[f"{output}_typical"], "--", color="0.5",
        label="typical subject" if result.prior else "start of the search",
    )  # fmt: skip
    draw_observed(axis, result.residuals, output)
    draw_doses(axis, [event.time for event in result.regimen.doses()])
    log_axis(axis)
    draw_thresholds(axis, levels)
    axis.set_xlabel("Time [day]")
    axis.set_ylabel(_label(output))
    axis.legend(fontsize="small")
    axis.set_title(_title(result), fontsize="medium")
    return figure


def draw_observed(axis, rows: pd.DataFrame, output: str) -> None:
    """Draw observations: points, triangles at the limit of censored ones, bars of intervals.

    Percentages are drawn as the counts that they are by the fit.
    """
    rows = rows[rows["DVID"] == output]
    rows = rows.assign(DV=rows["DV"] * rows["TO_OUTPUT"], LIMIT=rows["LIMIT"] * rows["TO_OUTPUT"])
    colour = COLOURS[1]
    exact = rows[rows["CENS"] == 0]
    axis.plot(exact["CLOCK"], exact["DV"], "o", color=colour, label="observed", zorder=3)
    for sign, marker, what in ((1, "v", "below this limit"), (-1, "^", "above this limit")):
        censored = rows[rows["CENS"] == sign]
        if not len(censored):
            continue
        between = censored[censored["LIMIT"] > 0]
        axis.vlines(between["CLOCK"], between["LIMIT"], between["DV"], color=colour, lw=1)
        axis.plot(
            censored["CLOCK"],
            censored["DV"],
            marker,
            mfc="none",
            color=colour,
            label=what,
            zorder=3,
        )


def draw_doses(axis, times: Sequence[float], label: str = "dose") -> None:
    """Mark doses with ticks under the curves."""
    axis.plot(
        times, np.full(len(times), 0.02), "|", color="k", ms=9, mew=1.5, label=label,
        transform=axis.get_xaxis_transform(),
    )  # fmt: skip


def _label(output):
    return f"{OUTPUTS[output].meaning} [{OUTPUTS[output].unit}]"


def _title(result):
    method = "MAP" if result.prior else "no prior"
    return f"{result.model.name} ({result.model.citation or 'no publication'}), {method}"


def residuals(result: Fit, *, output: str = "bcell") -> Figure:
    """Draw how a fit misses its data: observed against fitted, and standardised residuals.

    Censored rows are triangles at their limit in the first panel; they have no residual.

    Parameters
    ----------
    result : Fit
        Result of `fit_individual`; its `residuals` are the data of the figure.
    output : str
        The endpoint to draw.

    Raises
    ------
    ValueError
        If it was not observed.
    """
    import matplotlib.pyplot as plt
    from scipy.special import ndtri

    rows = result.residuals
    check_output(output, sorted(set(rows["DVID"])))
    rows = rows[rows["DVID"] == output]
    exact = rows[rows["CENS"] == 0]
    figure, axes = plt.subplots(2, 2, figsize=(8, 6.5), layout="constrained")
    first, time, fitted, normal = axes.flat
    _observed_against_fitted(first, rows, output)
    for axis, column, label in ((time, "CLOCK", "Time [day]"), (fitted, "IPRED", None)):
        axis.plot(exact[column], exact["IWRES"], "o", color=COLOURS[1])
        _band_of_residuals(axis)
        axis.set_xlabel(label or f"Fitted {_label(output)}")
        axis.set_ylabel("Residual [SD]")
    if len(exact):
        fitted.set_xscale("log")
        _plain_numbers(fitted)
    else:
        time.annotate("every row is censored: none has a residual", (0.5, 0.8), ha="center",
                      xycoords="axes fraction", fontsize="small")  # fmt: skip
    ordered = np.sort(exact["IWRES"].to_numpy())
    # Blom 1958: expected normal order statistics.
    expected = ndtri((np.arange(1, len(ordered) + 1) - 0.375) / (len(ordered) + 0.25))
    normal.plot(expected, ordered, "o", color=COLOURS[1])
    ends = np.array([-2.5, 2.5])
    normal.plot(ends, ends, "-", color="0.5", lw=0.8)
    normal.set_xlabel("Normal quantile")
    normal.set_ylabel("Residual [SD]")
    left_out = len(rows) - len(exact)
    note = f"; censored, without residual: {left_out}" if left_out else ""
    figure.suptitle(f"{_title(result)}{note}", fontsize="medium")
    return figure


def _observed_against_fitted(axis, rows, output):
    for sign, marker in ((0, "o"), (1, "v"), (-1, "^")):
        part = rows[rows["CENS"] == sign]
        hollow = {"mfc": "none"} if sign else {}
        axis.plot(part["IPRED"], part["DV"], marker, color=COLOURS[1], **hollow)
    values = rows[["IPRED", "DV"]].to_numpy()
    values = values[values > 0]
    ends = np.array([values.min() / 1.5, values.max() * 1.5])
    axis.plot(ends, ends, "-", color="0.5", lw=0.8)
    axis.set_xscale("log")
    log_axis(axis)
    for which in ("x", "y"):
        _plain_numbers(axis, which)
    axis.set_xlabel(f"Fitted {_label(output)}")
    axis.set_ylabel(f"Observed {_label(output)}")


def _band_of_residuals(axis):
    axis.axhline(0, color="0.5", lw=0.8)
    for level in (-1.96, 1.96):
        axis.axhline(level, color="0.5", lw=0.8, ls=":")
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, -2.5), max(high, 2.5))


def profiles(tables: pd.DataFrame | Sequence[pd.DataFrame]) -> Figure:
    """Draw profile likelihoods, a panel each, with their intervals.

    Parameters
    ----------
    tables : DataFrame or sequence of DataFrame
        Results of `Fit.profile`, the data of the figure.

    Raises
    ------
    ValueError
        If there is none.
    """
    import matplotlib.pyplot as plt
    from scipy.stats import chi2

    tables = [tables] if hasattr(tables, "columns") else list(tables)
    if not tables:
        raise ValueError("no profile is given")
    columns = min(3, len(tables))
    lines = -(-len(tables) // columns)
    figure, axes = plt.subplots(
        lines, columns, squeeze=False, figsize=(1.0 + 3.0 * columns, 0.8 + 2.6 * lines),
        layout="constrained",
    )  # fmt: skip
    for axis, table in zip(axes.flat, tables, strict=False):
        facts = table.attrs
        needed = chi2.ppf(facts["level"], 1)
        _curve(axis, table)
        axis.axhline(needed, color="0.3", lw=0.8, ls=(0, (5, 3)))
        for end in (facts["low"], facts["high"]):
            axis.axvline(end, color=COLOURS[1], lw=1, ls=":")
        unit = f" [{facts['unit']}]" if facts["unit"] else ""
        axis.set_xlabel(f"{facts['parameter']}{unit}")
        low, high = (f"{end:.3g}" if np.isfinite(end) else "not reached"
                     for end in (facts["low"], facts["high"]))  # fmt: skip
        axis.set_title(f"{facts['level']:.0%} interval: {low} to {high}", fontsize="small")
        axis.set_xscale("log")
        _plain_numbers(axis)
        axis.set_ylim(0, 1.6 * needed)
    for axis in axes[:, 0]:
        axis.set_ylabel("Rise of -2 log likelihood")
    for axis in list(axes.flat)[len(tables) :]:
        axis.set_visible(False)
    return figure


def _curve(axis, table):
    """Draw a profile through its points: its signed root is nearly straight."""
    value, rise = table["value"].to_numpy(), table["rise"].to_numpy()
    root = np.sqrt(np.maximum(rise, 0.0)) * np.sign(np.arange(len(rise)) - int(np.argmin(rise)))
    fine = np.geomspace(value[0], value[-1], 200)
    axis.plot(fine, np.interp(np.log(fine), np.log(value), root) ** 2, "-", color=COLOURS[0])
    axis.plot(value, rise, "o", color=COLOURS[0], ms=3.5)


def _plain_numbers(axis, which="x"):
    """Label a log axis that may span less than a decade with a few plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_xlim() if which == "x" else axis.get_ylim()
    labelled = axis.xaxis if which == "x" else axis.yaxis
    wide = high > 100.0 * max(low, 1e-300)
    subs = (1.0,) if wide else (1.0, 2.0, 5.0)
    if high < 5.0 * low:
        subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    labelled.set_major_locator(LogLocator(subs=subs, numticks=6 if wide else 12))
    labelled.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    labelled.set_minor_formatter(NullFormatter())


def prior_posterior(result: Fit, draws: pd.DataFrame) -> Figure:
    """Draw each parameter before and after the data: median and 90 % interval, over the typical.

    Parameters
    ----------
    result : Fit
        Result of `fit_individual` with the model as prior.
    draws : DataFrame
        Result of `Fit.draws`, the data of the figure.

    Raises
    ------
    ValueError
        If the fit has no prior, or the draws are not of its parameters.
    """
    import matplotlib.pyplot as plt
    from scipy.special import expit, logit

    if not result.prior:
        raise ValueError("the fit has no prior to compare with")
    rows = result.params[result.params["prior_sd"].notna()]
    absent = [name for name in rows.index if name not in draws]
    if absent:
        raise ValueError(f"the draws have no column {absent[0]}; they are those of another fit")
    figure, axis = plt.subplots(figsize=(7, 1.2 + 0.34 * len(rows)), layout="constrained")
    for i, (name, row) in enumerate(rows.iterrows()):
        sd, usual = row["prior_sd"], row["typical"]
        steps = np.array([-1.6449, 0.0, 1.6449]) * sd
        on_logit = result.model.is_logit(name)
        prior = expit(logit(usual) + steps) if on_logit else usual * np.exp(steps)
        after = np.quantile(draws[name], [0.05, 0.5, 0.95])
        for values, shift, colour, marker, ls in (
            (prior, 0.16, "0.5", "s", "--"), (after, -0.16, COLOURS[0], "o", "-"),
        ):  # fmt: skip
            values = values / usual
            axis.plot(values[[0, 2]], [i + shift] * 2, ls, color=colour, lw=1.5)
            axis.plot(values[1], i + shift, marker, color=colour, ms=5, mfc="white" if
                      marker == "s" else colour)  # fmt: skip
    axis.axvline(1.0, color="0.7", lw=0.8)
    axis.set_xscale("log")
    _plain_numbers(axis)
    labels = [f"{name}  ({row['typical']:.3g} {row['unit']})" for name, row in rows.iterrows()]
    axis.set_yticks(range(len(rows)), [label.replace(" )", ")") for label in labels])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlabel("Value over the typical one (in brackets); median and 90 % interval")
    from matplotlib.lines import Line2D

    axis.legend(
        handles=[Line2D([], [], color="0.5", ls="--", marker="s", mfc="white", label="prior"),
                 Line2D([], [], color=COLOURS[0], marker="o", label="posterior")],
        fontsize="small",
    )  # fmt: skip
    axis.set_title(f"{_title(result)}; {draws.attrs.get('note', '')}", fontsize="small")
    return figure
