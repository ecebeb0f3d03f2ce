"""What if: a dose is late or missed, treatment stops, the patient is heavier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.event import format_time, whole_number
from bcellsim.explore.compare import Plan, explore, read_runs
from bcellsim.library import load_regimen
from bcellsim.model import Model
from bcellsim.population import Population, with_covariate
from bcellsim.regimen import Regimen
from bcellsim.units import days

if TYPE_CHECKING:
    import pandas as pd

#: Columns that say what a row of `what_if` changes.
_CHANGES = ("change", "changed_dose", "late_by", "reloaded")


def what_if(
    model: Model | str,
    regimen: Regimen | str,
    population: Population | int,
    *,
    below: float | str,
    until: float | str,
    late: float | str | Sequence[float | str] = (),
    missed: bool = False,
    stop_after: Sequence[int] = (),
    doses: Sequence[int] | None = None,
    shift_later: bool = False,
    reload: str | None = None,
    probability: float | None = None,
    induction: float | str = 28.0,
    recovery: float | str | None = None,
    follow_up: float | str = 0.0,
    seed: int | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """Compare a schedule with what becomes of it when doses are late, missed or no longer given.

    Parameters
    ----------
    model : Model or str
        The model, or its name.
    regimen : Regimen or str
        The schedule as planned.
    population : Population or int
        The subjects, or how many to sample.
    below : float or str
        Threshold of the count [cells/uL].
    until : float or str
        Horizon [day].
    late : float, str, or a sequence of them
        Delays [day]; each of the doses is given later by each of them.
    missed : bool
        Whether each of the doses is also left out, with the others on their days.
    stop_after : sequence of int
        Numbers of doses after which none is given.
    doses : sequence of int, optional
        Which doses are late or missed, counted from 1; by default all but the first.
    shift_later : bool
        Whether the doses after a late one move too; else they stay on their days.
    reload : str, optional
        Doses that take the place of the late one, from its day on: ``"20 mg sc at 0 d, 7 d, 14
        d"``. Each late dose is then looked at without and with them.
    probability : float, optional
        Wanted share suppressed throughout: adds ``reaches``, and ``latest``, which marks for each
        dose the longest delay up to which every delay looked at reaches it. Loading anew is needed
        where ``suppressed_after`` is below it without and not with it.
    induction, recovery, follow_up, seed, threads
        As for `explore`.

    Returns
    -------
    pandas.DataFrame
        As from `explore` with the planned schedule, the first row, as reference; ``change``
        (``planned``, ``late``, ``missed``, ``stopped``), ``changed_dose``, ``late_by`` [day] and
        ``reloaded`` say what a row changes. ``suppressed_after`` of a late dose is the share
        suppressed throughout from `induction` after it to the horizon (with ``_mc_se``).

    Raises
    ------
    ValueError
        If a dose does not exist before the horizon, a delay is not above 0, or nothing is asked.
    """
    if probability is not None and not 0.0 < probability < 1.0:
        raise ValueError(f"probability = {probability}: a number above 0 and below 1 is wanted")
    plan, end = load_regimen(regimen), days(until, "until")
    listed = [late] if isinstance(late, (str, Real)) else list(late)
    delays = sorted({days(by, "late") for by in listed})
    changes = [("planned", 0, 0.0, False, plan)]
    chosen = _doses(plan, end, doses) if delays or missed else []
    changes += _late(plan, chosen, delays, shift_later, reload)
    changes += [("missed", k, np.nan, False, plan.drop(k)) for k in chosen if missed]
    changes += [_stopped(plan, end, n) for n in stop_after]
    if len(changes) == 1:
        raise ValueError("nothing is changed: give late, missed or stop_after")
    plans = [_labelled(plan, *change) for change in changes]
    people = read_runs(model, plan, population, seed)[0].people
    ask = partial(
        explore, model, population=people, below=below, until=end, recovery=recovery,
        follow_up=follow_up, seed=seed, threads=threads,
    )  # fmt: skip
    table = ask(plans, induction=induction, reference=plans[0])
    each = len(table) // len(plans)
    for position, name in enumerate(_CHANGES):
        values = [change[position] for change in changes]
        table.insert(position + 1, name, np.repeat(values, each))
    if delays:
        opens = [_opens(plan, change, days(induction, "induction"), end) for change in changes]
        after = [_after(ask, change, day, each) for change, day in zip(changes, opens, strict=True)]
        table[["suppressed_after", "suppressed_after_mc_se"]] = np.concatenate(after)
    return table if probability is None else _with_latest(table, probability)


def _opens(plan, change, induction, until):
    """Return when the window after a late dose opens [day]; NaN if there is none."""
    kind, k, by, *_ = change
    day = plan.day_of(k) + by + induction if kind == "late" else until
    return day if day < until else np.nan


def _after(ask, change, opens, n_levels):
    """Return the share suppressed after a late dose, and its error, for each threshold."""
    if np.isnan(opens):
        return np.full((n_levels, 2), np.nan)
    *_, changed = change
    table = ask(changed, induction=opens - changed.first_dose)
    return table[["suppressed_throughout", "suppressed_throughout_mc_se"]].to_numpy()


def _doses(plan, until, given):
    """Return the numbers of the doses to change."""
    n = plan.n_doses(until)
    if given is None:
        return list(range(2, n + 1))
    chosen = [whole_number(k, "the number of a dose") for k in given]
    for k in chosen:
        if k > n:
            raise ValueError(f"there is no dose {k} before until = {until:g} d; there are {n}")
    return chosen


def _late(plan, chosen, delays, shift_later, reload):
    """Return the changes of doses that are late, without and with loading anew."""
    again = Regimen.parse(reload) if reload else None
    if again and again.is_open:
        raise ValueError("the doses of reload are open-ended; write them with `at` or `x N`")
    found = []
    for k in chosen:
        for by in delays:
            if by <= 0:
                raise ValueError(f"late = {by:g} d: a delay above 0 is wanted")
            found.append(("late", k, by, False, plan.delay(k, by, shift_later)))
            if again:
                day = plan.day_of(k) + by
                others = (plan.delay(k, by, True) if shift_later else plan).drop(k)
                anew = again.shift(day - again.first_dose)
                both = replace(others, events=others.events + anew.events)
                found.append(("late", k, by, True, both))
    return found


def _stopped(plan, until, n):
    """Return the change that no dose is given after number n."""
    n = whole_number(n, "stop_after")
    given = plan.doses(until)
    if n > len(given):
        raise ValueError(f"stop_after = {n}: there are {len(given)} doses before {until:g} d")
    others = tuple(event for event in plan.events if event.kind != "dose")
    return "stopped", n, np.nan, False, replace(plan, events=(*given[:n], *others))


def _labelled(plan, change, k, by, reloaded, changed):
    said = {
        "planned": "",
        "late": f", dose {k} late by {format_time(by)}" if by > 0 else "",
        "missed": f", without dose {k}",
        "stopped": f", stopped after dose {k}",
    }[change]
    return replace(changed, label=plan.name + said + (", loaded anew" if reloaded else ""))


def _with_latest(table, probability):
    """Mark the longest delay of each dose up to which every one reaches the probability."""
    table["reaches"] = table["suppressed_throughout"] >= probability
    table["latest"] = False
    late = table[table["change"] == "late"]
    for _, rows in late.groupby(["changed_dose", "reloaded"], sort=False):
        reaching = rows["reaches"].cumprod().astype(bool)
        if reaching.any():
            table.loc[reaching[reaching].index[-1], "latest"] = True
    return table


def across(
    model: Model | str,
    regimens: Plan | str | Sequence[Plan | str],
    population: Population | int,
    *,
    covariate: str,
    values: Sequence[float],
    below: float | str | Sequence[float],
    until: float | str,
    induction: float | str = 28.0,
    recovery: float | str | None = None,
    follow_up: float | str = 0.0,
    seed: int | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """Compare schedules in the same subjects with other values of a covariate, such as weight.

    Parameters
    ----------
    model, regimens, population, below, until, induction, recovery, follow_up, seed, threads
        As for `explore`.
    covariate : str
        The covariate, such as ``"WT"``.
    values : sequence of float
        What every subject has of it, one value after the other; all else stays.

    Returns
    -------
    pandas.DataFrame
        As from `explore`, with a column named as the covariate.

    Raises
    ------
    ValueError
        If the covariate is not one of the model, or a value is not possible.
    """
    import pandas as pd

    run = read_runs(model, regimens, population, seed)[0]
    if not len(values):
        raise ValueError(f"give values of {covariate}")
    tables = []
    for value in values:
        table = explore(
            model, regimens, with_covariate(run.people, covariate, value), below=below,
            until=until, induction=induction, recovery=recovery, follow_up=follow_up,
            seed=run.seed, threads=threads,
        )  # fmt: skip
        table.insert(1, covariate, float(value))
        tables.append(table)
    found = pd.concat(tables, ignore_index=True)
    found.attrs = dict(tables[0].attrs)
    return found
