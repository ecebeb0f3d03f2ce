"""Tallies: what is accumulated over a subject's course while it is integrated.

A tally of an output gives two numbers a subject, within a window of time. Every kind has two forms
that agree: in the loop of the compiled backend (`kernel_tally.py`), where nothing the size of a
trajectory is stored, and of a recorded trajectory (`course.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bcellsim.names import unknown

#: Kinds of tally by name: code, and what the two numbers are.
KINDS = {
    "above": (0, "time above the level [day], and 1 where it was ever above"),
    "below": (1, "first time at or below the level [day], and then first time above it again"),
    "lowest": (2, "smallest value, and when [day]"),
    "highest": (3, "largest value, and when [day]"),
    "integral": (4, "integral over time, and the time [day] it is over"),
    "marked": (5, "smallest of the values just before the marks, and when [day]"),
}
ABOVE, BELOW, LOWEST, HIGHEST, INTEGRAL, MARKED = range(6)


@dataclass(frozen=True)
class Tally:
    """What to accumulate of an output.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    output : str
        The output.
    opens, closes : float or tuple of float (n_subjects,)
        The window [day], or that of each subject.
    level : float
        Level, for ``"above"`` and ``"below"``, in the unit of the output.
    marks : tuple of float
        Times [day], for ``"marked"``; those outside the window do not count.

    Raises
    ------
    ValueError
        If the kind is unknown, a window has no beginning or end, or marks have several windows.
    """

    kind: str
    output: str
    opens: float | tuple[float, ...] = -np.inf
    closes: float | tuple[float, ...] = np.inf
    level: float = np.nan
    marks: tuple[float, ...] = ()

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(unknown("tally", self.kind, KINDS))
        opens, closes = np.broadcast_arrays(self.opens, self.closes)
        wrong = np.flatnonzero(~(opens < closes))
        if len(wrong):
            raise ValueError(
                f"the window of a tally closes at {closes.flat[wrong[0]]:g} d; later than it "
                f"opens, at {opens.flat[wrong[0]]:g} d, is wanted"
            )
        if self.kind == "marked" and opens.ndim:
            raise ValueError("marked values have one window for all subjects")
        if self.kind in ("above", "below") and not np.isfinite(self.level):
            raise ValueError(f'a tally of the time "{self.kind}" needs a level')

    @property
    def code(self) -> int:
        """Return the code of the kind."""
        return KINDS[self.kind][0]

    def part(self, subjects: np.ndarray) -> Tally:
        """Return the tally of some subjects, in the order given."""
        own = {
            name: tuple(np.asarray(value)[subjects].tolist())
            for name, value in (("opens", self.opens), ("closes", self.closes))
            if isinstance(value, tuple)
        }
        return replace(self, **own) if own else self
