"""Formulas of model files: what they give, in which unit, and what is refused."""

import math
import re

import numpy as np
import pytest

from bcellsim.formula import Formula

UNITS = {"kel": "1/day", "vc": "L", "k12": "1/day", "k21": "1/day", "t": "day", "cl": "L/day",
         "ksyn": "mg/L/day", "x": "", "b0": "cells/uL", "y": "ng/cell"}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "values", "expected", "unit"),
    [
        ("kel * vc", {"kel": 0.11, "vc": 4.1}, 0.11 * 4.1, "L/day"),
        ("k12 * vc / k21", {"k12": 0.42, "vc": 4.1, "k21": 0.25}, 0.42 * 4.1 / 0.25, "L"),
        ("ln(2) / t", {"t": 16.3}, math.log(2) / 16.3, "1/day"),
        ("exp(-kel * 196 * day)", {"kel": 0.00294}, math.exp(-0.00294 * 196), ""),
        ("cl - kel * vc", {"cl": 1.0, "kel": 0.1, "vc": 3.0}, 0.7, "L/day"),
        ("sqrt(k12 * k21) * vc ** 2 / vc", {"k12": 4.0, "k21": 9.0, "vc": 2.0}, 12.0, "L/day"),
        ("+x ** -x + 1e-3", {"x": 2.0}, 0.251, ""),
        ("ksyn * t / y", {"ksyn": 2.0, "t": 3.0, "y": 0.5}, 12.0, "cells/uL"),
        ("2 * b0 / (1 + x)", {"b0": 194.0, "x": 159.0}, 2 * 194 / 160, "cells/uL"),
    ],
)
def test_value_and_unit(text, values, expected, unit):
    formula = Formula(text)
    formula.check_unit(UNITS, unit)
    assert formula(values) == pytest.approx(expected, rel=1e-14)
    arrays = {name: np.full(3, value) for name, value in values.items()}
    assert formula(arrays) == pytest.approx(np.full(3, expected), rel=1e-14)
    assert sorted(formula.names) == sorted(values)


@pytest.mark.parametrize(
    ("text", "unit", "sentence"),
    [
        ("kel + vc", "1/day", '"kel + vc" joins 1/day and L'),
        ("kel * vc", "L", '"kel * vc" is in L/day, but L is wanted'),
        ("exp(kel)", "", '"exp(kel)" is of something in 1/day; a plain number is wanted'),
        ("vc ** x", "L", '"vc ** x": the power of a unit must be a number'),
        ("vc ** vc", "L", '"vc ** vc" is of something in L'),
        ("vc ** 2", "", '"vc ** 2" is in L^2, but no unit is wanted'),
        ("ksyn * vc", "mg", "is in mg/day, but mg is wanted"),
    ],
)
def test_units_that_disagree(text, unit, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Formula(text).check_unit(UNITS, unit)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kel *", '"kel *" is not a formula of numbers'),
        ("log(kel)", 'unknown function "log"'),
        ("__import__('os')", 'unknown function "__import__"'),
        ("vc.real", "only numbers, names"),
        ("vc if x else 1", "only numbers, names"),
        ("vc[0]", "only numbers, names"),
        ("'a'", "only numbers, names"),
        ("True", "only numbers, names"),
        ("ln(vc, 2)", "ln takes one argument"),
        ("vc\x00", "is not a formula"),
    ],
)
def test_what_is_no_formula(text, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Formula(text)
