"""The compiled backend: blocks of subjects in SIMD lanes, on a pool of threads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np

from bcellsim.engine.cache import closed_form_kernel, compiled_kernel
from bcellsim.engine.closed_form import subjects_in_closed_form
from bcellsim.engine.lower import LANES
from bcellsim.engine.solution import Dense, Found

#: Subjects of a block: enough to keep the lanes filled, few enough to stop at once when asked to.
_BLOCK = 20 * LANES


def available_threads() -> int:
    """Return the number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def solve(task, *, rtol, atol, max_steps, threads, progress):
    """Integrate every subject; see `bcellsim.engine.solve` for the arguments.

    Where drug states have a closed form only the count is integrated; but not in lock-step.
    """
    options = {"rtol": rtol, "atol": atol, "max_steps": max_steps, "threads": threads}
    closed = subjects_in_closed_form(task.structure, task.params, task.events)
    if task.locked or not closed.any():
        return _solve_by(compiled_kernel, task, **options, progress=progress)
    if closed.all():
        return _solve_by(closed_form_kernel, task, **options, progress=progress)
    found, dense, done = Found.empty(task), Dense.nothing(task), 0
    for kernel, which in ((compiled_kernel, ~closed), (closed_form_kernel, closed)):
        subjects = np.flatnonzero(which)
        shown = progress and (lambda part, _, before=done: progress(before + part, len(closed)))
        part, course = _solve_by(kernel, task.part(subjects), **options, progress=shown)
        for whole, piece in zip(found, part, strict=True):
            whole[subjects] = piece
        dense, done = dense and dense.replaced(subjects, course), done + len(subjects)
    return found, dense


def _solve_by(made, task, *, rtol, atol, max_steps, threads, progress):
    kernel = made(task.structure)
    threads = threads or available_threads()
    n, ev = len(task.params), task.events
    found = Found.empty(task, values=None)
    found.closed_form[:] = made is closed_form_kernel
    used = np.zeros(len(task.structure.states), np.int64)
    followed = np.zeros(len(task.structure.outputs), np.int64)
    followed[[output for output, _ in task.tallies]] = 1
    for states in (
        *(kernel.needs[output] for output in {*task.wanted, *task.recorded}),
        *(kernel.follows[output] for output in np.flatnonzero(followed)),
    ):
        used[list(states)] = 1
    # One table: what is passed to the functions of a kernel is passed word by word.
    rows = np.column_stack([ev.time, ev.kind, ev.index, ev.value, ev.scale])
    events = ev.start, rows, ev.clock, ev.schedule
    problem = (
        task.params, task.states, task.begin, task.end, events, _timetable(task.times), task.wanted,
        _asked(task),
    )  # fmt: skip
    scales = atol * np.asarray(task.structure.state_scales())
    results, halt = (found.values.reshape(-1), *tuple(found)[1:5]), np.zeros(1, np.int64)

    def block(first, last):
        return kernel.solve_block(
            first, last, problem, results, used, followed, rtol, scales, float(max_steps),
            task.locked, task.recorded, halt,
        )  # fmt: skip

    size = LANES if task.locked else max(LANES, min(_BLOCK, -(-n // (2 * threads))))
    bounds = [(first, min(first + size, n)) for first in range(0, n, size)]
    pieces = _run_blocks(block, bounds, threads, n, progress, halt)
    dense = _join(pieces, task) if len(task.recorded) else None
    return found, dense


def _timetable(times):
    """Return rows of times with an end to each, in one array, and how many times and rows."""
    padded = np.pad(times, ((0, 0), (0, 1)), constant_values=np.inf)
    return padded.reshape(-1), times.shape[1], len(times)


def _asked(task):
    """Return codes, outputs, levels and windows of the tallies as arrays."""
    asked = [tally for _, tally in task.tallies]
    own = any(
        isinstance(window, tuple) for tally in asked for window in (tally.opens, tally.closes)
    )
    numbers = np.empty((3, len(asked), len(task.params) if own else 1))
    for k, tally in enumerate(asked):
        numbers[0, k], numbers[1, k], numbers[2, k] = tally.level, tally.opens, tally.closes
    return (
        np.array([tally.code for tally in asked], dtype=np.int64),
        np.array([output for output, _ in task.tallies], dtype=np.int64),
        *(np.ascontiguousarray(rows) for rows in numbers),
    )


def _run_blocks(block, bounds, threads, n, progress, halt):
    """Run the blocks on other threads, so that this one can be interrupted."""
    with ThreadPoolExecutor(threads) as pool:
        futures = {pool.submit(block, *pair): pair for pair in bounds}
        try:
            done = 0
            for future in as_completed(futures):
                future.result()
                done += futures[future][1] - futures[future][0]
                if progress:
                    progress(done, n)
        except BaseException:
            halt[0] = 1
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _join(pieces, task) -> Dense:
    """Join the tables of the blocks, in which the steps of several subjects alternate."""
    table = np.concatenate(pieces)
    table = table[np.argsort(table[:, 0], kind="stable")]
    bounds = np.searchsorted(table[:, 0], np.arange(1, len(task.params)))
    return Dense.of(
        np.split(table[:, 1:], bounds), [task.structure.outputs[o] for o in task.recorded]
    )
