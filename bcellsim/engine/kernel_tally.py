"""Template of the compiled backend, second part as well: the tallies, and their closer look.

Rows `_A` hold the Bernstein coefficients of an output in the step, which bound it; then its bounds,
which are infinite for a lane that does not move, and its area. `T` holds the rows of one tally. One
of a level waits: rows `_FALLS` and `_RISES` say what the bounds of its output must reach before
anything happens to it, and those of an output before anything happens to any of its tallies. See
`kernel_block.py`.
"""


@_inlined
def _value(powers, theta):
    """Return an output at a position of the step, from its powers."""
    c0, c1, c2, c3, c4 = powers
    return c0 + theta * (c1 + theta * (c2 + theta * (c3 + theta * c4)))


@_inlined
def _slopes_of(powers, theta):
    """Return the first three derivatives of an output at a position of the step."""
    _, c1, c2, c3, c4 = powers
    first = c1 + theta * (2.0 * c2 + theta * (3.0 * c3 + theta * 4.0 * c4))
    second = 2.0 * c2 + theta * (6.0 * c3 + theta * 12.0 * c4)
    return first, second, 6.0 * c3 + theta * 24.0 * c4


@_inlined
def _powers(F, lane, sign):
    """Return the powers of sign x an output, and the four differences of its coefficients."""
    a = _A + lane
    b0, b1, b2 = sign * F[a], sign * F[a + _W], sign * F[a + 2 * _W]
    b3, b4 = sign * F[a + 3 * _W], sign * F[a + 4 * _W]
    d0, d1, d2, d3 = b1 - b0, b2 - b1, b3 - b2, b4 - b3
    e0, e1, e2 = d1 - d0, d2 - d1, d3 - d2
    powers = b0, 4.0 * d0, 6.0 * e0, 4.0 * (e1 - e0), (e2 - e1) - (e1 - e0)
    return powers, (d0, d1, d2, d3)


@_compiled
def _root(powers, low, high, level):
    """Return where an output crosses a level between two positions, by Newton and bisection."""
    first, last = _value(powers, low) - level, _value(powers, high) - level
    rising = last > first
    theta = low + (high - low) * first / (first - last)
    for _ in range(_ITERATIONS):
        value = _value(powers, theta) - level
        if (value > 0.0) == rising:
            high = theta
        else:
            low = theta
        before = theta
        theta -= value / _slopes_of(powers, theta)[0]
        if not low <= theta <= high:
            theta = 0.5 * (low + high)
        if abs(theta - before) < 1e-8:
            break
    return theta


@_compiled
def _narrowed(powers):
    """Return where an output is smallest, by golden sections near the best of nine points."""
    best, smallest = 0.0, powers[0]
    for j in range(1, _POINTS + 1):
        value = _value(powers, j / _POINTS)
        if value < smallest:
            best, smallest = j / _POINTS, value
    low, high = max(best - 1.0 / _POINTS, 0.0), min(best + 1.0 / _POINTS, 1.0)
    for _ in range(_ITERATIONS):
        a, b = high - 0.6180339887498949 * (high - low), low + 0.6180339887498949 * (high - low)
        if _value(powers, a) < _value(powers, b):
            high = b
        else:
            low = a
    middle = 0.5 * (low + high)
    return middle if _value(powers, middle) < smallest else best


@_inlined
def _turning(F, T, sign, bound):
    """Find where sign x an output is smallest within a step, in lanes where that may be less."""
    n = 0
    for lane in range(_W):
        powers, (d0, d1, d2, d3) = _powers(F, lane, sign)
        beats = sign * F[bound + lane] < T[_KEPT + lane]
        # Where the coefficients of its slope change sign once, so does the slope: by Halley.
        theta = d0 / (d0 - d3)
        first, second, third = _slopes_of(powers, theta)
        theta -= 2.0 * first * second / (2.0 * second * second - first * third)
        first, second, third = _slopes_of(powers, theta)
        theta -= 2.0 * first * second / (2.0 * second * second - first * third)
        found = (theta > 0.0) & (theta < 1.0) & (abs(first) < 1e-3 * second)
        found &= (d0 < 0.0) & (d3 > 0.0) & ((d1 <= 0.0) | (d2 >= 0.0))
        value = _value(powers, theta)
        better = beats & found & (value < T[_KEPT + lane])
        T[_KEPT + lane] = _choose(better, value, T[_KEPT + lane])
        when = F[_T + lane] + theta * F[_HS + lane]
        T[_OTHER + lane] = _choose(better, when, T[_OTHER + lane])
        T[_FALLS + lane] = _choose(beats & (not found), 1.0, 0.0)
        n += beats & (not found)
    if n > 0:
        for lane in range(_W):
            if T[_FALLS + lane] > 0.0:
                _search(F, T, lane, sign)


@_compiled
def _search(F, T, lane, sign):
    """Find where sign x an output of any form is smallest within a step."""
    powers = _powers(F, lane, sign)[0]
    theta = _narrowed(powers)
    value = _value(powers, theta)
    if value < T[_KEPT + lane]:
        T[_KEPT + lane], T[_OTHER + lane] = value, F[_T + lane] + theta * F[_HS + lane]


@_inlined
def _smallest(F, T, sign, bound):
    """Add a step to a tally of the smallest sign x an output, whose bound is in a row."""
    n = 0
    for lane in range(_W):
        least, end, best = sign * F[bound + lane], sign * F[_A + 4 * _W + lane], T[_KEPT + lane]
        falls = (least < best) & (end == least)
        T[_KEPT + lane] = _choose(falls, least, best)
        T[_OTHER + lane] = _choose(falls, F[_REACHED + lane], T[_OTHER + lane])
        n += (least < best) & (end > least)
    if n > 0:
        _turning(F, T, sign, bound)


@_compiled
def _look(F, T, lane):
    """Follow an output through a step in which something may happen to a tally of a level."""
    h, t, level = F[_HS + lane], F[_T + lane], T[_LEVEL + lane]
    powers, (d0, d1, d2, d3) = _powers(F, lane, 1.0)
    falls, rises = max(max(d0, d1), max(d2, d3)) <= 0.0, min(min(d0, d1), min(d2, d3)) >= 0.0
    points = 1 if falls or rises else _POINTS
    _pass(T, lane, t, powers[0] > level)
    before, was_above = 0.0, powers[0] > level
    for j in range(1, points + 1):
        theta = j / points
        above = _value(powers, theta) > level
        if above != was_above:
            _pass(T, lane, t + h * _root(powers, before, theta, level), above)
        before, was_above = theta, above
    if points > 1 and T[_WHAT + lane] == _ABOVE and T[_OTHER + lane] == 0.0:
        # Between two of the points it may have been above as well.
        powers = _powers(F, lane, -1.0)[0]
        T[_OTHER + lane] = 1.0 if -_value(powers, _narrowed(powers)) > level else 0.0
    _wait(T, lane)


@_inlined
def _pass(T, lane, time, above):
    """Let a tally of a level see on which side of it an output is from a time on."""
    if T[_WHAT + lane] == _ABOVE:
        if above and T[_KEPT + lane] == np.inf:
            T[_KEPT + lane], T[_OTHER + lane] = time, 1.0
        elif not above:
            _close(T, lane, time)
    elif not above and T[_ONE + lane] == np.inf:
        T[_ONE + lane] = time
    elif above and T[_ONE + lane] < np.inf and T[_OTHER + lane] == np.inf:
        T[_OTHER + lane] = time


@_inlined
def _wait(T, lane):
    """Say what a tally of a level waits for."""
    falls, done = T[_KEPT + lane] < np.inf, False
    if T[_WHAT + lane] == _BELOW:
        falls, done = T[_ONE + lane] == np.inf, T[_OTHER + lane] < np.inf
    T[_FALLS + lane] = T[_LEVEL + lane] if falls and not done else -np.inf
    T[_RISES + lane] = np.inf if falls or done else T[_LEVEL + lane]


@_compiled
def _begin(F, T, lane):
    """Open the window of a tally."""
    t, what = F[_T + lane], T[_WHAT + lane]
    value = _observe(F, lane, max(t - F[_CLOCK + lane], 0.0), int(T[_OF + lane]))
    T[_ACTIVE + lane] = 1.0
    if what in (_LOWEST, _HIGHEST):
        T[_KEPT + lane], T[_OTHER + lane] = value if what == _LOWEST else -value, t
    elif what == _INTEGRAL:
        T[_KEPT + lane] = t
    elif what != _MARKED:
        _pass(T, lane, t, value > T[_LEVEL + lane])
        _wait(T, lane)


@_compiled
def _close(T, lane, time):
    """Write down what a tally has kept, when its window or the time above its level ends."""
    what, kept = T[_WHAT + lane], T[_KEPT + lane]
    if what == _ABOVE and kept < np.inf:
        T[_ONE + lane] += time - kept
        T[_KEPT + lane] = np.inf
    elif T[_ACTIVE + lane] > 0.0:
        if what in (_LOWEST, _HIGHEST):
            T[_ONE + lane], T[_KEPT + lane] = kept if what == _LOWEST else -kept, -np.inf
        elif what == _INTEGRAL:
            T[_OTHER + lane] += time - kept


@_inlined
def _end_tally(T, lane, time):
    """Close the window of a tally."""
    _close(T, lane, time)
    T[_ACTIVE + lane] = 0.0
    T[_FALLS + lane], T[_RISES + lane] = -np.inf, np.inf


@_compiled
def _gather(F, lane, n_tallies):
    """Say what the tallies of each output wait for together."""
    for o in range(_OUTPUTS):
        F[_ANY_FALLS + _W * o + lane], F[_ANY_RISES + _W * o + lane] = -np.inf, np.inf
    for k in range(n_tallies):
        q = _ROWS * _W + k * _TALLY + lane
        if F[q + _WHAT] in (_ABOVE, _BELOW):
            o = _W * int(F[q + _OF]) + lane
            F[_ANY_FALLS + o] = max(F[_ANY_FALLS + o], F[q + _FALLS])
            F[_ANY_RISES + o] = min(F[_ANY_RISES + o], F[q + _RISES])


@_compiled
def _attend(F, lane, output, n_tallies):
    """Look closer where a bound of an output is what one of its tallies waits for."""
    low, high = F[_LOW + lane], F[_HIGH + lane]
    for k in range(n_tallies):
        q = _ROWS * _W + k * _TALLY
        T = F[q : q + _TALLY]
        asks = T[_OF + lane] == output and T[_WHAT + lane] in (_ABOVE, _BELOW)
        if asks and (low <= T[_FALLS + lane] or high > T[_RISES + lane]):
            _look(F, T, lane)
    _gather(F, lane, n_tallies)


@_inlined
def _follow(F, output, n, tallies):
    """Add the step of all lanes to the tallies of an output; `n` lanes need a closer look."""
    kinds, outputs, _, _, _ = tallies
    if n > 0:
        row = _W * output
        for lane in range(_W):
            falls = F[_LOW + lane] <= F[_ANY_FALLS + row + lane]
            if falls or F[_HIGH + lane] > F[_ANY_RISES + row + lane]:
                _attend(F, lane, output, len(kinds))
    for k in range(len(kinds)):
        if outputs[k] == output:
            q = _ROWS * _W + k * _TALLY
            T = F[q : q + _TALLY]
            if kinds[k] == _INTEGRAL:
                for lane in range(_W):
                    T[_ONE + lane] += T[_ACTIVE + lane] * F[_AREA + lane]
            elif kinds[k] == _LOWEST:
                _smallest(F, T, 1.0, _LOW)
            elif kinds[k] == _HIGHEST:
                _smallest(F, T, -1.0, _HIGH)


@_compiled
def _next_edge(F, lane, n_tallies):
    """Open and close the windows of this moment; return when the next one opens or closes."""
    t, edge, changed = F[_T + lane], np.inf, False
    if t < F[_EDGE + lane]:
        return F[_EDGE + lane]
    for k in range(n_tallies):
        q = _ROWS * _W + k * _TALLY
        T = F[q : q + _TALLY]
        opens, closes = T[_OPENS + lane], T[_CLOSES + lane]
        if (opens <= t < closes) != (T[_ACTIVE + lane] > 0.0):
            changed = True
            if t < closes:
                _begin(F, T, lane)
            else:
                _end_tally(T, lane, t)
        if opens > t:
            edge = min(edge, opens)
        if closes > t:
            edge = min(edge, closes)
    if changed:
        _gather(F, lane, n_tallies)
    F[_EDGE + lane] = edge
    return edge


@_compiled
def _open(F, lane, subject, tallies):
    """Begin the tallies of a subject."""
    kinds, outputs, levels, opens, closes = tallies
    for k in range(len(kinds)):
        q = _ROWS * _W + k * _TALLY + lane
        i = min(subject, levels.shape[1] - 1)
        F[q + _WHAT], F[q + _OF], F[q + _ACTIVE] = kinds[k], outputs[k], 0.0
        F[q + _LEVEL], F[q + _OPENS], F[q + _CLOSES] = levels[k, i], opens[k, i], closes[k, i]
        nothing = 0.0 if kinds[k] == _ABOVE or kinds[k] == _INTEGRAL else np.nan
        if kinds[k] == _BELOW:
            nothing = np.inf
        F[q + _ONE] = F[q + _OTHER] = nothing
        F[q + _FALLS], F[q + _RISES] = -np.inf, np.inf
        F[q + _KEPT] = np.inf if kinds[k] == _ABOVE else -np.inf
    F[_EDGE + lane] = -np.inf
    _gather(F, lane, len(kinds))
