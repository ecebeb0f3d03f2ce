"""Sensitivities: how outputs change with parameters, on one sequence of steps.

A difference quotient of two adaptive solutions is spoilt by their different steps. So the copies of
a subject with other parameters run in lanes beside it and take its steps, scaled where an event is
at another time: the quotient is then that of one smooth function, and a small change can be used.
Sixteen lanes give a subject and seven central differences for little more than the subject alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bcellsim.engine.compiled import LANES, solve
from bcellsim.engine.solution import Found
from bcellsim.engine.task import Task

#: Change along a direction. The error of a central difference is its square times a third
#: derivative, that of rounding 1e-14 over it: both near 1e-9 of the output.
STEP = 1e-4


def follow(task: Task, trials: np.ndarray, **options) -> np.ndarray:
    """Solve subjects, and trial parameters of each on the subject's own steps.

    Parameters
    ----------
    task : Task
        The subjects, from `bcellsim.engine.task.checked`.
    trials : float array (n_subjects, n_trials, n_parameters)
        Parameters of the trials, with an axis of occasions before the last where they change.
    **options
        rtol, atol, max_steps, threads and progress of `bcellsim.engine.solve`.

    Returns
    -------
    float array (n_subjects, 1 + n_trials, n_times, n_outputs)
        Outputs of each subject and of its trials; NaN where the subject could not be solved.

    Raises
    ------
    ValueError
        If shapes disagree.
    """
    n, n_occasions, n_parameters = task.params.shape
    given = trials.shape
    if trials.ndim == 3 and n_occasions == 1:
        trials = trials[:, :, None]
    if trials.ndim != 4 or (len(trials), *trials.shape[2:]) != task.params.shape:
        among = f"{n_occasions}, " if n_occasions > 1 else ""
        raise ValueError(
            f"trials has shape {given}; ({n}, n_trials, {among}{n_parameters}) is wanted"
        )
    per_group = LANES - 1
    n_groups = max(1, -(-trials.shape[1] // per_group))
    # Every group begins with the subject, whose steps it takes; spare lanes repeat it.
    filled = np.repeat(task.params[:, None], n_groups * per_group, axis=1)
    filled[:, : trials.shape[1]] = trials
    groups = filled.reshape(n, n_groups, per_group, n_occasions, n_parameters)
    first = np.repeat(task.params[:, None, None], n_groups, axis=1)
    lanes = np.concatenate([first, groups], axis=2).reshape(-1, n_occasions, n_parameters)
    found = _solve_sound(task, lanes, np.repeat(np.arange(n), n_groups * LANES), options)
    values = found.values.reshape(n, n_groups, LANES, *found.values.shape[1:])
    base, others = values[:, :1, 0], values[:, :, 1:]
    others = others.reshape(n, -1, *others.shape[3:])[:, : trials.shape[1]]
    values = np.concatenate([base, others], axis=1)
    failed = found.status.reshape(n, -1)[:, 0] != 0
    values[failed] = np.nan
    return values


def _solve_sound(task, lanes, of, options) -> Found:
    """Solve groups in lock-step, but for groups in which a parameter is not a finite number."""
    sound = np.isfinite(lanes).reshape(-1, LANES * lanes[0].size).all(axis=1)
    keep = np.flatnonzero(np.repeat(sound, LANES))
    wide = replace(task.part(of), params=lanes, locked=True)
    solved, _ = solve(wide.part(keep), **options)
    found = Found.empty(wide)
    found.status[:] = -1
    for whole, part in zip(found, solved, strict=True):
        whole[keep] = part
    return found
