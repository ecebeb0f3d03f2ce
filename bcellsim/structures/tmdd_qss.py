"""Target-mediated drug disposition in quasi-steady state, with B cells in blood and tissue.

Yu 2022 (doi:10.1007/s40263-021-00895-w). L is free and Lt total drug in the central compartment,
Lp drug in the peripheral one, R the target (CD20), all in mg/L (of drug equivalents):

    kss  = kd (kint + koff) / koff
    Lt   = L + R L / (kss + L)
    ksyn = ksyn_inf + (ksyn0 - ksyn_inf) exp(-kdes t),      kdeg = ksyn / r0
    dAd/dt = -ka Ad
    dLt/dt = (ka Ad - cl L - q (L - Lp)) / vc - kint (Lt - L)
    dLp/dt = q (L - Lp) / vp
    dR/dt  = ksyn - kdeg R - (kint - kdeg) (Lt - L)
    dB/dt  = kout b0 - kout (1 + emax L^hill / (ec50^hill + L^hill)) B - (qb/vc) B + (qb/vb) Bt
    dBt/dt = (qb/vc) B - (qb/vb) Bt

The solver's central state is L, not the total amount: with dLt = dL (1 + R kss / (kss + L)^2) +
dR L / (kss + L) no square root is needed and nothing cancels. Doses act on the total.
"""

import math

from bcellsim.structures.base import Route, Structure, register_structure
from bcellsim.structures.pk import decaying, saturation

DEPOT, CENTRAL, PERIPHERAL, TARGET, BCELL, BCELL_TISSUE = range(6)
KA, F_SC, CL, VC, Q, VP, KINT, KD, KOFF, R0, KSYN0, KSYN_INF, KDES = range(13)
B0, KOUT, EMAX, EC50, HILL, QB, VB = range(13, 20)


def quasi_steady(p):
    """Return the quasi-steady-state constant kss [mg/L]."""
    return p[KD] * (p[KINT] + p[KOFF]) / p[KOFF]


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    free = y[CENTRAL]
    kss = quasi_steady(p)
    # One division gives 1 / (kss + L) and 1 / (1 + R kss / (kss + L)^2).
    denominator = kss + free
    square = denominator * denominator + y[TARGET] * kss
    inverse = 1.0 / (denominator * square)
    occupancy = free * square * inverse
    bound = y[TARGET] * occupancy
    ksyn = decaying(t, p[KSYN_INF], p[KSYN0] - p[KSYN_INF], p[KDES])
    kdeg = ksyn / p[R0]
    absorbed = p[KA] * y[DEPOT]
    exchange = p[Q] * (free - y[PERIPHERAL] / p[VP])
    d_total = (absorbed + u[CENTRAL] - p[CL] * free - exchange) / p[VC] - p[KINT] * bound
    d_target = ksyn - kdeg * y[TARGET] - (p[KINT] - kdeg) * bound
    loss = p[KOUT] * (1.0 + p[EMAX] * saturation(free, p[EC50], p[HILL]))
    homing = p[QB] / p[VC] * y[BCELL] - p[QB] / p[VB] * y[BCELL_TISSUE]
    dy[DEPOT] = u[DEPOT] - absorbed
    dy[CENTRAL] = (d_total - occupancy * d_target) * (
        denominator * denominator * denominator * inverse
    )
    dy[PERIPHERAL] = exchange
    dy[TARGET] = d_target
    dy[BCELL] = p[KOUT] * p[B0] - loss * y[BCELL] - homing
    dy[BCELL_TISSUE] = homing


def initial(p, y):
    """Write the baseline."""
    y[DEPOT] = 0.0
    y[CENTRAL] = 0.0
    y[PERIPHERAL] = 0.0
    y[TARGET] = p[R0]
    y[BCELL] = p[B0]
    y[BCELL_TISSUE] = p[B0] * p[VB] / p[VC]


def total(y, p):
    """Return the total drug concentration [mg/L]."""
    return y[CENTRAL] + y[TARGET] * y[CENTRAL] / (quasi_steady(p) + y[CENTRAL])


def observe(t, y, p, out):
    """Write total and free concentration and the count."""
    out[0] = total(y, p)
    out[1] = y[CENTRAL]
    out[2] = y[BCELL]


def elimination(t, y, p):
    """Return the drug leaving by clearance and by internalisation [mg/day]."""
    return p[CL] * y[CENTRAL] + p[KINT] * p[VC] * (total(y, p) - y[CENTRAL])


def to_amounts(y, p):
    """Turn the free concentration into the total amount."""
    y[CENTRAL] = total(y, p) * p[VC]


def from_amounts(y, p):
    """Turn the total amount into the free concentration, by the stable root of the quadratic."""
    kss = quasi_steady(p)
    amount = y[CENTRAL] / p[VC]
    b = amount - y[TARGET] - kss
    root = math.sqrt(b * b + 4.0 * kss * amount)
    y[CENTRAL] = 0.5 * (b + root) if b >= 0.0 else 2.0 * kss * amount / (root - b)


TMDD_QSS = register_structure(
    Structure(
        name="tmdd_qss",
        title="Target-mediated disposition in quasi-steady state; B cells in blood and tissue",
        states=("depot", "central", "peripheral", "target", "bcell", "bcell_tissue"),
        parameters=(
            "ka", "f_sc", "cl", "vc", "q", "vp", "kint", "kd", "koff", "r0", "ksyn0", "ksyn_inf",
            "kdes", "b0", "kout", "emax", "ec50", "hill", "qb", "vb",
        ),
        outputs=("conc", "conc_free", "bcell"),
        rhs=rhs,
        initial=initial,
        observe=observe,
        elimination=elimination,
        to_amounts=to_amounts,
        from_amounts=from_amounts,
        routes={"sc": Route("depot", "f_sc"), "iv": Route("central")},
        defaults={"hill": 1.0},
    )
)  # fmt: skip
