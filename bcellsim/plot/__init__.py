"""Figures of results. Nothing is simulated or fitted here.

The data of a figure are the result it draws: a dataset, a table, or a fit with its tables.
"""

from bcellsim.plot.courses import trajectories
from bcellsim.plot.fits import fit, prior_posterior, profiles, residuals
from bcellsim.plot.forecasts import forecast, redose
from bcellsim.plot.grids import heatmap
from bcellsim.plot.style import save
from bcellsim.plot.sweeps import (
    parallel_coordinates,
    response_surface,
    sensitivities,
    small_multiples,
)

__all__ = [
    "fit",
    "forecast",
    "heatmap",
    "parallel_coordinates",
    "prior_posterior",
    "profiles",
    "redose",
    "residuals",
    "response_surface",
    "save",
    "sensitivities",
    "small_multiples",
    "trajectories",
]
