"""Simulate a model under regimens: from doses and subjects to counts and concentrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.covariates import amounts, origin_of_body_surface
from bcellsim.engine import STATUS, Events, Solution, solve
from bcellsim.library import load_model, load_regimen
from bcellsim.model import Model
from bcellsim.names import unknown
from bcellsim.population import Population, sample_population, typical_subject
from bcellsim.regimen import Regimen
from bcellsim.schedule import compile_events
from bcellsim.structures import OUTPUTS
from bcellsim.timeline import timeline
from bcellsim.units import days

if TYPE_CHECKING:
    import xarray as xr

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
    result = as_dataset(model, plans, people, times, until, solutions)
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
    if hasattr(population, "columns"):
        return sample_population(model, covariates=population, seed=seed)
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
            if times[j] == times[j + 1]:
                raise ValueError(f"times: {times[j]:g} d is given twice")
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
    cut = until if doses_until is None else doses_until
    line = timeline(population.model, regimen, population, cut)
    if line.moved and (options.get("tallies") or options.get("dense")):
        raise ValueError(f"regimen {regimen.name}: metrics need its steady states written as doses")
    if line.moved and len(population.occasions) > 1:
        raise ValueError(
            f"regimen {regimen.name}: occasions need its steady states written as doses"
        )
    times, until = line.days(times), float(line.days(until))
    events = compile_events(
        population.model, line.regimen, population, float(line.days(cut)), horizon=until
    )
    return solve_events(population, events, times, until=until, on_failure=on_failure, **options)


def solve_events(
    population: Population,
    events: Events,
    times: np.ndarray,
    *,
    on_failure: str = "raise",
    **options,
) -> Solution:
    """Solve compiled events for a population; `options` are those of `bcellsim.engine.solve`.

    Raises
    ------
    RuntimeError
        If a subject could not be solved and `on_failure` is ``"raise"``.
    """
    structure = population.model.structure
    solution = solve(structure, population.parameters, events, times, **options)
    failed = np.flatnonzero(solution.status)
    if len(failed) and on_failure == "raise":
        i = failed[0]
        raise RuntimeError(
            f"{len(failed)} of {len(population)} subjects were not solved; subject "
            f"{population.subjects[i]}: {STATUS[int(solution.status[i])]}"
        )
    return solution


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
        "status": model.label(),
        "bcellsim": installed,
    }
    if population is not None and population.seed is not None:
        facts["seed"] = population.seed
    if population is not None and len(population.occasions) > 1:
        facts["occasions"] = list(population.occasions)
    body_surface = origin_of_body_surface(population.covariates) if population else ""
    if body_surface:
        facts["body_surface"] = body_surface
    return facts


def described(facts: Mapping) -> str:
    """Return model, citation and status of a result's provenance, as titles show them."""
    return f"{facts['model']} ({facts['citation'] or 'no publication'}, {facts['status']})"


def as_dataset(model, plans, people, times, until, solutions) -> xr.Dataset:
    """Return solutions, one a regimen, as outputs over (regimen, subject, time)."""
    import xarray as xr

    names = [plan.name for plan in plans]
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
    data |= _doses([plan.doses(until) for plan in plans], people, about)
    status = np.stack([solution.status for solution in solutions])
    meaning = "; ".join(f"{code}: {sentence}" for code, sentence in STATUS.items())
    data["status"] = (dims[:2], status, {"long_name": "Solver status", "codes": meaning})
    coords = {
        "regimen": names,
        "subject": people.subjects,
        "time": ("time", times, {**about, "long_name": "Time since first dose"}),
    }
    return xr.Dataset(data, coords)


def _doses(doses, people, about):
    """Return the variables of the doses; amounts differ by subject where they are per body size."""
    width = max(map(len, doses), default=0)
    times = np.full((len(doses), width), np.nan)
    mg = np.full((len(doses), len(people), width), np.nan)
    for i, given in enumerate(doses):
        times[i, : len(given)] = [event.time for event in given]
        mg[i, :, : len(given)] = amounts(given, people.covariates, len(people))
    dims = ("regimen", "subject", "dose")
    if all(event.unit == "mg" for given in doses for event in given):
        dims, mg = ("regimen", "dose"), mg[:, 0]
    return {
        "dose_time": (("regimen", "dose"), times, {**about, "long_name": "Time of dose"}),
        "dose_amount": (dims, mg, {"unit": "mg", "units": "mg", "long_name": "Dose"}),
    }
