"""Does following the advised day keep the true count down as often as claimed?

Virtual patients as in `recovery`: six counts with the model's error, a MAP fit with the model as
prior, posterior draws, and the latest day to dose again. The true count of the patient, dosed on
that day, is then followed to the nadir after the dose. Patients whose day lies strictly inside the
horizon count: not those above the threshold already, not those without need. Of all patients, fast
repopulators are those whose true count crosses before the label's next dose, slow ones the others:
the advice should be earlier than the label for the fast, and later for the slow.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from harness import save, show
from recovery import KPD, SETTINGS, Setting, measured, table

import bcellsim as bc
from bcellsim.redose.case import Case
from bcellsim.redose.dates import crossings, kept, latest
from bcellsim.regimen import single_dose

PROBABILITY, UNTIL, LEVEL = 0.9, 365.25, 10.0
YU, OWN = SETTINGS
#: Patients of `recovery`, counted earlier: while most are still depleted.
DECIDED = {
    YU: Setting(SETTINGS[YU].doses, "20 mg sc", (0, 14, 28, 56, 84, 98), SETTINGS[YU].columns),
    OWN: Setting(SETTINGS[OWN].doses, "1000 mg iv", (0, 14, 30, 60, 90, 100), {}),
}
#: Next dose by the label after the last one [day]: ofatumumab every 4 weeks; rituximab (in
#: rheumatoid arthritis) 24 weeks after a course began, here two weeks before the last dose.
LABEL = {YU: 28.0, OWN: 154.0}


def one_patient(model, name, people, i, *, folder, draws, seed) -> dict:
    """Return the day advised to one patient, and whether its true count was kept by it."""
    setting = DECIDED[name]
    alone = people.part(slice(i, i + 1))
    sd = model.residual_error["bcell"].prop_sd
    true = bc.simulate(model, setting.plan(), alone, times=setting.times).bcell.values[0]
    fit = bc.fit_individual(
        model, table(folder, setting, measured(setting, true, sd, seed, i)), starts=4
    )
    found = fit.drawn(draws, seed)
    case = Case(
        model, fit.population(draws, seed), fit, None, single_dose(setting.dose), LEVEL,
        PROBABILITY, setting.times[-1], UNTIL, found.effective, seed, found.note,
    )  # fmt: skip
    crossed = crossings(case)
    advised = latest(case, crossed, above=bool(np.mean(crossed <= 0.0) > 0.5))
    truth = replace(case, people=alone)
    since = setting.times[-1] - setting.doses[-1]
    inside = advised.status == "found" and 0 < advised.day < UNTIL
    return {
        "status": advised.status, "day": advised.day + since, "claimed": advised.share,
        "inside": inside, "kept": bool(kept(truth, advised.day)[0]) if inside else None,
        "crossing": float(crossings(truth)[0]) + since, "effective": found.effective,
        "censored": float((fit.residuals["CENS"] != 0).mean()), "solved": fit.problem.n_solved,
    }  # fmt: skip


def summary(name, rows) -> dict:
    """Return one row of the table."""
    inside = [row for row in rows if row["inside"]]
    kept_share = float(np.mean([row["kept"] for row in inside])) if inside else np.nan
    label = LABEL[name]
    fast = [_advised(row) < label for row in rows if row["crossing"] < label]
    slow = [_advised(row) > label for row in rows if row["crossing"] >= label]
    return {
        "model": name, "patients": len(rows), "inside": len(inside),
        **{status.replace(" ", "_"): sum(row["status"] == status for row in rows)
           for status in ("now", "none", "no need")},
        "claimed": float(np.mean([row["claimed"] for row in inside])), "kept": kept_share,
        "se": float(np.sqrt(kept_share * (1 - kept_share) / max(len(inside), 1))),
        "censored": float(np.mean([row["censored"] for row in rows])), "label_day": label,
        "n_fast": len(fast), "fast_earlier": float(np.mean(fast)) if fast else np.nan,
        "n_slow": len(slow), "slow_later": float(np.mean(slow)) if slow else np.nan,
        "rank_correlation": _ranks([r["day"] for r in inside], [r["crossing"] for r in inside]),
        "few_effective": float(np.mean([row["effective"] < 200 for row in rows])),
    }  # fmt: skip


def _advised(row):
    """Return the day advised after the last dose; infinite where there is no need."""
    return np.inf if row["status"] == "no need" else row["day"]


def _ranks(a, b):
    from scipy.stats import spearmanr

    return float(spearmanr(a, b)[0]) if len(a) > 2 else np.nan


def decide(name, patients, *, draws=500, seed=1, seconds=np.inf) -> list[dict]:
    """Return what was advised to virtual patients of one model, as many as the time allows.

    Parameters
    ----------
    name : str
        A model of `DECIDED`.
    patients : int
        How many.
    draws : int
        Posterior draws of each.
    seed : int
        Seed of patients, errors and draws.
    seconds : float
        No further patient is begun after this time [s].
    """
    begun, rows = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        path = Path(folder) / f"{OWN}.toml"
        path.write_text(KPD)
        model = bc.load_model(str(path) if name == OWN else name)
        people = bc.sample_population(model, patients, seed=seed)
        for i in range(patients):
            if time.perf_counter() - begun > seconds:
                break
            rows.append(one_patient(model, name, people, i, folder=folder, draws=draws, seed=seed))
            if i % 20 == 19:
                show([summary(name, rows)])
    return rows


def main(patients: int = 300, draws: int = 500, seed: int = 1, seconds: float = np.inf) -> None:
    """Run the benchmark and write ``results/decisions.json``; arguments as for `decide`."""
    rows = [summary(name, decide(name, patients, draws=draws, seed=seed, seconds=seconds))
            for name in DECIDED]  # fmt: skip
    show(rows)
    times = {name: setting.times for name, setting in DECIDED.items()}
    settings = {"draws": draws, "seed": seed, "below": LEVEL, "probability": PROBABILITY,
                "until": UNTIL, "times": times}  # fmt: skip
    save("decisions", {**settings, "rows": rows})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=np.inf)
    given = parser.parse_args()
    main(given.patients, given.draws, given.seed, given.seconds)
