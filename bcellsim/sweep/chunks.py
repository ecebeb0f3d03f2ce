"""A chunk of a sweep: a pure function of the design and the numbers of its scenarios."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logit

from bcellsim.adaptive import follow
from bcellsim.covariates import add_body_surface
from bcellsim.engine import STATUS
from bcellsim.engine.compiled import available_threads
from bcellsim.explore.outcomes import outcomes
from bcellsim.metrics import METRICS
from bcellsim.model import Model
from bcellsim.population import Population
from bcellsim.rule import DosingRule
from bcellsim.simulate import solve_regimen
from bcellsim.structures import OUTPUTS
from bcellsim.sweep.design import Design, typical_value
from bcellsim.sweep.own import OwnSchedules

if TYPE_CHECKING:
    import pyarrow as pa

#: Of a scenario that was solved.
SOLVED = "ok"
#: Groups a thread from which on they run beside each other; of fewer, each uses all threads.
_MANY = 4
_DOSING = {"n_doses": "", "cumulative_dose": "mg", "n_visits": ""}


@dataclass(frozen=True)
class _Group:
    """Scenarios of one model, and of one schedule and window as far as these are not sampled."""

    model: Model
    settings: dict
    window: dict
    rows: np.ndarray


@dataclass(frozen=True, eq=False)
class _Room:
    """Room for the results of a chunk, filled in group by group."""

    values: dict[str, np.ndarray]
    dosing: dict[str, np.ndarray]
    status: np.ndarray
    courses: dict[str, np.ndarray]

    @classmethod
    def of(cls, design: Design, n: int) -> _Room:
        shape = n, len(design.levels)
        outputs = design.outputs if len(design.times) else ()
        return cls(
            {name: np.full(shape, np.nan) for name in design.metrics},
            {name: np.full(n, np.nan) for name in _DOSING},
            np.full(n, SOLVED, dtype=object),
            {name: np.full((n, len(design.times)), np.nan) for name in outputs},
        )


def solve_chunk(
    design: Design, numbers: range, *, threads: int | None = None
) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """Solve scenarios: a row for each and each threshold, and their trajectories.

    Parameters
    ----------
    design : Design
        The design.
    numbers : range
        Numbers of the scenarios.
    threads : int, optional
        As for `bcellsim.engine.solve`.

    Returns
    -------
    table : pyarrow.Table
        Numbers, factors, levels, metrics and status.
    courses : dict of str to float array (n_scenarios, n_times)
        Each output at the times of the design, if it wants trajectories.
    """
    scenario = np.arange(numbers.start, numbers.stop)
    point, subject = np.divmod(scenario, design.n_subjects)
    found = design.points(int(point[0]), int(point[-1]) + 1)
    factors = {name: values[point - point[0]] for name, values in found.items()}
    room, subjects = _Room.of(design, len(scenario)), subject
    _solve_all(design, list(_groups(design, point, factors)), subject, factors, room, threads)
    people = design.spec["population"]["patients"]
    if people:
        subjects = design.people(design.models[0], subject).subjects
    return _table(design, scenario, point, subjects, factors, room), room.courses


def _groups(design: Design, point, factors) -> Iterator[_Group]:
    """Yield the scenarios that share a model, a schedule and a window."""
    code = point // design.points_of_model
    shared = [f for f in design.factors if f.role in ("schedule", "window") and f.levels]
    for factor in shared:
        code = code * len(factor.levels) + factors[factor.name]
    order = np.argsort(code, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        first = rows[0]
        chosen = {
            role: {f.name: f.levels[factors[f.name][first]] for f in shared if f.role == role}
            for role in ("schedule", "window")
        }
        model = design.models[point[first] // design.points_of_model]
        yield _Group(model, chosen["schedule"], chosen["window"], rows)


def _solve_all(design, groups, subject, factors, room, threads):
    """Fill in the results of all groups: of many, as many at once as there are threads."""
    threads = threads or available_threads()
    if threads == 1 or len(groups) < _MANY * threads:
        for group in groups:
            _solve(design, group, subject, factors, room, threads)
        return
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(_solve, design, group, subject, factors, room, 1)
                   for group in groups]  # fmt: skip
        try:
            for future in running:
                future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _solve(design, group, subject, factors, room, threads):
    """Fill in the results of a group; what cannot be solved says why in its status."""
    rows = group.rows
    try:
        span = design.span(group.window)
        if design.sampled:
            plan = OwnSchedules.of(design, group.settings, span, factors, rows)
        else:
            plan = design.plan(group.settings)
            span.check(plan)
    except ValueError as error:
        room.status[rows] = str(error)
        return
    if design.sampled:
        for row, sentence in plan.refused():
            room.status[row] = sentence
        plan = plan.accepted()
        rows = plan.rows
    if not len(rows):
        return
    people = design.people(group.model, subject[rows])
    people = _changed(design, people, {name: v[rows] for name, v in factors.items()})
    _attempt(design, plan, people, span, rows, room, threads)


def _attempt(design, plan, people, span, rows, room, threads):
    """Fill in the results of scenarios; halve them until those that cannot be solved are alone."""
    try:
        _fill(design, plan, people, span, rows, room, threads)
    except (ValueError, RuntimeError) as error:
        if len(rows) == 1:
            room.status[rows] = str(error)
            return
        middle = len(rows) // 2
        for half in (slice(None, middle), slice(middle, None)):
            some = plan.part(half) if design.sampled else plan
            _attempt(design, some, people.part(half), span, rows[half], room, threads)


def _fill(design, plan, people, span, rows, room, threads):
    options = {"names": design.metrics, "on_failure": "mark", "threads": threads}
    recovery = design.spec["recovery"]
    if design.sampled:
        found = plan.outcomes(people, design.levels, recovery, **options)
    else:
        seed = design.spec["seed"]
        found = outcomes(plan, people, design.levels, recovery, span, seed=seed, **options)
    courses = _courses(design, plan, people, span, threads) if room.courses else None
    for k, outcome in enumerate(found):
        for name, values in outcome.values.items():
            room.values[name][rows, k] = values
    for name, values in found[0].dosing.items():
        room.dosing[name][rows] = values
    for i in np.flatnonzero(found[0].status):
        room.status[rows[i]] = STATUS[int(found[0].status[i])]
    if courses is not None:
        for j, name in enumerate(design.outputs):
            room.courses[name][rows] = courses[:, :, j]


def _courses(design, plan, people, span, threads):
    """Return outputs at the times of the design (n, n_times, n_outputs)."""
    options = {
        "until": span.until, "outputs": tuple(design.outputs), "on_failure": "mark",
        "threads": threads, "backend": "compiled",
    }  # fmt: skip
    if design.sampled:
        return plan.solve(people, design.times, **options).values
    if isinstance(plan, DosingRule):
        seed = design.spec["seed"]
        followed = follow(plan, people, until=span.until, seed=seed, threads=threads)
        return followed.solve(design.times, **options).values
    return solve_regimen(plan, people, design.times, **options).values


def _changed(design: Design, people: Population, factors) -> Population:
    """Return the subjects with the covariates and parameters of their scenarios."""
    own = [factor for factor in design.factors if factor.role in ("parameter", "covariate")]
    if not own:
        return people
    model, covariates = people.model, dict(people.covariates)
    deviations = {n: people.eta[:, j] for j, n in enumerate(model.random_effects.names)}
    for j, name in enumerate(model.occasion_effects.names if people.kappa is not None else ()):
        deviations[name] = deviations.get(name, 0.0) + people.kappa[:, 0, j]
    for factor in own:
        values = factor.values(factors[factor.name])
        if factor.role == "covariate":
            covariates[factor.name] = np.asarray(values, dtype=np.float64)
        else:
            shift = _deviation(model, factor, values)
            deviations[factor.name] = deviations.get(factor.name, 0.0) + shift
    given = design.spec["population"]["covariates"]
    names = {factor.name for factor in own}
    add_body_surface(covariates, {*(given if isinstance(given, dict) else ()), *names})
    parameters = model.deviated(covariates, deviations, len(people))
    return replace(people, covariates=covariates, parameters=parameters)


def _deviation(model, factor, values):
    """Return the deviation that turns the typical value of a parameter into another."""
    typical = typical_value(model, factor.name)
    target = values * typical if factor.how == "multiply" else values
    if model.is_logit(factor.name):
        return logit(target) - logit(typical)
    return np.log(values) if factor.how == "multiply" else np.log(values / typical)


def _table(design: Design, scenario, point, subjects, factors, room) -> pa.Table:
    """Return the rows: those of a scenario, one a threshold, follow each other."""
    import pyarrow as pa

    n_levels = len(design.levels)
    names, columns, fields = [], [], []

    def add(name, values, about=None):
        # Not a number becomes null, which other tools leave out of a mean.
        values = values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)
        names.append(name)
        columns.append(values)
        fields.append(pa.field(name, values.type, metadata=about))

    def add_each(name, values, about=None):
        add(name, np.repeat(values, n_levels), about)

    add_each("scenario", scenario)
    add_each("point", point)
    add_each("subject", subjects)
    if len(design.models) > 1:
        titles = [model.name for model in design.models]
        add("model", _texts(titles, np.repeat(point // design.points_of_model, n_levels)))
    for factor in design.factors:
        found, about = np.repeat(factors[factor.name], n_levels), {"unit": factor.unit}
        if factor.levels and any(isinstance(level, str) for level in factor.levels):
            add(factor.name, _texts([str(level) for level in factor.levels], found), about)
        else:
            add(factor.name, np.asarray(factor.values(found), dtype=np.float64), about)
    count, levels = {"unit": OUTPUTS["bcell"].unit}, np.array(design.levels)
    recovery = design.spec["recovery"]
    add("threshold", np.tile(levels, len(scenario)), count)
    add("recovery", np.tile(levels if recovery is None else recovery + 0 * levels, len(scenario)),
        count)  # fmt: skip
    for name, values in room.values.items():
        add(name, values.reshape(-1), {"unit": METRICS[name].unit})
    for name, values in room.dosing.items():
        add_each(name, values, {"unit": _DOSING[name]})
    sentences, which = np.unique(room.status.astype(str), return_inverse=True)
    add("status", _texts(sentences.tolist(), np.repeat(which, n_levels)))
    return pa.table(columns, schema=pa.schema(fields))


def _texts(texts, which):
    import pyarrow as pa

    return pa.array(texts, pa.string()).take(pa.array(which))
