"""The tables of collocation: what they make of polynomials."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.polynomial import legendre, polynomial

from bcellsim.engine import collocation

EXACT = 1e-12  # roundings

SIXTEENTHS = [n / 16 for n in collocation.SIXTEENTHS]
CLOSED = collocation.table([Fraction(node) for node in SIXTEENTHS])
tables = pytest.mark.parametrize(
    ("table", "nodes", "degree"),
    [
        (CLOSED, SIXTEENTHS, 7),
        (collocation.LOBATTO, collocation.LOBATTO_NODES, 5),  # 2 x 4 - 3, of Gauss-Lobatto
    ],
    ids=["closed form", "lobatto"],
)


def spanned(weights, powers, nodes):
    """Return what a table makes of a polynomial without a constant, given by its powers."""
    slope = polynomial.polyder(powers)[0]
    return np.array(weights) @ [*(polynomial.polyval(c, powers) for c in nodes), slope]


@tables
def test_tables_are_exact_for_polynomials(table, nodes, degree):
    for k in range(1, len(nodes) + 2):
        powers = np.eye(len(nodes) + 2)[k]
        slopes = [polynomial.polyval(c, polynomial.polyder(powers)) for c in nodes]
        assert spanned(table.slopes, powers, nodes) == pytest.approx(slopes, abs=EXACT * 100)
        assert spanned(table.powers, powers, nodes) == pytest.approx(powers[1:], abs=EXACT * 1e4)
        # In the variable of Legendre's polynomials, from -1 to 1.
        coefficients = np.zeros(len(nodes) + 2)
        moved = legendre.poly2leg(polynomial.polypow([0.5, 0.5], k))
        coefficients[: len(moved)] = moved
        highest = spanned(table.highest, powers, nodes)
        assert highest == pytest.approx(coefficients[:-4:-1], abs=EXACT * 1e3)


@tables
def test_the_end_of_a_step_is_a_quadrature_of_its_degree(table, nodes, degree):
    slopes = np.array(table.slopes)

    def end(k):
        """Return v(1) where v' = theta^k: its exact value is 1 / (k + 1)."""
        wanted = np.array(nodes) ** k - slopes[:, -1] * (k == 0)
        return np.linalg.solve(slopes[:, :-1], wanted)[-1]

    for k in range(degree + 1):
        assert end(k) == pytest.approx(1.0 / (k + 1), abs=EXACT * 100)
    assert abs(end(degree + 1) - 1.0 / (degree + 2)) > 1e-8
