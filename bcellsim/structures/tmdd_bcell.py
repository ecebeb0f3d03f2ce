"""Target-mediated drug disposition in quasi-steady state, the target being CD20 on B cells.

Liang 2024 (rituximab, doi:10.3389/fphar.2024.1197651). L is free and Lt total drug in the central
compartment, Ap drug in the peripheral one, R total CD20, all as drug equivalents; cells live as
long as their CD20, and its loss with the drug (kint) is theirs:

    Lt = L + R L / (kss + L)
    dAd/dt = -ka Ad                                  (a dose arrives tlag after it is given)
    vc dLt/dt = ka Ad - cl L - q (L - Ap / vp) - kint vc (Lt - L)
    dAp/dt = q (L - Ap / vp)
    dR/dt  = ksyn - kdeg R - (kint - kdeg) (Lt - L)
    count  = R / cd20_per_cell, which is ksyn / kdeg / cd20_per_cell without drug

The solver's central state is L, not the total amount (see `binding`). Doses act on the total.
"""

from bcellsim.structures.base import Route, Structure, register_structure
from bcellsim.structures.binding import TARGET, bind, free_drug, total_drug
from bcellsim.structures.pk import CENTRAL, inflow, no_drug

TLAG, KA, F_SC, CL, VC, Q, VP, KINT, KSS, KSYN, KDEG, CD20_PER_CELL = range(12)


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    free = y[CENTRAL]
    gain = inflow(y, u, dy, free, p[KA], p[Q], p[VP]) - p[CL] * free
    bind(y, dy, gain / p[VC], p[KSS], p[KSYN], p[KDEG], p[KINT])


def initial(p, y):
    """Write the baseline."""
    no_drug(y)
    y[TARGET] = p[KSYN] / p[KDEG]


def total(y, p):
    """Return the total drug concentration [mg/L]."""
    return total_drug(y[CENTRAL], y[TARGET], p[KSS])


def observe(t, y, p, out):
    """Write total and free concentration and the count."""
    out[0] = total(y, p)
    out[1] = y[CENTRAL]
    out[2] = y[TARGET] / p[CD20_PER_CELL]


def elimination(t, y, p):
    """Return the drug leaving by clearance and with the B cells [mg/day]."""
    return p[CL] * y[CENTRAL] + p[KINT] * p[VC] * (total(y, p) - y[CENTRAL])


def to_amounts(y, p):
    """Turn the free concentration into the total amount."""
    y[CENTRAL] = total(y, p) * p[VC]


def from_amounts(y, p):
    """Turn the total amount into the free concentration."""
    y[CENTRAL] = free_drug(y[CENTRAL] / p[VC], y[TARGET], p[KSS])


TMDD_BCELL = register_structure(
    Structure(
        name="tmdd_bcell",
        title="Target-mediated disposition in quasi-steady state; the target is CD20 on B cells",
        states=("depot", "central", "peripheral", "target"),
        parameters=(
            "tlag", "ka", "f_sc", "cl", "vc", "q", "vp", "kint", "kss", "ksyn", "kdeg",
            "cd20_per_cell",
        ),
        outputs=("conc", "conc_free", "bcell"),
        rhs=rhs,
        initial=initial,
        observe=observe,
        elimination=elimination,
        to_amounts=to_amounts,
        from_amounts=from_amounts,
        routes={"sc": Route("depot", "f_sc", "tlag"), "iv": Route("central")},
        defaults={"tlag": 0.0},
        route_parameters={"sc": ("ka", "f_sc")},
    )
)  # fmt: skip
