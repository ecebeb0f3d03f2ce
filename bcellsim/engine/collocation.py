"""Collocation of affine equations: nodes and tables, stated once, in exact fractions.

Over a step of width h a state is a polynomial u(theta) of one degree more than there are nodes: it
starts at the known value with the known slope f0 / h, and meets its equation at the nodes. With the
increments v = u - u(0), v(0) = 0 and v'(0) = f0, f0 and v at the nodes span it.
"""

from __future__ import annotations

from fractions import Fraction
from math import comb
from typing import NamedTuple

import numpy as np


class Table(NamedTuple):
    """What values of v at the nodes, and then f0, contribute.

    Parameters
    ----------
    slopes : list of list of float (n_nodes, n_nodes + 1)
        To the slope of v at each node.
    powers : list of list of float (n_nodes + 1, n_nodes + 1)
        To the powers 1 ... n_nodes + 1 of v.
    highest : list of list of float (3, n_nodes + 1)
        To the three highest Legendre coefficients of v, highest first.
    """

    slopes: list[list[float]]
    powers: list[list[float]]
    highest: list[list[float]]


def table(nodes: list[Fraction]) -> Table:
    """Return the table for nodes in a step from 0 to 1."""
    basis, degree = _basis(nodes), len(nodes) + 1
    return Table(
        [[float(_slope(powers, node)) for powers in basis] for node in nodes],
        [[float(powers[k]) for powers in basis] for k in range(1, degree + 1)],
        [[float(_legendre(p, m)) for p in basis] for m in (degree, degree - 1, degree - 2)],
    )


def _product(*factors):
    powers = np.array([Fraction(1)])
    for factor in factors:
        powers = np.convolve(powers, np.array(factor, dtype=object))
    return powers


def _basis(nodes):
    """Return the powers of what each value at a node, and then f0, contributes to v."""
    found = []
    for i, node in enumerate(nodes):
        others = [(-c, Fraction(1)) for j, c in enumerate(nodes) if j != i]
        powers = _product((0, 0, 1), *others)
        found.append(powers / sum(a * node**k for k, a in enumerate(powers)))
    found.append(_product((0, 1), *[(Fraction(1), -1 / c) for c in nodes]))
    return found


def _slope(powers, theta):
    return sum(k * a * theta ** (k - 1) for k, a in enumerate(powers) if k)


def _legendre(powers, order):
    """Return a coefficient of a polynomial in the Legendre polynomials of 0 to 1."""
    total = Fraction(0)
    for k in range(order + 1):
        weight = (-1) ** (order + k) * comb(order, k) * comb(order + k, k)
        total += weight * sum(a / (k + m + 1) for m, a in enumerate(powers))
    return (2 * order + 1) * total


# With the drug in closed form: near the nodes of Gauss-Lobatto, and multiples of a sixteenth, so
# that an exponential at all of them takes one call of exp and some products.

#: The nodes in sixteenths of a step.
SIXTEENTHS = (1, 3, 6, 10, 13, 15, 16)
STAGES, DEGREE = len(SIXTEENTHS), len(SIXTEENTHS) + 1
#: How exp(-n x) for each node n comes from exp(-x): (n, a, b) with n = a + b.
PRODUCTS = ((2, 1, 1), (3, 2, 1), (4, 2, 2), (6, 3, 3), (10, 6, 4), (13, 10, 3), (15, 13, 2),
            (16, 15, 1))  # fmt: skip
SLOPES, POWERS, HIGHEST = table([Fraction(n, 16) for n in SIXTEENTHS])
#: Against the tolerance each of the highest coefficients counts half of the one above it: of a
#: smooth count they fall faster than that.
DISCOUNT = 0.5

# Beside Tsit5, whose continuous solution is of degree four, as this one is: the nodes of
# Gauss-Lobatto (the method is Lobatto IIIA), so that the end of the step is of order six.

#: The nodes after the start.
LOBATTO_NODES = (0.5 - 0.05**0.5, 0.5 + 0.05**0.5, 1.0)
LOBATTO = table([Fraction(node) for node in LOBATTO_NODES])
#: Each coefficient counts less than the one above it by the larger of their last two ratios, but
#: not by more than this: a coefficient can vanish by chance.
LEAST_RATIO = 0.06
