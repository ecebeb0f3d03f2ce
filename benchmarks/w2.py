"""The equations of W2: linear two-compartment PK, one B-cell pool; mg, L and days.

A1 drug in the central and A2 in the peripheral compartment [mg], C = A1 / V, B cells/uL:

    dA1/dt = -(CL + Q) C + Q A2 / V2 + infusion
    dA2/dt = Q C - Q A2 / V2
    dB/dt  = kin - kout (1 + Emax C / (EC50 + C)) B

The standard problem has a depot besides; every dose is an infusion, so that it stays empty.
"""

from bcellsim.structures import Route, Structure
from bcellsim.structures.base import PARAMETERS, STATES, Entry

DEPOT, CENTRAL, PERIPHERAL, BCELL = range(4)
KA, CL, V, Q, V2, KIN, KOUT, EMAX, EC50 = range(9)

#: What is needed beyond the register: name, unit and meaning; every state has the scale 1.
STATES.update(
    w2_depot=Entry("mg", "drug at the injection site"),
    w2_central=Entry("mg", "drug in the central compartment"),
    w2_peripheral=Entry("mg", "drug in the peripheral compartment"),
)
PARAMETERS.update(w2_kin=Entry("cells/uL/day", "production of B cells"))


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    conc = y[CENTRAL] / p[V]
    absorbed = p[KA] * y[DEPOT]
    exchange = (p[Q] / p[V]) * y[CENTRAL] - (p[Q] / p[V2]) * y[PERIPHERAL]
    loss = p[KOUT] + p[KOUT] * p[EMAX] * conc / (p[EC50] + conc)
    dy[DEPOT] = u[DEPOT] - absorbed
    dy[CENTRAL] = absorbed + u[CENTRAL] - p[CL] * conc - exchange
    dy[PERIPHERAL] = exchange
    dy[BCELL] = p[KIN] - loss * y[BCELL]


def initial(p, y):
    """Write the baseline."""
    y[DEPOT] = 0.0
    y[CENTRAL] = 0.0
    y[PERIPHERAL] = 0.0
    y[BCELL] = p[KIN] / p[KOUT]


def observe(t, y, p, out):
    """Write the count."""
    out[0] = y[BCELL]


def elimination(t, y, p):
    """Return the drug leaving by clearance [mg/day]."""
    return p[CL] * y[CENTRAL] / p[V]


STRUCTURE = Structure(
    name="benchmark_w2",
    title="W2: linear two-compartment PK; one B-cell pool",
    states=("w2_depot", "w2_central", "w2_peripheral", "bcell"),
    parameters=("ka", "cl", "vc", "q", "vp", "w2_kin", "kout", "emax", "ec50"),
    outputs=("bcell",),
    rhs=rhs,
    initial=initial,
    observe=observe,
    elimination=elimination,
    routes={"sc": Route("w2_depot"), "iv": Route("w2_central")},
    linear=("w2_depot", "w2_central", "w2_peripheral"),
)
