"""Figures of results. Nothing is simulated or fitted here.

The data of a figure are the result it draws: a dataset, a table, or a fit with its tables. Figures
of schedules and courses keep the table of what they draw: ``bc.plot.data(figure)``.
"""

from bcellsim.plot.courses import ribbons, trajectories
from bcellsim.plot.fits import fit, prior_posterior, profiles, residuals
from bcellsim.plot.forecasts import forecast, redose
from bcellsim.plot.schedules import forest, heatmap, pareto, search
from bcellsim.plot.style import data, save
from bcellsim.plot.subjects import survival, swimmer, tornado
from bcellsim.plot.sweeps import (
    parallel_coordinates,
    response_surface,
    sensitivities,
    small_multiples,
)

__all__ = [
    "data",
    "fit",
    "forecast",
    "forest",
    "heatmap",
    "parallel_coordinates",
    "pareto",
    "prior_posterior",
    "profiles",
    "redose",
    "residuals",
    "response_surface",
    "ribbons",
    "save",
    "search",
    "sensitivities",
    "small_multiples",
    "survival",
    "swimmer",
    "tornado",
    "trajectories",
]
