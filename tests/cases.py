"""Parameter vectors and schedules for any structure in the registry, for the tests only.

A structure that is added later needs nothing here: a parameter without a value below gets one by
its name in `TEST_VALUES`, or else by its unit in `VALUE_BY_UNIT`. Those are invented test values.
"""

from dataclasses import replace

import numpy as np
import pytest

from bcellsim import engine
from bcellsim.engine import Events
from bcellsim.engine.events import DOSE, FACTOR, MULTIPLY, RATE, RESET
from bcellsim.structures import PARAMETERS, STATES, STRUCTURES

#: Arguments of `solve`. At an rtol of 1e-11 LSODA stalled, for good, in one of 200 subjects of Yu
#: 2022 (Hill exponents of 0.06 and 0.09); at 1e-10 counts agree with Tsit5 at 1e-9 to 2e-7.
REFERENCE = {"rtol": 1e-10, "atol": 1e-12, "backend": "reference"}

NMOL = 0.146  # mg/L per nmol/L at 146 kDa (ofatumumab)

# Yan 2022, Table 6: inebilizumab, 66.2 kg.
YAN = {"ka": 0.169, "f_sc": 0.81, "cl": 0.188, "vc": 2.95, "q": 0.363, "vp": 2.57, "vmax": 0.832,
       "km": 5.89, "kdes": 0.00294}  # fmt: skip

#: Published typical values, in internal units (see reference/models.md).
PUBLISHED = {
    # Yu 2022, Table 3: ofatumumab SC, 70 kg, 38 y.
    "tmdd_qss": {
        "ka": 0.157, "f_sc": 0.685, "cl": 0.34, "vc": 2.62, "q": 0.358, "vp": 2.8, "kint": 1.31,
        "kd": 0.167 * NMOL, "koff": 5.53, "r0": 32.5 * NMOL, "ksyn0": 0.985 * NMOL,
        "ksyn_inf": 0.0554 * NMOL, "kdes": 2.58 / 365.25, "b0": 194.0, "kout": 0.0124,
        "emax": 159.0, "ec50": 0.0057, "hill": 2.81, "qb": 0.78, "vb": 3.7,
    },
    # Chen 2024, Table 2: rituximab IV, BSA 0.9 m2.
    "turnover": {
        "cl": 0.2086, "vc": 1.86, "q": 0.18, "vp": 1.9, "b0": 395.0, "kout": 0.051, "emax": 99.6,
        "ec50": 5.87, "hill": 1.0,
    },
    # Liang 2024, Table 2: rituximab IV; kss read as nmol/L, 94 000 CD20 a cell, 143.86 kDa.
    "tmdd_bcell": {
        "cl": 0.0482 * 24, "vc": 2.48, "q": 0.0073 * 24, "vp": 4.68, "kint": 0.217 * 24,
        "kss": 6.21e-3 * 143.86, "ksyn": 5.06e-8 * 24 * 143.86e3 / 1e3, "kdeg": 1.63e-3 * 24,
        "cd20_per_cell": 94_000 / 6.02214076e23 * 143.86e3 * 1e9,
    },
    "michaelis_menten_chain": {**YAN, "b0": 135.0, "lifespan": 391.0},
    "michaelis_menten_turnover": YAN,
    "pk_michaelis_menten": YAN,
}  # fmt: skip

#: Invented, plausible values for the names of the register.
TEST_VALUES = {
    "ka": 0.2, "f_sc": 0.7, "cl": 0.3, "cl_t": 0.1, "kdes": 0.01, "vc": 3.0, "q": 0.4, "vp": 3.0,
    "kint": 1.0, "kd": 0.02, "koff": 5.0, "r0": 5.0, "ksyn0": 0.15, "ksyn_inf": 0.01, "b0": 200.0,
    "kout": 0.03, "emax": 100.0, "ec50": 1.0, "hill": 1.5, "qb": 0.8, "vb": 3.5, "kel": 0.05,
    "a50": 5.0, "tlag": 0.5, "vmax": 1.0, "km": 5.0, "kss": 0.5, "ksyn": 0.15, "kdeg": 0.03,
    "cd20_per_cell": 0.025, "kmat": 0.05, "lifespan": 100.0, "kill_slope": 0.02, "kill_conc": 0.1,
}  # fmt: skip

#: Invented values for a name that the register gains later.
VALUE_BY_UNIT = {"1/day": 0.1, "L/day": 0.3, "L": 3.0, "mg/L": 1.0, "mg": 10.0, "cells/uL": 200.0}

SD = 0.4  # of the logarithm of every parameter in random vectors ...
PUBLISHED_SD = {"tmdd_qss": {"hill": 1.46}}  # ... but for Yu 2022's very variable exponent
LARGEST_HILL = 50.0


def solve(*arguments, backend="compiled", **options):
    """Solve with the compiled backend, unless told otherwise, however few the subjects."""
    return engine.solve(*arguments, backend=backend, **options)


def typical(structure):
    """Return a typical parameter vector of any structure (n_parameters,)."""
    values = {**TEST_VALUES, **PUBLISHED.get(structure.name, {})}
    return np.array(
        [values.get(n, VALUE_BY_UNIT.get(PARAMETERS[n].unit, 1.0)) for n in structure.parameters]
    )


def parameter(structure, name, vectors):
    """Return the column of a parameter, or None where the structure has none of that name."""
    names = structure.parameters
    return vectors[..., names.index(name)] if name in names else None


def changed(structure, **values):
    """Return the typical vector with some parameters set, those the structure has."""
    vector = typical(structure)
    for name, value in values.items():
        if name in structure.parameters:
            vector[structure.parameters.index(name)] = value
    return vector


def random_vectors(structure, n, seed):
    """Return log-normal vectors around the typical one (n, n_parameters)."""
    # Lags are in the times of events, of which the engine's own tests have others.
    lags = {route.lag for route in structure.routes.values()}
    names = [name for name in structure.parameters if name not in lags]
    sd = {**dict.fromkeys(names, SD), **PUBLISHED_SD.get(structure.name, {})}
    eta = np.random.default_rng(seed).standard_normal((n, len(sd))) * list(sd.values())
    vectors = np.tile(typical(structure), (n, 1))
    vectors[:, [structure.parameters.index(name) for name in names]] *= np.exp(eta)
    for name, largest in (("f_sc", 0.99), ("hill", LARGEST_HILL)):
        column = parameter(structure, name, vectors)
        if column is not None:
            column[:] = np.minimum(column, largest)
    return vectors


def dose(structure, time, amount, route=None):
    """Return the row of a bolus by a route (the first one by default)."""
    state, factor, *_ = structure.routes[route or next(iter(structure.routes))]
    scale = structure.parameters.index(factor) if factor else -1
    return (time, DOSE, structure.states.index(state), amount, scale)


def infusion(structure, time, amount, duration, route=None):
    """Return the two rows of an infusion."""
    _, _, state, _, scale = dose(structure, time, amount, route)
    return [
        (time, RATE, state, amount / duration, scale),
        (time + duration, RATE, state, 0.0, scale),
    ]


def random_doses(structure, rng, horizon):
    """Return boluses and infusions by every route, 1 to 1000 mg, at irregular times."""
    rows = []
    for time in np.sort(rng.uniform(0.0, horizon, rng.integers(3, 9))):
        route = rng.choice(list(structure.routes))
        amount = np.exp(rng.uniform(0.0, np.log(1000.0)))
        if rng.random() < 0.5:
            rows.append(dose(structure, time, amount, route))
        else:
            rows += infusion(structure, time, amount, rng.uniform(0.05, 3.0), route)
    return rows


def random_rows(structure, rng, horizon):
    """Return an irregular schedule with every kind of event."""
    rows = random_doses(structure, rng, horizon)
    for _ in range(rng.integers(0, 4)):  # such as plasma exchange
        state = rng.integers(len(structure.states))
        rows.append((rng.uniform(0, horizon), MULTIPLY, state, rng.uniform(0.2, 1.5), -1))
    for _ in range(rng.integers(0, 3)):  # such as a co-therapy
        index = rng.integers(len(structure.parameters))
        begin, end = np.sort(rng.uniform(0.0, horizon, 2))
        rows.append((begin, FACTOR, index, np.exp(rng.normal(0.0, 0.5)), -1))
        rows.append((end, FACTOR, index, 1.0, -1))
    if rng.random() < 0.2:
        rows.append((rng.uniform(0.0, horizon), RESET, 0, 0.0, -1))
    return rows


def random_events(structure, n, seed, horizon=365.0, rows=random_rows):
    """Return one random schedule for each of n subjects."""
    rng = np.random.default_rng(seed)
    return Events.from_rows([rows(structure, rng, horizon) for _ in range(n)], np.arange(n))


def one(rows):
    """Return the events of one subject."""
    return Events.from_rows([rows], [0])


def followed(structure):
    """Return the output that tests of the engine follow: the B-cell count, or else the drug."""
    return "bcell" if "bcell" in structure.outputs else structure.outputs[-1]


def column(structure):
    """Return the position of that output among the outputs."""
    return structure.outputs.index(followed(structure))


def baseline(structure, vectors):
    """Return the states and the outputs of subjects without drug (n, n_states), (n, n_outputs)."""
    found = []
    for vector in np.atleast_2d(vectors).tolist():
        y, out = [0.0] * len(structure.states), [0.0] * len(structure.outputs)
        structure.initial(vector, y)
        structure.observe(0.0, y, vector, out)
        found.append((y, out))
    states, outputs = zip(*found, strict=True)
    return np.array(states), np.array(outputs)


def scaled_error(structure, vectors, values, expected, floor=1e-3):
    """Return |B - expected B| / max(|expected B|, floor b0), (n_subjects, n_times).

    Of a drug, where there is no count, its largest expected value takes the place of b0.
    """
    b, wanted = (v[..., column(structure)] for v in (values, expected))
    b0 = baseline(structure, vectors)[1][:, column(structure)]
    largest = np.where(b0 > 0, b0, np.nanmax(np.abs(wanted), axis=1))[:, None]
    return np.abs(b - wanted) / np.maximum(np.abs(wanted), floor * largest + 1e-300)


def quick(structure):
    """Return the parameter that makes a structure stiff when it is large: a rate of the drug.

    A quick loss of the count does not, where the count is taken by collocation.
    """
    return "ka" if "ka" in structure.parameters else "kel"


def endogenous(structure):
    """Return the positions of the states that hold no drug."""
    return [i for i in range(len(structure.states)) if i not in structure.drug_states()]


def with_eliminated(structure, recorded):
    """Return a copy with one more drug state: what has left the body; it appends states to a list.

    For the reference backend. The states are recorded as amounts, whenever an output is taken.
    """
    spare = next(n for n, e in STATES.items() if e.unit == "mg" and n not in structure.states)
    last = len(structure.states)

    def rhs(t, y, p, u, dy):
        structure.rhs(t, y, p, u, dy)
        dy[last] = structure.elimination(t, y, p)

    def initial(p, y):
        structure.initial(p, y)
        y[last] = 0.0

    def observe(t, y, p, out):
        amounts = list(y)
        if structure.to_amounts:
            structure.to_amounts(amounts, p)
        recorded.append(amounts)
        structure.observe(t, y, p, out)

    return replace(
        structure, states=(*structure.states, spare), rhs=rhs, initial=initial, observe=observe
    )


ALL = list(STRUCTURES.values())
IDS = list(STRUCTURES)
#: Those that are not the PK of another, whose equations are within that one's.
WHOLE = [structure for structure in ALL if structure.name not in {s.pk for s in ALL}]
#: Those whose parts all stand in others too: their kernels are compiled among the slow tests only.
SELDOM = {"pk_tmdd_qss", "pk_michaelis_menten", "michaelis_menten_turnover"}
#: Those with B cells.
COUNTED = [structure for structure in ALL if "bcell" in structure.outputs]


def on(structures, slow=frozenset()):
    """Return the mark that runs a test on each structure, on those named only if slow ones run."""
    rare = SELDOM | set(slow)
    return pytest.mark.parametrize(
        "structure",
        [pytest.param(s, marks=pytest.mark.slow) if s.name in rare else s for s in structures],
        ids=[s.name for s in structures],
    )


each = on(ALL)
#: For tests that take seconds a structure: the PK of another alone only if slow ones run.
each_whole = on(ALL, {s.name for s in ALL if s not in WHOLE})
