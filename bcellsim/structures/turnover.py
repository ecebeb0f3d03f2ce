"""Two-compartment PK and one B-cell pool whose loss the drug stimulates (indirect response).

Chen 2024 (doi:10.3389/fphar.2023.1319744), with the clearance CL(t) = cl + cl_t exp(-kdes t) of
Gibiansky 2014 (doi:10.1038/psp.2014.42) as an option. C = Ac / vc:

    dAd/dt = -ka Ad
    dAc/dt = ka Ad - (cl + cl_t exp(-kdes t)) C - q (C - Ap / vp)
    dAp/dt = q (C - Ap / vp)
    dB/dt  = kout b0 - kout (1 + emax C^hill / (ec50^hill + C^hill)) B
"""

from bcellsim.structures.base import Route, Structure, register_structure
from bcellsim.structures.pk import decaying, saturation

DEPOT, CENTRAL, PERIPHERAL, BCELL = range(4)
KA, F_SC, CL, CL_T, KDES, VC, Q, VP, B0, KOUT, EMAX, EC50, HILL = range(13)


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    conc = y[CENTRAL] / p[VC]
    absorbed = p[KA] * y[DEPOT]
    exchange = p[Q] * (conc - y[PERIPHERAL] / p[VP])
    loss = p[KOUT] * (1.0 + p[EMAX] * saturation(conc, p[EC50], p[HILL]))
    dy[DEPOT] = u[DEPOT] - absorbed
    dy[CENTRAL] = absorbed + u[CENTRAL] - elimination(t, y, p) - exchange
    dy[PERIPHERAL] = exchange
    dy[BCELL] = p[KOUT] * p[B0] - loss * y[BCELL]


def initial(p, y):
    """Write the baseline."""
    y[DEPOT] = 0.0
    y[CENTRAL] = 0.0
    y[PERIPHERAL] = 0.0
    y[BCELL] = p[B0]


def observe(t, y, p, out):
    """Write the concentration and the count."""
    out[0] = y[CENTRAL] / p[VC]
    out[1] = y[BCELL]


def elimination(t, y, p):
    """Return the drug leaving by clearance [mg/day]."""
    return decaying(t, p[CL], p[CL_T], p[KDES]) * y[CENTRAL] / p[VC]


TURNOVER = register_structure(
    Structure(
        name="turnover",
        title="Two-compartment PK; Emax stimulation of the loss of one B-cell pool",
        states=("depot", "central", "peripheral", "bcell"),
        parameters=(
            "ka", "f_sc", "cl", "cl_t", "kdes", "vc", "q", "vp", "b0", "kout", "emax", "ec50",
            "hill",
        ),
        outputs=("conc", "bcell"),
        rhs=rhs,
        initial=initial,
        observe=observe,
        elimination=elimination,
        routes={"sc": Route("depot", "f_sc"), "iv": Route("central")},
        defaults={"cl_t": 0.0, "kdes": 0.0, "hill": 1.0},
        route_parameters={"sc": ("ka", "f_sc")},
        linear=("depot", "central", "peripheral"),
        linear_when={"cl_t": 0.0},
    )
)  # fmt: skip
