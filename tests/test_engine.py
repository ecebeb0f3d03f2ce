"""The engine: the compiled backend against the reference, and what every solve must keep."""

from dataclasses import replace

import cases
import numpy as np
import pytest
from cases import one, solve

from bcellsim.engine import NODES, STATUS, Events
from bcellsim.engine.events import FACTOR, MULTIPLY, RESET
from bcellsim.structures import get_structure

DEFAULT_ERROR = 1e-5  # of a count, of max(B, 0.001 b0): ten times the default rtol
OTHER_OUTPUT_ERROR = 1e-5  # of max(C, 0.001 of the subject's largest C)
SAME = 1e-6  # a restart or another grid changes steps, so values within the tolerance only
POLYNOMIAL = 1e-9  # five nodes fix a polynomial of degree four up to roundings
TIMES = np.linspace(0.0, 400.0, 134)

each = cases.each
KPD, TURNOVER = get_structure("kpd"), get_structure("turnover")


def many(structure, n=16, seed=20):
    """Return vectors, events and times of n random subjects."""
    return cases.random_vectors(structure, n, seed), cases.random_events(structure, n, seed), TIMES


def take(events, subjects):
    """Return the events of some of the subjects."""
    return replace(events, schedule=events.schedule[subjects])


# Against the reference


@cases.each_whole
@pytest.mark.parametrize(("n", "seed"), [(30, 10), (60, 777)])
def test_agrees_with_the_reference(structure, n, seed):
    vectors, events, times = many(structure, n, seed)
    expected = solve(structure, vectors, events, times, **cases.REFERENCE)
    solution = solve(structure, vectors, events, times)
    assert np.all(expected.status == 0)
    assert np.all(solution.status == 0)
    error = cases.scaled_error(structure, vectors, solution.values, expected.values)
    assert error.max() <= DEFAULT_ERROR, f"subject {error.max(axis=1).argmax()}"
    others = [i for i in range(len(structure.outputs)) if i != cases.column(structure)]
    values, wanted = solution.values[..., others], expected.values[..., others]
    scale = np.maximum(np.abs(wanted), 1e-3 * wanted.max(axis=1, keepdims=True) + 1e-12)
    assert np.max(np.abs(values - wanted) / scale, initial=0.0) <= OTHER_OUTPUT_ERROR


@each
def test_tighter_tolerance_gives_smaller_error(structure):
    vectors, events, times = many(structure, 10, 30)
    expected = solve(structure, vectors, events, times, **cases.REFERENCE).values
    errors = []
    for rtol in (1e-4, 1e-6, 1e-8):
        values = solve(structure, vectors, events, times, rtol=rtol, atol=rtol / 100).values
        errors.append(cases.scaled_error(structure, vectors, values, expected).max())
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


# Where steps stop does not matter


@each
def test_splitting_at_events_that_do_nothing(structure):
    vectors, _, times = many(structure, 6, 50)
    rows = [cases.dose(structure, 7.0 * i, 50.0, r) for i, r in enumerate(structure.routes)]
    rng = np.random.default_rng(51)
    idle = [(t, MULTIPLY, i % len(structure.states), 1.0, -1)
            for i, t in enumerate(rng.uniform(0, 300, 20))]  # fmt: skip
    idle += [(t, FACTOR, i % len(structure.parameters), 1.0, -1)
             for i, t in enumerate(rng.uniform(0, 300, 20))]  # fmt: skip
    zeros = np.zeros(len(vectors), int)
    tight = {"rtol": 1e-8, "atol": 1e-10}  # at the default two solves may differ by 10 rtol
    plain = solve(structure, vectors, Events.from_rows([rows], zeros), times, **tight)
    split = solve(structure, vectors, Events.from_rows([rows + idle], zeros), times, **tight)
    assert cases.scaled_error(structure, vectors, split.values, plain.values).max() < SAME


@each
def test_the_output_grid_does_not_change_values(structure):
    vectors, events, times = many(structure, 6, 60)
    coarse = solve(structure, vectors, events, times[::19], until=400.0).values
    fine_times = np.union1d(times, np.linspace(0.0, 400.0, 3001))
    fine = solve(structure, vectors, events, fine_times).values
    same = fine[:, np.searchsorted(fine_times, times[::19])]
    assert cases.scaled_error(structure, vectors, coarse, same).max() < SAME


# Events


@each
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_output_on_a_dose_day_is_the_trough(structure, backend):
    route = next(r for r, route in structure.routes.items() if route.state != "depot")
    rows = [cases.dose(structure, t, 100.0, route) for t in (0.0, 28.0)]
    times = [0.0, 1e-9, 28.0 - 1e-9, 28.0, 28.0 + 1e-9]
    drug = solve(structure, cases.typical(structure)[None], one(rows), times, backend=backend)
    drug = drug.values[0, :, 0]
    assert drug[0] == 0
    assert drug[1] > 0
    assert drug[3] == pytest.approx(drug[2], rel=1e-6)
    assert drug[4] - drug[3] == pytest.approx(drug[1], rel=1e-6)


@each
def test_dense_solution_agrees_with_the_values(structure):
    vectors, events, times = many(structure, 4, 70)
    solution = solve(structure, vectors, events, times, dense=structure.outputs)
    dense = solution.dense
    for i, j in np.ndindex(len(vectors), len(times)):
        steps = slice(dense.start[i], dense.start[i + 1])
        start, width = dense.time[steps], dense.width[steps]
        step = np.searchsorted(start, times[j]) - 1  # a time between steps belongs to the earlier
        if step < 0:
            continue
        theta = (times[j] - start[step]) / width[step]
        assert 0 < theta <= 1 + 1e-9
        for o, name in enumerate(structure.outputs):
            nodes = dense.nodes[name][steps]
            value = np.polynomial.polynomial.polyval(
                theta, np.linalg.solve(np.vander(NODES, increasing=True), nodes[step])
            )
            # An output that is not linear in the states is a polynomial only nearly.
            exact = name == cases.followed(structure) and not solution.closed_form[i]
            tolerance = POLYNOMIAL if exact else 1e-5
            scale = solution.values[i, :, o].max() + 1e-12
            assert abs(value - solution.values[i, j, o]) < tolerance * scale


@each
def test_dense_steps_join(structure):
    vectors, events, _ = many(structure, 4, 70)
    output = cases.followed(structure)
    dense = solve(structure, vectors, events, [], until=400.0, dense=(output,)).dense
    for i in range(len(vectors)):
        steps = slice(dense.start[i], dense.start[i + 1])
        start, width = dense.time[steps], dense.width[steps]
        assert start[1:] == pytest.approx((start + width)[:-1], abs=1e-9)
        assert start[-1] + width[-1] == pytest.approx(400.0)
    alone = solve(structure, vectors[[2]], take(events, [2]), [], until=400.0, dense=(output,))
    mine = slice(dense.start[2], dense.start[3])
    assert np.array_equal(alone.dense.nodes[output], dense.nodes[output][mine])


def test_an_infusion_over_four_hours_delivers_its_amount():
    vector = cases.changed(KPD, kel=0.0)
    rows = cases.infusion(KPD, 1.0, 500.0, 4 / 24)
    values = solve(KPD, vector[None], one(rows), [1.0, 1.0 + 2 / 24, 1.0 + 4 / 24, 9.0]).values
    assert values[0, :, 0] == pytest.approx([0, 250, 500, 500], rel=1e-12)


@each
def test_bolus_and_a_very_short_infusion(structure):
    vector, route = cases.typical(structure)[None], next(iter(structure.routes))
    second = 1 / 86400
    bolus = one([cases.dose(structure, 3.0, 100.0, route)])
    short = one(cases.infusion(structure, 3.0, 100.0, second, route))
    a, b = (solve(structure, vector, e, [4.0, 10.0, 50.0, 200.0]).values for e in (bolus, short))
    assert a == pytest.approx(b, rel=3e-5)  # a second of 4 d, and the tolerance


def test_overlapping_doses_at_one_time_add():
    vector = cases.changed(KPD, kel=0.0)[None]
    rows = [cases.dose(KPD, 1.0, 10.0), cases.dose(KPD, 1.0, 5.0)]
    rows.append((1.0, MULTIPLY, 0, 2.0, -1))  # after both: the order given holds
    assert solve(KPD, vector, one(rows), [2.0]).values[0, 0, 0] == pytest.approx(30.0)


@each
def test_bioavailability_scales_the_dose(structure):
    for route, (_, factor, *_) in structure.routes.items():
        if factor is None:
            continue
        half = cases.changed(structure, **{factor: 0.5})
        whole = cases.changed(structure, **{factor: 1.0})
        a = solve(structure, half[None], one([cases.dose(structure, 0, 100.0, route)]), TIMES)
        b = solve(structure, whole[None], one([cases.dose(structure, 0, 50.0, route)]), TIMES)
        assert np.array_equal(a.values, b.values)


@each
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_reset_returns_to_baseline(structure, backend):
    rows = [cases.dose(structure, 0.0, 50.0), *cases.infusion(structure, 20.0, 200.0, 60.0)]
    rows[-1] = (50.0, RESET, 0, 0.0, -1)  # instead of the row that ends the infusion
    vector = cases.typical(structure)
    solution = solve(structure, vector[None], one(rows), [50.0, 51.0, 300.0], backend=backend)
    values, rest = solution.values[0], cases.baseline(structure, vector)[1][0]
    away = np.abs(values - rest) / np.maximum(rest, 1.0)
    assert np.all(away[0] > 0.1)
    assert away[1:].max() < SAME


@each
def test_factor_zero_then_one_restores_the_parameter(structure):
    dose = cases.dose(structure, 0.0, 50.0)
    state = len(structure.states) - 1
    index = structure.parameters.index(cases.quick(structure))
    changed = [(30.0, FACTOR, index, 0.0, -1), (30.0, FACTOR, index, 1.0, -1)]
    idle = [(30.0, MULTIPLY, state, 1.0, -1), (30.0, MULTIPLY, state, 1.0, -1)]
    vector = cases.typical(structure)[None]
    a, b = (solve(structure, vector, one([dose, *rows]), TIMES).values for rows in (changed, idle))
    assert np.array_equal(a, b)


def test_a_factor_acts_while_it_holds():
    vector = cases.changed(KPD, kel=0.1)
    kel = KPD.parameters.index("kel")
    rows = [cases.dose(KPD, 0.0, 100.0), (10.0, FACTOR, kel, 0.0, -1), (20.0, FACTOR, kel, 3.0, -1)]
    drug = solve(KPD, vector[None], one(rows), [10.0, 20.0, 30.0]).values[0, :, 0]
    assert drug == pytest.approx(100 * np.exp([-1, -1, -4]), rel=1e-5)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_events_after_the_end_are_refused_unless_they_end_something(backend):
    vector = cases.typical(KPD)[None]
    early, late = cases.dose(KPD, 0.0, 10.0), cases.dose(KPD, 50.0, 10.0)
    with pytest.raises(ValueError, match="at 50 d is after the end of the integration at 40 d"):
        solve(KPD, vector, one([early, late]), [0.0, 40.0], backend=backend)
    ongoing = cases.infusion(KPD, 30.0, 10.0, 20.0)
    a = solve(KPD, vector, one([early, *ongoing]), [0.0, 40.0], backend=backend)
    b = solve(KPD, vector, one([early, ongoing[0]]), [0.0, 40.0], backend=backend)
    assert np.array_equal(a.values, b.values)
    both = Events.from_rows([[early, late]], [0, 0])  # one of two subjects reaches it
    solve(KPD, np.repeat(vector, 2, axis=0), both, [0.0], until=[40.0, 60.0], backend=backend)


def test_the_clock_counts_from_the_first_dose():
    vector = cases.changed(TURNOVER, cl_t=0.5, kdes=0.1)[None]
    kwargs = {"until": 1060.0}
    a = solve(TURNOVER, vector, one([cases.dose(TURNOVER, 0, 50.0)]), [0.0, 20.0, 60.0])
    for shift in (-30.0, 1000.0):
        events = one([cases.dose(TURNOVER, shift, 50.0)])
        b = solve(TURNOVER, vector, events, np.array([0.0, 20.0, 60.0]) + shift, **kwargs)
        assert b.values == pytest.approx(a.values, rel=SAME)


# Failures


@each
def test_step_limit(structure):
    vectors, events, times = many(structure, 3)
    solution = solve(structure, vectors, events, times, max_steps=10)
    assert solution.status.tolist() == [1, 1, 1]
    assert np.all(solution.stiff)  # the fall-back tried, within the same limit
    assert np.all(np.isnan(solution.values[:, -1]))
    known = solve(structure, vectors, events, times).values
    written = ~np.isnan(solution.values)
    assert solution.values[written] == pytest.approx(known[written], rel=1e-4, abs=1e-6)


@each
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_a_parameter_that_is_not_finite(structure, bad, backend):
    vectors, events, times = many(structure, 3)
    good = solve(structure, vectors, events, times[:40], until=400.0, backend=backend).values
    for index in range(len(structure.parameters)) if backend == "compiled" else [0]:
        broken = vectors.copy()
        broken[1, index] = bad
        solution = solve(structure, broken, events, times[:40], until=400.0, backend=backend)
        assert solution.status.tolist() == [0, 3, 0]
        assert np.all(np.isnan(solution.values[1]))
        assert np.array_equal(solution.values[[0, 2]], good[[0, 2]])


@each
@pytest.mark.parametrize("amount", [np.nan, np.inf])
def test_a_dose_that_is_not_finite(structure, amount):
    events = one([cases.dose(structure, 5.0, amount)])
    with pytest.raises(ValueError, match=f"event 0 .time 5 d, .* value {amount:g}. is not one of"):
        solve(structure, cases.typical(structure)[None], events, [5.0, 6.0])


@each
def test_a_dose_whose_bioavailability_makes_it_infinite(structure):
    huge = one([cases.dose(structure, 5.0, 1e308), cases.dose(structure, 5.0, 1e308)])
    solution = solve(structure, cases.typical(structure)[None], huge, [5.0, 6.0])
    if solution.status[0]:
        assert np.isnan(solution.values[0, 1]).all()
    else:
        assert np.isfinite(solution.values[0]).all()


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_singular_equations_are_a_status(backend):
    vector = cases.changed(TURNOVER, vc=0.0)
    events = one([cases.dose(TURNOVER, 0.0, 10.0)])
    solution = solve(TURNOVER, vector[None], events, [1.0], backend=backend)
    assert solution.status[0] in (2, 3)
    assert np.isnan(solution.values).all()


def test_every_status_has_a_sentence():
    assert sorted(STATUS) == [0, 1, 2, 3]


VECTOR = cases.typical(KPD)[None]
NOTHING = one([])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((VECTOR[0], NOTHING, [1.0]), {}, r"params has shape \(6,\); structure kpd wants"),
        ((VECTOR[:, :5], NOTHING, [1.0]), {}, r"params has shape .*wants"),
        ((np.tile(VECTOR, (2, 1)), NOTHING, [1.0]), {}, "events are for 1 subjects, params for 2"),
        ((VECTOR, NOTHING, np.ones((3, 2))), {}, "times has shape"),
        ((VECTOR, NOTHING, [2.0, 1.0]), {}, "ascending order"),
        ((VECTOR, NOTHING, [0.0, np.nan, 1.0]), {}, "ascending order"),
        ((VECTOR, NOTHING, [-np.inf, 1.0]), {}, "finite"),
        ((VECTOR, NOTHING, [0.0, np.inf]), {}, "finite"),
        ((VECTOR, NOTHING, [0.0, np.inf]), {"until": 5.0}, "finite"),
        ((VECTOR, NOTHING, []), {}, "give output times, or until"),
        ((VECTOR, NOTHING, [1.0]), {"until": np.nan}, "not finite"),
        (
            (VECTOR, NOTHING, [1.0]),
            {"backend": "compile"},
            'backend "compile"; did you mean "compiled"',
        ),
        ((VECTOR, NOTHING, [1.0]), {"dense": ("bcel",)}, 'output "bcel"; did you mean "bcell"'),
    ],
)
def test_wrong_arguments(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        solve(KPD, *arguments, **options)


@pytest.mark.filterwarnings("error")
def test_rows_of_times_may_end_in_several_nan():
    vectors = np.tile(VECTOR, (2, 1))
    times = [[0.0, 1.0, 2.0], [0.0, np.nan, np.nan]]
    solution = solve(KPD, vectors, Events.from_rows([[]], [0, 0]), times)
    assert solution.values[1, 0, 1] == solution.values[0, 0, 1]
