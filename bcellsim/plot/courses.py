"""Figures of simulated courses: together, or a schedule a panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.plot.style import (
    check_output,
    draw_thresholds,
    folded,
    keep,
    log_axis,
    style,
    thresholds_of,
)
from bcellsim.simulate import described

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

_MOST_RIBBONS = 4
_MOST_PANELS = 12
_QUANTILES = {"p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}
#: Height of the tick of a dose that all get, as a share of the panel.
_TICK = 0.09


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
    figure.suptitle(folded(f"{_title(data)}; ticks: doses"), fontsize="medium")
    drawn = [output, lower] if lower else [output]
    return keep(figure, _joined([_quantiles(data, name) for name in drawn]))


def ribbons(
    data: xr.Dataset | Sequence[xr.Dataset],
    *,
    below: float | str | Sequence[float] = (),
    output: str | None = None,
) -> Figure:
    """Draw each schedule in a panel of its own: median, 50 and 90 % bands of subjects, and doses.

    A dose is a tick at the foot of the panel, as high as the share of subjects who get it on that
    day: where a rule decides, not all do.

    Parameters
    ----------
    data : xarray.Dataset or a sequence of them
        Results of `simulate` and `simulate_rule`, of one model or of several.
    below : float, str, or a sequence of them
        Thresholds to draw [unit of the output].
    output : str, optional
        The output, on a log axis: by default the count, or without one the drug.

    Raises
    ------
    ValueError
        If there is no such output, there are more than 12 schedules, or a threshold is not a
        number above 0.
    """
    import matplotlib.pyplot as plt

    levels = thresholds_of(below)
    schedules = [one for each in _listed(data) for one in _apart(each)]
    if not 0 < len(schedules) <= _MOST_PANELS:
        raise ValueError(
            f"{len(schedules)} schedules: a figure has 1 to {_MOST_PANELS} panels; choose some"
        )
    output = check_output(output, [str(n) for n in schedules[0] if "time" in schedules[0][n].dims])
    several = len({one.attrs.get("model") for one in schedules}) > 1
    columns = 1 if len(schedules) == 1 else 2 if len(schedules) <= 4 else 3
    lines = -(-len(schedules) // columns)
    figure, axes = plt.subplots(
        lines, columns, sharex=True, sharey=True, squeeze=False, layout="constrained",
        figsize=(8 if columns < 3 else 10, 1.2 + 2.3 * lines + (lines == 1)),
    )  # fmt: skip
    for i, (axis, one) in enumerate(zip(axes.flat, schedules, strict=False)):
        _band(axis, one, output, 0, i)
        of = f"\n{one.attrs['model']}" if several else ""
        axis.set_title(f"{one.regimen.values[0]}{of}", fontsize="small", wrap=True)
        axis.set_xlim(float(one.time[0]), float(one.time[-1]))
    log_axis(axes[0, 0])
    for i, (axis, one) in enumerate(zip(axes.flat, schedules, strict=False)):
        draw_thresholds(axis, levels)
        doses = _dose_shares(one)
        axis.vlines(
            doses["time"], 0, _TICK * doses["dosed_share"], color=style(i)[0], lw=1.4,
            transform=axis.get_xaxis_transform(),
        )  # fmt: skip
    for k in range(len(schedules), axes.size):
        axes.flat[k].set_axis_off()
        axes.flat[k - columns].tick_params(labelbottom=True)
    about = schedules[0][output].attrs
    figure.supxlabel("Time since first dose [day]", fontsize="medium")
    figure.supylabel(f"{about['long_name']} [{about['unit']}]", fontsize="medium")
    shown = "line: median; bands: 50 and 90 % of patients; ticks: doses"
    titles = "\n".join(dict.fromkeys(_title(one) for one in schedules))
    figure.suptitle(f"{titles}\n{shown}", fontsize="small")
    return keep(figure, _joined([_with_doses(one, output) for one in schedules]))


def _listed(data):
    return list(data) if isinstance(data, (list, tuple)) else [data]


def _apart(data):
    """Return the schedules of a result, each a Dataset over (regimen of 1, subject, time)."""
    if "regimen" not in data.dims:
        return [data.expand_dims(regimen=[data.attrs.get("regimen", "")])]
    return [data.isel(regimen=[i]) for i in range(data.sizes["regimen"])]


def _over_subjects(values):
    """Return the quantiles over subjects of values at each time (5, n_times)."""
    table = values.transpose("subject", "time").values
    return np.nanquantile(table, list(_QUANTILES.values()), axis=0)


def _quantiles(data, name):
    """Return a row for each regimen and time: quantiles over subjects, or the value of one."""
    import pandas as pd

    frames = []
    for i, regimen in enumerate(data.regimen.values):
        values = data[name].isel(regimen=i)
        if values.sizes.get("subject", 1) > 1:
            columns = dict(zip(_QUANTILES, _over_subjects(values), strict=True))
        else:
            columns = {"median": values.values.squeeze()}
        unit = data[name].attrs["unit"]
        frames.append(
            pd.DataFrame({"regimen": str(regimen), "output": name, "unit": unit,
                          "time": data.time.values, **columns})
        )  # fmt: skip
    return _joined(frames)


def _dose_shares(one):
    """Return the days of the doses of a schedule, and the share of subjects dosed on each."""
    import pandas as pd

    times = one.dose_time.values
    n = one.sizes.get("subject", 1) if "subject" in one.dose_time.dims else 1
    days, counts = np.unique(times[np.isfinite(times)], return_counts=True)
    return pd.DataFrame({"time": days, "dosed_share": np.minimum(counts / n, 1.0)})


def _with_doses(one, output):
    table = _quantiles(one, output).merge(_dose_shares(one), on="time", how="outer")
    for name in ("regimen", "output", "unit"):
        table[name] = table[name].dropna().iloc[0]
    return table.sort_values("time")


def _joined(frames):
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def _band(axis, data, name, i, look=None):
    values = data[name].isel(regimen=i)
    colour, line = style(i if look is None else look)
    label = str(data.regimen.values[i])
    time = data.time.values
    if "subject" not in values.dims or values.sizes["subject"] == 1:
        axis.plot(time, values.squeeze().values, line, color=colour, label=label)
        return
    quantiles = _over_subjects(values)
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
    return folded(f"{described(facts)}, {who}{seed}")
