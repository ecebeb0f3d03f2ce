"""Compare a model with the published results in its file; a check that fails is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.engine import Tally
from bcellsim.formula import Formula
from bcellsim.library import load_model, load_regimen, model_names
from bcellsim.metrics import METRICS, Question
from bcellsim.model import Check, Model
from bcellsim.names import unknown
from bcellsim.population import individual_subject, sample_population
from bcellsim.simulate import solve_regimen
from bcellsim.soundness import findings
from bcellsim.structures import OUTPUTS, PARAMETERS
from bcellsim.units import convert, days, internal

if TYPE_CHECKING:
    import pandas as pd

#: Metrics of a check, by name: what to ask the engine for, as in `METRICS`, and the unit.
CHECK_METRICS: dict[str, tuple[Callable, str]] = {
    "time_to_depletion": (METRICS["time_to_depletion"].ask, "day"),
    "nadir": (METRICS["nadir"].ask, "cells/uL"),
    "days_above": (METRICS["days_above"].ask, "day"),
    "auc_window": (
        lambda q: (Tally("integral", "conc", q.opens, q.closes), lambda found: found[:, 0]),
        "mg/L*day",
    ),
    "maximum": (
        lambda q: (Tally("highest", "conc", q.opens, q.closes), lambda found: found[:, 0]),
        "",
    ),
    "time_below": (lambda q: _time_below(q), "day"),
    "half_life": (None, "day"),
    "value_at_end": (None, ""),
}


_COLUMNS = (
    "model", "section", "id", "verdict", "metric", "statistic", "obtained", "expected", "low",
    "high", "unit", "source", "note", "claimed", "supported",
)  # fmt: skip

#: The section of the checks that are in the model file; the others are those of `soundness`.
PUBLISHED = "published results"


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
    """Look at a model, and run every check of its file.

    Parameters
    ----------
    model : Model or str
        The model, its name, or the path of a model file.
    progress : callable(done, total), optional
        Called after each check.

    Returns
    -------
    pandas.DataFrame
        A row a check: model, section, id, verdict, metric, statistic, obtained, expected, low,
        high, unit, source, note, and the status that the file claims and that its checks support
        (also in ``attrs``). The first sections (file, equations, variability, covariates,
        baseline, exposure) hold for any model; the last, the published results, is that of the
        ``[[checks]]`` in the file.

    Raises
    ------
    ValueError
        If a check names a metric, regimen or covariate that does not exist.
    """
    import pandas as pd

    model = load_model(model)
    sound = findings(model)
    outcomes = []
    for i, check in enumerate(model.checks):
        outcomes.append(run_check(model, check))
        if progress:
            progress(i + 1, len(model.checks))
    gated = [outcome for outcome in outcomes if outcome.check.gate]
    reproduced = bool(gated) and all(outcome.passed for outcome in gated)
    about = {
        "model": model.name,
        "claimed": model.status,
        "supported": "reproduced" if reproduced else "transcribed",
    }
    rows = [*map(_sound_row, sound), *map(_row, outcomes)]
    table = pd.DataFrame([{**row, **about} for row in rows], columns=_COLUMNS)
    table.attrs = about
    return table


def _sound_row(found):
    return {**vars(found), "verdict": found.verdict}


def _row(outcome):
    check = outcome.check
    about = {"section": PUBLISHED, "verdict": outcome.verdict, "obtained": outcome.obtained}
    return {**{n: getattr(check, n) for n in _COLUMNS if hasattr(check, n)}, **about}


def check_library(*, progress=None) -> pd.DataFrame:
    """Look at every model in the library, and run the checks of its file."""
    import pandas as pd

    names = model_names()
    tables = []
    for i, name in enumerate(names):
        tables.append(check_model(name))
        if progress:
            progress(i + 1, len(names))
    return pd.concat(tables, ignore_index=True)


def run_check(model: Model, check: Check) -> Outcome:
    """Run one check; raise ValueError naming the file and the check if it cannot be run."""
    try:
        return Outcome(check, _obtained(model, check))
    except ValueError as error:
        raise ValueError(f"{model.path}, check {check.id}: {error}") from None


def _obtained(model, check):
    """Return the number to compare, in the unit of the check."""
    if check.metric in ALGEBRAIC:
        value, unit = ALGEBRAIC[check.metric](model, check)
        return convert(value, unit, check.unit)
    if check.metric not in CHECK_METRICS:
        raise ValueError(unknown("metric", check.metric, [*CHECK_METRICS, *ALGEBRAIC]))
    value = _value(model, check, check.covariates)
    if check.relative_to is not None:
        other = {**check.covariates, **check.relative_to}
        return 100.0 * (value / _value(model, check, other) - 1.0)
    unit = CHECK_METRICS[check.metric][1] or OUTPUTS[check.endpoint].unit
    return convert(value, unit, check.unit)


def _parameters(model, check, names):
    """Return parameters of the check's typical subjects, each (n_subjects,)."""
    for name in names:
        if name not in model.structure.parameters or not model.gives(name):
            raise ValueError(
                f"metric {check.metric} needs parameter {name}, and the model has none"
            )
    people = _typical(model, check.covariates)
    columns = [model.structure.parameters.index(name) for name in names]
    return dict(zip(names, people.parameters[:, columns].T, strict=True))


def _floor(model, check):
    """Return the count at which production balances the largest loss: full effect for ever."""
    p = _parameters(model, check, ("b0", "emax"))
    return float(np.mean(p["b0"] / (1.0 + p["emax"]))), "cells/uL"


def _half_life_terminal(model, check):
    """Return the half-life of the slower phase of the linear two-compartment PK [day].

    Without what decays of the clearance, and without saturable elimination.
    """
    p = _parameters(model, check, ("cl", "vc", "q", "vp"))
    out, back = (p["cl"] + p["q"]) / p["vc"], p["q"] / p["vp"]
    product = p["cl"] / p["vc"] * back
    slow = 0.5 * (out + back - np.sqrt((out + back) ** 2 - 4.0 * product))
    return float(np.mean(np.log(2.0) / slow)), "day"


def _formula(model, check):
    """Return the value of the check's formula of the structure's parameters."""
    formula, unit = Formula(check.formula or "?"), internal(check.unit)
    values = _parameters(model, check, formula.names)
    formula.check_unit({name: PARAMETERS[name].unit for name in values}, unit)
    return float(np.mean(formula(values))), unit


#: Metrics that need no simulation: functions of the typical parameters.
ALGEBRAIC: dict[str, Callable[[Model, Check], tuple[float, str]]] = {
    "floor": _floor,
    "half_life_terminal": _half_life_terminal,
    "formula": _formula,
}


def _typical(model, covariates):
    """Return the typical subject, or one for each of the values listed for a covariate."""
    n = max((len(value) for value in covariates.values() if isinstance(value, tuple)), default=1)
    eta = np.zeros((n, len(model.random_effects.names)))
    return individual_subject(model, covariates, eta)


def _value(model, check, covariates):
    """Return the statistic of the metric over the subjects of the check."""
    model.require_output(check.endpoint)
    if check.statistic == "typical":
        people = _typical(model, covariates)
    elif not check.population:
        raise ValueError(f"statistic {check.statistic} needs population = {{ n, seed }}")
    else:
        people = sample_population(
            model, check.population["n"], seed=check.population["seed"],
            covariates=covariates or "reference",
        )  # fmt: skip
    opens, closes = [days(t) for t in check.window] if check.window else (0.0, days("2 y"))
    regimen = load_regimen(check.regimen)
    given = np.array([event.time for event in regimen.doses(closes)])
    threshold = np.nan if check.threshold is None else check.threshold
    question = Question(threshold, np.nan, opens, closes, given)
    values = _measured(check, regimen, people, question)
    if check.statistic == "geometric_mean":
        return float(np.exp(np.mean(np.log(values))))
    return float(np.mean(values) if check.statistic == "typical" else np.median(values))


def _measured(check, regimen, people, question):
    """Return the metric of the check for each subject."""
    ask = CHECK_METRICS[check.metric][0]
    if ask is None:
        return _at_ends(check, regimen, people, question)
    asked, value = ask(question)
    asked = replace(asked, output=check.endpoint)
    solution = solve_regimen(regimen, people, np.empty(0), until=question.closes, tallies=(asked,))
    return value(solution.tally(asked))


def _at_ends(check, regimen, people, question):
    """Return the value at the end of the window, or ln 2 over the log-slope across it [day]."""
    ends = np.array([question.opens, question.closes])
    solution = solve_regimen(
        regimen, people, ends, until=question.closes, outputs=(check.endpoint,)
    )
    start, end = solution.values[..., 0].T
    if check.metric == "value_at_end":
        return end
    return np.log(2.0) * (question.closes - question.opens) / np.log(start / end)


def _time_below(question):
    asked, above = METRICS["days_above"].ask(question)
    return asked, lambda found: question.closes - question.opens - above(found)
