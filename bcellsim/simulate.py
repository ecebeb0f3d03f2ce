"""Simulate a model under regimens: from doses and subjects to counts and concentrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.arrival import arrival, changes_of, lags
from bcellsim.engine import STATUS, Events, Solution, solve
from bcellsim.engine import events as ev
from bcellsim.library import load_model, load_regimen
from bcellsim.model import Model
from bcellsim.names import unknown
from bcellsim.population import Population, sample_population, typical_subject
from bcellsim.regimen import Regimen
from bcellsim.structures import OUTPUTS
from bcellsim.units import days

if TYPE_CHECKING:
    import xarray as xr

_PER = {"mg/kg": "WT", "mg/m2": "BSA"}
_MOST_TIMES = 1_000_000


def simulate(
    model: Model | str,
    regimens: Regimen | str | Sequence[Regimen | str],
    population: Population | int | None = None,
    *,
    until: float | str | None = None,
    every: float | str = "1 d",
    times: Sequence[float] | None = None,
    seed: int | None = None,
    on_failure: str = "raise",
    backend: str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    threads: int | None = None,
    progress=None,
) -> xr.Dataset:
    """Simulate counts and concentrations.

    Parameters
    ----------
    model : Model or str
        The model, its name, or the path of a model file.
    regimens : Regimen, str, or a sequence of them
        Schedules; a sequence adds the dimension `regimen`. All are given to the same subjects.
    population : Population or int, optional
        Subjects, or how many to sample; by default the typical subject, without a dimension.
    until : float or str, optional
        End of the simulation [day], such as ``"2 y"``; doses at or after it are not given.
    every : float or str
        Spacing of the output times [day].
    times : sequence of float, optional
        Output times [day], ascending, instead of `every`.
    seed : int, optional
        Seed when `population` is a number.
    on_failure : str
        ``"raise"``, or ``"mark"``: NaN where a subject could not be solved, with its `status`.
    backend, rtol, atol, threads, progress
        As for `bcellsim.engine.solve`.

    Returns
    -------
    xarray.Dataset
        Outputs over (regimen, subject, time), those that apply; `dose_time` and `dose_amount` per
        regimen; `status` per subject. Attributes carry unit, long_name and provenance.

    Raises
    ------
    ValueError
        If a name, unit, dose, route or time is not valid for this model.
    RuntimeError
        If a subject could not be solved and `on_failure` is ``"raise"``.

    Examples
    --------
    >>> one = simulate("yu2022_ofatumumab", "ofatumumab_rms", until="8 w")
    >>> float(one.bcell.sel(time=56)) < 8
    True
    """
    if on_failure not in ("raise", "mark"):
        raise ValueError(unknown("on_failure", on_failure, ["raise", "mark"]))
    model = load_model(model)
    plans = as_regimens(regimens)
    people = as_population(model, population, seed=seed)
    times, until = output_times(until, every, times)
    solutions = []
    for i, plan in enumerate(plans):
        done = counting(progress, i * len(people), len(plans) * len(people))
        solutions.append(
            solve_regimen(
                plan, people, times, until=until, on_failure=on_failure, backend=backend,
                rtol=rtol, atol=atol, threads=threads, progress=done,
            )
        )  # fmt: skip
    result = _dataset(model, plans, people, times, until, solutions)
    used = {name: getattr(solutions[0], name) for name in ("backend", "rtol", "atol")}
    used["n_stiff"] = int(sum(solution.stiff.sum() for solution in solutions))
    result.attrs.update(provenance(model, people), **used)
    if isinstance(regimens, (Regimen, str)):
        result = result.squeeze("regimen", drop=True)
        result.attrs["regimen"] = plans[0].name
    return result if population is not None else result.squeeze("subject", drop=True)


def as_population(model, population, *, seed=None) -> Population:
    """Return the population given, one of the size given, or the typical subject."""
    if population is None:
        return typical_subject(model)
    if not isinstance(population, Population):
        return sample_population(model, population, seed=seed)
    if population.model.structure is not model.structure or population.model.name != model.name:
        raise ValueError(
            f"the population was sampled from model {population.model.name}, not {model.name}"
        )
    return population


def as_regimens(given: Regimen | str | Sequence[Regimen | str]) -> list[Regimen]:
    """Return regimens given as such, by name or as a shorthand; their names must differ."""
    given = [given] if isinstance(given, (Regimen, str)) else given
    plans = [load_regimen(regimen) for regimen in given]
    if not plans:
        raise ValueError("no regimen is given")
    names = [plan.name for plan in plans]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'two regimens are named "{name}"; give them different labels')
    return plans


def output_times(until, every, times) -> tuple[np.ndarray, float]:
    """Return output times and the end of the simulation [day]."""
    if times is not None:
        times = np.asarray(times, dtype=np.float64)
        if times.ndim != 1 or not len(times) or not np.all(np.isfinite(times)):
            raise ValueError("times: a list of finite numbers [day] is wanted")
        if np.any(np.diff(times) <= 0):
            j = int(np.argmax(np.diff(times) <= 0))
            raise ValueError(f"times out of order: {times[j]:g} d comes before {times[j + 1]:g} d")
        end = days(until, "until") if until is not None else float(times[-1])
        if times[-1] > end:
            raise ValueError(f"times: {times[-1]:g} d is later than until = {end:g} d")
        return times, end
    if until is None:
        raise ValueError('give until="2 y" (the end of the simulation), or times')
    until, step = days(until, "until"), days(every, "every")
    if until <= 0 or step <= 0:
        raise ValueError(f"until = {until:g} d and every = {step:g} d must be above 0")
    if until / step > _MOST_TIMES:
        raise ValueError(f"every = {step:g} d makes more than {_MOST_TIMES:,} output times")
    return np.minimum(np.arange(int(np.floor(until / step + 1e-9)) + 1) * step, until), until


def solve_regimen(
    regimen: Regimen,
    population: Population,
    times: np.ndarray,
    *,
    until: float,
    doses_until: float | None = None,
    on_failure: str = "raise",
    **options,
) -> Solution:
    """Solve one regimen for a population; `options` are those of `bcellsim.engine.solve`.

    Doses at or after `doses_until` (by default `until`) are not given.
    """
    model = population.model
    cut = until if doses_until is None else doses_until
    events = compile_events(model, regimen, population, cut, horizon=until)
    solution = solve(model.structure, population.parameters, events, times, until=until, **options)
    failed = np.flatnonzero(solution.status)
    if len(failed) and on_failure == "raise":
        i = failed[0]
        raise RuntimeError(
            f"{len(failed)} of {len(population)} subjects were not solved; subject "
            f"{population.subjects[i]}: {STATUS[int(solution.status[i])]}"
        )
    return solution


def compile_events(
    model: Model,
    regimen: Regimen,
    population: Population,
    until: float,
    *,
    horizon: float | None = None,
) -> Events:
    """Turn a regimen into the engine's events, per subject where body sizes or lags differ.

    Doses at or after `until` are not given; of those given, some may arrive after `horizon`, the
    end of the integration (by default `until`), and are left out.

    Raises
    ------
    ValueError
        If the drug, a route, a state or a parameter is not one of the model, or a covariate that a
        dose needs is missing.
    """
    if regimen.drug and regimen.drug != model.drug.name:
        raise ValueError(
            f"regimen {regimen.name} is for {regimen.drug}; model {model.name} is for "
            f"{model.drug.name}"
        )
    expanded = regimen.expand(until)
    for event in expanded:
        _check_event(model, event, population)
    doses = [event for event in expanded if event.kind == "dose"]
    own = {unit: population.covariates[_PER[unit]] for unit in {e.unit for e in doses} & set(_PER)}
    own |= lags(population, doses)
    own |= _factors_of_rates(model, expanded, population)
    subjects, schedule = [{}], np.zeros(len(population), dtype=np.int64)
    if own:
        columns = np.column_stack(list(own.values()))
        table, schedule = np.unique(columns, axis=0, return_inverse=True)
        subjects = [dict(zip(own, row, strict=True)) for row in table.tolist()]
    end = until if horizon is None else horizon
    events = Events.from_rows(
        [_rows(model, expanded, values, end) for values in subjects], schedule.reshape(-1)
    )
    # The model's clock counts from the first dose, also where that arrives with a lag.
    first = min((dose.time for dose in doses), default=np.inf)
    return replace(events, clock=np.full(len(subjects), first))


def _factors_of_rates(model, expanded, population):
    """Return the bioavailabilities that decide how long an infusion of a given rate lasts.

    Those of each subject's first occasion: a dose record decides, not what changes later.
    """
    structure = model.structure
    names = {
        structure.routes[event.route].bioavailability
        for event in expanded
        if event.kind == "dose" and event.fixed_rate and event.duration
    } - {None}
    for event in expanded:
        if event.kind == "modify" and event.target in names:
            raise ValueError(
                f"an infusion of a given rate lasts as long as {event.target} says, which {event} "
                "changes: give its duration"
            )
    n = len(structure.parameters)
    first = population.parameters.reshape(len(population), -1)[:, :n]
    return {name: first[:, structure.parameters.index(name)] for name in names}


def _check_event(model, event, population):
    structure = model.structure
    if event.kind == "multiply" and event.target not in structure.states:
        raise ValueError(f"model {model.name}: {unknown('state', event.target, structure.states)}")
    if event.kind == "modify" and event.target not in structure.parameters:
        raise ValueError(
            f"model {model.name}: {unknown('parameter', event.target, structure.parameters)}"
        )
    if event.kind == "steady":
        raise ValueError(
            f"{event}: a steady state is predicted from data only; write the doses out"
        )
    if event.kind != "dose":
        return
    if event.route not in model.routes():
        raise ValueError(
            f'model {model.name} cannot be dosed by route "{event.route}"; it can by '
            f"{', '.join(model.routes())}"
        )
    for covariate in model.covariates.values():
        if covariate.route == event.route and np.any(population.covariates[covariate.name] != 1):
            raise ValueError(
                f"model {model.name} has its own parameters for {event.route} dosing: give "
                f"covariate {covariate.name} = 1 to every subject dosed {event.route}"
            )
        if covariate.route not in (None, event.route) and np.any(
            population.covariates[covariate.name] == 1
        ):
            raise ValueError(
                f"model {model.name}: a subject with {covariate.name} = 1 is dosed "
                f"{covariate.route}, not {event.route}; its parameters do not cross routes"
            )
    size = _PER.get(event.unit)
    if size and size not in population.covariates:
        raise ValueError(
            f"a dose in {event.unit} needs covariate {size}, which the subjects do not have; give "
            f"it with the covariates of the population"
        )


def _rows(model, expanded, own, end):
    """Return the engine's rows (time, kind, index, value, scale) of expanded events."""
    structure = model.structure
    rows, infusions, changes = [], {}, changes_of(structure, expanded)
    for event in expanded:
        if event.kind == "dose":
            route = structure.routes[event.route]
            state = structure.states.index(route.state)
            scale = -1
            if route.bioavailability:
                scale = structure.parameters.index(route.bioavailability)
            time, factor = arrival(structure, event, own, changes)
            amount = factor * _amount(event, own)
            if event.duration:
                rate, length = amount / event.duration, event.duration
                share = own.get(route.bioavailability)
                if share is not None:
                    scale = -1
                    rate, length = (
                        (rate, length * share) if event.fixed_rate else (rate * share, length)
                    )
                span = (time, time + length, rate)
                infusions.setdefault((state, scale), []).append(span)
            elif time <= end:
                rows.append((time, ev.DOSE, state, amount, scale))
        elif event.kind == "multiply":
            state = structure.states.index(event.target)
            rows.append((event.time, ev.MULTIPLY, state, event.factor, -1))
        elif event.kind == "reset":
            # It ends the infusions given before it, and cancels what has not arrived.
            rows = [row for row in rows if row[0] <= event.time]
            rows.append((event.time, ev.RESET, 0, 0.0, -1))
            for key, spans in infusions.items():
                infusions[key] = [(a, min(b, event.time), rate) for a, b, rate in spans]
    for (state, scale), spans in infusions.items():
        rows += [(t, ev.RATE, state, sum(on), scale) for t, on in _active(spans)]
    for index, spans in changes.items():
        rows += [(t, ev.FACTOR, index, float(np.prod(on)), -1) for t, on in _active(spans)]
    return rows


def _amount(event, own):
    """Return the dose [mg], per body size and capped where the event says so."""
    amount = event.amount * own.get(event.unit, 1.0)
    return amount if event.cap is None else min(amount, event.cap)


def _active(spans):
    """Yield each time at which something begins or ends, and the values in force from then on."""
    spans = [span for span in spans if span[0] < span[1]]
    for time in sorted({t for start, end, _ in spans for t in (start, end)}):
        yield time, [value for start, end, value in spans if start <= time < end]


def counting(progress, offset: int, total: int):
    """Return a progress function for a part of a larger work, or None."""
    return (lambda done, _: progress(offset + done, total)) if progress else None


def provenance(model: Model, population: Population | None = None) -> dict:
    """Return what every result says about where it comes from."""
    try:
        installed = version("bcellsim")
    except PackageNotFoundError:
        installed = "not installed"
    facts = {
        "model": model.name,
        "title": model.title,
        "citation": model.citation,
        "doi": model.doi,
        "status": model.status + (" (experimental)" if model.experimental else ""),
        "bcellsim": installed,
    }
    if population is not None and population.seed is not None:
        facts["seed"] = population.seed
    return facts


def described(facts: Mapping) -> str:
    """Return model, citation and status of a result's provenance, as titles show them."""
    return f"{facts['model']} ({facts['citation'] or 'no publication'}, {facts['status']})"


def _dataset(model, plans, people, times, until, solutions):
    import xarray as xr

    names = [plan.name for plan in plans]
    doses = [plan.doses(until) for plan in plans]
    width = max(map(len, doses), default=0)
    table = np.full((2, len(plans), width), np.nan)
    for i, given in enumerate(doses):
        table[0, i, : len(given)] = [event.time for event in given]
        table[1, i, : len(given)] = [
            event.amount if event.unit == "mg" else np.nan for event in given
        ]
    dims = ("regimen", "subject", "time")
    data = {
        name: (
            dims,
            np.stack([solution.values[:, :, j] for solution in solutions]),
            {"unit": OUTPUTS[name].unit, "units": OUTPUTS[name].unit,
             "long_name": OUTPUTS[name].meaning},
        )
        for j, name in enumerate(model.structure.outputs)
    }  # fmt: skip
    about = {"unit": "day", "units": "day"}
    data["dose_time"] = (("regimen", "dose"), table[0], {**about, "long_name": "Time of dose"})
    data["dose_amount"] = (("regimen", "dose"), table[1], {"unit": "mg", "long_name": "Dose"})
    status = np.stack([solution.status for solution in solutions])
    meaning = "; ".join(f"{code}: {sentence}" for code, sentence in STATUS.items())
    data["status"] = (dims[:2], status, {"long_name": "Solver status", "codes": meaning})
    coords = {
        "regimen": names,
        "subject": people.subjects,
        "time": ("time", times, {**about, "long_name": "Time since first dose"}),
    }
    return xr.Dataset(data, coords)
