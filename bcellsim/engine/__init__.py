"""The numerical core: arrays in, arrays out. It knows structures, and no drug, table or label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bcellsim.engine.course import Trajectories, evaluate
from bcellsim.engine.events import Events
from bcellsim.engine.solution import NODES, STATUS, Dense, Solution
from bcellsim.engine.tally import Tally
from bcellsim.names import unknown
from bcellsim.structures import Structure

__all__ = [
    "BACKENDS",
    "NODES",
    "STATUS",
    "TOLERANCES",
    "Dense",
    "Events",
    "Solution",
    "Tally",
    "Trajectories",
    "evaluate",
    "solve",
]

#: Backends by name; each is one module with a `solve`.
BACKENDS = ("compiled", "reference")

#: By backend: relative tolerance, and absolute tolerance as a multiple of each state's scale.
TOLERANCES = {"compiled": (1e-6, 1e-8), "reference": (1e-10, 1e-12)}


@dataclass(frozen=True)
class Task:
    """The checked arguments of `solve`, as the backends take them."""

    structure: Structure
    params: np.ndarray
    events: Events
    begin: np.ndarray
    end: np.ndarray
    times: np.ndarray
    wanted: np.ndarray
    recorded: np.ndarray
    states: np.ndarray
    tallies: tuple[tuple[int, Tally], ...] = ()
    locked: bool = False


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
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int = 1_000_000,
    backend: str = "compiled",
    threads: int | None = None,
    progress=None,
) -> Solution:
    """Integrate a structure for many subjects.

    Parameters
    ----------
    structure : Structure
        The equations.
    params : float array (n_subjects, n_parameters)
        Parameters in the structure's order and internal units.
    events : Events
        Doses and other events; at an output time that is also an event time the output is taken
        first (a grid point on a dose day is the trough).
    times : float array (n_times,) or (n_subjects, n_times)
        Output times [day], ascending; a row may end in NaN.
    until : float or float array (n_subjects,), optional
        End of the integration [day]; the last output time by default.
    dense : tuple of str
        Outputs whose continuous solution is wanted as well.
    rtol, atol : float, optional
        Relative tolerance, and absolute tolerance as a multiple of each state's scale; by default
        those of the backend in `TOLERANCES`.
    max_steps : int
        Largest number of steps per subject.
    backend : str
        One of `BACKENDS`.
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
        If shapes disagree, times are not ascending or not finite, or the backend is unknown.
    """
    if backend not in BACKENDS:
        raise ValueError(unknown("backend", backend, BACKENDS))
    default = TOLERANCES[backend]
    rtol, atol = (default[0] if rtol is None else rtol), (default[1] if atol is None else atol)
    task = _check(structure, params, events, times, until, outputs, tallies, dense)
    if backend == "reference":
        from bcellsim.engine.reference import solve as run
    else:
        from bcellsim.engine.compiled import solve as run
    found, continuous = run(
        task, rtol=rtol, atol=atol, max_steps=max_steps, threads=threads, progress=progress
    )
    return Solution(
        found.values, found.status, found.counts[:, 0], found.counts[:, 1], backend, rtol, atol,
        continuous, found.saved, found.tallies, tuple(tallies),
    )  # fmt: skip


def _check(structure, params, events, times, until, outputs, tallies, dense) -> Task:
    params = np.ascontiguousarray(params, dtype=np.float64)
    if params.ndim == 2:
        params = params[:, None]
    if params.ndim != 3 or params.shape[2] != len(structure.parameters):
        raise ValueError(
            f"params has shape {params.shape}; structure {structure.name} wants "
            f"(n_subjects, {len(structure.parameters)})"
        )
    n = len(params)
    times = np.ascontiguousarray(np.atleast_2d(np.asarray(times, dtype=np.float64)))
    if times.ndim != 2 or len(times) not in (1, n):
        raise ValueError(f"times has shape {times.shape}; (n_times,) or ({n}, n_times) is wanted")
    if events.schedule.shape != (n,):
        raise ValueError(f"events are for {len(events.schedule)} subjects, params for {n}")
    filled = np.where(np.isnan(times), np.inf, times)
    if np.any(filled[:, 1:] < filled[:, :-1]) or np.any(np.isinf(times)):
        raise ValueError("output times must be finite and in ascending order")
    outputs = structure.outputs if outputs is None else outputs
    for name in (*dense, *outputs, *(tally.output for tally in tallies)):
        if name not in structure.outputs:
            raise ValueError(unknown("output", name, structure.outputs))
    events = events.marked({mark for tally in tallies for mark in tally.marks})
    begin, end = _span(events, times, until, n)
    recorded = np.array([structure.outputs.index(name) for name in dense], dtype=np.int64)
    wanted = np.array([structure.outputs.index(name) for name in outputs], dtype=np.int64)
    states = np.empty((0, len(structure.states)))
    asked = tuple((structure.outputs.index(tally.output), tally) for tally in tallies)
    return Task(
        structure, params, events, begin, end, times, wanted, recorded, states, tallies=asked
    )


def _span(events, times, until, n):
    """Return when each subject begins (its first event or output) and ends [day]."""
    first = np.full(len(events.clock), np.inf)
    for s, a in enumerate(events.start[:-1]):
        if a < events.start[s + 1]:
            first[s] = events.time[a]
    begin = first[events.schedule]
    if until is None:
        if times.shape[1] == 0:
            raise ValueError("give output times, or until")
        until = np.fmax.reduce(times, axis=1)
    if times.shape[1]:
        begin = np.fmin(begin, times[:, 0])
    end = np.broadcast_to(np.asarray(until, dtype=np.float64), (n,)).copy()
    begin = np.minimum(np.broadcast_to(begin, (n,)), end)
    if not (np.all(np.isfinite(begin)) and np.all(np.isfinite(end))):
        raise ValueError("the time span of the integration is not finite")
    return begin, end
