"""Redose advice: days against a brute-force look at the course, answers, and bad input."""

import json

import numpy as np
import patient
import pytest

import bcellsim as bc
from bcellsim.forecast import moment
from bcellsim.redose.dates import NADIR_WITHIN, kept, quantiles

LEVEL, NOW = 10.0, 60.0
GRID = 0.05  # day; a count of this model changes by less than 1 % in it
ASK = {"dose": "500 mg iv", "below": LEVEL, "until": "200 d", "now": NOW, "draws": 400, "seed": 3}


@pytest.fixture
def kpd(tmp_path):
    return patient.model_of(tmp_path)


@pytest.fixture
def alone(kpd, tmp_path):
    """Return a fit of the baseline alone, to which every count is proportional."""
    return patient.alone(kpd, tmp_path, patient.observed(kpd), sigma=0.3)


@pytest.fixture
def fit(tmp_path):
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    return bc.fit_individual(model, patient.counts(tmp_path, patient.observed(model)), starts=1)


def shape(kpd, plan, end):
    """Return days from NOW and the count over its baseline, on a fine grid."""
    days = NOW + np.arange(0.0, end + GRID / 2, GRID)
    found = bc.simulate(kpd, plan, times=days, rtol=1e-9, atol=1e-11).bcell.values / 200.0
    return days - NOW, found


def most_until_nadir(kpd, day):
    """Return the largest count over its baseline from now to the nadir after a dose on a day."""
    ahead, course = shape(kpd, f"{patient.PLAN}; 500 mg iv at {NOW + day} d", day + NADIR_WITHIN)
    after = np.flatnonzero(ahead >= day - 1e-9)
    nadir = after[np.argmin(course[after])]
    return course[: nadir + 1].max()


def test_days_agree_with_a_look_at_the_whole_course(kpd, alone):
    advice = bc.redose(alone, probability=0.9, **ASK)
    b0 = alone.draws(400, 3)["b0"].to_numpy()
    day = advice.day
    assert advice.latest.status == "found"
    for later, reaches in ((0, True), (1, False), (-5, True)):
        share = np.mean(b0 * most_until_nadir(kpd, day + later) <= LEVEL)
        assert (share >= 0.9) == reaches
    table = advice.latest.looked_at.set_index("days_from_now")
    wanted = np.mean(b0 * most_until_nadir(kpd, day) <= LEVEL)
    assert table.loc[day, "share"] == pytest.approx(wanted, abs=0.01)
    assert advice.latest.share == table.loc[day, "share"]
    assert advice.latest.low <= day <= advice.latest.high


def test_crossing_without_a_dose(kpd, alone):
    advice = bc.redose(alone, **ASK)
    ahead, course = shape(kpd, patient.PLAN, 200.0)
    b0 = alone.draws(400, 3)["b0"].to_numpy()
    days = np.array([ahead[np.argmax(course * b > LEVEL)] if (course * b > LEVEL).any() else np.inf
                     for b in b0])  # fmt: skip
    for name, day in quantiles(days).items():
        assert advice.crossing[name] == pytest.approx(day, abs=2 * GRID)
    assert advice.crossing["share_not_crossed"] == np.mean(np.isinf(days))


def test_no_need_before_a_near_horizon(alone):
    advice = bc.redose(alone, **{**ASK, "until": "30 d"})
    assert (advice.latest.status, advice.day) == ("no need", None)
    assert "no need before the horizon" in advice.report()


def test_now_where_the_count_is_above(alone):
    advice = bc.redose(alone, **{**ASK, "now": None})
    assert (advice.latest.status, advice.day) == ("now", 0.0)
    assert "now: the count is above 10 cells/uL already" in advice.report()
    assert advice.case.opens == 28.0
    assert "probability that the count is above 10 already now: 1.000" in advice.report()
    assert "from now (median)" not in advice.report()


def test_no_day_reaches_and_the_best_is_said(alone):
    b0 = alone.draws(400, 3)["b0"].to_numpy()
    ahead = bc.forecast(alone, None, until="1 d", now=NOW, draws=400, seed=3)
    level = float(np.quantile(ahead.bcell.values[:, 0], 0.7))  # 70 % of draws are below it now
    advice = bc.redose(alone, **{**ASK, "below": level}, probability=0.9)
    assert advice.latest.status == "none"
    assert advice.latest.share == pytest.approx(0.7, abs=0.01)
    above = f"it is above already with probability {advice.crossing['share_above_now']:.3f}"
    assert "no day reaches probability 0.9; the best is now, with" in advice.report()
    assert above in advice.report()
    assert len(b0) == 400


def test_a_weak_late_dose_is_not_taken_for_its_nadir():
    """A subcutaneous dose acts late: the count may be lowest when it is given, and yet cross."""
    model = bc.load_model("yu2022_ofatumumab")
    options = {"dose": "0.02 mg sc", "first": "20 mg sc at 0 d, 7 d, 14 d", "seed": 1}
    case = bc.redose(model, below=40, draws=60, until="200 d", **options).case
    day = 100.0
    plan = "20 mg sc at 0 d, 7 d, 14 d; 0.02 mg sc at 100 d"
    times = np.arange(28.0, day + NADIR_WITHIN, 0.25)
    course = bc.simulate(model, plan, case.people, times=times).bcell.values
    found = kept(case, day)
    for i, counts in enumerate(course):
        after = counts[times >= day]
        falls = np.flatnonzero(np.diff(after) < 0)
        nadir = 0
        if after.argmin() > 0:
            nadir = after.argmin()
        elif len(falls):
            nadir = falls[0] + np.flatnonzero(np.diff(after[falls[0] :]) >= 0)[0]
        until = counts[: np.sum(times < day) + nadir + 1]
        if abs(until.max() / 40 - 1) > 0.01:  # not at the edge of the grid
            assert found[i] == (until.max() <= 40), i


def test_longest_interval_and_alternatives(alone):
    advice = bc.redose(alone, label="1000 mg iv at 0 d, 14 d", **ASK)
    table = advice.alternatives.set_index("plan")
    assert 3 <= len(table) <= 5
    assert table.iloc[0]["n_doses"] == 0
    assert table.loc["label: 1000 mg iv at 0 d, 14 d", "cumulative_dose"] == 2000
    assert advice.interval is not None
    often = table.filter(like="every", axis=0).iloc[0]
    assert often["n_doses"] == np.ceil(200 / advice.interval)
    assert often["suppressed_throughout"] >= 0.9
    longer = advice.intervals[advice.intervals["interval"] > advice.interval]
    assert not longer["reaches"].any()
    share = 1.0 - advice.crossing["share_not_crossed"]
    assert table.iloc[0]["suppressed_throughout"] == pytest.approx(1.0 - share)


def test_a_fit_with_its_prior_says_what_it_rests_on(fit):
    advice = bc.redose(fit, disease="autoimmune encephalitis", **ASK)
    text = advice.report()
    for words in ("next dose", "WT" if fit.covariates else "covariates: none", "counts used: 14",
                  "Prior and posterior", "Fit check", "Research use; not medical advice",
                  "Context of use: tests"):  # fmt: skip
        assert words in text
    assert any("not in autoimmune encephalitis" in warning for warning in advice.warnings)
    assert "8 observations after now = 60 d were used in the fit" in advice.warnings
    order = ["target:", "now:", "If nothing is given", "Latest day", "Longest fixed",
             "Alternatives", "Fit check", "Warning", "Research use"]  # fmt: skip
    assert [text.index(word) for word in order] == sorted(text.index(word) for word in order)
    data = json.loads(json.dumps(advice.to_json(), allow_nan=False))
    assert data["latest"]["days_from_now"] == advice.day
    assert data["mode"] == "next dose"
    assert set(advice.tables()) == {"alternatives", "days", "intervals", "courses", "counts",
                                    "parameters"}  # fmt: skip
    same = bc.redose(fit, disease="autoimmune encephalitis", **ASK)
    assert same.report() == text


def test_first_dose_from_covariates(tmp_path):
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    advice = bc.redose(model, dose="1000 mg iv", below=LEVEL, probability=0.8, until="1 y",
                       draws=200, seed=1)  # fmt: skip
    assert advice.mode == "first dose"
    assert advice.latest.status == "found"
    people = bc.sample_population(model, 200, seed=1)
    plans = [f"1000 mg iv at 0 d, {advice.day + k} d" for k in (0, 1)]
    rows = bc.explore(model, plans, people, below=LEVEL, until=advice.day + 7)
    reached = rows["suppressed_throughout"].to_numpy()
    assert reached[0] >= 0.8 - 0.02  # a week after the dose: before its nadir, but acting
    assert "no count of the patient was used" in advice.report()


def test_outlier_and_misfit_are_said(tmp_path):
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    counts = patient.counts(tmp_path, 12.0 * patient.observed(model))
    fit = bc.fit_individual(model, counts, starts=1)
    advice = bc.redose(fit, **ASK)
    assert any("outlier of the model's population (b0 +" in text for text in advice.warnings)


@pytest.mark.filterwarnings("ignore")
def test_observations_that_were_not_used_are_named_with_the_reason(tmp_path):
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    rows = ["1,0,1000,.,.", "1,20,.,<5,0", "1,30,.,.,.", "1,45,.,7,100", "1,60,.,6,0"]
    table = patient.read(tmp_path, rows, "ID,TIME,AMT,DV,MDV")
    for method, words in (("M3", []), ("M1", ["line 3, day 20: bcell below 5 is dropped (M1)"])):
        fit = bc.fit_individual(model, table, censored=method, starts=1)
        advice = bc.redose(fit, **{**ASK, "draws": 100})
        expected = [*words, "line 4, day 30: no value, or MDV = 1",
                    "line 5, day 45: MDV = 100"]  # fmt: skip
        assert advice.to_json()["not_used"] == expected
        for line in expected:
            assert f"not used: {line}" in advice.report()


def test_alternatives_have_the_best_interval_where_none_does(tmp_path):
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    advice = bc.redose(model, dose="10 mg iv", below=1, probability=0.99, draws=50, seed=1)
    assert advice.interval is None
    best = advice.intervals.loc[advice.intervals["suppressed_throughout"].idxmax()]
    table = advice.alternatives.set_index("plan")
    row = table.loc[f"10 mg iv every {best['interval'] / 7:g} w"]
    assert row["suppressed_throughout"] == best["suppressed_throughout"]
    assert 3 <= len(table) <= 5


def test_dates_stand_beside_days(tmp_path):
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    rows = ["1,2024-01-01,1000,.", "1,2024-02-01,.,2", "1,2024-03-01,.,3"]
    fit = bc.fit_individual(model, patient.read(tmp_path, rows), starts=1)
    advice = bc.redose(fit, dose="500 mg iv", below=LEVEL, probability=0.5, draws=100, seed=1)
    assert advice.date(0.0) == "2024-03-01"
    assert "(2024-" in advice.report()
    assert [moment(fit, now) for now in ("2024-03-11", "70", 70.0)] == [70.0] * 3
    with pytest.raises(ValueError, match="now = 2024-03-11T08:00Z has a time zone"):
        moment(fit, "2024-03-11T08:00Z")


def test_a_date_of_data_with_days(fit):
    with pytest.raises(ValueError, match="now = 2024-03-11 is a date, but the data have days"):
        moment(fit, "2024-03-11")


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probability": 1.0}, "probability = 1.0: a number above 0 and below 1"),
        ({"probability": 90}, "probability = 90"),
        ({"dose": "500 mg iv at 3 d"}, "without a time"),
        ({"below": 0}, "below = 0: a threshold above 0"),
        ({"below": [10, 40]}, "below: one level is wanted"),
        ({"until": "20 d"}, "induction = 28 d: 0 d or more and less than until"),
        ({"now": -1}, "now = -1 d lies before the data"),
        ({"covariates": {"WT": 60}}, "covariates are those of the fit"),
        ({"draws": 0}, "n = 0"),
        ({"label": "rituximab_1000"}, 'did you mean "rituximab_1000mg_x2"'),
        ({"label": "ofatumumab_rms"}, "is for ofatumumab; model invented_kpd"),
    ],
)
def test_wrong_arguments_say_so(alone, options, words):
    with pytest.raises(ValueError, match=r"\w") as raised:
        bc.redose(alone, **{**ASK, "draws": 50, **options})
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"now": 5}, "a model alone has no clock"),
        ({"first": "500 mg iv at 3 d"}, "a course that begins on day 0"),
        ({"covariates": {"WGT": 5}}, 'unknown covariate "WGT"'),
    ],
)
def test_wrong_arguments_of_a_first_dose(tmp_path, options, words):
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    with pytest.raises(ValueError, match=r"\w") as raised:
        bc.redose(model, dose="500 mg iv", below=10, draws=10, **options)
    assert words in str(raised.value)


DATA = {
    "no dose": (["1,0,.,200", "1,30,.,180"], "the data hold no dose"),
    "two patients": (["1,0,1000,.", "1,30,.,3", "2,0,1000,.", "2,30,.,4"], "2 subjects"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_advised_on(tmp_path, name):
    rows, words = DATA[name]
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    with pytest.raises(ValueError, match=words):
        bc.redose(bc.fit_individual(model, patient.read(tmp_path, rows)), **ASK)


def test_unknown_endpoint(tmp_path):
    header, rows = "ID,TIME,AMT,DV,DVID", ["1,0,1000,.,.", "1,30,.,3,bcel"]
    with pytest.raises(ValueError, match='did you mean "bcell"'):
        patient.read(tmp_path, rows, header)


POOR = {
    "all censored": ["1,0,1000,.", "1,30,.,<5", "1,60,.,<5"],
    "one count": ["1,0,1000,.", "1,60,.,3"],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", POOR)
def test_poor_data_are_answered_with_what_they_are(tmp_path, name):
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    fit = bc.fit_individual(model, patient.read(tmp_path, POOR[name]), starts=2)
    advice = bc.redose(fit, **{**ASK, "draws": 200})
    text = advice.report()
    assert f"counts used: {len(POOR[name]) - 1}" in text
    if name == "all censored":
        assert "every observation is censored: only limits are known" in text
        assert "2 censored: M3, kept, each with its probability" in text
    wide = advice.parameters.set_index("parameter").loc["kout"]
    assert wide["posterior_p95"] > 2 * wide["posterior_p5"]


def test_a_threshold_above_the_baseline_is_said(alone):
    advice = bc.redose(alone, **{**ASK, "below": 500})
    assert advice.latest.status == "no need"
    assert any("at or above the baseline count of 100%" in text for text in advice.warnings)


def test_a_route_and_an_output_that_a_model_lacks():
    with pytest.raises(ValueError, match='cannot be dosed by route "sc"; it can by iv'):
        bc.redose("chen2024_rituximab", dose="20 mg sc", below=10, draws=10)
    with pytest.raises(ValueError, match="has no output bcell"):
        bc.redose("rozman2017_rituximab", dose="500 mg iv", below=10)


def test_history_with_a_steady_state(tmp_path):
    model = patient.model_of(tmp_path, patient.KPD + patient.IIV)
    header = "ID,TIME,AMT,II,SS,DV,EVID"
    rows = ["1,0,500,28,1,.,1", "1,20,.,.,.,2,0", "1,60,.,.,.,9,0"]
    short = bc.fit_individual(model, patient.read(tmp_path, rows, header), starts=1)
    long = [f"1,{28 * k},500,.,.,.,1" for k in range(20)]
    rows = [*long, "1,552,.,.,.,2,0", "1,592,.,.,.,9,0"]
    written = bc.fit_individual(model, patient.read(tmp_path, rows, header), starts=1)
    ask = {**ASK, "below": 40, "draws": 400}
    one = bc.redose(short, **{**ask, "now": 60})
    other = bc.redose(written, **{**ask, "now": 592})
    assert one.latest.status == other.latest.status == "found"
    assert abs(one.day - other.day) <= 1
    assert one.latest.share == pytest.approx(other.latest.share, abs=0.01)
