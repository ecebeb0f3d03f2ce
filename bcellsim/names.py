"""Names in messages: the nearest valid choice for a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(what: str, given: str, known: Iterable[str]) -> str:
    """Say that `given` is not a known `what`, and name the nearest valid choice.

    Parameters
    ----------
    what : str
        The kind of thing, as in ``"model"``.
    given : str
        What the user wrote.
    known : iterable of str
        The valid choices.
    """
    known = sorted(known)
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5) or [
        name for name in known if name.lower() == given.lower()
    ]
    if near:
        return f'unknown {what} "{given}"; did you mean "{near[0]}"?'
    return f'unknown {what} "{given}"; known: {", ".join(known) or "none"}'
