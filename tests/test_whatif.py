"""What if: late, missed and stopped doses, another weight, a second drug."""

import re

import numpy as np
import pytest

import bcellsim as bc
from bcellsim import across, explore, sample_population, switch, what_if

YU, CHEN = "yu2022_ofatumumab", "chen2024_rituximab"
LABEL = "ofatumumab_rms"
LOADING = "20 mg sc at 0 d, 7 d, 14 d"
RULE = bc.DosingRule(visit_every="4 w", dose="20 mg sc", at_or_above=10)
#: The effect of the first drug is held for a day at a time, at its value in the middle of it.
HELD = 1e-4
NOTHING = 1e-200  # mg; a Hill exponent of 0.06 still sees 1e-9


@pytest.fixture(scope="module")
def people():
    return sample_population(YU, 60, seed=1)


def changed(people, **options):
    return what_if(YU, LABEL, people, **{"below": 40, "until": "40 w", **options})


def same(row, other):
    """Assert that two rows have the same metrics."""
    for name in ("suppressed_throughout", "days_above_mean", "nadir_mean", "auc_mean", "n_doses"):
        assert getattr(row, name) == pytest.approx(getattr(other, name), rel=1e-3, abs=1e-9), name


# --- doses ---------------------------------------------------------------------------------------


def test_rows_are_those_of_the_schedules_written_out(people):
    table = changed(
        people, late=["2 w", "1 w"], missed=True, stop_after=[4], doses=[4, 6],
        reload="20 mg sc at 0 d, 7 d",
    )  # fmt: skip
    assert list(table.change) == ["planned", *["late"] * 8, *["missed"] * 2, "stopped"]
    assert list(table.changed_dose) == [0, 4, 4, 4, 4, 6, 6, 6, 6, 4, 6, 4]
    assert list(table.late_by[1:5]) == [7, 7, 14, 14]
    assert list(table.reloaded[1:5]) == [False, True, False, True]
    label = bc.load_regimen(LABEL)
    written = {
        0: label,
        3: label.delay(4, by="2 w"),
        4: f"{LOADING}; 20 mg sc at 42 d, 49 d; 20 mg sc q4w from 8 w",
        9: label.drop(4),
        11: "20 mg sc at 0 d, 7 d, 14 d, 28 d",
    }
    for i, plan in written.items():
        same(table.iloc[i], explore(YU, plan, people, below=40, until="40 w").iloc[0])
    assert table.days_above_difference[0] == 0


def test_what_comes_after_a_late_dose(people):
    table = changed(people, late=["3 w", "30 w"], doses=[5], reload=LOADING, below=[20, 40])
    assert list(table.change[:4]) == ["planned", "planned", "late", "late"]
    assert table.suppressed_after.isna().tolist() == [True] * 2 + [False] * 4 + [True] * 4
    late = bc.load_regimen(LABEL).delay(5, by="3 w")
    alone = explore(YU, late, people, below=[20, 40], until="40 w", induction=56 + 21 + 28)
    assert list(table.suppressed_after[2:4]) == list(alone.suppressed_throughout)
    assert list(table.suppressed_after_mc_se[2:4]) == list(alone.suppressed_throughout_mc_se)
    assert np.all(table.suppressed_after[4:6].to_numpy() >= table.suppressed_after[2:4].to_numpy())


def test_later_doses_move_too(people):
    table = changed(people, late="2 w", doses=[4], shift_later=True, reload=LOADING)
    label = bc.load_regimen(LABEL)
    plan = label.delay(4, by="2 w", shift_later=True)
    same(table.iloc[1], explore(YU, plan, people, below=40, until="40 w").iloc[0])
    anew = "20 mg sc at 0 d, 7 d, 14 d, 42 d, 49 d, 56 d; 20 mg sc q4w from 70 d"
    same(table.iloc[2], explore(YU, anew, people, below=40, until="40 w").iloc[0])


def test_how_late_a_dose_may_be(people):
    delays = ["1 w", "2 w", "4 w", "8 w", "12 w"]
    wanted = changed(people, late=delays, doses=[5]).suppressed_throughout[3]  # late by 4 w
    table = changed(people, late=delays, doses=[5], probability=wanted)
    late = table[table.change == "late"]
    assert list(late.reaches) == list(late.suppressed_throughout >= wanted)
    assert late.suppressed_throughout.is_monotonic_decreasing
    assert late.latest.sum() == 1
    k = int(np.flatnonzero(late.latest)[0])
    assert k >= 2
    assert late.reaches.iloc[: k + 1].all()
    assert not late.reaches.iloc[k + 1 :][:1].any()


def test_by_default_every_dose_but_the_first(people):
    table = changed(people, missed=True, until="12 w")
    assert list(table.changed_dose) == [0, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "nothing is changed: give late, missed or stop_after"),
        ({"late": "-1 w"}, "late = -7 d: a delay above 0 is wanted"),
        ({"late": "1 ww"}, 'unknown unit "ww"'),
        ({"missed": True, "doses": [40]}, "there is no dose 40 before until = 280 d; there are 12"),
        ({"missed": True, "doses": [0]}, "whole number of at least 1"),
        ({"stop_after": [40]}, "stop_after = 40: there are 12 doses before 280 d"),
        ({"late": 7, "probability": 1.0}, "probability = 1.0: a number above 0 and below 1"),
        ({"late": 7, "reload": "20 mg sc q1w"}, "the doses of reload are open-ended"),
    ],
)
def test_what_is_refused(options, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        changed(2, seed=1, **options)
    assert "\n" not in str(caught.value)


# --- weight --------------------------------------------------------------------------------------


def test_another_weight_of_the_same_subjects(people):
    table = across(
        YU, [LABEL, LOADING], people, covariate="WT", values=[50, 110], below=40, until="40 w"
    )
    assert list(table.WT) == [50, 50, 110, 110]
    for weight in (50, 110):
        own = sample_population(YU, 60, covariates={"WT": weight}, seed=1)
        wanted = explore(YU, LABEL, own, below=40, until="40 w").iloc[0]
        same(table[(weight == table.WT) & (table.regimen == LABEL)].iloc[0], wanted)
    assert table.attrs["seed"] == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"covariate": "WGT"}, 'unknown covariate "WGT"; did you mean "WT"?'),
        ({"values": []}, "give values of WT"),
        ({"values": [0]}, "covariate WT: a value is not above 0"),
    ],
)
def test_what_across_refuses(options, sentence):
    given = {"covariate": "WT", "values": [70], "below": 40, "until": "40 w", **options}
    with pytest.raises(ValueError, match=re.escape(sentence)):
        across(YU, LABEL, 2, seed=1, **given)


# --- a second drug -------------------------------------------------------------------------------


def switched(models, plans, n=20, **options):
    people = {m: sample_population(m, n, covariates="study", seed=3) for m in dict.fromkeys(models)}
    options = {"at": "12 w", "below": 40, "until": "1 y", **options}
    return switch(models, plans, people, **options).set_index("first_drug")


@pytest.mark.parametrize(
    ("model", "plan", "nothing"),
    [(CHEN, "375 mg/m2 iv at 0 d, 7 d", f"{NOTHING} mg iv"), (YU, LOADING, f"{NOTHING} mg sc")],
)
def test_what_runs_on_is_the_first_drug_alone(model, plan, nothing):
    """With next to nothing of a second drug, of the same model, nothing is switched."""
    table = switched([model, model], [plan, nothing])
    for name in ("days_above_mean", "nadir_mean", "time_to_escape_median"):
        assert table[name]["runs on"] == pytest.approx(table[name]["alone"], rel=HELD), name
    # Dropped is a bound: nothing of the first drug acts any more.
    assert table.days_above_mean["dropped"] > table.days_above_mean["alone"]


def test_the_second_drug_acts_as_in_its_own_model():
    """With next to nothing of the first, a switch is the second drug from its day 0."""
    table = switched([CHEN, YU], [f"{NOTHING} mg iv", LABEL], at="4 w")
    people = sample_population(YU, 20, covariates="study", seed=3)
    wanted = explore(YU, LABEL, people, below=40, until=365.25 - 28, induction=0).iloc[0]
    for how in ("runs on", "dropped"):
        row = table.loc[how]
        for name in ("days_above_mean", "nadir_mean", "time_to_depletion_median"):
            assert row[name] == pytest.approx(wanted[name], rel=1e-3), name
    assert table.n_doses["runs on"] == wanted.n_doses
    assert table.n_doses["alone"] == 0


def test_what_is_left_of_the_first_drug_lowers_the_count():
    table = switched([CHEN, YU], ["375 mg/m2 iv at 0 d, 7 d", "20 mg sc q4w from 8 w"], at="8 w")
    assert table.days_above_mean["runs on"] < table.days_above_mean["dropped"]
    assert table.days_above_mean["dropped"] < table.days_above_mean["alone"]
    assert table.days_above_difference["dropped"] == pytest.approx(
        table.days_above_mean["dropped"] - table.days_above_mean["runs on"]
    )
    assert table.attrs["model"] == f"{CHEN}; {YU}"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"at": 0}, "a switch after the first dose of"),
        ({"at": "2 y"}, "before until = 365.25 d is wanted"),
        ({"induction": "50 w"}, "before until = 365.25 d is wanted"),
        ({"models": [YU]}, "two models and two regimens are wanted"),
        ({"plans": ["rituximab_ae_600mg", LABEL]}, "is for rituximab"),
        ({"plans": [LABEL, RULE]}, "is a rule: a switch takes fixed schedules"),
    ],
)
def test_what_switch_refuses(options, sentence):
    given = {"models": [YU, YU], "plans": [LABEL, LABEL], "n": 2, **options}
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        switched(given.pop("models"), given.pop("plans"), **given)
    assert "\n" not in str(caught.value)
