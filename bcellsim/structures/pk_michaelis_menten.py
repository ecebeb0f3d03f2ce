"""Two-compartment PK with linear and saturable elimination, the saturable part decaying in time.

Yan 2022 (inebilizumab, doi:10.1007/s40262-021-01071-5), t from the first dose and C = Ac / vc:

    dAd/dt = -ka Ad                                  (a dose arrives tlag after it is given)
    dAc/dt = ka Ad - cl C - vmax exp(-kdes t) C / (km + C) - q (C - Ap / vp)
    dAp/dt = q (C - Ap / vp)
"""

from bcellsim.structures.base import Structure, register_structure
from bcellsim.structures.pk import CENTRAL, decaying, inflow
from bcellsim.structures.pk_linear import PK_LINEAR, concentration, initial, observe

TLAG, KA, F_SC, CL, VMAX, KDES, VC, Q, VP, KM = range(10)


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    gain = inflow(y, u, dy, concentration(y, p), p[KA], p[Q], p[VP])
    dy[CENTRAL] = gain - elimination(t, y, p)


def elimination(t, y, p):
    """Return the drug leaving by both ways [mg/day]."""
    conc = concentration(y, p)
    return (p[CL] + decaying(t, 0.0, p[VMAX], p[KDES]) / (p[KM] + conc)) * conc


PK_MICHAELIS_MENTEN = register_structure(
    Structure(
        name="pk_michaelis_menten",
        title="Two-compartment PK, linear and saturable elimination, the latter decaying in time",
        states=PK_LINEAR.states,
        parameters=("tlag", "ka", "f_sc", "cl", "vmax", "kdes", "vc", "q", "vp", "km"),
        outputs=PK_LINEAR.outputs,
        rhs=rhs,
        initial=initial,
        observe=observe,
        elimination=elimination,
        routes=PK_LINEAR.routes,
        defaults={"tlag": 0.0, "kdes": 0.0},
        route_parameters=PK_LINEAR.route_parameters,
    )
)
