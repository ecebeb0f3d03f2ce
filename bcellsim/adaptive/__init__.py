"""Follow a dosing rule: from visit to visit for all subjects, then the doses as fixed schedules.

The first pass integrates from one visit (or dose) to the next, all subjects at once: the count is
measured, the rule decides, the states are kept. It gives the doses of each subject. What comes of
them - metrics, trajectories - is computed by a second pass over these doses as a fixed schedule of
each subject, in the same way as for any regimen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bcellsim.adaptive.followed import REASONS, Followed
from bcellsim.adaptive.steps import follow
from bcellsim.draws import check_seed
from bcellsim.library import load_model
from bcellsim.model import Model
from bcellsim.population import Population
from bcellsim.rule import DosingRule
from bcellsim.simulate import as_dataset, as_population, output_times, provenance
from bcellsim.units import days

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["REASONS", "Followed", "follow", "follow_rule", "simulate_rule"]


def follow_rule(
    model: Model | str,
    rule: DosingRule,
    population: Population | int,
    *,
    until: float | str,
    seed: int | None = None,
    threads: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the decisions and the doses of a rule.

    Parameters
    ----------
    model : Model or str
        The model, or its name.
    rule : DosingRule
        The rule.
    population : Population or int
        The subjects, or how many to sample.
    until : float or str
        Horizon [day]; visits and doses fall before it.
    seed : int, optional
        Seed of the subjects when `population` is a number, and of what the rule leaves to chance
        (by default that of the subjects).
    threads : int, optional
        As for `bcellsim.engine.solve`.

    Returns
    -------
    decisions : pandas.DataFrame
        A row for each subject and visit: ``subject visit day simulated measured below_lloq fired
        action dose_day reason``. What is simulated is the value before any dose of that day, what
        is measured has its error.
    doses : pandas.DataFrame
        A row a dose: ``subject dose day amount`` [mg] ``route given_by``.

    Raises
    ------
    ValueError
        If the rule does not fit the model or the horizon.
    """
    followed = _of_user(model, rule, population, until, seed, threads)
    return followed.decisions(), followed.ledger()


def simulate_rule(
    model: Model | str,
    rule: DosingRule,
    population: Population | int,
    *,
    until: float | str,
    every: float | str = "1 d",
    times: Sequence[float] | None = None,
    seed: int | None = None,
    threads: int | None = None,
) -> xr.Dataset:
    """Simulate counts and concentrations under a rule.

    Parameters
    ----------
    model, rule, population, until, seed, threads
        As for `follow_rule`.
    every, times
        Output times [day], as for `bcellsim.simulate`.

    Returns
    -------
    xarray.Dataset
        Outputs over (subject, time), as of `bcellsim.simulate`; `dose_time` and `dose_amount` over
        (subject, dose).

    Raises
    ------
    ValueError
        As `follow_rule`.
    """
    times, end = output_times(until, every, times)
    followed = _of_user(model, rule, population, end, seed, threads)
    people = followed.people
    solution = followed.solve(times, until=end, threads=threads, backend="compiled")
    plan = replace(rule.fixed(), events=(), label=rule.name)
    data = as_dataset(people.model, [plan], people, times, end, [solution])
    data = data.squeeze("regimen", drop=True).drop_vars(["dose_time", "dose_amount"])
    doses = {"dose_time": (followed.dose_times(), "Time of dose", "day"),
             "dose_amount": (followed.dose_amounts(), "Dose", "mg")}  # fmt: skip
    for name, (table, meaning, unit) in doses.items():
        data[name] = (("subject", "dose"), table, {"unit": unit, "long_name": meaning})
    facts = provenance(people.model, people)
    data.attrs.update(facts, regimen=rule.name, seed=followed.seed)
    return data


def _of_user(model, rule, population, until, seed, threads):
    people = as_population(load_model(model), population, seed=seed)
    seed = check_seed(people.seed if seed is None else seed)
    return follow(rule, people, until=days(until, "until"), seed=seed, threads=threads)
