"""Virtual patients fitted and forecast: bias, coverage, and what becomes of them without censoring.

Each patient has six counts, about 40 % of them below 5 cells/uL, drawn with the model's log-normal
error. The fit is MAP with the model as prior; the forecast is of a further dose on the day of the
last count. Coverage is that of the true count by the 90 % credible interval, and of a measured one
by the prediction interval.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from harness import save, show

import bcellsim as bc

LLOQ, RECOVERY, HORIZON = 5.0, 40.0, 3 * 365.25
LATER = (28.0, 84.0, 168.0)  # days of the forecast after the further dose

#: K-PD with variability, invented for tests: no publication has these numbers.
KPD = """
name = "recovery_kpd"
title = "K-PD test parameter set"
structure = "kpd"
drug = "rituximab"
citation = ""
source = "invented for the tests"
read_in = "invented for the tests"
status = "transcribed"
context_of_use = "tests"
not_for = "anything else"

[parameters]
kel = { value = 0.05, unit = "1/day" }
a50 = { value = 20, unit = "mg" }
b0 = { value = 200, unit = "cells/uL" }
kout = { value = 0.02, unit = "1/day" }
emax = { value = 80, unit = "" }

[iiv]
kel = { value = 0.3, scale = "sd" }
a50 = { value = 0.5, scale = "sd" }
b0 = { value = 0.4, scale = "sd" }
kout = { value = 0.4, scale = "sd" }
emax = { value = 0.4, scale = "sd" }
correlations = [{ pair = ["kout", "emax"], value = 0.3 }]

[residual_error]
bcell = { prop_sd = 0.381 }
"""


@dataclass(frozen=True)
class Setting:
    """Doses, count times [day], and the further dose, of one model."""

    doses: tuple[float, ...]
    dose: str
    times: tuple[float, ...]
    columns: dict[str, float]

    def plan(self) -> str:
        """Return the doses as a shorthand."""
        return f"{self.dose} at " + ", ".join(f"{day:g} d" for day in self.doses)


SETTINGS = {
    "yu2022_ofatumumab": Setting(
        (0, 7, 14, 28, 56, 84), "20 mg sc", (0, 28, 60, 100, 140, 240), {"WT": 70.0, "AGE": 38.0}
    ),
    "recovery_kpd": Setting((0, 14), "1000 mg iv", (0, 30, 60, 100, 130, 200), {}),
}
METHODS = ("M3", "M1", "M5")


def measured(setting, true, sd, seed, patient) -> list[float]:
    """Return counts with residual error, a draw a patient and count."""
    noise = np.random.default_rng([seed, patient]).standard_normal(len(true))
    return (true * np.exp(sd * noise)).tolist()


def table(folder, setting, counts):
    """Return the data of a patient, written and read as a table."""
    known = "".join(f",{value:g}" for value in setting.columns.values())
    amount = setting.dose.split()[0]
    rows = [(day, 1, f"1,{day:g},{amount},.{known}") for day in setting.doses]
    for day, count in zip(setting.times, counts, strict=True):
        text = f"<{LLOQ:g}" if count < LLOQ else repr(count)
        rows.append((day, 0, f"1,{day:g},.,{text}{known}"))
    header = ",".join(["ID,TIME,AMT,DV", *setting.columns])
    path = Path(folder) / "patient.csv"
    path.write_text("\n".join([header, *(row[2] for row in sorted(rows))]) + "\n")
    return bc.read_observations(path)


def repletion(days, counts, last_dose) -> float:
    """Return days from the last dose to the first rise above `RECOVERY`; NaN if there is none.

    On a daily grid, by straight lines of the logarithm.
    """
    after = days >= last_dose
    day, log = days[after], np.log(counts[after] / RECOVERY)
    below = np.flatnonzero(log < 0)
    if not len(below):
        return np.nan
    up = np.flatnonzero((log[1:] >= 0) & (log[:-1] < 0) & (np.arange(len(log) - 1) >= below[0]))
    if not len(up):
        return np.nan
    k = up[0]
    return day[k] - last_dose - log[k] / (log[k + 1] - log[k]) * (day[k + 1] - day[k])


def one_patient(model, setting, people, i, *, folder, draws, methods, seed):
    """Return what was found for one patient, by method."""
    alone = replace(
        people, subjects=people.subjects[i : i + 1], eta=people.eta[i : i + 1],
        parameters=people.parameters[i : i + 1],
        covariates={k: v[i : i + 1] for k, v in people.covariates.items()},
    )  # fmt: skip
    sd = model.residual_error["bcell"].prop_sd
    true = bc.simulate(model, setting.plan(), alone, times=setting.times).bcell.values[0]
    counts = measured(setting, true, sd, seed, i)
    data = table(folder, setting, counts)
    now = setting.times[-1]
    later = f"{setting.plan()}; {setting.dose} at {now:g} d"
    future = bc.simulate(model, later, alone, times=[now + day for day in LATER]).bcell.values[0]
    seen = np.array(measured(setting, future, sd, seed + 1, i))
    days = np.arange(0.0, HORIZON)
    course = bc.simulate(model, setting.plan(), alone, times=days).bcell.values[0]
    truth = repletion(days, course, setting.doses[-1])
    b0 = alone.parameters[0, model.structure.parameters.index("b0")]
    found = []
    for method in methods:
        begun = time.perf_counter()
        fit = bc.fit_individual(model, data, censored=method, starts=4)
        fitted = bc.simulate(model, setting.plan(), fit.subject, times=days).bcell.values[0]
        ahead = bc.forecast(fit, f"{setting.dose} at 0 d", until=LATER[-1], now=now, draws=draws,
                            every=LATER[0], seed=seed, observations=True)  # fmt: skip
        at = ahead.sel(time=[now + day for day in LATER])
        low, high = (at.bcell_credible.sel(quantile=q).values for q in (0.05, 0.95))
        least, most = (at.bcell_prediction.sel(quantile=q).values for q in (0.05, 0.95))
        found.append({
            "method": method, "patient": i, "converged": fit.converged,
            "agreeing": fit.starts["agrees"].mean(),
            "censored": float(np.mean(np.array(counts) < LLOQ)),
            "b0": np.log(fit.params.loc["b0", "value"] / b0),
            "repletion": np.log(repletion(days, fitted, setting.doses[-1]) / truth),
            "inside": (low <= future) & (future <= high),
            "predicted": (least <= seen) & (seen <= most),
            "log_error": np.log(at.bcell_credible.sel(quantile=0.5).values / future),
            "effective": ahead.attrs["effective_draws"],
            "seconds": time.perf_counter() - begun,
        })  # fmt: skip
    return found


def summary(name, method, rows) -> dict:
    """Return one row of the table: bias, coverage."""
    b0, rep = (np.array([row[key] for row in rows]) for key in ("b0", "repletion"))
    known = np.isfinite(rep)
    inside = np.array([row["inside"] for row in rows])
    predicted = np.array([row["predicted"] for row in rows])
    return {
        "model": name, "method": method, "patients": len(rows),
        "censored": float(np.mean([row["censored"] for row in rows])),
        "bias_log_b0": float(b0.mean()), "rmse_log_b0": float(np.sqrt(np.mean(b0**2))),
        "bias_log_repletion": float(rep[known].mean()),
        "se_of_bias": float(rep[known].std() / np.sqrt(known.sum())),
        "n_repletion": int(known.sum()),
        **{f"credible_{day:g}d": float(inside[:, k].mean()) for k, day in enumerate(LATER)},
        **{f"prediction_{day:g}d": float(predicted[:, k].mean()) for k, day in enumerate(LATER)},
        "bias_log_forecast": float(np.mean([row["log_error"] for row in rows])),
        "converged": float(np.mean([row["converged"] for row in rows])),
        "median_effective": float(np.median([row["effective"] for row in rows])),
        "few_effective": float(np.mean([row["effective"] < 200 for row in rows])),
        "seconds_a_patient": float(np.median([row["seconds"] for row in rows])),
    }  # fmt: skip


def of_model(name: str, patients: int, compared: int, draws: int, seed: int) -> list[dict]:
    """Return the rows of the table of one model; arguments as for `main`."""
    warnings.filterwarnings("ignore", category=UserWarning)
    setting, found = SETTINGS[name], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recovery_kpd.toml"
        path.write_text(KPD)
        model = bc.load_model(str(path) if name == "recovery_kpd" else name)
        people = bc.sample_population(model, patients, seed=seed)
        for i in range(patients):
            methods = METHODS if i < compared else METHODS[:1]
            found += one_patient(model, setting, people, i, folder=folder, draws=draws,
                                 methods=methods, seed=seed)  # fmt: skip
            if i % 20 == 19:
                show([summary(name, "M3", [row for row in found if row["method"] == "M3"])])
    rows = [summary(name, "M3", [row for row in found if row["method"] == "M3"])]
    # The methods beside each other on the same patients.
    for method in METHODS if compared else ():
        same = [row for row in found if row["method"] == method and row["patient"] < compared]
        rows.append(summary(name, f"{method}, compared", same))
    return rows


def main(patients: int = 300, compared: int = 100, draws: int = 500, seed: int = 1) -> list[dict]:
    """Run the benchmark, a process a model, and write ``results/recovery.json``.

    Parameters
    ----------
    patients : int
        Patients of each model.
    compared : int
        Of these, the patients that are fitted by the other methods too.
    draws : int
        Draws of each forecast.
    seed : int
        Seed of patients, errors and draws.
    """
    given = [(name, patients, compared, draws, seed) for name in SETTINGS]
    with multiprocessing.get_context("spawn").Pool(len(given)) as pool:
        table_rows = [row for rows in pool.starmap(of_model, given) for row in rows]
    show(table_rows)
    settings = {"patients": patients, "compared": compared, "draws": draws, "seed": seed,
                "lloq": LLOQ, "recovery": RECOVERY}  # fmt: skip
    save("recovery", {**settings, "rows": table_rows})
    return table_rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--compared", type=int, default=100)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    main(given.patients, given.compared, given.draws, given.seed)
