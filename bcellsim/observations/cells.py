"""The cells of a CSV file: its rows as text, and text as numbers, with every fault noted."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path

from bcellsim.observations.faults import Findings

_MISSING = ("", ".", "NA")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Row:
    """One row: its line in the file, its cells by column, and where its faults are noted."""

    line: int
    cells: dict[str, str]
    findings: Findings

    def fault(self, severity, column, rule, message, suggestion=""):
        """Note a fault of one cell."""
        self.findings.add(
            severity, rule, message, line=self.line, column=column,
            value=self.cells.get(column, ""), suggestion=suggestion,
        )  # fmt: skip

    def error(self, column, rule, message, suggestion=""):
        """Note an error of one cell."""
        self.fault("error", column, rule, message, suggestion)

    def text(self, column: str) -> str:
        """Return the text of a cell, empty where it is missing."""
        given = self.cells.get(column, "")
        return "" if given in _MISSING else given

    def number(self, column: str, default: float = math.nan) -> float:
        """Return the number in a cell; NaN, and a fault, where it is none."""
        given = self.text(column)
        return self.parsed(column, given) if given else default

    def parsed(self, column: str, text: str) -> float:
        """Return text of a cell as a number; NaN, and a fault, where it is none."""
        try:
            return number(text)
        except ValueError as error:
            self.error(column, "number", error)
            return math.nan

    def one_of(self, column: str, choices: tuple[float, ...], default: float = 0) -> float:
        """Return one of some numbers; the default, and a fault, where it is another."""
        value = self.number(column, default)
        if value in choices:
            return value
        if not math.isnan(value):
            *most, last = (f"{choice:g}" for choice in choices)
            only = f"{', '.join(most)} and {last}"
            self.error(column, column.lower(), f"{value:g} is not supported; only {only} are")
        return default


def number(text: str) -> float:
    """Return a finite number, or raise ValueError saying why the text is none."""
    if not _NUMBER.fullmatch(text):
        if text.lstrip("+-").lower() in ("nan", "inf", "infinity"):
            raise ValueError(f"{text} is not a finite number")
        hint = "; write decimals with a point" if re.fullmatch(r"-?\d+,\d+", text) else ""
        raise ValueError(f'"{text}" is not a number{hint}')
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is not a finite number")
    return float(text)


def is_missing(cell) -> bool:
    """Return whether a cell, as text or as carried through, holds nothing."""
    return str(cell).strip() in (*_MISSING, "nan")


def carried(rows: list[Row], name: str) -> list:
    """Return a column that is not ours: numbers if all of it are, otherwise the text as it is."""
    texts = [row.text(name) for row in rows]
    try:
        return [number(text) if text else math.nan for text in texts]
    except ValueError:
        return [row.cells[name] for row in rows]


def read_rows(path: Path, findings: Findings) -> list[Row]:
    """Return the rows under the header; none where the file is no table, which is then a fault."""
    try:
        with path.open("rb") as file:
            if file.read(3) == _BOM:
                findings.add("note", "byte-order-mark", "the file begins with a byte-order mark",
                             line=1, suggestion="it is read all the same")  # fmt: skip
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells not in ([], [""])]
    except (csv.Error, UnicodeDecodeError) as error:
        findings.add("error", "table", f"not a CSV table: {error}")
        return []
    if not lines:
        findings.add("error", "table", "the file is empty")
        return []
    (top, header), *lines = lines
    names = _header(top, header, findings)
    if names and not lines:
        findings.add("error", "table", "the table has no rows")
    return _rows(names, lines, findings) if names else []


def _header(top, header, findings):
    """Return the names of the columns; none where they cannot be those of a table."""
    names = [cell.strip().upper() or f"COLUMN{i}" for i, cell in enumerate(header, 1)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        findings.add("error", "columns", f"column {name} stands there twice", line=top)
    for name in ("ID", "TIME"):
        if name not in names:
            separator = "separate columns by commas" if len(names) == 1 else ""
            findings.add(
                "error", "columns", f"there is no column {name}; columns are {', '.join(names)}",
                line=top, suggestion=separator,
            )  # fmt: skip
    return [] if any(f.severity == "error" for f in findings.faults) else names


def _rows(names, lines, findings):
    rows = []
    for line, cells in lines:
        if len(cells) > len(names):
            findings.add(
                "error", "columns", f"{len(cells)} values stand under {len(names)} columns",
                line=line, suggestion="write decimals with a point, and text with commas in quotes",
            )  # fmt: skip
            continue
        cells = [*map(str.strip, cells), *[""] * (len(names) - len(cells))]
        rows.append(Row(line, dict(zip(names, cells, strict=True)), findings))
    return rows
