"""Extended intervals of ocrelizumab: what does the response that one assumes make of them?"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import bcellsim as bc

PK, SPREAD = "gibiansky2021_ocrelizumab", "davda2014_antibody"
LOADING = "300 mg iv over 2.5 h at 0 d, 14 d"
INTERVALS = ("24 w", "32 w", "40 w", "48 w")  # 24 weeks is the label
OBSERVED = Path(__file__).parent / "data" / "bcell_observations.csv"


def after_stopping(model, patients):
    """Print the mean count after three cycles beside that of a trial, in percent of baseline."""
    rows = pd.read_csv(OBSERVED)
    rows = rows[rows["study"].str.contains("Ocrelizumab phase II extension")]
    days, percent = rows["time_days"].astype(float), rows["value"].astype(float)
    three = f"{LOADING}; 600 mg iv over 3.5 h at 24 w, 48 w"
    times = [0.0, *(48 * 7 + days)]
    counts = bc.simulate(model, three, patients, until=max(times), times=times).bcell.values
    simulated = 100 * np.mean(counts[:, 1:] / counts[:, :1], axis=0)
    print("\nMean count after three cycles [% of baseline], digitised from a phase II extension:")
    for day, seen, found in zip(days, percent, simulated, strict=True):
        print(
            f"  {day / 7:3.0f} weeks after the last infusion: {seen:3.0f} seen, {found:3.0f} here"
        )


def main(n_subjects=500, response="chen2024_rituximab", intervals=INTERVALS, out=None):
    # The published ocrelizumab PK has typical values only and no B-cell model. It borrows the
    # variability of a typical antibody, and its response is yours to choose: the name of another
    # model, or the path of your own (see 04_add_a_drug.py). The card says what comes from where.
    model = bc.combine(PK, response, pk_variability=SPREAD)
    patients = bc.sample_population(model, n_subjects, seed=1)
    plans = bc.grid(dose="600 mg iv over 3.5 h", every=intervals, loading=LOADING)
    table = bc.explore(model, plans, patients, below=[10, 40], induction="12 w", until="4 y")
    print(f"{model.name}\n({model.label()}), {n_subjects} virtual patients, 4 years")
    print("interval  cells/uL  suppressed throughout  of the time   doses")
    for row in table.to_dict("records"):
        share, error = row["suppressed_throughout"], row["suppressed_throughout_mc_se"]
        print(f"{row['interval'] / 7:6.0f} w{row['threshold']:10g}{share:15.1%} ± {error:.1%}"
              f"{row['suppressed_fraction_mean']:13.1%}{row['n_doses']:8.0f}")  # fmt: skip
    after_stopping(model, patients)
    print(
        "Where the two differ, the response is not that of ocrelizumab in MS, and the intervals\n"
        "answer a question about the response assumed: try another one."
    )
    if out:
        figure = bc.plot.pareto(table, cost="n_doses")
        bc.plot.save(figure, Path(out) / "08_extended_ocrelizumab.png")


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
