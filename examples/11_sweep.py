"""10,000 scenarios: doses x intervals x strength of the effect x patients, from a design file."""

import sys
import tempfile
from pathlib import Path

import bcellsim as bc

DESIGN = Path(__file__).with_suffix(".toml")


def main(n_subjects=200, out=None):
    # The design is a file; here only the number of patients may differ from it.
    folder = Path(tempfile.mkdtemp())
    design = folder / DESIGN.name
    text = DESIGN.read_text(encoding="utf-8").replace("n = 200", f"n = {n_subjects}")
    design.write_text(text, encoding="utf-8")

    # Before a large one: how long will it take, and how much memory and disk?
    facts = bc.plan_sweep(design)
    print(f"{facts['scenarios']:,} scenarios, about {facts['seconds']:.0f} s")

    # Chunks are written one by one. Given again, the same line finishes a sweep that was stopped.
    done = bc.sweep(design, out=folder / "sweep")

    # The rows stay on disk; a summary reads what it needs.
    table = done.summary(["dose", "interval", "emax", "threshold"])
    table = table[table["threshold"] == 40]
    shares = table.pivot_table(
        index=["emax", "dose"], columns="interval", values="suppressed_throughout", sort=False
    )
    print("Share of patients at or below 40 cells/uL from week 12 on, by interval [day]:")
    print(shares.to_string(float_format=lambda x: f"{x:.0%}"))

    figure = bc.plot.small_multiples(
        table, "interval", "suppressed_throughout", panels="emax", lines="dose"
    )
    if out:
        figure.savefig(Path(out) / "11_sweep.png", dpi=150)


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
