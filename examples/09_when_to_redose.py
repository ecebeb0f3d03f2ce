"""When does a patient with autoimmune encephalitis, 20 mg at weeks 0, 1, 6 and 12, need a dose?"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import bcellsim as bc

SEED, LLOQ = 3, 5.0
VISITS = (0, 14, 42, 84, 112)  # days of the counts


def simulated_patient(model, plan, folder):
    """Return a table of counts. They are simulated, with the error of the model: nobody's."""
    person = bc.sample_population(model, 1, covariates={"WT": 64, "AGE": 31}, seed=SEED)
    true = bc.simulate(model, plan, person, times=VISITS).bcell.values[0]
    sd = model.residual_error["bcell"].prop_sd
    seen = true * np.exp(sd * np.random.default_rng(SEED).standard_normal(len(true)))
    text = [f"<{LLOQ:g}" if count < LLOQ else f"{count:.1f}" for count in seen]
    counts = pd.DataFrame({"TIME": VISITS, "DV": text})
    doses = pd.DataFrame({"TIME": [d.time for d in plan.doses()], "AMT": 20, "CMT": "sc"})
    rows = pd.concat([counts, doses]).sort_values("TIME", kind="stable")
    path = Path(folder) / "patient.csv"
    rows.assign(ID="AE-1", WT=64, AGE=31).to_csv(path, index=False)
    return bc.read_observations(path)


def main(draws=1000, starts=8, out=None):
    model = bc.load_model("yu2022_ofatumumab")
    plan = bc.load_regimen("ofatumumab_ae_ruijin")  # 20 mg at weeks 0, 1, 6, 12
    with tempfile.TemporaryDirectory() as folder:
        counts = simulated_patient(model, plan, folder)

    # The model was built in multiple sclerosis; what it knows of this patient are these counts.
    fit = bc.fit_individual(model, counts, starts=starts)
    print(f"Counts simulated with seed {SEED}: not those of a patient.\n")
    advice = bc.redose(
        fit, dose="20 mg sc", below=10, probability=0.9, until="1 y", draws=draws, seed=1,
        disease="autoimmune encephalitis",
    )  # fmt: skip
    print(advice.report())
    if out:
        bc.plot.save(bc.plot.redose(advice), Path(out) / "09_when_to_redose.png")


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
