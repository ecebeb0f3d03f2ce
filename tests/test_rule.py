"""Dosing rules: what they read and refuse, and the invariants of following them."""

import re
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bcellsim as bc
from bcellsim import DosingRule, explore, follow_rule, sample_population, simulate, simulate_rule
from bcellsim.metrics import METRICS

YU, CHEN = "yu2022_ofatumumab", "chen2024_rituximab"
LOADING = "20 mg sc at 0 d, 7 d, 14 d"
OUTCOMES = import_module("bcellsim.explore.outcomes")
#: Two solves at rtol 1e-6 that stop at different days: a fixed schedule does not stop at a visit
#: without a dose.
SOLVER = 1e-3
UNREACHABLE = 1e9


def rule(**options):
    given = {"visit_every": "4 w", "dose": "20 mg sc", "at_or_above": 10, "loading": LOADING}
    return DosingRule(**given | options)


@pytest.fixture(scope="module")
def people():
    return sample_population(YU, 60, seed=1)


def table(people, plans, model=YU, **options):
    options = {"below": 10, "until": "40 w", "per_subject": True, **options}
    return explore(model, plans, people, **options)


def same_metrics(one, other, names=(*METRICS, "n_doses", "cumulative_dose", "n_visits")):
    """Assert that two tables of subjects have the same metrics, to the bit.

    A trough is read from the end of a step here and from the states there: roundings.
    """
    for name in names:
        if name == "c_trough":
            assert one[name].to_numpy() == pytest.approx(other[name], rel=1e-9, nan_ok=True)
        else:
            assert np.array_equal(one[name], other[name], equal_nan=True), name


# --- what a rule is ------------------------------------------------------------------------------


def test_text_and_numbers_are_the_same_rule():
    text = rule(min_gap="8 w", delay="3 d", lloq="0.001 10^9/L", first_visit="6 w")
    assert text == rule(min_gap=56, delay=3, lloq=1, first_visit=42)
    assert replace(text) == text


def test_parse():
    found = DosingRule.parse(
        "dose=20 mg sc; visit_every=4 w; at_or_above=10; noise=0.3; missed=5 %; max_doses=9; "
        "loading=20 mg sc at 0 d, 7 d, 14 d; label=guided"
    )
    assert found == rule(noise=0.3, missed=0.05, max_doses=9, label="guided")
    assert found.name == "guided"


def test_names():
    assert (
        rule().name
        == f"{bc.Regimen.parse(LOADING).name}; then 20 mg sc if bcell >= 10 cells/uL, q4w"
    )
    named = rule(label="guided").triggers([5, "0.02 10^9/L"])
    assert [(r.name, r.at_or_above) for r in named] == [("guided, >= 5", 5), ("guided, >= 20", 20)]
    assert len({r.name for r in rule().triggers([5, 10, 20])}) == 3


def test_visits_are_those_of_a_grid():
    (plan,) = bc.grid(dose="20 mg sc", every="4 w", loading=LOADING)
    doses = [event.time for event in plan.doses(200)]
    assert [event.time for event in rule().fixed().doses(200)] == doses
    assert list(rule().visits(200)) == doses[3:]
    assert list(rule(loading=None).visits(60)) == [0, 28, 56]
    assert list(rule(first_visit=20).visits(60)) == [20, 48]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"at_or_above": 1, "lloq": 5}, "at_or_above = 1 is above 0 and below the LLOQ of 5"),
        ({"at_or_above": -1}, "at_or_above must not be negative"),
        ({"at_or_above": "10 mg"}, '"mg" is a mass'),
        ({"lloq": -1}, "lloq must not be negative"),
        ({"visit_every": 0}, "visit_every must be longer than 0 d"),
        ({"visit_every": "4 wks"}, 'unknown unit "wks"'),
        ({"min_gap": -1}, "min_gap must not be negative"),
        ({"delay": -1}, "delay must not be negative"),
        ({"missed": 1}, "missed = 1: a probability from 0 to below 1 is wanted"),
        ({"missed": -0.1}, "a probability from 0 to below 1"),
        ({"missed": "often"}, "a probability from 0 to below 1"),
        ({"noise": "modell"}, 'unknown noise "modell"; did you mean "model"?'),
        ({"noise": -0.1}, "an SD of the logarithm of 0 or more"),
        ({"max_doses": 2}, "max_doses = 2, but the loading alone has 3 doses"),
        ({"max_doses": 0}, "whole number of at least 1"),
        ({"first_visit": 14}, "is not later than the last loading dose at 14 d"),
        ({"visit_every": "1 w"}, "is not later than the last loading dose at 14 d"),
        ({"first_visit": -1, "loading": None}, "start = -1 d is before 0"),
        ({"loading": "20 mg sc q4w"}, "the loading doses are open-ended"),
        ({"loading": bc.Regimen([bc.Event("reset", 3)])}, "consists of doses only"),
        ({"dose": "20 mg"}, "no route"),
        ({"dose": "20 mg sc q4w"}, "one dose and its route is wanted"),
        ({"output": "bcells"}, 'did you mean "bcell"?'),
    ],
)
def test_what_a_rule_refuses(options, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        rule(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("dose=20 mg sc; visit_every=4 w; trigger=10", 'unknown part of a rule "trigger"'),
        ("dose=20 mg sc; at_or_above=10", "has no visit_every"),
        ("dose=20 mg sc; visit_every=4 w; at_or_above", "has no value"),
        ("dose=20 mg sc; dose=10 mg sc", "dose is given twice"),
        ("dose=20 mg sc; visit_every=4 w; at_or_above=1; missed=half", "missed"),
    ],
)
def test_what_is_not_read_as_a_rule(text, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        DosingRule.parse(text)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"visit_every": "1 y"}, "visits every 365.25 d, longer than the horizon"),
        ({"visit_every": "30 min", "first_visit": 20}, "more than 10,000 visits"),
        ({"drug": "rituximab"}, "is for rituximab"),
        ({"dose": "20 mg iv"}, "give covariate IV = 1"),
        ({"dose": "1 mg/m2 sc"}, "needs covariate BSA"),
        ({"output": "amount"}, "model yu2022_ofatumumab"),
        ({"output": "conc_free"}, "no published residual error of conc_free"),
    ],
)
def test_what_following_refuses(options, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        follow_rule(YU, rule(**options), 2, until="40 w", seed=1)


def test_an_infusion_ends_before_the_next_visit():
    long = DosingRule(visit_every="1 w", dose="375 mg/m2 iv over 8 d", at_or_above=10)
    with pytest.raises(ValueError, match="an infusion over 8 d does not end before the next visit"):
        follow_rule(CHEN, long, 2, until=60, seed=1)


# --- invariants ----------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["model", "published", 0.0])
def test_a_rule_that_always_doses_is_the_fixed_schedule(people, noise):
    (plan,) = bc.grid(dose="20 mg sc", every="4 w", loading=LOADING)
    options = {"below": [10, 40], "follow_up": "20 w"}
    always = table(people, rule(at_or_above=0, lloq=5, noise=noise), **options)
    same_metrics(always, table(people, plan, **options))


def test_an_unreachable_trigger_is_the_loading_alone(people):
    never = table(people, rule(at_or_above=UNREACHABLE))
    same_metrics(never, table(people, LOADING), METRICS)
    assert set(never.n_doses) == {3}
    assert set(never.n_visits) == {3 + 9}


def test_without_loading_and_trigger_nobody_is_dosed():
    people = sample_population(YU, 20, seed=2)
    found = table(people, rule(at_or_above=UNREACHABLE, loading=None), follow_up=10)
    assert set(found.n_doses) == {0}
    assert set(found.cumulative_dose) == {0}
    assert np.all(found.days_above == 280 - 28)
    assert np.all(np.isinf(found.time_to_depletion))
    assert found.time_to_repletion.isna().all()
    assert found.time_to_repletion_censored_at.isna().all()
    b0 = people.table()["b0"].to_numpy()
    assert found.nadir.to_numpy() == pytest.approx(b0, rel=SOLVER)
    assert np.all(found.auc == 0)


def test_replaying_the_ledger_is_the_same_trajectory(people):
    guided = rule(missed=0.1, delay="5 d", min_gap="6 w", lloq=2)
    decisions, doses = follow_rule(YU, guided, people, until="1 y", seed=7)
    data = simulate_rule(YU, guided, people, until="1 y", seed=7)
    for i in (0, 11, 37):
        mine = doses[doses.subject == i]
        plan = "; ".join(f"{a} mg sc at {d} d" for a, d in zip(mine.amount, mine.day, strict=True))
        alone = simulate(
            YU, plan, people.part(np.arange(i, i + 1)), until="1 y", backend="compiled"
        )
        replayed, whole = alone.bcell.values[0], data.bcell.values[i]
        assert np.array_equal(replayed, whole)  # the same doses: the same steps
        seen = decisions[decisions.subject == i]
        assert seen.simulated.to_numpy() == pytest.approx(
            replayed[seen.day.astype(int)], rel=SOLVER
        )
        given = data.dose_time.values[i]
        assert np.array_equal(given[np.isfinite(given)], mine.day)


def test_metrics_are_those_of_the_daily_trajectories(people):
    """An independent count over the stored days; half a day for each crossing."""
    guided, levels, opens = rule(noise=0.2), [10, 40], 28
    found = table(people, guided, below=levels, seed=3)
    data = simulate_rule(YU, guided, people, until="40 w", seed=3)
    window = data.bcell.values[:, opens:]
    for level in levels:
        mine = found[found.threshold == level]
        above = np.trapezoid((window > level).astype(float), axis=1)
        crossings = np.abs(np.diff(window > level, axis=1)).sum(axis=1)
        near = (np.abs(window / level - 1) < 0.02).sum(axis=1)
        assert np.all(np.abs(mine.days_above - above) <= 0.5 * crossings + near + 1e-9)
        share, highest = mine.suppressed_throughout.mean(), window.max(axis=1)
        unsure = np.mean(np.abs(highest / level - 1) < 0.02)
        assert abs(share - np.mean(highest <= level)) <= unsure + 1e-12
    last = np.nanmax(data.dose_time.values, axis=1)
    assert found.n_doses[:60].to_numpy() == pytest.approx(np.isfinite(data.dose_time).sum("dose"))
    censored = found.time_to_repletion_censored_at[:60].to_numpy()
    assert censored == pytest.approx(280 - last)
    conc = data.conc.values
    for i in range(0, 60, 7):
        days = data.dose_time.values[i]
        days = days[(days >= opens) & (days > 0)]  # the grid holds the values before the dose
        wanted = conc[i, days.astype(int)].min() if len(days) else np.nan
        assert found.c_trough[i] == pytest.approx(wanted, rel=SOLVER, nan_ok=True)


def test_decisions_follow_the_rule(people):
    guided = rule(missed=0.2, min_gap="8 w", max_doses=6, delay="10 d", lloq=8, noise=0.3)
    decisions, doses = follow_rule(YU, guided, people, until="2 y", seed=3)
    assert len(decisions) == 60 * 26
    missed = decisions.measured.isna()
    assert (decisions.reason == "visit missed").equals(missed)
    assert missed.mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / len(decisions)))
    fired = (decisions.measured >= 10) & (decisions.measured >= 8)
    assert decisions.fired.equals(fired)
    assert decisions.below_lloq.equals(decisions.measured < 8)
    dosed = decisions[decisions.action == "dose"]
    assert np.array_equal(dosed.dose_day, dosed.day + 10)
    assert set(decisions.reason[fired]) == {
        "at or above the trigger", "minimum gap", "maximum number of doses",
    }  # fmt: skip
    counts = doses.groupby("subject").size()
    assert counts.max() == 6
    capped = decisions[decisions.reason == "maximum number of doses"]
    assert set(counts[capped.subject.unique()]) == {6}
    by_rule = doses[doses.given_by == "rule"]
    assert sorted(zip(by_rule.subject, by_rule.day, strict=True)) == sorted(
        zip(dosed.subject, dosed.dose_day, strict=True)
    )
    gaps = doses.groupby("subject").day.diff()[doses.given_by == "rule"]
    assert gaps.min() >= 56
    held = decisions[decisions.reason == "minimum gap"]
    for row in held.iloc[:20].itertuples():
        days = doses.day[(doses.subject == row.subject) & (doses.day <= row.day + 10)]
        assert row.day + 10 - days.max() < 56


def test_what_falls_after_the_horizon():
    guided = rule(delay="2 w", noise=0.0, at_or_above=0)
    decisions, doses = follow_rule(YU, guided, 3, until="12 w", seed=1)
    assert list(decisions.day[:2]) == [28, 56]
    assert doses.day.max() == 70
    later = rule(delay="5 w", noise=0.0, at_or_above=0)
    decisions, doses = follow_rule(YU, later, 3, until="12 w", seed=1)
    assert list(decisions.reason[:2]) == [
        "at or above the trigger", "dose would fall after the horizon",
    ]  # fmt: skip
    assert list(doses.day[:4]) == [0, 7, 14, 63]


def test_a_dose_that_is_ordered_but_not_yet_given_counts_for_the_gap():
    guided = rule(delay="6 w", min_gap="6 w", at_or_above=0)
    _, doses = follow_rule(YU, guided, 1, until="30 w", seed=1)
    assert list(doses.day) == [0, 7, 14, 70, 126, 182]  # ordered on days 28, 84, 140


def test_noise():
    people = sample_population(YU, 400, seed=5)
    exact, _ = follow_rule(YU, rule(noise=0.0), people, until="20 w", seed=5)
    assert np.array_equal(exact.measured, exact.simulated)
    for noise, sd in ((0.5, 0.5), ("model", 0.381)):  # Yu 2022, Table 3: 0.381 proportional
        seen, _ = follow_rule(YU, rule(noise=noise), people, until="20 w", seed=5)
        z = np.log(seen.measured / seen.simulated) / sd
        n = len(z)
        assert abs(z.mean()) < 4 / np.sqrt(n)
        assert z.std() == pytest.approx(1, abs=4 / np.sqrt(2 * n))
    seen, _ = follow_rule(YU, rule(noise="published"), people, until="20 w", seed=5)
    z = (seen.measured - seen.simulated) / np.hypot(0.153, 0.381 * seen.simulated)
    assert z.std() == pytest.approx(1, abs=4 / np.sqrt(2 * n))
    first = seen.groupby("visit").measured.first()
    assert first.nunique() == len(first)  # each visit has its own error


# --- reproducible --------------------------------------------------------------------------------

RANDOM = {"missed": 0.2, "noise": "model"}


def test_chunks_threads_and_order_change_nothing(people, monkeypatch):
    plain = table(people, rule(**RANDOM), seed=9, below=[10, 40])
    assert plain.equals(table(people, rule(**RANDOM), seed=9, below=[10, 40], threads=1))
    order = np.random.default_rng(1).permutation(60)
    other = table(people.part(order), rule(**RANDOM), seed=9, below=[10, 40])
    keys = ["threshold", "subject"]
    columns = [c for c in plain if c != "n_subjects"]
    pair = [t.sort_values(keys)[columns].reset_index(drop=True) for t in (plain, other)]
    assert pair[0].equals(pair[1])
    monkeypatch.setattr(OUTCOMES, "_CHUNK", 17)
    assert plain.equals(table(people, rule(**RANDOM), seed=9, below=[10, 40], threads=3))


def test_seeds():
    people = sample_population(YU, 30, seed=4)
    one, again, other = (table(people, rule(**RANDOM), seed=s) for s in (4, None, 5))
    assert one.equals(again)  # without a seed of its own, that of the subjects
    assert one.attrs["seed"] == 4
    assert not one.equals(other)
    larger = table(50, rule(**RANDOM), seed=4)
    columns = [c for c in one if c != "n_subjects"]
    assert one[columns].equals(larger[columns].iloc[:30])


def test_names_of_subjects_key_their_draws(people):
    named = replace(people, subjects=np.array([f"P{i:02d}" for i in range(60)]))
    one, _ = follow_rule(YU, rule(**RANDOM), named, until="30 w", seed=1)
    part, _ = follow_rule(YU, rule(**RANDOM), named.part(np.arange(40, 43)), until="30 w", seed=1)
    assert part.equals(one[one.subject.isin(["P40", "P41", "P42"])].reset_index(drop=True))


# --- other doses ---------------------------------------------------------------------------------


def test_infusions_by_body_surface():
    people = sample_population(CHEN, 40, covariates="study", seed=1)
    dose = "375 mg/m2 max 500 mg iv over 4.75 h"
    guided = DosingRule(
        visit_every="8 w", dose=dose, at_or_above=50, loading=f"{dose} at 0 d, 7 d", lloq=5
    )
    _, doses = follow_rule(CHEN, guided, people, until="1 y", seed=2)
    wanted = np.minimum(375 * people.covariates["BSA"], 500)
    assert doses.amount.to_numpy() == pytest.approx(wanted[doses.subject])
    assert doses.amount.max() == pytest.approx(500)
    data = simulate_rule(CHEN, guided, people, until="1 y", seed=2)
    for i in (3, 21):
        days = ", ".join(f"{day} d" for day in doses.day[doses.subject == i])
        alone = people.part(np.arange(i, i + 1))
        replayed = simulate(CHEN, f"{dose} at {days}", alone, until="1 y", backend="compiled")
        assert np.array_equal(replayed.bcell.values[0], data.bcell.values[i])
    row = table(people, guided, CHEN, until="1 y", seed=2, per_subject=False).iloc[0]
    assert row.cumulative_dose == pytest.approx(doses.amount.sum() / 40)
    always = replace(guided, at_or_above=0)
    fixed = replace(always.fixed(), label="fixed")
    same_metrics(*(table(people, plan, CHEN, until="1 y") for plan in (always, fixed)), METRICS)


def test_occasions_are_refused(people):
    """Parameters that change in time would be those of the first occasion."""
    twice = replace(people, parameters=np.stack([people.parameters] * 2, axis=1))
    with pytest.raises(ValueError, match="parameters change by occasion"):
        follow_rule(YU, rule(), twice, until="40 w")


# --- rows ----------------------------------------------------------------------------------------


def test_rules_stand_beside_fixed_schedules(people):
    rules = rule(label="guided").triggers([2, 10, 40])
    found = explore(YU, ["ofatumumab_rms", *rules], people, below=10, until="1 y", seed=1)
    assert list(found.regimen) == ["ofatumumab_rms", *(r.name for r in rules)]
    assert list(found.n_doses[1:]) == sorted(found.n_doses[1:], reverse=True)
    assert found.n_doses[0] == found.n_doses_p5[0] == found.n_doses_p95[0] == 16
    assert found.n_doses_mc_se[0] == 0
    assert np.all(found.n_doses_mc_se[1:] > 0)
    assert np.all(np.diff(found.suppressed_fraction_mean) < 0)
    assert list(found.n_visits) == [16, 16, 16, 16]
    assert list(found.dose) == ["", *["20 mg sc"] * 3]
    assert found.interval.isna().all()
    assert found.attrs["seed"] == 1


# --- properties ----------------------------------------------------------------------------------

whole_weeks = st.integers(1, 12).map(lambda n: 7.0 * n)


@settings(max_examples=25)
@given(
    whole_weeks, st.sampled_from([0, 2, 10, 40]), whole_weeks, st.floats(0, 0.6),
    st.sampled_from([0.0, 1.0, 9.5, 28.0, 40.0]), st.one_of(st.none(), st.integers(3, 9)),
    st.integers(0, 2**31),
)  # fmt: skip
def test_properties_of_rules(every, trigger, gap, missed, delay, most, seed):
    guided = rule(
        visit_every=every, at_or_above=trigger, min_gap=gap, missed=missed, delay=delay,
        max_doses=most, first_visit=21.0,
    )  # fmt: skip
    decisions, doses = follow_rule(
        YU, guided, sample_population(YU, 8, seed=1), until=300, seed=seed
    )
    ordered = doses[doses.given_by == "rule"]
    assert set(np.round(ordered.day - delay, 6)) <= set(np.round(guided.visits(300), 6))
    assert doses.day.max() < 300
    assert doses.groupby("subject").size().max() <= (most or np.inf)
    gaps = doses.groupby("subject").day.diff()[doses.given_by == "rule"]
    assert not (gaps < gap - 1e-6).any()
    assert not doses.duplicated(["subject", "day"]).any()
    dosed = decisions[decisions.action == "dose"]
    assert len(dosed) == len(ordered)
    if trigger:
        assert (dosed.measured >= trigger).all()
        idle = decisions[decisions.action == "none"]
        held = idle.reason.isin(["minimum gap", "maximum number of doses",
                                 "dose would fall after the horizon"])  # fmt: skip
        assert (held | ~(idle.measured >= trigger)).all()
