"""Settings of the whole test run."""

import os
from dataclasses import replace

import cases
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
    """Compile the kernels first: compiling says so on standard error, which tests look at.

    Two workers share a cache and begin at different ends, so that each compiles half of them.
    """
    work = []
    for structure in (s for s in cases.ALL if s.name not in cases.SELDOM):
        ones = dict.fromkeys(structure.parameters, 1.0)
        work.append((replace(structure, linear=()), ones))
        if structure.linear:
            work.append((structure, {**ones, **structure.linear_when}))
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw1":
        work.reverse()
    nothing = Events.from_rows([[]], np.zeros(1))
    for structure, values in work:
        one = np.array([[values[name] for name in structure.parameters]])
        solve(structure, one, nothing, [0.0], backend="compiled")


@pytest.fixture(autouse=True)
def _registered():
    """Leave the registry as it was: tests and examples register structures of their own."""
    before = dict(STRUCTURES)
    yield
    STRUCTURES.clear()
    STRUCTURES.update(before)
