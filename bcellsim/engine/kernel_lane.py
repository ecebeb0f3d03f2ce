"""Template of the compiled backend, second part: what happens to one lane.

Outputs, events and the next subject. See `kernel_block.py`.
"""


@_compiled
def _mark(F, lane, k, output):
    """Let tally number k, of marked values of an output, see the states of this moment."""
    t, q = F[_T + lane], _ROWS * _W + k * _TALLY + lane
    if q < len(F) and F[q + _OPENS] <= t <= F[q + _CLOSES] and F[_STEPS + lane] > 0.0:
        value = _observe(F, lane, max(t - F[_CLOCK + lane], 0.0), output)
        if not value >= F[q + _ONE]:
            F[q + _ONE], F[q + _OTHER] = value, t


@_compiled
def _apply(F, C, lane, event, params, saved):
    """Let one event act on the states, infusion rates or parameters of a lane."""
    subject, amount = C[_SUBJECT + lane], event[_EVENT_VALUE]
    what, which, scale = int(event[_KIND]), int(event[_INDEX]), int(event[_SCALE])
    if what == _MARK:
        _mark(F, lane, which, int(amount))
        return
    if what == _SAVE:
        for i in range(_N):
            saved[subject, which, i] = F[_Y + _W * i + lane]
        return
    if scale >= 0:
        amount *= F[_P + _W * scale + lane]
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
def _arrive(F, C, lane, n_tallies, events, params, saved):
    """Let the events of this moment act and set the next stop; return whether this is the end."""
    changed, e, n = F[_STEPS + lane] == 0.0, C[_EVENT + lane], C[_EVENTS + lane]
    while e < n and events[e, _TIME] <= F[_T + lane]:
        changed |= events[e, _KIND] < _SAVE
        _apply(F, C, lane, events[e], params, saved)
        e += 1
    C[_EVENT + lane] = e
    if F[_T + lane] >= F[_END + lane]:
        return True
    stop = min(F[_END + lane], _next_edge(F, lane, n_tallies))
    F[_STOP + lane] = min(stop, events[e, _TIME]) if e < n else stop
    if changed:
        _restart(F, lane)
    _aim(F, lane)
    return False


# What is read or written lane by lane for the outputs does without branches, which would not be
# foreseen: a lane where none is due writes back what stands there. Numbers of a place are unsigned,
# lest negative ones be counted from the end.
@_inlined
def _keep(F, C, o, values):
    """Put output number `o` in its place where it is due."""
    for lane in range(_W):
        at = np.uint64(C[_SLOT + lane] + o)
        values[at] = _choose(F[_DUE + lane] > 0.0, F[_VALUE + lane], values[at])


@_inlined
def _go_on(F, C, times, n_wanted):
    """Go on to the next output time where one was due; return how many are due in this step."""
    n = 0
    for lane in range(_W):
        due = F[_DUE + lane] > 0.0
        C[_AHEAD + lane] += due
        time = times[np.uint64(C[_AHEAD + lane])]
        C[_SLOT + lane] += n_wanted * (due & (time < np.inf))
        due &= time <= F[_REACHED + lane]
        F[_NEXT + lane] = time
        F[_DUE + lane] = _choose(due, 1.0, 0.0)
        n += due
    return n


@_compiled
def _outset(F, C, lane, wanted, timetable, values):
    """Begin with the first output, which is written if it is wanted at the begin."""
    times, n_times, n_rows = timetable
    subject, t = C[_SUBJECT + lane], F[_T + lane]
    C[_AHEAD + lane] = min(subject, n_rows - 1) * (n_times + 1)
    C[_SLOT + lane] = subject * n_times * len(wanted)
    if times[C[_AHEAD + lane]] <= t:
        for o in range(len(wanted)):
            since = max(t - F[_CLOCK + lane], 0.0)
            values[C[_SLOT + lane] + o] = _observe(F, lane, since, wanted[o])
        C[_AHEAD + lane] += 1
        C[_SLOT + lane] += len(wanted) if n_times > 1 else 0
    F[_NEXT + lane] = times[C[_AHEAD + lane]]


@_compiled
def _take(F, C, lane, subject, problem, found):
    """Give a lane its next subject; return whether there is nothing to integrate."""
    params, states, begin, end, events, timetable, wanted, tallies = problem
    start, rows, clock, schedule = events
    s = schedule[subject]
    C[_SUBJECT + lane], C[_ROW + lane] = subject, 0
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
    _open(F, lane, subject, tallies)
    _outset(F, C, lane, wanted, timetable, found[0])
    return _arrive(F, C, lane, len(tallies[0]), rows, params, found[1])


@_compiled
def _finite(params, subject):
    for k in range(params.shape[1]):
        for j in range(params.shape[2]):
            if not np.isfinite(params[subject, k, j]):
                return False
    return True


@_compiled
def _leave_out(values, subject, output, n_times, n_wanted):
    """Write NaN for the outputs of a subject from one on."""
    for at in range((subject * n_times + output) * n_wanted, (subject + 1) * n_times * n_wanted):
        values[at] = np.nan


@_compiled
def _finish(F, C, lane, code, problem, found):
    """Write what is known of a subject at its end."""
    values, _, tallied, status, counts = found
    subject, kinds = C[_SUBJECT + lane], problem[7][0]
    _, n_times, n_rows = problem[5]
    output = C[_AHEAD + lane] - min(subject, n_rows - 1) * (n_times + 1)
    _leave_out(values, subject, output, n_times, len(problem[6]))
    status[subject] = code
    counts[subject, 0], counts[subject, 1] = F[_STEPS + lane], F[_REJECTED + lane]
    if code == _OK:
        for k in range(len(kinds)):
            q = _ROWS * _W + k * _TALLY + lane
            _close(F[q - lane : q - lane + _TALLY], lane, F[_T + lane])
            tallied[subject, k, 0], tallied[subject, k, 1] = F[q + _ONE], F[q + _OTHER]


@_compiled
def _fill(F, C, lane, queue, last, problem, found):
    """Give a lane the next subject that has something to integrate, or leave it idle."""
    _, n_times, _ = problem[5]
    while queue[_FOLLOWING] < last:
        subject = queue[_FOLLOWING]
        queue[_FOLLOWING] += 1
        if not _finite(problem[0], subject):
            _leave_out(found[0], subject, 0, n_times, len(problem[6]))
            found[3][subject] = _NOT_FINITE
        elif _take(F, C, lane, subject, problem, found):
            _finish(F, C, lane, _OK, problem, found)
        else:
            return
    queue[_LIVE] -= 1
    # An idle lane writes back what stands with the last subject, which no other block writes.
    C[_SUBJECT + lane], C[_AHEAD + lane] = -1, n_times
    C[_SLOT + lane] = (last - 1) * n_times * len(problem[6])
    F[_T + lane], F[_H + lane], F[_STOP + lane], F[_NEXT + lane] = 0.0, 0.0, np.inf, np.inf
    F[_FRESH + lane] = 0.0
    _aim(F, lane)


@_compiled
def _ending(F, lane, max_steps):
    """Return with what status a lane has to stop, or -1."""
    if F[_GOOD + lane] == 0.0 and not F[_ERROR + lane] < np.inf and F[_HS + lane] < 1e-10:
        return _NOT_FINITE
    if F[_GOOD + lane] == 0.0 and F[_T + lane] + 0.1 * F[_HS + lane] == F[_T + lane]:
        return _STEP_SIZE
    return _STEP_LIMIT if F[_STEPS + lane] >= max_steps else -1


@_inlined
def _end(F, C, queue, last, problem, found, max_steps):
    """Let the events of lanes that arrive act, and give lanes that are done the next subject."""
    params, _, _, _, events, _, _, tallies = problem
    for lane in range(_W):
        if F[_ENDS + lane] > 0.0 and C[_SUBJECT + lane] >= 0:
            code = -1
            if F[_GOOD + lane] > 0.0 and F[_LAST + lane] > 0.0:
                _settle(F, lane)
                if _arrive(F, C, lane, len(tallies[0]), events[1], params, found[1]):
                    code = _OK
            if code < 0:
                code = _ending(F, lane, max_steps)
            if code >= 0:
                _finish(F, C, lane, code, problem, found)
                _fill(F, C, lane, queue, last, problem, found)


@_compiled
def _record(F, C, lane, recorded, low, high, row):
    """Write a row of dense output of a part of a step: subject, start, width, nodes of outputs."""
    h = F[_HS + lane]
    row[0], row[1], row[2] = C[_SUBJECT + lane], F[_T + lane] + low * h, (high - low) * h
    for node in range(5):
        theta = low + _NODES[node] * (high - low)
        since = max(F[_T + lane] + theta * h - F[_CLOCK + lane], 0.0)
        for r in range(len(recorded)):
            row[3 + 5 * r + node] = _output(F, lane, theta, since, recorded[r])


@_inlined
def _output(F, lane, theta, time, output):
    """Return an output at a position of the step."""
    #: output
