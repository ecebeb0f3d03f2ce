"""The reference backend: scipy's LSODA at a tight tolerance, stopped and restarted at each event.

Slow and plain; the oracle of the tests. It runs the structure's own Python functions.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.integrate import LSODA

from bcellsim.engine import events as ev
from bcellsim.engine.course import Trajectories
from bcellsim.engine.solution import NODES, NOT_FINITE, OK, STEP_LIMIT, STEP_SIZE, Dense, Found

#: Tighter than this LSODA stalls in double precision on subjects with a low Hill exponent.
TIGHTEST = 1e-10
#: Evaluations of the right-hand side that one of `max_steps` stands for.
_PER_STEP = 2
#: Parts of a step of LSODA, each of which is recorded as a polynomial of degree four.
_PARTS = 4


class _TooLongError(Exception):
    pass


def solve(task, *, rtol, atol, max_steps, threads, progress):
    """Integrate every subject; see `bcellsim.engine.solve` for the arguments."""
    if rtol < TIGHTEST:
        raise ValueError(f"rtol = {rtol:g}: the reference backend takes {TIGHTEST:g} or more")
    n = len(task.params)
    found = Found.empty(task)
    scales = np.asarray(task.structure.state_scales())
    recorded = sorted({*task.recorded.tolist(), *(output for output, _ in task.tallies)})
    pieces = [np.empty((0, 2 + 5 * len(recorded)))] * n
    for i in range(n):
        if np.all(np.isfinite(task.params[i])):
            run = _Run(task, i, recorded, found, rtol, atol * scales, _PER_STEP * max_steps)
            found.status[i], found.counts[i, 0] = run.integrate(), run.evaluations
            pieces[i] = run.table()
        else:
            found.status[i] = NOT_FINITE
        if progress:
            progress(i + 1, n)
    dense = Dense.of(pieces, [task.structure.outputs[o] for o in recorded]) if recorded else None
    for k, (output, asked) in enumerate(task.tallies):
        course = Trajectories.of(dense, task.structure.outputs[output])
        found.tallies[:, k] = course.tally(asked)
    found.tallies[found.status != OK] = np.nan
    return found, dense if len(task.recorded) else None


class _Run:
    """The integration of one subject: its states, parameters, infusion rates and results."""

    def __init__(self, task, i, recorded, found, rtol, atol, most):
        self.structure, self.events, self.wanted = task.structure, task.events, task.wanted
        self.recorded, self.values, self.saved = recorded, found.values[i], found.saved[i]
        self.rtol, self.atol, self.most, self.evaluations = rtol, atol, most, 0
        self.occasions, self.occasion = task.params[i].tolist(), 0
        self.factors = [1.0] * len(self.structure.parameters)
        self.p = list(self.occasions[0])
        n = len(self.structure.states)
        self.y, self.u, self.out = [0.0] * n, [0.0] * n, [0.0] * len(self.structure.outputs)
        self.structure.initial(self.p, self.y)
        if len(task.states):
            self.y[:] = task.states[i].tolist()
        times = task.times[min(i, len(task.times) - 1)]
        self.times = times[np.isfinite(times)]
        schedule = self.events.schedule[i]
        self.clock = self.events.clock[schedule]
        self.rows = range(self.events.start[schedule], self.events.start[schedule + 1])
        self.begin, self.end = task.begin[i], task.end[i]
        self.pieces = []

    def integrate(self) -> int:
        """Go from event to event; return the status."""
        event_times = (self.events.time[r] for r in self.rows)
        stops = sorted({self.begin, self.end, *event_times})
        for j in np.flatnonzero(self.times <= stops[0]):
            self.values[j] = self.observed(self.times[j], self.y)[self.wanted]
        for here, stop in zip(stops, [*stops[1:], None], strict=True):
            for r in self.rows:
                if self.events.time[r] == here:
                    self.apply(r)
            if stop is None or stop > self.end:
                return OK
            status = self.segment(here, stop)
            if status != OK:
                return status
        return OK

    def segment(self, here, stop) -> int:
        """Integrate between two events; return the status."""
        wanted = iter(np.flatnonzero((self.times > here) & (self.times <= stop)))
        due = next(wanted, None)
        try:
            solver = LSODA(
                self.slopes, here, list(self.y), stop, first_step=min(1e-4, stop - here),
                rtol=self.rtol, atol=self.atol,
            )  # fmt: skip
            while solver.status == "running":
                solver.step()
                if solver.status == "failed":
                    return STEP_SIZE
                if solver.t_old == solver.t:
                    continue
                course = solver.dense_output()
                while due is not None and self.times[due] <= solver.t:
                    y = course(self.times[due]).tolist()
                    self.values[due] = self.observed(self.times[due], y)[self.wanted]
                    due = next(wanted, None)
                if self.recorded:
                    self.record(course)
        except _TooLongError:
            return STEP_LIMIT
        except (ArithmeticError, ValueError):  # what Python's own math raises where C gives NaN
            return NOT_FINITE
        self.y[:] = solver.y.tolist()
        return OK

    def slopes(self, t, y):
        """Return the time derivatives of the states."""
        self.evaluations += 1
        if self.evaluations > self.most:
            raise _TooLongError
        dy = [0.0] * len(y)
        self.structure.rhs(max(t - self.clock, 0.0), y.tolist(), self.p, self.u, dy)
        return dy

    def observed(self, time, y) -> np.ndarray:
        """Return all outputs."""
        self.structure.observe(max(time - self.clock, 0.0), y, self.p, self.out)
        return np.array(self.out)

    def record(self, course) -> None:
        """Keep the recorded outputs in parts of each step."""
        ends = np.linspace(course.t_old, course.t, _PARTS + 1)
        for start, end in itertools.pairwise(np.unique(ends)):
            times = start + NODES * (end - start)
            values = [
                self.observed(time, y.tolist())[self.recorded]
                for time, y in zip(times, course(times).T, strict=True)
            ]
            self.pieces.append([start, end - start, *np.ravel(values, order="F")])

    def table(self) -> np.ndarray:
        """Return what was recorded, a row a part of a step."""
        return np.array(self.pieces).reshape(-1, 2 + 5 * len(self.recorded))

    def apply(self, r) -> None:
        """Let event `r` act."""
        structure, y, p, u = self.structure, self.y, self.p, self.u
        events = self.events
        kind, index, value = events.kind[r], events.index[r], float(events.value[r])
        if events.scale[r] >= 0:
            value *= p[events.scale[r]]
        if kind == ev.SAVE:
            self.saved[index] = y
            return
        if kind == ev.MARK:
            return
        if structure.to_amounts:
            structure.to_amounts(y, p)
        if kind == ev.DOSE:
            y[index] += value
        elif kind == ev.RATE:
            u[index] = value
        elif kind == ev.MULTIPLY:
            y[index] *= value
        elif kind == ev.FACTOR:
            self.factors[index] = value
            p[index] = self.occasions[self.occasion][index] * value
        elif kind == ev.OCCASION:
            self.occasion = index
            pairs = zip(self.occasions[index], self.factors, strict=True)
            p[:] = [base * factor for base, factor in pairs]
        else:
            structure.initial(p, y)
            u[:] = [0.0] * len(u)
            return
        if structure.from_amounts:
            structure.from_amounts(y, p)
