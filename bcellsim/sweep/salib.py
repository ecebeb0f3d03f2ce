"""Points of the designs of a sensitivity analysis, by SALib."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

#: Designs of a sensitivity analysis: a base point has a point for each factor, and so many more.
OF_SENSITIVITY = {"saltelli": 2, "morris": 1}


def problem_of(names) -> dict:
    """Return what SALib wants to know of factors in the unit cube."""
    return {"num_vars": len(names), "names": list(names), "bounds": [[0.0, 1.0]] * len(names)}


def salib():
    """Return the package SALib.

    Raises
    ------
    RuntimeError
        If it is not installed.
    """
    try:
        import SALib.analyze.morris
        import SALib.analyze.sobol
        import SALib.sample.morris
        import SALib.sample.sobol
    except ImportError:
        raise RuntimeError(
            'global sensitivity needs SALib: pip install "bcellsim[sensitivity]"'
        ) from None
    return SALib


@lru_cache(maxsize=1)
def shares(sampling: str, n_factors: int, seed: int, n: int) -> np.ndarray:
    """Return the points of a design on n base points, in the unit cube (n_points, n_factors)."""
    problem = problem_of([f"x{j}" for j in range(n_factors)])
    sample = salib().sample
    if sampling == "morris":
        return sample.morris.sample(problem, n, num_levels=4, seed=seed)
    return sample.sobol.sample(problem, n, calc_second_order=False, seed=seed)
