"""Linear drug states in closed form: against matrix exponentials, the reference and Tsit5."""

from dataclasses import replace

import cases
import numpy as np
import pytest
from cases import one, solve
from scipy.linalg import expm

from bcellsim.engine import Events, Tally, Trajectories, compiled
from bcellsim.engine.closed_form import subjects_in_closed_form
from bcellsim.engine.events import FACTOR, OCCASION, RESET, SAVE
from bcellsim.engine.lower import Source
from bcellsim.engine.lower_closed import ClosedSource
from bcellsim.structures import get_structure

DECLARED = [structure for structure in cases.ALL if structure.linear]
KPD, TURNOVER = get_structure("kpd"), get_structure("turnover")
kpd_rhs, turnover_rhs = KPD.rhs, TURNOVER.rhs
TIMES = np.linspace(0.0, 400.0, 134)
each = cases.on(DECLARED)

ERROR = 30.0  # largest error of a count, in rtol; seen: 2
EXACT = 1e-10  # of a drug state: nothing is integrated, what is left are roundings
NEARLY_EQUAL = 1e-6  # the same where two decay rates were moved apart; seen: 1e-7
REFERENCE_ERROR = 1e-7  # of a drug state by the reference at its rtol of 1e-10
DENSE = 0.3  # error of the quartic polynomials, in rtol; seen: 0.05


def vectors_of(structure, n, seed):
    """Return random vectors for which the closed form holds."""
    vectors = cases.random_vectors(structure, n, seed)
    for name, value in structure.linear_when.items():
        cases.parameter(structure, name, vectors)[:] = value
    return vectors


def many(structure, n=40, seed=20):
    """Return vectors, events and times of n random subjects."""
    return vectors_of(structure, n, seed), cases.random_events(structure, n, seed), TIMES


def without_closed_form(monkeypatch):
    """Let every subject be solved by Tsit5."""
    monkeypatch.setattr(
        compiled,
        "subjects_in_closed_form",
        lambda structure, params, events: np.zeros(len(params), bool),
    )


# The drug, against matrix exponentials


def exact(structure, vector, rows, times):
    """Return the drug states by matrix exponentials, from the equations themselves."""
    p, n = list(vector), len(structure.states)
    linear = [structure.states.index(name) for name in structure.linear]

    def slopes(y, u):
        dy = [0.0] * n
        structure.rhs(0.0, y, p, u, dy)
        return np.array(dy)[linear]

    unit, zero = np.eye(n).tolist(), [0.0] * n
    a = np.column_stack([slopes(unit[i], zero) for i in linear])
    b = np.column_stack([slopes(zero, unit[i]) for i in linear])
    k = len(linear)
    whole = np.block([[a, b], [np.zeros((k, 2 * k))]])
    found, state, now = [], np.zeros(2 * k), 0.0
    stops = sorted([(t, 0, None) for t in times] + [(row[0], 1, row) for row in rows],
                   key=lambda stop: stop[:2])  # fmt: skip
    for moment, _, row in stops:
        state, now = expm(whole * (moment - now)) @ state, moment
        if row is None:
            found.append(state[:k])
            continue
        _, kind, index, value, scale = row
        value *= vector[scale] if scale >= 0 else 1.0
        if kind == cases.DOSE:
            state[linear.index(index)] += value
        else:
            state[k + linear.index(index)] = value
    return np.array(found)


def schedule(structure):
    """Return boluses and infusions by every route."""
    rows = []
    for i, route in enumerate(structure.routes):
        rows.append(cases.dose(structure, 10.0 * i, 20.0, route))
        rows += cases.infusion(structure, 30.0 + 20.0 * i, 500.0, 4 / 24 + 3 * i, route)
    return rows


def drug(structure, vector, rows, times):
    """Return the drug states that events save at times, and those by matrix exponentials."""
    saves = [(t, SAVE, j, 0.0, -1) for j, t in enumerate(times)]
    # A saved state is taken before what else happens then.
    solution = solve(structure, vector[None], one([*saves, *rows]), [times[-1]])
    assert solution.closed_form.all()
    linear = [structure.states.index(name) for name in structure.linear]
    return solution.saved[0][:, linear], exact(structure, vector, rows, times)


PK_TIMES = np.sort(np.r_[np.linspace(0.5, 90.0, 41), 50.0 + np.linspace(0.001, 0.3, 10)])


@each
@pytest.mark.parametrize("seed", range(3))
def test_drug_states_against_matrix_exponentials(structure, seed):
    for vector in vectors_of(structure, 3, seed):
        found, expected = drug(structure, vector, schedule(structure), PK_TIMES)
        scale = np.maximum(np.abs(expected), 1e-3 * np.abs(expected).max(axis=0))
        assert np.max(np.abs(found - expected) / scale) < EXACT


def rates(vector):
    """Return the two decay rates of a drug in two compartments, the larger one first."""
    p = dict(zip(TURNOVER.parameters, vector, strict=True))
    a, b, c = p["cl"] / p["vc"], p["q"] / p["vc"], p["q"] / p["vp"]
    larger = 0.5 * (a + b + c + np.sqrt((a + b - c) ** 2 + 4 * b * c))
    return larger, a * c / larger


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("apart", [0.0, 1e-15, 1e-12, 1e-9, 1e-7, 3.9e-6, 4.1e-6, 1e-5, 1e-3])
def test_nearly_equal_decay_rates(which, apart):
    vector = vectors_of(TURNOVER, 1, 7)[0]
    vector[TURNOVER.parameters.index("ka")] = rates(vector)[which] * (1.0 + apart)
    found, expected = drug(TURNOVER, vector, schedule(TURNOVER), PK_TIMES)
    scale = np.maximum(np.abs(expected), 1e-3 * np.abs(expected).max(axis=0))
    assert np.max(np.abs(found - expected) / scale) < NEARLY_EQUAL


@pytest.mark.parametrize("zero", [("cl",), ("ka",), ("q",), ("cl", "q"), ("cl", "ka"), ("q", "ka"),
                                  ("cl", "q", "ka")])  # fmt: skip
@pytest.mark.parametrize("tiny", [0.0, 1e-14, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5])
def test_drug_that_hardly_leaves_a_state(zero, tiny):
    vector = vectors_of(TURNOVER, 1, 8)[0]
    for i, name in enumerate(zero):
        vector[TURNOVER.parameters.index(name)] = tiny * (1 + i)
    found, expected = drug(TURNOVER, vector, schedule(TURNOVER), PK_TIMES)
    scale = np.maximum(np.abs(expected), 1e-3 * np.abs(expected).max())
    assert np.max(np.abs(found - expected) / scale) < NEARLY_EQUAL


# The count


@each
@pytest.mark.parametrize(("n", "seed"), [(60, 10), (60, 100), (60, 777)])
def test_agrees_with_the_reference(structure, n, seed):
    vectors, events, times = many(structure, n, seed)
    expected = solve(structure, vectors, events, times, **cases.REFERENCE)
    for rtol in (1e-4, 1e-6, 1e-8):
        solution = solve(structure, vectors, events, times, rtol=rtol, atol=rtol / 100)
        assert np.all(solution.status == 0)
        assert np.all(solution.closed_form)
        error = cases.scaled_error(structure, vectors, solution.values, expected.values)
        noise = 1e-6  # of the reference, where Hill exponents are large
        assert error.max() <= ERROR * rtol + noise, f"subject {error.max(axis=1).argmax()}"
    others = [i for i in range(len(structure.outputs)) if i != cases.column(structure)]
    values, wanted = solution.values[..., others], expected.values[..., others]
    scale = np.maximum(np.abs(wanted), 1e-3 * wanted.max(axis=1, keepdims=True) + 1e-12)
    assert np.max(np.abs(values - wanted) / scale) <= REFERENCE_ERROR


def steep_and_strong(structure, n, seed):
    """Return vectors with Hill exponents of 0.1 to 50 and losses of up to 50 a day."""
    rng, vectors = np.random.default_rng(seed), vectors_of(structure, n, seed)
    cases.parameter(structure, "hill", vectors)[:] = np.exp(rng.uniform(np.log(0.1), np.log(50), n))
    loss = np.exp(rng.uniform(np.log(0.1), np.log(50.0), n))
    kout = cases.parameter(structure, "kout", vectors)
    cases.parameter(structure, "emax", vectors)[:] = loss / kout
    return vectors


@each
def test_steep_and_strong_effects(structure):
    vectors = steep_and_strong(structure, 60, 5)
    events = cases.random_events(structure, 60, 5)
    expected = solve(structure, vectors, events, TIMES, **cases.REFERENCE).values
    values = solve(structure, vectors, events, TIMES).values
    error = cases.scaled_error(structure, vectors, values, expected)
    assert error.max() <= ERROR * 1e-6, f"subject {error.max(axis=1).argmax()}"


@each
def test_tighter_tolerance_gives_smaller_error(structure):
    vectors, events, times = many(structure, 20, 30)
    expected = solve(structure, vectors, events, times, rtol=1e-12, atol=1e-14).values
    errors = []
    for rtol in (1e-3, 1e-5, 1e-7, 1e-9):
        values = solve(structure, vectors, events, times, rtol=rtol, atol=rtol / 100).values
        errors.append(cases.scaled_error(structure, vectors, values, expected).max())
        assert errors[-1] <= ERROR * rtol
    assert np.all(np.diff(np.log10(errors)) < -1.0)


@each
def test_occasions_and_factors_change_the_drug_states(structure):
    base = vectors_of(structure, 20, 60)
    params = np.stack([base, vectors_of(structure, 20, 61)], axis=1)
    rng = np.random.default_rng(3)
    tables = []
    for _ in range(20):
        rows = cases.random_doses(structure, rng, 200.0)
        rows += [(t, OCCASION, i % 2, 0.0, -1) for i, t in enumerate(rng.uniform(0, 200, 4))]
        rows += [(t, FACTOR, i % len(structure.parameters), rng.uniform(0.3, 3.0), -1)
                 for i, t in enumerate(rng.uniform(0, 200, 20))]  # fmt: skip
        tables.append([*rows, (rng.uniform(0, 200), RESET, 0, 0.0, -1)])
    events = Events.from_rows(tables, np.arange(20))
    expected = solve(structure, params, events, TIMES, **cases.REFERENCE).values
    solution = solve(structure, params, events, TIMES)
    assert np.all(solution.closed_form)
    assert cases.scaled_error(structure, base, solution.values, expected).max() <= ERROR * 1e-6


# Which subjects


def test_only_subjects_for_whom_the_declaration_holds():
    vectors, events, times = many(TURNOVER)
    clearance = cases.parameter(TURNOVER, "cl_t", vectors)
    clearance[::3] = 0.1
    whole = solve(TURNOVER, vectors, events, times, dense=("bcell",))
    assert np.array_equal(whole.closed_form, clearance == 0.0)
    for i in (0, 1):
        own = replace(events, schedule=events.schedule[[i]])
        alone = solve(TURNOVER, vectors[[i]], own, times, dense=("bcell",))
        assert np.array_equal(alone.values[0], whole.values[i])
        steps = slice(*whole.dense.start[i : i + 2])
        assert np.array_equal(alone.dense.nodes["bcell"], whole.dense.nodes["bcell"][steps])


def test_a_factor_may_end_a_condition():
    structure = replace(TURNOVER, linear_when={"cl_t": 0.0, "hill": 1.0})
    vectors = np.tile(cases.changed(TURNOVER, cl_t=0.0, hill=1.0), (3, 1))
    changed = [structure.parameters.index(name) for name in ("cl_t", "hill")]
    factors = [[], *([(1.0, FACTOR, index, 2.0, -1)] for index in changed)]
    events = Events.from_rows(factors, [0, 1, 2])
    found = subjects_in_closed_form(structure, vectors[:, None], events)
    assert found.tolist() == [True, True, False]


def untouched(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = p[1] - p[2] * y[1]


def test_where_no_state_is_left_all_are_integrated():
    structure = replace(KPD, rhs=untouched, linear=KPD.states)
    vectors, events, _ = many(structure, 3)
    assert not subjects_in_closed_form(structure, vectors[:, None], events).any()
    source = Source(structure)
    assert source.steep() == []
    compile(source.text(), "kernel", "exec")


@each
def test_same_bits_in_any_order_chunk_and_number_of_threads(structure):
    vectors, events, times = many(structure, 70)
    whole = solve(structure, vectors, events, times, threads=1)
    for threads in (2, 4):
        again = solve(structure, vectors, events, times, threads=threads)
        assert np.array_equal(again.values, whole.values)
    order = np.random.default_rng(0).permutation(len(vectors))
    for subjects in (order, np.arange(5), np.arange(66, 70), [33], np.repeat([2, 9], 3)):
        part = replace(events, schedule=events.schedule[subjects])
        part = solve(structure, vectors[subjects], part, times)
        assert np.array_equal(part.values, whole.values[subjects])
        assert np.array_equal(part.steps, whole.steps[subjects])


@each
def test_a_parameter_that_is_not_finite(structure):
    vectors, events, times = many(structure, 20)
    good = solve(structure, vectors, events, times).values
    others = np.setdiff1d(np.arange(20), [3])
    for index in range(len(structure.parameters)):
        broken = vectors.copy()
        broken[3, index] = np.nan
        solution = solve(structure, broken, events, times)
        assert solution.status[3] == 3
        assert np.all(np.isnan(solution.values[3]))
        assert np.array_equal(solution.values[others], good[others])


# The continuous solution


@each
@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
def test_the_polynomials_of_parts_of_steps(structure, rtol):
    vectors, events, _ = many(structure, 10, 70)
    times = np.linspace(0.0, 400.0, 3001)
    solution = solve(
        structure, vectors, events, times, dense=structure.outputs, rtol=rtol, atol=rtol / 100
    )
    for o, name in enumerate(structure.outputs):
        found = Trajectories.of(solution.dense, name).before(times)[:, 1:]
        wanted = solution.values[:, 1:, o]
        known = np.isfinite(found)
        scale = np.maximum(np.abs(wanted), 1e-3 * wanted.max(axis=1, keepdims=True))[known]
        assert known.mean() > 0.9  # a course begins with the first event
        assert np.max(np.abs(found - wanted)[known] / (scale + 1e-12)) < DENSE * rtol


def tallies(structure):
    """Return one tally of every kind, of every output."""
    found = []
    for output, level in zip(structure.outputs, (5.0, 60.0), strict=True):
        found += [
            Tally("above", output, 20.0, 300.0, level), Tally("below", output, 10.0, level=level),
            Tally("lowest", output, 30.0, 350.0), Tally("highest", output, 20.0, 380.0),
            Tally("integral", output, closes=333.0),
            Tally("marked", output, marks=(56.0, 168.0, 300.0)),
        ]  # fmt: skip
    return tuple(found)


@each
def test_tallies_agree_with_those_of_the_other_kernel(structure, monkeypatch):
    vectors, events, times = many(structure, 60)
    options = {"tallies": tallies(structure), "until": 400.0, "rtol": 1e-8, "atol": 1e-10}
    closed = solve(structure, vectors, events, times, **options)
    without_closed_form(monkeypatch)
    other = solve(structure, vectors, events, times, **options)
    assert closed.closed_form.all()
    assert not other.closed_form.any()
    for asked in options["tallies"]:
        mine, theirs = closed.tally(asked), other.tally(asked)
        assert np.array_equal(np.isnan(mine), np.isnan(theirs))
        assert np.array_equal(np.isinf(mine), np.isinf(theirs))
        # An extreme is flat: when it is reached is known less well than the extreme.
        columns = [0] if asked.kind in ("lowest", "highest", "marked") else [0, 1]
        mine, theirs = mine[:, columns], theirs[:, columns]
        both = np.isfinite(mine)
        assert mine[both] == pytest.approx(theirs[both], rel=1e-5, abs=1e-5)


# Wrong declarations


def quadratic(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[0] = u[0] - p[0] * y[0] * y[0]


def michaelis_menten(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[0] = u[0] - p[0] * y[0] / (p[1] + y[0])


def of_time(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[0] = u[0] - p[0] * t * y[0]


def of_cells(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[0] = u[0] - p[0] * y[0] * y[1]


def cells_of_time(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = dy[1] * t


def cells_squared(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = dy[1] - y[1] * y[1]


def ring(t, y, p, u, dy):
    turnover_rhs(t, y, p, u, dy)
    dy[0] = dy[0] + p[0] * y[2]


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (replace(KPD, rhs=quadratic), 'structure kpd: state "virtual" is not linear: .*"\\*"'),
        (replace(KPD, rhs=michaelis_menten), 'state "virtual" is not linear: .*"/"'),
        (replace(KPD, rhs=of_time), 'state "virtual" has a closed form only if .* the time'),
        (replace(KPD, rhs=of_cells), 'state "virtual" has a closed form only if .* state "bcell"'),
        (replace(KPD, rhs=cells_of_time), 'state "bcell" has a closed form only if .* the time'),
        (replace(KPD, rhs=cells_squared), 'state "bcell" is not linear'),
        (replace(KPD, linear=("bcell",)), 'structure kpd: state "bcell" has .* state "virtual"'),
        (replace(TURNOVER, linear_when={}), 'structure turnover: state "central" has .* the time'),
        (replace(TURNOVER, rhs=ring), "depot, central, peripheral all act on each other"),
        (replace(TURNOVER, linear=("central", "peripheral")), "2 linear states and 2 others"),
        (replace(get_structure("tmdd_qss"), linear=("depot", "central")), "and 4 others"),
    ],
)
def test_a_wrong_declaration_is_refused(structure, message):
    with pytest.raises(ValueError, match=message):
        ClosedSource(structure)
    vector = cases.changed(structure, cl_t=0.0)[None]
    with pytest.raises(ValueError, match=message):
        solve(structure, vector, one([]), [1.0])


def test_names_of_a_declaration_are_checked():
    with pytest.raises(ValueError, match='structure kpd: unknown state "virtul"; did'):
        replace(KPD, linear=("virtul",))
    with pytest.raises(ValueError, match="structure turnover: unknown parameter"):
        replace(TURNOVER, linear_when={"clt": 0.0})


@pytest.mark.slow  # a kernel of its own
def test_complex_modes_give_no_wrong_number():
    """Two states that turn about each other have no decay rates; the stiff fall-back may help."""
    structure = replace(TURNOVER, rhs=turning)
    vector, events = cases.changed(TURNOVER, cl_t=0.0)[None], one([cases.dose(TURNOVER, 0.0, 9.0)])
    known = solve(structure, vector, events, [1.0, 9.0], **cases.REFERENCE).values
    solution = solve(structure, vector, events, [1.0, 9.0])
    assert solution.status[0] != 0 or solution.values == pytest.approx(known, rel=1e-5)


def turning(t, y, p, u, dy):
    turnover_rhs(t, y, p, u, dy)
    dy[1] = -p[0] * y[2]
    dy[2] = p[0] * y[1]
