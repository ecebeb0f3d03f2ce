"""The figure of the benchmark: subjects per second against achieved error, one line a method."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

#: Okabe and Ito's colours, told apart with any colour vision, and a marker besides.
STYLES = (
    ("#000000", "o"), ("#D55E00", "s"), ("#0072B2", "^"), ("#009E73", "D"), ("#CC79A7", "v"),
    ("#E69F00", "P"),
)  # fmt: skip

TITLES = {
    "W1": "W1: target-mediated PK, 28 SC doses, daily counts",
    "W2": "W2: linear PK, 5 infusions, weekly counts",
}


def draw(rows: list[dict], path: Path) -> None:
    """Write the figure of the rows of section `curves`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    methods = list(dict.fromkeys(row["method"] for row in rows))
    styles = dict(zip(methods, cycle(STYLES), strict=False))
    problems = [name for name in TITLES if any(row["problem"] == name for row in rows)]
    figure, axes = plt.subplots(
        1, len(problems), figsize=(5.2 * len(problems), 4.6), squeeze=False, layout="constrained"
    )
    for axis, problem in zip(axes[0], problems, strict=True):
        for method in methods:
            points = [row for row in rows if (row["problem"], row["method"]) == (problem, method)]
            if points:
                color, marker = styles[method]
                axis.loglog(
                    [row["error"] for row in points],
                    [row["subjects_per_s"] for row in points],
                    color=color, marker=marker, markersize=5, label=method,
                    linewidth=2.2 if method == "bcellsim" else 1.2,
                )  # fmt: skip
        axis.set(title=TITLES[problem], xlabel="Achieved error, largest |B − B_ref| / |B_ref| [-]")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("Subjects per second, one core [1/s]")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)
