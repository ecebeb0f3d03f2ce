"""Binding of drug and target in quasi-steady state: plain scalar functions, all in mg/L.

With free drug L, total target R and constant kss, the complex is R L / (kss + L) and total drug

    Lt = L + R L / (kss + L)

The solver's central state is L, not the total amount: with dLt = dL (1 + R kss / (kss + L)^2) +
dR L / (kss + L) no square root is needed and nothing cancels. Doses act on the total.
"""

import math

from bcellsim.structures.pk import CENTRAL

TARGET = 3


def bind(y, dy, gain, kss, ksyn, kdeg, kint):
    """Write the slopes of free drug and total target.

    Of `gain`, the change of total drug but for internalisation [mg/L/day], and the turnover of the
    target: synthesis, degradation when free and internalisation when bound.
    """
    free, target = y[CENTRAL], y[TARGET]
    # One division gives 1 / (kss + L) and 1 / (1 + R kss / (kss + L)^2).
    denominator = kss + free
    square = denominator * denominator + target * kss
    inverse = 1.0 / (denominator * square)
    occupancy = free * square * inverse
    bound = target * occupancy
    d_target = ksyn - kdeg * target - (kint - kdeg) * bound
    dy[CENTRAL] = (gain - kint * bound - occupancy * d_target) * (
        denominator * denominator * denominator * inverse
    )
    dy[TARGET] = d_target


def total_drug(free, target, kss):
    """Return total drug."""
    return free + target * free / (kss + free)


def free_drug(total, target, kss):
    """Return free drug, by the stable root of the quadratic."""
    b = total - target - kss
    root = math.sqrt(b * b + 4.0 * kss * total)
    return 0.5 * (b + root) if b >= 0.0 else 2.0 * kss * total / (root - b)
