"""What a rule did with each subject: visits, decisions and doses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.engine import Events, Solution
from bcellsim.engine import events as ev
from bcellsim.population import Population
from bcellsim.rule import DosingRule
from bcellsim.simulate import solve_events

if TYPE_CHECKING:
    import pandas as pd

#: Why a visit ends as it does; the position is the code.
REASONS = (
    "at or above the trigger", "below the trigger", "visit missed", "minimum gap",
    "maximum number of doses", "dose would fall after the horizon",
)  # fmt: skip
DOSE, BELOW, MISSED, GAP, MAXIMUM, LATE = range(6)


@dataclass(frozen=True, eq=False)
class Doses:
    """Doses of many subjects, a row each, in the order in which they were decided.

    Parameters
    ----------
    subject : int array (n_doses,)
        Position of the subject.
    time : float array (n_doses,)
        Day.
    amount : float array (n_doses,)
        Amount [mg].
    ordered : bool array (n_doses,)
        Whether the rule gave it; else it is of the loading.
    rows : tuple of array
        The engine's rows: subject, time, kind, index, value, scale.
    """

    subject: np.ndarray
    time: np.ndarray
    amount: np.ndarray
    ordered: np.ndarray
    rows: tuple[np.ndarray, ...]

    @classmethod
    def joined(cls, parts: list[Doses]) -> Doses:
        """Return all doses of several tables."""
        columns = zip(*([*vars(part).values()][:4] for part in parts), strict=True)
        rows = zip(*(part.rows for part in parts), strict=True)
        return cls(*map(np.concatenate, columns), tuple(map(np.concatenate, rows)))


@dataclass(frozen=True, eq=False)
class Followed:
    """What a rule did with each subject.

    Parameters
    ----------
    rule : DosingRule
        The rule.
    people : Population
        The subjects.
    visits : float array (n_visits,)
        Days of the visits.
    measured : float array (n_subjects, n_visits)
        Value measured; NaN where the visit was missed.
    reasons : int array (n_subjects, n_visits)
        Position in `REASONS`.
    moments : float array (n_moments,)
        Days on which there was a visit or could be a dose.
    before : dict of str to float array (n_subjects, n_moments)
        Outputs just before these.
    doses : Doses
        The doses given.
    seed : int
        Seed of what was left to chance.
    """

    rule: DosingRule
    people: Population
    visits: np.ndarray
    measured: np.ndarray
    reasons: np.ndarray
    moments: np.ndarray
    before: dict[str, np.ndarray]
    doses: Doses
    seed: int

    def n_doses(self) -> np.ndarray:
        """Return the number of doses of each subject (n_subjects,)."""
        return np.bincount(self.doses.subject, minlength=len(self.people))

    def cumulative_dose(self) -> np.ndarray:
        """Return the sum of each subject's doses [mg] (n_subjects,)."""
        return np.bincount(self.doses.subject, self.doses.amount, len(self.people))

    def n_visits(self) -> np.ndarray:
        """Return on how many days each subject came: visits not missed, and doses between them."""
        came = np.zeros((len(self.people), len(self.moments)), dtype=bool)
        came[:, np.searchsorted(self.moments, self.visits)] = self.reasons != MISSED
        came[self.doses.subject, np.searchsorted(self.moments, self.doses.time)] = True
        return came.sum(axis=1)

    def dose_times(self) -> np.ndarray:
        """Return each subject's doses [day], ascending, then NaN (n_subjects, n_doses)."""
        return self._by_subject(self.doses.time)

    def dose_amounts(self) -> np.ndarray:
        """Return the amounts of the doses of `dose_times` [mg]."""
        return self._by_subject(self.doses.amount)

    def before_doses(self, output: str) -> np.ndarray:
        """Return an output just before each dose of `dose_times`."""
        column = np.searchsorted(self.moments, self.doses.time)
        return self._by_subject(self.before[output][self.doses.subject, column])

    def _by_subject(self, values):
        doses, counts = self.doses, self.n_doses()
        order = np.lexsort((doses.time, doses.subject))
        place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        table = np.full((len(counts), counts.max(initial=0)), np.nan)
        table[doses.subject[order], place] = values[order]
        return table

    def events(self, until: float) -> Events:
        """Return the doses as a fixed schedule of each subject, those that arrive by `until`.

        Each begins on the first day planned, a subject's that is never dosed too.
        """
        n, rows = len(self.people), self.doses.rows
        arrived = rows[1] <= until
        begin = saved_rows(n, self.rule.first_dose)
        columns = [np.append(a, b[arrived]) for a, b in zip(begin, rows, strict=True)]
        clock = np.full(n, np.inf)
        np.minimum.at(clock, self.doses.subject, self.doses.time)
        return Events.of_subjects(n, columns[0], tuple(columns[1:]), clock)

    def solve(self, times: np.ndarray, *, until: float, **options) -> Solution:
        """Solve the fixed schedules; `options` are those of `bcellsim.engine.solve`."""
        return solve_events(self.people, self.events(until), times, until=until, **options)

    def ledger(self) -> pd.DataFrame:
        """Return a row a dose: subject, dose, day, amount [mg], route, given_by."""
        import pandas as pd

        doses, counts = self.doses, self.n_doses()
        order = np.lexsort((doses.time, doses.subject))
        number = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        ordered = doses.ordered[order]
        return pd.DataFrame(
            {
                "subject": self.people.subjects[doses.subject[order]],
                "dose": number,
                "day": doses.time[order],
                "amount": doses.amount[order],
                "route": self.rule.event.route,
                "given_by": np.where(ordered, "rule", "loading"),
            }
        )

    def decisions(self) -> pd.DataFrame:
        """Return a row a visit: what was measured, whether the rule fired, and what was done."""
        import pandas as pd

        n, n_visits = self.measured.shape
        count = self.before[self.rule.output][:, np.searchsorted(self.moments, self.visits)]
        reasons = self.reasons.ravel()
        dosed = reasons == DOSE
        day = np.tile(self.visits, n)
        return pd.DataFrame(
            {
                "subject": np.repeat(self.people.subjects, n_visits),
                "visit": np.tile(np.arange(1, n_visits + 1), n),
                "day": day,
                "simulated": count.ravel(),
                "measured": self.measured.ravel(),
                "below_lloq": self.measured.ravel() < self.rule.lloq,
                "fired": ~np.isin(reasons, (BELOW, MISSED)),
                "action": np.where(dosed, "dose", "none"),
                "dose_day": np.where(dosed, day + self.rule.delay, np.nan),
                "reason": np.array(REASONS)[reasons],
            }
        )


def saved_rows(n, day):
    """Return the engine's rows that keep the states of every subject on a day."""
    whole = np.zeros(n, dtype=int)
    return np.arange(n), np.full(n, day), whole + ev.SAVE, whole, np.zeros(n), whole - 1
