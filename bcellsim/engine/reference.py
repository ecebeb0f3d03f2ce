"""The reference backend: scipy's LSODA at a tight tolerance, stopped and restarted at each event.

Slow and plain; the oracle of the tests. It runs the structure's own Python functions.
"""

from __future__ import annotations

import numpy as np
from scipy.integrate import solve_ivp

from bcellsim.engine import events as ev
from bcellsim.engine.solution import NOT_FINITE, OK, STEP_LIMIT, STEP_SIZE

#: Tighter than this LSODA stalls in double precision on subjects with a low Hill exponent.
TIGHTEST = 1e-10
#: Evaluations of the right-hand side that one of `max_steps` stands for.
_PER_STEP = 8


class _TooLongError(Exception):
    pass


def solve(task, *, rtol, atol, max_steps, threads, progress):
    """Integrate every subject; see `bcellsim.engine.solve` for the arguments."""
    if rtol < TIGHTEST:
        raise ValueError(f"rtol = {rtol:g}: the reference backend takes {TIGHTEST:g} or more")
    if len(task.recorded):
        raise ValueError("the reference backend gives no continuous solution; use times")
    n = len(task.params)
    values = np.full((n, task.times.shape[1], len(task.structure.outputs)), np.nan)
    status = np.zeros(n, np.int64)
    counts = np.zeros((n, 2), np.int64)
    atol = atol * np.asarray(task.structure.state_scales())
    for i in range(n):
        if np.all(np.isfinite(task.params[i])):
            status[i], counts[i, 0] = _solve_subject(
                task, i, rtol, atol, values[i], _PER_STEP * max_steps
            )
        else:
            status[i] = NOT_FINITE
        if progress:
            progress(i + 1, n)
    return values, status, counts, None


def _solve_subject(task, i, rtol, atol, values, most):
    structure, events = task.structure, task.events
    base = task.params[i].tolist()
    p, y, u = list(base), [0.0] * len(structure.states), [0.0] * len(structure.states)
    structure.initial(p, y)
    times = task.times[min(i, len(task.times) - 1)]
    times = times[np.isfinite(times)]
    s = events.schedule[i]
    clock = events.clock[s]
    rows = range(events.start[s], events.start[s + 1])
    stops = sorted({task.begin[i], task.end[i], *(events.time[r] for r in rows)})
    out, evaluations = [0.0] * len(structure.outputs), 0

    def derivative(t, y):
        nonlocal evaluations
        evaluations += 1
        if evaluations > most:
            raise _TooLongError
        dy = [0.0] * len(y)
        structure.rhs(max(t - clock, 0.0), y.tolist(), p, u, dy)
        return dy

    def record(j, y):
        structure.observe(max(times[j] - clock, 0.0), y, p, out)
        values[j] = out

    for j in np.flatnonzero(times <= stops[0]):
        record(j, y)
    for here, stop in zip(stops, [*stops[1:], None], strict=True):
        for r in rows:
            if events.time[r] == here:
                _apply(structure, events, r, base, p, y, u)
        if stop is None or stop > task.end[i]:
            break
        wanted = np.flatnonzero((times > here) & (times <= stop))
        grid = np.unique([*times[wanted], stop])
        status, y_at = _segment(derivative, here, stop, y, grid, rtol, atol)
        if status:
            return status, evaluations
        for j in wanted:
            record(j, y_at[:, np.searchsorted(grid, times[j])].tolist())
        y = y_at[:, -1].tolist()
    return OK, evaluations


def _segment(derivative, here, stop, y, grid, rtol, atol):
    """Integrate between two events; return the status and the states on the grid."""
    first = min(1e-4, stop - here)
    try:
        result = solve_ivp(
            derivative, (here, stop), y, "LSODA", grid, rtol=rtol, atol=atol, first_step=first
        )
    except _TooLongError:
        return STEP_LIMIT, None
    except (ArithmeticError, ValueError):  # what Python's own math raises where C gives NaN
        return NOT_FINITE, None
    return (OK, result.y) if result.success else (STEP_SIZE, None)


def _apply(structure, events, r, base, p, y, u):
    kind, index, value = events.kind[r], events.index[r], events.value[r]
    factor = base[events.scale[r]] if events.scale[r] >= 0 else 1.0
    if structure.to_amounts:
        structure.to_amounts(y, p)
    if kind == ev.DOSE:
        y[index] += value * factor
    elif kind == ev.RATE:
        u[index] = value * factor
    elif kind == ev.MULTIPLY:
        y[index] *= value
    elif kind == ev.FACTOR:
        p[index] = base[index] * value
    elif kind == ev.RESET:
        structure.initial(p, y)
        u[:] = [0.0] * len(u)
        return
    if structure.from_amounts:
        structure.from_amounts(y, p)
