"""Compare dosing schedules on the same subjects: which keeps counts suppressed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.event import format_time
from bcellsim.library import load_model
from bcellsim.metrics import METRICS, Question, measure, tallies
from bcellsim.model import Model
from bcellsim.population import Population
from bcellsim.regimen import Regimen
from bcellsim.simulate import as_population, as_regimens, counting, provenance, solve_regimen
from bcellsim.units import days, quantity

if TYPE_CHECKING:
    import pandas as pd

#: Subjects solved at a time, which bounds the memory.
_CHUNK = 50_000
_NO_TIMES = np.empty(0)

#: The keys with which every row of a comparison begins.
_LEADING = ("regimen", "dose", "interval", "n_subjects", "threshold", "recovery", "induction")


def grid(
    *,
    dose: str | Sequence[str],
    every: str | Sequence[str],
    loading: str | None = None,
    start: float | str | None = None,
    drug: str | None = None,
) -> list[Regimen]:
    """Return a regimen for every combination of dose and interval.

    Parameters
    ----------
    dose : str or sequence of str
        Maintenance doses with route, such as ``"20 mg sc"``.
    every : str or sequence of str
        Intervals, such as ``"4 w"``.
    loading : str, optional
        Loading doses as a shorthand, such as ``"20 mg sc at 0 d, 7 d, 14 d"``.
    start : float or str, optional
        Time of the first maintenance dose [day]. By default maintenance doses fall at k x every
        after the first dose, k = 1, 2, ...; without loading the first dose is at 0.
    drug : str, optional
        The drug, if only its models may be simulated with them.

    Raises
    ------
    ValueError
        If a dose or interval cannot be read, or the first maintenance dose is not later than the
        last loading dose.

    Examples
    --------
    >>> [plan.name for plan in grid(dose="20 mg sc", every=["4 w", "8 w"])]
    ['20 mg sc q4w', '20 mg sc q8w']
    """
    doses = [dose] if isinstance(dose, str) else list(dose)
    intervals = [every] if isinstance(every, (str, Real)) else list(every)
    if not doses or not intervals:
        raise ValueError("a grid needs at least one dose and one interval")
    first = Regimen.parse(loading) if loading else None
    plans = []
    origin = first.first_dose if first else 0.0
    for amount, interval in itertools.product(doses, intervals):
        step = days(interval, "every")
        begin = days(start, "start") if start is not None else origin + (step if first else 0.0)
        _check_start(first, begin, interval)
        single = _one_dose(amount)
        repeated = replace(single, time=begin, every=step, count=None)
        plan = Regimen((repeated,)) if first is None else first + Regimen((repeated,))
        label = f"{single} q{format_time(step).replace(' ', '')}"
        plans.append(replace(plan, label=label, drug=drug, dose=str(single), interval=step))
    return plans


def _one_dose(text):
    """Return the event of a dose without a time of its own."""
    events = Regimen.parse(text).events
    if len(events) != 1 or events[0].every is not None or events[0].time:
        raise ValueError(f'dose "{text}": one dose and its route is wanted, without a time (at)')
    return events[0]


def _check_start(loading, begin, interval):
    if begin < 0:
        raise ValueError(f"start = {begin:g} d is before 0")
    if loading is None:
        return
    if loading.is_open:
        raise ValueError("the loading doses are open-ended; write them with `at` or `x N`")
    last = loading.doses()[-1].time
    if begin <= last:
        raise ValueError(
            f"every {interval}: the first maintenance dose at {begin:g} d is not later than the "
            f"last loading dose at {last:g} d; give start"
        )


def explore(
    model: Model | str,
    regimens: Regimen | str | Sequence[Regimen | str],
    population: Population | int,
    *,
    below: float | str | Sequence[float],
    until: float | str,
    induction: float | str = 28.0,
    recovery: float | str | None = None,
    follow_up: float | str = 0.0,
    seed: int | None = None,
    per_subject: bool = False,
    threads: int | None = None,
    progress=None,
) -> pd.DataFrame:
    """Compare regimens on the same subjects: one row a regimen, summaries of every metric.

    Parameters
    ----------
    model : Model or str
        The model, or its name.
    regimens : Regimen, str, or a sequence of them
        The schedules; `grid` makes them from doses and intervals.
    population : Population or int
        The subjects, or how many to sample.
    below : float, str, or a sequence of them
        Threshold of the count [cells/uL]; suppressed means at or below it. Several give a row each.
    until : float or str
        Horizon [day]; doses fall before it.
    induction : float or str
        The window opens this long after the first dose [day].
    recovery : float or str, optional
        Level of the time to repletion [cells/uL]; the threshold by default.
    follow_up : float or str
        Time simulated after `until` without doses, for the time to repletion only [day].
    seed : int, optional
        Seed when `population` is a number.
    per_subject : bool
        Return a row a subject instead of summaries.

    Returns
    -------
    pandas.DataFrame
        Columns named as in the definitions: metrics with ``_mean _median _p5 _p95 _mc_se
        _reached_share``. A time that is not reached counts as infinite; its quantiles and its
        `_reached_share` are over the subjects for whom it is defined.

    Raises
    ------
    ValueError
        If the window is empty or an argument is not valid.
    """
    model = load_model(model)
    plans = as_regimens(regimens)
    people = as_population(model, population, seed=seed)
    model.require_output("bcell")
    levels = thresholds(below)
    span = _Span(days(until, "until"), days(induction, "induction"), days(follow_up, "follow_up"))
    level = None if recovery is None else _one_level(recovery)
    rows, total = [], len(plans) * len(people)
    for i, plan in enumerate(plans):
        questions = [span.question(plan, value, level or value) for value in levels]
        offset = i * len(people)
        tables = _measure(plan, people, questions, span, threads, progress, offset, total)
        for question, values in zip(questions, tables, strict=True):
            rows.append(_row(plan, people, question, values, span, per_subject))
    return _table(rows, per_subject, {**provenance(model, people), "until": span.until})


class _Span:
    """Horizon, induction and follow-up [day]."""

    def __init__(self, until, induction, follow_up):
        if induction < 0 or follow_up < 0:
            raise ValueError("induction and follow_up must not be negative")
        self.until, self.induction, self.follow_up = until, induction, follow_up

    def question(self, plan, threshold, recovery):
        given = np.array([event.time for event in plan.doses(self.until)])
        if not len(given):
            raise ValueError(f"regimen {plan.name} has no dose before until = {self.until:g} d")
        opens = given[0] + self.induction
        if opens >= self.until:
            raise ValueError(
                f"the window of {plan.name} is empty: it opens at {opens:g} d (first dose + "
                f"induction) and until = {self.until:g} d"
            )
        return Question(threshold, recovery, opens, self.until, given, self.follow_up)


def thresholds(given: float | str | Sequence[float], what: str = "below") -> list[float]:
    """Read one or several levels of the count [cells/uL]; `what` names them in messages.

    Raises
    ------
    ValueError
        If there is none, or one is not a finite number above 0.
    """
    if given is None:
        raise ValueError(f"{what}: give a threshold [cells/uL]")
    given = [given] if isinstance(given, (str, Real)) else list(given)
    levels = [quantity(value, "cells/uL", what=what) for value in given]
    if not levels:
        raise ValueError(f"{what}: give a threshold [cells/uL]")
    for value in levels:
        if value <= 0:
            raise ValueError(f"{what} = {value:g}: a threshold above 0 cells/uL is wanted")
    return levels


def _one_level(recovery):
    levels = thresholds(recovery, "recovery")
    if len(levels) > 1:
        raise ValueError("recovery: one level is wanted")
    return levels[0]


def _measure(plan, people, questions, span, threads, progress, offset, total):
    """Solve a regimen in chunks of subjects and return the metrics of each question."""
    outputs = {metric.output for metric in METRICS.values()} & set(people.model.structure.outputs)
    asked = tuple(dict.fromkeys(t for question in questions for t in tallies(question, outputs)))
    collected = [[] for _ in questions]
    for first in range(0, len(people), _CHUNK):
        part = _part(people, slice(first, first + _CHUNK))
        done = counting(progress, offset + first, total)
        solution = solve_regimen(
            plan, part, _NO_TIMES, until=span.until + span.follow_up, doses_until=span.until,
            outputs=(), tallies=asked, threads=threads, backend="compiled", progress=done,
        )  # fmt: skip
        for found, question in zip(collected, questions, strict=True):
            found.append(measure(solution.tally, question, outputs, len(part)))
    return [
        {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        for found in collected
    ]


def _part(people: Population, part: slice) -> Population:
    return replace(
        people,
        subjects=people.subjects[part],
        covariates={name: values[part] for name, values in people.covariates.items()},
        eta=people.eta[part],
        parameters=people.parameters[part],
    )


def _row(plan, people, question, values, span, per_subject):
    leading = {
        "regimen": plan.name,
        "dose": plan.dose or "",
        "interval": plan.interval if plan.interval is not None else np.nan,
        "n_subjects": len(people),
        "threshold": question.threshold,
        "recovery": question.recovery,
        "induction": span.induction,
    }
    total = plan.cumulative_dose(span.until)
    given = {"n_doses": len(question.doses), "cumulative_dose": np.nan if total is None else total}
    if per_subject:
        return {**leading, "subject": people.subjects, **values, **given}
    return {**leading, **summarise(values), **given}


def summarise(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Summarise metrics over subjects.

    Parameters
    ----------
    values : dict of str to float array (n_subjects,)
        Metrics; infinite where not reached, NaN where not defined.

    Returns
    -------
    dict
        ``suppressed_throughout`` is a share with its Monte-Carlo standard error; other metrics have
        mean (infinite where a value is), its Monte-Carlo standard error, median, 5 % and 95 %
        quantiles, and times also the share reached, of the subjects for whom they are defined.
    """
    row = {}
    for name, value in values.items():
        if name == "suppressed_throughout":
            share = float(np.mean(value))
            row[name] = share
            row[f"{name}_mc_se"] = float(np.sqrt(share * (1.0 - share) / len(value)))
            continue
        defined = np.sort(value[~np.isnan(value)])
        n, n_reached = len(defined), np.count_nonzero(np.isfinite(defined))
        # Where some do not reach it, the mean of those who do would be the mean of the early ones.
        row[f"{name}_mean"] = float(defined.mean()) if n else np.nan
        spread = defined.std(ddof=1) if n > 1 and n_reached == n else np.nan
        row[f"{name}_mc_se"] = float(spread / np.sqrt(n)) if n else np.nan
        for label, share in (("median", 0.5), ("p5", 0.05), ("p95", 0.95)):
            row[f"{name}_{label}"] = _quantile(defined, share)
        if name.startswith("time_to_"):
            row[f"{name}_reached_share"] = n_reached / n if n else np.nan
    return row


def _quantile(defined, share):
    """Return a quantile of ascending values, of which infinite ones are the largest."""
    if not len(defined):
        return np.nan
    position = share * (len(defined) - 1)
    low, high = defined[int(np.floor(position))], defined[int(np.ceil(position))]
    if not np.isfinite(high):
        return float(high if position > np.floor(position) else low)
    return float(low + (high - low) * (position - np.floor(position)))


def _table(rows, per_subject, attributes):
    import pandas as pd

    if per_subject:
        table = pd.concat([pd.DataFrame(row) for row in rows], ignore_index=True)
    else:
        table = pd.DataFrame(rows)
    table = table[[*_LEADING, *(c for c in table.columns if c not in _LEADING)]]
    table.attrs = attributes
    return table
