"""What `check` prints: each section of the checks of a model, and what they add up to."""

from __future__ import annotations

import math

from bcellsim.catalog import met
from bcellsim.check import PUBLISHED
from bcellsim.cli.cards import aligned


def failures(table) -> int:
    """Return how many checks failed."""
    return int((table["verdict"] == "FAILS").sum())


def untrue(table) -> list[str]:
    """Return a sentence for each model whose file claims another status than its checks support."""
    claims = table["claimed"].isin(["transcribed", "reproduced"])
    wrong = table[claims & (table["claimed"] != table["supported"])].drop_duplicates("model")
    return [
        f"{row.model}: the file claims status {row.claimed}, its checks support {row.supported}"
        for row in wrong.itertuples()
    ]


def report(table) -> str:
    """Return the checks of models as text: a block a model, sections in it, then the sum."""
    blocks = []
    for name, rows in table.groupby("model", sort=False):
        lines = [f"{name} (status {rows['claimed'].iloc[0]})"]
        for section, some in rows.groupby("section", sort=False):
            lines += ["", f"  {section}", *_lines(some)]
        blocks.append("\n".join(lines))
    if table["model"].nunique() > 1:
        blocks.append(_overview(table))
    published = int((table["section"] == PUBLISHED).sum())
    n, failed = len(table), failures(table)
    blocks.append(f"{n} checks, of them {published} published results; {failed} failed")
    return "\n\n".join(blocks)


def _overview(table):
    import pandas as pd

    rows = [
        {"model": name, "status": some["claimed"].iloc[0], "published results met": met(some),
         "failed": failures(some)}
        for name, some in table.groupby("model", sort=False)
    ]  # fmt: skip
    return aligned(pd.DataFrame(rows))


def _lines(rows):
    cells = [_cells(row) for row in rows.itertuples()]
    widths = [max(map(len, column)) for column in zip(*(c for c, _ in cells), strict=True)]
    lines = []
    for row, (found, notes) in zip(rows.itertuples(), cells, strict=True):
        text = "  ".join(cell.ljust(w) for cell, w in zip(found, widths, strict=True))
        if row.section != PUBLISHED and len(notes) == 1:
            lines.append(f"    {text}  {notes[0]}".rstrip())
        else:
            lines += [f"    {text}".rstrip(), *(f"      {note}" for note in notes)]
    return lines


def _cells(row):
    """Return verdict, name, number and bounds of a check, and what is said below it."""
    unit = f" {row.unit}".rstrip()
    obtained = "" if math.isnan(row.obtained) else f"{row.obtained:.4g}{unit}"
    if row.section != PUBLISHED:
        return [row.verdict, row.id, obtained, _bounds(row)], [row.note]
    what = row.metric if row.statistic == "typical" else f"{row.metric}, {row.statistic}"
    expected = f"expected {row.expected:g}{unit}"
    told = row.verdict == "FAILS"
    notes = [f"source: {row.source}"] * told + [row.note] * bool(row.note)
    return [row.verdict, row.id, what, obtained, expected, _bounds(row)], notes


def _bounds(row):
    low, high = math.isfinite(row.low), math.isfinite(row.high)
    if row.verdict == "note" and row.section != PUBLISHED:
        return ""
    if low and high:
        return f"{row.low:g} to {row.high:g}" if row.low != row.high else "none allowed"
    if low:
        return "above 0" if row.low < 1e-300 else f"at least {row.low:g}"
    return f"at most {row.high:g}" if high else ""
