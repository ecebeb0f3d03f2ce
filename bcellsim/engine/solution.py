"""What a solve returns: values at times, status per subject, and the continuous solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bcellsim.engine.tally import Tally

OK, STEP_LIMIT, STEP_SIZE, NOT_FINITE = range(4)

#: What each status of a subject means, and what to try.
STATUS = {
    OK: "solved",
    STEP_LIMIT: "step limit reached, by the stiff method too; try a larger `rtol` or an earlier "
    "`until`, or look at the parameters",
    STEP_SIZE: "step size too small to advance, by the stiff method too; the equations blow up",
    NOT_FINITE: "a parameter, or the solution, is not a finite number",
}

#: Positions within a step at which the continuous solution is recorded (Gauss-Lobatto).
NODES = np.array([0.0, 0.17267316464601146, 0.5, 0.8273268353539885, 1.0])

#: Values at `NODES` times this are the powers of their polynomial, constant first.
TO_POWERS = np.linalg.inv(np.vander(NODES, increasing=True)).T


@dataclass(frozen=True)
class Dense:
    """The continuous solution: a polynomial of degree four in each step, given by five values.

    Parameters
    ----------
    start : int array (n_subjects + 1,)
        Where each subject's steps begin in the arrays below.
    time, width : float array (n_steps,)
        Start and width of each step [day].
    nodes : dict of str to float array (n_steps, 5)
        Value of each recorded output at `NODES` within the step.
    """

    start: np.ndarray
    time: np.ndarray
    width: np.ndarray
    nodes: dict[str, np.ndarray]

    @classmethod
    def of(cls, tables: list[np.ndarray], outputs: list[str]) -> Dense:
        """Join tables of steps, one a subject: start, width, and each output at the nodes."""
        table = np.concatenate([np.empty((0, 2 + 5 * len(outputs))), *tables])
        return cls(
            start=np.concatenate([[0], np.cumsum([len(rows) for rows in tables])]),
            time=table[:, 0],
            width=table[:, 1],
            nodes={name: table[:, 2 + 5 * i : 7 + 5 * i] for i, name in enumerate(outputs)},
        )

    @classmethod
    def nothing(cls, task) -> Dense | None:
        """Return no steps of the recorded outputs; None if there are none."""
        names = [task.structure.outputs[o] for o in task.recorded]
        tables = [np.empty((0, 2 + 5 * len(names)))] * len(task.params)
        return cls.of(tables, names) if names else None

    def replaced(self, subjects: np.ndarray, other: Dense) -> Dense:
        """Return this solution with that of some subjects taken from another."""
        names = list(self.nodes)
        tables = self._tables(names)
        for i, table in zip(subjects, other._tables(names), strict=True):
            tables[i] = table
        return Dense.of(tables, names)

    def _tables(self, names):
        columns = [self.time[:, None], self.width[:, None], *(self.nodes[name] for name in names)]
        return np.split(np.concatenate(columns, axis=1), self.start[1:-1])


class Found(NamedTuple):
    """What a backend fills in, subject by subject."""

    values: np.ndarray
    saved: np.ndarray
    tallies: np.ndarray
    status: np.ndarray
    counts: np.ndarray
    closed_form: np.ndarray

    @classmethod
    def empty(cls, task, values=np.nan) -> Found:
        """Return room for the results of a task; what is not filled in is NaN.

        With values = None the backend fills in every value itself.
        """
        n = len(task.params)
        shape = n, task.times.shape[1], len(task.wanted)
        return cls(
            np.empty(shape) if values is None else np.full(shape, values),
            np.full((n, task.events.n_saved, len(task.structure.states)), np.nan),
            np.full((n, len(task.tallies), 2), np.nan),
            np.zeros(n, np.int64),
            np.zeros((n, 2), np.int64),
            np.zeros(n, bool),
        )


@dataclass(frozen=True)
class Solution:
    """Result of `solve`.

    Parameters
    ----------
    values : float array (n_subjects, n_times, n_outputs)
        Outputs at the times asked for; NaN after a subject has failed.
    status : int array (n_subjects,)
        A key of `STATUS` for each subject.
    steps, rejected : int array (n_subjects,)
        Steps tried, and those of them rejected.
    backend : str
        The backend that solved.
    rtol, atol : float
        The tolerances it used.
    dense : Dense or None
        The continuous solution of the outputs asked for.
    saved : float array (n_subjects, n_saved, n_states)
        The states that `SAVE` events have kept.
    tallies : float array (n_subjects, n_tallies, 2)
        The two numbers of each tally; NaN where a subject has failed.
    asked : tuple of Tally
        Those tallies.
    stiff : bool array (n_subjects,)
        Whether the stiff fall-back solved the subject.
    closed_form : bool array (n_subjects,)
        Whether the drug states were taken in closed form, and only the count integrated.
    """

    values: np.ndarray
    status: np.ndarray
    steps: np.ndarray
    rejected: np.ndarray
    backend: str
    rtol: float
    atol: float
    dense: Dense | None
    saved: np.ndarray
    tallies: np.ndarray
    asked: tuple[Tally, ...]
    stiff: np.ndarray
    closed_form: np.ndarray

    def tally(self, asked: Tally) -> np.ndarray:
        """Return one tally of every subject (n_subjects, 2)."""
        return self.tallies[:, self.asked.index(asked)]
