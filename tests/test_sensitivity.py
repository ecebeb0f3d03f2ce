"""Sensitivities: against analytic derivatives and high-precision difference quotients."""

from dataclasses import replace

import cases
import numpy as np
import pytest
from cases import one, solve

from bcellsim.engine import Events, differences, follow
from bcellsim.engine.events import OCCASION
from bcellsim.structures import get_structure

KPD = get_structure("kpd")
TIMES = np.linspace(0.0, 365.0, 40)
# Steps at the bound of stability swell a difference of solutions to some 1e4 times the tolerance of
# 1e-8: of the count, or of the largest derivative if that is more.
QUOTIENT = 1e-3
# A central difference with a change of 1e-4, and a third derivative of the size of the first.
ANALYTIC = 1e-6

each = cases.each


def logarithmic(vectors):
    """Return one direction for the logarithm of each parameter."""
    return np.stack([np.diag(vector) for vector in vectors])


def quotient(structure, vectors, events, j, change=1e-4):
    """Return the derivative by the logarithm of a parameter, of fourth order, at 1e-12."""

    def at(k):
        moved = vectors.copy()
        moved[..., j] *= 1.0 + k * change
        return solve(structure, moved, events, TIMES, rtol=1e-12, atol=1e-14).values

    return (8.0 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12.0 * change)


@each
def test_agrees_with_a_high_precision_quotient(structure):
    vectors, events = cases.random_vectors(structure, 3, 5), cases.random_events(structure, 3, 5)
    values, derivatives = differences(structure, vectors, logarithmic(vectors), events, TIMES)
    b = cases.column(structure)
    assert derivatives.shape == (*values.shape, len(structure.parameters))
    for j, name in enumerate(structure.parameters):
        wanted = quotient(structure, vectors, events, j)[..., b]
        scale = np.maximum(values[..., b], np.abs(wanted).max(axis=1, keepdims=True)) + 1e-300
        assert np.max(np.abs(derivatives[..., b, j] - wanted) / scale) < QUOTIENT, name


def test_analytic():
    vectors = cases.random_vectors(KPD, 5, 3)
    events = Events.from_rows([[cases.dose(KPD, 0.0, 100.0)]], np.zeros(5, int))
    _, derivatives = differences(KPD, vectors, logarithmic(vectors), events, TIMES)
    kel = cases.parameter(KPD, "kel", vectors)[:, None]
    wanted = -kel * TIMES * 100.0 * np.exp(-kel * TIMES)
    wanted[:, 0] = 0.0
    amount = derivatives[..., 0, KPD.parameters.index("kel")]
    assert amount == pytest.approx(wanted, abs=100 * ANALYTIC)
    assert np.all(derivatives[..., 0, KPD.parameters.index("emax")] == 0.0)


@each
def test_the_subject_itself_is_solved_as_ever(structure):
    vectors, events = cases.random_vectors(structure, 4, 6), cases.random_events(structure, 4, 6)
    trials = np.repeat(vectors[:, None], 20, axis=1) * 1.01  # two groups of lanes
    values = follow(structure, vectors, trials, events, TIMES, until=400.0)
    alone = solve(structure, vectors, events, TIMES, until=400.0, rtol=1e-8, atol=1e-10).values
    if structure.linear:  # which `solve` may take by the closed form
        assert values[:, 0] == pytest.approx(alone, rel=1e-6, abs=1e-6)
    else:
        assert np.array_equal(values[:, 0], alone)
    # The same trial gives the same bits in any lane and group.
    assert np.array_equal(values[:, 1:], np.repeat(values[:, 1:2], 20, axis=1))
    some = follow(structure, vectors, trials[:, :3], events, TIMES, until=400.0, threads=1)
    assert np.array_equal(some, values[:, :4])


@each
def test_small_changes_show_without_noise(structure):
    """Halving the change halves the difference, where adaptive steps would leave noise."""
    vector = cases.random_vectors(structure, 1, 8)
    events = cases.random_events(structure, 1, 8)
    direction = logarithmic(vector)[0]
    by = {
        c: follow(structure, vector, (vector + c * direction)[None], events, TIMES)[0]
        for c in (2e-6, 1e-6)
    }
    b = cases.column(structure)
    two, single = (by[c][1:, :, b] - by[c][:1, :, b] for c in (2e-6, 1e-6))
    # At rest before the first dose the subject's steps grow without bound, and on them the rounding
    # of a copy grows to a few times the tolerance of 1e-8.
    noise = 1e-7 * by[1e-6][0, :, b].max()
    largest = np.abs(single).max(axis=1, keepdims=True)
    assert np.all(np.abs(two - 2.0 * single) <= 1e-2 * largest + noise)


def test_a_subject_that_cannot_be_solved_is_nan_and_others_are_not_touched():
    vectors, events = cases.random_vectors(KPD, 3, 9), cases.random_events(KPD, 3, 9)
    good, _ = differences(KPD, vectors, logarithmic(vectors), events, TIMES)
    vectors[1, 2] = np.nan
    values, derivatives = differences(KPD, vectors, logarithmic(vectors), events, TIMES)
    assert np.isnan(values[1]).all()
    assert np.isnan(derivatives[1]).all()
    assert np.array_equal(values[[0, 2]], good[[0, 2]])
    short = differences(KPD, vectors, logarithmic(vectors), events, TIMES, max_steps=5)[0]
    assert np.isnan(short).all()


def test_bad_arguments():
    vector = cases.typical(KPD)[None]
    nothing = one([])
    with pytest.raises(ValueError, match=r"trials has shape \(1, 2, 5\); \(1, n_trials, 6\)"):
        follow(KPD, vector, np.ones((1, 2, 5)), nothing, [1.0])
    with pytest.raises(ValueError, match=r"trials has shape \(1, 2, 6\); \(1, n_trials, 2, 6\)"):
        follow(KPD, np.ones((1, 2, 6)), np.ones((1, 2, 6)), nothing, [1.0])
    with pytest.raises(ValueError, match="given twice"):
        differences(KPD, vector, np.ones((1, 1, 6)), nothing, [1.0, 1.0])


@pytest.mark.parametrize("name", ["kpd"])
def test_parameters_that_change_by_occasion(name):
    """A direction moves the parameters of every occasion, each by its own amount."""
    structure = get_structure(name)
    vectors, events = cases.random_vectors(structure, 4, 5), cases.random_events(structure, 4, 5)
    steps = np.array([1.0, 1.3, 0.7])  # what each occasion has of the first one's parameters
    several = vectors[:, None] * steps[:, None]
    events = events.preceded([(day, OCCASION, k, 0.0, -1) for k, day in ((1, 40.0), (2, 90.0))])
    directions = logarithmic(vectors)[:, :, None] * steps[:, None]
    values, derivatives = differences(structure, several, directions, events, TIMES)
    b = cases.column(structure)
    for j, parameter in enumerate(structure.parameters):
        wanted = quotient(structure, several, events, j)[..., b]
        scale = np.maximum(values[..., b], np.abs(wanted).max(axis=1, keepdims=True)) + 1e-300
        assert np.max(np.abs(derivatives[..., b, j] - wanted) / scale) < QUOTIENT, parameter


# The stiff fall-back, and which way is taken


@each
def test_stiff_subjects_go_to_the_fall_back(structure):
    vectors = np.repeat(cases.typical(structure)[None], 12, axis=0)
    # The explicit method would need a million steps.
    vectors[[3, 7], structure.parameters.index(cases.quick(structure))] = [2e3, 5e3]
    rows = [cases.dose(structure, 10.0, 50.0)]
    events = Events.from_rows([rows], np.zeros(12, int))
    asked = {"max_steps": 10_000, "dense": (cases.followed(structure),), "until": 365.0}
    solution = solve(structure, vectors, events, TIMES, **asked)
    # What goes by the closed form finds nothing here stiff.
    assert np.array_equal(solution.stiff, np.isin(np.arange(12), [3, 7]) & ~solution.closed_form)
    assert np.all(solution.status == 0)
    exact = solve(structure, vectors[[3, 7]], Events.from_rows([rows], [0, 0]), TIMES,
                  **cases.REFERENCE)  # fmt: skip
    error = cases.scaled_error(structure, vectors[[3, 7]], solution.values[[3, 7]], exact.values)
    assert error.max() < 1e-5  # ten times the tolerance
    others = np.delete(np.arange(12), [3, 7])
    alone = solve(structure, vectors[others], replace(events, schedule=events.schedule[others]),
                  TIMES, **asked)  # fmt: skip
    assert np.array_equal(alone.values, solution.values[others])
    for i in (3, 7):
        steps = slice(solution.dense.start[i], solution.dense.start[i + 1])
        assert solution.dense.width[steps].sum() == pytest.approx(365.0)


def test_the_way_depends_on_the_work_only():
    vectors = np.repeat(cases.typical(KPD)[None], 9, axis=0)
    for n, rtol, wanted in ((8, None, "reference"), (9, None, "compiled"), (3, 1e-11, "compiled")):
        events = Events.from_rows([[cases.dose(KPD, 0.0, 10.0)]], np.zeros(n, int))
        solution = solve(KPD, vectors[:n], events, TIMES, rtol=rtol, backend=None)
        assert solution.backend == wanted
        assert not solution.stiff.any()
