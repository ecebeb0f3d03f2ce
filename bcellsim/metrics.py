"""Metrics: named numbers of one trajectory, accumulated by the engine on its continuous solution.

Definitions: suppressed in a window means at or below the threshold at every moment of it; the
window opens `induction` after the first dose. Crossings are roots of the solution's polynomial, not
of an output grid. What is not reached is infinite, and has no value where it is not defined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bcellsim.engine import Tally


@dataclass(frozen=True)
class Question:
    """What the metrics are asked about: threshold, window and doses.

    Parameters
    ----------
    threshold, recovery : float
        Levels of the count [cells/uL].
    opens, closes : float
        The window [day].
    doses : float array (n_doses,) or (n_subjects, n_doses)
        Times of the doses [day], ascending: of all, or of each subject, then NaN at the end.
    follow_up : float
        Time simulated after the window without doses, for the time to repletion [day].
    """

    threshold: float
    recovery: float
    opens: float
    closes: float
    doses: np.ndarray
    follow_up: float = 0.0

    @property
    def first_dose(self) -> np.ndarray:
        """Return the day of the first dose, () or (n_subjects,); NaN without."""
        return self._edge(0)

    @property
    def last_dose(self) -> np.ndarray:
        """Return the day of the last dose, () or (n_subjects,); NaN without."""
        given = np.isfinite(self.doses).sum(axis=-1)
        return self._edge(np.maximum(given - 1, 0))

    def _edge(self, which):
        if not self.doses.shape[-1]:
            return np.full(self.doses.shape[:-1], np.nan)
        which = np.broadcast_to(which, self.doses.shape[:-1])
        return np.take_along_axis(self.doses, which[..., None], axis=-1)[..., 0]

    def followed(self) -> dict[str, np.ndarray]:
        """Return when each time to an event is censored, on the clock of that time [day]."""
        return {
            "time_to_depletion": self.closes - self.first_dose,
            "time_to_repletion": self.closes + self.follow_up - self.last_dose,
            "time_to_escape": np.asarray(self.closes - self.opens),
        }


class Metric(NamedTuple):
    """A named number of a trajectory, its unit, and whether less or more of it is wanted.

    `ask` says, for a question, which tally of the output it needs (None: none) and how its value
    follows from the tally's two numbers (n_subjects, 2).
    """

    name: str
    unit: str
    goal: str | None
    output: str
    ask: Callable[[Question], tuple[Tally | None, Callable[[np.ndarray], np.ndarray]]]


# Rounding of a time within a step [day].
_SAME_TIME = 1e-9

#: Every metric by name, in the order of tables.
METRICS: dict[str, Metric] = {}


def metric(*, unit: str, goal: str | None = None, output: str = "bcell"):
    """Register a function of a question as a metric of an output."""

    def register(function):
        METRICS[function.__name__] = Metric(function.__name__, unit, goal, output, function)
        return function

    return register


def _chosen(outputs, names):
    """Return the metrics of some outputs: all, or those named."""
    names = METRICS if names is None else names
    return [m for m in METRICS.values() if m.output in outputs and m.name in names]


def tallies(
    question: Question, outputs: Iterable[str], names: Iterable[str] | None = None
) -> list[Tally]:
    """Return the tallies that the metrics of some outputs need: all of them, or those named."""
    asked = (metric.ask(question)[0] for metric in _chosen(outputs, names))
    return list(dict.fromkeys(tally for tally in asked if tally is not None))


def measure(
    tally: Callable[[Tally], np.ndarray],
    question: Question,
    outputs: Iterable[str],
    n_subjects: int,
    names: Iterable[str] | None = None,
) -> dict[str, np.ndarray]:
    """Return the metrics of some outputs, each (n_subjects,).

    Parameters
    ----------
    tally : callable
        Gives the two numbers of a tally (n_subjects, 2): `Solution.tally`, or that of recorded
        trajectories.
    question : Question
        Threshold, window and doses.
    outputs : iterable of str
        The outputs at hand.
    n_subjects : int
        The number of subjects.
    names : iterable of str, optional
        The metrics wanted; all by default.
    """
    found = {}
    for metric in _chosen(outputs, names):
        asked, value = metric.ask(question)
        nothing = np.full((n_subjects, 2), np.nan)
        found[metric.name] = value(nothing if asked is None else tally(asked))
    return found


def _above(question):
    return Tally("above", "bcell", question.opens, question.closes, question.threshold)


def _lowest(question):
    return Tally("lowest", "bcell", _from(question.first_dose), question.closes)


def _from(day):
    """Return when a tally opens: a day, or that of each subject; 0 where there is none."""
    day = np.nan_to_num(day)
    return tuple(day.tolist()) if day.ndim else float(day)


@metric(unit="", goal="max")
def suppressed_throughout(question: Question):
    """Ask for 1 where the count is at or below the threshold all through the window, else 0."""
    return _above(question), lambda found: np.where(found[:, 1] > 0.0, 0.0, 1.0)


@metric(unit="day", goal="min")
def days_above(question: Question):
    """Ask for the time above the threshold in the window [day]."""
    return _above(question), lambda found: found[:, 0]


@metric(unit="", goal="max")
def suppressed_fraction(question: Question):
    """Ask for the share of the window's time at or below the threshold."""
    length = question.closes - question.opens
    return _above(question), lambda found: np.clip(1.0 - found[:, 0] / length, 0.0, 1.0)


@metric(unit="day", goal="min")
def time_to_depletion(question: Question):
    """Ask for the time from the first dose to the first crossing below the threshold [day]."""
    first = question.first_dose
    asked = Tally("below", "bcell", _from(first), question.closes, question.threshold)
    return asked, lambda found: np.where(np.isnan(first), np.inf, found[:, 0] - first)


@metric(unit="day", goal="max")
def time_to_repletion(question: Question):
    """Ask for the time from the last dose to the return above the recovery level [day].

    The return counts after the count has been below the level following that dose; never below:
    NaN. Not returned by the end of the follow-up: infinite.
    """
    last, end = question.last_dose, question.closes + question.follow_up
    asked = Tally("below", "bcell", _from(last), end, question.recovery)
    return asked, lambda found: np.where(np.isfinite(found[:, 0]), found[:, 1] - last, np.nan)


@metric(unit="day", goal="max")
def time_to_escape(question: Question):
    """Ask for the time from the opening of the window to the first count above the threshold [day].

    0 where it is above already; infinite where it is suppressed throughout.
    """
    opens = question.opens
    asked = Tally("below", "bcell", opens, question.closes, question.threshold)

    def value(found):
        # A later first time at or below means that the count was above at the opening.
        return np.where(found[:, 0] > opens + _SAME_TIME, 0.0, found[:, 1] - opens)

    return asked, value


@metric(unit="cells/uL", goal="min")
def nadir(question: Question):
    """Ask for the lowest count from the first dose to the end of the window [cells/uL]."""
    return _lowest(question), lambda found: found[:, 0]


@metric(unit="day")
def time_of_nadir(question: Question):
    """Ask for the time of the lowest count, from the first dose [day]."""
    return _lowest(question), lambda found: found[:, 1] - np.nan_to_num(question.first_dose)


@metric(unit="mg/L*day", output="conc")
def auc(question: Question):
    """Ask for the area under the total concentration to the end of the window [mg/L*day]."""
    return Tally("integral", "conc", closes=question.closes), lambda found: found[:, 0]


@metric(unit="mg/L", output="conc")
def c_max(question: Question):
    """Ask for the highest total concentration to the end of the window [mg/L]."""
    return Tally("highest", "conc", closes=question.closes), lambda found: found[:, 0]


@metric(unit="mg/L", output="conc")
def c_trough(question: Question):
    """Ask for the lowest total concentration just before a dose in the window [mg/L].

    The first dose has nothing before it; NaN without another dose in the window, and where each
    subject has doses of its own (the engine marks the same times for all).
    """
    if question.doses.ndim > 1:
        return None, lambda found: found[:, 0]
    inside = (question.doses >= question.opens) & (question.doses <= question.closes)
    given = question.doses[inside & (question.doses > question.doses[:1])]
    asked = Tally("marked", "conc", marks=tuple(given.tolist())) if len(given) else None
    return asked, lambda found: found[:, 0]
