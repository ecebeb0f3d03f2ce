"""What a solve returns: values at times, status per subject, and the continuous solution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

OK, STEP_LIMIT, STEP_SIZE, NOT_FINITE = range(4)

#: What each status of a subject means, and what to try.
STATUS = {
    OK: "solved",
    STEP_LIMIT: "step limit reached; try a larger `max_steps` or a looser `rtol`",
    STEP_SIZE: "step size too small to advance; the equations are too stiff or singular there",
    NOT_FINITE: "a parameter, or the solution, is not a finite number",
}

#: Positions within a step at which the continuous solution is recorded (Gauss-Lobatto).
NODES = np.array([0.0, 0.17267316464601146, 0.5, 0.8273268353539885, 1.0])


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
    """

    values: np.ndarray
    status: np.ndarray
    steps: np.ndarray
    rejected: np.ndarray
    backend: str
    rtol: float
    atol: float
    dense: Dense | None = None
