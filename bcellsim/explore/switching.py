"""Switching drugs: the count, and what is left of the first drug, go over into a second model.

The two models were built apart, in other patients. At the switch every pool of B cells of the
second model is set to the fraction of baseline that the same pool has in the first (a pool that the
first model lacks, to that of the blood). What is left of the first drug either runs on: its own
model gives its concentration and so the rate at which it kills, kout1 emax1 f(C1), relative to that
model's kout; this is added to the loss in the second model, loss = kout2 (1 + E1(t) + E2), as of
two drugs that kill independently. Or it is dropped, which is a bound: nothing of it acts any more.

Not modelled: competition of the two antibodies for CD20, and with it a lower effect of each while
both are there; loss of CD20 by the first (the second model begins with its target at baseline);
exhaustion of effector cells; antibodies against either; another baseline of the count in the other
model, in which the count goes on at the same fraction of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.draws import check_seed
from bcellsim.engine import Events
from bcellsim.engine import events as ev
from bcellsim.explore.compare import read_runs
from bcellsim.explore.outcomes import one_level
from bcellsim.explore.summary import differences, summarise
from bcellsim.metrics import METRICS, Question, measure, tallies
from bcellsim.model import Model
from bcellsim.population import Population
from bcellsim.regimen import Regimen
from bcellsim.schedule import compile_events
from bcellsim.simulate import provenance, solve_events
from bcellsim.structures import STATES
from bcellsim.units import days

if TYPE_CHECKING:
    import pandas as pd

_NO_TIMES = np.empty(0)
#: The effect of the first drug is held for so long [day], and left out once below this.
HELD, NEGLIGIBLE = 1.0, 1e-3
#: What concentration drives the effect, by the outputs a structure has.
_DRIVERS = ("conc_free", "conc", "amount")


def switch(
    models: Sequence[Model | str],
    regimens: Sequence[Regimen | str],
    population: Population | int,
    *,
    at: float | str,
    below: float | str,
    until: float | str,
    recovery: float | str | None = None,
    induction: float | str = 0.0,
    seed: int | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """Switch from one drug to another, with what is left of the first running on or dropped.

    Parameters
    ----------
    models : sequence of two of Model or str
        Model of the first and of the second drug.
    regimens : sequence of two of Regimen or str
        Schedule of the first drug, of which doses before the switch are given, and of the second,
        whose day 0 is the switch.
    population : int, DataFrame, or mapping of model name to Population
        The subjects, as for `explore` of several models.
    at : float or str
        Day of the switch.
    below : float or str
        Threshold of the count [cells/uL].
    until : float or str
        Horizon [day].
    recovery : float or str, optional
        Level of the time to repletion [cells/uL]; the threshold by default.
    induction : float or str
        The window opens this long after the switch [day].
    seed, threads
        As for `explore`.

    Returns
    -------
    pandas.DataFrame
        Three rows, with the summaries of `explore` over the window, and the difference of each from
        the first: ``first_drug`` is ``runs on``, ``dropped``, or ``alone`` (no second drug is
        given; in the first model). Of ``alone``, times that count from a dose count from the
        switch.

    Raises
    ------
    ValueError
        If the switch is not within the horizon and after the first dose, or the first model has no
        effect that could run on.
    """
    first, second = _two_runs(models, regimens, population, check_seed(seed))
    when, end = days(at, "at"), days(until, "until")
    opens, level = when + days(induction, "induction"), one_level(below, "below")
    if first.plan.first_dose is None or not first.plan.first_dose < when < end or opens >= end:
        raise ValueError(
            f"at = {when:g} d: a switch after the first dose of {first.plan.name} and, with its "
            f"induction, before until = {end:g} d is wanted"
        )
    given = np.array([event.time + when for event in second.plan.doses(end - when)])
    recovered = level if recovery is None else one_level(recovery, "recovery")
    question = Question(level, recovered, opens, end, given)
    alone, states, residual = _first_phase(first, question, when, end, threads)
    found = {
        "runs on": _second_phase(second, question, when, states, residual, threads),
        "dropped": _second_phase(second, question, when, states, None, threads),
        "alone": alone,
    }
    leading = {
        "regimen": f"{first.plan.name} until {when:g} d, then {second.plan.name}",
        "model": f"{first.model.name}; {second.model.name}", "n_subjects": len(first.people),
        "threshold": level, "recovery": recovered, "switched_at": when,
    }  # fmt: skip
    return _table(leading, found, len(given), (first, second), end)


def _two_runs(models, regimens, population, seed):
    """Return the runs of both drugs, on subjects of the same seed."""
    if len(models) != 2 or len(regimens) != 2:
        raise ValueError("switch: two models and two regimens are wanted, first and second drug")
    runs = [
        read_runs(model, regimen, population, seed)[0]
        for model, regimen in zip(models, regimens, strict=True)
    ]
    sizes = [len(run.people) for run in runs]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"the same number of subjects is wanted for both models, not {sizes[0]} and {sizes[1]}"
        )
    for run in runs:
        run.people.require_one_occasion("a switch")
        if not isinstance(run.plan, Regimen):
            raise ValueError(f"{run.plan.name} is a rule: a switch takes fixed schedules")
    return runs


def _table(leading, found, n_doses, runs, until):
    import pandas as pd

    rows = [
        {
            **leading, "first_drug": how, **summarise(values),
            "n_doses": 0 if how == "alone" else n_doses, **differences(values, found["runs on"]),
        }
        for how, values in found.items()
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    first, second = (provenance(run.model, run.people) for run in runs)
    both = {key: f"{value}; {second.get(key)}" for key, value in first.items()}
    table.attrs = {**both, "seed": first.get("seed"), "until": until}
    return table


def _first_phase(run, question, at, until, threads):
    """Return the metrics without a second drug, the B cells at the switch, and what is left.

    B cells are fractions of baseline by the name of the pool; what is left is the effect over
    the time after the switch (n_subjects, n_times), relative to the loss without drug.
    """
    structure, people = run.model.structure, run.people
    question, outputs = replace(question, doses=np.array([at])), {"bcell"}
    given = replace(run.plan, events=tuple(run.plan.expand(at)))
    plain = compile_events(run.model, given, people, until)
    begin = min(run.plan.first_dose, at)
    n = len(people)
    kept = [(begin, ev.SAVE, 0), (at, ev.SAVE, 1)]
    events = _of_each(plain, n, [(np.full(n, t), kind, k, np.zeros(n)) for t, kind, k in kept])
    held = np.arange(at + 0.5 * HELD, until, HELD)
    driver = next(name for name in _DRIVERS if name in structure.outputs)
    asked = tuple(tallies(question, outputs))
    solution = solve_events(
        people, events, held, until=until, outputs=(driver,), tallies=asked, threads=threads,
        backend="compiled",
    )  # fmt: skip
    values = measure(solution.tally, question, outputs, n)
    pools = [i for i, name in enumerate(structure.states) if STATES[name].unit == "cells/uL"]
    fractions = {
        structure.states[i]: solution.saved[:, 1, i] / solution.saved[:, 0, i] for i in pools
    }
    return values, fractions, _effect(run, solution.values[..., 0])


def _effect(run, conc):
    """Return the stimulation of the loss, emax C^hill / (ec50^hill + C^hill), over time."""
    names = run.model.structure.parameters
    half = "ec50" if "ec50" in names else "a50"
    if not {"emax", half, "hill", "kout"} <= set(names):
        raise ValueError(
            f"model {run.model.name}: it is not known how its drug would act on in another model "
            "(it has no kout, emax and ec50)"
        )
    emax, middle, hill = (
        run.people.parameters[:, names.index(name), None] for name in ("emax", half, "hill")
    )
    with np.errstate(divide="ignore", over="ignore"):
        return emax / (1.0 + (middle / np.maximum(conc, 0.0)) ** hill)


def _second_phase(run, question, at, fractions, effect, threads):
    """Return the metrics of the second model from the switch on."""
    structure, n = run.model.structure, len(run.people)
    plan = run.plan.shift(at)
    plain = compile_events(run.model, plan, run.people, question.closes)
    rows = []
    for i, name in enumerate(structure.states):
        if STATES[name].unit == "cells/uL":
            fraction = fractions.get(name, fractions["bcell"])
            rows.append((np.full(n, at), ev.MULTIPLY, i, fraction))
    if effect is not None:
        rows += _held(structure, at, effect)
    events = _of_each(plain, n, rows)
    outputs = {metric.output for metric in METRICS.values()} & set(structure.outputs)
    asked = tuple(tallies(question, outputs))
    solution = solve_events(
        run.people, events, _NO_TIMES, until=question.closes, outputs=(), tallies=asked,
        threads=threads, backend="compiled",
    )  # fmt: skip
    return measure(solution.tally, question, {"bcell"}, n)


def _held(structure, at, effect):
    """Return the changes of parameters by which the first drug's effect is added to the loss.

    kout (1 + E1) (b0 / (1 + E1) - (1 + E2 / (1 + E1)) B) = kout (b0 - (1 + E1 + E2) B)
    """
    rows, n = [], len(effect)
    index = {name: structure.parameters.index(name) for name in ("kout", "b0", "emax")}
    acts = np.flatnonzero((effect > NEGLIGIBLE).any(axis=0))
    for j in range(acts[-1] + 2 if len(acts) else 0):
        inside = j < effect.shape[1]
        more = 1.0 + effect[:, j] if inside and j <= acts[-1] else np.ones(n)
        time = np.full(n, at + HELD * j)
        rows.append((time, ev.FACTOR, index["kout"], more))
        rows += [(time, ev.FACTOR, index[name], 1.0 / more) for name in ("b0", "emax")]
    return rows


def _of_each(plain: Events, n: int, rows) -> Events:
    """Return schedules of each subject: rows of all, then those of the events given."""
    counts = np.diff(plain.start)[plain.schedule]
    subject = np.repeat(np.arange(n), counts)
    offset = np.arange(len(subject)) - np.repeat(np.cumsum(counts) - counts, counts)
    at = plain.start[plain.schedule][subject] + offset
    own = [
        (np.arange(n), time, np.full(n, kind), np.full(n, index), value, np.full(n, -1))
        for time, kind, index, value in rows
    ]
    given = (
        subject, plain.time[at], plain.kind[at], plain.index[at], plain.value[at], plain.scale[at],
    )  # fmt: skip
    columns = [np.concatenate(parts) for parts in zip(*own, given, strict=True)]
    return Events.of_subjects(n, columns[0], tuple(columns[1:]), plain.clock[plain.schedule])
