"""A published model: typical values, variability, covariate effects and residual error as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, logit

from bcellsim.card import model_card
from bcellsim.names import unknown
from bcellsim.structures import OUTPUTS, Structure


@dataclass(frozen=True)
class Drug:
    """An antibody: its molar mass [kDa] and routes, with the source of each number."""

    name: str
    target: str
    routes: tuple[str, ...]
    molar_mass: float | None = None
    source: str = ""
    notes: str = ""


@dataclass(frozen=True)
class Parameter:
    """A typical value in internal units, and how the paper prints it."""

    value: float
    printed: float
    unit: str
    fixed: bool
    source: str


@dataclass(frozen=True)
class RandomEffects:
    """Between-subject variability: eta ~ N(0, covariance) on the scale of each distribution.

    Parameters
    ----------
    names : tuple of str
        Parameters that vary.
    distributions : tuple of str
        ``"lognormal"`` (typical x exp(eta)) or ``"logit"`` (logit(typical) + eta).
    covariance : float array (n, n)
        Covariance of eta.
    sources : tuple of str
        Source of each variance.
    """

    names: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    covariance: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    sources: tuple[str, ...] = ()

    def factor(self) -> np.ndarray:
        """Return the lower Cholesky factor of the covariance."""
        return np.linalg.cholesky(self.covariance)

    def correlate(self, normals: np.ndarray) -> np.ndarray:
        """Return eta from independent standard normals, both (n_subjects, n).

        Summed column by column: a matrix product rounds differently with the number of subjects.
        """
        eta = np.zeros_like(normals)
        for j, column in enumerate(self.factor().T):
            eta += normals[:, j, None] * column
        return eta


@dataclass(frozen=True)
class Covariate:
    """A covariate of a model: unit, reference value, and what the study had.

    Parameters
    ----------
    name, unit, meaning : str
        Column name, unit and meaning.
    reference : float
        Value at which the typical values hold.
    default : float or None
        Value of a subject for whom none is given (an indicator's 0); None where it must be given.
    follows : str or None
        Parameter whose individual value, relative to the typical one, sets the default.
    route : str or None
        Route of dosing for which this 0/1 covariate must be 1.
    study : mapping
        ``{median, low, high}`` of the study population, or ``{share}`` of an indicator.
    """

    name: str
    unit: str
    meaning: str
    reference: float
    default: float | None = None
    follows: str | None = None
    route: str | None = None
    study: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class CovariateEffect:
    """An effect of a covariate x on a parameter, as a factor.

    ``power``: (x / reference)^value; ``exponential``: exp(value (x - reference));
    ``linear``: 1 + value (x - reference).
    """

    parameter: str
    covariate: str
    form: str
    reference: float
    value: float
    source: str = ""

    def factor(self, x: np.ndarray) -> np.ndarray:
        """Return the factor on the parameter for covariate values `x` (n_subjects,)."""
        if self.form == "power":
            return (x / self.reference) ** self.value
        if self.form == "exponential":
            return np.exp(self.value * (x - self.reference))
        return 1.0 + self.value * (x - self.reference)


@dataclass(frozen=True)
class ResidualError:
    """Residual error: ``combined2`` SD^2 = add_sd^2 + (prop_sd f)^2, ``combined1`` their sum."""

    prop_sd: float = 0.0
    add_sd: float = 0.0
    form: str = "combined2"
    source: str = ""


@dataclass(frozen=True)
class Check:
    """A published result the model is compared with; `gate` says whether it counts."""

    id: str
    metric: str
    source: str
    low: float
    high: float
    expected: float
    unit: str = ""
    gate: bool = True
    regimen: str = ""
    endpoint: str = "bcell"
    statistic: str = "typical"
    covariates: Mapping[str, float | str] = field(default_factory=dict)
    relative_to: Mapping[str, float] | None = None
    population: Mapping[str, int] = field(default_factory=dict)
    window: tuple[str, str] | None = None
    threshold: float | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Model:
    """A published parameter set on a structure. Printed, it is the model card.

    Use `bcellsim.load_model`; the fields are those of the model file, in internal units.
    """

    name: str
    title: str
    structure: Structure
    drug: Drug
    parameters: Mapping[str, Parameter]
    random_effects: RandomEffects
    covariates: Mapping[str, Covariate]
    covariate_effects: tuple[CovariateEffect, ...]
    residual_error: Mapping[str, ResidualError]
    citation: str
    doi: str
    read_in: str
    status: str
    study: Mapping
    context_of_use: str
    not_for: str
    notes: str = ""
    variant: str = ""
    variants: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    experimental: bool = False
    checks: tuple[Check, ...] = ()
    path: str = ""

    def routes(self) -> list[str]:
        """Return the routes by which this model can be dosed."""
        needed = self.structure.route_parameters
        return [
            route
            for route in self.structure.routes
            if all(name in self.parameters for name in needed.get(route, ()))
        ]

    def typical(self) -> dict[str, float]:
        """Return the typical values in internal units, neutral defaults included."""
        return {
            name: self.parameters[name].value
            if name in self.parameters
            else self.structure.defaults.get(name, 0.0)
            for name in self.structure.parameters
        }

    def individual(self, covariates: Mapping[str, np.ndarray], eta: np.ndarray) -> np.ndarray:
        """Return individual parameters, shape (n_subjects, n_parameters), internal units.

        Parameters
        ----------
        covariates : mapping of str to float array (n_subjects,)
            Every covariate that does not follow a parameter; those that do, where known.
        eta : float array (n_subjects, n_random_effects)
            Random effects, in the order of `random_effects.names`.
        """
        effects = self.random_effects
        typical = self.typical()
        values = {name: np.full(len(eta), value) for name, value in typical.items()}
        derived = {name for name, c in self.covariates.items() if c.follows}
        for effect in self.covariate_effects:
            if effect.covariate not in derived:
                values[effect.parameter] *= effect.factor(covariates[effect.covariate])
        for j, (name, distribution) in enumerate(
            zip(effects.names, effects.distributions, strict=True)
        ):
            if distribution == "logit":
                values[name] = expit(logit(values[name]) + eta[:, j])
            else:
                values[name] = values[name] * np.exp(eta[:, j])
        for effect in self.covariate_effects:
            if effect.covariate in derived:
                covariate = self.covariates[effect.covariate]
                following = values[covariate.follows] / typical[covariate.follows]
                x = covariates.get(effect.covariate, covariate.reference * following)
                values[effect.parameter] = values[effect.parameter] * effect.factor(x)
        return np.column_stack([values[name] for name in self.structure.parameters])

    def sources(self) -> dict[str, list[str]]:
        """Return what was read where: each source, and the numbers from it."""
        effects = self.random_effects
        numbers = [
            *((name, p.source) for name, p in self.parameters.items()),
            *((f"SD of {name}", s) for name, s in zip(effects.names, effects.sources, strict=True)),
            *((f"{e.covariate} on {e.parameter}", e.source) for e in self.covariate_effects),
            *((f"error of {name}", e.source) for name, e in self.residual_error.items()),
            *((f"covariate {name}", c.source) for name, c in self.covariates.items() if c.source),
        ]
        found = {}
        for number, source in numbers:
            found.setdefault(source, []).append(number)
        return found

    def require_covariates(self, given, where: str) -> None:
        """Raise ValueError unless every covariate that has no default is among those given."""
        for name, covariate in self.covariates.items():
            if name in given or covariate.default is not None or covariate.follows:
                continue
            unit = f", {covariate.unit}" if covariate.unit else ""
            raise ValueError(
                f"model {self.name} needs covariate {name} ({covariate.meaning}{unit}; reference "
                f"{covariate.reference:g}): {where}"
            )

    def require_output(self, output: str) -> None:
        """Raise ValueError unless the model's structure has that output."""
        outputs = self.structure.outputs
        if output not in outputs and output in OUTPUTS:
            raise ValueError(
                f"model {self.name} has no output {output}; it has {', '.join(outputs)}"
            )
        if output not in outputs:
            raise ValueError(f"model {self.name}: {unknown('output', output, outputs)}")

    def summary(self) -> dict:
        """Return the row of this model in `list_models`."""
        return {
            "name": self.name,
            "drug": self.drug.name,
            "disease": self.study.get("disease", ""),
            "structure": self.structure.name,
            "outputs": ", ".join(self.structure.outputs),
            "status": self.status + (" (experimental)" if self.experimental else ""),
            "citation": self.citation,
        }

    def __repr__(self):
        return f"<Model {self.name}: {self.title}>"

    def __str__(self):
        return model_card(self)
