"""Settings of the whole test run."""

import os

from hypothesis import settings

# Kernels compile within a test, so no test has a deadline; in CI the same cases run every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
