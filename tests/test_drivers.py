"""Rank correlations of parameters with an outcome, against scipy and against what is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bcellsim as bc

YU = "yu2022_ofatumumab"
PLANS = ["20 mg sc at 0 d", "20 mg sc at 0 d, 7 d"]


@pytest.fixture(scope="module")
def people():
    return bc.sample_population(YU, 30, seed=2, covariates="study")


@pytest.fixture(scope="module")
def each(people):
    return bc.explore(YU, PLANS, people, below=[20, 40], until="26 w", per_subject=True)


def test_coefficients_are_spearmans(each, people):
    found = bc.drivers(each, people)
    assert found.groupby(["regimen", "threshold"]).ngroups == 4
    rows = each[(each.regimen == PLANS[1]) & (each.threshold == 40)]
    time = rows["time_to_repletion"].to_numpy()
    defined = ~np.isnan(time)
    mine = found[(found.regimen == PLANS[1]) & (found.threshold == 40)].set_index("parameter")
    names = people.model.structure.parameters
    for name, row in mine.iterrows():
        value = (people.covariates[name] if name in people.covariates
                 else people.parameters[:, names.index(name)])  # fmt: skip
        wanted = stats.spearmanr(value[defined], np.minimum(time[defined], 1e9)).statistic
        assert row["rank_correlation"] == pytest.approx(wanted, abs=1e-12)
        assert row["low"] < row["rank_correlation"] < row["high"]
    assert (mine["n_subjects"] == 30).all()
    assert (mine["n_defined"] == defined.sum()).all()
    assert mine["reached_share"].iloc[0] == np.isfinite(time[defined]).mean()
    assert "WT" in mine.index
    assert mine["rank_correlation"].abs().is_monotonic_decreasing


def test_an_outcome_that_is_a_parameter_has_coefficient_one(each, people):
    b0 = people.parameters[:, people.model.structure.parameters.index("b0")]
    one = each[(each.regimen == PLANS[0]) & (each.threshold == 40)].assign(nadir=b0**3)
    found = bc.drivers(one, people, of="nadir")
    assert found.loc[0, "parameter"] == "b0"
    assert found.loc[0, "rank_correlation"] == pytest.approx(1.0)


def test_what_does_not_vary_has_no_coefficient(each, people):
    one = each[(each.regimen == PLANS[0]) & (each.threshold == 40)].assign(days_above=3.0)
    assert bc.drivers(one, people, of="days_above")["rank_correlation"].isna().all()


def test_interval_covers_the_coefficient_of_normal_pairs():
    # Of bivariate normals with correlation 1/2, Spearman's coefficient is 6/pi asin(1/4).
    from bcellsim.explore.drivers import _correlation

    rng, true = np.random.default_rng(1), 6 / np.pi * np.arcsin(0.25)
    covered = 0
    for _ in range(400):
        x, z = rng.normal(size=(2, 60))
        found = _correlation(x, 0.5 * x + np.sqrt(0.75) * z)
        covered += found["low"] <= true <= found["high"]
    assert 0.91 <= covered / 400 <= 0.985  # 95 %, with a Monte-Carlo error of 1.1 %


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: (t.drop(columns="subject"), {}), "a table of subjects is wanted"),
        (lambda t: (t, {"of": "time_to_repletoin"}), 'did you mean "time_to_repletion"?'),
        (lambda t: (t.iloc[1:], {}), "are not those of the subjects of population"),
    ],
)
def test_what_is_refused(each, people, change, sentence):
    table, options = change(each)
    with pytest.raises(ValueError, match=sentence.replace("?", r"\?")):
        bc.drivers(table, people, **options)


def test_identical_subjects_are_refused():
    same = bc.load_model("chen2024_rituximab")
    table = pd.DataFrame({"subject": [1], "time_to_repletion": [3.0]})
    from bcellsim.population import typical_subject

    with pytest.raises(ValueError, match="no parameter or covariate varies"):
        bc.drivers(table, typical_subject(same))
