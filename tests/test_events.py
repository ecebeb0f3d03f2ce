"""Events that engine tests of doses do not reach: occasions, saved states and marks."""

from dataclasses import replace

import cases
import numpy as np
import pytest
from cases import one, solve

from bcellsim.engine import Events
from bcellsim.engine.events import DOSE, FACTOR, MARK, MULTIPLY, OCCASION, RESET, SAVE
from bcellsim.structures import get_structure

each = cases.each
backends = pytest.mark.parametrize("backend", ["compiled", "reference"])
TIMES = np.linspace(0.0, 400.0, 81)
TIGHT = {"rtol": 1e-9, "atol": 1e-11}
KPD = get_structure("kpd")

COUNT = 1e-5  # error of a count at the default rtol, as in test_engine.py
STATE = 1e-5  # of a saved state, of its largest value among subjects and moments
CLOSED = 1e-8  # closed forms at an rtol of 1e-9
N_OCCASIONS, N_SAVED = 3, 4


def occasions(structure, n, seed):
    """Return vectors of several occasions of n subjects, which differ by a fifth."""
    vectors = cases.random_vectors(structure, n, seed)[:, None]
    shape = n, N_OCCASIONS, len(structure.parameters)
    params = vectors * np.exp(0.2 * np.random.default_rng(seed).standard_normal(shape))
    scale = cases.parameter(structure, "f_sc", params)
    if scale is not None:
        scale[:] = np.minimum(scale, 1.0)
    return params


def rows(structure, rng, horizon):
    """Return random events, changes of occasion and moments at which states are kept."""
    found = cases.random_rows(structure, rng, horizon)
    times = [row[0] for row in found]
    for i in range(N_SAVED):  # one of them at the moment of another event
        time = rng.choice(times) if i == 0 else rng.uniform(0.0, horizon)
        found.insert(rng.integers(len(found) + 1), (time, SAVE, i, 0.0, -1))
    for _ in range(rng.integers(1, 5)):
        index = rng.integers(N_OCCASIONS)
        found.append((rng.uniform(0.0, horizon), OCCASION, index, 0.0, -1))
    found.append((rng.uniform(0.0, horizon), MARK, 0, 0.0, -1))
    return found


@each
def test_agrees_with_the_reference(structure):
    params = occasions(structure, 30, 11)
    events = cases.random_events(structure, 30, 11, rows=rows)
    expected = solve(structure, params, events, TIMES, **cases.REFERENCE)
    solution = solve(structure, params, events, TIMES)
    assert np.all(expected.status == 0)
    assert np.all(solution.status == 0)
    vectors = params.mean(axis=1)
    error = cases.scaled_error(structure, vectors, solution.values, expected.values)
    assert error.max() <= COUNT, f"subject {error.max(axis=1).argmax()}"
    assert solution.saved.shape == (30, N_SAVED, len(structure.states))
    assert np.all(np.isfinite(expected.saved))
    scale = np.abs(expected.saved).max(axis=(0, 1))
    assert np.max(np.abs(solution.saved - expected.saved) / scale) <= STATE
    cells = cases.endogenous(structure)
    rest = cases.baseline(structure, vectors)[0][:, None, cells]
    kept, wanted = solution.saved[..., cells], expected.saved[..., cells]
    assert np.max(np.abs(kept - wanted) / np.maximum(wanted, 1e-3 * rest), initial=0.0) <= COUNT


# Occasions


@backends
def test_an_occasion_by_hand(backend):
    vector = cases.changed(KPD, kel=0.1)
    params = np.stack([vector, cases.changed(KPD, kel=0.3), cases.changed(KPD, kel=0.0)])[None]
    changes = [(10.0, OCCASION, 1, 0.0, -1), (20.0, OCCASION, 2, 0.0, -1),
               (30.0, OCCASION, 0, 0.0, -1)]  # fmt: skip
    solution = solve(KPD, params, one([cases.dose(KPD, 0.0, 100.0), *changes]),
                     [10.0, 20.0, 30.0, 40.0], backend=backend, **TIGHT)  # fmt: skip
    wanted = 100.0 * np.exp([-1.0, -4.0, -4.0, -5.0])
    assert solution.values[0, :, 0] == pytest.approx(wanted, rel=CLOSED)


@each
@backends
def test_an_occasion_equals_factors(structure, backend):
    """Of one parameter after the other: the same stops and the same numbers, so the same bits."""
    n = 20 if backend == "compiled" else 2
    vectors = cases.random_vectors(structure, n, 12)
    doses = [cases.dose(structure, t, 100.0, r) for t, r in zip((0.0, 60.0), 2 * list(
             structure.routes), strict=False)]  # fmt: skip
    shared = np.zeros(n, int)
    for j in range(len(structure.parameters)):
        changed = vectors.copy()
        changed[:, j] *= 0.7
        params = np.stack([vectors, changed], axis=1)
        a, b = (
            solve(structure, p, Events.from_rows([[*doses, *events]], shared), TIMES[::8],
                  backend=backend).values
            for p, events in (
                (params, [(30.0, OCCASION, 1, 0.0, -1), (90.0, OCCASION, 0, 0.0, -1)]),
                (vectors, [(30.0, FACTOR, j, 0.7, -1), (90.0, FACTOR, j, 1.0, -1)]),
            )
        )  # fmt: skip
        assert np.array_equal(a, b), structure.parameters[j]
        if backend == "reference" and j == 2:
            return


@backends
def test_factors_in_force_stay_through_an_occasion(backend):
    kel = KPD.parameters.index("kel")
    params = np.stack([cases.changed(KPD, kel=0.1), cases.changed(KPD, kel=0.2)])[None]
    rows = [cases.dose(KPD, 0.0, 100.0), (10.0, FACTOR, kel, 3.0, -1), (20.0, OCCASION, 1, 0.0, -1),
            (30.0, FACTOR, kel, 1.0, -1)]  # fmt: skip
    solution = solve(KPD, params, one(rows), [10.0, 20.0, 30.0, 40.0], backend=backend, **TIGHT)
    wanted = 100.0 * np.exp([-1.0, -4.0, -10.0, -12.0])
    assert solution.values[0, :, 0] == pytest.approx(wanted, rel=CLOSED)


@each
@backends
def test_an_occasion_at_a_dose_scales_it(structure, backend):
    """In the order given: the bioavailability is that of the occasion in force."""
    for route, (_, factor, *_) in structure.routes.items():
        if factor is None:
            continue
        typical = cases.typical(structure)
        params = np.stack([typical, cases.changed(structure, **{factor: typical[
            structure.parameters.index(factor)] / 2})])[None]  # fmt: skip
        dose, change = cases.dose(structure, 5.0, 100.0, route), (5.0, OCCASION, 1, 0.0, -1)
        half = cases.dose(structure, 5.0, 50.0, route)
        times = [5.0, 10.0, 50.0]
        after, before, plain, smaller = (
            solve(structure, p, one(rows), times, backend=backend).values
            for p, rows in (
                (params, [dose, change]), (params, [change, dose]),
                (params[:, 0], [dose, (5.0, MARK, 0, 0.0, -1)]),
                (params[:, 0], [half, (5.0, MARK, 0, 0.0, -1)]),
            )
        )  # fmt: skip
        assert np.array_equal(after, plain)
        assert np.array_equal(before, smaller)


@each
@backends
def test_reset_takes_the_baseline_of_the_occasion(structure, backend):
    typical = cases.typical(structure)
    params = np.stack([typical, 1.3 ** np.arange(len(typical)) * typical])[None]
    first, second = cases.baseline(structure, params[0])[1][:, cases.column(structure)]
    rows = [(10.0, OCCASION, 1, 0.0, -1), (10.0, RESET, 0, 0.0, -1)]
    values = solve(structure, params, one(rows), [10.0, 11.0, 300.0], backend=backend).values
    wanted = [first, second, second]
    assert values[0, :, cases.column(structure)] == pytest.approx(wanted, rel=COUNT)


# Saved states


@each
@backends
def test_what_is_saved_is_what_is_there(structure, backend):
    n = 20 if backend == "compiled" else 3
    vectors, rng = cases.random_vectors(structure, n, 13), np.random.default_rng(13)
    moments = [0.0, 30.0, 77.0, 200.0]
    schedules = []
    for _ in range(n):
        others = [(t, *row) for t, *row in cases.random_rows(structure, rng, 365.0)]
        # Before a dose of the same moment, after another: outputs are taken before both.
        kept = [(t, SAVE, i, 0.0, -1) for i, t in enumerate(moments)]
        schedules.append([*kept, cases.dose(structure, 30.0, 100.0), *others])
    events = Events.from_rows(schedules, np.arange(n))
    solution = solve(structure, vectors, events, moments, until=400.0, backend=backend)
    for output, state in (("bcell", "bcell"), ("amount", "virtual"), ("conc_free", "central")):
        if output in structure.outputs and state in structure.states:
            kept = solution.saved[..., structure.states.index(state)]
            values = solution.values[..., structure.outputs.index(output)]
            assert kept == pytest.approx(values, rel=1e-9, abs=1e-12 * values.max())


@each
@backends
def test_what_is_saved_is_before_or_after_by_order(structure, backend):
    """A dose between two of one moment shows in the second only."""
    state = structure.states.index(next(iter(structure.routes.values())).state)
    unscaled = (5.0, DOSE, state, 100.0, -1)
    rows = [(5.0, SAVE, 0, 0.0, -1), unscaled, (5.0, SAVE, 1, 0.0, -1), (5.0, MULTIPLY, state, 0.5,
            -1), (5.0, SAVE, 2, 0.0, -1), (9.0, SAVE, 0, 0.0, -1)]  # fmt: skip
    vector = cases.typical(structure)[None]
    known = solve(structure, vector, one(rows[:-1]), [9.0], backend=backend).saved[0]
    assert known[:, state] == pytest.approx([0.0, 100.0, 50.0], rel=1e-12)
    again = solve(structure, vector, one(rows), [9.0], backend=backend).saved[0]
    assert np.array_equal(again[1:], known[1:])
    assert 0.0 < again[0, state] < 50.0  # the last of a number is kept


@each
@backends
def test_going_on_from_what_was_saved(structure, backend):
    """Half a course from the states of the other half is the whole."""
    n = 20 if backend == "compiled" else 3
    vectors = cases.random_vectors(structure, n, 14)
    times, shared = np.linspace(100.0, 300.0, 21), np.zeros(n, int)
    early = [cases.dose(structure, t, 100.0, r) for t in (0.0, 40.0) for r in structure.routes]
    late = [cases.dose(structure, t, 60.0) for t in (100.0, 150.0)]
    whole = Events.from_rows([[*early, (100.0, SAVE, 0, 0.0, -1), *late]], shared)
    tight = TIGHT if backend == "compiled" else {}
    complete = solve(structure, vectors, whole, times, backend=backend, **tight)
    # The clock still counts from the first dose of all.
    rest = replace(Events.from_rows([late], shared), clock=whole.clock)
    half = solve(structure, vectors, rest, times, states=complete.saved[:, 0], backend=backend,
                 **tight)  # fmt: skip
    error = cases.scaled_error(structure, vectors, half.values, complete.values)
    assert error.max() < 1e-7  # two solves at 1e-9


@each
@backends
def test_what_is_never_reached_is_nan(structure, backend):
    vectors = np.repeat(cases.typical(structure)[None], 3, axis=0)
    vectors[1, 0] = np.nan
    rows = [cases.dose(structure, 0.0, 50.0), (10.0, SAVE, 0, 0.0, -1), (50.0, SAVE, 2, 0.0, -1)]
    events = Events.from_rows([rows, rows[:2]], [0, 0, 1])
    solution = solve(structure, vectors, events, [0.0], until=60.0, backend=backend)
    finite = np.isfinite(solution.saved).all(axis=2)
    assert finite.tolist() == [[True, False, True], [False] * 3, [True, False, False]]
    none = solve(structure, vectors, Events.from_rows([[]], [0] * 3), [1.0], backend=backend)
    assert none.saved.shape == (3, 0, len(structure.states))


# Marks


@each
@backends
def test_marks_only_stop(structure, backend):
    """A mark and a kept state are the same stop; both leave everything as it is."""
    vectors, doses = cases.random_vectors(structure, 3, 15), [cases.dose(structure, 3.0, 100.0)]
    found = []
    for kind in (MARK, SAVE):
        rows = [(t, kind, 0, 0.0, -1) for t in (0.0, 3.0, 20.0, 90.0)]
        events = Events.from_rows([[*rows, *doses]], [0, 0, 0])
        found.append(solve(structure, vectors, events, TIMES[::4], backend=backend).values)
    assert np.array_equal(*found)
    plain = solve(structure, vectors, Events.from_rows([doses], [0] * 3), TIMES[::4],
                  backend=backend)  # fmt: skip
    assert cases.scaled_error(structure, vectors, found[0], plain.values).max() < COUNT


# Refused


@pytest.mark.parametrize(
    "row",
    [
        (1.0, OCCASION, 1, 0.0, -1),
        (1.0, OCCASION, -1, 0.0, -1),
        (1.0, SAVE, -1, 0.0, -1),
        (1.0, DOSE, 2, 1.0, -1),
        (1.0, FACTOR, 6, 1.0, -1),
        (1.0, 8, 0, 1.0, -1),
        (1.0, DOSE, 0, 1.0, 6),
        (np.nan, SAVE, 0, 0.0, -1),
    ],
)
@backends
def test_events_of_nothing_are_refused(row, backend):
    with pytest.raises(ValueError, match=r"event 0 .* is not one of structure kpd"):
        solve(KPD, cases.typical(KPD)[None], one([row]), [2.0], backend=backend)


def test_states_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"states has shape \(1, 3\); \(1, 2\) is wanted"):
        solve(KPD, cases.typical(KPD)[None], one([]), [2.0], states=np.ones((1, 3)))
