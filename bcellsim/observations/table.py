"""Read a data file, or list everything that is wrong with it: one set of rules for both."""

from __future__ import annotations

import warnings
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from bcellsim.model import Model
from bcellsim.names import unknown
from bcellsim.observations import rules
from bcellsim.observations.cells import carried, read_rows
from bcellsim.observations.clock import read_times, set_clocks
from bcellsim.observations.columns import READ, Reading, percentage
from bcellsim.observations.faults import Fault, Findings
from bcellsim.observations.records import read_record
from bcellsim.units import convert, quantity, split_quantity

if TYPE_CHECKING:
    import pandas as pd

#: How a covariate holds between two records of it.
COVARIATE_RULES = ("locf", "nocb", "linear")


def read_observations(
    path: str | Path,
    *,
    unit: str = "cells/uL",
    lloq: float | str | None = None,
    time_unit: str = "d",
    alc_unit: str = "10^9/L",
    covariates: str = "locf",
    skip: str | None = None,
    model: Model | None = None,
) -> pd.DataFrame:
    """Read a table of doses and observations.

    Columns of the file (without regard to case): ID, TIME (numbers, or dates as ``2024-05-31`` or
    ``2024-05-31T08:30``), DV (``<5`` and ``>500`` are censored), AMT [mg], RATE or DUR, EVID (0 to
    4), CMT (of a dose ``sc``, ``iv`` or its state; of an observation an output or its state), DVID
    (an output), ADDL, II, SS, MDV, CENS, LIMIT, BLQ, LLOQ, ULOQ, UNIT (of DV, LLOQ, ULOQ and LIMIT:
    also ``%`` of lymphocytes and ``% of baseline``; of a dose also mg/kg and mg/m2), ALC (the
    lymphocyte count of the sample), VOLUME (counted [uL]) and OCC. Every other column is carried
    through: as numbers if all of it are, otherwise as the text it is.

    Parameters
    ----------
    path : str or Path
        The CSV file.
    unit : str
        Unit of counts where there is no UNIT column.
    lloq : float or str, optional
        Lower limit of quantification [cells/uL, or a text such as ``"0.1 %"``] of every count in
        that unit; a count below it is censored.
    time_unit : str
        Unit of TIME (where it is a number), II and DUR, and below the stroke of RATE.
    alc_unit : str
        Unit of ALC.
    covariates : str
        How a covariate holds between its records: ``"locf"`` (the last one carried forward),
        ``"nocb"`` (the next one backward) or ``"linear"``.
    skip : str, optional
        A column that marks, with anything but 0 or nothing, the rows to leave out.
    model : Model, optional
        The model whose states and outputs numbers in CMT and DVID count, and whose molar mass
        converts nmol/L.

    Returns
    -------
    pandas.DataFrame
        A row for each row of the file; `bcellsim.observations` describes the columns.

    Warns
    -----
    UserWarning
        For each thing that is probably a mistake.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        For the first thing that is wrong, with file, line and column; `check_data` lists all.
    """
    if covariates not in COVARIATE_RULES:
        raise ValueError(unknown("rule for covariates", covariates, COVARIATE_RULES))
    path = _file(path)
    how = _reading(unit, lloq, time_unit, alc_unit, skip, model)
    rows, records, faults = _examine(path, how)
    for fault in faults:
        if fault.severity == "error":
            raise ValueError(fault.sentence(path))
    for cause in _causes(faults):
        warnings.warn(cause.sentence(path), stacklevel=2)
    return _table(path, rows, records, faults, covariates)


def check_data(
    path: str | Path,
    *,
    unit: str = "cells/uL",
    lloq: float | str | None = None,
    time_unit: str = "d",
    alc_unit: str = "10^9/L",
    skip: str | None = None,
    model: Model | None = None,
) -> list[Fault]:
    """Return everything that is wrong or odd in a data file, by line.

    Parameters
    ----------
    path, unit, lloq, time_unit, alc_unit, skip, model
        As for `read_observations`, which raises for the first error and warns of the warnings.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    path = _file(path)
    return _examine(path, _reading(unit, lloq, time_unit, alc_unit, skip, model))[2]


def _file(path):
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no data file {path}")
    return path


def _reading(unit, lloq, time_unit, alc_unit, skip, model):
    """Return how to read a file; what is given is checked even where no row needs it."""
    if percentage(unit) is None:
        convert(1.0, unit, "cells/uL")
    limits = {}
    if lloq is not None:
        percent = isinstance(lloq, str) and lloq.strip().endswith("%")
        limit = split_quantity(lloq)[0] if percent else quantity(lloq, "cells/uL", what="lloq")
        if limit <= 0:
            raise ValueError(f"lloq = {limit:g}: a limit above 0 is wanted")
        limits = {"lloq_percent" if percent else "lloq": limit}
    return Reading(
        unit=unit, day=convert(1.0, time_unit, "day"), alc=convert(1.0, alc_unit, "cells/uL"),
        skip=(skip or "").upper(), model=model, **limits,
    )  # fmt: skip


def _examine(path, how):
    """Return the rows, their records, and every fault."""
    findings = Findings()
    rows = rules.kept(read_rows(path, findings), how.skip, findings)
    if not rows:
        return rows, [], findings.ordered()
    times = read_times(rows, how.day)
    records = [{**read_record(row, how), "TIME": t} for row, t in zip(rows, times, strict=True)]
    blocks = rules.by_subject(rows, records)
    for block in blocks:
        some = [rows[i] for i in block], [records[i] for i in block]
        set_clocks(*some)
        rules.check_subject(*some)
    rules.check_covariates(rows, blocks)
    rules.check_model(rows, how.model, findings)
    for row, record in zip(rows, records, strict=True):
        rules.check_alc(row, record)
    return rows, records, findings.ordered()


def _causes(faults):
    """Return one warning of each rule and column, the first, with the number of the others."""
    from dataclasses import replace

    warned = [fault for fault in faults if fault.severity == "warning"]
    warned.sort(key=lambda fault: (fault.rule, fault.column))
    for _, group in groupby(warned, key=lambda fault: (fault.rule, fault.column)):
        first, *others = group
        more = f" (and {len(others)} more such rows)" if others else ""
        yield replace(first, message=first.message + more)


def _table(path, rows, records, faults, rule):
    import pandas as pd

    names = rules.columns_of(records)
    table = pd.DataFrame(records, columns=names)
    if "DATE" in names:
        table["DATE"] = pd.to_datetime(table["DATE"])
    for name in rows[0].cells:
        if name not in READ:
            table[name] = carried(rows, name)
    table.attrs["source"] = str(path)
    table.attrs["covariate_rule"] = rule
    table.attrs["faults"] = [vars(fault) for fault in faults]
    return table
