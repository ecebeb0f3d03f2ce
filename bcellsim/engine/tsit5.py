"""The compiled backend: adaptive Tsit5 per subject, blocks of subjects on a pool of threads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np

from bcellsim.engine.lower import compiled_kernel
from bcellsim.engine.solution import Dense

_LARGEST_BLOCK = 64


def available_threads() -> int:
    """Return the number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def solve(task, *, rtol, atol, max_steps, threads, progress):
    """Integrate every subject; see `bcellsim.engine.solve` for the arguments."""
    kernel = compiled_kernel(task.structure)
    threads = threads or available_threads()
    n = len(task.params)
    events = task.events
    values = np.empty((n, task.times.shape[1], len(task.structure.outputs)))
    status = np.zeros(n, np.int64)
    counts = np.zeros((n, 2), np.int64)
    scales = atol * np.asarray(task.structure.state_scales())

    def block(first, last):
        return kernel(
            first, last, task.params, task.begin, task.end, task.times, events.start, events.time,
            events.kind, events.index, events.value, events.scale, events.clock, events.schedule,
            rtol, scales, max_steps, task.recorded, values, status, counts,
        )  # fmt: skip

    size = max(1, min(_LARGEST_BLOCK, -(-n // (4 * threads))))
    bounds = [(first, min(first + size, n)) for first in range(0, n, size)]
    pieces = _run_blocks(block, bounds, threads, n, progress)
    dense = _join(pieces, task) if len(task.recorded) else None
    return values, status, counts, dense


def _run_blocks(block, bounds, threads, n, progress):
    """Run the blocks; an interrupt drops those not yet begun and waits for the rest."""
    if threads == 1 or len(bounds) == 1:
        pieces = []
        for first, last in bounds:
            pieces.append(block(first, last))
            if progress:
                progress(last, n)
        return pieces
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
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _join(pieces, task) -> Dense:
    rows = np.concatenate([rows for _, rows in pieces])
    table = np.concatenate([dense for dense, _ in pieces])
    return Dense(
        start=np.concatenate([[0], np.cumsum(rows)]),
        time=table[:, 0],
        width=table[:, 1],
        nodes={
            task.structure.outputs[output]: table[:, 2 + 5 * i : 7 + 5 * i]
            for i, output in enumerate(task.recorded)
        },
    )
