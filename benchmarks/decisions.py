"""Does following the advised day keep the true count down as often as claimed?

Virtual patients as in `recovery`: six counts with the model's error, a MAP fit with the model as
prior, posterior draws, and the latest day to dose again. The true count of the patient, dosed on
that day, is then followed to the nadir after the dose. Patients whose day lies strictly inside the
horizon count: not those above the threshold already, not those without need.

*Beside the label.* Fast repopulators are those whose true count crosses before the label's next
dose, slow ones the others: the advice should be earlier than the label for the fast, and later for
the slow. It can be that only where the counts reach the day of the decision: a day that is kept in
nine draws of ten lies before the true crossing in nine patients of ten, and early counts below
quantification tell slow from fast hardly at all. So the label is compared with at the visit two
weeks before its next dose, for which the last count is taken. The invented model, whose median
patient crosses six weeks before that dose, is asked about earlier too, while most are still
depleted: days strictly inside the horizon are then many, days later than the label none. Slow by
four weeks are those who cross that long after the label's dose, or never.

*Beside exact posteriors.* The invented model has no covariates, so that one large sample of its
population, weighed by the likelihood of the counts, is the posterior of any patient
(`reweighted`). It says what the same patients would have been advised without error of the draws,
how probable it holds the days that were advised, and, in thousands of other patients, what the
share kept tends to. A share of 300 patients has a standard error of 0.02.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from harness import save, show
from recovery import KPD, SETTINGS, Setting, measured, table
from reweighted import Sample, advice

import bcellsim as bc
from bcellsim.redose.case import Case
from bcellsim.redose.dates import crossings, kept, latest
from bcellsim.regimen import single_dose

PROBABILITY, UNTIL, LEVEL = 0.9, 365.25, 10.0
YU, OWN = SETTINGS


class Question(NamedTuple):
    """A model, when its patients are counted, and when the label's next dose is [day]."""

    model: str
    setting: Setting
    label: float


def _question(model, dose, times, label):
    """Return patients of `recovery`, counted on other days; the label's dose after the last one."""
    columns, doses = SETTINGS[model].columns, SETTINGS[model].doses
    return Question(model, Setting(doses, dose, times, columns), label)


#: Ofatumumab is labelled every 4 weeks; rituximab (in rheumatoid arthritis) 24 weeks after a course
#: began, here two weeks before the last dose.
QUESTIONS = {
    YU: _question(YU, "20 mg sc", (0, 14, 28, 56, 84, 98), 28.0),
    OWN: _question(OWN, "1000 mg iv", (0, 14, 30, 60, 90, 100), 154.0),
    f"{OWN}, before the label": _question(OWN, "1000 mg iv", (0, 30, 60, 100, 130, 154), 154.0),
}
#: Members of the weighed sample, and other patients that it advises.
MEMBERS, OTHERS = 40_000, 3000
_FOUR_WEEKS = 28.0


def one_patient(model, setting, people, i, *, folder, draws, seed) -> dict:
    """Return the day advised to one patient, from now, and whether its count was kept by it."""
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
    inside = advised.status == "found" and 0 < advised.day < UNTIL
    return {
        "status": advised.status, "day": advised.day, "claimed": advised.share,
        "inside": inside, "kept": bool(kept(truth, advised.day)[0]) if inside else None,
        "crossing": float(crossings(truth)[0]), "effective": found.effective,
        "censored": float((fit.residuals["CENS"] != 0).mean()), "solved": fit.problem.n_solved,
    }  # fmt: skip


def summary(name, rows, by="fits") -> dict:
    """Return one row of the table; days after the last dose."""
    setting, label = QUESTIONS[name].setting, QUESTIONS[name].label
    since = setting.times[-1] - setting.doses[-1]
    inside = [row for row in rows if row["inside"]]
    kept_share = float(np.mean([row["kept"] for row in inside])) if inside else np.nan
    crossing = since + np.array([row["crossing"] for row in rows])
    day = since + np.array([_advised(row) for row in rows])
    slow, slower = crossing >= label, crossing >= label + _FOUR_WEEKS
    return {
        "question": name, "by": by, "patients": len(rows), "inside": len(inside),
        **{status.replace(" ", "_"): sum(row["status"] == status for row in rows)
           for status in ("now", "none", "no need")},
        "claimed": float(np.mean([row["claimed"] for row in inside])), "kept": kept_share,
        "se": float(np.sqrt(kept_share * (1 - kept_share) / max(len(inside), 1))),
        "censored": float(np.mean([row["censored"] for row in rows])),
        "asked_day": since, "label_day": label,
        "n_fast": int((~slow).sum()), "fast_earlier": _share(day[~slow] < label),
        "n_slow": int(slow.sum()), "slow_later": _share(day[slow] > label),
        "fast_median": _median(day[~slow]), "slow_median": _median(day[slow]),
        "n_slower": int(slower.sum()), "slower_later": _share(day[slower] > label),
        "rank_correlation": _ranks([r["day"] for r in inside], [r["crossing"] for r in inside]),
        "few_effective": float(np.mean([row["effective"] < 200 for row in rows])),
    }  # fmt: skip


def _share(which):
    return float(np.mean(which)) if len(which) else None


def _median(days):
    return float(np.quantile(days, 0.5, method="inverted_cdf")) if len(days) else None


def _advised(row):
    """Return the day advised, from now; infinite where there is no need."""
    return np.inf if row["status"] == "no need" else row["day"]


def _ranks(a, b):
    from scipy.stats import spearmanr

    return float(spearmanr(a, b)[0]) if len(a) > 2 else None


def decide(name, patients, *, draws=500, seed=1) -> list[dict]:
    """Return what was advised to virtual patients.

    Parameters
    ----------
    name : str
        One of `QUESTIONS`.
    patients : int
        How many.
    draws : int
        Posterior draws of each.
    seed : int
        Seed of patients, errors and draws.
    """
    question, rows = QUESTIONS[name], []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = _model(question.model, folder)
        people = bc.sample_population(model, patients, seed=seed)
        for i in range(patients):
            rows.append(one_patient(model, question.setting, people, i, folder=folder,
                                    draws=draws, seed=seed))  # fmt: skip
            if i % 20 == 19:
                show([summary(name, rows)])
    return rows


def _model(name, folder):
    path = Path(folder) / f"{OWN}.toml"
    path.write_text(KPD)
    return bc.load_model(str(path) if name == OWN else name)


def beside_exact(name, rows, seed) -> tuple[list[dict], dict]:
    """Return what exact posteriors advise to the same and to other patients, and compare."""
    asked, setting = {"level": LEVEL, "until": UNTIL}, QUESTIONS[name].setting
    with tempfile.TemporaryDirectory() as folder:
        model = _model(OWN, folder)
        sample, same, others = (
            Sample(model, setting, n, seed=of, **asked)
            for n, of in ((MEMBERS, seed + 2), (len(rows), seed), (OTHERS, seed + 1))
        )
    given = {"probability": PROBABILITY, "until": UNTIL}
    exact = advice(same, sample, seed=seed, **given)
    more = advice(others, sample, seed=seed + 1, **given)
    both = [k for k, row in enumerate(rows) if row["inside"] and exact[k]["inside"]]
    apart = np.array([rows[k]["day"] - exact[k]["day"] for k in both])
    held = [sample.share(sample.weights(measured(None, same.counts[k], same.sd, seed, k)),
                         rows[k]["day"]) for k in both]  # fmt: skip
    compared = {
        "question": name, "both_inside": len(both), "days_apart_median": float(np.median(apart)),
        "days_apart_p5": float(np.quantile(apart, 0.05)),
        "days_apart_p95": float(np.quantile(apart, 0.95)),
        "claimed": float(np.mean([rows[k]["claimed"] for k in both])),
        "claimed_by_exact": float(np.mean(held)),
    }  # fmt: skip
    return [summary(name, exact, "exact"), summary(name, more, "exact, others")], compared


def answered(name, patients, draws, seed) -> tuple[list[dict], list[dict]]:
    """Return the rows of one question, and of an invented model the comparison."""
    rows = decide(name, patients, draws=draws, seed=seed)
    found = [summary(name, rows)]
    if QUESTIONS[name].model != OWN:
        return found, []
    exact, compared = beside_exact(name, rows, seed)
    return [*found, *exact], [compared]


def main(questions=tuple(QUESTIONS), patients: int = 300, draws: int = 500, seed: int = 1) -> None:
    """Run the benchmark, two questions at a time, and write ``results/decisions.json``.

    Another seed than 1 is written beside it, as ``results/decisions_seed<seed>.json``.

    Parameters
    ----------
    questions : sequence of str
        Of `QUESTIONS`.
    patients, draws, seed : int
        As for `decide`.
    """
    given = [(name, patients, draws, seed) for name in questions]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(answered, given, chunksize=1)
    rows, compared = ([row for both in found for row in both[k]] for k in (0, 1))
    show(rows)
    show(compared)
    times = {name: QUESTIONS[name].setting.times for name in questions}
    settings = {"draws": draws, "seed": seed, "below": LEVEL, "probability": PROBABILITY,
                "until": UNTIL, "times": times, "members": MEMBERS}  # fmt: skip
    name = "decisions" if seed == 1 else f"decisions_seed{seed}"
    save(name, {**settings, "rows": rows, "compared": compared})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--question", action="append", choices=list(QUESTIONS))
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    main(given.question or tuple(QUESTIONS), given.patients, given.draws, given.seed)
