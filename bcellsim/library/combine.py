"""A published PK with the B-cell response of another paper, or of one's own, kept apart by name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from bcellsim.model import Covariate, CovariateEffect, Model, RandomEffects
from bcellsim.structures import STRUCTURES, Structure

STATUS = "unpublished combination"

_NOTES = (
    "Unpublished: nobody has fitted this combination. Each block is whole from one source, nothing "
    "is mixed parameter by parameter. The turnover of B cells differs more than tenfold between "
    "papers (half-life 14 to 56 days, lifespan 391 days), because loss rate, potency and the tail "
    "of the drug trade off in each fit: what is simulated of the return of B cells is a question "
    "to data, not a prediction."
)


@dataclass(frozen=True)
class _Block:
    """The parameters of a model that belong to a part of its structure, and what acts on them."""

    model: Model
    parameters: dict
    definitions: dict
    random_effects: RandomEffects
    occasion_effects: RandomEffects
    effects: tuple[CovariateEffect, ...]
    covariates: dict[str, Covariate]
    missing: dict[str, str]


def combine_models(
    pk: Model, response: Model | None, pk_variability: Model | None, name: str | None
) -> Model:
    """Join blocks of loaded models; see `bcellsim.combine`."""
    if response is None and pk_variability is None:
        raise ValueError("a combination needs a response, or a PK variability to borrow")
    if response is not None and response.name == pk.name:
        raise ValueError(f"both blocks are of model {pk.name}: use it alone")
    pk_structure = _pk_of(pk.structure)
    structure = _joined(pk_structure, response) if response else pk_structure
    body = _block(pk, pk_structure.parameters)
    if pk_variability:
        body = _borrowed(body, pk_variability)
    blocks = [body]
    if response:
        names = [n for n in structure.parameters if n not in pk_structure.parameters]
        blocks.append(_block(response, names))
        _check_apart(*blocks)
    parts = {"pk": pk, "response": response, "variability of the pk": pk_variability}
    parts = {what: part for what, part in parts.items() if part}
    label = pk.name + (f"~{pk_variability.name}" if pk_variability else "")
    label += f"+{response.name}" if response else ""
    return _model(name or label, structure, blocks, parts)


def _pk_of(structure: Structure) -> Structure:
    """Return the structure that is the PK of another alone."""
    if structure.pk:
        return STRUCTURES[structure.pk]
    if "bcell" in structure.outputs:
        raise ValueError(f"structure {structure.name} has no PK apart from its B cells")
    return structure


def _joined(pk_structure, response):
    """Return the registered structure that is this PK with that response."""
    own = response.structure
    if not own.pk:
        raise ValueError(
            f"model {response.name}: structure {own.name} has no B-cell response apart from its PK"
        )
    wanted = set(own.parameters) - set(STRUCTURES[own.pk].parameters)
    fits = [
        structure
        for structure in STRUCTURES.values()
        if structure.pk == pk_structure.name
        and set(structure.parameters) - set(pk_structure.parameters) == wanted
    ]
    if not fits:
        names = [s.name for s in STRUCTURES.values() if s.pk == pk_structure.name]
        raise ValueError(
            f"no structure has the PK of {pk_structure.name} and the response of {own.name}; with "
            f"that PK there are: {', '.join(names) or 'none'}"
        )
    return own if own in fits else fits[0]


def _block(model: Model, names: Collection[str]) -> _Block:
    """Return what a model has for some parameters of its structure, with its name as the source."""
    definitions = {n: f for n, f in model.definitions.items() if n in names}
    chosen = {*names, *(n for formula in definitions.values() for n in formula.names)}
    effects = tuple(_named(model, e) for e in model.covariate_effects if e.parameter in chosen)
    general = ("variability", "covariate_effects", "residual_error")
    covariates = {
        name: covariate
        for name, covariate in model.covariates.items()
        if name in {effect.covariate for effect in effects}
    }
    return _Block(
        model=model,
        parameters={n: _named(model, p) for n, p in model.parameters.items() if n in chosen},
        definitions=definitions,
        random_effects=_sourced(model, model.random_effects.of(chosen)),
        occasion_effects=_sourced(model, model.occasion_effects.of(chosen)),
        effects=effects,
        covariates=covariates,
        missing={
            n: f"of {model.name}" + (f": {what}" if what else "")
            for n, what in model.missing.items()
            if n in chosen or n in general
        },
    )


def _named(model, entry):
    return replace(entry, source=f"{model.name}, {entry.source}")


def _sourced(model, effects):
    return replace(effects, sources=tuple(f"{model.name}, {source}" for source in effects.sources))


def _borrowed(block, lender):
    """Return the block with the variability of another model's PK."""
    model = block.model
    if block.random_effects.names:
        raise ValueError(
            f"model {model.name} has a variability of its own; none is borrowed for it"
        )
    if _pk_of(lender.structure) is not _pk_of(model.structure):
        raise ValueError(
            f"the variability of {lender.name} is of structure {lender.structure.name}, the PK of "
            f"{model.name} of {model.structure.name}: it cannot be borrowed"
        )
    lent = _sourced(lender, lender.random_effects.of(block.parameters))
    if not lent.names:
        raise ValueError(f"no parameter of the PK of {model.name} varies in model {lender.name}")
    missing = {name: what for name, what in block.missing.items() if name != "variability"}
    return replace(block, random_effects=lent, missing=missing)


def _check_apart(pk, response):
    """Raise ValueError if one name would mean two things."""
    for name in pk.parameters.keys() & response.parameters.keys():
        raise ValueError(
            f"parameter {name} stands in both blocks, {pk.model.name} and {response.model.name}"
        )
    for name in pk.covariates.keys() & response.covariates.keys():
        units = [block.covariates[name].unit for block in (pk, response)]
        if units[0] != units[1]:
            raise ValueError(
                f"covariate {name} is in {units[0]} in {pk.model.name} and in {units[1]} in "
                f"{response.model.name}"
            )


def _model(name, structure, blocks, parts):
    between, within = RandomEffects(), RandomEffects()
    for block in blocks:
        between = between.beside(block.random_effects)
        within = within.beside(block.occasion_effects)
    sources, titles = list(parts.values()), [block.model.title for block in blocks]
    limits = [f"{block.model.name}: {block.model.not_for}" for block in blocks]
    return replace(
        parts["pk"],
        name=name,
        title=f"{titles[-1]}, on the PK of: {titles[0]}" if len(titles) > 1 else titles[0],
        structure=structure,
        parameters={n: p for block in blocks for n, p in block.parameters.items()},
        definitions={n: f for block in blocks for n, f in block.definitions.items()},
        random_effects=between,
        occasion_effects=within,
        covariates={n: c for block in blocks[::-1] for n, c in block.covariates.items()},
        covariate_effects=tuple(effect for block in blocks for effect in block.effects),
        residual_error=_errors(structure, blocks),
        citation=" + ".join(part.citation or part.name for part in sources),
        doi=" + ".join(part.doi for part in sources if part.doi),
        read_in="; ".join(f"{part.name}: {part.read_in}" for part in sources),
        status=STATUS,
        study=_study(blocks),
        context_of_use="Asking what the parts would do together; fitting data with it.",
        not_for=" ".join(["Prediction as if published.", *limits]),
        notes="\n".join([_NOTES, *_remarks(blocks, parts.get("variability of the pk"))]),
        variant="",
        variants={},
        missing=_missing(blocks),
        experimental=any(part.experimental for part in sources),
        checks=(),
        parts=parts,
    )


def _missing(blocks):
    found = {}
    for block in blocks:
        for name, what in block.missing.items():
            found[name] = f"{found[name]}; {what}" if name in found else what
    return found


def _errors(structure, blocks):
    """Return the residual errors: of the concentration from the PK, of the count from the other."""
    found = {}
    for block in blocks[::-1]:
        for output, error in block.model.residual_error.items():
            is_count = output == "bcell"
            if output in structure.outputs and is_count == (block is not blocks[0]):
                found[output] = _named(block.model, error)
    return found


def _study(blocks):
    whats = ("PK", "response")
    told = {
        f"{key} ({what})": value
        for what, block in zip(whats, blocks, strict=False)
        for key, value in block.model.study.items()
        if key != "disease"
    }
    diseases = [
        f"{block.model.study.get('disease') or 'not given'} ({what})"
        for what, block in zip(whats, blocks, strict=False)
    ]
    return {"disease": ", ".join(diseases), **told}


def _remarks(blocks, lender):
    """Return what a reader must know of this combination."""
    lines = []
    for block in blocks:
        inside = set(block.random_effects.names)
        pairs = block.model.random_effects.correlations()
        cut = [f"{a}-{b}" for a, b in pairs if len({a, b} & inside) == 1]
        if cut:
            lines.append(
                f"Correlations of {block.model.name} across the blocks are left out: "
                f"{', '.join(cut)}."
            )
    if lender:
        names = blocks[0].random_effects.names
        rest = [name for name in blocks[0].parameters if name not in names]
        lines.append(
            f"The variability of {', '.join(names)} is borrowed from {lender.name}; "
            f"{', '.join(rest) or 'no parameter'} of the PK have none."
        )
    if len(blocks) == 2:
        lines += _differences(*blocks)
    return lines


def _differences(pk, response):
    lines = []
    if pk.model.drug.name != response.model.drug.name:
        lines.append(
            f"The response was estimated with {response.model.drug.name}, the PK is of "
            f"{pk.model.drug.name}: potency and effect are taken over as they are."
        )
    for name in pk.covariates.keys() & response.covariates.keys():
        mine, other = (block.covariates[name].reference for block in (pk, response))
        if mine != other:
            lines.append(
                f"{name}: the reference of the PK is {mine:g}, that of the response {other:g}; a "
                f"subject without a value has {mine:g}, and is not typical of the response."
            )
    return lines
