"""Summaries of metrics over subjects, and paired differences between two schedules."""

from __future__ import annotations

import numpy as np

#: Normal quantile of intervals at 95 %.
Z95 = 1.959963984540054


def summarise(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Summarise metrics over subjects.

    Parameters
    ----------
    values : dict of str to float array (n_subjects,)
        Metrics; infinite where not reached, NaN where not defined.

    Returns
    -------
    dict
        ``suppressed_throughout`` is a share with its Monte-Carlo standard error; other metrics have
        mean (infinite where a value is), its Monte-Carlo standard error, median, 5 % and 95 %
        quantiles, and times also the share reached, of the subjects for whom they are defined.
    """
    row = {}
    for name, value in values.items():
        if name == "suppressed_throughout":
            share = float(np.mean(value))
            row[name] = share
            row[f"{name}_mc_se"] = float(np.sqrt(share * (1.0 - share) / len(value)))
            continue
        defined = np.sort(value[~np.isnan(value)])
        n, n_reached = len(defined), np.count_nonzero(np.isfinite(defined))
        # Where some do not reach it, the mean of those who do would be the mean of the early ones.
        row[f"{name}_mean"] = float(defined.mean()) if n else np.nan
        spread = defined.std(ddof=1) if n > 1 and n_reached == n else np.nan
        row[f"{name}_mc_se"] = float(spread / np.sqrt(n)) if n else np.nan
        for label, share in (("median", 0.5), ("p5", 0.05), ("p95", 0.95)):
            row[f"{name}_{label}"] = _quantile(defined, share)
        if name.startswith("time_to_"):
            row[f"{name}_reached_share"] = n_reached / n if n else np.nan
    return row


def _quantile(defined, share):
    """Return a quantile of ascending values, of which infinite ones are the largest."""
    if not len(defined):
        return np.nan
    position = share * (len(defined) - 1)
    low, high = defined[int(np.floor(position))], defined[int(np.ceil(position))]
    if not np.isfinite(high):
        return float(high if position > np.floor(position) else low)
    return float(low + (high - low) * (position - np.floor(position)))


def differences(
    values: dict[str, np.ndarray], reference: dict[str, np.ndarray]
) -> dict[str, float]:
    """Return the mean difference of each metric from a reference on the same subjects.

    Parameters
    ----------
    values, reference : dict of str to float array (n_subjects,)
        Metrics of the same subjects under two schedules.

    Returns
    -------
    dict
        ``<metric>_difference`` with a 95 % interval ``_difference_low`` and ``_difference_high``
        (Monte-Carlo error of the mean of paired differences). NaN where a value is infinite or not
        defined: a mean of those who reach it would compare different subjects. The interval of
        shares adds 1/2 to each cell of the table of pairs (Agresti & Min 2005,
        doi:10.1002/sim.1781), so that it has a width when no pair differs; a schedule from itself
        (`values` is `reference`) has none.
    """
    row, same = {}, values is reference
    for name, value in values.items():
        other = reference.get(name, np.full(len(value), np.nan))
        finite = np.isfinite(value) & np.isfinite(other)
        mean, low, high = np.nan, np.nan, np.nan
        if finite.all():
            pairs = value - other
            of = _of_shares if name == "suppressed_throughout" else _of_means
            mean, low, high = float(pairs.mean()), *((0.0, 0.0) if same else of(pairs))
        row[f"{name}_difference"] = mean
        row[f"{name}_difference_low"], row[f"{name}_difference_high"] = low, high
    return row


def _of_means(pairs):
    n = len(pairs)
    half = Z95 * pairs.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return float(pairs.mean() - half), float(pairs.mean() + half)


def _of_shares(pairs):
    n = len(pairs) + 2.0
    gained, lost = np.count_nonzero(pairs > 0) + 0.5, np.count_nonzero(pairs < 0) + 0.5
    centre = (gained - lost) / n
    half = Z95 * np.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    return float(centre - half), float(centre + half)
