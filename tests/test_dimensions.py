"""Units of the equations: every structure is consistent, and broken ones are found with a line."""

import math
from dataclasses import replace

import cases
import pytest

from bcellsim.dimensions import check_dimensions, exponents, written
from bcellsim.structures import OUTPUTS, PARAMETERS, STATES, get_structure
from bcellsim.units import INTERNAL

KPD, LINEAR, TMDD = (get_structure(name) for name in ("kpd", "pk_linear", "pk_tmdd_qss"))
KEL, A50, B0, KOUT, EMAX, HILL = range(6)
CENTRAL, TARGET = 1, 3
kpd_rhs, linear_rhs, tmdd_rhs = KPD.rhs, LINEAR.rhs, TMDD.rhs
tmdd_initial = TMDD.initial


@pytest.mark.parametrize("structure", cases.ALL, ids=cases.IDS)
def test_every_structure_is_consistent(structure):
    assert check_dimensions(structure) == []


def test_every_unit_of_the_register_is_internal_and_coherent():
    for register in (PARAMETERS, STATES, OUTPUTS):
        for name, entry in register.items():
            assert entry.unit in INTERNAL.values(), name
            assert written(exponents(entry.unit)) in (entry.unit, "a pure number"), name


@pytest.mark.parametrize(
    ("unit", "message"),
    [("mg/h", '"h" is none of mg'), ("ug/L", '"ug" is none of'), ("mg/uL", "is 1e.06 of mg")],
)
def test_a_unit_that_cannot_be_one_of_the_register(unit, message):
    with pytest.raises(ValueError, match=message):
        exponents(unit)


def clearance_of_an_amount(t, y, p, u, dy):
    linear_rhs(t, y, p, u, dy)
    dy[CENTRAL] = u[CENTRAL] - p[3] * y[CENTRAL]


def amount_for_concentration(t, y, p, u, dy):
    linear_rhs(t, y, p, u, dy)
    dy[CENTRAL] = u[CENTRAL] - p[3] * y[CENTRAL] / p[6] - p[7] * y[2]


def one_more(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[0] = u[0] - p[KEL] * (y[0] + 1.0)


def log_of_an_amount(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = p[KOUT] * (p[B0] - y[1] * math.log(y[0]))


def power_of_an_amount(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    effect = y[0] ** p[HILL] / (p[A50] ** p[HILL] + y[0] ** p[HILL])
    dy[1] = p[KOUT] * (p[B0] - effect * y[1])


def exp_of_a_time(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = p[KOUT] * (p[B0] - math.exp(-t) * y[1])


def choice_of_two_units(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = p[KOUT] * (p[B0] if y[0] > 0.0 else p[A50])


def comparison_of_two_units(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = p[KOUT] * (p[B0] if y[0] > p[B0] else 0.0)


def smaller_of_two_units(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    dy[1] = p[KOUT] * min(p[B0], y[0])


def states_exchanged(p, y):
    y[0] = p[B0]
    y[1] = p[B0]


def amount_observed(t, y, p, out):
    out[0] = y[CENTRAL]


def log_observed(t, y, p, out):
    out[0] = math.log(y[CENTRAL] / p[6] / 1.0)


def concentration_leaving(t, y, p):
    return p[3] * y[CENTRAL]


def nothing_leaving(t, y, p):
    pass


def total_amount_kept(y, p):
    y[CENTRAL] = y[CENTRAL] + y[TARGET] * p[4]


def amount_with_target(y, p):
    y[CENTRAL] = y[CENTRAL] - y[TARGET]


HERE = r"test_dimensions\.py, line [0-9]+, function "
BROKEN = [
    (replace(LINEAR, rhs=clearance_of_an_amount),
     HERE + r"clearance_of_an_amount: `u\[CENTRAL\] - p\[3\] \* y\[CENTRAL\]`: subtracts mg/day "
     r"and mg\*L/day$"),
    (replace(LINEAR, rhs=amount_for_concentration), r"subtracts mg/day and mg\*L/day"),
    (replace(KPD, rhs=one_more), HERE + r"one_more: `y\[0\] \+ 1\.0`: adds mg and a pure number"),
    (replace(KPD, rhs=log_of_an_amount), r"`y\[1\] \* math\.log\(y\[0\]\)`: the logarithm of mg; "),
    (replace(KPD, rhs=power_of_an_amount), r"`y\[0\] \*\* p\[HILL\]`: the logarithm of mg; that"),
    (replace(KPD, rhs=exp_of_a_time), r"`math\.exp\(-t\)`: exp of day; a pure number is wanted"),
    (replace(KPD, rhs=choice_of_two_units), "chooses between cells/uL and mg"),
    (replace(KPD, rhs=comparison_of_two_units), r"`y\[0\] > p\[B0\]`: compares mg and cells/uL"),
    (replace(KPD, rhs=smaller_of_two_units), "takes the smaller of cells/uL and mg"),
    (replace(KPD, initial=states_exchanged), "state virtual is in cells/uL, but mg is wanted"),
    (replace(LINEAR, observe=amount_observed), "output conc is in mg, but mg/L is wanted"),
    (replace(LINEAR, observe=log_observed), "output conc is the logarithm of mg/L, but mg/L is"),
    (replace(LINEAR, elimination=concentration_leaving), r"eliminated is in mg\*L/day, but mg"),
    (replace(TMDD, to_amounts=total_amount_kept), "adds mg/L and mg"),
    (replace(TMDD, from_amounts=amount_with_target), "subtracts mg and mg/L"),
]  # fmt: skip


@pytest.mark.parametrize(("structure", "message"), BROKEN)
def test_what_is_inconsistent_is_found(structure, message):
    found = check_dimensions(structure)
    assert len(found) == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(found[0])
    assert found[0].startswith(f"structure {structure.name}: ")


def ratio_of_logarithms(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    ratio = math.exp(p[HILL] * (math.log(y[0]) - math.log(p[A50])))
    dy[1] = p[KOUT] * (p[B0] - (1.0 + ratio) * y[1])


def fixed_powers(t, y, p, u, dy):
    kpd_rhs(t, y, p, u, dy)
    ratio = y[0] ** 2 / (p[A50] ** 2 + y[0] ** 2) + math.sqrt(y[0] / p[A50])
    dy[1] = p[KOUT] * (p[B0] - max(ratio, 0.0) * y[1]) + 0.0


@pytest.mark.parametrize("rhs", [ratio_of_logarithms, fixed_powers])
def test_what_is_consistent_is_not_refused(rhs):
    assert check_dimensions(replace(KPD, rhs=rhs)) == []


def test_an_elimination_that_returns_nothing():
    with pytest.raises(ValueError, match="kpd: elimination must return one number"):
        check_dimensions(replace(KPD, elimination=nothing_leaving))


def test_one_sentence_for_each_equation():
    broken = replace(
        LINEAR,
        rhs=clearance_of_an_amount,
        observe=amount_observed,
        elimination=concentration_leaving,
    )
    assert len(check_dimensions(broken)) == 3


def test_the_line_is_that_of_the_mistake():
    found = check_dimensions(replace(KPD, rhs=one_more))[0]
    line = one_more.__code__.co_firstlineno + 2
    assert f"line {line}, function one_more" in found
