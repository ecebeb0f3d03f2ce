"""Do the equations of a structure have the units that the register gives its names?

Units are followed through the graph of the equations: a sum, a choice or a comparison is of one
unit; exp takes a pure number, and so does log, except in a difference of two logarithms of one unit
(the logarithm of a ratio). A number written in the equations is pure, 0 is of any unit.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache

from bcellsim.engine.equations import Equations
from bcellsim.engine.graph import Node
from bcellsim.engine.trace import TIME, Vector, trace
from bcellsim.structures import OUTPUTS, PARAMETERS, STATES, Structure

#: Base units, and what a unit of the register is in them: (base, factor). 10^6 cells are the unit
#: of cells, so that cells/uL and ng/cell have a factor of 1 as mg, day and L have.
_BASES = ("mg", "day", "L", "10^6 cells")
_UNITS = {"mg": (0, 1.0), "ng": (0, 1e-6), "day": (1, 1.0), "L": (2, 1.0), "uL": (2, 1e-6),
          "cells": (3, 1e-6), "cell": (3, 1e-6)}  # fmt: skip
_PURE = (Fraction(0),) * len(_BASES)
_SAYS = {"+": "adds", "-": "subtracts", "min": "takes the smaller of", "max": "takes the larger of",
         "select": "chooses between"}  # fmt: skip


class _LogOf(tuple):
    """The unit within a logarithm."""


_ANY = None  # of 0


@cache
def exponents(unit: str) -> tuple[Fraction, ...]:
    """Return the exponents of mg, day, L and 10^6 cells in a unit of the register.

    Raises
    ------
    ValueError
        If the unit is not a quotient of such units, or is not 1 in them.
    """
    found, scale = list(_PURE), 1.0
    for i, word in enumerate(unit.split("/")):
        if i == 0 and word in ("", "1"):
            continue
        if word not in _UNITS:
            raise ValueError(f'unit "{unit}": "{word}" is none of {", ".join(_UNITS)}')
        base, factor = _UNITS[word]
        found[base] += 1 if i == 0 else -1
        scale *= factor if i == 0 else 1.0 / factor
    if abs(scale - 1.0) > 1e-12:
        raise ValueError(f'unit "{unit}" is {scale:g} of {", ".join(_BASES)}')
    return tuple(found)


def check_dimensions(structure: Structure) -> list[str]:
    """Return what is inconsistent in the units of a structure's equations, a sentence each.

    Parameters
    ----------
    structure : Structure

    Returns
    -------
    list of str
        For each equation with an inconsistency the first one, with file, line and the two units;
        empty where all is consistent.

    Raises
    ------
    ValueError
        If the equations cannot be read.
    """
    places = {}
    equations = Equations(structure, places)
    registered = [exponents(STATES[name].unit) for name in structure.states]
    units = _Units(structure, places, registered)
    if structure.from_amounts:
        # What the solver has in place of a state of the register, such as free for total drug.
        solver = [units.of(node) for node in equations.from_amounts]
        found = [fault for fault in solver if isinstance(fault, str)]
        if found:
            return found
        units = _Units(structure, places, solver)
    found = [
        units.fault(function, f"{what} {name}".strip(), node, unit)
        for function, what, *columns in _wanted(structure, equations, registered, units.y)
        for name, node, unit in zip(*columns, strict=True)
    ]
    return list(dict.fromkeys(fault for fault in found if fault))


def _wanted(structure, equations, registered, solver):
    """Return function, what it gives, names, nodes and units of each set of equations."""
    names = structure.states
    slopes = [_over(unit, exponents("day")) for unit in solver]
    outputs = [exponents(OUTPUTS[name].unit) for name in structure.outputs]
    vectors = Vector("y", len(names)), Vector("p", len(structure.parameters))
    leaving = trace(structure.elimination, TIME, *vectors, places=equations.places)
    if not isinstance(leaving, Node):
        raise ValueError(f"structure {structure.name}: elimination must return one number")
    found = [
        (structure.initial, "state", names, equations.baseline, solver),
        (structure.rhs, "slope of", names, equations.slopes, slopes),
        (structure.observe, "output", structure.outputs, equations.outputs, outputs),
        (structure.elimination, "what is eliminated", [""], [leaving], [exponents("mg/day")]),
    ]
    if structure.to_amounts:
        found += [(structure.to_amounts, "amount of", names, equations.to_amounts, registered)]
    return found


class _FaultError(Exception):
    """An inconsistency within a node; `place` is where it is computed, if that is known."""

    def __init__(self, message, place):
        self.message, self.place = message, place


class _Units:
    """The units of the nodes of a structure's equations; `y` are those of the solver's states."""

    def __init__(self, structure, places, y):
        self.structure, self.places, self.y, self.known = structure, places, y, {}

    def fault(self, function, what: str, node: Node, wanted) -> str:
        """Return what is wrong with an equation of a wanted unit, or ``""``."""
        found = self.of(node)
        if isinstance(found, str):
            return found
        if found is _ANY or (found == wanted and not isinstance(found, _LogOf)):
            return ""
        code, verb = function.__code__, "the logarithm of" if isinstance(found, _LogOf) else "in"
        return self.sentence(
            f"{what} is {verb} {written(found)}, but {written(wanted)} is wanted",
            f"{code.co_filename}, line {code.co_firstlineno}, function {function.__name__}",
        )

    def of(self, node: Node):
        """Return the unit of a node, or the sentence about the first inconsistency in it."""
        try:
            return self.unit(node)
        except _FaultError as fault:
            return self.sentence(fault.message, fault.place)

    def sentence(self, message, where):
        return f"structure {self.structure.name}: {where}{': ' if where else ''}{message}"

    def unit(self, node):
        if node not in self.known:
            try:
                self.known[node] = self.compute(node)
            except _FaultError as fault:
                # A node that an expression makes on the way has no place of its own.
                fault.place = fault.place or self.places.get(node, "")
                raise
        return self.known[node]

    def compute(self, node):
        if node.op == "number":
            return _ANY if node.args[0] == 0.0 else _PURE
        if node.op == "input":
            return self.input(*node.args)
        units = [self.unit(arg) for arg in node.args]
        if node.op in ("+", "-", "min", "max"):
            return self.same(node, units)
        if node.op == "select":
            return self.same(node, units[1:])
        if node.op in ("<", "<=", ">", ">=", "==", "!="):
            self.same(node, units)
            return _PURE
        if node.op == "log":
            return _PURE if units[0] in (_ANY, _PURE) else _LogOf(units[0])
        self.no_logarithm(node, units)
        if node.op in ("*", "/"):
            return _times(*units) if node.op == "*" else _over(*units)
        if node.op == "sqrt":
            return units[0] and tuple(e / 2 for e in units[0])
        if node.op == "exp" and units[0] not in (_ANY, _PURE):
            raise _FaultError(f"exp of {written(units[0])}; a pure number is wanted", "")
        return units[0] if node.op in ("neg", "abs") else _PURE

    def input(self, vector, index):
        if vector == "t":
            return exponents("day")
        if vector == "y":
            return self.y[index]
        name = self.structure.parameters[index] if vector == "p" else ""
        return exponents(PARAMETERS[name].unit if name else "mg/day")

    def same(self, node, units):
        """Return the one unit of things that are added, chosen from or compared."""
        first, second = units
        if node.op == "-" and isinstance(first, _LogOf) and first == second:
            return _PURE
        self.no_logarithm(node, units)
        if _ANY in units:
            return second if first is _ANY else first
        if first != second:
            does = _SAYS.get(node.op, "compares")
            raise _FaultError(f"{does} {written(first)} and {written(second)}", "")
        return first

    def no_logarithm(self, node, units):
        for unit in units:
            if isinstance(unit, _LogOf):
                raise _FaultError(
                    f"the logarithm of {written(unit)}; that of a ratio is wanted, or a power with "
                    "a fixed exponent",
                    "",
                )


def _times(a, b):
    return _ANY if _ANY in (a, b) else tuple(x + y for x, y in zip(a, b, strict=True))


def _over(a, b):
    return a if a is _ANY else _times(a, tuple(-e for e in b or _PURE))


def written(unit) -> str:
    """Write a unit as the register does where it has it, else with powers of the base units."""
    for entries in (PARAMETERS, STATES, OUTPUTS):
        for entry in entries.values():
            if exponents(entry.unit) == tuple(unit):
                return entry.unit or "a pure number"
    above, below = [], []
    for base, exponent in zip(_BASES, unit, strict=True):
        power = "" if abs(exponent) == 1 else f"^{abs(exponent)}"
        if exponent:
            (above if exponent > 0 else below).append(f"{base}{power}")
    text = "*".join(above) or "1"
    return re.sub(r"10\^6 cells", "(10^6 cells)", "/".join([text, *below]))
