"""Compare dosing schedules on the same subjects: which keeps counts suppressed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bcellsim.draws import check_seed
from bcellsim.explore.groups import groups, read_by, values_of
from bcellsim.explore.outcomes import (
    Outcome,
    Span,
    one_level,
    outcomes,
    thresholds,
    warn_if_suppressed,
)
from bcellsim.explore.summary import differences, summarise
from bcellsim.library import load_model, load_regimen
from bcellsim.model import Model
from bcellsim.names import unknown
from bcellsim.population import Population
from bcellsim.regimen import Regimen
from bcellsim.rule import DosingRule
from bcellsim.simulate import as_population, counting, provenance

if TYPE_CHECKING:
    import pandas as pd

Plan = Regimen | DosingRule

#: The keys with which every row of a comparison begins.
_LEADING = ("regimen", "dose", "interval", "n_subjects", "threshold", "recovery", "induction")


def explore(
    model: Model | str | Sequence[Model | str] | None,
    regimens: Plan | str | Sequence[Plan | str] | Mapping[Plan | str, Model | str],
    population: Population | int | pd.DataFrame | Mapping,
    *,
    below: float | str | Sequence[float],
    until: float | str,
    induction: float | str = 28.0,
    recovery: float | str | None = None,
    follow_up: float | str = 0.0,
    reference: Plan | str | None = None,
    by: str | Sequence[str] | Mapping[str, Sequence[float]] = (),
    seed: int | None = None,
    per_subject: bool = False,
    threads: int | None = None,
    progress=None,
) -> pd.DataFrame:
    """Compare regimens on the same subjects: one row a regimen, summaries of every metric.

    Parameters
    ----------
    model : Model, str, or a sequence of them
        The model, or its name. Of several, each is run with the regimens of its drug (those that
        name no drug with every model) and the rows say which; subjects of the same number share
        covariates and seed.
    regimens : Regimen, DosingRule, str, a sequence of them, or a mapping
        The schedules; `grid` makes them from doses and intervals. A mapping gives the model of
        each, and `model` is then None.
    population : Population, int, DataFrame, or mapping of model name to one of these
        The subjects, how many to sample, or a table of their covariates; posterior draws of one
        patient are a population too, whose shares are probabilities.
    below : float, str, or a sequence of them
        Threshold of the count [cells/uL]; suppressed means at or below it. Several give a row each.
    until : float or str
        Horizon [day]; doses fall before it.
    induction : float or str
        The window opens this long after the first dose [day]; of a rule, after the first day that
        it plans.
    recovery : float or str, optional
        Level of the time to repletion [cells/uL]; the threshold by default.
    follow_up : float or str
        Time simulated after `until` without doses, for the time to repletion only [day].
    reference : Regimen, DosingRule or str, optional
        One of the regimens; rows then have the paired difference of each metric from it, with a
        95 % interval of its Monte-Carlo error.
    by : str, sequence of str, or mapping of str to cuts
        Covariates or parameters (``"WT"``, ``"b0"``) by whose quartiles, or given cuts, subjects
        are grouped: a row for all, and one for each group.
    seed : int, optional
        Seed of the subjects when `population` is a number or a table, and of what a rule leaves to
        chance (by default that of the subjects).
    per_subject : bool
        Return a row a subject instead of summaries, with the day on which each time to an event is
        censored.

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

    Warns
    -----
    UserWarning
        If a threshold is not below the baseline count of many subjects.
    """
    runs = read_runs(model, regimens, population, seed)
    levels = thresholds(below)
    span = Span.of(until, induction, follow_up)
    recovery = None if recovery is None else one_level(recovery, "recovery")
    by = read_by(by)
    for run in runs:
        span.check(run.plan)
    for people in {id(run.people): run.people for run in runs}.values():
        warn_if_suppressed(people, levels)
    work = _Work(runs, levels, recovery, span, threads, progress)
    row = _subject_rows if per_subject else _summary_rows
    compared = _references(work, reference)
    rows = [
        made
        for i in range(len(runs))
        for k, outcome in enumerate(work.outcomes(i))
        for made in row(outcome, span, by, compared.get(runs[i].model.name, compared.get(""))[k])
    ]
    return _table(rows, work, by)


class Run(NamedTuple):
    """A schedule to run: its model, the schedule, the subjects, and the seed of what is random."""

    model: Model
    plan: Plan
    people: Population
    seed: int


def read_runs(model, regimens, population, seed: int | None = None) -> list[Run]:
    """Return every schedule with its model and subjects.

    Raises
    ------
    ValueError
        If a schedule has no model, models have no common output, names are not distinct, or the
        numbers of subjects differ.
    """
    pairs = _pairs(model, regimens)
    models = {model.name: model for model, _ in pairs}
    _check_outputs(list(models.values()))
    several = len(models) > 1
    if several and seed is None and not isinstance(population, Mapping):
        seed = check_seed(None)  # one for all
    people = {
        name: as_population(one, _own(population, name), seed=seed) for name, one in models.items()
    }
    sizes = {name: len(subjects) for name, subjects in people.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{n} of {name}" for name, n in sizes.items())
        raise ValueError(f"the same number of subjects is wanted for every model, not {said}")
    _check_names(pairs)
    runs = []
    for one, plan in pairs:
        own = people[one.name]
        runs.append(Run(one, plan, own, check_seed(own.seed if seed is None else seed)))
    return runs


def _pairs(model, regimens):
    """Return (model, schedule) of every run."""
    if isinstance(regimens, Mapping):
        if model is not None:
            raise ValueError("regimens give a model each: give None for model")
        return [(load_model(one), as_plan(plan)) for plan, one in regimens.items()]
    plans = [as_plan(plan) for plan in _listed(regimens)]
    if not plans:
        raise ValueError("no regimen is given")
    if not model:
        raise ValueError("no model is given")
    if isinstance(model, (list, tuple)):
        models = [load_model(one) for one in model]
    else:
        model = load_model(model)
        return [(model, plan) for plan in plans]
    pairs = []
    for plan in plans:
        fit = [one for one in models if plan.drug in (None, one.drug.name)]
        if not fit:
            drugs = ", ".join(dict.fromkeys(one.drug.name for one in models))
            raise ValueError(f"regimen {plan.name} is for {plan.drug}; the models are for {drugs}")
        pairs += [(one, plan) for one in fit]
    return pairs


def as_plan(given: Plan | str) -> Plan:
    """Return a schedule given as such, by name or as a shorthand."""
    return given if isinstance(given, DosingRule) else load_regimen(given)


def _listed(given):
    return [given] if isinstance(given, (Regimen, DosingRule, str)) else given


def _own(population, name):
    if not isinstance(population, Mapping):
        return population
    if name not in population:
        raise ValueError(f"population: {unknown('model', name, population)}")
    return population[name]


def _check_outputs(models):
    """Raise ValueError unless every model gives the count: the one output schedules share."""
    without = [model for model in models if "bcell" not in model.structure.outputs]
    if without and len(models) > 1:
        said = "; ".join(f"{m.name}: {', '.join(m.structure.outputs)}" for m in models)
        raise ValueError(
            f"schedules are compared by the count (bcell), which is not a common output ({said}); "
            "give models that all have it"
        )
    for model in models:
        model.require_output("bcell")


def _check_names(pairs):
    names = [(model.name, plan.name) for model, plan in pairs]
    for model, name in names:
        if names.count((model, name)) > 1:
            raise ValueError(f'two regimens are named "{name}"; give them different labels')


class _Work:
    """The solving of all runs, with one count of what is done."""

    def __init__(self, runs, levels, recovery, span, threads, progress):
        self.runs, self.levels, self.recovery, self.span = runs, levels, recovery, span
        self.threads, self.progress, self.done, self.kept = threads, progress, 0, {}
        self.total = sum(len(run.people) for run in runs)

    def outcomes(self, i: int) -> list[Outcome]:
        """Return the outcomes of run i for each threshold."""
        if i in self.kept:
            return self.kept[i]
        run = self.runs[i]
        done = counting(self.progress, self.done, self.total)
        found = outcomes(
            run.plan, run.people, self.levels, self.recovery, self.span, seed=run.seed,
            threads=self.threads, progress=done,
        )  # fmt: skip
        self.done += len(run.people)
        return found


def _references(work, reference) -> dict[str, list[Outcome | None]]:
    """Return the outcomes of the reference, by the model whose rows are compared with it."""
    if reference is None:
        return {"": [None] * len(work.levels)}
    name = _reference_name(reference, [run.plan.name for run in work.runs])
    found = {}
    for i, run in enumerate(work.runs):
        if run.plan.name == name:
            work.kept[i] = found[run.model.name] = work.outcomes(i)
    if len(found) == 1:
        found[""] = next(iter(found.values()))
    missing = {run.model.name for run in work.runs} - set(found)
    if missing and "" not in found:
        raise ValueError(
            f"reference {name} is run with {', '.join(found)}: it is not clear with which one "
            f"{', '.join(sorted(missing))} is to be compared"
        )
    return found


def _reference_name(reference, names):
    """Return the name of the reference, given by name, as a shorthand or as a schedule."""
    name = reference if isinstance(reference, str) else reference.name
    if name not in names and isinstance(reference, str):
        with contextlib.suppress(ValueError):
            name = as_plan(reference).name
    if name not in names:
        raise ValueError(f"reference: {unknown('regimen', name, names)}")
    return name


def _leading(outcome, span):
    plan, question = outcome.plan, outcome.question
    return {
        "regimen": plan.name,
        "dose": plan.dose or "",
        "interval": plan.interval if plan.interval is not None else np.nan,
        "n_subjects": len(outcome.people),
        "threshold": question.threshold,
        "recovery": question.recovery,
        "induction": span.induction,
        "model": outcome.model.name,
        "drug": outcome.model.drug.name,
    }


def _summary_rows(outcome, span, by, reference) -> Iterator[dict]:
    """Yield the summary of all subjects, and of each group."""
    for group in groups(outcome.people, by):
        values = _chosen(outcome, group.members)
        row = {**_leading(outcome, span), **group.columns()}
        row |= summarise({name: values[name] for name in outcome.values})
        row |= _dosing(outcome, values)
        if reference is not None:
            same = outcome is reference
            row |= differences(values, values if same else _chosen(reference, group.members))
        yield row


def _chosen(outcome, members):
    both = {**outcome.values, **outcome.dosing}
    return both if members.all() else {name: value[members] for name, value in both.items()}


def _dosing(outcome, values):
    """Return doses, visits and amounts: with their spread where a rule decides."""
    if not isinstance(outcome.plan, DosingRule):
        row = {name: values[name][0].item() for name in outcome.dosing}
        return row | {"cumulative_dose": float(values["cumulative_dose"].mean())}
    row = summarise({name: np.asarray(values[name], dtype=float) for name in outcome.dosing})
    return {
        **{name: row.pop(f"{name}_mean") for name in outcome.dosing},
        **row,
    }


def _subject_rows(outcome, span, by, reference) -> Iterator[dict]:
    """Yield the columns of all subjects."""
    row = {**_leading(outcome, span), "subject": outcome.people.subjects, **outcome.values}
    for name, day in outcome.question.followed().items():
        row[f"{name}_censored_at"] = np.broadcast_to(day, len(outcome.people))
    row |= outcome.dosing
    row |= {name: values_of(outcome.people, name) for name in by}
    if reference is not None:
        for name, value in reference.values.items():
            with np.errstate(invalid="ignore"):
                row[f"{name}_difference"] = outcome.values[name] - value
    yield row


def _table(rows, work, by):
    import pandas as pd

    frames = [pd.DataFrame(row) for row in rows if np.ndim(row.get("subject", 0))]
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(rows)
    models = {run.model.name: run for run in work.runs}
    leading = [*_LEADING, *(["model", "drug"] if len(models) > 1 else [])]
    grouped = ["by", "group", "group_low", "group_high"]
    if by and "by" in table:
        leading += grouped
    hidden = {"model", "drug", *grouped} - set(leading)
    columns = [c for c in table.columns if c not in leading and c not in hidden]
    table = _filled(table[[*leading, *columns]])
    facts = [provenance(run.model, run.people) for run in models.values()]
    table.attrs = _joined(facts) | {"until": work.span.until}
    if any(isinstance(run.plan, DosingRule) for run in work.runs):
        table.attrs["seed"] = work.runs[0].seed
    return table


def _joined(facts):
    """Return what is true of every model as it is, and the rest one after the other."""
    if len(facts) == 1:
        return facts[0]
    names = dict.fromkeys(name for one in facts for name in one)
    return {
        name: "; ".join(dict.fromkeys(str(one[name]) for one in facts if name in one))
        for name in names
    }


def _filled(table):
    """Fill the spread of doses, which only rules have: those of a fixed schedule are the same."""
    for name in ("n_doses", "cumulative_dose", "n_visits"):
        for suffix, value in (("median", name), ("p5", name), ("p95", name), ("mc_se", None)):
            column = f"{name}_{suffix}"
            if column in table:
                table[column] = table[column].fillna(table[value] if value else 0.0)
    return table
