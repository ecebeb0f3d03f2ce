"""What must hold of any model, whatever its paper says: units, equations, baseline, exposure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bcellsim.dimensions import check_dimensions
from bcellsim.engine import Tally
from bcellsim.model import Model
from bcellsim.population import Population, sample_population, typical_subject
from bcellsim.regimen import Regimen
from bcellsim.simulate import solve_regimen
from bcellsim.units import DAYS_PER_YEAR

#: Largest relative drift of a count in five years without drug: ten times the default `rtol`.
DRIFT = 1e-5
#: Of typical values from reference covariates: the same numbers by another order of operations.
SAME = 1e-9
#: Of AUC x CL / dose: what is left of the drug after five years, and the solver's tolerance.
EXPOSURE = 1e-3
#: Of the concentration after twice the dose, over twice that after one, for a linear disposition.
LINEAR = 1e-5

_SOLVED = 5  # subjects; up to eight need no compiled kernel
_DOSE = 1000.0  # mg, arbitrary where the disposition is linear
#: The terminal phase is looked for late, so that a clearance that decays has done so [day], ...
_TAIL = np.linspace(0.0, 5.25 * DAYS_PER_YEAR, 274)
#: ... but where this share of the highest concentration is left, which solvers still follow.
_LEFT = 1e-25


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what came out, within which bounds, and whether that is right."""

    section: str
    id: str
    obtained: float = math.nan
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    note: str = ""
    gate: bool = True

    @property
    def verdict(self) -> str:
        """Return ``passes`` or ``FAILS``; ``note`` where nothing is required."""
        if not self.gate:
            return "note"
        return "passes" if self.low <= self.obtained <= self.high else "FAILS"


def findings(model: Model) -> list[Finding]:
    """Look at a model: its file, equations, variability, covariates, baseline and exposure.

    Parameters
    ----------
    model : Model
        A model; that it was loaded says that its file keeps to the schema.

    Returns
    -------
    list of Finding
        Those of a partial model that cannot be tried are notes that say so.
    """
    found = [_file(model), *_equations(model), *_variability(model)]
    absent = model.absent()
    if absent:
        note = f"cannot be tried: {', '.join(absent)} not found in the publication"
        return [*found, Finding("baseline", "without drug", note=note, gate=False)]
    return [*found, _reference(model), *_baseline(model), *_exposure(model)]


def _file(model):
    numbers = sum(map(len, model.sources().values()))
    unsourced = sum(len(names) for source, names in model.sources().items() if not source)
    note = f"schema and units; {numbers} numbers, each with its source"
    return Finding("file", "numbers have sources", unsourced, 0, 0, "without", note)


def _equations(model):
    try:
        wrong = check_dimensions(model.structure)
    except ValueError as error:  # equations that no compiled kernel can be made of either
        wrong = [str(error)]
    note = wrong[0] if wrong else f"structure {model.structure.name}"
    return [Finding("equations", "dimensions agree", len(wrong), 0, 0, "wrong", note)]


def _variability(model):
    found = []
    between = ("between subjects", model.random_effects)
    within = ("between occasions", model.occasion_effects)
    for what, effects in (between, within):
        if not effects.names:
            continue
        sd = np.sqrt(np.diag(effects.covariance))
        smallest = float(np.linalg.eigvalsh(effects.covariance / np.outer(sd, sd)).min())
        note = f"smallest eigenvalue of the correlations, {len(sd)} parameters {what}"
        found.append(
            Finding("variability", "positive definite", smallest, np.nextafter(0, 1), note=note)
        )
    if not model.random_effects.names:
        found.append(Finding("variability", "none", note="no published variability", gate=False))
    return found


def _reference(model):
    typical = np.array(list(model.typical().values()))
    reference = {
        c.name: c.reference for c in model.covariates.values() if not (c.follows or c.occasion)
    }
    found = typical_subject(model, reference).parameters[0]
    off = np.abs(found - typical) / np.maximum(np.abs(typical), np.finfo(float).tiny)
    note = "largest relative distance from the typical values"
    return Finding("covariates", "reference is typical", float(off.max()), 0.0, SAME, note=note)


def _baseline(model):
    """Follow subjects for five years without a dose."""
    people = typical_subject(model)
    if model.random_effects.names and "variability" not in model.missing:
        people = sample_population(model, _SOLVED, seed=1)
    ends = np.linspace(0.0, 5.0 * DAYS_PER_YEAR, 61)
    solution = solve_regimen(Regimen(()), people, ends, until=ends[-1])
    found = []
    for j, output in enumerate(model.structure.outputs):
        values = solution.values[:, :, j]
        start = values[:, :1]
        drift = np.abs(values - start) / np.where(start > 0, start, 1.0)
        if output != "bcell":  # a concentration starts at 0 and stays there
            drift = np.abs(values)
        note = f"largest {'relative drift' if output == 'bcell' else 'value'} in five years, "
        note += f"{len(people)} {'subjects' if len(people) > 1 else 'subject'}"
        found.append(
            Finding("baseline", f"{output} without drug", float(drift.max()), 0, DRIFT, note=note)
        )
    return found


def _exposure(model):
    """Give the typical subject a dose: half-life, and exposure against dose over clearance."""
    if "conc" not in model.structure.outputs or not model.routes():
        return []
    route = "iv" if "iv" in model.routes() else model.routes()[0]
    given = {c.name: 1.0 for c in model.covariates.values() if c.route == route}
    person = typical_subject(model, given)
    (auc, once), (_, twice) = (_dosed(person, route, dose) for dose in (_DOSE, 2.0 * _DOSE))
    last = int(np.flatnonzero(once > _LEFT * once.max())[-1])
    seen = slice(1, last + 1)
    if np.abs(twice[seen] / (2.0 * once[seen]) - 1.0).max() > LINEAR:
        note = "the disposition is not linear: half-life and clearance depend on the concentration"
        return [Finding("exposure", "linear", note=note, gate=False)]
    before = max(last - 10, 1)
    half_life = float(
        np.log(2.0) * (_TAIL[last] - _TAIL[before]) / np.log(once[before] / once[last])
    )
    p = dict(zip(model.structure.parameters, person.parameters[0], strict=True))
    found = [Finding("exposure", "terminal half-life", half_life, unit="day", gate=False,
                     note=f"from day {_TAIL[before]:.0f}")]  # fmt: skip
    if "cl" in p and not p.get("cl_t"):
        scale = model.structure.routes[route].bioavailability
        available = _DOSE * (p[scale] if scale else 1.0)
        ratio = float(auc * p["cl"] / available)
        note = f"AUC x CL / available dose, {route}"
        found.append(Finding("exposure", "AUC", ratio, 1 - EXPOSURE, 1 + EXPOSURE, note=note))
    return found


def _dosed(person: Population, route, dose):
    """Return the AUC [mg/L*day] and the concentrations in `_TAIL` after one dose."""
    plan = Regimen.parse(f"{dose:g} mg {route}")
    area = Tally("integral", "conc", 0.0, _TAIL[-1])
    solution = solve_regimen(
        plan, person, _TAIL, until=_TAIL[-1], tallies=(area,), outputs=("conc",)
    )
    return float(solution.tally(area)[0, 0]), solution.values[0, :, 0]
