"""Variability as papers print it - SD, variance or CV - becomes a covariance matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bcellsim.library.schema import VariabilityEntry, VariabilityTable
from bcellsim.model import RandomEffects
from bcellsim.names import unknown

# A published SD of a logarithm lies between these (the largest in the library is 2.16): one outside
# was most likely printed on another scale than the one named.
_SMALLEST, _LARGEST = 0.01, 3.0
_LARGEST_CV = 500.0
_SCALES = {
    "sd": "an SD",
    "variance": "a variance",
    "cv_lognormal": "a CV in %",
}


def variance_of(value: float, scale: str) -> float:
    """Return the variance of eta; w^2 = ln(1 + CV^2) for a log-normal coefficient of variation."""
    if scale == "variance":
        return value
    if scale == "sd":
        return value**2
    cv = value / 100.0
    return math.log1p(cv**2) if scale == "cv_lognormal" else cv**2


def plausible_variance(entry: VariabilityEntry) -> float:
    """Return the variance of an entry.

    Raises
    ------
    ValueError
        If the number is one that its scale does not have, with the scales that it may have.
    """
    found = variance_of(entry.value, entry.scale)
    is_cv = entry.scale.startswith("cv")
    if _SMALLEST <= math.sqrt(found) <= _LARGEST and not (is_cv and entry.value > _LARGEST_CV):
        return found
    likely = [
        words
        for scale, words in _SCALES.items()
        if scale != entry.scale
        and _SMALLEST <= math.sqrt(variance_of(entry.value, scale)) <= _LARGEST
        and not (scale == "cv_lognormal" and not 1.0 <= entry.value <= _LARGEST_CV)
    ]
    given = f"a CV of {entry.value:g} %" if is_cv else f"{_SCALES[entry.scale]} of {entry.value:g}"
    fraction = is_cv and entry.value <= _LARGEST_CV / 100.0
    if fraction:
        likely = [f"a fraction (write {100 * entry.value:g})", *likely]
    elif is_cv and entry.value > _LARGEST_CV:
        likely = ["a percentage of something else", *likely]
    question = f"is it {' or '.join(likely)}?" if likely else "is it a misprint?"
    raise ValueError(f"{given} ({entry.scale}) is implausible: {question}")


def random_effects(
    table: VariabilityTable, parameters: Sequence[str], source: str, at, where: Sequence[str],
    correlations=None,
) -> RandomEffects:  # fmt: skip
    """Return the random effects of ``[iiv]`` or ``[iov]``.

    Parameters
    ----------
    table : VariabilityTable
        The table.
    parameters : sequence of str
        Parameters that may vary.
    source : str
        Source of the numbers that name none.
    at : callable(*keys)
        Context that puts file, line and key before a sentence.
    where : sequence of str
        The keys of the table of the correlations.
    correlations : list of CorrelationEntry, optional
        Those of a variant, instead of the table's own.

    Raises
    ------
    ValueError
        If a name is unknown, a number implausible, or the matrix not positive definite.
    """
    entries = table.model_extra
    names = tuple(entries)
    kind = "iiv" if where[0] == "variants" else where[0]
    variances = []
    for name, entry in entries.items():
        with at(kind, name):
            if name not in parameters:
                raise ValueError(unknown("parameter", name, parameters))
        with at(kind, name, "value"):
            variances.append(plausible_variance(entry))
    covariance = np.diag(np.array(variances, dtype=np.float64))
    _fill(covariance, names, table, at, kind, where, correlations)
    if len(names) and np.linalg.eigvalsh(covariance).min() <= 0:
        with at(*where):
            raise ValueError("the covariance matrix is not positive definite")
    return RandomEffects(
        names=names,
        distributions=tuple(entry.distribution for entry in entries.values()),
        covariance=covariance,
        sources=tuple(entry.source or source for entry in entries.values()),
    )


def _fill(covariance, names, table, at, kind, where, correlations):
    """Write the covariances, and those of the correlations, into the matrix."""
    own = table.correlations if correlations is None else correlations
    seen = set()
    for key, keys, pairs in (
        ("correlations", where, own),
        ("covariances", (kind,), table.covariances),
    ):
        for i, entry in enumerate(pairs):
            with at(*keys, key, i):
                _check_pair(entry.pair, names, seen)
            seen.add(frozenset(entry.pair))
            a, b = (names.index(name) for name in entry.pair)
            scale = math.sqrt(covariance[a, a] * covariance[b, b])
            if key == "covariances" and abs(entry.value) >= scale:
                with at(*keys, key, i, "value"):
                    raise ValueError(
                        f"a covariance of {entry.value:g} makes a correlation of "
                        f"{entry.value / scale:.3g}, which is not between -1 and 1"
                    )
            value = entry.value * (scale if key == "correlations" else 1.0)
            covariance[a, b] = covariance[b, a] = value


def _check_pair(pair, names, seen):
    for name in pair:
        if name not in names:
            raise ValueError(unknown("parameter with variability", name, names))
    if pair[0] == pair[1]:
        raise ValueError(f"the correlation of {pair[0]} with itself is 1 and cannot be given")
    if frozenset(pair) in seen:
        raise ValueError(f"the correlation of {pair[0]} and {pair[1]} is given twice")
