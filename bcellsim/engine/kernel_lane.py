"""Template of the compiled backend, second part: what happens to one lane.

Outputs, events, the next subject, and the closer look of tallies. See `kernel.py`.
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
    best, theta = 0.0, 0.0
    for j in range(1, _POINTS + 1):
        theta = j / _POINTS
        if sign * _value(F, lane, theta) < sign * _value(F, lane, best):
            best = theta
    a, theta = _A + lane, best
    c1, c2, c3, c4 = F[a + _W], F[a + 2 * _W], F[a + 3 * _W], F[a + 4 * _W]
    for _ in range(_NEWTON):
        slope = c1 + theta * (2.0 * c2 + theta * (3.0 * c3 + theta * 4.0 * c4))
        curvature = 2.0 * c2 + theta * (6.0 * c3 + theta * 12.0 * c4)
        if not sign * curvature > 0.0:
            return _narrowed(F, lane, best, sign)
        theta = min(max(theta - slope / curvature, best - 1.0 / _POINTS), best + 1.0 / _POINTS)
    theta = min(max(theta, 0.0), 1.0)
    better = sign * _value(F, lane, theta) < sign * _value(F, lane, best)
    return theta if better else best


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
            mean = F[a] + 0.5 * F[a + _W] + F[a + 2 * _W] / 3.0 + 0.25 * F[a + 3 * _W]
            mean += 0.2 * F[a + 4 * _W]
            T[_ONE + lane] += _choose(days > 0.0, days * mean, 0.0)
            T[_OTHER + lane] += days
    elif kind in (_LOWEST, _HIGHEST):
        sign = 1.0 if kind == _LOWEST else -1.0
        for lane in range(_W):
            days, one = F[_MOVED + lane] * T[_ACTIVE + lane], T[_ONE + lane]
            bound, simple = F[_A + _bound(kind) + lane], F[_A + 7 * _W + lane] > 0.0
            beats = (not sign * bound >= sign * one) & (days > 0.0)
            start, end = F[_A + lane], F[_A + 8 * _W + lane]
            first = sign * start <= sign * end
            value = _choose(first, start, end)
            better = beats & simple
            when, other = _choose(first, F[_T + lane], F[_REACHED + lane]), T[_OTHER + lane]
            T[_ONE + lane] = _choose(better, value, one)
            T[_OTHER + lane] = _choose(better, when, other)
            look = beats & (not simple)
            T[_LOOK + lane] = _choose(look, 1.0, 0.0)
            n += look
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


@_inlined
def _bound(kind):
    """Return the row of the bound below (or above) an output."""
    return 5 * _W if kind == _LOWEST else 6 * _W


@_compiled
def _next_edge(F, lane, tallies):
    """Say which tallies are in their window now; return when the next window opens or closes."""
    t, edge = F[_T + lane], np.inf
    for k in range(len(tallies[0])):
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


@_compiled
def _mark(F, lane, k, tallies):
    """Let tally number k, of marked values, see the states of this moment."""
    for i in range(_N):
        F[_Z + _W * i + lane] = F[_Y + _W * i + lane]
    t, q = F[_T + lane], _ROWS * _W + k * _TALLY + lane
    if F[q + _OPENS] <= t <= F[q + _CLOSES] and F[_STEPS + lane] > 0.0:
        value = _observe(F, lane, max(t - F[_CLOCK + lane], 0.0), tallies[1][k])
        if not value >= F[q + _ONE]:
            F[q + _ONE], F[q + _OTHER] = value, t


@_compiled
def _apply(F, C, lane, event, problem, found):
    """Let one event act on the states, infusion rates or parameters of a lane."""
    params, _, _, _, events, _, _, _, tallies = problem
    _, _, kind, index, value, scale, _, _ = events
    subject, what, which, amount = C[_SUBJECT + lane], kind[event], index[event], value[event]
    if scale[event] >= 0:
        amount *= F[_P + _W * scale[event] + lane]
    if what == _MARK:
        _mark(F, lane, which, tallies)
        return
    if what == _SAVE:
        for i in range(_N):
            found[1][subject, which, i] = F[_Y + _W * i + lane]
        return
    converted = (what == _FACTOR) | (what == _OCCASION) | _CONVERTED[which % _N]
    if converted:
        _to_amounts(F, lane)
    if what == _DOSE:
        F[_Y + _W * which + lane] += amount
    elif what == _RATE:
        F[_U + _W * which + lane] = amount
    elif what == _MULTIPLY:
        F[_Y + _W * which + lane] *= amount
    elif what == _FACTOR:
        F[_X + _W * which + lane] = amount
        F[_P + _W * which + lane] = params[subject, C[_ROW + lane], which] * amount
        _derive(F, lane)
    elif what == _OCCASION:
        C[_ROW + lane] = which
        for j in range(_NP):
            F[_P + _W * j + lane] = params[subject, which, j] * F[_X + _W * j + lane]
        _derive(F, lane)
    else:
        _initial(F, lane)
        for i in range(_N):
            F[_U + _W * i + lane] = 0.0
        return
    if converted:
        _from_amounts(F, lane)


@_compiled
def _arrive(F, C, lane, problem, found):
    """Let the events of this moment act and set the next stop; return whether this is the end."""
    time = problem[4][1]
    _settle(F, lane)
    changed = F[_STEPS + lane] == 0.0
    while C[_EVENT + lane] < C[_EVENTS + lane] and time[C[_EVENT + lane]] <= F[_T + lane]:
        changed |= problem[4][2][C[_EVENT + lane]] < _SAVE
        _apply(F, C, lane, C[_EVENT + lane], problem, found)
        C[_EVENT + lane] += 1
    if F[_T + lane] >= F[_END + lane]:
        return True
    stop = min(F[_END + lane], _next_edge(F, lane, problem[8]))
    if C[_EVENT + lane] < C[_EVENTS + lane]:
        stop = min(stop, time[C[_EVENT + lane]])
    F[_STOP + lane] = stop
    if changed:
        _restart(F, lane)
    return False


@_inlined
def _emit(F, C, lane, reached, width, problem, values):
    """Write the outputs wanted until `reached`, in a step of some width (0: at its start)."""
    _, _, _, _, _, times, wanted, used, _ = problem
    subject, j, t, clock = C[_SUBJECT + lane], C[_OUTPUT + lane], F[_T + lane], F[_CLOCK + lane]
    row, n_times = min(subject, len(times) - 1), times.shape[1]
    per_day = 1.0 / width if width > 0.0 else 0.0
    while j < n_times and times[row, j] <= reached:
        time = times[row, j]
        _place(F, lane, (time - t) * per_day, used)
        since = max(time - clock, 0.0)
        for o in range(len(wanted)):
            values[subject, j, o] = _observe(F, lane, since, wanted[o])
        j += 1
    C[_OUTPUT + lane] = j
    F[_NEXT + lane] = times[row, j] if j < n_times else np.inf


@_compiled
def _take(F, C, lane, subject, problem, found):
    """Give a lane its next subject; return whether there is nothing to integrate."""
    params, states, begin, end, events, _, _, _, tallies = problem
    start, _, _, _, _, _, clock, schedule = events
    s = schedule[subject]
    C[_SUBJECT + lane], C[_ROW + lane], C[_OUTPUT + lane] = subject, 0, 0
    C[_EVENT + lane], C[_EVENTS + lane] = start[s], start[s + 1]
    F[_T + lane], F[_END + lane], F[_CLOCK + lane] = begin[subject], end[subject], clock[s]
    F[_STEPS + lane] = F[_REJECTED + lane] = 0.0
    F[_H + lane] = _FIRST_STEP
    for j in range(_NP):
        F[_P + _W * j + lane] = params[subject, 0, j]
        F[_X + _W * j + lane] = 1.0
    for i in range(_N):
        F[_U + _W * i + lane] = 0.0
    _derive(F, lane)
    _initial(F, lane)
    if len(states):
        for i in range(_N):
            F[_Y + _W * i + lane] = states[subject, i]
    _still(F, lane)
    _open(F, lane, subject, tallies)
    _emit(F, C, lane, F[_T + lane], 0.0, problem, found[0])
    return _arrive(F, C, lane, problem, found)


@_compiled
def _finite(params, subject):
    for k in range(params.shape[1]):
        for j in range(params.shape[2]):
            if not np.isfinite(params[subject, k, j]):
                return False
    return True


@_compiled
def _finish(F, C, lane, code, kinds, found):
    """Write what is known of a subject at its end."""
    values, _, tallied, status, counts = found
    subject = C[_SUBJECT + lane]
    values[subject, C[_OUTPUT + lane] :] = np.nan
    status[subject] = code
    counts[subject, 0], counts[subject, 1] = F[_STEPS + lane], F[_REJECTED + lane]
    if code == _OK:
        for k in range(len(kinds)):
            q = _ROWS * _W + k * _TALLY + lane
            if kinds[k] == _ABOVE and F[q + _ONE] > 0.0:
                F[q + _OTHER] = 1.0
            tallied[subject, k, 0], tallied[subject, k, 1] = F[q + _ONE], F[q + _OTHER]


@_compiled
def _fill(F, C, lane, queue, last, problem, found):
    """Give a lane the next subject that has something to integrate, or leave it idle."""
    while queue[_FOLLOWING] < last:
        subject = queue[_FOLLOWING]
        queue[_FOLLOWING] += 1
        if not _finite(problem[0], subject):
            found[0][subject] = np.nan
            found[3][subject] = _NOT_FINITE
        elif _take(F, C, lane, subject, problem, found):
            _finish(F, C, lane, _OK, problem[8][0], found)
        else:
            return
    queue[_LIVE] -= 1
    C[_SUBJECT + lane] = -1
    F[_T + lane], F[_H + lane], F[_STOP + lane], F[_NEXT + lane] = 0.0, 0.0, np.inf, np.inf
    F[_FRESH + lane] = 0.0


@_compiled
def _ending(F, lane, max_steps):
    """Return with what status a lane has to stop, or -1."""
    if F[_GOOD + lane] == 0.0 and not F[_ERROR + lane] < np.inf and F[_HS + lane] < 1e-10:
        return _NOT_FINITE
    if F[_GOOD + lane] == 0.0 and F[_T + lane] + 0.1 * F[_HS + lane] == F[_T + lane]:
        return _STEP_SIZE
    return _STEP_LIMIT if F[_STEPS + lane] >= max_steps else -1


@_compiled
def _end(F, C, queue, last, problem, found, max_steps):
    """Let the events of lanes that arrive act, and give lanes that are done the next subject."""
    for lane in range(_W):
        if F[_ENDS + lane] > 0.0 and C[_SUBJECT + lane] >= 0:
            code = -1
            arrives = F[_GOOD + lane] > 0.0 and F[_LAST + lane] > 0.0
            if arrives and _arrive(F, C, lane, problem, found):
                code = _OK
            if code < 0:
                code = _ending(F, lane, max_steps)
            if code >= 0:
                _finish(F, C, lane, code, problem[8][0], found)
                _fill(F, C, lane, queue, last, problem, found)
