"""Figures of forecasts, and of what they advise."""

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
from bcellsim.simulate import described, provenance

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from bcellsim.fit import Fit
    from bcellsim.redose import Advice

_HEAD = 0.975  # height of the bar of the day advised, of the axis


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


def redose(advice: Advice) -> Figure:
    """Draw an advice: past counts and doses, the count without and with the dose, the days.

    The course without a further dose is a filled band between dashed lines about a dashed median;
    the one with it is a solid median between dotted lines, hatched. A bar on the threshold is the
    90 % interval of the crossing (thick: 50 %); the vertical line is the day advised, with a bar at
    its head as far as it is uncertain by the number of draws.

    Parameters
    ----------
    advice : Advice
        Result of `redose`; its `courses` and its fit's `residuals` are the data of the figure.
    """
    import matplotlib.pyplot as plt

    case, result = advice.case, advice.fit
    figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
    if result is not None:
        past = result.curves[result.curves["TIME"] <= case.now]
        axis.plot(past["TIME"], past["bcell"], "-", color="0.4", lw=1, label="fitted")
        draw_observed(axis, result.residuals[result.residuals["CLOCK"] <= case.now], "bcell")
    _both_courses(axis, advice)
    _crossing_bar(axis, advice)
    _marked_day(axis, advice)
    given = result.regimen if result is not None else case.first
    times = [event.time for event in given.doses(case.now + case.until) if result is None or
             event.time <= case.now]  # fmt: skip
    axis.plot(times, np.full(len(times), 0.025), "|", color="k", ms=9, mew=1.6, label="dose given",
              transform=axis.get_xaxis_transform())  # fmt: skip
    log_axis(axis)
    draw_thresholds(axis, [case.level])
    clock = "on the clock of the data" if result is not None else "since the first dose"
    axis.set_xlabel(f"Time {clock} [day]")
    axis.set_ylabel("B cells in blood [cells/uL]")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="outside lower center", ncols=3)
    axis.set_title(_said(advice), fontsize="medium")
    return figure


def _both_courses(axis, advice):
    looks = {"no further dose": (COLOURS[1], "--", ""), "redosed": (COLOURS[0], "-", "///")}
    for plan, table in advice.courses.groupby("plan", sort=False):
        colour, line, hatch = looks[plan]
        day = table["TIME"]
        if plan == "redosed":  # until then the two are one
            if advice.latest.status == "no need":
                continue
            since = table["days_from_now"] >= advice.latest.day
            table, day = table[since], day[since]
            plan = f"with {advice.case.dose} on that day"
        fill = {"facecolor": "none", "edgecolor": colour} if hatch else {"color": colour}
        axis.fill_between(day, table["p5"], table["p95"], hatch=hatch or None,
                          alpha=0.5 if hatch else 0.2, lw=0, **fill)  # fmt: skip
        for edge in ("p5", "p95"):
            axis.plot(day, table[edge], ":" if hatch else line, color=colour, lw=0.8)
        axis.plot(day, table["p50"], line, color=colour, lw=1.8, label=f"{plan} (median, 90 %)")


def _crossing_bar(axis, advice):
    """Draw the interval of the crossing on the threshold; an arrow where its end is not reached."""
    case, found = advice.case, advice.crossing
    if found["share_above_now"] > 0.5 or not np.isfinite(found["p5"]):
        return
    end = case.until
    ends = {key: min(found[key], end) for key in ("p5", "p25", "p50", "p75", "p95")}
    y = [case.level] * 2
    for low, high, width in (("p5", "p95", 2.0), ("p25", "p75", 5.0)):
        label = "crossing without it: 50 and 90 % interval" if width > 2 else None
        days = [case.now + ends[low], case.now + ends[high]]
        axis.plot(days, y, "-", color="k", lw=width, solid_capstyle="butt", zorder=4, label=label)
    if np.isfinite(found["p50"]):
        axis.plot(case.now + ends["p50"], case.level, "D", color="k", mfc="white", ms=6, zorder=5)
    if not np.isfinite(found["p95"]):
        axis.plot(case.now + end, case.level, ">", color="k", ms=7, zorder=5)


def _marked_day(axis, advice):
    """Draw now, and the latest day with its uncertainty."""
    case, found = advice.case, advice.latest
    axis.axvline(case.now, color="0.3", lw=1, ls="-.")
    axis.annotate("now", (case.now, 1.0), xycoords=("data", "axes fraction"), xytext=(-3, -11),
                  ha="right", textcoords="offset points", fontsize="small")  # fmt: skip
    if found.status not in ("found", "none"):
        return
    day = case.now + found.day
    what = "latest day to dose again" if found.status == "found" else "best day (not enough)"
    axis.axvline(day, color=COLOURS[2], lw=2, label=what)
    if np.isfinite(found.low):
        axis.plot([case.now + found.low, case.now + found.high], [_HEAD] * 2, "|-", lw=2, ms=9,
                  mew=2, color=COLOURS[2], label="its 95 % interval, by the number of draws",
                  transform=axis.get_xaxis_transform())  # fmt: skip
    said = "\n".join(filter(None, (f"day {day:g}", advice.date(found.day))))
    axis.annotate(said, (day, 1.0), xycoords=("data", "axes fraction"), xytext=(5, -11),
                  textcoords="offset points", va="top", fontsize="small")  # fmt: skip


def _said(advice):
    """Return the title: what is advised, by which model."""
    case, found = advice.case, advice.latest
    day, date = f"day {found.day:.0f} from now", advice.date(found.day)
    said = {
        "found": f"{case.dose} by {day}" + (f" ({date})" if date else ""),
        "now": f"{case.dose} now: the count is above {case.level:g} already",
        "no need": "no dose needed before the horizon",
        "none": f"no day reaches the probability; best {day}",
    }[found.status]
    target = f"P(count at or below {case.level:g}) = {case.probability:g} wanted"
    about = described(provenance(case.model))
    return f"{said}; {target}\n{about}. Research use; not medical advice"
