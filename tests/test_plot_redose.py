"""The figure of an advice shows what the advice holds."""

import matplotlib.pyplot as plt
import numpy as np
import patient
import pytest

import bcellsim as bc
from bcellsim import plot

ASK = {"dose": "500 mg iv", "below": 10, "until": "200 d", "draws": 200, "seed": 3}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture
def fit(tmp_path):
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    counts = patient.observed(model)
    rows = [f"1,{t:g},.,{'<5' if c < 5 else repr(float(c))}"
            for t, c in zip(patient.DAYS[:6], counts, strict=False)]  # fmt: skip
    data = patient.read(tmp_path, ["1,0,1000,.", *rows[:4], "1,14,1000,.", *rows[4:]])
    return bc.fit_individual(model, data, starts=1)


def lines(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def test_what_is_drawn(fit):
    advice = bc.redose(fit, now=60, **ASK)
    axis = plot.redose(advice).axes[0]
    drawn = lines(axis)
    assert len(drawn["below this limit"].get_xdata()) == (fit.residuals["CENS"] == 1).sum()
    assert list(drawn["dose given"].get_xdata()) == [0.0, 14.0]
    assert drawn["latest day to dose again"].get_xdata()[0] == 60 + advice.day
    without = advice.courses[advice.courses["plan"] == "no further dose"]
    shown = drawn["no further dose (median, 90 %)"]
    np.testing.assert_array_equal(shown.get_ydata(), without["p50"])
    bar = drawn["crossing without it: 50 and 90 % interval"].get_xdata()
    assert list(bar) == [60 + advice.crossing["p25"], 60 + advice.crossing["p75"]]
    own = drawn["its 95 % interval, by the number of draws"].get_xdata()
    assert list(own) == [60 + advice.latest.low, 60 + advice.latest.high]
    assert f"day {60 + advice.day:g}" in [text.get_text() for text in axis.texts]
    title = axis.get_title()
    assert f"500 mg iv by day {advice.day:.0f} from now" in title
    assert "not medical advice" in title


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"now": 60, "until": "30 d"}, "no dose needed"),
        ({"now": 60, "below": 0.5}, "now: the count is above"),
    ],
)
def test_other_answers(fit, options, words):
    advice = bc.redose(fit, **{**ASK, **options})
    axis = plot.redose(advice).axes[0]
    assert words in axis.get_title()
    assert "latest day to dose again" not in lines(axis)


def test_a_first_dose(fit):
    advice = bc.redose(fit.model, **{**ASK, "dose": "1000 mg iv", "probability": 0.8})
    axis = plot.redose(advice).axes[0]
    assert "since the first dose" in axis.get_xlabel()
    assert "observed" not in lines(axis)
