"""What may be given: the longest fixed interval, and a few plans side by side."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.covariates import amounts
from bcellsim.event import format_time
from bcellsim.explore.inverse import Search
from bcellsim.library import list_regimens, load_regimen
from bcellsim.redose.case import Case
from bcellsim.redose.dates import QUANTILES, Latest
from bcellsim.regimen import Regimen, maintained
from bcellsim.simulate import solve_regimen

if TYPE_CHECKING:
    import pandas as pd

_STEP, _FINEST = 28.0, 7.0  # of the intervals looked at [day]
_POINTS = 121  # of a course


def every(case: Case, interval: float, start: float = 0.0) -> Regimen:
    """Return the dose repeated from a day on, by default from now, without end.

    In first-dose mode the first repetition is one interval after the first course began.
    """
    begins = case.first.first_dose + interval if case.first else start
    return maintained(case.dose, interval, start=begins)


def longest_interval(case: Case) -> pd.DataFrame:
    """Look for the longest fixed interval that keeps the count down with the wanted probability.

    Returns
    -------
    DataFrame
        As from `bcellsim.explore.longest_interval`.
    """
    last = case.first.doses()[-1].time - case.first.first_dose if case.first else 0.0
    first = _STEP * max(1, int(np.floor(last / _STEP)) + 1)
    values = np.arange(first, max(case.until, first + 1.0), _STEP)
    span = case.span(case.regimen(None, case.until))

    def plan(interval):
        given = case.regimen(every(case, interval), case.until)
        label = f"{case.dose} q{format_time(interval).replace(' ', '')}"
        return replace(given, label=label, dose=str(case.dose), interval=interval)

    def between(low, high):
        return np.arange(low + _FINEST, high, _FINEST)

    people = case.people_on(case.given_on(0.0))
    search = Search(case.model, people, case.probability, case.level, span.until,
                    span.induction, case.threads)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the threshold: said once, elsewhere
        return search.run(
            values, plan, between, rounds=1, largest=True, what="interval", say=format_time
        )


def labelled(case: Case, label: Regimen | str | None) -> Regimen | None:
    """Return the labelled regimen: the one given, or the licensed one of the drug in the library.

    With a history, loading doses are left out where doses are repeated without end: it goes on with
    these from now.
    """
    if label is None:
        table = list_regimens()
        own = table[(table["drug"] == case.model.drug.name)
                    & table["title"].str.contains("licensed")]  # fmt: skip
        if not len(own):
            return None
        label = own["name"].iloc[0]
    plan = load_regimen(label)
    endless = [event for event in plan.events if event.count is None]
    if case.first or not endless:
        return plan
    begins = min(event.time for event in endless)
    events = tuple(replace(event, time=event.time - begins) for event in endless)
    return replace(plan, events=events, label=f"{plan.name}, maintenance")


def alternatives(case: Case, found: Latest, intervals: pd.DataFrame, label) -> pd.DataFrame:
    """Return a row a plan: doing nothing, once, repeated, and the label.

    Repeated at the longest interval that does; where none does, at the best of those looked at.

    Returns
    -------
    DataFrame
        plan; n_doses and cumulative_dose [mg] from now on; suppressed_throughout (share of the
        draws) with mc_se; days_below: mean, median, p5 and p95 of the time at or below the
        threshold; days: length of that window.
    """
    import pandas as pd

    plan = labelled(case, label)
    rows = [_row(case, "no further dose", None)]
    for name, given in _plans(case, found, _interval(intervals)):
        rows.append(_row(case, name, given))
    if plan is not None:
        rows.append(_row(case, f"label: {plan.name}", plan, anew=bool(case.first)))
    return pd.DataFrame(rows)


def _interval(intervals):
    """Return the longest interval that does, or else the best of those looked at."""
    if intervals.attrs["value"] is not None:
        return intervals.attrs["value"]
    return float(intervals.loc[intervals["suppressed_throughout"].idxmax(), "interval"])


def _plans(case, found, interval):
    """Return the plans with the dose, by name."""
    day = found.day if np.isfinite(found.day) else 0.0
    often, start = f"every {format_time(interval)}", "" if case.first else " from now"
    named = {f"{case.dose} once, {_on(day)}": case.given_on(day)}
    named[f"{case.dose} {often}{start}"] = every(case, interval)
    if day > 0 and not case.first:
        named[f"{case.dose} {_on(day)}, then {often}"] = every(case, interval, day)
    return named.items()


def _on(day):
    return f"on day {day:g}" if day else "now"


def _row(case, name, plan, *, anew=False):
    outcome = case.outcome(plan, anew=anew)
    given = plan.doses(case.until) if plan else []
    if case.first and not anew:
        given = [*case.first.doses(case.until), *given]
    mg = amounts(given, case.people.covariates, len(case.people)).sum(axis=1)
    window = case.until - case.opens
    below = window - outcome.values["days_above"]
    share = float(outcome.values["suppressed_throughout"].mean())
    low, middle, high = np.quantile(below, (0.05, 0.5, 0.95))
    return {
        "plan": name, "n_doses": len(given), "cumulative_dose": float(mg.mean()),
        "suppressed_throughout": share, "mc_se": case.error(share),
        "days_below_mean": float(below.mean()), "days_below_median": float(middle),
        "days_below_p5": float(low), "days_below_p95": float(high), "days": window,
    }  # fmt: skip


def courses(case: Case, day: float) -> pd.DataFrame:
    """Return quantiles of the count without and with a dose on a day.

    Returns
    -------
    DataFrame
        plan (``"no further dose"``, ``"redosed"``), TIME, days_from_now, then the quantiles, of the
        uncertainty of the parameters (of the patients, in first-dose mode).
    """
    import pandas as pd

    end = max(case.until, day + 84.0)
    ahead = np.unique(np.concatenate([np.linspace(0.0, end, _POINTS), [day]]))
    which = case.model.structure.outputs.index("bcell")
    tables = []
    for name, plan in (("no further dose", None), ("redosed", case.given_on(day))):
        found = solve_regimen(
            case.regimen(plan, end), case.people_on(plan), case.clock + ahead,
            until=case.clock + end, threads=case.threads, backend="compiled",
        ).values[:, :, which]  # fmt: skip
        columns = {f"p{100 * q:.0f}": row for q, row in
                   zip(QUANTILES, np.quantile(found, QUANTILES, axis=0), strict=True)}  # fmt: skip
        tables.append(pd.DataFrame({"plan": name, "TIME": case.now + ahead,
                                    "days_from_now": ahead, **columns}))  # fmt: skip
    return pd.concat(tables, ignore_index=True)
