"""What `show` prints: the card of a model, regimen, drug or structure, or the list of all."""

from __future__ import annotations

import inspect
import sys

from bcellsim.names import unknown


def listing() -> dict:
    """Return a DataFrame for each kind of thing that `show` knows by name."""
    import pandas as pd

    from bcellsim.library import drug_names, list_models, list_regimens, load_drug
    from bcellsim.structures import STRUCTURES

    models = list_models()[["name", "drug", "disease", "status", "citation"]]
    regimens = list_regimens()[["name", "drug", "title"]]
    drugs = pd.DataFrame(
        [
            {
                "name": drug.name,
                "target": drug.target,
                "routes": ", ".join(drug.routes),
                "molar mass [kDa]": drug.molar_mass,
            }
            for drug in map(load_drug, drug_names())
        ]
    )
    structures = pd.DataFrame(
        [{"name": s.name, "outputs": ", ".join(s.outputs), "title": s.title}
         for s in STRUCTURES.values()]
    )  # fmt: skip
    return {"models": models, "regimens": regimens, "drugs": drugs, "structures": structures}


def aligned(table) -> str:
    """Write a table of words with its columns flush left."""
    rows = [list(table.columns), *table.astype(object).fillna("-").values.tolist()]
    cells = [[f"{v:g}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def card(name: str):
    """Return what to print about a name, and the same as plain data with tables left as such.

    Raises
    ------
    ValueError
        If nothing has that name.
    """
    from bcellsim.library import drug_names, load_model, load_regimen, model_names, regimen_names
    from bcellsim.structures import STRUCTURES

    if name in regimen_names() or any(c.isspace() for c in name.strip()):
        regimen = load_regimen(name)
        facts = {"regimen": regimen.name, "drug": regimen.drug, "source": regimen.source}
        return str(regimen), {**facts, "doses": regimen.table()}
    if name in drug_names():
        return _drug(name)
    if name in STRUCTURES:
        return _structure(STRUCTURES[name])
    known = [*model_names(), *regimen_names(), *drug_names(), *STRUCTURES]
    own = any(mark in name for mark in (".toml", "+", "~"))
    if name.partition(":")[0] not in model_names() and not own:
        raise ValueError(unknown("model, regimen, drug or structure", name, known))
    model = load_model(name)
    return str(model), {**model.summary(), "parameters": model.typical(), "card": str(model)}


def _drug(name):
    from bcellsim.library import list_models, list_regimens, load_drug

    drug = load_drug(name)
    used = {
        "models": [row.name for row in list_models().itertuples(index=False) if row.drug == name],
        "regimens": [
            row.name for row in list_regimens().itertuples(index=False) if row.drug == name
        ],
    }
    mass = f"{drug.molar_mass:g} kDa" if drug.molar_mass else "not given"
    lines = [
        f"{drug.name}: binds {drug.target}; given {', '.join(drug.routes)}",
        f"  molar mass: {mass} ({drug.source})" if drug.molar_mass else f"  source: {drug.source}",
        *([f"  {drug.notes}"] if drug.notes else []),
        *(f"  {kind}: {', '.join(names) or 'none'}" for kind, names in used.items()),
    ]
    return "\n".join(lines), {**vars(drug), **used}


def _equations(structure):
    """Return what the file of a structure says of its equations."""
    return inspect.cleandoc(sys.modules[structure.rhs.__module__].__doc__ or "")


def _structure(structure):
    from bcellsim.structures import OUTPUTS, PARAMETERS, STATES, STRUCTURES

    equations = _equations(structure)
    if structure.pk:
        equations += f"\n\n{structure.pk}: {_equations(STRUCTURES[structure.pk])}"
    lines = [f"{structure.name}: {structure.title}", "", equations]
    for what, register in (("states", STATES), ("parameters", PARAMETERS), ("outputs", OUTPUTS)):
        lines += ["", f"  {what}"]
        for name in getattr(structure, what):
            entry = register[name]
            default = structure.defaults.get(name)
            without = "" if default is None else f" (without it {default:g})"
            lines.append(f"    {name:14}{entry.unit:12}{entry.meaning}{without}".rstrip())
    routes = {route: entry.state for route, entry in structure.routes.items()}
    lines += ["", "  doses enter " + ", ".join(f"{s} ({r})" for r, s in routes.items())]
    facts = {
        "name": structure.name,
        "title": structure.title,
        "equations": equations,
        "states": list(structure.states),
        "parameters": list(structure.parameters),
        "outputs": list(structure.outputs),
        "defaults": dict(structure.defaults),
        "routes": routes,
    }
    return "\n".join(lines), facts
