"""Two-compartment linear PK with a subcutaneous depot; part of the clearance may decay in time.

CL(t) = cl + cl_t exp(-kdes t), t from the first dose, is that of Gibiansky 2014
(doi:10.1038/psp.2014.42); without cl_t it is constant. C = Ac / vc:

    dAd/dt = -ka Ad                                  (a dose arrives tlag after it is given)
    dAc/dt = ka Ad - (cl + cl_t exp(-kdes t)) C - q (C - Ap / vp)
    dAp/dt = q (C - Ap / vp)
"""

from bcellsim.structures.base import Route, Structure, register_structure
from bcellsim.structures.pk import CENTRAL, decaying, inflow, no_drug

TLAG, KA, F_SC, CL, CL_T, KDES, VC, Q, VP = range(9)


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
    """Return the drug leaving by clearance [mg/day]."""
    return decaying(t, p[CL], p[CL_T], p[KDES]) * y[CENTRAL] / p[VC]


PK_LINEAR = register_structure(
    Structure(
        name="pk_linear",
        title="Two-compartment linear PK, clearance constant or decaying in time",
        states=("depot", "central", "peripheral"),
        parameters=("tlag", "ka", "f_sc", "cl", "cl_t", "kdes", "vc", "q", "vp"),
        outputs=("conc",),
        rhs=rhs,
        initial=initial,
        observe=observe,
        elimination=elimination,
        routes={"sc": Route("depot", "f_sc", "tlag"), "iv": Route("central")},
        defaults={"tlag": 0.0, "cl_t": 0.0, "kdes": 0.0},
        route_parameters={"sc": ("ka", "f_sc")},
    )
)
