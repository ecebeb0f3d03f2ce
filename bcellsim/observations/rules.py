"""Rules of a whole data file: subjects, duplicates, and what is read but can hardly be meant."""

from __future__ import annotations

import math
from itertools import pairwise

from bcellsim.model import Model
from bcellsim.observations.cells import Row, is_missing, number
from bcellsim.observations.columns import NOTHING, READ
from bcellsim.observations.faults import Findings
from bcellsim.units import DAYS_PER_YEAR

#: What a covariate of a patient can be: lowest, highest, unit. Wider than any patient of the
#: published models; beyond it a number is in another unit or mistyped.
POSSIBLE = {
    "WT": (0.5, 400.0, "kg"), "HT": (20.0, 250.0, "cm"), "BMI": (5.0, 150.0, "kg/m2"),
    "BSA": (0.1, 4.0, "m2"), "AGE": (0.0, 120.0, "y"),
    "SEX": (0.0, 2.0, ""), "SEXF": (0.0, 1.0, ""),
    "ALB": (0.5, 80.0, "g/dL or g/L"),
}  # fmt: skip
#: Lymphocytes in blood [cells/uL]: from the depletion of chemotherapy to leukaemia.
_LYMPHOCYTES = (10.0, 100_000.0)
_LONGEST = 20.0  # years of one patient's series
_SMALL_IV = 30.0  # mg: intravenous anti-CD20 doses are 100 mg and more, per kg 10 and less
#: Largest plausible dose of an antibody per body size.
_MOST_PER_SIZE = {"mg/kg": 50.0, "mg/m2": 1500.0}
_SAME_SIZE = 0.15  # rounding of doses to vials


def kept(rows: list[Row], flag: str, findings: Findings) -> list[Row]:
    """Return the rows without those that a column named by the user marks; tell of them."""
    if not rows or not flag:
        return rows
    if flag not in rows[0].cells:
        findings.add("error", "skip", f"column {flag}, which marks rows to leave out, is not there")
        return []
    left = [row for row in rows if row.text(flag) in ("", "0")]
    gone = [str(row.line) for row in rows if row.text(flag) not in ("", "0")]
    if gone:
        findings.add("note", "skip", f"left out, as column {flag} says: line {', '.join(gone)}")
    if not left:
        findings.add("error", "skip", f"column {flag} leaves out every row")
    return left


def check_model(rows: list[Row], model: Model | None, findings: Findings) -> None:
    """Note the covariates that a model needs and the file does not have."""
    for name, covariate in (model.covariates if model else {}).items():
        if name in rows[0].cells or covariate.default is not None or covariate.follows:
            continue
        findings.add("note", "covariate-of-model", f"there is no column {name} ({covariate.meaning}"
                     f"), which model {model.name} needs",
                     column=name, suggestion="add it, or give it with the fit")  # fmt: skip


def by_subject(rows: list[Row], records: list[dict]) -> list[list[int]]:
    """Return the positions of each block of rows with one ID; note an ID in two blocks."""
    blocks, seen, previous = [], set(), None
    for i, (row, record) in enumerate(zip(rows, records, strict=True)):
        subject = record["ID"]
        if previous is None or subject != previous:
            if subject and subject in seen:
                row.error("ID", "id-blocks", f"subject {subject} stands in two separate blocks",
                          "move its rows together, or give one of them another ID")  # fmt: skip
            seen.add(subject)
            blocks.append([])
        blocks[-1].append(i)
        previous = subject
    return blocks


def check_subject(rows: list[Row], records: list[dict]) -> None:
    """Note what is odd in the rows of one subject, and number its replicates."""
    _duplicates(rows, records)
    _before_first_dose(rows, records)
    _time_unit(rows, records)
    _dose_size(rows, records)


def _duplicates(rows, records):
    """Number the observations of one output at one time; name what stands there twice."""
    seen = {}
    for row, record in zip(rows, records, strict=True):
        unread = math.isnan(record["TIME"])
        if unread or record["EVID"] == 2 or (record["EVID"] == 0 and record["MDV"] in (1, 101)):
            continue
        dose = record["EVID"] != 0
        clock = round(record["CLOCK"], 6)  # without what sets a row after a dose of its TIME
        key = (clock, record["EVID"], record["CMT"] if dose else record["DVID"])
        others = seen.setdefault(key, [])
        for other, earlier in others:
            if row.cells == other.cells:
                row.findings.add(
                    "warning", "duplicate", f"the same as line {other.line}; "
                    f"{'both doses count' if dose else 'both are used'}",
                    line=row.line, suggestion="delete one if it is a copy",
                )  # fmt: skip
                break
            if not dose and not _agree(record, earlier):
                row.fault("warning", "DV", "replicates", f"{record['DVID']} is {row.text('DV')} "
                          f"here and {other.text('DV')} in line {other.line}, at the same time; "
                          "both are used, as replicates")  # fmt: skip
                break
        record["REP"] = 1 if dose else len(others) + 1
        others.append((row, record))


def _agree(a, b):
    return all(a[name] == b[name] for name in ("DV", "CENS", "UNIT"))


def _before_first_dose(rows, records):
    doses = [i for i, r in enumerate(records) if r["EVID"] in (1, 4)]
    early = [i for i, r in enumerate(records[: doses[0]] if doses else []) if not _unseen(r)]
    for output in dict.fromkeys(records[i]["DVID"] for i in early):
        lines = [rows[i].line for i in early if records[i]["DVID"] == output]
        if len(lines) > 1:
            first = rows[early[0]]
            first.findings.add(
                "note", "baselines", f"{len(lines)} observations of {output} stand before the "
                f"first dose (lines {', '.join(map(str, lines))}); all are used, once each",
                line=lines[0],
            )  # fmt: skip
    times = [r["CLOCK"] for r in records if r["EVID"] == 0 and not _unseen(r)]
    if doses and times and records[doses[0]]["CLOCK"] > max(times):
        rows[doses[0]].fault("warning", "TIME", "doses-late", "every dose comes after the last "
                             "observation", "are the times on one clock?")  # fmt: skip


def _unseen(record):
    return record["EVID"] != 0 or math.isnan(record["DV"])


def _time_unit(rows, records):
    """Note times that look like hours read as days, or days read as hours."""
    times = sorted({abs(r["TIME"]) for r in records} - {0.0})
    intervals = [r["II"] for r in records if r["II"]]
    doses = sorted({r["TIME"] for r in records if r["EVID"] in (1, 4)})
    intervals += [b - a for a, b in pairwise(doses)]
    if not times:
        return
    last, row = times[-1], rows[-1]
    whole = [t % 24 == 0 for t in (*times, *intervals)]
    if last > _LONGEST * DAYS_PER_YEAR or (len(times) > 2 and all(whole)):
        row.fault("warning", "TIME", "hours-for-days", f"the last time is {last:g} d, with doses "
                  f"{min(intervals):g} d apart" if intervals else f"the last time is {last:g} d",
                  "if TIME is in hours, say so: time_unit h")  # fmt: skip
    elif intervals and 0 < max(intervals) < 1:
        row.fault("warning", "TIME", "days-for-hours", f"doses are {max(intervals):g} d apart",
                  "is time_unit the unit of TIME?")  # fmt: skip


def _dose_size(rows, records):
    """Note doses that look like mg/kg or mg/m2 given as mg, or the reverse."""
    given = [(row, r) for row, r in zip(rows, records, strict=True) if r["AMT"] > 0]
    largest = max((r["AMT"] for _, r in given if r["PER"] == "mg"), default=0.0)
    sizes = [number(row.cells["WT"]) for row in rows if _is_number(row.cells.get("WT", ""))]
    for row, record in given:
        amount, per = record["AMT"], record["PER"]
        if per != "mg" and amount > _MOST_PER_SIZE[per]:
            row.fault("warning", "AMT", "mg-per-size", f"a dose of {amount:g} {per}",
                      "if it is mg, write that in column UNIT")  # fmt: skip
        elif per == "mg" and sizes:
            smaller = abs(amount * sizes[0] / largest - 1.0) < _SAME_SIZE
            if smaller or (record["CMT"] == "iv" and amount < _SMALL_IV):
                row.fault("warning", "AMT", "mg-per-size", f"a dose of {amount:g} mg with WT "
                          f"{sizes[0]:g}", "if it is mg/kg, write that in column UNIT")  # fmt: skip


def _is_number(text):
    try:
        return math.isfinite(number(text))
    except ValueError:
        return False


def check_covariates(rows: list[Row], blocks: list[list[int]]) -> None:
    """Note covariates that are impossible, or missing for some subjects, and mixed columns."""
    for name in rows[0].cells:
        if name in POSSIBLE:
            low, high, unit = POSSIBLE[name]
            for row in rows:
                value = row.number(name)
                if value < low or value > high:
                    row.error(name, "covariate-range", f"{value:g} is no {name} a patient can have "
                              f"({low:g} to {high:g} {unit})".replace(" )", ")"))  # fmt: skip
            _missing_covariates(rows, blocks, name)
        elif name not in READ:
            _mixed(rows, name)
    for row in rows:
        if row.text("ALC"):
            _check_lymphocytes(row)


def _check_lymphocytes(row):
    value = row.number("ALC")
    if value <= 0:
        row.error("ALC", "covariate-range", f"{value:g}: a lymphocyte count above 0 is wanted")


def check_alc(row: Row, record: dict) -> None:
    """Note a lymphocyte count that is in another unit than the one declared."""
    low, high = _LYMPHOCYTES
    if 0 < record["ALC"] < low or record["ALC"] > high:
        row.error("ALC", "alc-unit", f"{row.text('ALC')} is {record['ALC']:g} lymphocytes/uL; "
                  f"{low:g} to {high:g} are possible", "declare the unit: alc_unit")  # fmt: skip


def _missing_covariates(rows, blocks, name):
    for block in blocks:
        if all(is_missing(rows[i].cells[name]) for i in block):
            first = rows[block[0]]
            first.fault("warning", name, "covariate-missing",
                        f"subject {first.text('ID')} has no {name} in any row")  # fmt: skip


def _mixed(rows, name):
    """Note a column that is text because of some of its cells."""
    texts = [row for row in rows if row.text(name) and not _is_number(row.text(name))]
    n = sum(1 for row in rows if row.text(name))
    if texts and 2 * len(texts) < n:
        row = texts[0]
        row.fault("warning", name, "mixed-column", f'"{row.text(name)}" is not a number, unlike '
                  "most of the column, which is carried through as text")  # fmt: skip


def columns_of(records: list[dict]) -> list[str]:
    """Return the columns of the table; DATE where the file has dates."""
    dated = any(record["DATE"] is not None for record in records)
    return [name for name in NOTHING if name != "DATE" or dated]
