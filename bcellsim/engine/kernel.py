"""Template of the compiled backend, third part: the method, Tsit5. See `kernel_block.py`."""


@_inlined
def _slopes(F, lane, time, *_states):
    """Return the time derivatives of the states."""
    #: slopes


@_inlined
def _state(F, lane, i, theta):
    """Return a state at a position of the step."""
    c = _C + 4 * _W * i + lane
    power = F[c + 2 * _W] + theta * F[c + 3 * _W]
    return F[_Y + _W * i + lane] + theta * (F[c] + theta * (F[c + _W] + theta * power))


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


@_inlined
def _aim(F, lane):
    """Choose the step: the whole way to the stop where it is not longer."""
    left, h = F[_STOP + lane] - F[_T + lane], F[_H + lane]
    # Where the slopes are void, a step of width 0 finds them.
    moves = F[_FRESH + lane] < 2.0
    is_last = (1.0000001 * h >= left) & moves
    F[_LAST + lane] = _choose(is_last, 1.0, 0.0)
    F[_HS + lane] = _choose(is_last, left, _choose(moves, h, 0.0))
    F[_TM + lane] = F[_T + lane] - F[_CLOCK + lane]


@_inlined
def _lock(F):
    """Let all lanes take the same share of their way to the stop as the first."""
    share = F[_HS] / (F[_STOP] - F[_T])
    for lane in range(1, _W):
        F[_LAST + lane] = F[_LAST]
        F[_HS + lane] = share * (F[_STOP + lane] - F[_T + lane])


@_inlined
def _adapt(F, lane, error, good, is_last):
    """Choose the width of the next step."""
    h, before, fresh = F[_HS + lane], F[_H + lane], F[_FRESH + lane]
    limit = _choose(h < _EARLY, _EARLY_GROWTH, 5.0)
    least = _choose(fresh > 0.0, 0.02, 0.2)
    factor = min(max(0.9 * _exp(-0.2 * _log(error)), least), limit)
    after = h * _choose(error == error, factor, least)
    after = _choose(good & is_last, max(after, before), after)
    F[_H + lane] = _choose(fresh > 1.0, before, after)
    F[_FRESH + lane] = _choose(fresh > 1.0, 1.0, _choose(good, 0.0, fresh))


@_inlined
def _record_step(F, C, lane, recorded, fine, width, queue, dense):
    """Write the row of dense output of a step."""
    _record(F, C, lane, recorded, 0.0, 1.0, dense[queue[_DENSE]])
    queue[_DENSE] += 1
