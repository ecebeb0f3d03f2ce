"""The model card: a model as text, made from its data."""

from __future__ import annotations

import textwrap

import numpy as np

from bcellsim.structures import OUTPUTS, PARAMETERS

_WIDTH = 100


def model_card(model) -> str:
    """Return what a user must know of a model: numbers, sources, status, and what it is not for."""
    doi = f"  doi:{model.doi}" if model.doi else ""
    lines = [f"{model.name}: {model.title}", f"  {model.citation or 'no publication'}{doi}"]
    lines += _section("structure", [f"{model.structure.name}: {model.structure.title}"])
    lines += _section("drug", [_drug_line(model.drug, model.routes())])
    lines += _section("status", [_status_line(model)])
    lines += _section("study", [f"{key}: {value}" for key, value in model.study.items()])
    lines += _section("made of", _part_lines(model))
    lines += ["", "  parameters (typical; SD of the random effect)", *_parameter_lines(model)]
    lines += _section("definitions", [f"{k} = {v}" for k, v in model.definitions.items()])
    lines += _section("correlations", [", ".join(_correlations(model.random_effects))])
    lines += _section("between occasions (SD)", [_occasion_line(model.occasion_effects)])
    lines += _section("covariates", _covariate_lines(model))
    lines += _section("covariate effects", [", ".join(_effects(model.covariate_effects))])
    lines += _section("residual error (SD)", _residual_lines(model))
    lines += _section("sources", _source_lines(model))
    lines += _section("variants", [f":{k}  {v}" for k, v in model.variants.items()])
    lines += _section("not found in the publication", _missing_lines(model))
    lines += _section("checked against (`bcellsim check` says what it gives)", _check_lines(model))
    lines += _section("notes", [model.notes] if model.notes else [])
    lines += _section("context of use", [model.context_of_use])
    lines += _section("not for", [model.not_for])
    return "\n".join(lines)


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
        f"{model.label()}; numbers read in: {model.read_in}"
        + ("; EXPERIMENTAL" if model.experimental else "")
        + (
            f"; variant {model.variant} (the status is that of the default)"
            if model.variant
            else ""
        )
    )


def _parameter_lines(model):
    sd = model.random_effects.sd()
    width = max(9, *(len(name) + 1 for name in model.parameters))
    lines = []
    for name, parameter in model.parameters.items():
        internal = PARAMETERS[name].unit
        same = parameter.unit == internal or np.isclose(parameter.value, parameter.printed)
        printed = f"{parameter.printed:g} {parameter.unit}".rstrip()
        converted = "" if same else f" = {parameter.value:.4g} {internal}"
        spread = f"SD {sd[name]:.3g}" if name in sd else ""
        if name in sd and model.is_logit(name):
            spread += " (logit)"
        fixed = "fixed" if parameter.fixed else ""
        columns = f"    {name:{width}}{printed + converted:38} {spread or fixed:17} "
        lines.append(_folded(f"{columns}{PARAMETERS[name].meaning}"))
    return lines


def _correlations(effects):
    return [f"{a}-{b} {value:.3g}" for (a, b), value in effects.correlations().items()]


def _occasion_line(effects):
    sds = [f"{name} {value:.3g}" for name, value in effects.sd().items()]
    return ", ".join([*sds, *_correlations(effects)])


def _part_lines(model):
    """Return where each part of a combination comes from."""
    return [
        f"{what}: {part.name} ({part.citation or 'no publication'}, {part.label()}; "
        f"{part.study.get('disease') or 'disease not given'}, {part.drug.name})"
        for what, part in model.parts.items()
    ]


#: What a model cannot do without it.
_CANNOT = {
    "variability": "no population can be sampled, and it cannot be a prior",
    "residual_error": "a fit needs sigma",
    "covariate_effects": "every subject is like the reference one",
}


def _missing_lines(model):
    absent, names = model.absent(), {}
    for name, what in model.missing.items():
        told = what or (PARAMETERS[name].meaning if name in PARAMETERS else "")
        cannot = "needed to simulate; a fit needs its start" if name in absent else ""
        cannot = _CANNOT.get(name, cannot)
        names.setdefault("; ".join(text for text in (told, cannot) if text), []).append(name)
    return [f"{', '.join(alike)}: {text}" for text, alike in names.items()]


def _covariate_lines(model):
    lines = []
    for name, c in model.covariates.items():
        default = f", follows {c.follows}" if c.follows else ""
        default += ", counts the occasions" if c.occasion else ""
        study = ", ".join(f"{key} {value:g}" for key, value in c.study.items())
        lines.append(
            f"{name} [{c.unit or ('count' if c.occasion else '0/1')}] {c.meaning}; "
            f"reference {c.reference:g}{default}" + (f"; study: {study}" if study else "")
        )
    return lines


def _effects(effects):
    shapes = {
        "power": "({c}/{r:g})^{v:g}",
        "log_power": "(ln {c}/ln {r:g})^{v:g}",
        "factor": "{v:g}^{c}",
        "exponential": "exp({v:g} {shifted})",
        "linear": "(1 {sign} {size:g} {shifted})",
    }
    return [
        f"{e.parameter} x "
        + shapes[e.form].format(
            c=e.covariate, r=e.reference, v=e.value,
            sign="-" if e.value < 0 else "+", size=abs(e.value),
            shifted=f"({e.covariate} - {e.reference:g})" if e.reference else e.covariate,
        )
        for e in effects
    ]  # fmt: skip


def _source_lines(model):
    """Return a line a source; the commonest stands for all numbers not named with another."""
    found = sorted(model.sources().items(), key=lambda item: -len(item[1]))
    return [
        f"{source}: {'all other numbers' if i == 0 else ', '.join(numbers)}"
        for i, (source, numbers) in enumerate(found)
    ]


def _residual_lines(model):
    return [
        f"{name}: {error.described(OUTPUTS[name].unit)}"
        for name, error in model.residual_error.items()
    ]


def _check_lines(model):
    """Return a line a check; what it gives, `bcellsim check` says."""
    lines = []
    for c in model.checks:
        metric = c.metric if c.statistic == "typical" else f"{c.metric} ({c.statistic})"
        unit = f" {c.unit}".rstrip()
        gate = "" if c.gate else "; not gated"
        note = f" - {c.note}" if c.note else ""
        lines.append(f"{c.id}: {metric} {c.expected:g}{unit} ({c.low:g} to {c.high:g}{gate}){note}")
    return lines
