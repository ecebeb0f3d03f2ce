"""Outcomes of one schedule: the metrics of every subject, solved in chunks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

from bcellsim.adaptive import Followed, follow
from bcellsim.covariates import amounts
from bcellsim.engine import Solution
from bcellsim.metrics import METRICS, Question, measure, tallies
from bcellsim.model import Model
from bcellsim.population import Population
from bcellsim.regimen import Regimen
from bcellsim.rule import DosingRule
from bcellsim.simulate import counting, solve_regimen
from bcellsim.units import days, quantity

#: Subjects solved at a time, which bounds the memory.
_CHUNK = 50_000
_NO_TIMES = np.empty(0)
#: Of the subjects, the share suppressed without a dose from which the user is told.
_WORTH_SAYING = 0.05


@dataclass(frozen=True)
class Span:
    """Horizon, induction and follow-up [day].

    Raises
    ------
    ValueError
        If induction or follow-up is negative.
    """

    until: float
    induction: float
    follow_up: float

    @classmethod
    def of(cls, until, induction, follow_up) -> Span:
        """Read them as given by the user."""
        return cls(days(until, "until"), days(induction, "induction"), days(follow_up, "follow_up"))

    def __post_init__(self):
        if self.induction < 0 or self.follow_up < 0:
            raise ValueError("induction and follow_up must not be negative")

    def check(self, plan: Regimen | DosingRule) -> None:
        """Raise ValueError if a schedule does not fit the horizon."""
        first = plan.first_dose
        if first is None or first >= self.until:
            raise ValueError(f"regimen {plan.name} has no dose before until = {self.until:g} d")
        if isinstance(plan, DosingRule):
            plan.check_horizon(self.until)
        else:
            for event in plan.events:
                if event.kind == "dose" and event.every and event.every > self.until:
                    raise ValueError(
                        f"regimen {plan.name}: the interval of {event.every:g} d is longer than "
                        f"the horizon, until = {self.until:g} d; give a later until"
                    )
        if first + self.induction >= self.until:
            raise ValueError(
                f"the window of {plan.name} is empty: it opens at {first + self.induction:g} d "
                f"(first dose + induction) and until = {self.until:g} d"
            )

    def question(self, plan, threshold, recovery, given) -> Question:
        """Return what is asked of a schedule whose doses fall at `given`."""
        opens = plan.first_dose + self.induction
        return Question(threshold, recovery, opens, self.until, given, self.follow_up)


def thresholds(given: float | str | Sequence[float], what: str = "below") -> list[float]:
    """Read one or several levels of the count [cells/uL]; `what` names them in messages.

    Raises
    ------
    ValueError
        If there is none, or one is not a finite number above 0.
    """
    if given is None:
        raise ValueError(f"{what}: give a threshold [cells/uL]")
    given = [given] if isinstance(given, (str, Real)) else list(given)
    levels = [quantity(value, "cells/uL", what=what) for value in given]
    if not levels:
        raise ValueError(f"{what}: give a threshold [cells/uL]")
    for value in levels:
        if value <= 0:
            raise ValueError(f"{what} = {value:g}: a threshold above 0 cells/uL is wanted")
    return levels


def one_level(given: float | str, what: str) -> float:
    """Read one level of the count [cells/uL]; raise ValueError if there are several."""
    levels = thresholds(given, what)
    if len(levels) > 1:
        raise ValueError(f"{what}: one level is wanted")
    return levels[0]


def warn_if_suppressed(people: Population, levels: Sequence[float]) -> None:
    """Warn where a threshold is not below the baseline: without a dose subjects are suppressed."""
    names = people.model.structure.parameters
    if "b0" not in names:
        return
    baseline = people.parameters[..., names.index("b0")].reshape(len(people), -1)[:, 0]
    for level in levels:
        share = np.mean(baseline <= level)
        if share >= _WORTH_SAYING:
            warnings.warn(
                f"below = {level:g} cells/uL is at or above the baseline count of {share:.0%} of "
                f"the subjects of {people.model.name} (median {np.median(baseline):.4g} "
                "cells/uL): they are suppressed already, without a dose",
                stacklevel=4,
            )


@dataclass(frozen=True)
class Outcome:
    """What one schedule does to the subjects, for one threshold.

    Parameters
    ----------
    model : Model
        The model.
    plan : Regimen or DosingRule
        The schedule.
    people : Population
        The subjects.
    question : Question
        Threshold, recovery level, window and doses.
    values : dict of str to float array (n_subjects,)
        Metrics by name.
    dosing : dict of str to array (n_subjects,)
        ``n_doses``, ``cumulative_dose`` [mg], ``n_visits``.
    status : int array (n_subjects,)
        A key of `bcellsim.engine.STATUS`; where it is not 0 the metrics are NaN.
    """

    model: Model
    plan: Regimen | DosingRule
    people: Population
    question: Question
    values: dict[str, np.ndarray]
    dosing: dict[str, np.ndarray] = field(default_factory=dict)
    status: np.ndarray | None = None


def outcomes(
    plan: Regimen | DosingRule,
    people: Population,
    levels: Sequence[float],
    recovery: float | None,
    span: Span,
    *,
    seed: int = 0,
    names: Sequence[str] | None = None,
    on_failure: str = "raise",
    threads: int | None = None,
    progress=None,
) -> list[Outcome]:
    """Return the outcomes of a schedule for every threshold.

    Parameters
    ----------
    plan : Regimen or DosingRule
        The schedule.
    people : Population
        The subjects.
    levels : sequence of float
        Thresholds [cells/uL].
    recovery : float or None
        Recovery level [cells/uL]; the threshold by default.
    span : Span
        Horizon, induction, follow-up.
    seed : int
        Seed of what a rule leaves to chance.
    names : sequence of str, optional
        The metrics wanted; all by default.
    on_failure : str
        ``"raise"``, or ``"mark"``: NaN where a subject could not be solved, with its status.
    threads, progress
        As for `bcellsim.engine.solve`.
    """
    parts = []
    for first in range(0, len(people), _CHUNK):
        part = people.part(slice(first, first + _CHUNK))
        done = counting(progress, first, len(people))
        solve = _follow if isinstance(plan, DosingRule) else _solve
        parts.append(
            solve(
                plan, part, levels, recovery, span, seed, names,
                on_failure=on_failure, threads=threads, progress=done,
            )
        )  # fmt: skip
    return [_joined(plan, people, pieces) for pieces in zip(*parts, strict=True)]


def _solve(plan, people, levels, recovery, span, seed, names, **options):
    """Return question, metrics, dosing and status of a fixed schedule for each threshold."""
    given = np.array([event.time for event in plan.doses(span.until)])
    n = len(people)
    dosing = {
        "n_doses": np.full(n, len(given)),
        "cumulative_dose": amounts(plan.doses(span.until), people.covariates, n).sum(axis=1),
        "n_visits": np.full(n, len(np.unique(given))),
    }

    def solve(**wanted):
        return solve_regimen(plan, people, _NO_TIMES, doses_until=span.until, **wanted, **options)

    questions = [span.question(plan, level, recovery or level, given) for level in levels]
    return [(*found, dosing, status) for *found, status in answers(questions, people, solve, names)]


def _follow(rule, people, levels, recovery, span, seed, names, *, threads, **options):
    """Return question, metrics, dosing and status of a rule for each threshold."""
    followed = follow(rule, people, until=span.until, seed=seed, threads=threads)
    given = followed.dose_times()
    dosing = {
        "n_doses": followed.n_doses(),
        "cumulative_dose": followed.cumulative_dose(),
        "n_visits": followed.n_visits(),
    }

    def solve(**wanted):
        return followed.solve(_NO_TIMES, threads=threads, **wanted, **options)

    questions = [span.question(rule, level, recovery or level, given) for level in levels]
    found = []
    for question, values, status in answers(questions, people, solve, names):
        if "c_trough" in values:
            values["c_trough"] = _trough(followed, question)
        found.append((question, values, dosing, status))
    return found


def answers(
    questions: Sequence[Question],
    people: Population,
    solve: Callable[..., Solution],
    names: Sequence[str] | None = None,
) -> list[tuple[Question, dict[str, np.ndarray], np.ndarray]]:
    """Return each question with its metrics and the status of the subjects, in one solution.

    Parameters
    ----------
    questions : sequence of Question
        Questions about one schedule, that differ in their levels.
    people : Population
        The subjects.
    solve : callable
        Takes ``until``, ``outputs``, ``tallies`` and ``backend`` of `bcellsim.engine.solve`.
    names : sequence of str, optional
        The metrics wanted; all by default.
    """
    outputs = {metric.output for metric in METRICS.values()} & set(people.model.structure.outputs)
    asked = (tally for question in questions for tally in tallies(question, outputs, names))
    until = questions[0].closes + questions[0].follow_up
    solution = solve(
        until=until, outputs=(), tallies=tuple(dict.fromkeys(asked)), backend="compiled"
    )
    failed, found = solution.status != 0, []
    for question in questions:
        values = measure(solution.tally, question, outputs, len(people), names)
        if failed.any():
            values = {name: np.where(failed, np.nan, value) for name, value in values.items()}
        found.append((question, values, solution.status))
    return found


def _trough(followed: Followed, question):
    """Return the lowest concentration just before a dose in the window, but for the first."""
    seen = followed.before_doses("conc")
    first = question.first_dose[:, None]
    inside = (question.doses >= question.opens) & (question.doses > first)
    inside &= question.doses <= question.closes
    lowest = np.where(inside, seen, np.inf).min(axis=1, initial=np.inf)
    return np.where(np.isfinite(lowest), lowest, np.nan)


def _joined(plan, people, pieces):
    """Return the outcome of all subjects from those of the chunks."""
    questions, values, dosing, status = zip(*pieces, strict=True)
    question = questions[0]
    if question.doses.ndim > 1 and len(pieces) > 1:
        question = Question(
            question.threshold, question.recovery, question.opens, question.closes,
            _stacked([q.doses for q in questions]), question.follow_up,
        )  # fmt: skip
    return Outcome(
        people.model, plan, people, question, _concatenated(values), _concatenated(dosing),
        np.concatenate(status),
    )  # fmt: skip


def _concatenated(parts):
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _stacked(tables):
    """Stack tables of doses, the narrower ones filled up with NaN."""
    width = max(table.shape[1] for table in tables)
    pad = [np.full((len(t), width - t.shape[1]), np.nan) for t in tables]
    return np.concatenate([np.hstack(pair) for pair in zip(tables, pad, strict=True)])
