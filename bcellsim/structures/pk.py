"""Fluxes shared by the structures: plain scalar functions."""

import math


def saturation(conc, half, hill):
    """Return conc^hill / (half^hill + conc^hill), safe for any exponent and for no drug.

    Written as a logistic of the log concentration: a published Hill exponent has a log-normal
    variability with omega 1.46 (Yu 2022), and its individual values overflow conc^hill.
    """
    if conc <= 0.0:
        return 0.0
    return 1.0 / (1.0 + math.exp(min(-hill * math.log(conc / half), 700.0)))


def decaying(t, late, extra, rate):
    """Return late + extra exp(-rate t): a quantity that decays from the first dose on."""
    return late + extra * math.exp(-rate * t)
