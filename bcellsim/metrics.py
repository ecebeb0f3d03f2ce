"""Metrics: named numbers of one trajectory, from the solver's continuous solution.

Definitions: suppressed in a window means at or below the threshold at every moment of it; the
window opens `induction` after the first dose. Crossings are roots of the solution's polynomial, not
of an output grid. What is not reached is infinite, and has no value where it is not defined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bcellsim.engine import Trajectories, evaluate


@dataclass(frozen=True)
class Question:
    """What the metrics are asked about: threshold, window and doses.

    Parameters
    ----------
    threshold, recovery : float
        Levels of the count [cells/uL].
    opens, closes : float
        The window [day].
    doses : float array
        Times of the doses [day].
    follow_up : float
        Time simulated after the window without doses, for the time to repletion [day].
    """

    threshold: float
    recovery: float
    opens: float
    closes: float
    doses: np.ndarray
    follow_up: float = 0.0


@dataclass(frozen=True)
class Metric:
    """A named number of a trajectory, its unit, and whether less or more of it is wanted."""

    name: str
    unit: str
    goal: str | None
    output: str
    function: Callable[[Trajectories, Question], np.ndarray]

    def __call__(self, trajectories: Trajectories, question: Question) -> np.ndarray:
        """Return the metric of each subject (n_subjects,)."""
        return self.function(trajectories, question)


#: Every metric by name, in the order of tables.
METRICS: dict[str, Metric] = {}


def metric(*, unit: str, goal: str | None = None, output: str = "bcell"):
    """Register a function of (Trajectories, Question) as a metric of an output."""

    def register(function):
        METRICS[function.__name__] = Metric(function.__name__, unit, goal, output, function)
        return function

    return register


@metric(unit="", goal="max")
def suppressed_throughout(trajectories: Trajectories, question: Question) -> np.ndarray:
    """Return 1 where the count is at or below the threshold all through the window, else 0."""
    highest, _ = trajectories.within(question.opens, question.closes).highest
    return (highest <= question.threshold).astype(np.float64)


@metric(unit="day", goal="min")
def days_above(trajectories: Trajectories, question: Question) -> np.ndarray:
    """Return the time above the threshold in the window [day]."""
    return trajectories.within(question.opens, question.closes).days_above(question.threshold)


@metric(unit="", goal="max")
def suppressed_fraction(trajectories: Trajectories, question: Question) -> np.ndarray:
    """Return the share of the window's time at or below the threshold."""
    share = 1.0 - days_above(trajectories, question) / (question.closes - question.opens)
    return np.clip(share, 0.0, 1.0)


@metric(unit="day", goal="min")
def time_to_depletion(trajectories: Trajectories, question: Question) -> np.ndarray:
    """Return the time from the first dose to the first downward crossing of the threshold [day]."""
    if not len(question.doses):
        return np.full(trajectories.n_subjects, np.inf)
    first = question.doses[0]
    return _at_or_below(trajectories, question.threshold, first, question.closes) - first


@metric(unit="day", goal="max")
def time_to_repletion(trajectories: Trajectories, question: Question) -> np.ndarray:
    """Return the time from the last dose to the return above the recovery level [day].

    The return counts after the count has been below the level following that dose; never below:
    NaN. Not returned by the end of the follow-up: infinite.
    """
    if not len(question.doses):
        return np.full(trajectories.n_subjects, np.nan)
    last, end = question.doses[-1], question.closes + question.follow_up
    below = _at_or_below(trajectories, question.recovery, last, end)
    crossings = trajectories.within(last, end).crossings(question.recovery)
    returned = crossings.first(trajectories.n_subjects, rising=True, after=below)
    return np.where(np.isfinite(below), returned - last, np.nan)


def _at_or_below(trajectories, level, begin, end):
    """Return the first time at or below a level from `begin` on; inf if none by `end`."""
    pieces = trajectories.within(begin, end)
    found = pieces.crossings(level).first(
        trajectories.n_subjects, rising=False, after=np.full(trajectories.n_subjects, begin)
    )
    subject, first = np.unique(pieces.subject, return_index=True)
    opening = pieces.some(first)
    at_start = evaluate(opening.powers(), opening.low) <= level
    found[subject[at_start]] = begin
    return found


@metric(unit="cells/uL", goal="min")
def nadir(trajectories: Trajectories, question: Question) -> np.ndarray:
    """Return the lowest count from the first dose to the end of the window [cells/uL]."""
    return _lowest(trajectories, question)[0]


@metric(unit="day")
def time_of_nadir(trajectories: Trajectories, question: Question) -> np.ndarray:
    """Return the time of the lowest count, from the first dose [day]."""
    first = question.doses[0] if len(question.doses) else 0.0
    return _lowest(trajectories, question)[1] - first


def _lowest(trajectories, question):
    first = question.doses[0] if len(question.doses) else 0.0
    return trajectories.within(first, question.closes).lowest


@metric(unit="mg/L*day", output="conc")
def auc(trajectories: Trajectories, question: Question) -> np.ndarray:
    """Return the area under the total concentration to the end of the window [mg/L*day]."""
    return trajectories.within(-np.inf, question.closes).integral()


@metric(unit="mg/L", output="conc")
def c_max(trajectories: Trajectories, question: Question) -> np.ndarray:
    """Return the highest total concentration to the end of the window [mg/L]."""
    return trajectories.within(-np.inf, question.closes).highest[0]


@metric(unit="mg/L", output="conc")
def c_trough(trajectories: Trajectories, question: Question) -> np.ndarray:
    """Return the lowest total concentration just before a dose in the window [mg/L].

    The first dose has nothing before it; NaN without another dose in the window.
    """
    inside = (question.doses >= question.opens) & (question.doses <= question.closes)
    given = question.doses[inside & (question.doses > question.doses[:1])]
    if not len(given):
        return np.full(trajectories.n_subjects, np.nan)
    return trajectories.before(given).min(axis=1)


def measure(courses: dict[str, Trajectories], question: Question) -> dict[str, np.ndarray]:
    """Return every metric that the outputs at hand allow, each (n_subjects,)."""
    return {
        name: metric(courses[metric.output], question)
        for name, metric in METRICS.items()
        if metric.output in courses
    }
