"""Graphs of operations: what equations compute, each operation once."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import cache

#: Mathematical functions that equations may call, and how many arguments they take.
FUNCTIONS = {"exp": 1, "log": 1, "log2": 1, "log10": 1, "sqrt": 1, "pow": 2, "fabs": 1, "tanh": 1}

_PYTHON = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "**": operator.pow, "%": operator.mod, "//": operator.floordiv, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
#: Larger whole powers go by exp and log, as other powers do.
_LARGEST_POWER = 64
_LOG2E, _LOG10E = 1.0 / math.log(2.0), 1.0 / math.log(10.0)


@dataclass(frozen=True, eq=False)
class Node:
    """One operation on other nodes; equal operations are one object.

    Parameters
    ----------
    op : str
        ``"number"``, ``"input"`` (of a vector, or the time), an operator, a function,
        ``"select"``, ``"and"``, ``"or"`` or ``"not"``.
    args : tuple
        Nodes; for a number its value, for an input the vector's name and the position in it.
    """

    op: str
    args: tuple

    def inputs(self) -> frozenset[tuple[str, int]]:
        """Return the inputs that the value depends on."""
        return _inputs(self)


@cache
def _inputs(node):
    if node.op == "input":
        return frozenset([node.args])
    if node.op == "number":
        return frozenset()
    return frozenset().union(*(arg.inputs() for arg in node.args))


@cache
def _intern(op, args) -> Node:
    return Node(op, args)


def number(value: float) -> Node:
    """Return the node of a number."""
    # The sign of zero tells 0.0 from -0.0, which compare as equal.
    return _number(float(value), math.copysign(1.0, value))


@cache
def _number(value, _sign):
    return Node("number", (value,))


def make(op: str, *args: Node) -> Node:
    """Return an operation on nodes, computed at once where all are numbers.

    A division by what depends on parameters alone becomes a multiplication, because the inverse is
    then computed once per subject; powers become products, roots, or exp and log.
    """
    values = [arg.args[0] for arg in args if arg.op == "number"]
    if op in _PYTHON and len(values) == 2 and not (op == "/" and values[1] == 0.0):
        folded = _PYTHON[op](*values)
        if isinstance(folded, complex):
            raise ValueError("the root of a negative number")
        return number(folded)
    if op in ("%", "//"):
        raise ValueError(f'operator "{op}" is for constants only')
    one = number(1.0)
    if (op == "*" and one in args) or (op in "+-" and len(args) == 2 and args[1] is number(0.0)):
        return args[1] if args[0] is one else args[0]
    if op == "/" and args[0] is not one and fixed(args[1]) and not fixed(args[0]):
        return make("*", args[0], make("/", one, args[1]))
    if op == "**":
        return _power(*args)
    if op == "log2":
        return make("*", make("log", *args), number(_LOG2E))
    if op == "log10":
        return make("*", make("log", *args), number(_LOG10E))
    if op == "tanh":  # 1 - 2 / (exp(2 x) + 1)
        grown = make("exp", make("*", number(2.0), *args))
        return make("-", one, make("/", number(2.0), make("+", grown, one)))
    return _intern(op, args)


def fixed(node: Node) -> bool:
    """Return whether a value depends on parameters alone."""
    return all(vector == "p" for vector, _ in node.inputs())


def condition(node: Node) -> bool:
    """Return whether a value is true or false; of constants those that are 0 or 1."""
    if node.op == "number":
        return node.args[0] in (0.0, 1.0)
    return node.op in ("<", "<=", ">", ">=", "==", "!=", "and", "or", "not")


def _power(base, exponent):
    value = exponent.args[0] if exponent.op == "number" else None
    if value == 0.5:
        return make("sqrt", base)
    if value is not None and value == int(value) and abs(value) <= _LARGEST_POWER:
        result = _whole_power(base, int(abs(value)))
        return result if value >= 0 else make("/", number(1.0), result)
    # 0 ** x is 0 for x > 0, by exp(-inf).
    return make("exp", make("*", exponent, make("log", base)))


def _whole_power(base, exponent):
    if exponent == 0:
        return number(1.0)
    half = _whole_power(base, exponent // 2)
    square = make("*", half, half)
    return make("*", square, base) if exponent % 2 else square


def read(vector: str, index: int = 0) -> Node:
    """Return the node of an input: an element of a vector, or the time."""
    return _intern("input", (vector, index))
