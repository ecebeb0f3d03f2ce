"""Every structure in the registry: baseline, return, mass balance, conversions, registration."""

import importlib.util
from dataclasses import replace
from itertools import pairwise

import cases
import numpy as np
import pytest
from cases import solve
from hypothesis import given
from hypothesis import strategies as st

from bcellsim.dimensions import check_dimensions
from bcellsim.engine.cache import compiled_kernel
from bcellsim.engine.events import FACTOR, MULTIPLY
from bcellsim.structures import (
    OUTPUTS,
    PARAMETERS,
    STATES,
    STRUCTURES,
    Route,
    get_structure,
    register_structure,
)
from bcellsim.structures.response import log_linear_removal

BASELINE = (
    1e-5  # ten times the default rtol: steps as long as stability allows leave about the tolerance
)
RETURNED = 1e-5  # what a difference of half leaves after the wait, at the default tolerances
SAME_PK = 1e-6  # of two solves at an rtol of 1e-9, one of them perhaps in closed form
CLOSED = 1e-8  # mass balance at the reference's tolerance
DERIVATIVE = 1e-6  # central differences with a step of 1e-5 of each state

each = cases.each
each_counted = cases.on(cases.COUNTED)


def random_states(structure, rng, vector):
    """Return a random positive state around baseline, with drug, in the solver's own states."""
    y = [0.0] * len(structure.states)
    structure.initial(vector.tolist(), y)
    drug = structure.drug_states()
    y = [np.exp(rng.normal(0, 3)) if i in drug else v * np.exp(rng.normal()) for i, v in
         enumerate(y)]  # fmt: skip
    if structure.from_amounts:
        structure.from_amounts(y, vector.tolist())
    return y


def amounts(structure, y, p):
    """Return the states as those of the register."""
    y = list(y)
    if structure.to_amounts:
        structure.to_amounts(y, p)
    return y


@each
@pytest.mark.parametrize("clock", ["no dose", "dose of 0 mg"])
def test_baseline_holds_for_five_years(structure, clock):
    rows = [] if clock == "no dose" else [cases.dose(structure, 0.0, 0.0)]
    vectors = np.vstack([cases.typical(structure), cases.random_vectors(structure, 5, 1)])
    events = cases.Events.from_rows([rows], np.zeros(len(vectors), int))
    solution = solve(structure, vectors, events, np.linspace(0, 5 * 365.25, 50))
    rest = cases.baseline(structure, vectors)[1][:, None, :]
    assert np.all(solution.status == 0)
    assert np.all(np.abs(solution.values - rest) <= BASELINE * rest)
    assert np.array_equal(rest > 0, np.broadcast_to(np.array(structure.outputs) == "bcell",
                          rest.shape))  # fmt: skip


def slowest(structure, vector):
    """Return the time constant of the slowest return to baseline of what is not drug [day]."""
    cells, n = cases.endogenous(structure), len(structure.states)
    rest = cases.baseline(structure, vector)[0][0]

    def slopes(i, change):
        y, dy = rest.copy(), [0.0] * n
        y[i] *= 1.0 + change
        structure.rhs(0.0, y.tolist(), vector.tolist(), [0.0] * n, dy)
        return np.array(dy)[cells]

    columns = [(slopes(i, 1e-3) - slopes(i, -1e-3)) / (2e-3 * rest[i]) for i in cells]
    return 1.0 / np.abs(np.linalg.eigvals(np.column_stack(columns)).real).min()


@each_counted
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_returns_to_baseline(structure, factor):
    vector = cases.typical(structure)
    rows = [(0.0, MULTIPLY, i, factor, -1) for i in cases.endogenous(structure)]
    times = [0.0, 1e-9, 25.0 * slowest(structure, vector)]
    b = solve(structure, vector[None], cases.one(rows), times).values[0, :, cases.column(structure)]
    b0 = cases.baseline(structure, vector)[1][0, cases.column(structure)]
    assert b[0] == b0
    assert b[1] == pytest.approx(factor * b0, rel=1e-6)
    assert b[2] == pytest.approx(b0, rel=RETURNED)


@each_counted
def test_drug_depletes(structure):
    rows = [cases.dose(structure, 0.0, 500.0, route) for route in structure.routes]
    solution = solve(structure, cases.typical(structure)[None], cases.one(rows), [0.0, 7.0])
    before, after = solution.values[0, :, cases.column(structure)]
    assert after < 0.9 * before


@each
def test_no_negative_state(structure):
    n = 5
    vectors = cases.random_vectors(structure, n, 2)
    events = cases.random_events(structure, n, 3, horizon=200.0)
    recorded = []
    wide = cases.with_eliminated(structure, recorded)
    solution = solve(wide, vectors, events, np.linspace(0, 250, 80), **cases.REFERENCE)
    assert np.all(solution.status == 0)
    lowest = np.min(np.array(recorded) / wide.state_scales())
    assert lowest > -1e-6  # of the scale of the state: the error control of a state that is 0
    quick = solve(structure, vectors, events, np.linspace(0, 250, 80))
    assert quick.values[..., cases.baseline(structure, vectors)[1][0] > 0].min(initial=1.0) > 0
    assert quick.values.min() > -1e-9


@each
def test_mass_balance_at_random_states(structure):
    rng = np.random.default_rng(4)
    drug = structure.drug_states()
    entered = {structure.states.index(route.state) for route in structure.routes.values()}
    for vector in cases.random_vectors(structure, 50, 5):
        p, y = vector.tolist(), random_states(structure, rng, vector)
        u = [rng.exponential() if i in entered else 0.0 for i in range(len(y))]
        dy = [0.0] * len(y)
        t = rng.uniform(0, 300)
        structure.rhs(t, y, p, u, dy)
        slope = np.array(dy)
        h = 1e-5 * np.min(np.array(y) / np.maximum(np.abs(slope), 1e-300))
        after = np.array(amounts(structure, y + h * slope, p))[drug]
        before = np.array(amounts(structure, y - h * slope, p))[drug]
        change = (after - before) / (2 * h)
        out = structure.elimination(t, y, p)
        scale = np.abs(change).sum() + sum(u) + abs(out) + 1e-9 * np.sum(before) / h
        assert abs(change.sum() - (sum(u) - out)) < DERIVATIVE * scale


@each
def test_mass_balance_over_a_schedule(structure):
    recorded, rows = [], cases.random_doses(structure, np.random.default_rng(6), 100.0)
    wide = cases.with_eliminated(structure, recorded)
    vector = cases.random_vectors(structure, 1, 7)
    times = [0.0, 50.0, 100.0, 300.0]
    solution = solve(wide, vector, cases.one(rows), times, **cases.REFERENCE)
    assert solution.status[0] == 0
    for time, states in zip(times, recorded, strict=True):
        assert sum(states[i] for i in wide.drug_states()) == pytest.approx(
            given_until(rows, vector[0], time), rel=CLOSED, abs=1e-9
        )
    assert recorded[-1][-1] > 0


def given_until(rows, vector, end):
    """Return the drug that has entered the body [mg], with bioavailability."""
    total, rates = 0.0, []
    for time, kind, _, value, scale in rows:
        factor = vector[scale] if scale >= 0 else 1.0
        if kind == cases.DOSE:
            total += value * factor * (time < end)
        else:
            rates.append((time, value * factor))
    # Infusions come in pairs of start and stop.
    for (start, rate), (stop, _) in zip(rates[::2], rates[1::2], strict=True):
        total += rate * max(0.0, min(stop, end) - start)
    return total


@each
def test_amounts_round_trip(structure):
    rng = np.random.default_rng(8)
    assert (structure.to_amounts is None) == (structure.from_amounts is None)
    for vector in cases.random_vectors(structure, 50, 9):
        p, y = vector.tolist(), random_states(structure, rng, vector)
        back = amounts(structure, y, p)
        if structure.from_amounts:
            structure.from_amounts(back, p)
        assert back == pytest.approx(y, rel=1e-11)  # cancels by (target / kss) at most


@given(st.floats(-12, 4), st.floats(-3, 3), st.floats(-4, 1))
def test_free_drug_solves_the_quadratic(log_total, log_target, log_kd):
    structure = get_structure("tmdd_qss")
    p = cases.changed(structure, kd=10**log_kd).tolist()
    kint, kd, koff, vc = (p[structure.parameters.index(n)] for n in ("kint", "kd", "koff", "vc"))
    kss = kd * (kint + koff) / koff
    y = [0.0, 10**log_total * vc, 0.0, 10**log_target, 1.0, 1.0]
    structure.from_amounts(y, p)
    free, total, target = y[1], 10**log_total, y[3]
    assert 0 <= free <= total * (1 + 1e-12)
    assert free + target * free / (kss + free) == pytest.approx(total, rel=1e-9)
    out = [0.0] * 3
    structure.observe(0.0, y, p, out)
    assert out[:2] == pytest.approx([total, free], rel=1e-9)
    assert structure.from_amounts([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], p) is None  # no drug: no error


@each
def test_names(structure):
    assert STRUCTURES[structure.name] is structure
    assert get_structure(structure.name) is structure
    assert set(structure.states) <= set(STATES)
    assert set(structure.parameters) <= set(PARAMETERS)
    assert set(structure.outputs) <= set(OUTPUTS)
    assert set(structure.defaults) <= set(structure.parameters)
    needed = {n for names in structure.route_parameters.values() for n in names}
    assert needed <= set(structure.parameters)
    assert set(structure.route_parameters) <= set(structure.routes)
    for route in structure.routes.values():
        assert route.state in structure.states
        assert route.bioavailability in (None, *structure.parameters)
        assert route.lag in (None, *structure.parameters)
        assert route.lag is None or structure.defaults[route.lag] == 0.0
        assert STATES[route.state].unit == "mg"
    assert all(value in (0.0, 1.0) for value in structure.defaults.values())
    assert structure.title


@each
def test_every_parameter_matters(structure):
    """A parameter that changes no output is dead, or is read from the wrong place."""
    vector = cases.typical(structure)
    rows = [cases.dose(structure, 7.0 * i, 50.0, r) for i, r in enumerate(structure.routes)]
    variants = np.vstack([vector, vector * (1 + 0.1 * np.eye(len(vector)))])
    events = cases.Events.from_rows([rows], np.zeros(len(variants), int))
    values = solve(structure, variants, events, np.linspace(1.0, 200.0, 20)).values
    change = np.abs(values[1:] / values[0] - 1).max(axis=(1, 2))
    names = np.array(structure.parameters)
    # A lag is in the times of the events, not in the equations.
    lags = {route.lag for route in structure.routes.values()}
    assert set(names[change < 1e-4].tolist()) <= lags


WITH_PK = [structure for structure in cases.ALL if structure.pk]


@cases.on(WITH_PK, {s.name for s in WITH_PK if s.pk in cases.SELDOM})
def test_the_pk_alone_gives_the_same_concentrations(structure):
    pk = get_structure(structure.pk)
    assert "bcell" not in pk.outputs
    assert not pk.pk
    vectors = cases.random_vectors(structure, 20, 20)
    own = vectors[:, [structure.parameters.index(name) for name in pk.parameters]]
    events = cases.random_events(structure, 20, 20, rows=cases.random_doses)
    times = np.linspace(0.0, 400.0, 81)
    whole, alone = (
        solve(s, v, events, times, rtol=1e-9, atol=1e-11).values
        for s, v in ((structure, vectors), (pk, own))
    )
    same = whole[..., [structure.outputs.index(name) for name in pk.outputs]]
    assert same == pytest.approx(alone, rel=SAME_PK, abs=SAME_PK * alone.max())


def test_a_structure_that_is_not_its_pk_is_refused():
    turnover = get_structure("turnover")
    with pytest.raises(
        ValueError, match=r'turnover has no state "target", which its PK pk_tmdd_qss'
    ):
        replace(turnover, pk="pk_tmdd_qss")
    with pytest.raises(ValueError, match=r'has no parameter "vmax", which its PK pk_mich'):
        replace(turnover, pk="pk_michaelis_menten")
    with pytest.raises(ValueError, match='unknown structure "pk_linea"; did you mean "pk_linear"'):
        replace(turnover, pk="pk_linea")


# Each structure of its own, by hand


def slopes(structure, y, p):
    """Return the slopes of states given by name, the others being at baseline."""
    states = dict(zip(structure.states, cases.baseline(structure, p)[0][0], strict=True))
    dy = [0.0] * len(states)
    structure.rhs(0.0, list({**states, **y}.values()), p.tolist(), [0.0] * len(states), dy)
    return dict(zip(structure.states, dy, strict=True))


def test_the_ageing_chain_rests_where_removal_is_constant():
    chain = get_structure("michaelis_menten_chain")
    p = cases.typical(chain)
    value = dict(zip(chain.parameters, p, strict=True))
    conc = 20.0
    removal = value["kill_slope"] * np.log(1.0 + conc / value["kill_conc"])
    ageing = 4.0 / value["lifespan"]
    states = {"central": conc * value["vc"]}
    states["pro_bcell"] = 135.0 / 391.0 / (value["kmat"] + removal)
    entering = value["kmat"] * states["pro_bcell"]
    for i in range(1, 5):
        states[f"transit{i}"] = entering / (ageing + removal)
        entering = ageing * states[f"transit{i}"]
    found = slopes(chain, states, p)
    for name in ("pro_bcell", "transit1", "transit2", "transit3", "transit4"):
        assert found[name] == pytest.approx(0.0, abs=1e-15)


@given(st.floats(-6, 3), st.floats(0, 6))
def test_removal_is_log_linear_above_where_it_sets_in(log_onset, log_ratio):
    onset, conc = 10**log_onset, 10 ** (log_onset + log_ratio)
    line = 0.02 * np.log(conc) - 0.02 * np.log(onset)  # slope ln C + intercept
    found = log_linear_removal(conc, 0.02, onset)
    assert line <= found <= line + 0.02 * onset / conc * (1 + 1e-9) + 1e-15
    assert log_linear_removal(0.0, 0.02, onset) == 0.0


def test_cd20_on_b_cells_as_the_target():
    """Baseline and floor of Liang 2024 (models.md, section 3: 199 and 1.5 cells/uL)."""
    structure = get_structure("tmdd_bcell")
    p = cases.typical(structure)
    assert cases.baseline(structure, p)[1][0] == pytest.approx([0.0, 0.0, 199.0], abs=0.5)
    ksyn, kint, per_cell = (cases.parameter(structure, n, p) for n in
                            ("ksyn", "kint", "cd20_per_cell"))  # fmt: skip
    assert ksyn / kint / per_cell == pytest.approx(1.5, abs=0.05)
    floor = {"central": 1e9, "bcell": ksyn / kint / per_cell}
    assert slopes(structure, floor, p)["bcell"] == pytest.approx(0.0, abs=1e-6)


def test_saturable_elimination():
    """Yan 2022 (models.md, section 4): Vmax / Km is 141 mL/day, and halves in 236 days."""
    structure = get_structure("pk_michaelis_menten")
    p = cases.typical(structure)
    vc = cases.parameter(structure, "vc", p)
    for t, expected in ((0.0, 0.141), (236.0, 0.0706)):
        clearance = structure.elimination(t, [0.0, 1e-9 * vc, 0.0], p) / 1e-9
        assert clearance - 0.188 == pytest.approx(expected, rel=5e-3)
    large = structure.elimination(0.0, [0.0, 1e6 * vc, 0.0], p)
    assert large - 0.188e6 == pytest.approx(0.832, rel=1e-3)


@pytest.mark.parametrize("what", ["states", "parameters", "outputs"])
def test_unregistered_name_is_refused(what):
    kpd = get_structure("kpd")
    message = f'structure kpd: unknown {what[:-1]} "bcel"'
    with pytest.raises(ValueError, match=message):
        replace(kpd, **{what: (*getattr(kpd, what), "bcel")})


def test_route_into_no_state_is_refused():
    kpd = get_structure("kpd")
    with pytest.raises(ValueError, match='structure kpd: unknown parameter "tlag"'):
        replace(kpd, routes={"sc": kpd.routes["sc"]._replace(lag="tlag")})
    with pytest.raises(ValueError, match='structure kpd: unknown parameter "ka"'):
        replace(kpd, route_parameters={"sc": ("ka",)})
    with pytest.raises(ValueError, match='structure kpd: unknown parameter "tlag"'):
        replace(kpd, defaults={"tlag": 0.0})
    with pytest.raises(ValueError, match='unknown state "depot"'):
        replace(kpd, routes={"sc": kpd.routes["sc"]._replace(state="depot")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": "virtual"}, r'kpd: states are a tuple, as in \("virtual",\)'),
        ({"outputs": ("bcell", "bcell")}, 'kpd: output "bcell" is given twice'),
        ({"states": ("virtual", "virtual")}, 'kpd: state "virtual" is given twice'),
        ({"routes": {"iv": Route("bcell")}}, 'kpd: route "iv" enters state "bcell", which holds'),
    ],
)
def test_a_slip_in_a_declaration_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(get_structure("kpd"), **change)


@each
def test_constant_in_the_wrong_position_is_refused(structure):
    for what in ("parameters", "states"):
        names = getattr(structure, what)
        for first, second in pairwise(names):
            swapped = [{first: second, second: first}.get(n, n) for n in names]
            with pytest.raises(ValueError, match=r"constant [A-Z0-9_]+ = [0-9]+, but"):
                replace(structure, **{what: tuple(swapped)})


def test_unknown_structure_names_the_nearest():
    with pytest.raises(ValueError, match='unknown structure "tmdd_qs"; did you mean "tmdd_qss"'):
        get_structure("tmdd_qs")


ONE_COMPARTMENT = """
from bcellsim.structures import Route, Structure, register_structure

TARGET, CENTRAL = range(2)
CL, VC = range(2)


def slope(t, y, p, u, dy):
    dy[TARGET] = 0.0
    dy[CENTRAL] = u[CENTRAL] - leaving(t, y, p)


def initial(p, y):
    y[TARGET] = 1.0
    y[CENTRAL] = 0.0


def observe(t, y, p, out):
    out[0] = y[CENTRAL] / p[VC]


def leaving(t, y, p):
    return p[CL] / p[VC] * y[CENTRAL]


ONE = register_structure(
    Structure(
        name="one_compartment", title="Linear, and a state that nothing reads",
        states=("target", "central"), parameters=("cl", "vc"),
        outputs=("conc",), rhs=slope, initial=initial, observe=observe, elimination=leaving,
        routes={"iv": Route("central")},
    )
)
"""


@pytest.fixture(scope="module")
def one_compartment(tmp_path_factory):
    """Return a structure defined in a file of the user's, its kernel compiled beside it."""
    folder = tmp_path_factory.mktemp("structure")
    path = folder / "mine.py"
    path.write_text(ONE_COMPARTMENT)
    spec = importlib.util.spec_from_file_location("mine", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BCELLSIM_CACHE_DIR", str(folder / "kernels"))
        compiled_kernel(module.ONE)
    yield module.ONE
    del STRUCTURES["one_compartment"]


@pytest.mark.slow  # compiles; `test_cli` has another one
def test_a_structure_from_ones_own_file(one_compartment):
    assert get_structure("one_compartment") is one_compartment
    (found,) = check_dimensions(one_compartment)
    assert found.endswith(
        "mine.py, line 13, function initial: state target is in a pure number, but mg/L is wanted"
    )
    vectors = np.array([[0.3, 3.0], [0.5, 2.0]])
    doses = [cases.dose(one_compartment, 0.0, 100.0), cases.dose(one_compartment, 14.0, 50.0)]
    events = cases.Events.from_rows([doses], [0, 0])
    times = np.linspace(0.5, 40.5, 21)
    solution = solve(one_compartment, vectors, events, times)
    assert np.all(solution.status == 0)
    cl, vc = vectors.T[:, :, None]
    k = cl / vc
    later = times > 14
    expected = (100 * np.exp(-k * times) + later * 50 * np.exp(-k * (times - 14) * later)) / vc
    assert solution.values[..., 0] == pytest.approx(expected, rel=1e-5)  # ten times rtol
    plain = solve(one_compartment, vectors, events, times, **cases.REFERENCE).values
    assert plain[..., 0] == pytest.approx(expected, rel=CLOSED)
    with pytest.raises(ValueError, match='"one_compartment" is registered already'):
        register_structure(replace(get_structure("kpd"), name="one_compartment"))


@pytest.mark.slow
def test_a_state_that_is_not_finite_is_a_failure_even_if_nothing_reads_it(one_compartment):
    events = cases.one([(5.0, MULTIPLY, 0, 1e200, -1)] * 2)
    solution = solve(one_compartment, np.array([[0.3, 3.0]]), events, [1.0, 9.0])
    assert solution.status[0] == 3


@each
def test_a_factor_on_a_parameter_keeps_the_drug(structure):
    """A change of any parameter leaves the amount of drug in the body as it is."""
    recorded, vector = [], cases.typical(structure)
    wide = cases.with_eliminated(structure, recorded)
    rows = [cases.dose(structure, 0.0, 20.0)]
    rows += [(5.0, FACTOR, i, 1.7, -1) for i in range(len(vector))]
    solve(wide, vector[None], cases.one(rows), [5.0, 5.0 + 1e-9, 60.0], **cases.REFERENCE)
    drug = wide.drug_states()
    totals = [sum(states[i] for i in drug) for states in recorded]
    assert totals == pytest.approx([totals[0]] * 3, rel=CLOSED)
