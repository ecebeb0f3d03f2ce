"""The split of drug and count: which structures have it, and its error."""

import sys
from dataclasses import replace
from pathlib import Path

import cases
import numpy as np
import pytest
from cases import one, solve
from scipy.linalg import expm

from bcellsim.engine import Events
from bcellsim.engine.equations import Equations
from bcellsim.engine.events import FACTOR, MULTIPLY
from bcellsim.engine.lower import Source
from bcellsim.engine.lower_split import SplitSource, driven, source_of
from bcellsim.structures import get_structure

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import check_random

KPD, TURNOVER, TMDD = (get_structure(name) for name in ("kpd", "turnover", "tmdd_qss"))
kpd_rhs, turnover_rhs, tmdd_rhs = KPD.rhs, TURNOVER.rhs, TMDD.rhs
TIMES = np.linspace(0.0, 400.0, 81)

ERROR = 30.0  # largest error of a count, in rtol: engine.md, section 4
LINEAR = 3.0  # the same without drug, where only the collocation errs; seen: 0.3

# Which structures


def gain_of_drug(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = dy[1] + p[2] * y[0]


def gain_of_time(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = dy[1] + p[2] * t


def loss_of_time(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = dy[1] * (1.0 + t)


def loss_of_two_drugs(t, y, p, u, dy):
    turnover_rhs(t, y, p, u, dy)
    dy[3] = dy[3] - p[9] * y[2] * y[3]


def loss_without_drug(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = p[3] * (p[2] - y[1])


def squared(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = dy[1] - y[1] * y[1]


def count_acts_back(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[0] = dy[0] - p[0] * y[0] * y[1]


def tissue_of_drug(t, y, p, u, dy):
    tmdd_rhs(t, y, p, u, dy)
    dy[5] = dy[5] - y[1] * y[5]


@pytest.mark.parametrize(
    ("name", "states", "drug"),
    [
        ("kpd", ["bcell"], "virtual"),
        ("turnover", ["bcell"], "central"),
        ("michaelis_menten_turnover", ["bcell"], "central"),
        ("tmdd_qss", ["bcell_tissue", "bcell"], "central"),
    ],
)
def test_structures_with_driven_states(name, states, drug):
    structure = get_structure(name)
    found = driven(Equations(structure))
    assert [structure.states[i] for i in found.states] == states
    assert structure.states[found.drug] == drug
    assert type(source_of(structure)) is SplitSource


@pytest.mark.parametrize("name", ["pk_linear", "michaelis_menten_chain", "tmdd_bcell"])
def test_structures_that_step_every_state(name):
    """Without cells; with more driven states than two; with cells that act on the drug."""
    assert type(source_of(get_structure(name))) is Source


@pytest.mark.parametrize(
    ("structure", "rhs"),
    [
        (KPD, gain_of_drug), (KPD, gain_of_time), (KPD, loss_of_time), (KPD, loss_without_drug),
        (KPD, squared), (KPD, count_acts_back), (TURNOVER, loss_of_two_drugs),
        (TMDD, tissue_of_drug),
    ],
)  # fmt: skip
def test_equations_that_step_every_state(structure, rhs):
    structure = replace(structure, rhs=rhs, linear=())
    assert driven(Equations(structure)) is None
    assert type(source_of(structure)) is Source


# The error


def test_without_drug_against_the_matrix_exponential():
    """Blood and tissue, brought out of balance, are linear with constant coefficients."""
    blood, tissue = (TMDD.states.index(name) for name in ("bcell", "bcell_tissue"))
    vectors = cases.random_vectors(TMDD, 12, 4)
    rows = [(1.0, MULTIPLY, blood, 0.01, -1), (1.0, MULTIPLY, tissue, 3.0, -1)]
    events = Events.from_rows([rows], np.zeros(12, int))
    expected = []
    for vector in vectors:
        p = dict(zip(TMDD.parameters, vector, strict=True))
        out, back = p["qb"] / p["vc"], p["qb"] / p["vb"]
        a = np.array([[-p["kout"] - out, back], [out, -back]])
        rest = p["b0"] * np.array([1.0, p["vb"] / p["vc"]])
        away = rest * [0.01 - 1.0, 3.0 - 1.0]
        expected.append([(rest + (expm(a * (t - 1.0)) @ away))[0] if t > 1.0 else rest[0]
                         for t in TIMES])  # fmt: skip
    for rtol in (1e-4, 1e-6, 1e-8):
        values = solve(TMDD, vectors, events, TIMES, rtol=rtol, atol=rtol / 100).values
        error = np.max(np.abs(values[..., cases.column(TMDD)] / expected - 1.0))
        assert error <= LINEAR * rtol


def steep_and_strong(structure, n, seed):
    """Return vectors with Hill exponents of 2 to 50 and losses of up to 50 a day."""
    rng, vectors = np.random.default_rng(seed), cases.random_vectors(structure, n, seed)
    cases.parameter(structure, "hill", vectors)[:] = np.exp(rng.uniform(np.log(2), np.log(50), n))
    loss = np.exp(rng.uniform(np.log(0.5), np.log(50.0), n))
    kout = cases.parameter(structure, "kout", vectors)
    cases.parameter(structure, "emax", vectors)[:] = loss / kout
    return vectors


@pytest.mark.parametrize("structure", [TURNOVER, TMDD], ids=["turnover", "tmdd_qss"])
def test_the_error_holds_in_a_steep_corner(structure):
    vectors = steep_and_strong(structure, 24, 5)
    events = cases.random_events(structure, 24, 5)
    expected = solve(structure, vectors, events, TIMES, **cases.REFERENCE).values
    for rtol in (1e-4, 1e-5, 1e-6):
        solution = solve(structure, vectors, events, TIMES, rtol=rtol, atol=rtol / 100)
        assert not solution.closed_form.any()
        error = cases.scaled_error(structure, vectors, solution.values, expected)
        assert error.max() <= ERROR * rtol, f"subject {error.max(axis=1).argmax()}"


@pytest.mark.parametrize("structure", [TURNOVER, TMDD], ids=["turnover", "tmdd_qss"])
def test_a_quick_loss_is_not_stiff(structure):
    vectors = np.repeat(cases.typical(structure)[None], 12, axis=0)
    cases.parameter(structure, "kout", vectors)[:] = np.logspace(-1.0, 4.0, 12)
    events = Events.from_rows([[cases.dose(structure, 10.0, 50.0)]], np.zeros(12, int))
    expected = solve(structure, vectors, events, TIMES, **cases.REFERENCE).values
    for rtol in (1e-4, 1e-6):
        solution = solve(structure, vectors, events, TIMES, rtol=rtol, atol=rtol / 100)
        assert not solution.stiff.any()
        assert solution.steps.max() < 3000  # the bound of stability would ask for a million
        error = cases.scaled_error(structure, vectors, solution.values, expected)
        assert error.max() <= ERROR * rtol, f"subject {error.max(axis=1).argmax()}"


def test_the_worst_of_four_thousand_random_cases():
    """Tsit5 for all states let an error of 32 rtol pass at a Hill exponent of 24."""
    result = check_random.run_chunk(TMDD, [2316])
    assert result.status[0] == 0
    assert result.error[0] <= ERROR


def test_a_drug_that_is_nothing_or_stands_still():
    """Steepness is a quotient of nothing there, and the count at rest stays."""
    vectors = np.repeat(cases.changed(KPD, kel=0.0)[None], 9, axis=0)
    rows = [cases.dose(KPD, 5.0, 20.0), (30.0, FACTOR, KPD.parameters.index("kout"), 2.0, -1)]
    events = Events.from_rows([rows, []], [0] * 8 + [1])
    structure = replace(KPD, linear=())
    solution = solve(structure, vectors, events, TIMES, until=400.0)
    assert np.all(solution.status == 0)
    exact = solve(structure, vectors[:1], one(rows), TIMES, **cases.REFERENCE)
    assert solution.values[0] == pytest.approx(exact.values[0], rel=1e-6)
    assert np.all(solution.values[8, :, 1] == vectors[8, KPD.parameters.index("b0")])
    assert np.all(solution.values[:8, -1, 0] == 20.0)
