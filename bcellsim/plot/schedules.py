"""Figures of comparisons: heat map, Pareto front, forest of subgroups, the curve of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bcellsim.explore import pareto as marked
from bcellsim.explore.summary import Z95
from bcellsim.names import unknown
from bcellsim.plot.style import (
    COLOURS,
    GREY,
    MARKS,
    everybody,
    keep,
    level_panels,
    percent_axis,
    question_title,
    told_apart,
)
from bcellsim.regimen import single_dose

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_TARGET = "#D55E00"
#: Columns that are shares, with what an axis says of them.
_SHARES = {
    "suppressed_throughout": "Share of patients\nsuppressed throughout",
    "suppressed_fraction_mean": "Share of the window's time\nat or below the threshold (mean)",
}
_UNITS = {
    "cumulative_dose": "Cumulative dose [mg]",
    "n_doses": "Number of doses",
    "n_visits": "Number of visits",
}
_MOST_NUMBERED = 9
_MOST_SCHEDULES = 6


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
        Cells of a share that reach it are outlined; the contour at it is interpolated between the
        centers of cells.

    Raises
    ------
    ValueError
        If the table has no such column, or no doses and intervals.
    """
    import matplotlib.pyplot as plt

    if value not in table.columns:
        raise ValueError(unknown("column", value, table.columns))
    table = everybody(table)
    table = table[table["interval"].notna()]
    if not len(table):
        raise ValueError("a heat map needs regimens with a dose and an interval, made by `grid`")
    panels, share = level_panels(table), value in _SHARES
    columns = min(len(panels), table["threshold"].nunique())
    lines = -(-len(panels) // columns)
    intervals, doses = sorted(table["interval"].unique()), list(dict.fromkeys(table["dose"]))
    figure, axes = plt.subplots(
        lines, columns, squeeze=False, sharex=True, sharey=True, layout="constrained",
        figsize=(1.8 + columns * max(2.5, 0.75 * len(intervals)),
                 1.6 + lines * max(1.6, 0.5 * len(doses))),
    )  # fmt: skip
    image, contours = None, 0
    for axis, (title, rows) in zip(axes.flat, panels, strict=False):
        cells = _cells(rows, doses, intervals, value)
        shown = np.where(np.isfinite(cells), cells, np.nan)
        limits = {"vmin": 0, "vmax": 1} if share else {}
        image = axis.imshow(shown, cmap="cividis", aspect="auto", **limits)
        _annotate(axis, cells, shown, image, share)
        if share and target is not None:
            contours += _reaching(axis, cells, target)
        axis.set_title(title, fontsize="small")
        axis.set_xticks(range(len(intervals)), [f"{interval / 7:g}" for interval in intervals])
        axis.set_yticks(range(len(doses)), doses)
    for axis in axes[-1]:
        axis.set_xlabel("Interval [week]")
    figure.colorbar(image, ax=axes, label=_SHARES.get(value, _label(value)))
    outlined = (
        "" if not share or target is None else "\n" + _outlined(table, value, target, contours)
    )
    figure.suptitle(question_title(table) + outlined, fontsize="small")
    return keep(figure, table)


def _cells(rows, doses, intervals, value):
    """Return a column of the table over dose and interval, NaN where there is no row."""
    cells = np.full((len(doses), len(intervals)), np.nan)
    for row in rows.to_dict("records"):
        cells[doses.index(row["dose"]), intervals.index(row["interval"])] = row[value]
    return cells


def _annotate(axis, cells, shown, image, share):
    from matplotlib.patheffects import withStroke

    for (i, j), number in np.ndenumerate(cells):
        if np.isnan(number):
            continue
        dark = np.isfinite(shown[i, j]) and image.norm(shown[i, j]) < 0.5
        text = f"{100 * number:.0f}%" if share else (f"{number:.3g}" if number < np.inf else "∞")
        behind = image.cmap(image.norm(shown[i, j])) if np.isfinite(shown[i, j]) else "white"
        axis.text(
            j, i, text, ha="center", va="center", fontsize="small", zorder=4,
            color="white" if dark else "black",
            path_effects=[withStroke(linewidth=2.5, foreground=behind)],
        )  # fmt: skip


def _reaching(axis, cells, target):
    """Outline the cells that reach the target; draw the contour at it and return whether it is."""
    from matplotlib.patches import Rectangle

    for (i, j), number in np.ndenumerate(cells):
        if number >= target:
            axis.add_patch(
                Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec=_TARGET, lw=2.5, zorder=3)
            )
    crossed = min(cells.shape) > 1 and np.nanmin(cells) < target <= np.nanmax(cells)
    if crossed:
        axis.contour(cells, levels=[target], colors="white", linewidths=3.2)
        axis.contour(cells, levels=[target], colors=_TARGET, linestyles="--", linewidths=1.6)
    return bool(crossed)


def _outlined(table, value, target, contours):
    """Return what is said of the target beside the color bar."""
    if (table[value] >= target).any():
        dashed = f"; dashed: contour at {target:.0%}" if contours else ""
        return f"outlined: {target:.0%} or more{dashed}"
    return f"none reaches {target:.0%}"


def pareto(
    table: pd.DataFrame, *, cost: str = "cumulative_dose", gain: str = "suppressed_throughout"
) -> Figure:
    """Draw cost against gain, a panel for each threshold: the front, and what it dominates.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of `explore`, of `explore.pareto`, or rows of them.
    cost, gain : str
        As for `bcellsim.pareto`.

    Raises
    ------
    ValueError
        As `bcellsim.pareto`.
    """
    import matplotlib.pyplot as plt

    table = marked(told_apart(everybody(table)), cost=cost, gain=gain)
    panels = level_panels(table)
    figure, axes = plt.subplots(
        len(panels), 1, sharex=True, squeeze=False, layout="constrained",
        figsize=(8, 1.3 + 2.9 * len(panels)),
    )  # fmt: skip
    named = table if table["regimen"].nunique() <= _MOST_NUMBERED else table[table["pareto"]]
    best = named.sort_values(cost)["regimen"]
    numbers = {name: i + 1 for i, name in enumerate(dict.fromkeys(best))}
    for axis, (title, rows) in zip(axes[:, 0], panels, strict=True):
        _front(axis, rows, cost, gain, numbers)
        axis.set_title(title, fontsize="small")
        axis.set_ylabel(_SHARES.get(gain, _label(gain)))
        if gain in _SHARES:
            axis.set_ylim(-0.04, 1.12)
            percent_axis(axis.yaxis)
    axes[-1, 0].set_xlabel(_UNITS[cost])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    shown = list(numbers.items())[:_MOST_NUMBERED]
    for name, number in shown:
        handles.append(plt.Line2D([], [], ls="", marker=f"${number}$", color="k"))
        labels.append(name)
    figure.legend(handles, labels, fontsize="small", loc="outside lower left", ncols=2)
    figure.suptitle(question_title(table), fontsize="small")
    return keep(figure, table)


def _front(axis, rows, cost, gain, numbers):
    """Draw the schedules of a panel: those of the front numbered and joined, the others grey."""
    front = rows[rows["pareto"]].sort_values([cost, gain])
    others = rows[~rows["pareto"]]
    for some, mark, color, name in (
        (others, "X", GREY, "dominated"), (front, "o", COLOURS[0], "no other beats it"),
    ):  # fmt: skip
        if not len(some):
            continue
        axis.errorbar(
            some[cost], some[gain], yerr=_half(some, gain), fmt=mark, color=color, ms=6, lw=0.8,
            capsize=2, label=name,
        )  # fmt: skip
    axis.step(front[cost], front[gain], where="post", color=COLOURS[0], lw=1)
    placed = {}
    for row in rows[rows["regimen"].isin(numbers)].to_dict("records"):
        at = (row[cost], row[gain])
        placed.setdefault(at, []).append(numbers[row["regimen"]])
    for at, some in placed.items():
        text = ", ".join(str(k) for k in some if k <= _MOST_NUMBERED)
        axis.annotate(text, at, xytext=(-4, 6), textcoords="offset points", ha="right",
                      fontsize="small", fontweight="bold")  # fmt: skip
    axis.margins(x=0.08)


def _half(rows, column):
    """Return half of the 95 % interval of the Monte-Carlo error of a column; None without one."""
    error = f"{column.removesuffix('_mean')}_mc_se"
    return Z95 * rows[error] if error in rows and not column.endswith("_median") else None


def _label(column):
    """Return what an axis says of a column: its name, statistic and unit."""
    from bcellsim.metrics import METRICS

    names = [name for name in METRICS if column == name or column.startswith(f"{name}_")]
    if not names:
        return _UNITS.get(column, column)
    name = max(names, key=len)
    unit = f" [{METRICS[name].unit}]" if METRICS[name].unit else ""
    statistic = column[len(name) + 1 :]
    said = name.replace("_", " ").capitalize()
    return f"{said}{', ' + statistic if statistic else ''}{unit}"


def forest(table: pd.DataFrame, *, value: str = "suppressed_throughout") -> Figure:
    """Draw a metric of subgroups, a panel for each threshold, a mark for each schedule.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of `explore` with `by`, of at most six schedules.
    value : str
        A column: a share, a ``_mean`` (with the 95 % interval of its Monte-Carlo error; of a share
        Wilson's) or a ``_median`` (with the range of 5 to 95 % of the subjects).

    Raises
    ------
    ValueError
        If the table has no groups, no such column, or more than six schedules.
    """
    import matplotlib.pyplot as plt

    if "group" not in table:
        raise ValueError('a forest needs groups: explore(..., by="WT")')
    if value not in table:
        raise ValueError(unknown("column", value, [str(column) for column in table]))
    table = told_apart(table)
    schedules = list(dict.fromkeys(table["regimen"]))
    if len(schedules) > _MOST_SCHEDULES:
        raise ValueError(
            f"{len(schedules)} schedules: a forest has at most {_MOST_SCHEDULES}; choose rows"
        )
    low, high, said = _interval(table, value)
    table = table.assign(drawn_low=low, drawn_high=high)
    labels = list(dict.fromkeys(table["group"]))
    panels = level_panels(table)
    figure, axes = plt.subplots(
        1, len(panels), sharey=True, squeeze=False, layout="constrained",
        figsize=(3.0 + 3.4 * len(panels), 1.8 + (0.22 + 0.13 * len(schedules)) * len(labels)),
    )  # fmt: skip
    for axis, (title, rows) in zip(axes[0], panels, strict=True):
        _forest_panel(axis, rows, value, schedules, labels)
        axis.set_title(title, fontsize="small")
        axis.set_xlabel(f"{_SHARES.get(value, _label(value))}\n({said})", fontsize="small")
        if value in _SHARES:
            percent_axis(axis.xaxis)
    sizes = table.drop_duplicates("group").set_index("group")["n_subjects"]
    axes[0, 0].set_yticks(range(len(labels)), [f"{name} (n = {sizes[name]:,})" for name in labels])
    axes[0, 0].invert_yaxis()
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize="small", loc="outside lower left", ncols=2)
    figure.suptitle(question_title(table), fontsize="small")
    return keep(figure, table)


def _forest_panel(axis, rows, value, schedules, labels):
    spread = 0.6 if len(schedules) > 1 else 0.0
    offsets = np.linspace(-spread / 2, spread / 2, len(schedules))
    for i, name in enumerate(schedules):
        some = rows[rows["regimen"] == name]
        place = np.array([labels.index(group) for group in some["group"]]) + offsets[i]
        ends = [some[value] - some["drawn_low"], some["drawn_high"] - some[value]]
        axis.errorbar(
            some[value], place, xerr=np.clip(ends, 0, None), fmt=MARKS[i], color=COLOURS[i], ms=5,
            lw=1, capsize=2, label=name,
        )  # fmt: skip
        axis.axvline(
            some[some["group"] == "all"][value].iloc[0], color=COLOURS[i], lw=0.7, ls=":", zorder=0
        )
    for border in range(1, len(labels)):
        axis.axhline(border - 0.5, color="0.9", lw=0.6, zorder=0)


def _interval(table, value):
    """Return lower and upper ends of what is drawn beside a column, and what they are."""
    if value.endswith("_median"):
        name = value.removesuffix("_median")
        return table[f"{name}_p5"], table[f"{name}_p95"], "bars: 5 to 95 % of patients"
    said = "bars: 95 % interval of the Monte-Carlo error"
    if value == "suppressed_throughout":
        return *_wilson(table[value], table["n_subjects"]), said
    half = _half(table, value)
    half = np.nan if half is None else half
    return table[value] - half, table[value] + half, said


def _wilson(share, n):
    """Return Wilson's 95 % interval of a share (Wilson 1927, doi:10.2307/2276774)."""
    z2 = Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return np.minimum(centre - half, share), np.maximum(centre + half, share)


def search(table: pd.DataFrame) -> Figure:
    """Draw the curve from which a search read its answer, with the neighbours on both sides.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of `longest_interval`, `smallest_dose` or `fewest_doses`.

    Raises
    ------
    ValueError
        If the table is not one of a search.
    """
    import matplotlib.pyplot as plt

    if "reaches" not in table or "probability" not in table.attrs:
        raise ValueError("a table of longest_interval, smallest_dose or fewest_doses is wanted")
    column = table.attrs["what"]
    scale = 7.0 if column == "interval" else 1.0
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    drawn = table.sort_values(column)
    axis.plot(drawn[column] / scale, drawn["suppressed_throughout"], "-", color="0.7", lw=1)
    kinds = (
        ("does not reach it", ~drawn["reaches"], "X", GREY),
        ("reaches it", drawn["reaches"] & ~drawn["answer"], "o", COLOURS[0]),
        ("answer", drawn["answer"], "*", _TARGET),
    )
    for name, which, mark, color in kinds:
        some = drawn[which]
        if len(some):
            axis.errorbar(
                some[column] / scale, some["suppressed_throughout"],
                yerr=_half(some, "suppressed_throughout"), fmt=mark, color=color, capsize=2, lw=1,
                ms=14 if name == "answer" else 6, label=name,
            )  # fmt: skip
    near = drawn[drawn["neighbour"]]
    axis.plot(near[column] / scale, near["suppressed_throughout"], "s", mfc="none", color="k",
              ms=12, ls="", label="neighbour of the answer")  # fmt: skip
    axis.axhline(table.attrs["probability"], color="0.3", lw=0.8, ls=(0, (5, 3)), label="wanted")
    unit = single_dose(table["dose"].iloc[-1]).unit
    names = {"interval": "Interval [week]", "amount": f"Dose [{unit}]"}
    axis.set_xlabel(names.get(column, "Number of doses, loading included"))
    axis.set_ylabel(_SHARES["suppressed_throughout"])
    percent_axis(axis.yaxis)
    axis.legend(fontsize="small")
    axis.set_title(f"{question_title(table)}\nbars: 95 % interval of the Monte-Carlo error",
                   fontsize="small")  # fmt: skip
    return keep(figure, table)
