"""The checked arguments of a solve, as the backends take them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bcellsim.engine.events import Events
from bcellsim.engine.tally import Tally
from bcellsim.names import unknown
from bcellsim.structures import Structure


@dataclass(frozen=True)
class Task:
    """What to integrate, and what is wanted of it.

    Parameters
    ----------
    structure : Structure
        The equations.
    params : float array (n_subjects, n_occasions, n_parameters)
        Parameters of each occasion.
    events : Events
        Events, marks of the tallies among them.
    begin, end : float array (n_subjects,)
        Span of the integration [day].
    times : float array (1 or n_subjects, n_times)
        Output times [day]; a row may end in NaN.
    wanted, recorded : int array
        Outputs wanted at these times, and those recorded as a continuous solution.
    states : float array (0 or n_subjects, n_states)
        States at the beginning, instead of the baseline.
    tallies : tuple of (int, Tally)
        Tallies, each with the position of its output.
    locked : bool
        Whether every 16 subjects take the steps of the first of them.
    """

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

    def part(self, subjects: np.ndarray) -> Task:
        """Return the task of some subjects, in the order given."""
        return replace(
            self,
            params=self.params[subjects],
            events=replace(self.events, schedule=self.events.schedule[subjects]),
            begin=self.begin[subjects],
            end=self.end[subjects],
            times=self.times if len(self.times) == 1 else self.times[subjects],
            states=self.states[subjects] if len(self.states) else self.states,
            tallies=tuple((output, tally.part(subjects)) for output, tally in self.tallies),
        )


def checked(
    structure, params, events, times, *, until=None, outputs=None, tallies=(), dense=(), states=None
) -> Task:
    """Return the task, or raise a ValueError that says what disagrees; see `solve`."""
    params = _parameters(params, structure)
    n = len(params)
    times = _times(times, n)
    outputs = structure.outputs if outputs is None else outputs
    for name in (*dense, *outputs, *(tally.output for tally in tallies)):
        if name not in structure.outputs:
            raise ValueError(unknown("output", name, structure.outputs))
    if events.schedule.shape != (n,):
        raise ValueError(f"events are for {len(events.schedule)} subjects, params for {n}")
    for tally in tallies:
        for window in (tally.opens, tally.closes):
            if isinstance(window, tuple) and len(window) != n:
                raise ValueError(f"a tally has windows for {len(window)} subjects, params for {n}")
    events = replace(events, **{name: _own(array) for name, array in vars(events).items()})
    events.check(structure, params.shape[1])
    position = structure.outputs.index
    events = events.marked(
        [
            (t, k, position(tally.output))
            for k, tally in enumerate(tallies)
            if tally.kind == "marked"
            for t in tally.marks
        ]
    )
    begin, end = _span(events, times, until, n)
    events.check_horizon(end)
    return Task(
        structure, params, events, begin, end, times,
        wanted=np.array([position(name) for name in outputs], dtype=np.int64),
        recorded=np.array([position(name) for name in dense], dtype=np.int64),
        states=_states(states, n, structure),
        tallies=tuple((position(tally.output), tally) for tally in tallies),
    )  # fmt: skip


def _parameters(params, structure):
    params = np.asarray(params, dtype=np.float64)
    wanted_shape = f"(n_subjects, {len(structure.parameters)})"
    if params.ndim not in (2, 3) or params.shape[-1] != len(structure.parameters):
        raise ValueError(
            f"params has shape {params.shape}; structure {structure.name} wants {wanted_shape}, "
            "with an axis of occasions between where they change"
        )
    return _own(params if params.ndim == 3 else params[:, None])


def _own(array):
    """Return an array that can be written and has no gaps: another kind would be compiled anew."""
    return np.require(array, requirements=["C", "W"])


def _times(times, n):
    times = _own(np.atleast_2d(np.asarray(times, dtype=np.float64)))
    if times.ndim != 2 or len(times) not in (1, n):
        raise ValueError(f"times has shape {times.shape}; (n_times,) or ({n}, n_times) is wanted")
    filled = np.where(np.isnan(times), np.inf, times)
    if np.any(np.isinf(times)):
        raise ValueError("output times must be finite numbers; a row may end in NaN")
    with np.errstate(invalid="ignore"):
        bad = np.argwhere(~(np.diff(filled) > 0) & np.isfinite(filled[:, 1:]))
    if len(bad):
        i, j = bad[0]
        row = f" of subject {i}" if len(times) > 1 else ""
        if filled[i, j] == filled[i, j + 1]:
            raise ValueError(f"output time {times[i, j]:g} d{row} is given twice")
        before = "NaN" if np.isnan(times[i, j]) else f"{times[i, j]:g} d"
        raise ValueError(
            f"output times{row} must be in ascending order, and NaN only at the end; {before} "
            f"comes before {times[i, j + 1]:g} d"
        )
    return times


def _states(states, n, structure):
    if states is None:
        return np.empty((0, len(structure.states)))
    states = _own(np.asarray(states, dtype=np.float64))
    if states.shape != (n, len(structure.states)):
        raise ValueError(
            f"states has shape {states.shape}; ({n}, {len(structure.states)}) is wanted"
        )
    return states


def _span(events, times, until, n):
    """Return when each subject begins (its first event or output) and ends [day]."""
    first, filled = np.full(len(events.clock), np.inf), np.diff(events.start) > 0
    first[filled] = events.time[events.start[:-1][filled]]
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
