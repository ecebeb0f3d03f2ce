"""From a checked model file to a `Model`: numbers as printed become internal units."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from bcellsim.library.schema import ModelFile
from bcellsim.library.tables import located
from bcellsim.model import (
    Check,
    Covariate,
    CovariateEffect,
    Drug,
    Model,
    Parameter,
    RandomEffects,
    ResidualError,
)
from bcellsim.names import unknown
from bcellsim.structures import PARAMETERS, get_structure
from bcellsim.units import convert


class _Problems:
    """Raises with the file, line and key of what is wrong."""

    def __init__(self, path: Path):
        self.path, self.text = path, path.read_text(encoding="utf-8")

    def at(self, *keys):
        return _At(self, keys)


class _At:
    def __init__(self, problems, keys):
        self.problems, self.keys = problems, keys

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is ValueError:
            path, text = self.problems.path, self.problems.text
            raise ValueError(located(path, text, self.keys, str(error))) from None


def build_model(file: ModelFile, drug: Drug, doi: str, variant: str, path: Path) -> Model:
    """Convert a model file.

    Parameters
    ----------
    file : ModelFile
        The file, checked against its schema.
    drug : Drug
        The drug it names.
    doi : str
        DOI of its citation.
    variant : str
        Name of one of its variants, or ``""``.
    path : Path
        Where it was read, for messages.

    Raises
    ------
    ValueError
        If a name or unit is unknown or a needed parameter is not there.
    """
    problems = _Problems(path)
    with problems.at("structure"):
        structure = get_structure(file.structure)
    correlations = file.correlations
    if variant:
        if variant not in file.variants:
            raise ValueError(f"{path}: {unknown('variant', variant, file.variants)}")
        correlations = file.variants[variant].correlations
    model = Model(
        name=f"{file.name}:{variant}" if variant else file.name,
        title=file.title,
        structure=structure,
        drug=drug,
        parameters=_parameters(file, structure, drug, problems),
        random_effects=_random_effects(file, correlations, problems),
        covariates=_covariates(file, problems),
        covariate_effects=_covariate_effects(file, problems),
        residual_error=_residual_errors(file, structure, problems),
        citation=file.citation,
        doi=doi,
        read_in=file.read_in,
        status=file.status,
        study=file.study,
        context_of_use=file.context_of_use,
        not_for=file.not_for,
        notes=file.notes,
        variant=variant,
        variants={key: entry.description for key, entry in file.variants.items()},
        missing=tuple(file.missing),
        experimental=file.experimental,
        checks=tuple(_check(entry) for entry in file.checks),
        path=str(path),
    )
    _require_parameters(model, problems)
    return model


def _parameters(file, structure, drug, problems):
    found = {}
    for name, entry in file.parameters.items():
        with problems.at("parameters", name):
            if name not in structure.parameters:
                raise ValueError(unknown("parameter", name, structure.parameters))
        with problems.at("parameters", name, "unit"):
            value = convert(
                entry.value, entry.unit, PARAMETERS[name].unit, molar_mass=drug.molar_mass
            )
        with problems.at("parameters", name, "value"):
            if value < 0:
                raise ValueError(f"{entry.value:g} is negative")
        source = entry.source or file.source
        found[name] = Parameter(value, entry.value, entry.unit, entry.fixed, source)
    return found


def _require_parameters(model, problems):
    structure = model.structure
    optional = {*structure.defaults, *(n for ns in structure.route_parameters.values() for n in ns)}
    absent = [n for n in structure.parameters if n not in optional and n not in model.parameters]
    if absent and not model.missing:
        with problems.at("parameters"):
            raise ValueError(f"structure {structure.name} also needs {', '.join(absent)}")


def _variance(entry):
    """Return the variance of eta; w^2 = ln(1 + CV^2) for a log-normal coefficient of variation."""
    if entry.scale == "variance":
        return entry.value
    if entry.scale == "sd":
        return entry.value**2
    cv = entry.value / 100.0
    return math.log1p(cv**2) if entry.scale == "cv_lognormal" else cv**2


def _random_effects(file, correlations, problems):
    names = tuple(file.iiv)
    for name in names:
        with problems.at("iiv", name):
            if name not in file.parameters:
                raise ValueError(unknown("parameter", name, file.parameters))
    covariance = np.diag([_variance(entry) for entry in file.iiv.values()])
    for i, entry in enumerate(correlations):
        with problems.at("correlations", i):
            for name in entry.pair:
                if name not in names:
                    raise ValueError(unknown("parameter with variability", name, names))
        a, b = (names.index(name) for name in entry.pair)
        covariance[a, b] = covariance[b, a] = entry.value * math.sqrt(
            covariance[a, a] * covariance[b, b]
        )
    if len(names) and np.linalg.eigvalsh(covariance).min() <= 0:
        with problems.at("iiv"):
            raise ValueError("the covariance matrix is not positive definite")
    return RandomEffects(
        names=names,
        distributions=tuple(entry.distribution for entry in file.iiv.values()),
        covariance=covariance,
        sources=tuple(entry.source or file.source for entry in file.iiv.values()),
    )


def _covariates(file, problems):
    for name, entry in file.covariates.items():
        with problems.at("covariates", name, "follows"):
            if entry.follows and entry.follows not in file.parameters:
                raise ValueError(unknown("parameter", entry.follows, file.parameters))
    return {
        name: Covariate(name=name, **entry.model_dump()) for name, entry in file.covariates.items()
    }


def _covariate_effects(file, problems):
    for i, entry in enumerate(file.covariate_effects):
        with problems.at("covariate_effects", i, "parameter"):
            if entry.parameter not in file.parameters:
                raise ValueError(unknown("parameter", entry.parameter, file.parameters))
        with problems.at("covariate_effects", i, "covariate"):
            if entry.covariate not in file.covariates:
                raise ValueError(unknown("covariate", entry.covariate, file.covariates))
    return tuple(
        CovariateEffect(**{**entry.model_dump(), "source": entry.source or file.source})
        for entry in file.covariate_effects
    )


def _residual_errors(file, structure, problems):
    for name in file.residual_error:
        with problems.at("residual_error", name):
            if name not in structure.outputs:
                raise ValueError(unknown("output", name, structure.outputs))
    return {
        name: ResidualError(**{**entry.model_dump(), "source": entry.source or file.source})
        for name, entry in file.residual_error.items()
    }


def _check(entry):
    fields = entry.model_dump()
    fields["population"] = fields["population"] or {}
    return Check(**fields)
