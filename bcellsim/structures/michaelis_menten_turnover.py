"""Saturable two-compartment PK and one B-cell pool whose loss the drug stimulates.

The response of `turnover` on the PK of `pk_michaelis_menten`, with concentration C:

    dB/dt = kout b0 - kout (1 + emax C^hill / (ec50^hill + C^hill)) B
"""

from bcellsim.structures.base import Structure, register_structure
from bcellsim.structures.pk_michaelis_menten import (
    PK_MICHAELIS_MENTEN,
    concentration,
    elimination,
)
from bcellsim.structures.pk_michaelis_menten import initial as pk_initial
from bcellsim.structures.pk_michaelis_menten import observe as pk_observe
from bcellsim.structures.pk_michaelis_menten import rhs as pk_rhs
from bcellsim.structures.response import turnover

BCELL = 3
B0, KOUT, EMAX, EC50, HILL = range(10, 15)


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


MICHAELIS_MENTEN_TURNOVER = register_structure(
    Structure(
        name="michaelis_menten_turnover",
        title="Saturable two-compartment PK; Emax stimulation of the loss of one B-cell pool",
        states=(*PK_MICHAELIS_MENTEN.states, "bcell"),
        parameters=(*PK_MICHAELIS_MENTEN.parameters, "b0", "kout", "emax", "ec50", "hill"),
        outputs=(*PK_MICHAELIS_MENTEN.outputs, "bcell"),
        rhs=rhs,
        initial=initial,
        observe=observe,
        elimination=elimination,
        routes=PK_MICHAELIS_MENTEN.routes,
        defaults={**PK_MICHAELIS_MENTEN.defaults, "hill": 1.0},
        route_parameters=PK_MICHAELIS_MENTEN.route_parameters,
        pk="pk_michaelis_menten",
    )
)
