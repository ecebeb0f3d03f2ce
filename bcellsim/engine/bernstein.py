"""Bernstein coefficients of a polynomial of degree four: they bound it, and their mean is its area.

The first and the last are its values at the ends.
"""

from __future__ import annotations

from math import comb

import numpy as np

from bcellsim.engine import solution

#: The Bernstein coefficients 1, 2 and 3 of the powers 1 ... 4 of a polynomial.
INNER = np.array([[comb(j, m) / comb(4, m) for j in (1, 2, 3)] for m in (1, 2, 3, 4)])


def fitted(values):
    """Return the lines that compute the coefficients of the polynomial through five values."""
    weights = solution.TO_POWERS @ np.concatenate([[[1.0] * 3], INNER])
    lines = []
    for j, column in enumerate(weights.T.tolist(), start=1):
        lines.append(f"b{j} = " + " + ".join(f"{w!r} * {v}" for w, v in zip(column, values)))  # noqa: B905
    return lines, [values[0], "b1", "b2", "b3", values[-1]]


def extreme(word, names):
    """Return the smallest ("min") or largest ("max") of five values."""
    a, b, c, d, e = names
    return f"{word}({a}, {word}({word}({b}, {c}), {word}({d}, {e})))"
