"""What do six mean CD19+ counts after a first rituximab course say about B-cell turnover?"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import bcellsim as bc

HERE = Path(__file__).parent / "data"
SIGMA = 0.5  # SD of the log counts: about the misfit of the fit itself, no error was published


def first_course(means):
    """Return means and one course as observations; it stands for 250-2000 mg mixed."""
    counts = means.rename(columns={"time_days": "TIME", "value": "DV"})[["TIME", "DV"]]
    dose = pd.DataFrame({"TIME": [0.0], "AMT": [1000], "CMT": ["iv"]})
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        pd.concat([counts.iloc[:1], dose, counts.iloc[1:]]).assign(ID="mean").to_csv(
            file, index=False
        )
        file.flush()
        return bc.read_observations(file.name)


def main(out=None):
    published = pd.read_csv(HERE / "bcell_observations.csv")
    counts = first_course(published[published["study"].str.contains("Ellrichmann")])
    model = HERE / "kpd_rituximab_ms_nmo.toml"
    fit = bc.fit_individual(model, counts, prior=None, sigma=SIGMA)
    print(fit.report())

    # Which parameters the data determine: hold emax and a50 elsewhere and fit again.
    print("\n  held              kel half-life [d]   turnover half-life [d]   sum of squares")
    for held in ({"emax": 35, "a50": 10}, {"emax": 100, "a50": 10}, {"emax": 35, "a50": 100}):
        other = bc.fit_individual(model, counts, prior=None, sigma=SIGMA, fixed=held)
        kel, kout = np.log(2) / other.params.loc[["kel", "kout"], "value"]
        print(f"  {held!s:27}{kel:8.0f}{kout:25.0f}{other.result.chisqr:17.1f}")
    print("""
The turnover half-life stays long whatever is held, that of the effect moves with it, and emax
and a50 cannot be read from one course. The published paediatric turnover (Pan 2019) is 35 d:
here fast repopulators were re-dosed and left the curve, so that its late points are the slow
ones, and a mean over many doses is flatter than any patient.""")

    # Autoimmune encephalitis, 600 mg once: percent of lymphocytes before and one day after.
    series = published[published["study"].str.contains("anti-NMDAR")]
    before, after = series[series["statistic"] == "mean"]["value"].astype(float)
    killing = fit.params.value["kout"] * (1 + fit.params.value["emax"])
    print(f"""
AE series, 600 mg: {after / before:.1%} of its own baseline after one day (percent of lymphocytes):
the initial loss rate is at least {np.log(before / after):.1f} /day, as the fall may have ended
earlier. The fit has {killing:.2f}: after the baseline its first count is at three months.""")
    if out:
        bc.plot.fit(fit).savefig(Path(out) / "02_fit_a_mean_series.png", dpi=150)


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
