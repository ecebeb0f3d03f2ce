"""Template of the compiled backend, last part: a block of subjects. See `kernel.py`."""


@_entry
def solve_block(
    first, last, problem, found, followed, rtol, atol, max_steps, locked, recorded, halt
):
    """Integrate subjects `first` to `last`; return a table of dense output, a row a step.

    `problem` holds params, states, begin, end, events, times, wanted, used and tallies, `found`
    values, saved states, tallies, status and counts, as `compiled.py` makes them.
    """
    F = np.zeros(_ROWS * _W + _TALLY * len(problem[8][0]))
    C = np.zeros(_COUNTERS * _W, np.int64)
    dense = np.empty((1024 if len(recorded) else 0, 3 + 5 * len(recorded)))
    queue = np.array([first, _W, 0])
    for lane in range(_W):
        _fill(F, C, lane, queue, last, problem, found)
    while True:
        _advance(
            F,
            C,
            queue,
            last,
            problem,
            found,
            followed,
            rtol,
            atol,
            max_steps,
            locked,
            recorded,
            halt,
            dense,
        )
        if queue[_LIVE] == 0 or _stopped(halt) != 0:
            return dense[: queue[_DENSE]].copy()
        longer = np.empty((2 * len(dense), dense.shape[1]))
        longer[: len(dense)] = dense
        dense = longer
