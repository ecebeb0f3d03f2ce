"""A structure of one's own: the drug stops the production of B cells instead of killing them.

A virtual drug amount A that decays, as in K-PD models, and one pool of B cells:

    dA/dt = -kel A
    dB/dt = kout b0 (1 - emax A / (a50 + A)) - kout B        emax from 0 to 1

Invented for this example: counts cannot fall faster than cells live, unlike after anti-CD20.
"""

from bcellsim.structures import Route, Structure

VIRTUAL, BCELL = range(2)
KEL, A50, B0, KOUT, EMAX = range(5)


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    stopped = p[EMAX] * y[VIRTUAL] / (p[A50] + y[VIRTUAL])
    dy[VIRTUAL] = u[VIRTUAL] - elimination(t, y, p)
    dy[BCELL] = p[KOUT] * p[B0] * (1.0 - stopped) - p[KOUT] * y[BCELL]


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


PRODUCTION = Structure(
    name="kpd_production",
    title="Kinetic-pharmacodynamic: virtual drug amount that stops the production of B cells",
    states=("virtual", "bcell"),
    parameters=("kel", "a50", "b0", "kout", "emax"),
    outputs=("amount", "bcell"),
    rhs=rhs,
    initial=initial,
    observe=observe,
    elimination=elimination,
    routes={"sc": Route("virtual"), "iv": Route("virtual")},
)
