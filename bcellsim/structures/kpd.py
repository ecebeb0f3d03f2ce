"""Kinetic-pharmacodynamic model: no concentrations, a virtual drug amount that decays.

The generic form of Pan 2019 (doi:10.1111/bcp.13970) and others, for clinic data without PK:

    dA/dt = -kel A
    dB/dt = kout b0 - kout (1 + emax A^hill / (a50^hill + A^hill)) B

A dose by any route enters A whole: a K-PD model knows neither absorption nor volume.
"""

from bcellsim.structures.base import Route, Structure, register_structure
from bcellsim.structures.response import turnover

VIRTUAL, BCELL = range(2)
KEL, A50, B0, KOUT, EMAX, HILL = range(6)


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    dy[VIRTUAL] = u[VIRTUAL] - elimination(t, y, p)
    dy[BCELL] = turnover(y[BCELL], y[VIRTUAL], p[B0], p[KOUT], p[EMAX], p[A50], p[HILL])


def initial(p, y):
    """Write the baseline."""
    y[VIRTUAL] = 0.0
    y[BCELL] = p[B0]


def observe(t, y, p, out):
    """Write the virtual amount and the count."""
    out[0] = y[VIRTUAL]
    out[1] = y[BCELL]


def elimination(t, y, p):
    """Return the decay of the virtual amount [mg/day]."""
    return p[KEL] * y[VIRTUAL]


KPD = register_structure(
    Structure(
        name="kpd",
        title="Kinetic-pharmacodynamic: virtual drug amount, Emax loss of one B-cell pool",
        states=("virtual", "bcell"),
        parameters=("kel", "a50", "b0", "kout", "emax", "hill"),
        outputs=("amount", "bcell"),
        rhs=rhs,
        initial=initial,
        observe=observe,
        elimination=elimination,
        routes={"sc": Route("virtual"), "iv": Route("virtual")},
        defaults={"hill": 1.0},
        linear=("virtual",),
    )
)
