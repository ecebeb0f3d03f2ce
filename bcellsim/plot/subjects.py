"""Figures of subjects: survival curves, adaptive dosing, and which parameters drive an outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bcellsim.plot.style import COLOURS, GREY, keep, percent_axis, question_title, style, told_apart

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: What the axes say of each time to an event.
_EVENTS = {
    "time_to_escape": ("Time since the window opened [day]", "Share remaining suppressed"),
    "time_to_repletion": ("Time since the last dose [day]", "Share not yet at the recovery level"),
    "time_to_depletion": ("Time since the first dose [day]", "Share not yet depleted"),
}
_MOST_BANDS = 4
_MOST_CURVES = 12
_MOST_TORNADOES = 4
#: Marks of a swimmer plot: what is marked, mark, color, whether filled, size.
_SWIM = (
    ("loading dose", "D", COLOURS[0], True, 5),
    ("dose ordered by the rule", "o", COLOURS[1], True, 5.5),
    ("visit, no dose", "|", "0.35", True, 5),
    ("held: gap, most doses or horizon", "s", COLOURS[2], False, 5),
    ("visit missed", "x", COLOURS[3], True, 5),
)


def survival(curves: pd.DataFrame) -> Figure:
    """Draw Kaplan-Meier curves, a panel for each event and threshold, with censoring marks.

    Parameters
    ----------
    curves : pandas.DataFrame
        Result of `bcellsim.survival`, or several of them (of other events) concatenated; at most
        twelve curves a panel.

    Returns
    -------
    matplotlib.figure.Figure
        Bands are 95 % intervals by Greenwood's formula, of up to four curves a panel; a mark is a
        time at which subjects are censored.

    Raises
    ------
    ValueError
        If the table is not one of `survival`, or has too many curves.
    """
    import matplotlib.pyplot as plt

    if not {"event", "at_risk", "share"} <= set(curves):
        raise ValueError("a table of survival is wanted: bc.survival(explore(...), event)")
    curves = told_apart(curves)
    names = list(dict.fromkeys(curves["regimen"]))
    if len(names) > _MOST_CURVES:
        raise ValueError(
            f"{len(names)} schedules: a panel has at most {_MOST_CURVES} curves; choose rows"
        )
    events = [event for event in _EVENTS if event in set(curves["event"])]
    levels = sorted(curves["threshold"].unique())
    figure, axes = plt.subplots(
        len(levels), len(events), squeeze=False, sharey=True, layout="constrained",
        figsize=(2.0 + 4.2 * len(events), 1.4 + 2.7 * len(levels) + 0.1 * len(names)),
    )  # fmt: skip
    for line, level in zip(axes, levels, strict=True):
        for axis, event in zip(line, events, strict=True):
            rows = curves[(curves["event"] == event) & (curves["threshold"] == level)]
            _survival_panel(axis, rows, names)
            axis.set_title(_survival_title(rows, event, level), fontsize="small")
            axis.set_xlabel(_EVENTS[event][0], fontsize="small")
            axis.set_ylabel(_EVENTS[event][1], fontsize="small")
    axes[0, 0].set_ylim(-0.02, 1.04)
    percent_axis(axes[0, 0].yaxis)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    handles.append(plt.Line2D([], [], ls="", marker="+", color="k"))
    labels.append("censored")
    figure.legend(handles, labels, fontsize="small", loc="outside lower left", ncols=2)
    figure.suptitle(question_title(curves), fontsize="small")
    return keep(figure, curves)


def _survival_panel(axis, rows, names):
    panel = list(dict.fromkeys(rows["regimen"]))
    for name, some in rows.groupby("regimen", sort=False):
        color, line = style(names.index(name))
        axis.step(some["time"], some["share"], line, where="post", color=color, label=name)
        if len(panel) <= _MOST_BANDS:
            axis.fill_between(
                some["time"], some["low"], some["high"], step="post", color=color, alpha=0.15, lw=0
            )
        censored = some[some["censored"] > 0]
        axis.plot(censored["time"], censored["share"], "+", color=color, ms=7)
    axis.set_xlim(left=0)


def _survival_title(rows, event, level):
    said = f"≤ {level:g} cells/µL"
    if event == "time_to_repletion":
        said = f"recovery level {rows['recovery'].iloc[0]:g} cells/µL"
        undefined = rows.groupby("regimen")["n_undefined"].first()
        if undefined.any():
            few, many = undefined.min(), undefined.max()
            said += f"\nwithout {few}" + (f" to {many}" if many > few else "")
            said += " patients a schedule whose count is never below it"
    elif event == "time_to_escape":
        said += f" from {rows['induction'].iloc[0] / 7:g} w on"
    return said


def swimmer(
    decisions: pd.DataFrame, doses: pd.DataFrame, *, most: int = 30, title: str = ""
) -> Figure:
    """Draw the visits and doses of a rule, a line a subject, from the fewest doses to the most.

    Parameters
    ----------
    decisions, doses : pandas.DataFrame
        Result of `follow_rule`.
    most : int
        Number of subjects drawn; of more, so many are taken evenly along their number of doses.
    title : str
        What stands above: the rule and the model.

    Raises
    ------
    ValueError
        If the tables are not those of `follow_rule`, or `most` is not at least 1.
    """
    import matplotlib.pyplot as plt

    if not {"subject", "day", "reason"} <= set(decisions) or "given_by" not in doses:
        raise ValueError("the decisions and doses of one rule are wanted: follow_rule(...)")
    if most < 1:
        raise ValueError(f"most = {most}: at least one subject is drawn")
    everyone = decisions["subject"].unique()
    counts = doses.groupby("subject").size().reindex(everyone, fill_value=0)
    order = counts.sort_values(kind="stable").index.to_numpy()
    n = min(most, len(order))
    shown = order[np.linspace(0, len(order) - 1, n).round().astype(int)]
    table = _swim_rows(decisions, doses, shown)
    figure, axis = plt.subplots(figsize=(9, 1.9 + 0.2 * n), layout="constrained")
    first, last = table["day"].min(), table["day"].max()
    axis.hlines(range(n), first, last, color="0.88", lw=4, zorder=0)
    for what, mark, color, filled, size in _SWIM:
        some = table[table["what"] == what]
        if len(some):
            axis.plot(
                some["day"], some["line"], mark, color=color, ms=size, ls="", label=what,
                mfc=color if filled else "none",
            )  # fmt: skip
    axis.set_yticks(range(n), [f"{subject} ({counts[subject]})" for subject in shown])
    axis.tick_params(axis="y", labelsize="x-small")
    axis.set_ylim(-0.8, n - 0.2)
    axis.set_xlabel("Time since first dose [day]")
    axis.set_ylabel("Subject (number of doses)")
    figure.legend(fontsize="small", loc="outside lower left", ncols=3)
    of = "all" if n == len(order) else f"{n} of"
    said = f"{of} {len(order):,} virtual patients, by their number of doses"
    axis.set_title(f"{title}\n{said}".strip(), fontsize="small")
    return keep(figure, table)


def _swim_rows(decisions, doses, shown):
    """Return a row a mark: subject, line, day and what is marked."""
    import pandas as pd

    visits = decisions[decisions["action"] == "none"]
    held = {"below the trigger": "visit, no dose", "visit missed": "visit missed"}
    what = visits["reason"].map(held).fillna("held: gap, most doses or horizon")
    by = doses["given_by"].map({"loading": "loading dose", "rule": "dose ordered by the rule"})
    marks = pd.concat(
        [visits[["subject", "day"]].assign(what=what), doses[["subject", "day"]].assign(what=by)]
    )
    line = {subject: i for i, subject in enumerate(shown)}
    marks = marks[marks["subject"].isin(shown)]
    marks.insert(1, "line", marks["subject"].map(line))
    return marks.sort_values(["line", "day"])


def tornado(table: pd.DataFrame, *, most: int = 12) -> Figure:
    """Draw which parameters drive an outcome: rank correlations, the strongest at the top.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of `bcellsim.drivers`, of at most four schedules and one threshold.
    most : int
        Number of parameters drawn.

    Raises
    ------
    ValueError
        If the table is not one of `drivers`, or has too many schedules or thresholds.
    """
    import matplotlib.pyplot as plt

    if not {"parameter", "rank_correlation", "of"} <= set(table):
        raise ValueError("a table of drivers is wanted: bc.drivers(explore(...), population)")
    names = list(dict.fromkeys(table["regimen"]))
    levels = table["threshold"].unique()
    if len(names) > _MOST_TORNADOES or len(levels) > 1:
        raise ValueError(
            f"{len(names)} schedules and {len(levels)} thresholds: at most "
            f"{_MOST_TORNADOES} and one are drawn; choose rows"
        )
    strength = table.groupby("parameter")["rank_correlation"].agg(lambda r: r.abs().max())
    order = strength.sort_values(ascending=False).index[:most]
    figure, axes = plt.subplots(
        1, len(names), sharex=True, sharey=True, squeeze=False, layout="constrained",
        figsize=(2.6 + 2.9 * len(names), 1.9 + 0.3 * len(order)),
    )  # fmt: skip
    for axis, name in zip(axes[0], names, strict=True):
        rows = table[table["regimen"] == name].set_index("parameter").reindex(order)
        _bars(axis, rows)
        reached = rows["reached_share"].iloc[0]
        said = "" if np.isnan(reached) else f"; reached by {reached:.0%}"
        n = int(rows["n_defined"].iloc[0])
        axis.set_title(f"{name}\nn = {n:,}{said}", fontsize="small", wrap=True)
    axes[0, 0].set_yticks(range(len(order)), order)
    axes[0, 0].invert_yaxis()
    axes[0, 0].set_xlim(-1, 1)
    axes[0, 0].set_xticks([-1, -0.5, 0, 0.5, 1])
    of = table["of"].iloc[0].replace("_", " ")
    figure.supxlabel(f"Rank correlation with {of} (bars: 95 % interval)", fontsize="small")
    figure.suptitle(
        f"{question_title(table)}\nthreshold {levels[0]:g} cells/µL; each "
        "parameter alone, those that vary together share an effect", fontsize="small",
    )  # fmt: skip
    return keep(figure, table)


def _bars(axis, rows):
    r = rows["rank_correlation"].to_numpy()
    sure = (rows["low"] > 0) | (rows["high"] < 0)
    for which, color, hatch in ((sure, COLOURS[0], None), (~sure, "white", "////")):
        at = np.flatnonzero(which)
        axis.barh(at, r[at], color=color, hatch=hatch, edgecolor=COLOURS[0] if hatch else color,
                  height=0.65, lw=0.8)  # fmt: skip
    ends = np.abs(np.array([r - rows["low"], rows["high"] - r]))
    axis.errorbar(r, range(len(r)), xerr=ends, fmt="none", ecolor="k", capsize=2, lw=1)
    axis.axvline(0, color=GREY, lw=0.8)
