"""The numerical core: arrays in, arrays out. It knows structures, and no drug, table or label."""

from __future__ import annotations

import numpy as np

from bcellsim.engine.course import Trajectories, evaluate
from bcellsim.engine.events import Events
from bcellsim.engine.solution import NODES, STATUS, STEP_LIMIT, STEP_SIZE, Dense, Solution
from bcellsim.engine.tally import Tally
from bcellsim.engine.task import checked
from bcellsim.names import unknown
from bcellsim.structures import Structure

__all__ = [
    "BACKENDS",
    "HANDFUL",
    "NODES",
    "STATUS",
    "TOLERANCES",
    "Dense",
    "Events",
    "Solution",
    "Tally",
    "Trajectories",
    "differences",
    "evaluate",
    "follow",
    "solve",
]

#: Backends by name; each is one module with a `solve`.
BACKENDS = ("compiled", "reference")

#: By backend: relative tolerance, and absolute tolerance as a multiple of each state's scale.
#: Sensitivities want a tighter one: where every state is stepped by Tsit5, steps at the bound of
#: stability swell the difference of two solutions to 1e4 times the tolerance (1e-2 of the count at
#: 1e-6, 2e-4 at 1e-8). A count that is solved beside the drug (`lower_split.py`) has no such bound:
#: of 24 random subjects of kpd, michaelis_menten_turnover and tmdd_qss the derivatives were within
#: 1.3e-5 at 1e-6.
TOLERANCES = {
    "compiled": (1e-6, 1e-8),
    "reference": (1e-10, 1e-12),
    "sensitivities": (1e-8, 1e-10),
}

#: Up to so many subjects are solved by the reference backend (about 0.1 s each, two years), which
#: has nothing to compile.
HANDFUL = 8

# The stiff fall-back is tighter than what it replaces, because LSODA's error is up to a hundred
# times its tolerance, but not below what LSODA can do.
_FALL_BACK, _TIGHTEST = 1e-2, 1e-10


def solve(
    structure: Structure,
    params: np.ndarray,
    events: Events,
    times: np.ndarray,
    *,
    until: float | np.ndarray | None = None,
    outputs: tuple[str, ...] | None = None,
    tallies: tuple[Tally, ...] = (),
    dense: tuple[str, ...] = (),
    states: np.ndarray | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 100_000,
    backend: str | None = None,
    threads: int | None = None,
    progress=None,
) -> Solution:
    """Integrate a structure for many subjects.

    Parameters
    ----------
    structure : Structure
        The equations.
    params : float array (n_subjects, n_parameters) or (n_subjects, n_occasions, n_parameters)
        Parameters in the structure's order and internal units; `OCCASION` events change between
        occasions.
    events : Events
        Doses and other events; at an output time that is also an event time the output is taken
        first (a grid point on a dose day is the trough).
    times : float array (n_times,) or (n_subjects, n_times)
        Output times [day], ascending; a row may end in NaN.
    until : float or float array (n_subjects,), optional
        End of the integration [day]; the last output time by default.
    outputs : tuple of str, optional
        Outputs wanted at these times; all of the structure by default.
    tallies : tuple of Tally
        What to accumulate over the course, see `bcellsim.engine.tally`.
    dense : tuple of str
        Outputs whose continuous solution is wanted as well.
    states : float array (n_subjects, n_states), optional
        Solver's states to begin with, as `SAVE` events keep them, instead of the baseline.
    rtol, atol : float, optional
        Relative tolerance, and absolute tolerance as a multiple of each state's scale; by default
        those of the backend in `TOLERANCES`.
    max_steps : int
        Largest number of steps per subject; one that reaches it, or cannot go on, is solved anew by
        the stiff fall-back, LSODA, with the same limit.
    backend : str, optional
        One of `BACKENDS`; by default the compiled one for more than `HANDFUL` subjects, and for
        tolerances tighter than the other can keep.
    threads : int, optional
        Threads; all available ones by default. Results do not depend on it.
    progress : callable(done, total), optional
        Called as subjects are finished.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError
        If shapes disagree, times are not ascending or not finite, an event is not one of the
        structure or lies after the end, or the backend is unknown.
    """
    task = checked(
        structure, params, events, times,
        until=until, outputs=outputs, tallies=tallies, dense=dense, states=states,
    )  # fmt: skip
    if backend is None:
        few = len(task.params) <= HANDFUL and (rtol is None or rtol >= _TIGHTEST)
        backend = "reference" if few else "compiled"
    if backend not in BACKENDS:
        raise ValueError(unknown("backend", backend, BACKENDS))
    tolerances = _tolerances(backend, rtol, atol)
    options = {"max_steps": max_steps, "threads": threads}
    found, course = _run(backend)(task, **tolerances, **options, progress=progress)
    stiff = np.zeros(len(task.params), dtype=bool)
    if backend == "compiled":
        stiff = (found.status == STEP_LIMIT) | (found.status == STEP_SIZE)
        if stiff.any():
            course = _solve_stiff(task, np.flatnonzero(stiff), found, course, tolerances, options)
    return Solution(
        found.values, found.status, found.counts[:, 0], found.counts[:, 1], backend,
        tolerances["rtol"], tolerances["atol"], course, found.saved, found.tallies, tuple(tallies),
        stiff, found.closed_form,
    )  # fmt: skip


def _run(backend):
    if backend == "reference":
        from bcellsim.engine.reference import solve as run
    else:
        from bcellsim.engine.compiled import solve as run
    return run


def _tolerances(backend, rtol, atol):
    default = TOLERANCES[backend]
    found = {
        "rtol": default[0] if rtol is None else rtol,
        "atol": default[1] if atol is None else atol,
    }
    for name, value in found.items():
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} = {value}: a number between 0 and 1 is wanted")
    return found


def _solve_stiff(task, subjects, found, course, tolerances, options):
    """Solve subjects anew by the reference backend, in place; return the continuous solution."""
    tighter = {name: max(_TIGHTEST, _FALL_BACK * value) for name, value in tolerances.items()}
    tighter["atol"] = _FALL_BACK * tolerances["atol"]
    again, part = _run("reference")(task.part(subjects), **tighter, **options, progress=None)
    for whole, piece in zip(found, again, strict=True):
        whole[subjects] = piece
    return course and course.replaced(subjects, part)


def follow(
    structure: Structure,
    params: np.ndarray,
    trials: np.ndarray,
    events: Events,
    times: np.ndarray,
    *,
    outputs: tuple[str, ...] | None = None,
    until: float | np.ndarray | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 100_000,
    threads: int | None = None,
) -> np.ndarray:
    """Solve subjects, and trial parameters of each on that subject's own steps.

    So solved, a small change of a parameter shows in the outputs without the noise of adaptive
    steps. The compiled backend does it, without the stiff fall-back.

    Parameters
    ----------
    structure, events, times, outputs, until, rtol, atol, max_steps, threads
        As for `solve`.
    params : float array (n_subjects, n_parameters) or (n_subjects, n_occasions, n_parameters)
        Parameters of the subjects.
    trials : float array (n_subjects, n_trials, n_parameters)
        Parameters of the trials, with an axis of occasions before the last where they change.

    Returns
    -------
    float array (n_subjects, 1 + n_trials, n_times, n_outputs)
        Outputs of each subject and of its trials; NaN where it could not be solved.

    Raises
    ------
    ValueError
        As `solve`, and if the trials are not shaped as the parameters.
    """
    from bcellsim.engine.sensitivity import follow as run

    task = checked(structure, params, events, times, until=until, outputs=outputs)
    options = {"max_steps": max_steps, "threads": threads, "progress": None}
    tolerances = _tolerances("sensitivities", rtol, atol)
    return run(task, np.asarray(trials, dtype=np.float64), **tolerances, **options)


def differences(
    structure: Structure,
    params: np.ndarray,
    directions: np.ndarray,
    events: Events,
    times: np.ndarray,
    **options,
) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs and their sensitivities: derivatives along directions of the parameters.

    Parameters
    ----------
    structure, params, events, times, **options
        As for `follow`.
    directions : float array (n_subjects, n_directions, n_parameters)
        Change of the parameters per unit along each direction: a column of the identity for one
        parameter, times the parameter for its logarithm. With an axis of occasions before the last
        where parameters change: what an individual's random effect does in each.

    Returns
    -------
    values : float array (n_subjects, n_times, n_outputs)
        The outputs.
    derivatives : float array (n_subjects, n_times, n_outputs, n_directions)
        Their derivatives.

    Raises
    ------
    ValueError
        As `follow`.
    """
    from bcellsim.engine.sensitivity import STEP

    params = np.asarray(params, dtype=np.float64)
    change = STEP * np.asarray(directions, dtype=np.float64)
    trials = np.concatenate([params[:, None] + change, params[:, None] - change], axis=1)
    values = follow(structure, params, trials, events, times, **options)
    n = change.shape[1]
    derivatives = (values[:, 1 : 1 + n] - values[:, 1 + n :]) / (2.0 * STEP)
    return values[:, 0], np.moveaxis(derivatives, 1, -1)
