"""Events as arrays: what the backends integrate between."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bcellsim.structures import Structure

#: Add `value` (times the scaling parameter) to a state [mg].
DOSE = 0
#: Set the rate of infusion into a state [mg/day] (times the scaling parameter); 0 ends it.
RATE = 1
#: Multiply a state by `value`.
MULTIPLY = 2
#: Set a parameter to `value` times its own value for this subject.
FACTOR = 3
#: Return every state to baseline and end all infusions.
RESET = 4
#: Take the subject's parameters of occasion `index` from now on; factors in force stay.
OCCASION = 5
#: Save the states under number `index`, as they are before later events of the same moment.
SAVE = 6
#: Let tally number `index` see the output number `value` of this moment.
MARK = 7


@dataclass(frozen=True)
class Events:
    """Schedules of events, and which subject follows which.

    Parameters
    ----------
    start : int array (n_schedules + 1,)
        Where each schedule begins in the arrays below.
    time : float array (n_events,)
        Day of each event, non-decreasing within a schedule; at equal times the order given holds.
    kind, index : int array (n_events,)
        What happens (`DOSE` ... `RESET`) and to which state or parameter.
    value : float array (n_events,)
        Amount, rate or factor.
    scale : int array (n_events,)
        Parameter by which amount or rate is multiplied (a bioavailability), or -1.
    clock : float array (n_schedules,)
        Day of the first dose, from which the model's clock counts.
    schedule : int array (n_subjects,)
        The schedule each subject follows.
    """

    start: np.ndarray
    time: np.ndarray
    kind: np.ndarray
    index: np.ndarray
    value: np.ndarray
    scale: np.ndarray
    clock: np.ndarray
    schedule: np.ndarray

    @classmethod
    def from_rows(cls, schedules, schedule) -> Events:
        """Build from lists of rows (time, kind, index, value, scale), one list a schedule.

        Parameters
        ----------
        schedules : list of list of tuple
            The rows of each schedule, in any order; equal times keep their order.
        schedule : int array (n_subjects,)
            The schedule each subject follows.
        """
        schedules = [sorted(rows, key=lambda row: row[0]) for rows in schedules]
        rows = [row for rows in schedules for row in rows]
        time, kind, index, value, scale = zip(*rows, strict=True) if rows else ((),) * 5
        clocks = [
            min((row[0] for row in rows if row[1] in (DOSE, RATE)), default=np.inf)
            for rows in schedules
        ]
        return cls(
            start=np.cumsum([0, *map(len, schedules)], dtype=np.int64),
            time=np.array(time, dtype=np.float64),
            kind=np.array(kind, dtype=np.int64),
            index=np.array(index, dtype=np.int64),
            value=np.array(value, dtype=np.float64),
            scale=np.array(scale, dtype=np.int64),
            clock=np.array(clocks, dtype=np.float64),
            schedule=np.asarray(schedule, dtype=np.int64),
        )

    @classmethod
    def of_subjects(cls, n_subjects: int, subject, columns, clock=None) -> Events:
        """Build from columns of rows, each subject with a schedule of its own.

        Parameters
        ----------
        n_subjects : int
            The number of subjects.
        subject : int array (n_rows,)
            The subject of each row, in any order; equal times of one keep the order of the rows.
        columns : tuple of array (n_rows,)
            Time, kind, index, value and scale of each row.
        clock : float array (n_subjects,), optional
            Day from which the model's clock counts; by default that of each subject's first dose.
        """
        time, kind, index, value, scale = columns
        if clock is None:
            clock = np.full(n_subjects, np.inf)
            given = (kind == DOSE) | (kind == RATE)
            np.minimum.at(clock, subject[given], time[given])
        order = np.lexsort((time, subject))
        start = np.concatenate([[0], np.cumsum(np.bincount(subject, minlength=n_subjects))])
        return cls(
            start.astype(np.int64), time[order], kind[order], index[order], value[order],
            scale[order], np.asarray(clock, dtype=np.float64), np.arange(n_subjects),
        )  # fmt: skip

    def check(self, structure: Structure, n_occasions: int) -> None:
        """Raise ValueError if an event names nothing, is not a finite number or out of order."""
        length = {
            DOSE: len(structure.states), RATE: len(structure.states),
            MULTIPLY: len(structure.states), FACTOR: len(structure.parameters),
            OCCASION: n_occasions,
        }  # fmt: skip
        n_schedules = len(self.start) - 1
        if len(self.schedule) and not 0 <= self.schedule.min() <= self.schedule.max() < n_schedules:
            raise ValueError(
                f"a subject follows a schedule that is none of the {n_schedules} given"
            )
        bad = ~np.isfinite(self.time) | ~np.isfinite(self.value)
        for kind, n in length.items():
            bad |= (self.kind == kind) & ((self.index < 0) | (self.index >= n))
        bad |= (self.kind < DOSE) | (self.kind > MARK) | (self.scale >= len(structure.parameters))
        bad |= (self.kind == SAVE) & (self.index < 0)
        if bad.any():
            r = int(np.argmax(bad))
            raise ValueError(
                f"event {r} (time {self.time[r]:g} d, kind {self.kind[r]}, index {self.index[r]}, "
                f"value {self.value[r]:g}) is not one of structure {structure.name}"
            )
        ordered = np.diff(self.time) >= 0
        ordered[
            self.start[1:-1][(self.start[1:-1] > 0) & (self.start[1:-1] < len(self.time))] - 1
        ] = 1
        if not ordered.all():
            r = int(np.argmin(ordered))
            raise ValueError(
                f"events out of order: {self.time[r]:g} d comes before {self.time[r + 1]:g} d"
            )

    def check_horizon(self, end: np.ndarray) -> None:
        """Raise ValueError if something is to happen after the end of all who follow a schedule.

        What began before may end after it: infusions and factors.
        """
        latest = np.full(len(self.start) - 1, -np.inf)
        np.maximum.at(latest, self.schedule, end)
        of = np.repeat(np.arange(len(latest)), np.diff(self.start))
        late = (self.time > latest[of]) & (latest[of] > -np.inf)
        late &= (self.kind != RATE) & (self.kind != FACTOR) & (self.kind != MARK)
        if late.any():
            r = int(np.argmax(late))
            raise ValueError(
                f"an event at {self.time[r]:g} d is after the end of the integration at "
                f"{latest[of[r]]:g} d; give a later `until`, or leave it out"
            )

    @property
    def n_saved(self) -> int:
        """Return how many states of a subject the `SAVE` events number."""
        return int(np.max(self.index[self.kind == SAVE], initial=-1)) + 1

    def marked(self, marks) -> Events:
        """Return these events with marks, before what else happens then.

        Parameters
        ----------
        marks : list of (float, int, int)
            Time [day] of each mark, the number of the tally that is to look, and at which output.
        """
        if not marks:
            return self
        marks = [(time, MARK, tally, output, -1) for time, tally, output in sorted(marks)]
        return self.preceded(marks)

    def preceded(self, rows) -> Events:
        """Return these events with rows (see `from_rows`) before what else happens then."""
        return self._with(rows, [])

    def followed(self, rows) -> Events:
        """Return these events with rows (see `from_rows`) after what else happens then."""
        return self._with([], rows)

    def _with(self, before, after):
        columns = zip(self.time, self.kind, self.index, self.value, self.scale, strict=True)
        rows = list(columns)
        schedules = [
            [*before, *rows[first:last], *after]
            for first, last in zip(self.start, self.start[1:], strict=False)
        ]
        return replace(Events.from_rows(schedules, self.schedule), clock=self.clock)
