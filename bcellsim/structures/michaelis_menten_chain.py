"""Saturable two-compartment PK and B cells that age in stages, removed by the drug from each.

Yan 2022 (inebilizumab PD, doi:10.1111/bcp.15332) on the PK of `pk_michaelis_menten`. P are pro-B
cells, B1 ... Bn the ageing stages, C the concentration:

    k      = kill_slope ln(1 + C / kill_conc)
    dP/dt  = b0 / lifespan - kmat P - k P
    dB1/dt = kmat P - (n / lifespan) B1 - k B1
    dBi/dt = (n / lifespan) (B(i-1) - Bi) - k Bi,    i = 2 ... n
    count  = B1 + ... + Bn, which is b0 without drug

Two choices are ours, because the parameters of the paper were not found:
- n = 4, as in the only chain of B-cell stages with a published n (Roepcke 2018,
  doi:10.1002/prp2.402, monkeys). Without drug a cell lives lifespan +- lifespan / sqrt(n).
- The paper's removal is "log-linear in concentration", say intercept + kill_slope ln C, which has
  no value without drug. The form here is 0 without drug, rises smoothly from there and runs along
  that line above kill_conc = exp(-intercept / kill_slope), where the line crosses zero.
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
from bcellsim.structures.response import log_linear_removal

PRO_BCELL, TRANSIT1, TRANSIT2, TRANSIT3, TRANSIT4 = range(3, 8)
STAGES = 4
B0, KMAT, LIFESPAN, KILL_SLOPE, KILL_CONC = range(10, 15)


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    pk_rhs(t, y, p, u, dy)
    removal = log_linear_removal(concentration(y, p), p[KILL_SLOPE], p[KILL_CONC])
    ageing = STAGES / p[LIFESPAN]
    leaving = ageing + removal
    dy[PRO_BCELL] = p[B0] / p[LIFESPAN] - (p[KMAT] + removal) * y[PRO_BCELL]
    dy[TRANSIT1] = p[KMAT] * y[PRO_BCELL] - leaving * y[TRANSIT1]
    dy[TRANSIT2] = ageing * y[TRANSIT1] - leaving * y[TRANSIT2]
    dy[TRANSIT3] = ageing * y[TRANSIT2] - leaving * y[TRANSIT3]
    dy[TRANSIT4] = ageing * y[TRANSIT3] - leaving * y[TRANSIT4]


def initial(p, y):
    """Write the baseline."""
    pk_initial(p, y)
    y[PRO_BCELL] = p[B0] / p[LIFESPAN] / p[KMAT]
    y[TRANSIT1] = y[TRANSIT2] = y[TRANSIT3] = y[TRANSIT4] = p[B0] / STAGES


def observe(t, y, p, out):
    """Write the concentration and the count."""
    pk_observe(t, y, p, out)
    out[1] = y[TRANSIT1] + y[TRANSIT2] + y[TRANSIT3] + y[TRANSIT4]


MICHAELIS_MENTEN_CHAIN = register_structure(
    Structure(
        name="michaelis_menten_chain",
        title="Saturable two-compartment PK; B cells age in 4 stages, removed from each",
        states=(
            *PK_MICHAELIS_MENTEN.states, "pro_bcell", "transit1", "transit2", "transit3",
            "transit4",
        ),
        parameters=(
            *PK_MICHAELIS_MENTEN.parameters, "b0", "kmat", "lifespan", "kill_slope", "kill_conc",
        ),
        outputs=(*PK_MICHAELIS_MENTEN.outputs, "bcell"),
        rhs=rhs,
        initial=initial,
        observe=observe,
        elimination=elimination,
        routes=PK_MICHAELIS_MENTEN.routes,
        defaults=PK_MICHAELIS_MENTEN.defaults,
        route_parameters=PK_MICHAELIS_MENTEN.route_parameters,
        pk="pk_michaelis_menten",
    )
)  # fmt: skip
