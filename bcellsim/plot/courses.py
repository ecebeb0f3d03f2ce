"""Figures of simulated courses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.plot.style import (
    check_output,
    draw_thresholds,
    folded,
    log_axis,
    style,
    thresholds_of,
)
from bcellsim.simulate import described

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

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

    output = check_output(output, [name for name in data.data_vars if "time" in data[name].dims])
    levels = thresholds_of(below)
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
    log_axis(top)
    draw_thresholds(top, levels)
    _dose_ticks(top, data)
    if data.sizes["regimen"] > 1 or data.sizes.get("subject", 1) > 1:
        handles, labels = top.get_legend_handles_labels()
        figure.legend(handles, labels, fontsize="small", loc="outside lower center", ncols=2)
    axes[-1, 0].set_xlabel("Time since first dose [day]")
    if lower:
        axes[-1, 0].set_ylim(bottom=0)
    axes[-1, 0].set_xlim(float(data.time[0]), float(data.time[-1]))
    figure.suptitle(folded(_title(data)), fontsize="medium")
    return figure


def _band(axis, data, name, i):
    values = data[name].isel(regimen=i)
    colour, line = style(i)
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


def _dose_ticks(axis, data):
    """Mark each dose with a tick under the curves, a row a regimen."""
    n = data.sizes["regimen"]
    for i in range(n):
        times = data.dose_time.isel(regimen=i).values
        height = 0.02 + 0.03 * (n - 1 - i)
        axis.plot(
            times, np.full(len(times), height), "|", color=style(i)[0], ms=7, mew=1.2,
            transform=axis.get_xaxis_transform(),
        )  # fmt: skip


def _title(data):
    facts = data.attrs
    n = data.sizes.get("subject", 1)
    who = f"{n:,} virtual patients" if n > 1 else "typical subject"
    seed = f", seed {facts['seed']}" if "seed" in facts else ""
    return f"{described(facts)}, {who}{seed}; ticks: doses"
