"""What one patient's counts will do: draws of the fitted parameters, under a plan or none.

Two layers of randomness are kept apart: the counts of a draw hold the uncertainty of the parameters
(a credible band), simulated observations hold the residual error besides (a prediction band).
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.draws import uniforms
from bcellsim.event import Event
from bcellsim.fit import Fit
from bcellsim.library import load_regimen
from bcellsim.observations import day_zero
from bcellsim.population import Population
from bcellsim.regimen import Regimen
from bcellsim.simulate import described, provenance, solve_regimen
from bcellsim.structures import OUTPUTS
from bcellsim.units import days

if TYPE_CHECKING:
    import xarray as xr

#: Quantiles of the two bands.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CREDIBLE = "credible band: uncertainty of the parameters"
PREDICTION = "prediction band: uncertainty of the parameters, and residual error"
_MINUTES = 1440.0
_LATEST = 36525.0  # of the present after the data, beyond which it is a slip [day]


def forecast(
    fit: Fit,
    plan: Regimen | str | None = None,
    *,
    until: float | str,
    draws: int = 500,
    now: float | str | None = None,
    every: float | str = "1 d",
    observations: bool = False,
    since: float | str | None = None,
    seed: int | None = None,
    method: str = "importance",
) -> xr.Dataset:
    """Forecast one patient's counts, from draws of the fitted parameters.

    Every draw is solved from the first dose of the data on, with the doses given by then; the
    plan's doses are added from `now` on. Covariates that change in time keep their last value.
    Where parameters vary between occasions, the plan's first dose begins a new one, drawn from the
    model's variability; without further doses the last one goes on.

    Parameters
    ----------
    fit : Fit
        Result of `fit_individual`.
    plan : Regimen or str, optional
        Doses from now on, its day 0 being `now`; None: no further doses.
    until : float or str
        How long after `now` to forecast [day]; the plan's doses at or after it are not given.
    draws : int
        Number of draws of the parameters.
    now : float or str, optional
        The present, on the clock of the data [day], or a date where the data have dates; by default
        the last row of the data. Doses of the data after it are not given.
    every : float or str
        Spacing of the output times [day].
    observations : bool
        Whether to add `<output>_observed` for the endpoints of the data: what would be measured.
    since : float or str, optional
        Where the result begins, on the clock of the data [day]; `now` by default.
    seed : int, optional
        Seed of draws and residual errors; one is drawn and recorded if none is given.
    method : str
        How parameters are drawn, as for `Fit.draws`.

    Returns
    -------
    xarray.Dataset
        The outputs over (draw, time), without residual error; `<output>_credible` and, where
        observations are wanted, `<output>_prediction` over (quantile, time), each saying in its
        attribute `band` what it holds; `dose_time` and `dose_amount` of all doses. `time` is on the
        clock of the data, `days_from_now` stands beside it.

    Raises
    ------
    ValueError
        If a time does not fit the data, or the plan not the model.
    RuntimeError
        If a draw could not be solved.
    """
    import xarray as xr

    now = moment(fit, now)
    length, step = days(until, "until"), days(every, "every")
    if length <= 0 or step <= 0:
        raise ValueError(f"until = {length:g} d and every = {step:g} d must be above 0")
    found = fit.drawn(draws, seed, method)
    people = fit.population(draws, found.seed, method, anew=first_dose(plan, now))
    course = continued(fit, plan, now=now, until=now + length)
    line = fit.problem.line
    begin = now if since is None else days(since, "since")
    if begin > now:
        raise ValueError(f"since = {begin:g} d is later than now = {now:g} d")
    times = _times(begin, now, length, step)
    days_solved = line.days(times)
    solution = solve_regimen(course, people, days_solved, until=days_solved[-1], backend="compiled")
    data = _outputs(fit, people, solution, times, found.seed if observations else None)
    doses = given_and_planned(fit, plan, now=now, until=now + length)
    clock = {"unit": "day", "units": "day"}
    data["dose_time"] = ("dose", [e.time for e in doses], {**clock, "long_name": "Time of dose"})
    data["dose_amount"] = (
        "dose", [e.amount if e.unit == "mg" else np.nan for e in doses],
        {"unit": "mg", "long_name": "Dose"},
    )  # fmt: skip
    result = xr.Dataset(data, _coordinates(fit, times, now, draws))
    result.attrs.update(
        provenance(fit.model), seed=found.seed, now=now, until=length,
        plan="no further doses" if plan is None else load_regimen(plan).name,
        draws=found.note, effective_draws=found.effective, n_draws=draws,
        covariates=fit.problem.pieces.ahead(),
    )  # fmt: skip
    return result


def _coordinates(fit, times, now, draws):
    """Return the coordinates of a forecast: times, days from now, and dates where there are any."""
    clock = {"unit": "day", "units": "day"}
    about = {**clock, "long_name": "Time on the clock of the data"}
    from_now = {**clock, "long_name": "Time from now"}
    coords = {
        "draw": np.arange(draws), "time": ("time", times, about), "quantile": list(QUANTILES),
        "days_from_now": ("time", times - now, from_now),
    }  # fmt: skip
    zero = day_zero(fit.problem.table)
    if zero is not None:
        stamps = np.datetime64(zero, "s") + np.round(times * 86400.0).astype("timedelta64[s]")
        coords["date"] = ("time", stamps.astype("datetime64[ns]"), {"long_name": "Date"})
    return coords


def first_dose(plan: Regimen | str | None, now: float) -> float | None:
    """Return when the first dose of a plan from now on is given, on the data's clock, if any."""
    day = load_regimen(plan).first_dose if plan is not None else None
    return None if day is None else now + day


def moment(fit: Fit, now: float | str | None) -> float:
    """Return `now` on the clock of the data [day]: the last row by default.

    A date is one of data with dates.

    Raises
    ------
    ValueError
        If it lies before the first dose or count, or is a date that the data cannot place.
    """
    last = fit.problem.end
    if now is None:
        return last
    now = _day_of(now, fit.problem.table)
    first = float(fit.problem.table["CLOCK"].min())
    if now < first:
        raise ValueError(f"now = {now:g} d lies before the data, which begin on day {first:g}")
    if now > last + _LATEST:
        raise ValueError(
            f"now = {now:g} d is {now - last:g} d after the last row of the data, on day {last:g}"
        )
    steady = [day for day, _ in fit.problem.line.moved if day > now]
    if steady:
        raise ValueError(
            f"now = {now:g} d lies before the steady state that the data state on day "
            f"{steady[0]:g}: give a later day"
        )
    return now


def _day_of(now, table):
    """Return days from day 0 of the data to a date, or what is a time already."""
    date = now if isinstance(now, datetime) else None
    if isinstance(now, str) and "-" in now:
        with contextlib.suppress(ValueError):
            date = datetime.fromisoformat(now)
    if date is None:
        return days(now, "now")
    zero = day_zero(table)
    if zero is None:
        raise ValueError(f"now = {now} is a date, but the data have days: give a day")
    if date.tzinfo:
        raise ValueError(f"now = {now} has a time zone: give local time, as in the data")
    return (date - zero).total_seconds() / 86400.0


def given_and_planned(fit: Fit, plan, *, now: float, until: float) -> list[Event]:
    """Return the doses given by `now`, and those of a plan from then on, on the data's clock."""
    given = [e for e in fit.regimen.doses(now + 1e-9) if e.time <= now]
    return [*given, *_coming(plan, now, until)]


def _coming(plan, now, until):
    """Return the events of a plan whose day 0 is `now`, those before `until`."""
    if plan is None:
        return []
    coming = load_regimen(plan).shift(now).expand(until)
    early = [e for e in coming if e.time < now]
    if early:
        raise ValueError(
            f"the plan has a dose {now - early[0].time:g} d before now; its day 0 is now"
        )
    return coming


def continued(fit: Fit, plan: Regimen | str | None, *, now: float, until: float) -> Regimen:
    """Return what was given by `now`, and a plan from then on, as the engine is to solve it.

    Parameters
    ----------
    fit : Fit
        Whose history it is.
    plan : Regimen, str or None
        Doses from now on, its day 0 being `now`.
    now, until : float
        The present, and before when the plan's doses are given, on the clock of the data [day].
        Days of the result are those of `fit.problem.line.days`, which are others only where the
        data have steady states.
    """
    at, end = (float(fit.problem.line.days(day)) for day in (now, until))
    given = [e for e in fit.problem.line.regimen.expand(at + 1e-9) if e.time <= at]
    drug = load_regimen(plan).drug if plan is not None else None
    events = (*given, *_coming(plan, at, end))
    return Regimen(events, label="doses given, then the plan", drug=drug)


def _times(begin, now, length, step):
    """Return output times: a grid about `now`, which is one of them, and the end."""
    back = np.arange(int(np.floor((now - begin) / step + 1e-9)), 0, -1) * -step
    ahead = np.arange(int(np.floor(length / step + 1e-9)) + 1) * step
    times = now + np.concatenate([back, ahead, [length]])
    if begin < times[0]:
        times = np.concatenate([[begin], times])
    return times[np.concatenate([[True], np.diff(times) > 1e-9])]


def _outputs(fit, people: Population, solution, times, seed):
    """Return the variables of the outputs; simulated observations where a seed is given."""
    data = {}
    for j, name in enumerate(fit.model.structure.outputs):
        entry, values = OUTPUTS[name], solution.values[:, :, j]
        about = {"unit": entry.unit, "units": entry.unit, "long_name": entry.meaning}
        data[name] = (("draw", "time"), values, {**about, "layer": "no residual error"})
        data[f"{name}_credible"] = (
            ("quantile", "time"), np.quantile(values, QUANTILES, axis=0),
            {**about, "band": CREDIBLE},
        )  # fmt: skip
        if seed is None or name not in fit.errors:
            continue
        seen = observed(fit, name, values, times, seed)
        told = {**about, "long_name": f"{entry.meaning}, as measured"}
        data[f"{name}_observed"] = (
            ("draw", "time"), seen,
            {**told, "layer": str(fit.errors[name]), "share_below_0": float(np.mean(seen < 0))},
        )  # fmt: skip
        data[f"{name}_prediction"] = (
            ("quantile", "time"), np.quantile(seen, QUANTILES, axis=0),
            {**told, "band": PREDICTION},
        )  # fmt: skip
    return data


def observed(fit: Fit, output: str, values: np.ndarray, times: np.ndarray, seed: int) -> np.ndarray:
    """Return what would be measured of values (n_draws, n_times), with residual error.

    The error of a draw at a minute of the data's clock depends on the seed, the output, the draw
    and that minute only, so not on the other times. Nothing is clipped: a normal error can be below
    0.
    An error that was estimated has its estimate in every draw.
    """
    minutes = np.round(np.asarray(times) * _MINUTES).astype(np.int64)
    which = fit.model.structure.outputs.index(output)
    # Draws along the counter's first word: a further draw changes nobody else's errors.
    u = uniforms(seed, "residual", minutes, len(values), replicate=which).T
    error = fit.errors[output]
    return error.family.sample(u, values, error.values)


def summary(data: xr.Dataset) -> str:
    """Return a line on what a forecast holds, for titles."""
    facts = data.attrs
    return f"{described(facts)}, {facts['n_draws']} draws, seed {facts['seed']}"
