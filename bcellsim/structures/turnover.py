"""Two-compartment PK and one B-cell pool whose loss the drug stimulates (indirect response).

Chen 2024 (doi:10.3389/fphar.2023.1319744) on the PK of `pk_linear`, with concentration C:

    dB/dt = kout b0 - kout (1 + emax C^hill / (ec50^hill + C^hill)) B
"""

from bcellsim.structures.base import Structure, register_structure
from bcellsim.structures.pk_linear import (
    PK_LINEAR,
    concentration,
    elimination,
)
from bcellsim.structures.pk_linear import initial as pk_initial
from bcellsim.structures.pk_linear import observe as pk_observe
from bcellsim.structures.pk_linear import rhs as pk_rhs
from bcellsim.structures.response import turnover

BCELL = 3
B0, KOUT, EMAX, EC50, HILL = range(9, 14)


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    pk_rhs(t, y, p, u, dy)
    drug = concentration(y, p)
    dy[BCELL] = turnover(y[BCELL], drug, p[B0], p[KOUT], p[EMAX], p[EC50], p[HILL])


def initial(p, y):
    """Write the baseline."""
    pk_initial(p, y)
    y[BCELL] = p[B0]


def observe(t, y, p, out):
    """Write the concentration and the count."""
    pk_observe(t, y, p, out)
    out[1] = y[BCELL]


TURNOVER = register_structure(
    Structure(
        name="turnover",
        title="Two-compartment PK; Emax stimulation of the loss of one B-cell pool",
        states=(*PK_LINEAR.states, "bcell"),
        parameters=(*PK_LINEAR.parameters, "b0", "kout", "emax", "ec50", "hill"),
        outputs=(*PK_LINEAR.outputs, "bcell"),
        rhs=rhs,
        initial=initial,
        observe=observe,
        elimination=elimination,
        routes=PK_LINEAR.routes,
        defaults={**PK_LINEAR.defaults, "hill": 1.0},
        route_parameters=PK_LINEAR.route_parameters,
        linear=PK_LINEAR.states,
        linear_when={"cl_t": 0.0},
        pk="pk_linear",
    )
)
