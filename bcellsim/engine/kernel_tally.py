"""Template of the compiled backend, second part as well: the tallies, and their closer look.

`T` holds the rows of one tally. See `kernel_block.py`.
"""


@_inlined
def _value(F, lane, theta):
    """Return an output at a position of the step, from its powers."""
    a = _A + lane
    power = F[a + 3 * _W] + theta * F[a + 4 * _W]
    return F[a] + theta * (F[a + _W] + theta * (F[a + 2 * _W] + theta * power))


@_compiled
def _root(F, lane, low, high, level, rising):
    """Return where an output crosses a level between two positions."""
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if (_value(F, lane, middle) > level) == rising:
            high = middle
        else:
            low = middle
    return 0.5 * (low + high)


@_compiled
def _narrowed(F, lane, best, sign):
    """Return where sign x an output is smallest near a point, by golden sections."""
    low, high = max(best - 1.0 / _POINTS, 0.0), min(best + 1.0 / _POINTS, 1.0)
    for _ in range(_BISECTIONS):
        a, b = high - 0.6180339887498949 * (high - low), low + 0.6180339887498949 * (high - low)
        if sign * _value(F, lane, a) < sign * _value(F, lane, b):
            high = b
        else:
            low = a
    middle = 0.5 * (low + high)
    better = sign * _value(F, lane, middle) < sign * _value(F, lane, best)
    return middle if better else best


@_compiled
def _extreme(F, lane, sign):
    """Return where sign x an output is smallest: by Newton from the best of nine points."""
    best, smallest = 0.0, sign * F[_A + lane]
    for j in range(1, _POINTS + 1):
        value = sign * _value(F, lane, j / _POINTS)
        if value < smallest:
            best, smallest = j / _POINTS, value
    a, theta = _A + lane, best
    c1, c2, c3, c4 = F[a + _W], F[a + 2 * _W], F[a + 3 * _W], F[a + 4 * _W]
    if best == 0.0 and sign * c1 >= 0.0:
        return best
    if best == 1.0 and sign * (c1 + 2.0 * c2 + 3.0 * c3 + 4.0 * c4) <= 0.0:
        return best
    for _ in range(_NEWTON):
        slope = c1 + theta * (2.0 * c2 + theta * (3.0 * c3 + theta * 4.0 * c4))
        curvature = 2.0 * c2 + theta * (6.0 * c3 + theta * 12.0 * c4)
        if not sign * curvature > 0.0:
            return _narrowed(F, lane, best, sign)
        before = theta
        theta = min(max(theta - slope / curvature, best - 1.0 / _POINTS), best + 1.0 / _POINTS)
        if abs(theta - before) < 1e-9:
            break
    theta = min(max(theta, 0.0), 1.0)
    return theta if sign * _value(F, lane, theta) < smallest else best


@_compiled
def _look(F, T, lane, kind):
    """Follow an output through a step in which something happens to a tally."""
    h, t, level = F[_HS + lane], F[_T + lane], T[_LEVEL + lane]
    one, other = T[_ONE + lane], T[_OTHER + lane]
    if kind in (_LOWEST, _HIGHEST):
        sign = 1.0 if kind == _LOWEST else -1.0
        theta = _extreme(F, lane, sign)
        value = _value(F, lane, theta)
        if not sign * value >= sign * one:
            T[_ONE + lane], T[_OTHER + lane] = value, t + theta * h
        return
    before, was_above = 0.0, F[_A + lane] > level
    if kind == _BELOW:
        if not was_above and one == np.inf:
            one = t
        elif was_above and one < np.inf and other == np.inf:
            other = t
    for j in range(1, _POINTS + 1):
        theta = j / _POINTS
        above = _value(F, lane, theta) > level
        root = theta
        if above != was_above:
            root = _root(F, lane, before, theta, level, above)
        if kind == _ABOVE:
            if above or was_above:
                one += h * ((root - before) if was_above else (theta - root))
        elif above != was_above:
            if not above and one == np.inf:
                one = t + root * h
            elif above and one < np.inf and other == np.inf:
                other = t + root * h
        before, was_above = theta, above
    if kind == _ABOVE and one == 0.0:
        theta = _extreme(F, lane, -1.0)
        other = max(other, 1.0 if _value(F, lane, theta) > level else 0.0)
    T[_ONE + lane], T[_OTHER + lane] = one, other


@_inlined
def _smallest(F, T, sign, bound):
    """Add a step to a tally of the smallest sign x an output, whose bound is in a row."""
    n = 0
    for lane in range(_W):
        days, one, least = F[_MOVED + lane] * T[_ACTIVE + lane], T[_ONE + lane], F[bound + lane]
        beats = (not sign * least >= sign * one) & (days > 0.0)
        start, end = F[_A + lane], F[_A + 7 * _W + lane]
        first = sign * start <= sign * end
        value = _choose(first, start, end)
        simple = sign * least >= sign * value  # the bound is at an end
        better = beats & simple
        when, other = _choose(first, F[_T + lane], F[_REACHED + lane]), T[_OTHER + lane]
        T[_ONE + lane] = _choose(better, value, one)
        T[_OTHER + lane] = _choose(better, when, other)
        look = beats & (not simple)
        T[_LOOK + lane] = _choose(look, 1.0, 0.0)
        n += look
    return n


@_inlined
def _tally(F, T, kind):
    """Add a step of all lanes to a tally, rows `T`; return how many lanes need a closer look."""
    n = 0
    if kind == _ABOVE:
        for lane in range(_W):
            level, days = T[_LEVEL + lane], F[_MOVED + lane] * T[_ACTIVE + lane]
            low, high = F[_A + 5 * _W + lane], F[_A + 6 * _W + lane]
            T[_ONE + lane] += _choose(low > level, days, 0.0)
            look = (low <= level) & (high > level) & (days > 0.0)
            T[_LOOK + lane] = _choose(look, 1.0, 0.0)
            n += look
    elif kind == _BELOW:
        for lane in range(_W):
            level, days = T[_LEVEL + lane], F[_MOVED + lane] * T[_ACTIVE + lane]
            waits, done = T[_ONE + lane] == np.inf, T[_OTHER + lane] < np.inf
            low, high = F[_A + 5 * _W + lane], F[_A + 6 * _W + lane]
            happens = _choose(waits, level - low, high - level) >= 0.0
            look = happens & (not done) & (days > 0.0)
            T[_LOOK + lane] = _choose(look, 1.0, 0.0)
            n += look
    elif kind == _INTEGRAL:
        for lane in range(_W):
            days, a = F[_MOVED + lane] * T[_ACTIVE + lane], _A + lane
            mean = F[a] + 0.5 * F[a + _W] + _THIRD * F[a + 2 * _W] + 0.25 * F[a + 3 * _W]
            mean += 0.2 * F[a + 4 * _W]
            T[_ONE + lane] += _choose(days > 0.0, days * mean, 0.0)
            T[_OTHER + lane] += days
    elif kind == _LOWEST:
        n = _smallest(F, T, 1.0, _A + 5 * _W)
    elif kind == _HIGHEST:
        n = _smallest(F, T, -1.0, _A + 6 * _W)
    return n


@_inlined
def _follow(F, C, output, tallies):
    """Add the step of all lanes to the tallies of an output, whose polynomials are in rows `_A`."""
    kinds, outputs, _, _, _ = tallies
    for k in range(len(kinds)):
        q = _ROWS * _W + k * _TALLY
        rows = F[q : q + _TALLY]
        if outputs[k] == output and _tally(F, rows, kinds[k]) > 0:
            for lane in range(_W):
                if rows[_LOOK + lane] > 0.0 and C[_SUBJECT + lane] >= 0:
                    _look(F, rows, lane, kinds[k])


@_compiled
def _next_edge(F, lane, n_tallies):
    """Say which tallies are in their window now; return when the next window opens or closes."""
    t, edge = F[_T + lane], np.inf
    for k in range(n_tallies):
        q = _ROWS * _W + k * _TALLY + lane
        opens, closes = F[q + _OPENS], F[q + _CLOSES]
        F[q + _ACTIVE] = 1.0 if opens <= t < closes else 0.0
        if opens > t:
            edge = min(edge, opens)
        if closes > t:
            edge = min(edge, closes)
    return edge


@_compiled
def _open(F, lane, subject, tallies):
    """Begin the tallies of a subject."""
    kinds, _, levels, opens, closes = tallies
    for k in range(len(kinds)):
        q = _ROWS * _W + k * _TALLY + lane
        i = min(subject, levels.shape[1] - 1)
        F[q + _LEVEL], F[q + _OPENS], F[q + _CLOSES] = levels[k, i], opens[k, i], closes[k, i]
        nothing = 0.0 if kinds[k] == _ABOVE or kinds[k] == _INTEGRAL else np.nan
        if kinds[k] == _BELOW:
            nothing = np.inf
        F[q + _ONE] = F[q + _OTHER] = nothing
