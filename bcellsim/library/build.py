"""From a checked model file to a `Model`: numbers as printed become internal units."""

from __future__ import annotations

import math
from functools import partial
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
    at = partial(located, path)
    with at("structure"):
        structure = get_structure(file.structure)
    if variant and variant not in file.variants:
        raise ValueError(f"{path}: {unknown('variant', variant, file.variants)}")
    model = Model(
        name=f"{file.name}:{variant}" if variant else file.name,
        title=file.title,
        structure=structure,
        drug=drug,
        parameters=_parameters(file, structure, drug, at),
        random_effects=_random_effects(file, variant, at),
        covariates=_covariates(file, at),
        covariate_effects=_covariate_effects(file, at),
        residual_error=_residual_errors(file, structure, at),
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
    _require_parameters(model, at)
    return model


def _parameters(file, structure, drug, at):
    found = {}
    for name, entry in file.parameters.items():
        with at("parameters", name):
            if name not in structure.parameters:
                raise ValueError(unknown("parameter", name, structure.parameters))
        with at("parameters", name, "unit"):
            value = convert(
                entry.value, entry.unit, PARAMETERS[name].unit, molar_mass=drug.molar_mass
            )
        with at("parameters", name, "value"):
            if value < 0:
                raise ValueError(f"{entry.value:g} is negative")
        source = entry.source or file.source
        found[name] = Parameter(value, entry.value, entry.unit, entry.fixed, source)
    return found


def _require_parameters(model, at):
    structure = model.structure
    optional = {*structure.defaults, *(n for ns in structure.route_parameters.values() for n in ns)}
    absent = [n for n in structure.parameters if n not in optional and n not in model.parameters]
    if absent and not model.missing:
        with at("parameters"):
            raise ValueError(f"structure {structure.name} also needs {', '.join(absent)}")


def _variance(entry):
    """Return the variance of eta; w^2 = ln(1 + CV^2) for a log-normal coefficient of variation."""
    if entry.scale == "variance":
        return entry.value
    if entry.scale == "sd":
        return entry.value**2
    cv = entry.value / 100.0
    return math.log1p(cv**2) if entry.scale == "cv_lognormal" else cv**2


def _random_effects(file, variant, at):
    names = tuple(file.iiv)
    for name in names:
        with at("iiv", name):
            if name not in file.parameters:
                raise ValueError(unknown("parameter", name, file.parameters))
    covariance = np.diag([_variance(entry) for entry in file.iiv.values()])
    where = ("variants", variant) if variant else ("iiv",)
    correlations = file.variants[variant].correlations if variant else file.correlations
    seen = set()
    for i, entry in enumerate(correlations):
        with at(*where, "correlations", i):
            _check_pair(entry.pair, names, seen)
        seen.add(frozenset(entry.pair))
        a, b = (names.index(name) for name in entry.pair)
        covariance[a, b] = covariance[b, a] = entry.value * math.sqrt(
            covariance[a, a] * covariance[b, b]
        )
    if len(names) and np.linalg.eigvalsh(covariance).min() <= 0:
        with at(*where):
            raise ValueError("the covariance matrix is not positive definite")
    return RandomEffects(
        names=names,
        distributions=tuple(entry.distribution for entry in file.iiv.values()),
        covariance=covariance,
        sources=tuple(entry.source or file.source for entry in file.iiv.values()),
    )


def _check_pair(pair, names, seen):
    for name in pair:
        if name not in names:
            raise ValueError(unknown("parameter with variability", name, names))
    if pair[0] == pair[1]:
        raise ValueError(f"the correlation of {pair[0]} with itself is 1 and cannot be given")
    if frozenset(pair) in seen:
        raise ValueError(f"the correlation of {pair[0]} and {pair[1]} is given twice")


def _covariates(file, at):
    for name, entry in file.covariates.items():
        with at("covariates", name, "follows"):
            if entry.follows and entry.follows not in file.parameters:
                raise ValueError(unknown("parameter", entry.follows, file.parameters))
    return {
        name: Covariate(name=name, **entry.model_dump()) for name, entry in file.covariates.items()
    }


def _covariate_effects(file, at):
    for i, entry in enumerate(file.covariate_effects):
        with at("covariate_effects", i, "parameter"):
            if entry.parameter not in file.parameters:
                raise ValueError(unknown("parameter", entry.parameter, file.parameters))
        with at("covariate_effects", i, "covariate"):
            if entry.covariate not in file.covariates:
                raise ValueError(unknown("covariate", entry.covariate, file.covariates))
    return tuple(
        CovariateEffect(**{**entry.model_dump(), "source": entry.source or file.source})
        for entry in file.covariate_effects
    )


def _residual_errors(file, structure, at):
    for name in file.residual_error:
        with at("residual_error", name):
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
