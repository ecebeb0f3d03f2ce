"""What if the drug stopped the production of B cells? A structure of one's own."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "data"))

import kpd_production

import bcellsim as bc

# The structure is one Python file: names, equations, and a declaration. A model file names it. On
# the command line `--structure` takes the file, and all verbs work:
#   bcellsim simulate examples/data/invented_production.toml --until 1y
#     --structure examples/data/kpd_production.py --regimen "20 mg sc at 0 d, 7 d, 14 d"
MODEL = Path(kpd_production.__file__).with_name("invented_production.toml")


def main(n_subjects=200, until="1 y", out=None):
    bc.register_structure(kpd_production.PRODUCTION)
    model = bc.load_model(MODEL)
    plan = bc.Regimen.parse("20 mg sc at 0 d, 7 d, 14 d")
    patients = bc.sample_population(model, n_subjects, seed=1)
    counts = bc.simulate(model, plan, patients, until=until)

    # Without production cells die at their own rate: the count cannot halve before ln 2 / kout.
    typical = bc.simulate(model, plan, until=until).bcell
    halved = float(typical.time[np.argmax(typical.values <= typical.values[0] / 2)])
    lifetime = np.log(2) / model.typical()["kout"]
    print(f"half of the cells are gone on day {halved:.0f}; their half-life is {lifetime:.0f} d")
    lowest = counts.bcell.min("time") / counts.bcell.isel(time=0)
    print(f"lowest count, median of {n_subjects} patients: {float(lowest.median()):.0%} of "
          "baseline (all numbers are invented)")  # fmt: skip
    if out:
        figure = bc.plot.trajectories(counts, below=100)
        figure.savefig(Path(out) / "05_add_a_structure.png", dpi=150)


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
