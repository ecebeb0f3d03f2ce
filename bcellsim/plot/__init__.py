"""Figures of results. Nothing is simulated or fitted here.

The data of a figure are the result it draws: a dataset, a table, or a fit with its tables.
"""

from bcellsim.plot.courses import trajectories
from bcellsim.plot.fits import fit, prior_posterior, profiles, residuals
from bcellsim.plot.forecasts import forecast, redose
from bcellsim.plot.grids import heatmap
from bcellsim.plot.style import save

__all__ = [
    "fit",
    "forecast",
    "heatmap",
    "prior_posterior",
    "profiles",
    "redose",
    "residuals",
    "save",
    "trajectories",
]
