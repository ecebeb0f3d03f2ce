"""The collocation of one affine equation: its nodes and tables, stated once, in exact fractions.

Between two events the count is a polynomial u(theta) of degree `STAGES` + 1 over a step of width h:
it starts at the known value with the known slope f0 / h, and meets the equation at `STAGES` nodes.
With the increments v = u - u(0), v(0) = 0 and v'(0) = f0, f0 and v at the nodes span it.
The nodes are near those of Gauss-Lobatto, and multiples of a sixteenth, so that an exponential at
all of them takes one call of exp and some products.
"""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np

#: The nodes in sixteenths of a step.
SIXTEENTHS = (1, 3, 6, 10, 13, 15, 16)
STAGES, DEGREE = len(SIXTEENTHS), len(SIXTEENTHS) + 1
#: How exp(-n x) for each node n comes from exp(-x): (n, a, b) with n = a + b.
PRODUCTS = ((2, 1, 1), (3, 2, 1), (4, 2, 2), (6, 3, 3), (10, 6, 4), (13, 10, 3), (15, 13, 2),
            (16, 15, 1))  # fmt: skip

_NODES = [Fraction(n, 16) for n in SIXTEENTHS]


def _product(*factors):
    powers = np.array([Fraction(1)])
    for factor in factors:
        powers = np.convolve(powers, np.array(factor, dtype=object))
    return powers


def _basis():
    """Return the powers of what each value at a node, and then f0, contributes to v."""
    found = []
    for i, node in enumerate(_NODES):
        others = [(-c, Fraction(1)) for j, c in enumerate(_NODES) if j != i]
        powers = _product((0, 0, 1), *others)
        found.append(powers / sum(a * node**k for k, a in enumerate(powers)))
    found.append(_product((0, 1), *[(Fraction(1), -1 / c) for c in _NODES]))
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


_BASIS = _basis()

#: Slope of v at each node, from v at the nodes and f0: (STAGES, STAGES + 1).
SLOPES = [[float(_slope(powers, node)) for powers in _BASIS] for node in _NODES]
#: Powers 1 ... DEGREE of v, from v at the nodes and f0: (DEGREE, STAGES + 1).
POWERS = [[float(powers[k]) for powers in _BASIS] for k in range(1, DEGREE + 1)]
#: The three highest Legendre coefficients of v, highest first: (3, STAGES + 1). Against the
#: tolerance each counts half of the one above it: of a smooth count they fall faster than that.
HIGHEST = [[float(_legendre(p, m)) for p in _BASIS] for m in (DEGREE, DEGREE - 1, DEGREE - 2)]
DISCOUNT = 0.5
