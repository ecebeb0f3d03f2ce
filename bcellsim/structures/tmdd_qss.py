"""Target-mediated drug disposition in quasi-steady state, with B cells in blood and tissue.

Yu 2022 (doi:10.1007/s40263-021-00895-w) on the PK of `pk_tmdd_qss`, with free drug L:

    dB/dt  = kout b0 - kout (1 + emax L^hill / (ec50^hill + L^hill)) B - (qb/vc) B + (qb/vb) Bt
    dBt/dt = (qb/vc) B - (qb/vb) Bt
"""

from bcellsim.structures.base import Structure, register_structure
from bcellsim.structures.pk import CENTRAL
from bcellsim.structures.pk_tmdd_qss import (
    PK_TMDD_QSS,
    elimination,
    from_amounts,
    to_amounts,
)
from bcellsim.structures.pk_tmdd_qss import initial as pk_initial
from bcellsim.structures.pk_tmdd_qss import observe as pk_observe
from bcellsim.structures.pk_tmdd_qss import rhs as pk_rhs
from bcellsim.structures.response import turnover

BCELL, BCELL_TISSUE = 4, 5
VC = 4
B0, KOUT, EMAX, EC50, HILL, QB, VB = range(14, 21)


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    pk_rhs(t, y, p, u, dy)
    homing = p[QB] / p[VC] * y[BCELL] - p[QB] / p[VB] * y[BCELL_TISSUE]
    net = turnover(y[BCELL], y[CENTRAL], p[B0], p[KOUT], p[EMAX], p[EC50], p[HILL])
    dy[BCELL] = net - homing
    dy[BCELL_TISSUE] = homing


def initial(p, y):
    """Write the baseline."""
    pk_initial(p, y)
    y[BCELL] = p[B0]
    y[BCELL_TISSUE] = p[B0] * p[VB] / p[VC]


def observe(t, y, p, out):
    """Write total and free concentration and the count."""
    pk_observe(t, y, p, out)
    out[2] = y[BCELL]


TMDD_QSS = register_structure(
    Structure(
        name="tmdd_qss",
        title="Target-mediated disposition in quasi-steady state; B cells in blood and tissue",
        states=(*PK_TMDD_QSS.states, "bcell", "bcell_tissue"),
        parameters=(*PK_TMDD_QSS.parameters, "b0", "kout", "emax", "ec50", "hill", "qb", "vb"),
        outputs=(*PK_TMDD_QSS.outputs, "bcell"),
        rhs=rhs,
        initial=initial,
        observe=observe,
        elimination=elimination,
        to_amounts=to_amounts,
        from_amounts=from_amounts,
        routes=PK_TMDD_QSS.routes,
        defaults={**PK_TMDD_QSS.defaults, "hill": 1.0},
        pk="pk_tmdd_qss",
    )
)
