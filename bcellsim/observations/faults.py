"""What is wrong with a data file: where, which rule, how bad, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

#: From the worst: what cannot be read; what is read but is probably a mistake; what is to be known.
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Fault:
    """One thing to say about a data file.

    Parameters
    ----------
    severity : str
        One of `SEVERITIES`.
    line : int or None
        Line of the file, None for the file as a whole.
    column : str
        Column, empty for a whole row.
    value : str
        What stands there.
    rule : str
        Short name of the rule.
    message : str
        What is wrong.
    suggestion : str
        What to do about it.
    """

    severity: str
    line: int | None
    column: str
    value: str
    rule: str
    message: str
    suggestion: str = ""

    def sentence(self, source: str | Path) -> str:
        """Return it as one sentence that begins with the place."""
        place = [str(source)]
        place += [f"line {self.line}"] if self.line else []
        place += [f"column {self.column}"] if self.column else []
        return f"{', '.join(place)}: {self.message}" + (
            f"; {self.suggestion}" if self.suggestion else ""
        )


@dataclass
class Findings:
    """Faults as they are found; of one cell, only the first error counts."""

    faults: list[Fault] = field(default_factory=list)

    def add(self, severity, rule, message, *, line=None, column="", value="", suggestion=""):
        """Add a fault, unless that cell already has an error or the same fault."""
        fault = Fault(severity, line, column, str(value), rule, str(message), suggestion)
        known = [f for f in self._at(line, column) if f.severity == "error" or f.rule == rule]
        if not known:
            self.faults.append(fault)
            self._cells.setdefault((line, column), []).append(fault)

    _cells: dict = field(default_factory=dict)

    def _at(self, line, column):
        return self._cells.get((line, column), []) if line and column else []

    def ordered(self) -> list[Fault]:
        """Return the faults by line; those of a line as found."""
        return sorted(self.faults, key=lambda fault: fault.line or 0)
