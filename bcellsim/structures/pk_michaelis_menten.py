"""Two-compartment PK with linear and saturable elimination, the saturable part decaying in time.

Yan 2022 (inebilizumab, doi:10.1007/s40262-021-01071-5), t from the first dose and C = Ac / vc:

    dAd/dt = -ka Ad                                  (a dose arrives tlag after it is given)
    dAc/dt = ka Ad - cl C - vmax exp(-kdes t) C / (km + C) - q (C - Ap / vp)
    dAp/dt = q (C - Ap / vp)
"""

from bcellsim.structures.base import Route, Structure, register_structure
from bcellsim.structures.pk import CENTRAL, decaying, inflow, no_drug

TLAG, KA, F_SC, CL, VMAX, KM, KDES, VC, Q, VP = range(10)


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    gain = inflow(y, u, dy, concentration(y, p), p[KA], p[Q], p[VP])
    dy[CENTRAL] = gain - elimination(t, y, p)


def initial(p, y):
    """Write the baseline."""
    no_drug(y)


def observe(t, y, p, out):
    """Write the concentration."""
    out[0] = concentration(y, p)


def concentration(y, p):
    """Return the concentration in the central compartment [mg/L]."""
    return y[CENTRAL] / p[VC]


def elimination(t, y, p):
    """Return the drug leaving by both ways [mg/day]."""
    conc = concentration(y, p)
    return (p[CL] + decaying(t, 0.0, p[VMAX], p[KDES]) / (p[KM] + conc)) * conc


PK_MICHAELIS_MENTEN = register_structure(
    Structure(
        name="pk_michaelis_menten",
        title="Two-compartment PK, linear and saturable elimination, the latter decaying in time",
        states=("depot", "central", "peripheral"),
        parameters=("tlag", "ka", "f_sc", "cl", "vmax", "km", "kdes", "vc", "q", "vp"),
        outputs=("conc",),
        rhs=rhs,
        initial=initial,
        observe=observe,
        elimination=elimination,
        routes={"sc": Route("depot", "f_sc", "tlag"), "iv": Route("central")},
        defaults={"tlag": 0.0, "kdes": 0.0},
        route_parameters={"sc": ("ka", "f_sc")},
    )
)
