"""The equations of W1: target-mediated disposition, B cells in blood and tissue; nmol and days.

D drug at the injection site, P in the peripheral compartment [nmol]; C free and Ct total drug, R
target [nmol/L]; B and Q B cells in blood and tissue [cells/uL]:

    Ct = C + R C / (Kss + C)
    dD/dt  = -ka D
    dCt/dt = ka F D / V - (kel + kpt) C + ktp P / V - kint R C / (Kss + C)
    dP/dt  = kpt C V - ktp P
    dR/dt  = ksyn - kdeg R - (kint - kdeg) R C / (Kss + C)
    dB/dt  = kin - kout (1 + Emax C^g / (EC50^g + C^g)) B - kcp B + kpc Q
    dQ/dt  = kcp B - kpc Q

The solver's central state is C. With u = Kss + C, dC = (dCt - dR C / u) u^2 / (u^2 + Kss R).
"""

import math

from bcellsim.structures import Route, Structure
from bcellsim.structures.base import PARAMETERS, STATES, Entry

DEPOT, CENTRAL, PERIPHERAL, TARGET, BCELL, TISSUE = range(6)
KA, F, V, KEL, KPT, KTP, KINT, KSS, KSYN, KDEG = range(10)
KIN, KOUT, EMAX, EC50, G, KCP, KPC = range(10, 17)

#: What is needed beyond the register: name, unit and meaning; every state has the scale 1.
STATES.update(
    w1_depot=Entry("nmol", "drug at the injection site"),
    w1_central=Entry("nmol", "total drug in the central compartment"),
    w1_peripheral=Entry("nmol", "drug in the peripheral compartment"),
    w1_target=Entry("nmol/L", "total target, free and bound"),
)
PARAMETERS.update(
    w1_ka=Entry("1/day", "absorption rate"),
    w1_f=Entry("", "share of the dose that is absorbed"),
    w1_v=Entry("L", "central volume"),
    w1_kel=Entry("1/day", "elimination rate of free drug"),
    w1_kpt=Entry("1/day", "rate from the central to the peripheral compartment"),
    w1_ktp=Entry("1/day", "rate from the peripheral to the central compartment"),
    w1_kint=Entry("1/day", "internalisation of the complex"),
    w1_kss=Entry("nmol/L", "quasi-steady-state constant"),
    w1_ksyn=Entry("nmol/L/day", "target synthesis"),
    w1_kdeg=Entry("1/day", "target degradation"),
    w1_kin=Entry("cells/uL/day", "production of B cells"),
    w1_kout=Entry("1/day", "loss rate of B cells without drug"),
    w1_emax=Entry("", "largest fold increase of the loss rate, added to 1"),
    w1_ec50=Entry("nmol/L", "free drug of half the largest effect"),
    w1_g=Entry("", "Hill exponent"),
    w1_kcp=Entry("1/day", "rate of B cells from blood to tissue"),
    w1_kpc=Entry("1/day", "rate of B cells from tissue to blood"),
)


def rhs(t, y, p, u, dy):
    """Write the time derivatives."""
    free, target = y[CENTRAL], y[TARGET]
    inner = p[KSS] + free
    square = inner * inner
    both = square + p[KSS] * target
    inverse = 1.0 / (inner * both)  # one division for the two quotients
    occupancy = free * both * inverse
    bound = target * occupancy
    d_target = p[KSYN] - p[KDEG] * target - (p[KINT] - p[KDEG]) * bound
    d_total = (
        (p[KA] * p[F] / p[V]) * y[DEPOT]
        + u[CENTRAL] / p[V]
        - (p[KEL] + p[KPT]) * free
        + (p[KTP] / p[V]) * y[PERIPHERAL]
        - p[KINT] * bound
    )
    ratio = math.exp(p[G] * (math.log(p[EC50]) - math.log(max(free, 1e-30))))
    loss = p[KOUT] + p[KOUT] * p[EMAX] / (1.0 + ratio)
    exchange = p[KCP] * y[BCELL] - p[KPC] * y[TISSUE]
    dy[DEPOT] = u[DEPOT] - p[KA] * y[DEPOT]
    dy[CENTRAL] = (d_total - occupancy * d_target) * (square * inner * inverse)
    dy[PERIPHERAL] = (p[KPT] * p[V]) * free - p[KTP] * y[PERIPHERAL]
    dy[TARGET] = d_target
    dy[BCELL] = p[KIN] - loss * y[BCELL] - exchange
    dy[TISSUE] = exchange


def initial(p, y):
    """Write the baseline."""
    y[DEPOT] = 0.0
    y[CENTRAL] = 0.0
    y[PERIPHERAL] = 0.0
    y[TARGET] = p[KSYN] / p[KDEG]
    y[BCELL] = p[KIN] / p[KOUT]
    y[TISSUE] = p[KCP] * (p[KIN] / p[KOUT]) / p[KPC]


def observe(t, y, p, out):
    """Write the count."""
    out[0] = y[BCELL]


def elimination(t, y, p):
    """Return the drug that leaves, and what is not absorbed [nmol/day]."""
    bound = y[TARGET] * y[CENTRAL] / (p[KSS] + y[CENTRAL])
    return (1.0 - p[F]) * p[KA] * y[DEPOT] + p[V] * (p[KEL] * y[CENTRAL] + p[KINT] * bound)


def to_amounts(y, p):
    """Turn the free concentration into the total amount."""
    y[CENTRAL] = (y[CENTRAL] + y[TARGET] * y[CENTRAL] / (p[KSS] + y[CENTRAL])) * p[V]


def from_amounts(y, p):
    """Turn the total amount into the free concentration, by the stable root of the quadratic."""
    total = y[CENTRAL] / p[V]
    b = total - y[TARGET] - p[KSS]
    root = math.sqrt(b * b + 4.0 * p[KSS] * total)
    y[CENTRAL] = 0.5 * (b + root) if b >= 0.0 else 2.0 * p[KSS] * total / (root - b)


STRUCTURE = Structure(
    name="benchmark_w1",
    title="W1: target-mediated disposition; B cells in blood and tissue",
    states=("w1_depot", "w1_central", "w1_peripheral", "w1_target", "bcell", "bcell_tissue"),
    parameters=(
        "w1_ka", "w1_f", "w1_v", "w1_kel", "w1_kpt", "w1_ktp", "w1_kint", "w1_kss", "w1_ksyn",
        "w1_kdeg", "w1_kin", "w1_kout", "w1_emax", "w1_ec50", "w1_g", "w1_kcp", "w1_kpc",
    ),
    outputs=("bcell",),
    rhs=rhs,
    initial=initial,
    observe=observe,
    elimination=elimination,
    to_amounts=to_amounts,
    from_amounts=from_amounts,
    routes={"sc": Route("w1_depot"), "iv": Route("w1_central")},
)  # fmt: skip
