"""Covariates of subjects: body size, tables of patients, and the range that a study covered."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.event import Event, format_number
from bcellsim.model import Model

if TYPE_CHECKING:
    import pandas as pd

#: Covariates that any model accepts, because doses per kg or m2 need them, with their unit.
BODY_SIZE = {"WT": "kg", "HT": "cm", "BSA": "m2"}

#: The covariate by which the amount of a dose is multiplied.
PER = {"mg/kg": "WT", "mg/m2": "BSA"}

#: How BSA comes from weight and height where it is not given.
MOSTELLER = "sqrt(HT [cm] x WT [kg] / 3600) m2, Mosteller 1987 (N Engl J Med 317:1098)"

_MISSING = ("", ".", "NA")


def body_surface(weight, height):
    """Return the body surface area [m2] from weight [kg] and height [cm].

    Mosteller 1987 (N Engl J Med 317:1098).

    Examples
    --------
    >>> float(body_surface(80.0, 180.0))
    2.0
    """
    return np.sqrt(np.multiply(height, weight) / 3600.0)


def add_body_surface(values: dict[str, np.ndarray], given: Mapping) -> list[str]:
    """Put BSA from weight and height into `values`, unless it is given; return what was added.

    Raises
    ------
    ValueError
        If height is given and weight is not known.
    """
    if "HT" not in values or "BSA" in given:
        return []
    if "WT" not in values:
        raise ValueError("covariate HT is given without WT; the body surface area needs both")
    values["BSA"] = body_surface(values["WT"], values["HT"])
    return ["BSA"]


def origin_of_body_surface(values: Mapping[str, np.ndarray]) -> str:
    """Return the formula behind BSA or that there is none; ``""`` where there is no BSA."""
    if "BSA" not in values:
        return ""
    if {"WT", "HT"} <= set(values):
        computed = body_surface(values["WT"], values["HT"])
        if np.array_equal(values["BSA"], computed):
            return MOSTELLER
    return "taken as a covariate"


def amounts(doses: Iterable[Event], values: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """Return doses in mg, per body size and capped where they say so, (n_subjects, n_doses).

    Raises
    ------
    ValueError
        If a dose is per kg or m2 and the subjects have no such covariate.
    """
    columns = []
    for dose in doses:
        size = PER.get(dose.unit)
        if size and size not in values:
            raise ValueError(
                f"a dose in {dose.unit} needs covariate {size}, which the subjects do not have; "
                f"give it with the covariates of the population"
                + (", or WT and HT" if size == "BSA" else "")
            )
        amount = dose.amount * (values[size] if size else np.ones(n))
        columns.append(amount if dose.cap is None else np.minimum(amount, dose.cap))
    return np.column_stack(columns) if columns else np.zeros((n, 0))


def warn_outside(model: Model, values: Mapping[str, np.ndarray], given: Iterable[str]) -> None:
    """Warn, once a covariate, of values outside what the study of the model covered."""
    for sentence in outside_study(model, values, given):
        warnings.warn(sentence, stacklevel=4)


def outside_study(
    model: Model, values: Mapping[str, np.ndarray], given: Iterable[str]
) -> list[str]:
    """Return a sentence for each covariate with values outside what the model's study covered."""
    found = []
    for name in given:
        entry = model.covariates.get(name)
        if entry is None or not {"low", "high"} <= set(entry.study):
            continue
        low, high = entry.study["low"], entry.study["high"]
        value = np.atleast_1d(values[name])
        outside = np.count_nonzero((value < low) | (value > high))
        if outside:
            unit = f" {entry.unit}".rstrip()
            who = f"{outside} of {len(value)} subjects lie" if len(value) > 1 else (
                f"{value[0]:g}{unit} lies")  # fmt: skip
            found.append(
                f"covariate {name}: {who} outside the {low:g} to {high:g}{unit} of the patients "
                f"behind model {model.name}"
            )
    return found


def read_covariates(path: str | Path, names: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table of patients: CSV, a header of covariate names and a row a subject.

    Parameters
    ----------
    path : str or Path
        The file.
    names : iterable of str
        Covariates, whose columns must hold numbers; any other column may hold text.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such table, with file, line and column.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table of patients {path}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path}: not a CSV table (text in UTF-8)") from None
    if not rows:
        raise ValueError(f"{path}: the file is empty")
    (line, header), *rows = rows
    for name in header:
        if not name or header.count(name) > 1:
            what = f"{name} is there twice" if name else "has no name"
            raise ValueError(f"{path}, line {line}: a column {what}")
    if not rows:
        raise ValueError(f"{path}: the table has no rows")
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {line}: {len(row)} values, but the header has {len(header)} columns"
            )
    numeric = set(names)
    table = {}
    for j, name in enumerate(header):
        cells = [(f"{path}, line {line}, column {name}", row[j]) for line, row in rows]
        table[name] = [_number(*c) for c in cells] if name in numeric else [c for _, c in cells]
    return pd.DataFrame(table)


def _number(where, cell):
    if cell in _MISSING:
        raise ValueError(f"{where}: the value is missing")
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f'{where}: "{cell}" is not a number') from None
    if not math.isfinite(value):
        raise ValueError(f"{where}: {cell} is not a finite number")
    return value


def subject_names(table: pd.DataFrame) -> np.ndarray:
    """Return the names in column ID of a table of patients, or else numbers from 0.

    Raises
    ------
    ValueError
        If an ID stands in several rows.
    """
    if "ID" not in table.columns:
        return np.arange(len(table))
    names = [format_number(v) if isinstance(v, float) else str(v) for v in table["ID"]]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"the table of patients has {names.count(name)} rows of ID {name}; one a subject "
                "is wanted"
            )
    return np.array(names)
