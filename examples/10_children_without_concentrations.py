"""A child after rituximab: counts, and no drug concentration. What do they say?"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import bcellsim as bc

SEED, SIGMA, LLOQ = 2, 0.4, 5.0
# Pan 2019 printed two rates; its baseline, potency and effect were not found. The other numbers are
# assumed here, to make counts and to begin the search: they are nobody's estimates.
ASSUMED = {"b0": 500.0, "a50": 10.0, "emax": 35.0}
DAYS = (0, 2, 5, 60, 120, 150, 180, 210, 240, 330)


def simulated_child(model, plan, folder):
    """Return a table of simulated counts of a child of 0.9 m2; B cells return slowly."""
    child = model.completed(ASSUMED)
    true = bc.simulate(child, plan, times=DAYS).bcell.values
    seen = true * np.exp(SIGMA * np.random.default_rng(SEED).standard_normal(len(DAYS)))
    rows = [(day, f"{day},.,{'<5' if count < LLOQ else round(float(count), 1)}")
            for day, count in zip(DAYS, seen, strict=True)]  # fmt: skip
    rows += [(dose.time, f"{dose.time:g},{dose.amount:g},.") for dose in plan.doses()]
    lines = [f"child,{text}" for _, text in sorted(rows, key=lambda row: row[0])]
    path = Path(folder) / "child.csv"
    path.write_text("\n".join(["ID,TIME,AMT,DV", *lines]) + "\n")
    return bc.read_observations(path)


def main(out=None):
    model = bc.load_model("pan2019_rituximab")  # K-PD: the dose itself drives the effect
    plan = bc.Regimen.parse("675 mg iv at 0 d, 14 d")  # 750 mg/m2 x 0.9 m2
    with tempfile.TemporaryDirectory() as folder:
        counts = simulated_child(model, plan, folder)
    print(f"Counts simulated with seed {SEED}: not those of a child.\n")

    # Without variability there is no prior. Potency and effect cannot be told from the loss of the
    # effect by one course of counts: they are held.
    held = {name: ASSUMED[name] for name in ("a50", "emax")}
    fit = bc.fit_individual(
        model, counts, prior=None, fixed=held, start={"b0": ASSUMED["b0"]}, sigma=SIGMA
    )
    print(fit.report())
    kel, kout = np.log(2) / fit.params.loc[["kel", "kout"], "value"]
    print(f"\nHalf-life of the effect {kel:.0f} d, of B-cell turnover {kout:.0f} d;")
    print("published for 39 children (Pan 2019): 19 d and 35 d.")
    if out:
        bc.plot.save(bc.plot.fit(fit), Path(out) / "10_children_without_concentrations.png")


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
