"""Template of the compiled backend, third part: the steps of all lanes.

Never imported as it stands: `lower.py` puts the equations of one structure in the place of each
`#: name` line. A block of subjects shares `_W` lanes. Every lane has its own subject, time, step,
events and outputs; a step is computed for all lanes at once, in loops over `lane` that the compiler
turns into SIMD, and accepted or not lane by lane. A lane whose subject is finished takes the next
one. What a lane computes depends on nothing in another lane, so that a subject's result is the same
to the bit whatever its neighbours.

`F` holds the numbers of the lanes and `C` their counters, `_W` after `_W`: names in capitals with
an underscore say where the `_W` of a kind begin, or the first of several kinds.
"""


@_inlined
def _slopes(F, lane, time, *_states):
    """Return the time derivatives of the states."""
    #: slopes


@_inlined
def _place(F, lane, theta, used):
    """Put the states that are used, at a position of the step, in rows `_Z`."""
    for i in range(_N):
        if used[i]:
            c = _C + 4 * _W * i + lane
            power = F[c + 2 * _W] + theta * F[c + 3 * _W]
            power = F[c] + theta * (F[c + 1 * _W] + theta * power)
            F[_Z + _W * i + lane] = F[_Y + _W * i + lane] + theta * power


@_inlined
def _still(F, lane):
    """Let the continuous solution stay where it is."""
    for i in range(4 * _N):
        F[_C + _W * i + lane] = 0.0


@_inlined
def _settle(F, lane):
    """Put the states of this moment in rows `_Y`, where they are."""


@_inlined
def _restart(F, lane):
    """Begin anew after events."""
    F[_H + lane] = min(F[_H + lane], _FIRST_STEP)
    # The slopes before the event are void: a step of width 0 finds the new ones.
    F[_FRESH + lane] = 2.0
    for i in range(_N):
        F[_K + _W * i + lane] = 0.0


@_compiled
def _advance(
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
):
    """Step the lanes until every subject is done, or the table of dense output may overflow.

    `queue` holds the next subject, the number of lanes at work and of rows of dense output.
    """
    _, _, _, _, _, _, _, used, tallies = problem
    kinds = tallies[0]
    #: absolute tolerances
    while queue[_LIVE] > 0 and _stopped(halt) == 0:
        if len(recorded) and queue[_DENSE] + _W > len(dense):
            return
        for lane in range(_W):
            left = F[_STOP + lane] - F[_T + lane]
            h = F[_H + lane]
            moves = F[_FRESH + lane] < 2.0
            is_last = (1.0000001 * h >= left) & moves
            F[_LAST + lane] = _choose(is_last, 1.0, 0.0)
            F[_HS + lane] = _choose(is_last, left, _choose(moves, h, 0.0))
            F[_TM + lane] = F[_T + lane] - F[_CLOCK + lane]
        if locked:
            share = F[_HS] / (F[_STOP] - F[_T])
            for lane in range(1, _W):
                F[_LAST + lane] = F[_LAST]
                F[_HS + lane] = share * (F[_STOP + lane] - F[_T + lane])
        #: stages
        #: error
        if locked:
            for lane in range(1, _W):
                F[_ERROR + lane] = F[_ERROR]
        n_due, n_ending = 0, 0
        for lane in range(_W):
            error, h, t, stop = F[_ERROR + lane], F[_HS + lane], F[_T + lane], F[_STOP + lane]
            before, fresh = F[_H + lane], F[_FRESH + lane]
            # The estimate hardly sees what happens at the very beginning of the step.
            error *= _choose(fresh > 0.0, _EVENT_CARE, 1.0)
            good, is_last = error <= 1.0, F[_LAST + lane] > 0.0
            limit = _choose(h < _EARLY, _EARLY_GROWTH, 5.0)
            least = _choose(fresh > 0.0, 0.02, 0.2)
            factor = min(max(0.9 * _exp(-0.2 * _log(error)), least), limit)
            after = h * _choose(error == error, factor, least)
            after = _choose(good & is_last, max(after, before), after)
            F[_H + lane] = _choose(fresh > 1.0, before, after)
            F[_FRESH + lane] = _choose(fresh > 1.0, 1.0, _choose(good, 0.0, fresh))
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
        if n_due > 0:
            for lane in range(_W):
                if F[_DUE + lane] > 0.0:
                    _emit(F, C, lane, F[_REACHED + lane], F[_HS + lane], problem, found[0])
        if len(recorded):
            for lane in range(_W):
                if F[_GOOD + lane] > 0.0 and F[_HS + lane] > 0.0:
                    _record(F, C, lane, used, recorded, 0.0, 1.0, dense[queue[_DENSE]])
                    queue[_DENSE] += 1
        if len(kinds):
            pass
            #: courses
        #: accept
        if n_ending > 0:
            _end(F, C, queue, last, problem, found, max_steps)
