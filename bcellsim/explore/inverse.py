"""Inverse questions: the longest interval, smallest dose or fewest doses that will do.

Candidates are simulated on the same subjects, first over the whole range, then more finely beside
the best one that reaches the wanted probability. Nothing is assumed to be monotone, nothing is
extrapolated: the answer is one of the candidates, and the table shows all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bcellsim.event import format_time
from bcellsim.explore.compare import explore
from bcellsim.explore.grids import grid
from bcellsim.explore.outcomes import thresholds
from bcellsim.library import load_model
from bcellsim.model import Model
from bcellsim.population import Population
from bcellsim.regimen import Regimen, maintained, single_dose
from bcellsim.simulate import as_population
from bcellsim.units import days

if TYPE_CHECKING:
    import pandas as pd

_POINTS = 8  # of the first look at doses
_FINER, _ROUNDS = 3, 2  # points between two doses, and how often: to a twentieth
_DIGITS = 3


def needed_subjects(probability: float, mc_error: float) -> int:
    """Return the number of subjects for a wanted Monte-Carlo error of a share near a probability.

    At least so many that one subject more or less can be told from the probability.

    Raises
    ------
    ValueError
        If one of them is not between 0 and 1.
    """
    for name, value in (("probability", probability), ("mc_error", mc_error)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} = {value}: a number above 0 and below 1 is wanted")
    by_error = probability * (1.0 - probability) / mc_error**2
    finest = 1.0 / min(probability, 1.0 - probability)
    return int(np.ceil(max(by_error, finest) - 1e-9))


def longest_interval(
    model: Model | str,
    population: Population | int | pd.DataFrame | None = None,
    *,
    dose: str,
    below: float | str,
    probability: float,
    until: float | str = "2 y",
    induction: float | str = 28.0,
    loading: str | None = None,
    start: float | str | None = None,
    shortest: float | str = "4 w",
    longest: float | str | None = None,
    step: float | str = "4 w",
    finest: float | str = "1 w",
    mc_error: float = 0.02,
    seed: int | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """Find the longest interval that keeps subjects suppressed with a wanted probability.

    Parameters
    ----------
    model : Model or str
        The model, or its name.
    population : Population, int or DataFrame, optional
        The subjects; by default as many as the Monte-Carlo error wants. Posterior draws of one
        patient make the share the probability that this patient is suppressed.
    dose : str
        The maintenance dose, such as ``"20 mg sc"``.
    below : float or str
        Threshold of the count [cells/uL].
    probability : float
        Wanted share of subjects suppressed throughout the window.
    until, induction : float or str
        Horizon, and when the window opens after the first dose [day].
    loading : str, optional
        Loading doses as a shorthand.
    start : float or str, optional
        Time of the first maintenance dose [day], as for `grid`.
    shortest, longest, step : float or str
        Candidates of the first look [day]; by default up to the horizon.
    finest : float or str
        Step of the second look, between the best candidate and the next one [day].
    mc_error : float
        Wanted Monte-Carlo standard error of a share near the probability.
    seed : int, optional
        Seed of the subjects.
    threads : int, optional
        As for `bcellsim.engine.solve`.

    Returns
    -------
    pandas.DataFrame
        A row a candidate, in order, as from `explore`, with ``reaches`` (the share is at least the
        probability), ``answer`` and ``neighbour`` (the candidates next to the answer). ``attrs``
        hold the ``answer`` in a sentence, its ``value`` (None if no candidate reaches the
        probability), ``share`` and ``mc_se``.

    Raises
    ------
    ValueError
        If an argument is not valid, an interval is longer than the horizon, or there are fewer
        subjects than needed.
    """
    search = Search.of(
        model, population, probability, mc_error, below, until, induction, seed, threads
    )
    first = days(shortest, "shortest")
    step, finest = days(step, "step"), days(finest, "finest")
    for name, value in (("step", step), ("finest", finest), ("shortest", first)):
        if value <= 0:
            raise ValueError(f"{name} = {value:g} d must be above 0")
    last = days(longest, "longest") if longest is not None else np.nextafter(search.until, 0.0)
    for name, value in (("shortest", first), ("longest", last)):
        if value > search.until:
            raise ValueError(
                f"{name} = {value:g} d: an interval longer than the horizon, until = "
                f"{search.until:g} d"
            )
    if last < first:
        raise ValueError(f"longest = {last:g} d is before shortest = {first:g} d")

    def plan(interval):
        return grid(dose=dose, every=interval, loading=loading, start=start)[0]

    def between(low, high):
        return low + finest * np.arange(1, int(np.ceil((high - low) / finest - 1e-9)))

    values = first + step * np.arange(int((last - first) / step + 1e-9) + 1)
    return search.run(
        values, plan, between, rounds=1, largest=True, what="interval", say=format_time
    )


def smallest_dose(
    model: Model | str,
    population: Population | int | pd.DataFrame | None = None,
    *,
    lowest: str,
    highest: str,
    every: float | str,
    below: float | str,
    probability: float,
    until: float | str = "2 y",
    induction: float | str = 28.0,
    loading: str | None = None,
    start: float | str | None = None,
    mc_error: float = 0.02,
    seed: int | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """Find the smallest maintenance dose that keeps subjects suppressed with a probability.

    Parameters
    ----------
    lowest, highest : str
        The smallest and the largest candidate, of one unit and route: ``"1 mg sc"``. Eight in
        equal ratios are looked at first, then more beside the best.
    every : float or str
        Interval [day].
    model, population, below, probability, until, induction, loading, start, mc_error, seed, threads
        As for `longest_interval`.

    Returns
    -------
    pandas.DataFrame
        As `longest_interval`, with the column ``amount``.

    Raises
    ------
    ValueError
        As `longest_interval`, and if the two doses differ in more than their amount.
    """
    search = Search.of(
        model, population, probability, mc_error, below, until, induction, seed, threads
    )
    small, large = single_dose(lowest), single_dose(highest)
    if replace(small, amount=large.amount) != large or small.amount >= large.amount:
        raise ValueError(
            f'lowest = "{lowest}" and highest = "{highest}": two doses of one unit and route are '
            "wanted, the first the smaller one"
        )

    def plan(amount):
        dose = str(replace(small, amount=float(amount)))
        return grid(dose=dose, every=every, loading=loading, start=start)[0]

    def between(low, high):
        return _rounded(np.geomspace(low, high, _FINER + 2)[1:-1])

    values = _rounded(np.geomspace(small.amount, large.amount, _POINTS))

    def say(amount):
        return str(replace(small, amount=float(amount)))

    return search.run(values, plan, between, rounds=_ROUNDS, largest=False, what="amount", say=say)


def fewest_doses(
    model: Model | str,
    population: Population | int | pd.DataFrame | None = None,
    *,
    dose: str,
    below: float | str,
    probability: float,
    until: float | str = "2 y",
    induction: float | str = 28.0,
    loading: str | None = None,
    most: int = 26,
    mc_error: float = 0.02,
    seed: int | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """Find the fewest doses over a horizon that keep subjects suppressed with a probability.

    Doses are spread evenly, in whole days, between the first dose and the horizon, so that what
    follows the last one is an interval too; other spacings are not looked at.

    Parameters
    ----------
    most : int
        Largest number of maintenance doses looked at; every smaller number is.
    model, population, dose, below, probability, until, induction, loading, mc_error, seed, threads
        As for `longest_interval`.

    Returns
    -------
    pandas.DataFrame
        As `longest_interval`; ``n_doses`` counts the loading too.

    Raises
    ------
    ValueError
        As `longest_interval`.
    """
    search = Search.of(
        model, population, probability, mc_error, below, until, induction, seed, threads
    )
    single, first = single_dose(dose), Regimen.parse(loading) if loading else None
    origin = first.first_dose if first else 0.0
    last = first.doses()[-1].time if first else -1.0

    def plan(n):
        every = np.floor((search.until - origin) / (n + 1 if first else n))
        if not n:
            return replace(first, label="loading only")
        whole = maintained(single, every, first)
        events = (*whole.events[:-1], replace(whole.events[-1], count=int(n)))
        label = f"{single} x {n} q{format_time(every).replace(' ', '')}"
        return replace(whole, events=events, label=label, dose=str(single), interval=every)

    values = [
        n for n in range(0 if first else 1, most + 1) if not n or _room(search, origin, n, last)
    ]
    if not values:
        raise ValueError(f"most = {most}: there is no room for a maintenance dose")
    return search.run(
        np.array(values), plan, lambda low, high: (), rounds=0, largest=False, what="n_doses",
        say=lambda n: f"{n:.0f} doses",
    )  # fmt: skip


def _room(search, origin, n, last):
    every = np.floor((search.until - origin) / (n + 1))
    return every >= 1 and origin + every > last


def _rounded(values):
    """Return values to a few significant digits, as one would write them."""
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values])


class Search(NamedTuple):
    """What is common to all searches: the subjects, the question and the probability."""

    model: Model
    people: Population
    probability: float
    below: float
    until: float
    induction: float
    threads: int | None

    @classmethod
    def of(cls, model, population, probability, mc_error, below, until, induction, seed, threads):
        """Read the arguments that all searches share."""
        model, needed = load_model(model), needed_subjects(probability, mc_error)
        levels = thresholds(below)
        if len(levels) > 1:
            raise ValueError("below: one threshold is wanted")
        people = as_population(model, needed if population is None else population, seed=seed)
        if len(people) < needed:
            raise ValueError(
                f"{len(people)} subjects are fewer than needed: for probability = {probability:g} "
                f"with a Monte-Carlo error of {mc_error:g}, {needed} are; give more, or a larger "
                "mc_error"
            )
        return cls(
            model, people, probability, levels[0], days(until, "until"),
            days(induction, "induction"), threads,
        )  # fmt: skip

    def run(self, values, plan: Callable, between: Callable, *, rounds, largest, what, say):
        """Look at all values, then between the answer and what fails beside it."""
        table = self._rows(values, plan, what)
        for _ in range(rounds):
            answer, beside = _edges(table, what, largest)
            if answer is None or beside is None:
                break
            finer = [v for v in between(*sorted((answer, beside))) if v not in set(table[what])]
            if finer:
                table = _joined(table, self._rows(finer, plan, what), what)
        return self._answered(table, what, largest, say)

    def _rows(self, values, plan, what):
        plans = [plan(value) for value in values]
        table = explore(
            self.model, plans, self.people, below=self.below, until=self.until,
            induction=self.induction, threads=self.threads,
        )  # fmt: skip
        if what == "amount":
            table.insert(2, "amount", values)
        table["reaches"] = table["suppressed_throughout"] >= self.probability
        return table

    def _answered(self, table, what, largest, say):
        answer, _ = _edges(table, what, largest)
        best = table.loc[table["suppressed_throughout"].idxmax()]
        table["answer"] = table[what] == answer if answer is not None else False
        table["neighbour"] = False
        if answer is not None:
            best = table[table["answer"]].iloc[0]
            beside = [k + d for k in np.flatnonzero(table["answer"]) for d in (-1, 1)]
            inside = [k for k in beside if 0 <= k < len(table)]
            table.loc[table.index[inside], "neighbour"] = True
        share, error = best["suppressed_throughout"], best["suppressed_throughout_mc_se"]
        table.attrs |= {
            "what": what, "value": None if answer is None else float(answer), "share": float(share),
            "mc_se": float(error), "probability": self.probability,
            "answer": self._sentence(table, what, answer, largest, best, say),
        }  # fmt: skip
        return table

    def _sentence(self, table, what, answer, largest, best, say):
        share = f"{best['suppressed_throughout']:.3f} ± {best['suppressed_throughout_mc_se']:.3f}"
        kind = {"interval": "interval", "amount": "dose", "n_doses": "number of doses"}[what]
        wanted = f"{self.probability:g} at or below {self.below:g} cells/uL"
        if answer is None:
            return (
                f"no {kind} of those looked at ({say(table[what].min())} to "
                f"{say(table[what].max())}) keeps a share of {wanted} from "
                f"{format_time(self.induction)} to {format_time(self.until)}; the best is "
                f"{say(best[what])} ({share})"
            )
        adjective = {"interval": "longest", "amount": "smallest", "n_doses": "fewest"}[what]
        said = (
            f"{adjective} {kind} that keeps a share of {wanted} from {format_time(self.induction)} "
            f"to {format_time(self.until)}: {say(answer)} ({share})"
        )
        edge = table[what].max() if largest else table[what].min()
        if answer == edge:
            said += f"; it is the {'largest' if largest else 'smallest'} that was looked at"
        inner = table[what] < answer if largest else table[what] > answer
        failing = table[inner & ~table["reaches"]][what]
        if len(failing):
            said += f"; not every candidate on its safe side does ({say(failing.iloc[0])} does not)"
        return said


def _edges(table, what, largest):
    """Return the best value that reaches the probability, and the one beyond it; None if none."""
    reaching = table[table["reaches"]][what]
    if not len(reaching):
        return None, None
    answer = reaching.max() if largest else reaching.min()
    beyond = table[what][table[what] > answer] if largest else table[what][table[what] < answer]
    if not len(beyond):
        return answer, None
    return answer, (beyond.min() if largest else beyond.max())


def _joined(table, more, what):
    import pandas as pd

    both = pd.concat([table, more]).sort_values(what, ignore_index=True)
    both.attrs = dict(table.attrs)
    return both
