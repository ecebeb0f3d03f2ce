"""Units: conversions by table and by pint, and refusals that say what to write instead."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcellsim.units import (
    _TABLE,
    INTERNAL,
    _lookup,
    _pint_registry,
    convert,
    days,
    quantity,
    split_quantity,
)

EXACT = 1e-14  # a few roundings


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (8.69, "mL/h", "L/day", 0.20856),  # Chen 2024, CL
        (0.0482, "L/h", "L/day", 1.1568),  # Liang 2024, CL
        (2.58, "1/year", "1/day", 2.58 / 365.25),  # Yu 2022, kdes
        (1, "g", "mg", 1000),
        (5, "ug", "mg", 0.005),
        (250, "mL", "L", 0.25),
        (5.87, "ug/mL", "mg/L", 5.87),
        (3, "ng/mL", "mg/L", 0.003),
        (0.2, "10^9/L", "cells/uL", 200),
        (40, "10^6/L", "cells/uL", 40),
        (18, "%", "", 0.18),
        (24, "ug/mL*h", "mg/L*day", 1),
        (2, "1/h", "1/day", 48),
        (2, "µg/mL", "mg/L", 2),  # micro sign
        (2, "μg/mL", "mg/L", 2),  # Greek mu
        (375, "mg/m²", "mg/m2", 375),
        (28, "day", "week", 4),  # and back from the internal unit
    ],
)
def test_table(value, unit, to, expected):
    assert convert(value, unit, to) == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 min", 1 / 48), ("12 h", 0.5), ("10 d", 10), ("4 w", 28), ("4w", 28), ("1 mo", 30.4375),
        ("6 months", 182.625), ("2 y", 730.5), ("1 year", 365.25), ("-3 d", -3), ("1e1 days", 10),
        (".5 d", 0.5), ("28", 28), (28, 28),
    ],
)  # fmt: skip
def test_times(text, expected):
    assert days(text) == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (32.5, "nmol/L", "mg/L", 32.5 * 0.146),
        (0.985, "nmol/L/day", "mg/L/day", 0.985 * 0.146),
        (1000, "nmol", "mg", 146),
        (6.21e-3, "umol/L", "mg/L", 6.21 * 0.146),
        (94_000, "molecules/cell", "ng/cell", 94_000 / 6.02214076e23 * 146e3 * 1e9),
    ],
)
def test_molar_mass(value, unit, to, expected):
    assert convert(value, unit, to, molar_mass=146) == pytest.approx(expected, rel=EXACT)
    with pytest.raises(ValueError, match="needs the molar mass"):
        convert(value, unit, to)


@pytest.mark.parametrize(
    ("unit", "to", "expected"),
    [
        ("mg/(L*week)", "mg/L/day", 1 / 7),
        ("L/week", "L/day", 1 / 7),
        ("mL/min", "L/day", 1.44),
        ("1/week", "1/day", 1 / 7),
        ("1/month", "1/day", 1 / 30.4375),
        ("ug/L*day", "mg/L*day", 1e-3),
        ("g/L", "mg/L", 1000),
        ("cells/L", "cells/uL", 1e-6),
        ("umol/L", "nmol/L", 1000),
        ("umol/L/h", "nmol/L/day", 24000),
        ("nmol/(L*h)", "nmol/L/day", 24),
        ("g/day", "mg/day", 1000),
        ("pg/cell", "ng/cell", 1e-3),
        ("molecules/cell", "fmol/cell", 1e15 / 6.02214076e23),
    ],
)
def test_pint_reads_compounds(unit, to, expected):
    assert unit not in _TABLE
    assert convert(1.0, unit, to) == pytest.approx(expected, rel=1e-12)


def test_pint_says_nothing(caplog):
    _pint_registry.cache_clear()
    assert _pint_registry().Quantity(1.0, "month").to("day").magnitude == 30.4375
    assert not caplog.records


@pytest.mark.parametrize("unit", _TABLE)
def test_every_unit_of_the_table_agrees_with_its_internal_unit(unit):
    dimension, factor = _TABLE[unit]
    assert _lookup(unit)[0] == dimension
    assert math.isfinite(factor)
    assert factor > 0
    if dimension in INTERNAL:
        assert convert(1.0, unit, INTERNAL[dimension]) == pytest.approx(factor, rel=EXACT)


@given(
    st.floats(1e-6, 1e6),
    st.sampled_from([(a, b) for a in _TABLE for b in _TABLE if _TABLE[a][0] == _TABLE[b][0]]),
)
def test_there_and_back(value, units):
    unit, to = units
    assert convert(convert(value, unit, to), to, unit) == pytest.approx(value, rel=EXACT)


@pytest.mark.parametrize(
    ("given_text", "to", "message"),
    [
        ("3 L/dy", "L/day", 'unknown unit "L/dy"; did you mean "L/d'),
        ("3 weks", "day", 'did you mean "weeks"'),
        ("3 MG", "mg", 'did you mean "mg"'),
        ("3 bananas", "day", "unknown unit"),
        ("3 mg", "day", '"mg" is a mass, but "day" .a time. is wanted'),
        ("3 mg/kg", "mg", "is wanted"),
        ("3 furlong/fortnight", "L/day", "unknown unit"),
        ("four weeks", "day", "not a number with a unit"),
        ("", "day", "not a number with a unit"),
        ("1e999 d", "day", "finite"),
        (math.nan, "day", "finite"),
        (math.inf, "day", "finite"),
        ("nan d", "day", "not a number"),
    ],
)
def test_refused(given_text, to, message):
    with pytest.raises(ValueError, match=message) as error:
        quantity(given_text, to, what="dose 2")
    assert str(error.value).startswith("dose 2: ")


def test_split_quantity():
    assert split_quantity(" 20 mg ") == (20.0, "mg")
    assert split_quantity("-1.5e-3") == (-0.0015, "")
