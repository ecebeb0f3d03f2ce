"""Target-mediated drug disposition in quasi-steady state: the PK of Yu 2022.

doi:10.1007/s40263-021-00895-w. L is free and Lt total drug in the central compartment, Lp drug in
the peripheral one, R the target (CD20), all in mg/L (of drug equivalents):

    kss  = kd (kint + koff) / koff
    Lt   = L + R L / (kss + L)
    ksyn = ksyn_inf + (ksyn0 - ksyn_inf) exp(-kdes t),      kdeg = ksyn / r0
    dAd/dt = -ka Ad                                  (a dose arrives tlag after it is given)
    dLt/dt = (ka Ad - cl L - q (L - Lp)) / vc - kint (Lt - L)
    dLp/dt = q (L - Lp) / vp
    dR/dt  = ksyn - kdeg R - (kint - kdeg) (Lt - L)

The solver's central state is L, not the total amount (see `binding`). Doses act on the total.
"""

from bcellsim.structures.base import Route, Structure, register_structure
from bcellsim.structures.binding import TARGET, bind, free_drug, total_drug
from bcellsim.structures.pk import CENTRAL, decaying, inflow, no_drug

TLAG, KA, F_SC, CL, VC, Q, VP, KINT, KD, KOFF, R0, KSYN0, KSYN_INF, KDES = range(14)


def quasi_steady(p):
    """Return the quasi-steady-state constant kss [mg/L]."""
    return p[KD] * (p[KINT] + p[KOFF]) / p[KOFF]


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    free = y[CENTRAL]
    ksyn = decaying(t, p[KSYN_INF], p[KSYN0] - p[KSYN_INF], p[KDES])
    gain = inflow(y, u, dy, free, p[KA], p[Q], p[VP]) - p[CL] * free
    bind(y, dy, gain / p[VC], quasi_steady(p), ksyn, ksyn / p[R0], p[KINT])


def initial(p, y):
    """Write the baseline."""
    no_drug(y)
    y[TARGET] = p[R0]


def total(y, p):
    """Return the total drug concentration [mg/L]."""
    return total_drug(y[CENTRAL], y[TARGET], quasi_steady(p))


def observe(t, y, p, out):
    """Write total and free concentration."""
    out[0] = total(y, p)
    out[1] = y[CENTRAL]


def elimination(t, y, p):
    """Return the drug leaving by clearance and by internalisation [mg/day]."""
    return p[CL] * y[CENTRAL] + p[KINT] * p[VC] * (total(y, p) - y[CENTRAL])


def to_amounts(y, p):
    """Turn the free concentration into the total amount."""
    y[CENTRAL] = total(y, p) * p[VC]


def from_amounts(y, p):
    """Turn the total amount into the free concentration."""
    y[CENTRAL] = free_drug(y[CENTRAL] / p[VC], y[TARGET], quasi_steady(p))


PK_TMDD_QSS = register_structure(
    Structure(
        name="pk_tmdd_qss",
        title="Target-mediated disposition in quasi-steady state",
        states=("depot", "central", "peripheral", "target"),
        parameters=(
            "tlag", "ka", "f_sc", "cl", "vc", "q", "vp", "kint", "kd", "koff", "r0", "ksyn0",
            "ksyn_inf", "kdes",
        ),
        outputs=("conc", "conc_free"),
        rhs=rhs,
        initial=initial,
        observe=observe,
        elimination=elimination,
        to_amounts=to_amounts,
        from_amounts=from_amounts,
        routes={"sc": Route("depot", "f_sc", "tlag"), "iv": Route("central")},
        defaults={"tlag": 0.0},
    )
)  # fmt: skip
