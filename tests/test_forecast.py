"""Forecasts: history carried on, the plan's clock, and the two bands."""

import math

import numpy as np
import patient
import pytest

import bcellsim as bc

SAME = 1e-9  # the same run of the same backend, by another way
SOLVED = 1e-6
SAMPLED = 0.06  # quantiles of 4,000 draws, in standard deviations

LAST = patient.DAYS[-1]


@pytest.fixture
def fit(tmp_path):
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    return bc.fit_individual(model, patient.counts(tmp_path, patient.observed(model)), starts=1)


@pytest.fixture
def alone(tmp_path):
    """Return a fit of the baseline alone, to which every count is proportional."""
    kpd = patient.model_of(tmp_path)
    return patient.alone(kpd, tmp_path, patient.observed(kpd), sigma=0.3)


def test_history_is_carried_on_and_the_plan_begins_now(fit):
    ahead = bc.forecast(fit, "500 mg iv at 10 d", until="100 d", draws=20, every="5 d", seed=2)
    whole = "1000 mg iv at 0 d, 14 d; 500 mg iv at 410 d"
    wanted = bc.simulate(
        fit.model, whole, fit.population(20, 2), times=ahead.time.values, backend="compiled"
    )
    assert ahead.bcell.dims == ("draw", "time")
    np.testing.assert_allclose(ahead.bcell.values, wanted.bcell.values, rtol=SAME)
    assert float(ahead.time[0]) == LAST
    assert ahead.days_from_now.values == pytest.approx(ahead.time.values - LAST)
    assert list(ahead.dose_time.values) == [0.0, 14.0, 410.0]
    assert list(ahead.dose_amount.values) == [1000.0, 1000.0, 500.0]
    assert ahead.attrs["now"] == LAST
    assert ahead.attrs["seed"] == 2


def test_no_plan_is_the_rebound(fit):
    ahead = bc.forecast(fit, None, until="1 y", draws=10, every="30 d", seed=2)
    assert list(ahead.dose_time.values) == [0.0, 14.0]
    assert ahead.attrs["plan"] == "no further doses"
    assert float(ahead.time[-1]) == LAST + 365.25


def test_an_earlier_now_leaves_later_doses_out(fit):
    ahead = bc.forecast(fit, None, until="30 d", now=10, draws=5, every="5 d", seed=1)
    assert list(ahead.dose_time.values) == [0.0]
    at_dose = bc.forecast(fit, None, until="30 d", now="2 w", draws=5, every="5 d", seed=1)
    assert list(at_dose.dose_time.values) == [0.0, 14.0]  # a dose given now is given
    assert float(at_dose.time[0]) == 14.0


def test_the_past_can_be_shown(fit):
    ahead = bc.forecast(fit, None, until="9 d", draws=5, since=-3, every="10 d", seed=1)
    assert float(ahead.time[0]) == -3.0
    assert LAST in ahead.time.values
    assert np.all(np.diff(ahead.time.values) > 0)
    people = fit.population(5, 1)
    wanted = people.table()["b0"].to_numpy()
    assert ahead.bcell.values[:, 0] == pytest.approx(wanted, rel=SOLVED)


def test_bands_of_the_baseline_have_a_closed_form(alone):
    ahead = bc.forecast(alone, None, until="20 d", draws=4000, every="10 d", seed=3,
                        observations=True)  # fmt: skip
    se, sd = alone.params.loc["b0", "log_se"], 0.3
    middle = alone.curves["bcell"].iloc[-1]
    z = np.array([-1.6449, -0.6745, 0.0, 0.6745, 1.6449])
    for name, spread in (("credible", se), ("prediction", math.hypot(se, sd))):
        found = np.log(ahead[f"bcell_{name}"].values[:, 0] / middle) / spread
        assert found == pytest.approx(z, abs=2 * SAMPLED), name
    assert "credible band" in ahead.bcell_credible.attrs["band"]
    assert "prediction band" in ahead.bcell_prediction.attrs["band"]
    assert "residual error" in ahead.bcell_prediction.attrs["band"]
    assert ahead.bcell_observed.attrs["share_below_0"] == 0.0
    noise = np.log(ahead.bcell_observed.values / ahead.bcell.values)
    assert noise.std() == pytest.approx(0.3, rel=0.05)
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.08


def test_residual_errors_do_not_depend_on_the_grid(fit):
    options = {"until": "20 d", "draws": 30, "seed": 4, "observations": True}
    fine, coarse = (bc.forecast(fit, None, every=every, **options) for every in ("1 d", "10 d"))
    same = fine.sel(time=coarse.time)
    noise = [np.log(d.bcell_observed.values / d.bcell.values) for d in (same, coarse)]
    np.testing.assert_allclose(noise[0], noise[1], rtol=1e-9, atol=1e-12)


def test_bands_are_not_clipped_where_an_error_is_normal(tmp_path):
    kpd = patient.model_of(tmp_path)
    fit = patient.alone(kpd, tmp_path, patient.observed(kpd), error="additive", sigma=150)
    ahead = bc.forecast(fit, None, until="9 d", draws=400, seed=1, observations=True)
    below = float((ahead.bcell_observed < 0).mean())
    assert below > 0
    assert ahead.bcell_observed.attrs["share_below_0"] == pytest.approx(below)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"until": 0}, "until = 0 d and every = 1 d must be above 0"),
        ({"until": "1 y", "every": 0}, "must be above 0"),
        ({"until": "1 y", "now": -5}, "now = -5 d lies before the data, which begin on day 0"),
        ({"until": "1 y", "since": 500}, "since = 500 d is later than now = 400 d"),
        ({"until": "1 y", "draws": 0}, "n = 0"),
        ({"until": "1 y", "seed": -1}, "seed = -1"),
        ({"until": "1 y", "plan": "500 mg iv at -3 d"}, "a dose 3 d before now; its day 0 is now"),
        ({"until": "1 y", "plan": "ofatumumab_rms"}, "is for ofatumumab; model invented_kpd"),
        ({"until": "1 y", "plan": "rituximab"}, 'unknown regimen "rituximab"'),
        ({"until": "1 y", "method": "mcmc"}, "unknown method of drawing"),
    ],
)
def test_wrong_arguments_say_so(fit, options, words):
    options = {"draws": 5, **options}
    with pytest.raises(ValueError, match=r"\w") as raised:
        bc.forecast(fit, options.pop("plan", None), **options)
    assert words in str(raised.value)


def test_dates_stand_beside_days(tmp_path):
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    rows = ["1,2024-01-01,1000,.", "1,2024-03-01,.,30", "1,2024-06-01,.,150"]
    fit = bc.fit_individual(model, patient.read(tmp_path, rows), starts=1)
    ahead = bc.forecast(fit, "500 mg iv at 9 d", until="10 d", draws=5, every="10 d", seed=1)
    assert [str(d)[:10] for d in ahead.date.values] == ["2024-06-01", "2024-06-11"]


def test_history_with_a_steady_state(tmp_path):
    text = patient.KPD + patient.IIV
    model = patient.model_of(tmp_path, text)
    header = "ID,TIME,AMT,II,SS,DV,EVID"
    rows = ["1,0,500,28,1,.,1", "1,20,.,.,.,2,0", "1,60,.,.,.,9,0", "1,200,.,.,.,150,0"]
    fit = bc.fit_individual(model, patient.read(tmp_path, rows, header), starts=1)
    ahead = bc.forecast(fit, None, until="10 d", draws=20, now=60, every="10 d", seed=1)
    long = [f"1,{28 * k},500,.,.,.,1" for k in range(20)]
    days = [(532 + d, v) for d, v in ((20, 2), (60, 9), (200, 150))]
    rows = [*long, *(f"1,{d},.,.,.,{v},0" for d, v in days)]
    other = bc.fit_individual(model, patient.read(tmp_path, rows, header), starts=1)
    assert fit.objective == pytest.approx(other.objective, abs=1e-3)
    assert float(ahead.time[0]) == 60.0
    assert list(ahead.dose_time.values) == [0.0]
