"""Standardised residuals of log-normal observations, exact and censored."""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr


def standardised_residuals(
    observed: np.ndarray,
    predicted: np.ndarray,
    sigma: np.ndarray,
    censored: np.ndarray,
    limit: np.ndarray,
) -> np.ndarray:
    """Return numbers whose sum of squares is -2 log L of a log-normal error, but for a constant.

    An exact row gives (log y - log f) / sigma. A row censored at y (the true value lies below it,
    and above `limit` where that is given) gives sqrt(-2 log P), P its probability: Beal's M3.

    Parameters
    ----------
    observed, predicted : float array (..., n_rows)
        Observed value or limit of quantification, and prediction; positive.
    sigma : float array (n_rows,)
        SD on the log scale.
    censored : bool array (n_rows,)
        Rows that are censored.
    limit : float array (n_rows,)
        Lower bound of a censored row; NaN where there is none.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (np.log(observed) - np.log(predicted)) / sigma
        below = log_ndtr(z)
        floor = log_ndtr((np.log(limit) - np.log(predicted)) / sigma)
        between = below + np.log1p(-np.exp(floor - below))
    log_probability = np.where(np.isnan(limit) | (limit <= 0), below, between)
    return np.where(censored, np.sqrt(np.maximum(-2.0 * log_probability, 0.0)), z)
