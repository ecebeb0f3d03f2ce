"""A design: the points of its factors, the subjects, and which scenarios a chunk holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from bcellsim.covariates import BODY_SIZE, read_covariates
from bcellsim.explore.outcomes import Span
from bcellsim.library import load_regimen
from bcellsim.metrics import METRICS
from bcellsim.model import Model
from bcellsim.population import Population, sample_population, sample_subjects, typical_subject
from bcellsim.regimen import Regimen, maintained, single_dose
from bcellsim.rule import DosingRule
from bcellsim.sweep.factors import Factor
from bcellsim.sweep.salib import OF_SENSITIVITY, shares
from bcellsim.units import days


@dataclass(frozen=True, eq=False)
class Design:
    """What a sweep computes. A scenario is a model, a point of the factors, and a subject.

    Scenario number = point x subjects + subject; the points of the first model come first, then
    those of the next. Every threshold gives a scenario one row.

    Parameters
    ----------
    spec : dict
        The design as plain data: all that its results depend on, besides the package.
    models : tuple of Model
        The models; every point is run with each.
    factors : tuple of Factor
        The factors, by what they change (schedule, window, parameter, covariate) and then by name,
        whatever the order of the file; of a full factorial the last one changes fastest.
    kind : str
        ``"regimen"``, ``"grid"`` or ``"rule"``.
    levels : tuple of float
        Thresholds [cells/uL].
    n_subjects : int
        Subjects of every point.
    times : float array (n_times,)
        Output times of trajectories [day]; none without.
    chunk : int
        Scenarios of a chunk.
    """

    spec: dict
    models: tuple[Model, ...]
    factors: tuple[Factor, ...]
    kind: str
    levels: tuple[float, ...]
    n_subjects: int
    times: np.ndarray
    chunk: int

    @cached_property
    def text(self) -> str:
        """The design as JSON, always in the same words."""
        return json.dumps(self.spec, sort_keys=True, separators=(",", ":"))

    @cached_property
    def digest(self) -> str:
        """A hash of it."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def points_of_model(self) -> int:
        """The number of points that each model is run at."""
        sampling = self.spec["sampling"]
        if sampling in OF_SENSITIVITY:
            return self.spec["points"] * (len(self.factors) + OF_SENSITIVITY[sampling])
        if sampling != "factorial":
            return self.spec["points"]
        return int(np.prod([len(factor.levels) for factor in self.factors], dtype=object))

    @property
    def n_scenarios(self) -> int:
        """The number of scenarios."""
        return len(self.models) * self.points_of_model * self.n_subjects

    @property
    def n_chunks(self) -> int:
        """The number of chunks."""
        return -(-self.n_scenarios // self.chunk)

    @property
    def sampled(self) -> bool:
        """Whether doses or intervals are sampled, so that every scenario has its own schedule."""
        return any(f.role == "schedule" and f.levels is None for f in self.factors)

    @property
    def metrics(self) -> list[str]:
        """The metrics wanted, in the order of tables."""
        outputs = {output for model in self.models for output in model.structure.outputs}
        wanted = self.spec["metrics"]
        return [
            metric.name
            for metric in METRICS.values()
            if metric.output in outputs and (wanted is None or metric.name in wanted)
        ]

    @property
    def outputs(self) -> list[str]:
        """The outputs of trajectories."""
        common = set.intersection(*(set(model.structure.outputs) for model in self.models))
        return [o for o in self.models[0].structure.outputs
                if o in common and o in (self.spec["outputs"] or common)]  # fmt: skip

    def described(self) -> dict[str, dict]:
        """Return unit and levels (None where sampled) of the columns by which points differ."""
        models = {"model": {"unit": "", "levels": [model.name for model in self.models]}}
        return (models if len(self.models) > 1 else {}) | {
            factor.name: {
                "unit": factor.unit,
                "levels": factor.levels and factor.values(np.arange(len(factor.levels))).tolist(),
            }
            for factor in self.factors
        }

    def scenarios(self, chunk: int) -> range:
        """Return the numbers of the scenarios of a chunk."""
        first = chunk * self.chunk
        return range(first, min(first + self.chunk, self.n_scenarios))

    def points(self, first: int, last: int) -> dict[str, np.ndarray]:
        """Return, for some points, positions in the levels or sampled values of each factor."""
        numbers = np.arange(first, last) % self.points_of_model
        if self.spec["sampling"] == "factorial":
            found, rest = {}, numbers
            for factor in reversed(self.factors):
                rest, found[factor.name] = np.divmod(rest, len(factor.levels))
            return {factor.name: found[factor.name] for factor in self.factors}
        u = self._shares(numbers)
        return {factor.name: factor.at(u[:, j]) for j, factor in enumerate(self.factors)}

    def _shares(self, numbers):
        """Return points of the unit cube (n, n_factors)."""
        n_factors, seed = len(self.factors), self.spec["seed"]
        if self.spec["sampling"] in OF_SENSITIVITY:
            points = shares(self.spec["sampling"], n_factors, seed, self.spec["points"])
            return points[numbers]
        if self.spec["sampling"] == "lhs":
            return _latin_hypercube(n_factors, seed, self.points_of_model)[numbers]
        # A chunk may hold the last points of a model and the first ones of the next.
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        runs = np.split(numbers, breaks)
        return np.concatenate([_sobol(n_factors, seed, int(run[0]), len(run)) for run in runs])

    def people(self, model: Model, subjects: np.ndarray) -> Population:
        """Return the subjects of these numbers (n,), which may repeat, of a model."""
        if self.n_subjects <= self.chunk:
            return self._everyone[self.models.index(model)].part(subjects)
        wanted, which = np.unique(subjects, return_inverse=True)
        return sample(self, model, wanted).part(which)

    @cached_property
    def _everyone(self):
        numbers = np.arange(self.n_subjects)
        return [sample(self, model, numbers) for model in self.models]

    def plan(self, settings: dict) -> Regimen | DosingRule:
        """Return the schedule of these settings, those of the design besides.

        Raises
        ------
        ValueError
            If there is no such schedule.
        """
        given = {k: v for k, v in self.spec["schedule"].items() if v is not None} | settings
        return _plan(self.kind, given)

    def span(self, settings: dict) -> Span:
        """Return horizon, induction and follow-up of these settings."""
        given = {key: self.spec[key] for key in ("until", "induction", "follow_up")}
        return Span.of(**{**given, **settings})


def patients(path: str, model: Model):
    """Read the table of patients that a design names."""
    return read_covariates(path, {**BODY_SIZE, **model.covariates})


def typical_value(model: Model, name: str) -> float:
    """Return the typical value of a parameter, printed or of the structure [internal units]."""
    return model.parameters[name].value if name in model.parameters else model.typical()[name]


def sample(design: Design, model: Model, numbers: np.ndarray) -> Population:
    """Return the subjects of these numbers, ascending."""
    people, seed = design.spec["population"], design.spec["seed"]
    if people["patients"] is not None:
        table = patients(people["patients"], model)
        return sample_population(model, covariates=table, seed=seed).part(numbers)
    if people["n"] is None:
        covariates = people["covariates"]
        return typical_subject(model, covariates if isinstance(covariates, dict) else None)
    return sample_subjects(model, numbers, covariates=people["covariates"], seed=seed)


@lru_cache(maxsize=1)
def _latin_hypercube(n_factors, seed, n):
    from scipy.stats import qmc

    return qmc.LatinHypercube(n_factors, seed=seed).random(n)


def _sobol(n_factors, seed, first, n):
    from scipy.stats import qmc

    sequence = qmc.Sobol(n_factors, scramble=True, seed=seed)
    # One at a time: the first point is made otherwise than those after it.
    if first:
        sequence.fast_forward(first)
        return sequence.random(n)
    start = sequence.random(1)
    return np.concatenate([start, sequence.random(n - 1)]) if n > 1 else start


def _plan(kind, given):
    if kind == "regimen":
        return load_regimen(given["regimen"])
    if given.get("loading") == "none":
        given = given | {"loading": None}
    if kind == "rule":
        return DosingRule(**given)
    most, loading = given.get("max_doses"), given.get("loading")
    loading = Regimen.parse(loading) if loading else None
    dose = single_dose(given["dose"])
    plan = maintained(dose, days(given["interval"], "interval"), loading, given.get("start"))
    if most is None:
        return plan
    left = int(most) - (loading.n_doses() if loading else 0)
    if left < 0:
        raise ValueError(f"max_doses = {most:g}, but the loading alone has {int(most) - left}")
    *before, repeated = plan.events
    return replace(plan, events=(*before, *repeated.piece(0, left)))
