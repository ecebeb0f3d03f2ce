"""Inverse questions: searches whose answer is read from the curve they show."""

import re
from importlib import import_module

import numpy as np
import pandas as pd
import pytest

from bcellsim import explore, fewest_doses, grid, longest_interval, sample_population, smallest_dose
from bcellsim.explore import needed_subjects

YU = "yu2022_ofatumumab"
LOADING = "20 mg sc at 0 d, 7 d, 14 d"
COMMON = {"below": 40, "probability": 0.8, "loading": LOADING, "until": "1 y", "mc_error": 0.05}
INVERSE = import_module("bcellsim.explore.inverse")


@pytest.fixture(scope="module")
def people():
    return sample_population(YU, 100, seed=1)


def check(table, what, largest=True):
    """Assert what holds of every answer, whatever the question."""
    assert table[what].is_monotonic_increasing
    assert not table[what].duplicated().any()
    assert table.reaches.equals(table.suppressed_throughout >= table.attrs["probability"])
    (k,) = np.flatnonzero(table.answer)
    assert table.reaches[k]
    beyond = table.reaches[k + 1 :] if largest else table.reaches[:k]
    assert not beyond.any()
    beside = [i for i in (k - 1, k + 1) if 0 <= i < len(table)]
    assert list(np.flatnonzero(table.neighbour)) == beside
    assert table.attrs["value"] == table[what][k]
    assert table.attrs["share"] == table.suppressed_throughout[k]
    assert f"{table.attrs['share']:.3f}" in table.attrs["answer"]
    return k


def test_needed_subjects():
    assert needed_subjects(0.9, 0.02) == 225
    assert needed_subjects(0.5, 0.05) == 100
    assert needed_subjects(0.999, 0.02) == 1000  # else one subject more or less decides
    assert needed_subjects(0.01, 0.1) == 100


def test_longest_interval(people):
    table = longest_interval(YU, people, dose="20 mg sc", **COMMON)
    k = check(table, "interval")
    assert table.interval[0] == 28
    assert table.interval[k + 1] - table.interval[k] == 7  # looked at more finely there
    assert np.diff(table.interval).max() == 28
    assert table.interval.max() < 365.25
    plan = grid(dose="20 mg sc", every=table.interval[k], loading=LOADING)
    row = explore(YU, plan, people, below=40, until="1 y").iloc[0]
    assert row.suppressed_throughout == table.attrs["share"]
    assert table.attrs["answer"].startswith(
        "longest interval that keeps a share of 0.8 at or below"
    )


def test_the_number_of_subjects_follows_from_the_error():
    table = longest_interval(YU, dose="20 mg sc", longest="8 w", **COMMON, seed=1)
    assert set(table.n_subjects) == {needed_subjects(0.8, 0.05)}
    assert table.suppressed_throughout_mc_se.max() <= 0.07  # at a share of 0.5


def test_no_interval_reaches(people):
    table = longest_interval(
        YU, people, dose="20 mg sc", **{**COMMON, "below": 2, "probability": 0.9}, shortest="8 w"
    )
    assert not table.answer.any()
    assert not table.neighbour.any()
    assert table.attrs["value"] is None
    assert table.attrs["share"] == table.suppressed_throughout.max()
    assert table.attrs["answer"].startswith("no interval of those looked at (8 w to 52 w) keeps")
    assert "the best is" in table.attrs["answer"]


def test_an_answer_at_the_end_is_said_to_be(people):
    table = longest_interval(YU, people, dose="60 mg sc", longest="5 w", step="1 w", **COMMON)
    assert table.answer.iloc[-1]
    assert "it is the largest that was looked at" in table.attrs["answer"]


def test_smallest_dose(people):
    table = smallest_dose(YU, people, lowest="5 mg sc", highest="100 mg sc", every="6 w", **COMMON)
    k = check(table, "amount", largest=False)
    assert table.amount[0] == 5
    assert table.amount.iloc[-1] == 100
    assert table.amount[k] / table.amount[k - 1] < 1.06  # a ratio of 20 in 7, 4 and 4 steps: 1.03
    assert table.dose[k] == f"{table.amount[k]:g} mg sc"
    assert "smallest dose that keeps" in table.attrs["answer"]


def test_fewest_doses(people):
    table = fewest_doses(YU, people, dose="20 mg sc", most=13, **COMMON)
    k = check(table, "n_doses", largest=False)
    assert list(table.n_doses) == list(range(3, 17))
    assert table.regimen[0] == "loading only"
    assert table.regimen[13] == "20 mg sc x 13 q26d"
    # Even spacing: what is left after the last dose is an interval too.
    last = table.interval[1:] * (table.n_doses[1:] - 3)
    assert np.all(365.25 - last >= table.interval[1:])
    assert np.all(365.25 - last < table.interval[1:] + table.n_doses[1:])
    assert f"{table.n_doses[k]} doses" in table.attrs["answer"]


def test_fewest_doses_without_loading(people):
    table = fewest_doses(YU, people, dose="20 mg sc", most=3, **{**COMMON, "loading": None})
    assert list(table.n_doses) == [1, 2, 3]
    assert list(table.interval) == [365, 182, 121]


def test_gaps_in_what_reaches_are_found_and_said(people, monkeypatch):
    """A share that is not monotone: the answer is the longest that reaches, and the gap is said."""

    def made(model, plans, population, **options):
        days = np.array([plan.interval for plan in plans])
        share = np.where((days == 28) | (days == 84), 0.95, 0.5)
        return pd.DataFrame(
            {"regimen": [p.name for p in plans], "dose": "", "interval": days,
             "suppressed_throughout": share, "suppressed_throughout_mc_se": 0.02}
        )  # fmt: skip

    monkeypatch.setattr(INVERSE, "explore", made)
    table = longest_interval(YU, people, dose="20 mg sc", **COMMON)
    check(table, "interval")
    assert table.attrs["value"] == 84
    assert "not every candidate on its safe side does (8 w does not)" in table.attrs["answer"]


@pytest.mark.parametrize("question", [longest_interval, smallest_dose, fewest_doses])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"probability": 1}, "probability = 1: a number above 0 and below 1 is wanted"),
        ({"probability": 0}, "probability = 0: a number above 0 and below 1"),
        ({"probability": 1.5}, "a number above 0 and below 1"),
        ({"mc_error": 0}, "mc_error = 0: a number above 0 and below 1"),
        ({"population": 20}, "20 subjects are fewer than needed: for probability = 0.8 with a "
         "Monte-Carlo error of 0.05, 64 are"),
        ({"below": [10, 40]}, "one threshold is wanted"),
        ({"loading": "20 mg sc q4w"}, "open-ended"),
    ],
)  # fmt: skip
def test_what_every_search_refuses(question, options, sentence):
    own = {
        longest_interval: {"dose": "20 mg sc"},
        smallest_dose: {"lowest": "1 mg sc", "highest": "9 mg sc", "every": "4 w"},
        fewest_doses: {"dose": "20 mg sc"},
    }[question]
    given = {"population": 64, **COMMON, **own, **options}
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        question(YU, given.pop("population"), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("question", "options", "sentence"),
    [
        (
            longest_interval,
            {"shortest": "2 y"},
            "an interval longer than the horizon, until = 365.25",
        ),
        (longest_interval, {"longest": "2 y"}, "an interval longer than the horizon"),
        (longest_interval, {"longest": "3 w"}, "longest = 21 d is before shortest = 28 d"),
        (longest_interval, {"step": 0}, "step = 0 d must be above 0"),
        (longest_interval, {"shortest": "2 w"}, "not later than the last loading dose"),
        (longest_interval, {"dose": "20 mg"}, "no route"),
        (smallest_dose, {"highest": "9 mg iv"}, "two doses of one unit and route are wanted"),
        (smallest_dose, {"highest": "0.5 mg sc"}, "two doses of one unit and route are wanted"),
        (smallest_dose, {"every": "2 y"}, "the interval of 730.5 d is longer than the horizon"),
    ],
)
def test_what_a_search_refuses(question, options, sentence):
    own = {
        longest_interval: {"dose": "20 mg sc"},
        smallest_dose: {"lowest": "1 mg sc", "highest": "9 mg sc", "every": "4 w"},
    }[question]
    with pytest.raises(ValueError, match=re.escape(sentence)):
        question(YU, 64, **{**COMMON, **own, **options})


def test_no_room_for_another_dose():
    options = {**COMMON, "loading": "20 mg sc at 0 d, 360 d", "most": 3}
    table = fewest_doses(YU, 64, dose="20 mg sc", **options, seed=1)
    assert list(table.regimen) == ["loading only"]
