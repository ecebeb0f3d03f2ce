"""When the count crosses, and the latest day to dose again.

A day is kept in a draw when the count is at or below the threshold at all times from now (or from
when the window opens) to the nadir after a dose given on that day. The count follows the undosed
course up to that day, so that no day is kept on which it has crossed already: the search begins at
the last day that enough draws reach, and goes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bcellsim.engine import Tally
from bcellsim.redose.case import Case
from bcellsim.simulate import solve_regimen

if TYPE_CHECKING:
    import pandas as pd

#: The nadir is looked for so long after a dose [day]: half a year. A count that falls until then
#: has been at or below the threshold all that time.
NADIR_WITHIN = 182.0
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SAME = 1e-6  # a nadir so close to the dose is the count on which it was given [day]
_Z95 = 1.96
_NO_TIMES = np.empty(0)


class Latest(NamedTuple):
    """The latest day to dose again.

    Parameters
    ----------
    status : str
        ``"found"``, ``"now"`` (above already), ``"no need"`` (before the horizon) or ``"none"`` (no
        day reaches the probability).
    day : float
        The day, from now; of ``"none"`` the latest of the best days, of ``"no need"`` NaN.
    share : float
        Share of the draws in which it is kept.
    error : float
        Monte-Carlo standard error of the share.
    low, high : float
        Where the day may lie by that error (95 %), by the times of crossing; NaN without one.
    looked_at : DataFrame
        The days looked at: days_from_now, share, mc_se.
    """

    status: str
    day: float
    share: float
    error: float
    low: float
    high: float
    looked_at: pd.DataFrame


def crossings(case: Case) -> np.ndarray:
    """Return when the count of each draw crosses without a further dose, from now [day].

    When the window opens where it is above then; infinite where it does not by the horizon.
    """
    return case.opens + case.outcome(None).values["time_to_escape"]


def quantiles(days: np.ndarray) -> dict[str, float]:
    """Return quantiles of days of which some may be infinite."""
    found = np.quantile(days, QUANTILES, method="inverted_cdf")
    return {f"p{100 * q:.0f}": float(day) for q, day in zip(QUANTILES, found, strict=True)}


def kept(case: Case, day: float) -> np.ndarray:
    """Return in which draws a dose so long after now keeps the count down to its nadir (n,)."""
    at, opens = case.clock + day, case.clock + case.opens
    length = max(day, case.opens) + NADIR_WITHIN
    end = case.clock + length
    below = Tally("below", "bcell", opens, end, case.level)
    lowest = Tally("lowest", "bcell", at, end)
    plan = case.given_on(day)
    regimen, people = case.regimen(plan, length), case.people_on(plan)
    found = solve_regimen(
        regimen, people, _NO_TIMES, until=end, outputs=(), tallies=(below, lowest),
        threads=case.threads, backend="compiled",
    )  # fmt: skip
    first, escape = found.tally(below).T
    nadir = found.tally(lowest)[:, 1].copy()
    unclear = np.flatnonzero((nadir <= at + _SAME) & (escape > at) & np.isfinite(escape))
    if len(unclear):
        nadir[unclear] = _nadirs(case, regimen, people.part(unclear), at, end)
    return (first <= opens + _SAME) & (escape > nadir)


def _nadirs(case, regimen, people, at, end):
    """Return when the count of some draws, lowest at the dose, is lowest after turning round.

    A dose may bring a rising count down, but not as low as it was when given.
    """
    times = np.linspace(at, end, int(2 * (end - at)) + 1)
    found = solve_regimen(regimen, people, times, until=end, threads=case.threads,
                          outputs=("bcell",), backend="compiled").values[:, :, 0]  # fmt: skip
    falls = np.diff(found, axis=1) < 0.0
    top = np.where(falls.any(axis=1), falls.argmax(axis=1), -1)
    nadirs = np.full(len(people), at)
    for i in np.flatnonzero(top >= 0):
        rises = np.flatnonzero(~falls[i, top[i] :])
        nadirs[i] = times[top[i] + rises[0]] if len(rises) else end
    return nadirs


def latest(case: Case, crossed: np.ndarray, *, above: bool) -> Latest:
    """Return the latest day to dose again.

    Parameters
    ----------
    case : Case
        The patient and what is wanted.
    crossed : float array (n,)
        Result of `crossings`.
    above : bool
        Whether the count is above the threshold now.
    """
    import pandas as pd

    p, shares = case.probability, {}

    def share(day):
        if day not in shares:
            shares[day] = float(kept(case, day).mean())
        return shares[day]

    def answer(status, day, low=np.nan, high=np.nan):
        at = share(day) if np.isfinite(day) else float(np.mean(np.isinf(crossed)))
        rows = [(d, s, case.error(s)) for d, s in sorted(shares.items())]
        table = pd.DataFrame(rows, columns=["days_from_now", "share", "mc_se"])
        return Latest(status, day, at, case.error(at), low, high, table)

    first = float(np.ceil(case.opens))
    if above:
        return answer("now", first if case.first else 0.0)
    if np.mean(np.isinf(crossed)) >= p:
        return answer("no need", np.nan)
    best = share(first)
    reached = p if best >= p else best
    last = max(_last_day(crossed, reached, case.until), first)
    day = _largest(share, first, last, reached)
    if best < p:
        return answer("none", day)
    spread = _Z95 * case.error(p)
    low, high = (
        max(day + _last_day(crossed, q, case.until) - last, first)
        for q in (min(p + spread, 1.0), p - spread)
    )
    return answer("found", day, low, high)


def _last_day(crossed, share, until):
    """Return the last whole day by which at least a share of the draws has not crossed."""
    ordered = np.sort(crossed)[::-1]
    day = ordered[max(int(np.ceil(share * len(ordered) - 1e-9)), 1) - 1]
    return float(np.floor(min(day, until)))


def _largest(share, first, last, wanted):
    """Return the largest whole day with a wanted share: back in doubling steps, then by halves."""
    failing, step, day = last + 1.0, 1.0, last
    while day > first and share(day) < wanted:
        failing, day, step = day, max(day - step, first), 2.0 * step
    while failing - day > 1.0:
        middle = float(np.floor(0.5 * (day + failing)))
        if share(middle) >= wanted:
            day = middle
        else:
            failing = middle
    return day
