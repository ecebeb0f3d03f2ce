"""A published model: typical values, variability, covariate effects and residual error as data."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, logit

from bcellsim.names import unknown
from bcellsim.structures import PARAMETERS, Structure


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
        if output not in self.structure.outputs:
            raise ValueError(
                f"model {self.name}: {unknown('output', output, self.structure.outputs)}"
            )

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
        doi = f"  doi:{self.doi}" if self.doi else ""
        lines = [f"{self.name}: {self.title}", f"  {self.citation or 'no publication'}{doi}"]
        lines += _section("structure", [f"{self.structure.name}: {self.structure.title}"])
        lines += _section("drug", [_drug_line(self.drug, self.routes())])
        lines += _section("status", [_status_line(self)])
        lines += _section("study", [f"{key}: {value}" for key, value in self.study.items()])
        lines += ["", "  parameters (typical; SD of the random effect)", *_parameter_lines(self)]
        lines += _section("correlations", [", ".join(_correlations(self.random_effects))])
        lines += _section("covariates", _covariate_lines(self))
        lines += _section("covariate effects", [", ".join(_effects(self.covariate_effects))])
        lines += _section("residual error (SD)", _residual_lines(self))
        lines += _section("sources", _source_lines(self))
        lines += _section("variants", [f":{k}  {v}" for k, v in self.variants.items()])
        lines += _section("missing", list(self.missing))
        lines += _section("notes", [self.notes] if self.notes else [])
        lines += _section("context of use", [self.context_of_use])
        lines += _section("not for", [self.not_for])
        return "\n".join(lines)


_WIDTH = 100


def _folded(line):
    """Fold a line that is too long under the beginning of its last column."""
    indent = " " * (line.rfind("  ") + 2)
    return textwrap.fill(
        line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _section(title, lines):
    wrapped = [
        part
        for line in lines
        if line
        for part in textwrap.wrap(line, 96, subsequent_indent="      ", break_on_hyphens=False)
    ]
    return ["", f"  {title}", *(f"    {line}" for line in wrapped)] if wrapped else []


def _drug_line(drug, routes):
    mass = f"{drug.molar_mass:g} kDa ({drug.source})" if drug.molar_mass else "molar mass not given"
    notes = f" {drug.notes}" if drug.notes else ""
    return f"{drug.name}, binds {drug.target}; {mass}; can be dosed {', '.join(routes)}.{notes}"


def _status_line(model):
    return (
        f"{model.status}; numbers read in: {model.read_in}"
        + ("; EXPERIMENTAL" if model.experimental else "")
        + (
            f"; variant {model.variant} (the status is that of the default)"
            if model.variant
            else ""
        )
    )


def _parameter_lines(model):
    effects = model.random_effects
    sd = dict(zip(effects.names, np.sqrt(np.diag(effects.covariance)), strict=True))
    scale = dict(zip(effects.names, effects.distributions, strict=True))
    lines = []
    for name, parameter in model.parameters.items():
        internal = PARAMETERS[name].unit
        same = parameter.unit == internal or np.isclose(parameter.value, parameter.printed)
        printed = f"{parameter.printed:g} {parameter.unit}".rstrip()
        converted = "" if same else f" = {parameter.value:.4g} {internal}"
        spread = f"SD {sd[name]:.3g}" if name in sd else ""
        if scale.get(name) == "logit":
            spread += " (logit)"
        fixed = "fixed" if parameter.fixed else ""
        columns = f"    {name:9}{printed + converted:39}{spread or fixed:18}"
        lines.append(_folded(f"{columns}{PARAMETERS[name].meaning}"))
    return lines


def _correlations(effects):
    sd = np.sqrt(np.diag(effects.covariance))
    return [
        f"{a}-{b} {effects.covariance[i, j] / sd[i] / sd[j]:.3g}"
        for i, a in enumerate(effects.names)
        for j, b in enumerate(effects.names)
        if i < j and effects.covariance[i, j]
    ]


def _covariate_lines(model):
    lines = []
    for name, c in model.covariates.items():
        default = f", follows {c.follows}" if c.follows else ""
        study = ", ".join(f"{key} {value:g}" for key, value in c.study.items())
        lines.append(
            f"{name} [{c.unit or '0/1'}] {c.meaning}; reference {c.reference:g}{default}"
            + (f"; study: {study}" if study else "")
        )
    return lines


def _effects(effects):
    shapes = {
        "power": "({c}/{r:g})^{v:g}",
        "exponential": "exp({v:g} {c})",
        "linear": "1 + {v:g} ({c} - {r:g})",
    }
    return [
        f"{e.parameter} x " + shapes[e.form].format(c=e.covariate, r=e.reference, v=e.value)
        for e in effects
    ]


def _source_lines(model):
    """Return a line a source; the commonest stands for all numbers not named with another."""
    found = sorted(model.sources().items(), key=lambda item: -len(item[1]))
    return [
        f"{source}: {'all other numbers' if i == 0 else ', '.join(numbers)}"
        for i, (source, numbers) in enumerate(found)
    ]


def _residual_lines(model):
    return [
        f"{name}: proportional {error.prop_sd:g}, additive {error.add_sd:g} ({error.form})"
        for name, error in model.residual_error.items()
    ]
