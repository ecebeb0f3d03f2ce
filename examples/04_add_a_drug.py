"""How is a drug added? With one TOML file: the numbers of its paper, as printed."""

import sys
from pathlib import Path

import bcellsim as bc

# The file names a structure and gives the drug, the parameters with units and variability, what
# covariates do, the residual error, and published results to be met. All its numbers are invented.
FILE = Path(__file__).parent / "data" / "invented_antibody.toml"


def main(n_subjects=200, until="1 y", out=None):
    # Its path stands wherever a model is named. The command line does the same:
    #   bcellsim check examples/data/invented_antibody.toml
    #   bcellsim simulate examples/data/invented_antibody.toml --regimen "500 mg iv" --until 1y
    model = bc.load_model(FILE)
    print(model)
    print()
    print(bc.check_model(model)[["id", "verdict", "obtained", "expected"]].to_string(index=False))

    # Patients like those of the study, with a weight in its range, under two schedules.
    patients = bc.sample_population(model, n_subjects, covariates="study", seed=1)
    plans = ["500 mg iv over 4 h at 0 d, 14 d", "500 mg iv over 4 h q24w"]
    table = bc.explore(model, plans, patients, below=10, until=until)
    print()
    for row in table.itertuples():
        print(f"{row.regimen}: at or below 10 cells/uL {row.suppressed_fraction_mean:.0%} of the "
              f"time after day 28, {row.cumulative_dose:.0f} mg")  # fmt: skip
    if out:
        figure = bc.plot.trajectories(bc.simulate(model, plans, patients, until=until), below=10)
        figure.savefig(Path(out) / "04_add_a_drug.png", dpi=150)


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
