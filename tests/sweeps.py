"""A small design for the tests of sweeps."""

from pathlib import Path

import numpy as np

GRID = """
model = "yu2022_ofatumumab"
seed = 3
until = "16 w"
induction = "4 w"
thresholds = [10, 40]
chunk = 7
metrics = ["suppressed_throughout", "days_above", "time_to_repletion", "nadir"]

[constants]
standard = "20 mg sc"

[population]
n = 5

[schedule]
loading = "$standard at 0 d, 7 d, 14 d"

[factors.dose]
values = ["5 mg sc", "$standard"]

[factors.interval]
values = ["1 w", "4 w", "8 w"]

[factors.emax]
low = 0.5
high = 2.0
levels = 2
how = "multiply"
"""

SAMPLED = (
    GRID[: GRID.index("[factors.dose]")]
    .replace("chunk = 7", "chunk = 16")
    .replace(
        "seed", 'sampling = "sobol"\npoints = 12\ntrajectories = "4 w"\noutputs = ["bcell"]\nseed'
    )
    + """
[factors.dose]
low = "5 mg sc"
high = "60 mg sc"

[factors.interval]
low = "1 w"
high = "12 w"

[factors.kout]
how = "multiply"
distribution = "lognormal"
median = 1.0
cv = 0.3

[factors.WT]
low = 50
high = 120
"""
)

RULE = """
model = "yu2022_ofatumumab"
seed = 3
until = "24 w"
thresholds = 40
chunk = 4

[population]
n = 5

[schedule]
loading = "20 mg sc at 0 d, 7 d, 14 d"
visit_every = "4 w"
dose = "20 mg sc"
lloq = 1

[factors.at_or_above]
values = [5, 40]
"""

DESIGNS = {"grid": GRID, "sampled": SAMPLED, "rule": RULE}


def written(folder: Path, text: str, name: str = "design.toml") -> Path:
    """Write a design and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows(done) -> dict[str, np.ndarray]:
    """Return the columns of a sweep, but for the chunk, in the order of its files."""
    table = done.table.to_table(use_threads=False).to_pandas()
    table = table.drop(columns="chunk").sort_values(["scenario", "threshold"], kind="stable")
    return {name: table[name].to_numpy() for name in table}


def assert_same(one: dict, other: dict) -> None:
    """Assert that two tables are the same, bit for bit."""
    assert list(one) == list(other)
    for name, values in one.items():
        if values.dtype == object:
            assert values.tolist() == other[name].tolist(), name
        else:
            assert values.tobytes() == other[name].tobytes(), name


def checksums(done) -> dict[str, str]:
    """Return the checksum of every chunk."""
    return {k: entry["sha256"] for k, entry in done.manifest["chunks"].items()}
