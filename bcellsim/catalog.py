"""The page of all models and what their checks give: ``python -m bcellsim.catalog`` writes it."""

from __future__ import annotations

import math
import os
from pathlib import Path

from bcellsim.check import PUBLISHED, check_library
from bcellsim.library import list_models, load_model

#: Where the page is kept; a test holds it to what `catalog` gives.
PAGE = Path(__file__).parent / "library" / "MODELS.md"

_HEAD = """\
# Models and their checks

Written by `python -m bcellsim.catalog` from the model files and what their checks give; do not
edit. `bcellsim show MODEL` prints a model with the source of each number, `bcellsim check MODEL`
runs its checks. `reproduced` means that every gated published result is met; numbers obtained are
rounded to three digits.
"""


def catalog(table=None) -> str:
    """Return the page.

    Parameters
    ----------
    table : pandas.DataFrame, optional
        The checks of all models, as `check_library` gives them; run if not given.
    """
    table = check_library() if table is None else table
    models = list_models()
    numbers = [met(table[table["model"] == name]) for name in models["name"]]
    overview = models.assign(**{"published results met": numbers})
    overview["name"] = [f"[{name}](#{name})" for name in models["name"]]
    parts = [_HEAD, _markdown(overview)]
    parts += [_model(name, table[table["model"] == name]) for name in models["name"]]
    return "\n".join(parts)


def met(rows) -> str:
    """Return how many of a model's gated published results are met, as in ``"3 of 4"``."""
    gated = rows[(rows["section"] == PUBLISHED) & (rows["verdict"] != "note")]
    return f"{int((gated['verdict'] == 'passes').sum())} of {len(gated)}" if len(gated) else "-"


def _model(name, rows):
    model = load_model(name)
    doi = f", [doi:{model.doi}](https://doi.org/{model.doi})" if model.doi else ""
    lines = [f"## {name}", "", f"{model.title} ({model.citation}{doi}). Status: {model.label()}."]
    if model.missing:
        missing = "; ".join(
            f"{key}: {what}" if what else key for key, what in model.missing.items()
        )
        lines += ["", f"Not found in the publication: {missing}."]
    lines += ["", f"Not for: {model.not_for}"]
    general = rows[(rows["section"] != PUBLISHED) & (rows["verdict"] != "note")]
    failed = general[general["verdict"] == "FAILS"]["id"].tolist()
    lines += ["", f"Sources, dimensions, variability, reference subject, baseline, exposure: "
              f"{len(general) - len(failed)} of {len(general)} checks pass"
              + (f"; failed: {', '.join(failed)}." if failed else ".")]  # fmt: skip
    published = rows[rows["section"] == PUBLISHED]
    if len(published):
        lines += ["", _markdown(_published(published))]
        lines += [f"- {r.id}: {r.note}" for r in published.itertuples() if r.note]
    return "\n".join([*lines, ""])


def _published(rows):
    import pandas as pd

    return pd.DataFrame(
        {
            "check": rows["id"],
            "metric": [
                r.metric if r.statistic == "typical" else f"{r.metric}, {r.statistic}"
                for r in rows.itertuples()
            ],
            "unit": rows["unit"],
            "published": [f"{x:g}" for x in rows["expected"]],
            "allowed": [f"{r.low:g} to {r.high:g}" for r in rows.itertuples()],
            "obtained": ["-" if math.isnan(x) else f"{x:.3g}" for x in rows["obtained"]],
            "verdict": rows["verdict"],
            "source": rows["source"],
        }
    )


def _markdown(table):
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).values.tolist()]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def write() -> None:
    """Write the page, whole or not at all."""
    new = PAGE.with_suffix(".new")
    new.write_text(catalog(), encoding="utf-8")
    os.replace(new, PAGE)


if __name__ == "__main__":
    write()
