"""Settings of the whole test run."""

import os

import numpy as np
import pytest
from hypothesis import settings

from bcellsim.engine import Events, solve
from bcellsim.structures import STRUCTURES

# Kernels compile within a test, so no test has a deadline; in CI the same cases run every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session", autouse=True)
def _kernels():
    """Compile every kernel first: compiling says so on standard error, which tests look at."""
    nothing = Events.from_rows([[]], np.zeros(1))
    for structure in list(STRUCTURES.values()):
        one = np.ones((1, len(structure.parameters)))
        solve(structure, one, nothing, [0.0], backend="compiled")
