"""What every subject may rely on: its result is its own to the bit, whoever is beside it."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path

import cases
import numpy as np
import pytest
from cases import one, solve
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from bcellsim.engine import Events, Tally
from bcellsim.engine.cache import compiled_kernel
from bcellsim.engine.events import MULTIPLY, OCCASION, SAVE
from bcellsim.structures import get_structure

each = cases.each
KPD, TURNOVER = get_structure("kpd"), get_structure("turnover")
TIMES = np.linspace(0.0, 400.0, 41)
N_OCCASIONS = 2

LINEAR = 1e-6  # the default rtol; the closed form is exact
LINEAR_TIGHT = 20e-9  # twenty times the rtol of 1e-9 asked for: an error grows over the steps


def tallies(structure):
    """Return one tally of every kind, of two outputs."""
    drug, count = structure.outputs[0], cases.followed(structure)
    return (
        Tally("above", count, 20.0, 300.0, 50.0),
        Tally("below", count, 10.0, level=60.0),
        Tally("lowest", count),
        Tally("highest", drug, 20.0, 380.0),
        Tally("integral", drug, closes=333.0),
        Tally("marked", count, marks=(56.0, 168.0, 600.0)),
    )


class Call:
    """The arguments of a solve, of which some subjects can be taken."""

    def __init__(self, structure, params, events, times=TIMES, until=None, **options):
        self.structure, self.params, self.events = structure, params, events
        self.times, self.until = np.asarray(times, dtype=float), until
        self.options = {"tallies": tallies(structure), "dense": structure.outputs, **options}

    def take(self, subjects):
        """Return the call for some subjects only."""
        own = {"times": self.times if self.times.ndim == 1 else self.times[subjects]}
        if np.ndim(self.until):
            own["until"] = self.until[subjects]
        return self.changed(
            params=self.params[subjects],
            events=replace(self.events, schedule=self.events.schedule[subjects]),
            **own,
        )

    def changed(self, **values):
        """Return the call with some arguments changed."""
        given = {name: getattr(self, name) for name in ("params", "events", "times", "until")}
        return Call(self.structure, **{**given, **self.options, **values})

    def solve(self, **options):
        """Solve it."""
        return solve(
            self.structure, self.params, self.events, self.times, until=self.until,
            **{**self.options, **options},
        )  # fmt: skip


def assert_same_bits(part, whole, subjects):
    """Check that a solution is another's for some subjects, in every number it holds."""
    for field in fields(part):
        mine, others = getattr(part, field.name), getattr(whole, field.name)
        if field.name == "dense":
            assert_same_steps(mine, others, subjects)
        elif isinstance(mine, np.ndarray):
            assert np.array_equal(mine, others[subjects], equal_nan=mine.dtype == float), field.name
        else:
            assert mine == others, field.name


def assert_same_steps(part, whole, subjects):
    for i, subject in enumerate(subjects):
        mine = slice(*part.start[i : i + 2])
        other = slice(*whole.start[subject : subject + 2])
        assert np.array_equal(part.time[mine], whole.time[other])
        assert np.array_equal(part.width[mine], whole.width[other])
        for name, nodes in part.nodes.items():
            assert np.array_equal(nodes[mine], whole.nodes[name][other]), name


def rows(structure, rng, horizon):
    """Return a random schedule that saves states and changes occasions too."""
    found = cases.random_rows(structure, rng, horizon)
    found += [(rng.uniform(0.0, horizon), SAVE, i, 0.0, -1) for i in range(2)]
    found.append((rng.uniform(0.0, horizon), OCCASION, rng.integers(N_OCCASIONS), 0.0, -1))
    return found


def many(structure, n, seed=20, until=365.0, **options):
    """Return the call for n random subjects, each with a schedule of its own until some day."""
    vectors = cases.random_vectors(structure, N_OCCASIONS * n, seed)
    params, rng = vectors.reshape(n, N_OCCASIONS, -1), np.random.default_rng(seed)
    tables = [rows(structure, rng, horizon) for horizon in np.broadcast_to(until, n)]
    options.setdefault("times", TIMES)
    if np.ndim(until):
        options["until"] = until
    return Call(structure, params, Events.from_rows(tables, np.arange(n)), **options)


# Order, chunks, threads, blocks


@each
@pytest.mark.parametrize("threads", [2, 4])
def test_same_bits_with_any_number_of_threads(structure, threads):
    call = many(structure, 150)
    assert_same_bits(call.solve(threads=threads), call.solve(threads=1), np.arange(150))


@each
def test_same_bits_in_any_order_and_chunk(structure):
    call = many(structure, 100)
    whole = call.solve()
    assert np.all(whole.status == 0)
    order = np.random.default_rng(0).permutation(100)
    for subjects in (order, np.arange(7), np.arange(93, 100), [33], np.repeat([2, 9], 20)):
        subjects = np.asarray(subjects)
        assert_same_bits(call.take(subjects).solve(), whole, subjects)


@each
def test_same_bits_at_the_bounds_of_blocks(structure):
    """A block has 16 lanes and up to 320 subjects."""
    call = many(structure, 1000, dense=(cases.followed(structure),))
    whole = call.solve(threads=1)
    for n in (1, 15, 16, 17, 319, 320, 321):
        for threads in (1, 2):
            first = call.take(np.arange(n)).solve(threads=threads)
            assert_same_bits(first, whole, np.arange(n))
    assert_same_bits(call.solve(threads=2), whole, np.arange(1000))


@each
@pytest.mark.parametrize("trouble", ["nan", "stiff", "other", "infinite", "done"])
def test_same_bits_beside_any_neighbours(structure, trouble):
    call = many(structure, 48)
    subjects = np.arange(0, 48, 3)
    others = np.setdiff1d(np.arange(48), subjects)
    alone = call.take(subjects).changed(until=400.0).solve(max_steps=5000)
    params, until = call.params.copy(), np.full(48, 400.0)
    troubled = [*((10.0, SAVE, i, 0.0, -1) for i in range(2))]
    if trouble == "nan":
        params[others, 1, 0] = np.nan
    elif trouble == "stiff":  # a drug so quick that it takes too many steps
        params[others[:2], :, structure.parameters.index(cases.quick(structure))] *= 1e6
    elif trouble == "other":
        params[others] *= np.exp(np.random.default_rng(1).normal(size=params[others].shape))
    elif trouble == "infinite":
        grown = len(structure.states) - 1
        troubled += [cases.dose(structure, 20.0, 1e300)]
        troubled += [(21.0, MULTIPLY, grown, 1e200, -1)] * 2
    else:
        troubled, until[others] = [], 1e-3
    events = call.events
    if trouble in ("infinite", "done"):
        events = mixed(events, troubled, others)
    whole = call.changed(params=params, events=events, until=until).solve(max_steps=5000)
    assert np.all(whole.status[subjects] == 0)
    if trouble == "stiff":
        assert np.all((whole.stiff | whole.closed_form)[others[:2]])
    else:
        assert np.all((whole.status[others] != 0) == (trouble in ("nan", "infinite")))
    assert_same_bits(alone, whole, subjects)


def mixed(events, rows, others):
    """Return events in which some subjects follow other rows."""
    columns = (events.time, events.kind, events.index, events.value, events.scale)
    everything = list(zip(*(c.tolist() for c in columns), strict=True))
    tables = [everything[a:b] for a, b in zip(events.start, events.start[1:], strict=False)]
    for i in others:
        tables[i] = rows
    return Events.from_rows(tables, np.arange(len(tables)))


def test_the_same_subject_a_thousand_times():
    call = many(KPD, 1)
    alone = call.solve()
    assert_same_bits(call.take(np.zeros(1000, int)).solve(), alone, np.zeros(1000, int))


def test_same_bits_under_concurrent_calls():
    """Two threads of the caller, as Dask has them."""
    call = many(KPD, 300)
    known, found = call.solve(), {}
    workers = [threading.Thread(target=lambda i=i: found.update({i: call.solve(threads=2)}))
               for i in range(4)]  # fmt: skip
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i in range(4):
        assert_same_bits(found[i], known, np.arange(300))


# Own schedules, horizons and times


@each
def test_mixed_calls_equal_separate_ones(structure):
    n = 24
    rng = np.random.default_rng(5)
    times = np.full((n, 30), np.nan)
    for i in range(n):
        count = rng.integers(1, 31)
        times[i, :count] = np.sort(rng.uniform(-5.0, 500.0, count))
    call = many(structure, n, times=times, until=rng.uniform(50.0, 500.0, n))
    whole = call.solve()
    for i in range(n):
        wanted = times[i][np.isfinite(times[i])]
        alone = call.take([i]).changed(times=wanted, until=call.until[i]).solve()
        padded = np.full((1, *whole.values.shape[1:]), np.nan)
        padded[:, : len(wanted)] = alone.values
        assert_same_bits(replace(alone, values=padded), whole, [i])
        late = wanted > call.until[i]
        assert np.all(np.isnan(alone.values[0, late]))
        assert np.all(np.isfinite(alone.values[0, ~late]))


def test_one_schedule_for_all_or_one_each():
    vectors = cases.random_vectors(KPD, 40, 3)
    rows = cases.random_rows(KPD, np.random.default_rng(3), 365.0)
    shared = Call(KPD, vectors, Events.from_rows([rows], np.zeros(40, int))).solve()
    each_own = Call(KPD, vectors, Events.from_rows([rows] * 40, np.arange(40))).solve()
    assert_same_bits(each_own, shared, np.arange(40))


@pytest.mark.parametrize("layout", ["reversed", "read-only"])
def test_one_kernel_serves_any_layout_of_the_arrays(layout):
    """Else a solve takes 10 s longer, without a word."""
    call = many(KPD, 40)
    whole = call.solve()
    kernel = compiled_kernel(KPD).solve_block
    before = len(kernel.signatures)
    params, events = call.params.copy(), call.events
    if layout == "reversed":
        events = replace(events, schedule=np.arange(40)[::-1].copy()[::-1])
    else:
        params.flags.writeable = False
    assert_same_bits(call.changed(params=params, events=events).solve(), whole, np.arange(40))
    assert len(kernel.signatures) == before


schedules = st.lists(
    st.tuples(st.floats(0.0, 300.0), st.floats(0.0, 1000.0), st.floats(0.0, 20.0)), max_size=6
)


@each
@settings(max_examples=25)
@given(data=st.lists(st.tuples(schedules, st.floats(1.0, 400.0)), min_size=2, max_size=20),
       seed=st.integers(0, 2**31))  # fmt: skip
def test_random_schedules(structure, data, seed):
    """Whatever the schedules: all are solved, and each as if alone."""
    tables, horizons = [], []
    for doses, horizon in data:
        table = []
        for start, amount, duration in doses:
            if duration < 0.01:
                table.append(cases.dose(structure, start, amount))
            else:
                table += cases.infusion(structure, start, amount, duration)
        tables.append([row for row in table if row[0] <= horizon])
        horizons.append(horizon)
    params = cases.random_vectors(structure, len(data), seed)
    events = Events.from_rows(tables, np.arange(len(data)))
    call = Call(structure, params, events, times=TIMES, until=np.array(horizons))
    whole = call.solve()
    assert np.all(whole.status == 0)
    assert np.all(whole.steps >= whole.rejected)
    for i in (0, len(data) - 1):
        assert_same_bits(call.take([i]).solve(), whole, [i])
        reached = horizons[i] >= TIMES
        assert np.all(np.isfinite(whole.values[i]) == reached[:, None])


# Accuracy: linear pharmacokinetics against the matrix exponential


def exact_turnover(vector, rows, times):
    """Return the concentration of linear PK by matrix exponentials, event by event."""
    p = dict(zip(TURNOVER.parameters, vector, strict=True))
    a = np.zeros((6, 6))  # depot, central, peripheral, and their constant inputs
    a[0, 0], a[1, 0] = -p["ka"], p["ka"]
    a[1, 1:3] = -(p["cl"] + p["q"]) / p["vc"], p["q"] / p["vp"]
    a[2, 1:3] = p["q"] / p["vc"], -p["q"] / p["vp"]
    a[:3, 3:] = np.eye(3)
    conc, y, now = [], np.zeros(6), 0.0
    stops = sorted([(t, 0, None) for t in times] + [(row[0], 1, row) for row in rows],
                   key=lambda stop: stop[:2])  # fmt: skip
    for moment, _, row in stops:
        y, now = expm(a * (moment - now)) @ y, moment
        if row is None:
            conc.append(y[1] / p["vc"])
            continue
        _, kind, state, value, scale = row
        value *= vector[scale] if scale >= 0 else 1.0
        if kind == cases.DOSE:
            y[state] += value
        else:
            y[3 + state] = value
    return np.array(conc)


def after_bolus(vector, depot, central, times):
    """Return the concentration after doses at time 0; exact to roundings however small it is.

    Without inputs, and from the doses to each time at once: one exponential of a small matrix.
    """
    p = dict(zip(TURNOVER.parameters, vector, strict=True))
    out, back = p["q"] / p["vc"], p["q"] / p["vp"]
    a = np.array([[-p["ka"], 0, 0], [p["ka"], -p["cl"] / p["vc"] - out, back], [0, out, -back]])
    amounts = [p["f_sc"] * depot, central, 0.0]
    return np.array([(expm(a * t) @ amounts)[1] / p["vc"] for t in times])


LINEAR_ROWS = [
    cases.dose(TURNOVER, 0.0, 20.0, "sc"),
    *cases.infusion(TURNOVER, 14.0, 500.0, 4 / 24, "iv"),
    *cases.infusion(TURNOVER, 30.0, 100.0, 5.0, "sc"),
    cases.dose(TURNOVER, 42.0, 300.0, "iv"),
]
LINEAR_TIMES = np.sort(np.r_[np.linspace(0, 90, 31), 14.0 + np.linspace(0, 0.3, 10)])


def linear_vectors(n):
    vectors = np.vstack([cases.changed(TURNOVER), cases.random_vectors(TURNOVER, n, 40)])
    cases.parameter(TURNOVER, "cl_t", vectors)[:] = 0.0
    return vectors


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_linear_pk_against_the_matrix_exponential(backend):
    vectors = linear_vectors(4)
    events = Events.from_rows([LINEAR_ROWS], np.zeros(len(vectors), int))
    call = Call(TURNOVER, vectors, events, LINEAR_TIMES, tallies=(), dense=(), backend=backend)
    expected = np.array([exact_turnover(vector, LINEAR_ROWS, LINEAR_TIMES) for vector in vectors])
    if backend == "compiled":
        assert call.solve().values[..., 0] == pytest.approx(expected, rel=LINEAR, abs=1e-12)
    values = call.solve(rtol=1e-9, atol=1e-11).values[..., 0]
    assert values == pytest.approx(expected, rel=LINEAR_TIGHT, abs=1e-12)


#: Global error against the number of steps: order five. And against rtol: in proportion, because
#: the error of a step is weighed by its length.
ORDER, PROPORTIONAL = (4.3, 5.7), (0.85, 1.15)


def test_order_of_convergence():
    vectors = linear_vectors(3)
    # A clearance that changes in time, by nothing: else the drug is taken in closed form.
    cases.parameter(TURNOVER, "cl_t", vectors)[:] = 1e-300
    # Nothing but the drug counts: B cells without effect are at rest.
    cases.parameter(TURNOVER, "emax", vectors)[:] = 0.0
    rows = [cases.dose(TURNOVER, 0.0, 20.0, "sc"), cases.dose(TURNOVER, 0.0, 100.0, "iv")]
    times = np.linspace(5.0, 300.0, 60)
    expected = np.array([after_bolus(vector, 20.0, 100.0, times) for vector in vectors])
    events = Events.from_rows([rows], np.zeros(len(vectors), int))
    rtols = 10.0 ** np.arange(-6.0, -11.5, -0.5)
    errors, steps = [], []
    for rtol in rtols:
        solution = solve(TURNOVER, vectors, events, times, rtol=rtol, atol=rtol / 100)
        errors.append(np.max(np.abs(solution.values[..., 0] / expected - 1.0), axis=1))
        steps.append(solution.steps - solution.rejected)
    errors, steps = np.log(errors), np.log(steps)
    for i in range(len(vectors)):
        order = -np.polyfit(steps[:, i], errors[:, i], 1)[0]
        slope = np.polyfit(np.log(rtols), errors[:, i], 1)[0]
        assert ORDER[0] < order < ORDER[1]
        assert PROPORTIONAL[0] < slope < PROPORTIONAL[1]


# Memory, interruption, progress


def resident():
    """Return the memory of this process [MB], or None where it cannot be read."""
    status = Path("/proc/self/statm")
    if not status.is_file():
        return None
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.parametrize(
    "names",
    [["kpd", "turnover", "tmdd_bcell"], pytest.param(cases.IDS, marks=pytest.mark.slow)],
    ids=["a few", "all"],
)
def test_memory_does_not_grow(names):
    """A hundred calls leave nothing behind: every block has arrays made in compiled code."""
    calls = [many(s, 40, dense=(cases.followed(s),)) for s in map(get_structure, names)]
    for _ in range(10):
        for call in calls:
            call.solve()
    gc.collect()
    before = resident()
    tracemalloc.start()
    held = tracemalloc.get_traced_memory()[0]
    for _ in range(100):
        for call in calls:
            call.solve()
    gc.collect()
    grown = (tracemalloc.get_traced_memory()[0] - held) / 1e6
    tracemalloc.stop()
    assert grown < 0.2  # Python's own caches; a leak of one call's results a hundred times is 100
    if before is not None:
        assert resident() - before < 20.0  # arenas of the allocator; such a leak is over 100 MB


INTERRUPTED = """
import signal, sys, time
import numpy as np
import cases
from bcellsim.engine import Events
from cases import solve

structure = cases.ALL[{index}]
vectors = cases.random_vectors(structure, 500, 1)
events = Events.from_rows([[cases.dose(structure, 0.0, 100.0)]], np.zeros(500, int))
known = solve(structure, vectors, events, [10.0, 400.0]).values
n = 1_000_000
many = Events.from_rows([[cases.dose(structure, 0.0, 100.0)]], np.zeros(n, int))
# A run started in the background ignores the interrupt, and its children with it.
signal.signal(signal.SIGINT, signal.default_int_handler)
print("ready", flush=True)
try:
    solve(structure, np.resize(vectors, (n, vectors.shape[1])), many, [400.0], until=4000.0,
          rtol=1e-12, atol=1e-14)
    print("finished", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
again = solve(structure, vectors, events, [10.0, 400.0]).values
print("same" if np.array_equal(again, known) else "different", flush=True)
"""


# All kernels stand in the same frame: one of each method here, the others among the slow tests.
@cases.on(cases.ALL, set(cases.IDS) - {"turnover", "tmdd_qss"})
@pytest.mark.skipif(os.name != "posix", reason="signals as on Unix")
def test_an_interrupt_ends_a_long_call(structure):
    code = INTERRUPTED.format(index=cases.ALL.index(structure))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert process.stdout.readline().strip() == "ready"
        time.sleep(1.0)  # the call is under way
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline().strip() == "interrupted"
        assert time.monotonic() - sent < 3.0  # a second, and slack for a busy machine
        assert process.stdout.readline().strip() == "same"
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.stdout.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_progress_counts_every_subject_once(threads):
    call, seen = many(KPD, 700), []
    call.solve(threads=threads, progress=lambda done, total: seen.append((done, total)))
    done = [d for d, _ in seen]
    assert done == sorted(set(done))
    assert seen[-1] == (700, 700)
    assert {total for _, total in seen} == {700}
    assert len(seen) >= 3  # 320 subjects at most in a block


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("stop")])
def test_an_error_in_progress_stops_the_run(error):
    call, seen = many(KPD, 2000), []

    def stop(done, total):
        seen.append(done)
        raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        call.solve(threads=2, progress=stop)
    assert len(seen) == 1
    assert np.all(call.take(np.arange(5)).solve().status == 0)


def test_the_order_of_occasions_is_that_of_one():
    """Params of one occasion may be given with or without the axis."""
    vectors = cases.random_vectors(KPD, 5, 4)
    events = one(cases.random_rows(KPD, np.random.default_rng(4), 300.0))
    events = replace(events, schedule=np.zeros(5, int))
    plain, deep = (Call(KPD, p, events).solve() for p in (vectors, vectors[:, None]))
    assert_same_bits(deep, plain, np.arange(5))
