"""Figures of forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.plot.fits import draw_observed
from bcellsim.plot.style import (
    COLOURS,
    check_output,
    draw_thresholds,
    folded,
    log_axis,
    thresholds_of,
)
from bcellsim.simulate import described

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from bcellsim.fit import Fit


def forecast(
    data: xr.Dataset,
    result: Fit | None = None,
    *,
    below: float | str | Sequence[float] = (),
    output: str = "bcell",
) -> Figure:
    """Draw a forecast: median, credible band (filled) and, where it is there, prediction band.

    The prediction band is between dotted lines and hatched, so that the two are told apart without
    colour.

    Parameters
    ----------
    data : xarray.Dataset
        Result of `forecast`, the data of the figure.
    result : Fit, optional
        The fit it was made from, whose observations and fitted course are drawn before it.
    below : float, str, or a sequence of them
        Thresholds to draw [unit of the output].
    output : str
        The output to draw.

    Raises
    ------
    ValueError
        If there is no such output, or a threshold is not a number above 0.
    """
    import matplotlib.pyplot as plt

    check_output(output, [name for name in data.data_vars if f"{name}_credible" in data])
    levels = thresholds_of(below)
    figure, axis = plt.subplots(figsize=(8.5, 4.5), layout="constrained")
    time = data.time.values
    if result is not None:
        past = result.curves[result.curves["TIME"] <= time[0]]
        axis.plot(past["TIME"], past[output], "-", color="0.4", lw=1, label="fitted")
        draw_observed(axis, result.residuals, output)
    _bands(axis, data, output, time)
    _doses(axis, data)
    axis.axvline(data.attrs["now"], color="0.3", lw=1, ls="-.")
    axis.annotate("now", (data.attrs["now"], 1.0), xycoords=("data", "axes fraction"),
                  xytext=(2, -10), textcoords="offset points", fontsize="small")  # fmt: skip
    log_axis(axis)
    draw_thresholds(axis, levels)
    about = data[output].attrs
    axis.set_xlabel("Time on the clock of the data [day]")
    axis.set_ylabel(f"{about['long_name']} [{about['unit']}]")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="outside lower center", ncols=4)
    facts = data.attrs
    title = f"{described(facts)}; {facts['plan']}; {facts['n_draws']} draws"
    axis.set_title(folded(title), fontsize="medium")
    return figure


def _bands(axis, data, output, time):
    credible = data[f"{output}_credible"]
    low, high = (credible.sel(quantile=q).values for q in (0.05, 0.95))
    axis.fill_between(time, low, high, color=COLOURS[0], alpha=0.3, lw=0,
                      label="90 % credible (parameters)")  # fmt: skip
    axis.plot(time, credible.sel(quantile=0.5).values, "-", color=COLOURS[0], label="median")
    if f"{output}_prediction" not in data:
        return
    predicted = data[f"{output}_prediction"]
    low, high = (predicted.sel(quantile=q).values for q in (0.05, 0.95))
    axis.fill_between(time, low, high, facecolor="none", edgecolor=COLOURS[1], hatch="///",
                      alpha=0.35, lw=0, label="90 % prediction (a measured count)")  # fmt: skip
    for edge in (low, high):
        axis.plot(time, edge, ":", color=COLOURS[1], lw=1.2)


def _doses(axis, data):
    """Mark doses given with ticks, those planned with triangles."""
    times = data.dose_time.values
    planned = times >= data.attrs["now"]
    if data.attrs["plan"] == "no further doses":
        planned[:] = False
    for part, marker, label in ((~planned, "|", "dose given"), (planned, "^", "dose planned")):
        if part.any():
            axis.plot(
                times[part], np.full(part.sum(), 0.025), marker, color="k", ms=7, mew=1.4,
                mfc="none", label=label, transform=axis.get_xaxis_transform(),
            )  # fmt: skip
