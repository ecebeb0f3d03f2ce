"""The text of a kernel in two parts: the drug by Tsit5, and beside it the count by collocation.

Once the drug is known the count is linear: x, the count and what it exchanges with, obeys
dx/dt = gain + matrix x, in which parameters alone stand but for the rate of the count in its own
equation, which depends on one drug state. So Tsit5 steps the drug, its continuous solution gives
the rate at the nodes, and one linear system gives x there: the whole state from fewer operations,
and from steps that the count does not shorten for stability.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from bcellsim.engine import tableau
from bcellsim.engine.bernstein import INNER
from bcellsim.engine.closed_form import affine
from bcellsim.engine.collocation import LEAST_RATIO, LOBATTO, LOBATTO_NODES
from bcellsim.engine.equations import Equations, boundary
from bcellsim.engine.graph import Node, fixed, number
from bcellsim.engine.lower import Source, over_lanes
from bcellsim.structures import Structure

#: Largest number of driven states. Two are measured to gain; what they cost grows as their cube.
MOST = 2
_ZERO = number(0.0)
_STAGES = len(LOBATTO_NODES)


@dataclass(frozen=True)
class Driven:
    """States driven linearly by the others, on which they do not act: dx/dt = gain + matrix x.

    Parameters
    ----------
    states : list of int
        Their positions; the count is the last.
    drug : int
        Position of the state that the rate of the count depends on.
    gain : list of Node
        From parameters alone.
    matrix : list of list of Node
        From parameters alone, but for its last entry: the rate of the count.
    """

    states: list[int]
    drug: int
    gain: list[Node]
    matrix: list[list[Node]]


def driven(equations: Equations) -> Driven | None:
    """Return the driven states, found in the equations, or None where there are none."""
    for count in range(equations.n):
        found = _driven_with(equations, count)
        if found:
            return found
    return None


def _driven_with(equations, count):
    """Return the driven states of which one is the count, or None."""
    states = [count]
    for state in states:  # and what these act on
        acted_on = (i for i in range(equations.n) if ("y", state) in equations.slopes[i].inputs())
        states += [i for i in acted_on if i not in states]
    if len(states) > MOST:
        return None
    states = [*states[1:], count]
    variables = frozenset(("y", i) for i in states)
    try:
        parts = [affine(equations.slopes[i], variables) for i in states]
    except ValueError:
        return None
    gain = [constant for constant, _ in parts]
    matrix = [[entries.get(("y", j), _ZERO) for j in states] for _, entries in parts]
    rate = [key for key in matrix[-1][-1].inputs() if key[0] != "p"]
    if len(rate) != 1 or rate[0][0] != "y":
        return None
    others = [*gain, *(entry for row in matrix for entry in row)][:-1]
    return Driven(states, rate[0][1], gain, matrix) if all(map(fixed, others)) else None


def source_of(structure: Structure) -> Source:
    """Return the source of the kernel that steps every state of a structure."""
    return SplitSource(structure) if driven(Equations(structure)) else Source(structure)


class SplitSource(Source):
    """Fills the template with the equations of a structure that has driven states.

    Rows `_K` hold the slopes of the drug at the stages and, in the place of the count, its rate at
    the start and at the nodes: so what moves to the next step is the same as without a split.
    """

    def read(self, structure):
        """Return the equations, with what is fixed in the parts of those that are driven."""
        equations = Equations(structure)
        self.driven = driven(equations)
        self.drugs = [i for i in range(equations.n) if i not in self.driven.states]
        needed = set().union(*(equations.needs(o) for o in range(equations.m)))
        needed |= {self.driven.states[-1]}
        self.shown = [k for k, i in enumerate(self.driven.states) if i in needed]
        parts = [*self.driven.gain, *(entry for row in self.driven.matrix for entry in row)]
        slopes = [equations.slopes[i] for i in self.drugs]
        equations.derived = boundary([*slopes, *equations.outputs, *parts])
        return equations

    def step_heights(self):
        """Return the kinds of rows that belong to the method."""
        return [*super().step_heights(), ("_STEEPNESS", 1), ("_V", (_STAGES + 1) * self.n)]

    def stepped(self):
        """Return the states that Tsit5 steps."""
        return self.drugs

    def stages(self):
        """Return the lines of the stages, in one loop over lanes.

        A loop of the few operations of one drug state would be unrolled, and not turned into SIMD.
        """
        return over_lanes([line for stage in range(1, 7) for line in self.stage(stage)])

    def error(self):
        """Return the lines that finish the step: rates, error of the drug, and the count."""
        parts = (self.rates(), self.drug_error(), [*self.system(), *self.solved(), *self.judged()])
        return [line for part in parts for line in over_lanes(part)]

    def rate(self, node):
        """Return where the rate of the count stands, at the start (0) or a node."""
        stage = 6 if node == _STAGES else node
        return self.row("_K", stage * self.n + self.driven.states[-1])

    def rates(self):
        """Return the lines that find the rate at the nodes, and how steeply the drug changes it."""
        drug, inner = self.driven.drug, self.leaf("_Y")
        lines = ["h = " + self.row("_HS")]
        lines.append(f"low, low_x = {self.rate(0)}, {self.row('_Y', drug)}")
        lines.append("high, high_x = low, low_x")
        for m, theta in enumerate(LOBATTO_NODES, start=1):
            inside = self.combined(tableau.extension_at(theta), drug)
            lines.append(f"x{m} = {self.row('_NEW', drug) if theta == 1.0 else inside}")
            body, name = self.computed(
                self.driven.matrix[-1][-1],
                lambda vector, i, m=m: f"x{m}" if vector == "y" else inner(vector, i),
                f"n{m}_",
            )
            lines += [*body, f"{self.rate(m)} = {name}"]
            lines += [f"low, high = min(low, {name}), max(high, {name})",
                      f"low_x, high_x = min(low_x, x{m}), max(high_x, x{m})"]  # fmt: skip
        # Where the drug stands still so does the rate; and at the start it may be yet unknown.
        steepness = "(high - low) / (high_x - low_x + 1e-300)"
        lines.append(f"{self.row('_STEEPNESS')} = _choose(high_x > low_x, {steepness}, 0.0)")
        return lines

    def drug_error(self):
        """Return the lines that estimate the error of the drug, and what it does to the count."""
        drug, count = self.driven.drug, self.driven.states[-1]
        b = self.row("_Y", count)
        lines = ["h = " + self.row("_HS")]
        lines += [f"e{i} = abs({self.weighted(tableau.ERROR, i)})" for i in self.drugs]
        carried = f"h * e{drug} * {self.row('_STEEPNESS')} * abs({b})"
        lines.append(f"carried = {carried} / (atol{count} + rtol * abs({b}))")
        lines += self.by_tolerance(self.drugs)
        return lines + self.largest([*(f"e{i}" for i in self.drugs), "carried"])

    def entry(self, k, j):
        """Return the name of an entry of the matrix times h; None for nothing."""
        return None if self.driven.matrix[k][j] is _ZERO else f"a{k}_{j}"

    def known(self, node):
        """Return a number, or where what depends on parameters alone stands."""
        derived = self.equations.derived
        return repr(node.args[0]) if node.op == "number" else self.row("_Q", derived[node])

    def system(self):
        """Return the lines that set up the equations of the increments at the nodes."""
        lines, n = ["h = " + self.row("_HS")], len(self.driven.states)
        lines += [f"rate{m} = h * {self.rate(m)}" for m in range(_STAGES + 1)]
        for k, i in enumerate(self.driven.states):
            lines.append(f"y{k}, g{k} = {self.row('_Y', i)}, h * {self.known(self.driven.gain[k])}")
            for j, node in enumerate(self.driven.matrix[k]):
                if fixed(node) and self.entry(k, j):
                    lines.append(f"a{k}_{j} = h * {self.known(node)}")
        lines += [f"f{k} = {self.slope(k, 0)}" for k in range(n)]
        for k, m in product(range(n), range(_STAGES)):
            own = LOBATTO.slopes[m][_STAGES]
            lines.append(f"r{k * _STAGES + m} = {self.slope(k, m + 1)} - {own!r} * f{k}")
        return lines

    def slope(self, k, node):
        """Return h times a slope from the states of the start and the rate at a node."""
        terms = [f"g{k}"]
        for j, entry in enumerate(self.driven.matrix[k]):
            name = self.entry(k, j) if fixed(entry) else f"rate{node}"
            terms += [f"{name} * y{j}"] if name else []
        return " + ".join(terms)

    def entries(self):
        """Return what stands at the rows and columns of the system, where there is anything."""
        found = {}
        for k, m in product(range(len(self.driven.states)), range(_STAGES)):
            row = k * _STAGES + m
            for c, slope in enumerate(LOBATTO.slopes[m][:_STAGES]):
                found[row, k * _STAGES + c] = repr(slope)
            for j, entry in enumerate(self.driven.matrix[k]):
                name = self.entry(k, j) if fixed(entry) else f"rate{m + 1}"
                if name and j == k:
                    found[row, row] += f" - {name}"
                elif name:
                    found[row, j * _STAGES + m] = f"-{name}"
        return found

    def solved(self):
        """Return the lines that solve the system: unknowns of one state after another.

        Without pivots: every principal minor of the table is positive, and losses add to it.
        """
        n, entries, lines = _STAGES * len(self.driven.states), self.entries(), []
        for k in range(n):
            lines.append(f"p{k} = 1.0 / ({entries[k, k]})")
            for i in [i for i in range(k + 1, n) if (i, k) in entries]:
                lines.append(f"f = {entries[i, k]} * p{k}")
                for j in [j for j in range(k + 1, n) if (k, j) in entries]:
                    before = entries.get((i, j), "")
                    lines.append(f"m{i}_{j} = {before} - f * ({entries[k, j]})")
                    entries[i, j] = f"m{i}_{j}"
                lines.append(f"r{i} = r{i} - f * r{k}")
        # Of a first state that no output shows only the end is wanted.
        first = 0 if 0 in self.shown else _STAGES - 1
        for k in reversed(range(first, n)):
            later = [j for j in range(k + 1, n) if (k, j) in entries]
            lines += [f"r{k} = r{k} - ({entries[k, j]}) * r{j}" for j in later]
            lines.append(f"r{k} = r{k} * p{k}")
        return lines

    def judged(self):
        """Return the lines that write the states at the end, and their part of the error."""
        lines = [f"worst, total, fresh = 0.0, 0.0, {self.row('_FRESH')} > 0.0"]
        for k, i in enumerate(self.driven.states):
            lines += [f"new = y{k} + r{k * _STAGES + _STAGES - 1}", f"{self.row('_NEW', i)} = new"]
            lines.append("total = total + new")
            if k not in self.shown:
                continue
            increments = [*(f"r{k * _STAGES + m}" for m in range(_STAGES)), f"f{k}"]
            lines += [f"{self.increment(i, m)} = {v}" for m, v in enumerate(increments)]
            highest = [spanned(weights, increments) for weights in LOBATTO.highest]
            lines += [
                *(f"z{m} = abs({value})" for m, value in enumerate(highest)),
                "q = max(z0 / (z1 + 1e-300), z1 / (z2 + 1e-300))",
                f"q = min(max(q, {LEAST_RATIO!r}), 1.0)",
                "e = q * max(z0, q * max(z1, q * z2))",
                f"e = e / (atol{i} + rtol * max(abs(y{k}), abs(new)))",
                "worst, total = max(worst, e), total + z0 + z1 + z2",
            ]
        # The largest of numbers does not see a NaN; their sum does.
        error = self.row("_ERROR")
        lines.append("worst = worst * _choose(fresh, _EVENT_CARE, 1.0)")
        return [*lines, f"{error} = max({error}, worst) + 0.0 * ({error} + total)"]

    def increment(self, i, m):
        """Return where the increment of a driven state at a node stands; last, its slope."""
        return self.row("_V", (_STAGES + 1) * i + m)

    def powers(self, i):
        """Return the lines that write the powers of a state's continuous solution."""
        if i in self.drugs:
            return super().powers(i)
        increments = [self.increment(i, m) for m in range(_STAGES + 1)]
        return [f"{self.row('_C', 4 * i + m)} = {spanned(weights, increments)}"
                for m, weights in enumerate(LOBATTO.powers)]  # fmt: skip

    def moves(self, i):
        """Return how far beyond its start a state's inner Bernstein coefficients are."""
        if i in self.drugs:
            return super().moves(i)
        increments = [self.increment(i, m) for m in range(_STAGES + 1)]
        weights = (INNER.T @ np.array(LOBATTO.powers)).tolist()
        return [spanned(row, increments) for row in weights]


def spanned(weights, increments):
    """Return a sum over the increments at the nodes and the slope at the start."""
    return " + ".join(f"{w!r} * {v}" for w, v in zip(weights, increments, strict=True) if w)
