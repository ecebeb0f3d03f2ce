"""Template of the compiled backend, last part: the steps of all lanes, and a block of subjects.

Never imported as it stands: `lower.py` joins the parts and puts the equations of one structure in
the place of each `#: name` line. A block of subjects shares `_W` lanes. Every lane has its own
subject, time, step, events and outputs; a step is computed for all lanes at once, in loops over
`lane` that the compiler turns into SIMD, and accepted or not lane by lane. A lane whose subject is
finished takes the next one. What a lane computes depends on nothing in another lane, so that a
subject's result is the same to the bit whatever its neighbours.

`F` holds the numbers of the lanes and `C` their counters, `_W` after `_W`: names in capitals with
an underscore say where the `_W` of a kind begin, or the first of several kinds.
"""


@_compiled
def _advance(
    F,
    C,
    queue,
    last,
    problem,
    found,
    used,
    followed,
    rtol,
    atol,
    max_steps,
    locked,
    recorded,
    halt,
    dense,
):
    """Step the lanes until every subject is done, or the table of dense output may overflow.

    `queue` holds the next subject, the number of lanes at work and of rows of dense output.
    """
    times, wanted, tallies = problem[5][0], problem[6], problem[7]
    kinds = tallies[0]
    #: settings
    while queue[_LIVE] > 0 and _stopped(halt) == 0:
        if len(recorded) and queue[_DENSE] + _MOST_PARTS * _W > len(dense):
            return
        if locked:
            _lock(F)
        #: step
        if locked:
            for lane in range(1, _W):
                F[_ERROR + lane] = F[_ERROR]
        n_due, n_ending = 0, 0
        for lane in range(_W):
            error, h, t, stop = F[_ERROR + lane], F[_HS + lane], F[_T + lane], F[_STOP + lane]
            good, is_last = error <= 1.0, F[_LAST + lane] > 0.0
            _adapt(F, lane, error, good, is_last)
            reached = _choose(good, _choose(is_last, stop, t + h), t)
            due = good & (F[_NEXT + lane] <= reached)
            n_due += due
            stuck = (t + 0.1 * h == t) | ((h < 1e-10) & (not error < np.inf))
            steps = F[_STEPS + lane] + 1.0
            ends = (good & is_last) | ((not good) & stuck) | (steps >= max_steps)
            n_ending += ends
            F[_REACHED + lane] = reached
            F[_MOVED + lane] = reached - t
            F[_STEPS + lane] = steps
            F[_REJECTED + lane] += _choose(good, 0.0, 1.0)
            F[_GOOD + lane] = _choose(good, 1.0, 0.0)
            F[_DUE + lane] = _choose(due, 1.0, 0.0)
            F[_ENDS + lane] = _choose(ends, 1.0, 0.0)
        if n_due > 0 or len(recorded) or len(kinds):
            pass
            #: extension
        while n_due > 0:
            for o in range(len(wanted)):
                #: outputs
                _keep(F, C, o, found[0])
            n_due = _go_on(F, C, times, len(wanted))
        if len(recorded):
            for lane in range(_W):
                if F[_GOOD + lane] > 0.0 and F[_HS + lane] > 0.0:
                    _record_step(F, C, lane, recorded, fine, width, queue, dense)
        if len(kinds):
            pass
            #: tallies
        #: accept
        if n_ending > 0:
            _end(F, C, queue, last, problem, found, max_steps)


@_entry
def solve_block(
    first, last, problem, found, used, followed, rtol, atol, max_steps, locked, recorded, halt
):
    """Integrate subjects `first` to `last`; return a table of dense output, a row a step.

    `problem` holds params, states, begin, end, events, times, wanted and tallies, `found` values,
    saved states, tallies, status and counts, as `compiled.py` makes them.
    """
    F = np.zeros(_ROWS * _W + _TALLY * len(problem[7][0]))
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
            used,
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
        for row in range(len(dense)):
            for column in range(dense.shape[1]):
                longer[row, column] = dense[row, column]
        dense = longer
