"""One self-contained page of a run: question, answer, tables, figures, models, how to repeat it.

The page is a single HTML file that opens without a network: figures are embedded, there is no
script and nothing is loaded.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from bcellsim.model import Model

__all__ = ["MISSING", "Picture", "available", "page"]

#: What is said where the page cannot be made.
MISSING = (
    "report.html is not written: it needs jinja2, which `pip install jinja2` brings (the extra "
    '"report" of bcellsim)'
)


class Picture(NamedTuple):
    """A figure of the page: its SVG, what it shows, and the file of its data."""

    svg: bytes
    caption: str
    data: str = ""

    @property
    def uri(self) -> str:
        """Return the figure as the source of an image."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


def available() -> bool:
    """Return whether the page can be made: jinja2 is installed."""
    return find_spec("jinja2") is not None


def page(
    *,
    title: str,
    question: str,
    answer: Sequence[str],
    settings: Mapping[str, str],
    tables: Mapping[str, pd.DataFrame],
    pictures: Sequence[Picture],
    models: Sequence[Model],
    limits: Sequence[str],
    reproduction: Mapping[str, Mapping[str, str]],
    command: str,
) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    title : str
        Title of the page.
    question : str
        What was asked, in a sentence.
    answer : sequence of str
        Sentences.
    settings : mapping of str to str
        What the question rests on: threshold, window, subjects.
    tables : mapping of str to DataFrame
        Tables by their caption.
    pictures : sequence of Picture
        Figures, in order.
    models : sequence of Model
        Models whose cards are shown.
    limits : sequence of str
        What the answer does not say.
    reproduction : mapping of str to mapping
        Versions, hashes of inputs and the like, by heading.
    command : str
        What was typed.

    Raises
    ------
    ModuleNotFoundError
        If jinja2 is not installed.
    """
    if not available():
        raise ModuleNotFoundError(MISSING)
    import jinja2

    template = resources.files("bcellsim.report").joinpath("page.html").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(
        title=title, question=question, answer=answer, settings=settings,
        tables={caption: _cells(table) for caption, table in tables.items()}, pictures=pictures,
        models=models, limits=limits, reproduction=reproduction, command=command,
    )  # fmt: skip


def _cells(table):
    """Return head and rows of a table as (text, whether it is a number)."""
    numeric = [kind.kind in "fiu" for kind in table.dtypes]
    head = [(str(name), number) for name, number in zip(table, numeric, strict=True)]
    rows = [
        [(_text(value), number) for value, number in zip(row, numeric, strict=True)]
        for row in table.itertuples(index=False)
    ]
    return {"head": head, "rows": rows}


def _text(value):
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "–"
    return "not reached" if math.isinf(value) else f"{value:.4g}"
