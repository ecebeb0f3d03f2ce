"""Subgroups of subjects: by a covariate, or by a parameter such as the baseline count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bcellsim.names import unknown
from bcellsim.population import Population

_QUARTILES = (0.25, 0.5, 0.75)
#: Up to so many different values are a group each (a 0/1 covariate).
_FEW = 4


class Group(NamedTuple):
    """Some of the subjects: what they are chosen by, a label, the range, and which they are."""

    by: str
    label: str
    low: float
    high: float
    members: np.ndarray

    def columns(self) -> dict:
        """Return the columns of a table that say which group a row is of."""
        return {
            "by": self.by, "group": self.label, "group_low": self.low, "group_high": self.high,
            "n_subjects": int(self.members.sum()),
        }  # fmt: skip


def read_by(by: str | Sequence[str] | Mapping[str, Sequence[float]]) -> dict:
    """Return what subjects are grouped by, and the cuts of each; None are quartiles."""
    if isinstance(by, str):
        return {by: None}
    if isinstance(by, Mapping):
        return {name: None if cuts is None else _cuts(name, cuts) for name, cuts in by.items()}
    return dict.fromkeys(by)


def _cuts(name, cuts):
    cuts = np.atleast_1d(np.asarray(cuts, dtype=np.float64))
    if not len(cuts) or not np.all(np.isfinite(cuts)) or np.any(np.diff(cuts) <= 0):
        raise ValueError(f"by {name}: cuts are finite numbers in ascending order, not {cuts}")
    return cuts


def values_of(people: Population, name: str) -> np.ndarray:
    """Return a covariate or an individual parameter of every subject (n_subjects,).

    Raises
    ------
    ValueError
        If the subjects have neither.
    """
    if name in people.covariates:
        return people.covariates[name]
    names = people.model.structure.parameters
    if name in names:
        column = people.parameters[..., names.index(name)]
        return column.reshape(len(people), -1)[:, 0]
    known = unknown("covariate or parameter", name, [*people.covariates, *names])
    raise ValueError(f"model {people.model.name}: {known}")


def groups(people: Population, by: Mapping) -> list[Group]:
    """Return all subjects, and then the groups by each name.

    Raises
    ------
    ValueError
        If a name is unknown, all subjects have the same value, or a group would be empty.
    """
    everybody = np.ones(len(people), dtype=bool)
    found = [Group("", "all", np.nan, np.nan, everybody)]
    for name, cuts in by.items():
        values = values_of(people, name)
        different = np.unique(values)
        if len(different) == 1:
            raise ValueError(
                f"by {name}: all subjects have {name} = {different[0]:g}; sample them, as in "
                f"{name}=study, or give a table"
            )
        if cuts is None and len(different) <= _FEW:
            found += [Group(name, f"{name} {v:g}", v, v, values == v) for v in different]
        else:
            found += _ranges(
                name, values, np.quantile(values, _QUARTILES) if cuts is None else cuts
            )
    return found


def _ranges(name, values, cuts):
    """Return the groups between cuts; a value at a cut belongs to the lower one."""
    place = np.searchsorted(cuts, values, side="left")
    edges = [values.min(), *cuts, values.max()]
    found = []
    for k in range(len(cuts) + 1):
        low, high, members = edges[k], edges[k + 1], place == k
        if not members.any():
            raise ValueError(
                f"by {name}: no subject lies between {low:.4g} and {high:.4g}; the values go from "
                f"{edges[0]:.4g} to {edges[-1]:.4g}"
            )
        found.append(Group(name, f"{name} {low:.3g}-{high:.3g}", low, high, members))
    return found
