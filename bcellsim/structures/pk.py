"""Fluxes of the drug shared by the structures: plain scalar functions."""

import math

DEPOT, CENTRAL, PERIPHERAL = range(3)


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


def no_drug(y):
    """Write the baseline of depot, central and peripheral compartment."""
    y[DEPOT] = 0.0
    y[CENTRAL] = 0.0
    y[PERIPHERAL] = 0.0


def inflow(y, u, dy, conc, ka, q, vp):
    """Write the slopes of depot and peripheral compartment; return what enters the central one.

    `conc` is the concentration [mg/L] that exchanges with the peripheral compartment.
    """
    absorbed = ka * y[DEPOT]
    exchange = q * (conc - y[PERIPHERAL] / vp)
    dy[DEPOT] = u[DEPOT] - absorbed
    dy[PERIPHERAL] = exchange
    return absorbed + u[CENTRAL] - exchange
