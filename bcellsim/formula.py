"""Small formulas in model files, such as "k12 * vc / k21", and the units of what they give."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bcellsim.names import unknown

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS = {"ln": np.log, "exp": np.exp, "sqrt": np.sqrt}
_ALLOWED = "numbers, names, + - * / **, ln(), exp() and sqrt()"

#: Units of the register that are multiples of others: mg/L per ng/cell are cells/uL.
_MULTIPLES = {
    "cells": {"cell": Fraction(1)},
    "uL": {"L": Fraction(1), "10^-6": Fraction(1)},
    "ng": {"mg": Fraction(1), "10^-6": Fraction(1)},
}

#: A number with its unit is written as a product: ``196 * day``.
_UNIT_NAMES = {"day": "day"}


@dataclass(frozen=True)
class Formula:
    """A formula of parameters, checked when it is made.

    Parameters
    ----------
    text : str
        Such as ``"ln(2) / t_half_cl"``.

    Raises
    ------
    ValueError
        If it is not a formula of numbers, names, ``+ - * / **``, ``ln``, ``exp`` and ``sqrt``.
    """

    text: str

    def __post_init__(self):
        try:
            tree = ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError):
            raise ValueError(f'"{self.text}" is not a formula of {_ALLOWED}') from None
        _check(tree, self.text)
        object.__setattr__(self, "_tree", tree)

    @property
    def names(self) -> list[str]:
        """Return the parameters it names, in order."""
        found = [node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)]
        return [n for n in dict.fromkeys(found) if n not in _FUNCTIONS and n not in _UNIT_NAMES]

    def __call__(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return its value for the values of the parameters, numbers or arrays alike."""
        return _value(self._tree, {**dict.fromkeys(_UNIT_NAMES, 1.0), **values})

    def check_unit(self, units: Mapping[str, str], wanted: str) -> None:
        """Raise ValueError unless it is in the unit wanted; `units` are those of the parameters."""
        found = _dimension(self._tree, {**_UNIT_NAMES, **units})
        if found != _powers(wanted):
            raise ValueError(
                f'"{self.text}" is in {_written(found)}, but {wanted or "no unit"} is wanted'
            )

    def __str__(self):
        return self.text


def _check(node, text):
    """Raise ValueError for what is not allowed in a formula."""
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        parts = [node.operand]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id not in _FUNCTIONS:
            raise ValueError(f'"{text}": {unknown("function", node.func.id, _FUNCTIONS)}')
        if len(node.args) != 1 or node.keywords:
            raise ValueError(f'"{text}": {node.func.id} takes one argument')
        parts = node.args
    elif isinstance(node, ast.Name) or (
        isinstance(node, ast.Constant) and type(node.value) in (int, float)
    ):
        parts = []
    else:
        raise ValueError(f'"{text}": only {_ALLOWED} may stand in a formula')
    for part in parts:
        _check(part, text)


def _value(node, values):
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, values)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Call):
        return _FUNCTIONS[node.func.id](_value(node.args[0], values))
    return float(node.value) if isinstance(node, ast.Constant) else values[node.id]


def _dimension(node, units):
    """Return the powers of the units that a formula is in."""
    if isinstance(node, ast.Constant):
        return {}
    if isinstance(node, ast.Name):
        return _powers(units[node.id])
    if isinstance(node, ast.UnaryOp):
        return _dimension(node.operand, units)
    if isinstance(node, ast.Call):
        inside = _dimension(node.args[0], units)
        if node.func.id == "sqrt":
            return _scaled(inside, Fraction(1, 2))
        return _plain(inside, f"{node.func.id}({ast.unparse(node.args[0])})")
    left, right = _dimension(node.left, units), _dimension(node.right, units)
    if isinstance(node.op, ast.Pow):
        _plain(right, ast.unparse(node))
        if not left:
            return {}
        if not isinstance(node.right, ast.Constant):
            raise ValueError(f'"{ast.unparse(node)}": the power of a unit must be a number')
        return _scaled(left, Fraction(node.right.value).limit_denominator(100))
    if isinstance(node.op, (ast.Add, ast.Sub)):
        if left != right:
            raise ValueError(f'"{ast.unparse(node)}" joins {_written(left)} and {_written(right)}')
        return left
    return _product(left, right, 1 if isinstance(node.op, ast.Mult) else -1)


def _plain(powers, text):
    if powers:
        raise ValueError(
            f'"{text}" is of something in {_written(powers)}; a plain number is wanted'
        )
    return powers


def _powers(unit: str) -> dict[str, Fraction]:
    """Return the powers in a unit such as ``mg/L/day``, read from the left."""
    found, sign = {}, 1
    for part in re.split(r"([*/])", unit):
        if part in "*/" and part:
            sign = 1 if part == "*" else -1
        elif part.strip() not in ("", "1"):
            part = part.strip()
            found = _product(found, _MULTIPLES.get(part, {part: Fraction(1)}), sign)
    return found


def _product(left, right, sign):
    total = {unit: left.get(unit, 0) + sign * right.get(unit, 0) for unit in {**left, **right}}
    return {unit: power for unit, power in total.items() if power}


def _scaled(powers, by):
    return {unit: power * by for unit, power in powers.items() if by}


def _written(powers):
    """Write powers of units as people do."""

    def side(sign):
        return [u if abs(p) == 1 else f"{u}^{abs(p)}" for u, p in powers.items() if p * sign > 0]

    if not powers:
        return "no unit"
    return "/".join(["*".join(side(1)) or "1", *side(-1)])
