"""Structures whose drug states are linear: what of their equations has a closed form, and proof.

A structure declares the states whose equations are linear with coefficients of parameters alone
(`Structure.linear`, under the conditions of `Structure.linear_when`). Here the declaration is
verified on the graph of the equations, and the coefficients are read from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np

from bcellsim.engine.events import FACTOR
from bcellsim.engine.graph import Node, make, number, read
from bcellsim.structures import Structure

#: Largest number of linear states: their modes have formulas, without iteration.
MOST = 3
_ZERO, _ONE = number(0.0), number(1.0)


def subjects_in_closed_form(structure: Structure, params: np.ndarray, events) -> np.ndarray:
    """Return for which subjects the linear states of a structure have a closed form (n_subjects,).

    It depends on a subject's own parameters and events only.

    Parameters
    ----------
    structure : Structure
    params : float array (n_subjects, n_occasions, n_parameters)
    events : Events
    """
    # Where no state is left to integrate, all are: nothing would control the width of a step.
    found = np.full(len(params), 0 < len(structure.linear) < len(structure.states))
    for name, value in structure.linear_when.items():
        index = structure.parameters.index(name)
        found &= np.all(params[:, :, index] == value, axis=1)
        if value != 0.0:  # which a factor keeps
            changing = (events.kind == FACTOR) & (events.index == index)
            before = np.concatenate([[0], np.cumsum(changing)])[events.start]
            found &= (np.diff(before) == 0)[events.schedule]
    return found


@dataclass(frozen=True)
class Split:
    """The equations of a structure in two parts.

    dx/dt = `matrix` x + `inputs` for the linear states x, and db/dt = `gain` - `loss` b for the one
    that remains, where gain and loss depend on x and on parameters.

    Parameters
    ----------
    linear : list of int
        Positions of the states x.
    rest : int
        Position of the state b.
    matrix : list of list of Node
        From parameters alone.
    inputs : list of Node
        From parameters and rates of infusion.
    gain, loss : Node
    blocks : list of list of int
        Rows of the matrix whose eigenvalues belong together.
    """

    linear: list[int]
    rest: int
    matrix: list[list[Node]]
    inputs: list[Node]
    gain: Node
    loss: Node
    blocks: list[list[int]]

    def roots(self) -> list[Node]:
        """Return everything that is computed."""
        return [*chain(*self.matrix), *self.inputs, self.gain, self.loss]

    def driving(self) -> list[int]:
        """Return which of the linear states gain and loss depend on, as rows of the matrix."""
        inputs = self.gain.inputs() | self.loss.inputs()
        return [j for j, i in enumerate(self.linear) if ("y", i) in inputs]


def split(structure: Structure, slopes: list[Node]) -> Split:
    """Verify what a structure declares and return its parts.

    Raises
    ------
    ValueError
        If the declaration does not hold; the sentence names the state and the reason.
    """
    linear = [structure.states.index(name) for name in structure.linear]
    rest = [i for i in range(len(structure.states)) if i not in linear]
    if len(linear) > MOST or len(rest) != 1:
        raise ValueError(
            f"structure {structure.name}: {len(linear)} linear states and {len(rest)} others; a "
            f"closed form takes 1 to {MOST} linear states and one other"
        )
    matrix, inputs = [], []
    rates = {("u", i) for i in range(len(structure.states))}
    for i in linear:
        wanted = [("y", j) for j in linear]
        constant, parts = _checked(structure, slopes[i], i, {*wanted, *rates}, {"p"}, set())
        matrix.append([parts.get(key, _ZERO) for key in wanted])
        for key in sorted(rates & set(parts)):
            constant = _add(constant, _times(parts[key], read(*key)))
        inputs.append(constant)
    key = ("y", rest[0])
    gain, parts = _checked(
        structure, slopes[rest[0]], rest[0], {key}, {"p", "u"}, {("y", j) for j in linear}
    )
    loss = _negative(parts.get(key, _ZERO))
    return Split(linear, rest[0], matrix, inputs, gain, loss, _blocks(structure, matrix, linear))


def _checked(structure, slope, state, variables, vectors, states):
    """Return the parts of an equation that is affine in some inputs; raise if it is not.

    The coefficients may depend on whole vectors, and on some states beside.
    """
    where = f'structure {structure.name}: state "{structure.states[state]}"'
    try:
        constant, parts = affine(slope, frozenset(variables))
    except ValueError as error:
        raise ValueError(f"{where} is not linear: {error}") from None
    for node in (constant, *parts.values()):
        for vector, index in sorted(node.inputs()):
            if vector in vectors or (vector, index) in states:
                continue
            name = {"t": "the time", "u": "a rate of infusion"}.get(vector)
            name = name or f'state "{structure.states[index]}"'
            raise ValueError(f"{where} has a closed form only if its coefficients do not depend on "
                             f"{name}")  # fmt: skip
    return constant, parts


def _blocks(structure, matrix, linear):
    """Return the rows whose states act on each other both ways, as sets of one or two."""
    n = len(matrix)
    reach = np.array([[a is not _ZERO for a in row] for row in matrix]) | np.eye(n, dtype=bool)
    for _ in range(n):
        reach = reach @ reach
    both = reach & reach.T
    blocks = [list(map(int, rows)) for rows in {tuple(np.flatnonzero(row)) for row in both}]
    for block in blocks:
        if len(block) > 2:
            names = ", ".join(structure.states[linear[j]] for j in block)
            raise ValueError(
                f"structure {structure.name}: the linear states {names} all act on each other; a "
                "closed form takes pairs"
            )
    return sorted(blocks)


def affine(node: Node, variables: frozenset) -> tuple[Node, dict]:
    """Return the constant and the coefficient of each variable; raise ValueError if not affine."""
    if not node.inputs() & variables:
        return node, {}
    if node.op == "input":
        return _ZERO, {node.args: _ONE}
    if node.op == "select" and not node.args[0].inputs() & variables:
        test, (a, first), (b, second) = node.args[0], *(affine(x, variables) for x in node.args[1:])
        keys = {**first, **second}
        both = {k: make("select", test, first.get(k, _ZERO), second.get(k, _ZERO)) for k in keys}
        return make("select", test, a, b), both
    if node.op == "neg":
        constant, parts = affine(node.args[0], variables)
        return _negative(constant), {k: _negative(c) for k, c in parts.items()}
    if node.op in ("+", "-"):
        (a, first), (b, second) = (affine(arg, variables) for arg in node.args)
        second = {k: _negative(c) if node.op == "-" else c for k, c in second.items()}
        constant = _add(a, _negative(b) if node.op == "-" else b)
        return constant, {k: _add(first.get(k, _ZERO), second.get(k, _ZERO)) for k in
                          {**first, **second}}  # fmt: skip
    if node.op in ("*", "/"):
        left, right = node.args
        if node.op == "*" and left.inputs() & variables:
            left, right = right, left
        scaled, factor = (right, left) if node.op == "*" else (left, right)
        if not factor.inputs() & variables:
            constant, parts = affine(scaled, variables)
            return _scaled(node.op, constant, factor), {
                k: _scaled(node.op, c, factor) for k, c in parts.items()
            }
    raise ValueError(f'its equation uses "{node.op}" on what must be linear')


def is_affine(node: Node, variables: frozenset) -> bool:
    """Return whether a node is affine in some inputs."""
    try:
        affine(node, variables)
    except ValueError:
        return False
    return True


def given(node: Node, values: dict[int, float]) -> Node:
    """Return a graph in which some parameters are numbers, without what these make vanish."""
    return _given(node, values, {})


def _given(node, values, known):
    if node.op == "number":
        return node
    if node not in known:
        if node.op == "input":
            vector, index = node.args
            known[node] = number(values[index]) if vector == "p" and index in values else node
        else:
            args = [_given(arg, values, known) for arg in node.args]
            fold = {"+": _add, "*": _times, "neg": _negative}.get(node.op)
            if node.op == "-":
                known[node] = _add(args[0], _negative(args[1]))
            elif node.op == "/" and args[0] is _ZERO:
                known[node] = _ZERO
            else:
                known[node] = fold(*args) if fold else make(node.op, *args)
    return known[node]


def _scaled(op, node, factor):
    return (
        _times(node, factor) if op == "*" else _ZERO if node is _ZERO else make("/", node, factor)
    )


def _times(a, b):
    return _ZERO if _ZERO in (a, b) else make("*", a, b)


def _add(a, b):
    if _ZERO in (a, b):
        return b if a is _ZERO else a
    return make("-", a, b.args[0]) if b.op == "neg" else make("+", a, b)


def _negative(a):
    if a.op == "number":
        return number(-a.args[0]) if a is not _ZERO else a
    return a.args[0] if a.op == "neg" else make("neg", a)
