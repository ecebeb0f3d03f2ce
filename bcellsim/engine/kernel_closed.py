"""Template of the compiled backend, third part, where the drug states have a closed form.

In the place of `kernel.py`. Between two events the linear states x are sums of
exponentials: of each state a constant and, for an infusion into what hardly decays, two powers of
the time since the event (`_CONST`, `_DRIFT`, `_CURVE`), and of each mode a weight (`_WEIGHT`) times
a decay (`_DECAY`, from 1 at the event). Each event sets them anew from the states. Only the state
that remains is integrated, by collocation (`collocation.py`), with error control.
"""


@_inlined
def _rates(F, lane, *_drugs):
    """Return the loss and the gain of the state that remains, from the states that drive them."""
    #: rates


@_inlined
def _push(F, lane, shift, scale):
    """Multiply the vector in rows `_PART` by (the matrix + shift) scale."""
    #: push


@_inlined
def _entering(F, lane):
    """Write what enters the linear states from outside."""
    #: entering


@_compiled
def _modes(F, lane):
    """Find the decay rates, which are eigenvalues of the matrix with their signs turned."""
    #: modes
    if _LINEAR == 3:  # in ascending order
        for a, b in ((0, 1), (1, 2), (0, 1)):
            low, high = F[_MU + a * _W + lane], F[_MU + b * _W + lane]
            F[_MU + a * _W + lane], F[_MU + b * _W + lane] = min(low, high), max(low, high)
    _part(F, lane)
    for k in range(_LINEAR):
        rate = F[_MU + _W * k + lane]
        F[_INVERSE + _W * k + lane] = 1.0 / rate
        # The part of each unit vector that is in the mode: Lagrange's formula for a matrix.
        for c in range(_LINEAR):
            for j in range(_LINEAR):
                F[_PART + _W * j + lane] = 1.0 if j == c else 0.0
            for m in range(_LINEAR):
                if m != k:
                    other = F[_MU + _W * m + lane]
                    _push(F, lane, other, 1.0 / (other - rate))
            for j in range(_LINEAR):
                at = _LINEAR * (_LINEAR * k + j) + c
                F[_MODE + _W * at + lane] = F[_PART + _W * j + lane]


@_inlined
def _part(F, lane):
    """Move rates apart that are nearly equal, whose weights would be infinite.

    If they move evenly, the error is in the square of the distance.
    """
    if _LINEAR == 3:
        middle = F[_MU + _W + lane]
        gap = max(_APART * abs(middle), _APART_LEAST)
        if max(middle - F[_MU + lane], F[_MU + 2 * _W + lane] - middle) < gap:
            F[_MU + lane], F[_MU + 2 * _W + lane] = middle - gap, middle + gap
            return
    for a in range(_LINEAR - 1):
        low, high = F[_MU + a * _W + lane], F[_MU + (a + 1) * _W + lane]
        middle = 0.5 * (low + high)
        gap = max(_APART * abs(middle), _APART_LEAST)
        if abs(high - low) < gap:
            F[_MU + a * _W + lane] = middle - 0.5 * gap
            F[_MU + (a + 1) * _W + lane] = middle + 0.5 * gap


@_inlined
def _linear(F, lane, j, passed):
    """Return a linear state some time after the start of the step."""
    since = F[_SINCE + lane] + passed
    x = F[_DRIFT + _W * j + lane] + since * F[_CURVE + _W * j + lane]
    x = F[_CONST + _W * j + lane] + since * x
    for k in range(_LINEAR):
        decay = F[_DECAY + _W * k + lane] * _exp(-passed * F[_MU + _W * k + lane])
        x += F[_WEIGHT + _W * (_LINEAR * j + k) + lane] * decay
    return x


@_inlined
def _present(F, lane, j):
    """Return a linear state at the start of the step."""
    since = F[_SINCE + lane]
    x = F[_DRIFT + _W * j + lane] + since * F[_CURVE + _W * j + lane]
    x = F[_CONST + _W * j + lane] + since * x
    for k in range(_LINEAR):
        x += F[_WEIGHT + _W * (_LINEAR * j + k) + lane] * F[_DECAY + _W * k + lane]
    return x


@_inlined
def _moved(F, lane, theta):
    """Return how far the state that remains has come at a position of the step."""
    c = _C + lane
    square = theta * theta
    low = F[c] + theta * F[c + _W] + square * (F[c + 2 * _W] + theta * F[c + 3 * _W])
    high = F[c + 4 * _W] + theta * F[c + 5 * _W]
    high += square * (F[c + 6 * _W] + theta * F[c + 7 * _W])
    return theta * (low + square * square * high)


@_compiled
def _settle(F, lane):
    """Put the states of this moment in rows `_Y`."""
    for j in range(_LINEAR):
        F[_Y + _W * _WHICH[j] + lane] = _present(F, lane, j)


@_compiled
def _project(F, lane):
    """Set constants and weights from the states and from what enters them."""
    _entering(F, lane)
    enters = False
    for j in range(_LINEAR):
        F[_CONST + _W * j + lane] = F[_DRIFT + _W * j + lane] = F[_CURVE + _W * j + lane] = 0.0
        enters |= F[_ENTERS + _W * j + lane] != 0.0
    nothing = 0.0
    for k in range(_LINEAR):
        F[_DECAY + _W * k + lane] = 1.0
        for j in range(_LINEAR):
            weight, row = 0.0, _LINEAR * (_LINEAR * k + j)
            for c in range(_LINEAR):
                weight += F[_MODE + _W * (row + c) + lane] * F[_Y + _W * _WHICH[c] + lane]
            if enters:
                weight += _enter(F, lane, j, k)
            F[_WEIGHT + _W * (_LINEAR * j + k) + lane] = weight
            nothing += 0.0 * weight
    # What is not finite must reach the error in any case.
    F[_NOTHING + lane] = nothing


@_compiled
def _enter(F, lane, j, k):
    """Add what enters a state by a mode to its constant; return the change of the weight."""
    rate, v, row = F[_MU + _W * k + lane], 0.0, _LINEAR * (_LINEAR * k + j)
    for c in range(_LINEAR):
        v += F[_MODE + _W * (row + c) + lane] * F[_ENTERS + _W * c + lane]
    if abs(rate) < _HARDLY:
        F[_DRIFT + _W * j + lane] += v
        F[_CURVE + _W * j + lane] -= 0.5 * rate * v
        return 0.0 * v
    v *= F[_INVERSE + _W * k + lane]
    F[_CONST + _W * j + lane] += v
    return -v


@_compiled
def _restart(F, lane):
    """Begin anew after events, with a first step in which the drug's effect hardly moves."""
    F[_BEGUN + lane], F[_SINCE + lane] = F[_T + lane], 0.0
    _project(F, lane)
    _first_step(F, lane)


@_compiled
def _first_step(F, lane):
    """Find the first step after an event, and the rates at its start."""
    #: first step
    F[_LOSS + lane], F[_GAIN + lane] = loss, gain
    count = abs(F[_Y + _W * _REST + lane])
    h = min(F[_H + lane], F[_STOP + lane] - F[_T + lane])
    for _ in range(24):
        #: later rates
        change = abs(later[0] - loss) * count + abs(later[1] - gain)
        if change * h <= _CALM * count or h < _SHORTEST:
            break
        h *= 0.3
    F[_H + lane], F[_BEFORE + lane] = h, -1.0


@_compiled
def _parts(F, lane, fine, width):
    """Return in how many parts a step's continuous solution is given by quartic polynomials."""
    if not fine:
        return _FEWEST_PARTS
    wanted = np.ceil(F[_FAST + lane] * F[_HS + lane] / width)
    return int(min(max(wanted, _FEWEST_PARTS), _MOST_PARTS))


@_compiled
def _record_step(F, C, lane, recorded, fine, width, queue, dense):
    """Write the rows of dense output of a step."""
    parts = _parts(F, lane, fine, width)
    for part in range(parts):
        low, high = part / parts, (part + 1) / parts
        _record(F, C, lane, recorded, low, high, dense[queue[_DENSE]])
        queue[_DENSE] += 1


@_compiled
def _is_fine(followed, recorded):
    """Return whether a drug state is part of what is followed or recorded."""
    fine = False
    for o in range(len(followed)):
        fine |= (followed[o] > 0) & _OF_DRUG[o]
    for r in range(len(recorded)):
        fine |= _OF_DRUG[recorded[r]]
    return fine


@_compiled
def _tally_parts(F, tallies, followed, fine, width):
    """Add a step of all lanes to the tallies, part by part."""
    most = 0
    for lane in range(_W):
        parts = _parts(F, lane, fine, width) if F[_GOOD + lane] > 0.0 else 0
        most = max(most, parts)
        F[_PARTS + lane] = parts
        F[_WHOLE + lane], F[_WHOLE + _W + lane] = F[_T + lane], F[_HS + lane]
        F[_WHOLE + 2 * _W + lane] = F[_REACHED + lane]
    for part in range(most):
        for lane in range(_W):
            t, h, parts = F[_WHOLE + lane], F[_WHOLE + _W + lane], F[_PARTS + lane]
            share = 1.0 / max(parts, 1.0)
            end = _choose(
                part + 1.0 == parts, F[_WHOLE + 2 * _W + lane], t + h * (part + 1) * share
            )
            active = part < parts
            F[_SHARE + lane] = share
            begin = _choose(active, t + h * part * share, t)
            end = _choose(active, end, t)
            F[_T + lane], F[_REACHED + lane], F[_MOVED + lane] = begin, end, end - begin
            F[_HS + lane] = h * share
        #: courses
    for lane in range(_W):
        F[_T + lane], F[_HS + lane] = F[_WHOLE + lane], F[_WHOLE + _W + lane]
        F[_REACHED + lane] = F[_WHOLE + 2 * _W + lane]


@_inlined
def _aim(F, lane):
    """Choose the step: which `nodes` does."""


@_inlined
def _lock(F):
    """Lock the lanes: they never are."""


@_inlined
def _adapt(F, lane, error, good, is_last):
    """Choose the width of the next step."""
    h, before, wanted = F[_HS + lane], F[_BEFORE + lane], F[_H + lane]
    ease = _exp(-_log(error + 1e-10) * _choose(good, 1.0 / _ORDER, 0.2))
    # The trend of the last two steps, where they grow.
    trend = h / (before + 1e-300) * ease / (F[_EASE + lane] + 1e-300)
    trend = _choose(h > before, min(max(trend, 1.0), 4.0), 1.0)
    trend = _choose(before > 0.0, trend, _choose(before < 0.0, 3.0, 1.0))
    after = h * min(max(0.9 * ease * trend, 0.2), 8.0)
    after = _choose(is_last, max(after, wanted), after)
    smaller = h * _choose(error == error, max(0.9 * ease, 0.1), 0.1)
    F[_H + lane] = _choose(good, after, smaller)
    F[_BEFORE + lane] = _choose(good, h, 0.0)
    F[_EASE + lane] = _choose(good, ease, 0.0)


@_inlined
def _accept(F, lane):
    """Move a lane whose step is good."""
    good = F[_GOOD + lane] > 0.0
    F[_T + lane] = F[_REACHED + lane]
    F[_SINCE + lane] = F[_REACHED + lane] - F[_BEGUN + lane]
    count = F[_Y + _W * _REST + lane]
    F[_Y + _W * _REST + lane] = _choose(good, F[_NEW + lane], count)
    F[_LOSS + lane] = _choose(good, F[_LOSS + _W * _STAGES + lane], F[_LOSS + lane])
    F[_GAIN + lane] = _choose(good, F[_GAIN + _W * _STAGES + lane], F[_GAIN + lane])
    for k in range(_LINEAR):
        decay = F[_DECAY + _W * k + lane]
        F[_DECAY + _W * k + lane] = _choose(good, F[_LATER + _W * k + lane], decay)
