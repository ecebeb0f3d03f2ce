"""Compare a model with the published results in its file; a check that fails is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.engine import Trajectories
from bcellsim.library import load_model, load_regimen, model_names
from bcellsim.metrics import METRICS, Question
from bcellsim.model import Check, Model
from bcellsim.names import unknown
from bcellsim.population import sample_population, typical_subject
from bcellsim.simulate import solve_regimen
from bcellsim.units import convert, days, dimension_of

if TYPE_CHECKING:
    import pandas as pd

#: Metrics of a check, by name: (Trajectories, Question) -> (n_subjects,), and the unit.
ENDPOINTS: dict[str, tuple[Callable, str]] = {
    "time_to_depletion": (METRICS["time_to_depletion"], "day"),
    "nadir": (METRICS["nadir"], "cells/uL"),
    "days_above": (METRICS["days_above"], "day"),
    "auc": (lambda course, q: course.within(q.opens, q.closes).integral(), "mg/L*day"),
    "maximum": (lambda course, q: course.within(q.opens, q.closes).highest[0], ""),
    "weeks_below": (
        lambda course, q: q.closes - q.opens - METRICS["days_above"](course, q), "day"
    ),
    "half_life": (lambda course, q: _half_life(course, q), "day"),
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a check gave: the number obtained, in the unit of the check, and its verdict."""

    check: Check
    obtained: float

    @property
    def passed(self) -> bool:
        """Return whether the number lies within the bounds."""
        return bool(self.check.low <= self.obtained <= self.check.high)

    @property
    def verdict(self) -> str:
        """Return ``passes`` or ``FAILS``; for a check that is not gated, ``note``."""
        if not self.check.gate:
            return "note"
        return "passes" if self.passed else "FAILS"


def check_model(model: Model | str, *, progress=None) -> pd.DataFrame:
    """Run every check of a model file.

    Parameters
    ----------
    model : Model or str
        The model, its name, or the path of a model file.
    progress : callable(done, total), optional
        Called after each check.

    Returns
    -------
    pandas.DataFrame
        A row a check: model, id, verdict, metric, statistic, obtained, expected, low, high, unit,
        source. ``attrs["status"]`` is the status the checks support.

    Raises
    ------
    ValueError
        If a check names a metric, regimen or covariate that does not exist.
    """
    import pandas as pd

    model = load_model(model)
    outcomes = []
    for i, check in enumerate(model.checks):
        outcomes.append(run_check(model, check))
        if progress:
            progress(i + 1, len(model.checks))
    rows = [
        {
            "model": model.name,
            "id": outcome.check.id,
            "verdict": outcome.verdict,
            "metric": outcome.check.metric,
            "statistic": outcome.check.statistic,
            "obtained": outcome.obtained,
            "expected": outcome.check.expected,
            "low": outcome.check.low,
            "high": outcome.check.high,
            "unit": outcome.check.unit,
            "source": outcome.check.source,
        }
        for outcome in outcomes
    ]
    table = pd.DataFrame(rows)
    gated = [outcome for outcome in outcomes if outcome.check.gate]
    reproduced = bool(gated) and all(outcome.passed for outcome in gated)
    table.attrs = {
        "model": model.name,
        "claimed": model.status,
        "status": "reproduced" if reproduced else "transcribed",
    }
    return table


def check_library(*, progress=None) -> pd.DataFrame:
    """Run the checks of every model in the library."""
    import pandas as pd

    names = model_names()
    tables = []
    for i, name in enumerate(names):
        tables.append(check_model(name))
        if progress:
            progress(i + 1, len(names))
    return pd.concat(tables, ignore_index=True)


def run_check(model: Model, check: Check) -> Outcome:
    """Run one check."""
    if check.metric == "floor":
        # Full effect for ever: the count at which production balances the largest loss.
        values = model.typical()
        return Outcome(check, values["b0"] / (1.0 + values["emax"]))
    value = _value(model, check, check.covariates)
    if check.relative_to is not None:
        other = {**check.covariates, **check.relative_to}
        return Outcome(check, 100.0 * (value / _value(model, check, other) - 1.0))
    function_unit = ENDPOINTS[check.metric][1]
    if function_unit and dimension_of(function_unit) == dimension_of(check.unit):
        value = convert(value, function_unit, check.unit)
    return Outcome(check, value)


def _value(model, check, covariates):
    """Return the statistic of the metric over the subjects of the check."""
    if check.metric not in ENDPOINTS:
        raise ValueError(
            f"{model.path}, check {check.id}: {unknown('metric', check.metric, ENDPOINTS)}"
        )
    model.require_output(check.endpoint)
    if check.statistic == "typical":
        people = typical_subject(model, covariates)
    else:
        people = sample_population(
            model, check.population["n"], seed=check.population["seed"],
            covariates=covariates or "reference",
        )  # fmt: skip
    opens, closes = [days(t) for t in check.window] if check.window else (0.0, days("2 y"))
    regimen = replace(load_regimen(check.regimen), drug=model.drug.name)
    solution = solve_regimen(regimen, people, np.empty(0), until=closes, dense=(check.endpoint,))
    given = np.array([event.time for event in regimen.doses(closes)])
    question = Question(check.threshold or np.nan, np.nan, opens, closes, given)
    values = ENDPOINTS[check.metric][0](Trajectories.of(solution.dense, check.endpoint), question)
    if check.statistic == "geometric_mean":
        return float(np.exp(np.mean(np.log(values))))
    return float(np.median(values))


def _half_life(course, question):
    """Return ln 2 over the log-slope between the ends of the window [day]."""
    ends = [course.within(t, t + 1e-3).highest[0] for t in (
        question.opens, question.closes - 1e-3)]  # fmt: skip
    return np.log(2.0) * (question.closes - question.opens) / np.log(ends[0] / ends[1])
