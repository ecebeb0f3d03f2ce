"""From a checked model file to a `Model`: numbers as printed become internal units."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from pathlib import Path

from bcellsim.formula import Formula
from bcellsim.library.schema import ModelFile
from bcellsim.library.tables import located
from bcellsim.library.variability import plausible_variance, random_effects
from bcellsim.model import (
    Check,
    Covariate,
    CovariateEffect,
    Drug,
    Model,
    Parameter,
    ResidualError,
)
from bcellsim.names import unknown
from bcellsim.structures import OUTPUTS, PARAMETERS, STRUCTURES, get_structure
from bcellsim.units import convert

#: What can be missing beside a parameter. `pk`: every parameter of the structure's PK.
MISSING = ("pk", "variability", "residual_error", "covariate_effects")


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
    definitions = _definitions(file, structure, at)
    where = ("variants", variant) if variant else ("iiv",)
    correlations = file.variants[variant].correlations if variant else None
    model = Model(
        name=f"{file.name}:{variant}" if variant else file.name,
        title=file.title,
        structure=structure,
        drug=drug,
        parameters=_parameters(file, structure, definitions, drug, at),
        definitions=definitions,
        random_effects=random_effects(
            file.iiv, list(file.parameters), file.source, at, where, correlations
        ),
        occasion_effects=random_effects(file.iov, list(file.parameters), file.source, at, ("iov",)),
        covariates=_covariates(file, at),
        covariate_effects=_covariate_effects(file, at),
        residual_error=_residual_errors(file, structure, drug, at),
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
        missing=_missing(file, structure, definitions, at),
        experimental=file.experimental,
        checks=_checks(file, at),
        path=str(path),
    )
    _require_parameters(model, at)
    return model


def _definitions(file, structure, at):
    """Return the formulas of the structure's parameters, each in the right unit."""
    found = {}
    units = {name: entry.unit for name, entry in PARAMETERS.items()}
    for name, text in file.definitions.items():
        with at("definitions", name):
            if name not in structure.parameters:
                raise ValueError(unknown("parameter", name, structure.parameters))
            if name in file.parameters:
                raise ValueError(f"{name} stands in [parameters] as well; give one of them")
            formula = Formula(text)
            for used in formula.names:
                if used not in PARAMETERS:
                    raise ValueError(unknown("parameter", used, PARAMETERS))
            formula.check_unit(units, PARAMETERS[name].unit)
        found[name] = formula
    return found


def _parameters(file, structure, definitions, drug, at):
    allowed = [*structure.parameters, *(n for f in definitions.values() for n in f.names)]
    found = {}
    for name, entry in file.parameters.items():
        with at("parameters", name):
            if name not in allowed:
                raise ValueError(unknown("parameter", name, allowed))
        with at("parameters", name, "unit"):
            value = convert(
                entry.value, entry.unit, PARAMETERS[name].unit, molar_mass=drug.molar_mass
            )
        with at("parameters", name, "value"):
            if value < 0:
                raise ValueError(f"{entry.value:g} is negative")
        source = entry.source or file.source
        source += f" (read in {entry.read_in})" if entry.read_in else ""
        found[name] = Parameter(value, entry.value, entry.unit, entry.fixed, source)
    return found


def _missing(file, structure, definitions, at):
    """Return what is missing: its name, and what the file says of it."""
    found = {}
    used = [name for formula in definitions.values() for name in formula.names]
    known = [*dict.fromkeys([*structure.parameters, *used]), *MISSING]
    for i, text in enumerate(file.missing):
        name, _, what = (part.strip() for part in text.partition(":"))
        with at("missing", i):
            if name not in known:
                raise ValueError(unknown("thing to be missing", name, known))
            if name in file.parameters:
                raise ValueError(f"{name} is said to be missing, but stands in [parameters]")
            if name == "pk" and not structure.pk:
                raise ValueError(f"structure {structure.name} has no PK apart from its B cells")
            if name == "variability" and file.iiv.model_extra:
                raise ValueError("the variability is said to be missing, but there is [iiv]")
        names = _of_pk(structure) if name == "pk" else [name]
        found |= dict.fromkeys(names, what)
    return found


def _of_pk(structure):
    """Return the parameters of a structure's PK, those that have no neutral value."""
    pk = STRUCTURES[structure.pk]
    return [name for name in pk.parameters if name not in pk.defaults]


def _require_parameters(model, at):
    absent = [name for name in model.absent() if name not in model.missing]
    if absent:
        with at("parameters"):
            raise ValueError(
                f"structure {model.structure.name} also needs {', '.join(absent)}: give them, or "
                "name them in missing"
            )


def _covariates(file, at):
    for name, entry in file.covariates.items():
        with at("covariates", name, "follows"):
            if entry.follows and entry.follows not in file.parameters:
                raise ValueError(unknown("parameter", entry.follows, file.parameters))
    return {
        name: Covariate(name=name, **entry.model_dump()) for name, entry in file.covariates.items()
    }


def _covariate_effects(file, at):
    found, seen = [], set()
    for i, entry in enumerate(file.covariate_effects):
        with at("covariate_effects", i, "parameter"):
            if entry.parameter not in file.parameters:
                raise ValueError(unknown("parameter", entry.parameter, file.parameters))
        with at("covariate_effects", i, "covariate"):
            if entry.covariate not in file.covariates:
                raise ValueError(unknown("covariate", entry.covariate, file.covariates))
            if (entry.parameter, entry.covariate) in seen:
                raise ValueError(
                    f"the effect of {entry.covariate} on {entry.parameter} is given twice"
                )
        seen.add((entry.parameter, entry.covariate))
        fields = {**entry.model_dump(), "source": entry.source or file.source}
        found.append(CovariateEffect(**fields))
    return tuple(found)


def _residual_errors(file, structure, drug, at):
    found = {}
    for name, entry in file.residual_error.items():
        with at("residual_error", name):
            if name not in structure.outputs:
                raise ValueError(unknown("output", name, structure.outputs))
        with at("residual_error", name, "unit"):
            unit = OUTPUTS[name].unit
            factor = convert(1.0, entry.unit or unit, unit, molar_mass=drug.molar_mass)
        with at("residual_error", name, "iiv"):
            variance = plausible_variance(entry.iiv) if entry.iiv else 0.0
        found[name] = _residual_error(entry, factor, variance, entry.source or file.source)
    return found


def _residual_error(entry, factor, variance, source):
    """Return a residual error; `factor` turns its unit into that of the output."""
    prop = entry.prop_sd or (entry.prop_cv or 0.0) / 100.0 or math.sqrt(entry.prop_variance or 0.0)
    add = entry.add_sd or math.sqrt(entry.add_variance or 0.0)
    return ResidualError(
        prop_sd=prop,
        add_sd=add * factor,
        log_sd=entry.log_sd or 0.0,
        form=entry.form,
        low_sd=entry.low_sd or 0.0,
        high_sd=entry.high_sd or 0.0,
        half=(entry.half or 0.0) * factor,
        variance=variance,
        factors=entry.factors,
        source=source,
    )


def _checks(file, at):
    counts = Counter()
    for i, entry in enumerate(file.checks):
        counts[entry.id] += 1
        with at("checks", i, "id"):
            if counts[entry.id] > 1:
                raise ValueError(f'two checks are named "{entry.id}"')
        with at("checks", i, "formula"):
            if entry.formula or entry.metric == "formula":
                Formula(entry.formula)
    return tuple(
        Check(**{**entry.model_dump(), "population": dict(entry.population or {})})
        for entry in file.checks
    )
