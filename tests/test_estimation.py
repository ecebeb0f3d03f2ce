"""Estimation against closed forms, published values and lmfit itself; profiles, draws, advice."""

import math
from dataclasses import replace
from pathlib import Path

import lmfit
import numpy as np
import pandas as pd
import pytest
from patient import DAYS, HELD, IIV, KPD, PLAN, alone, counts, model_of, observed, read, shape
from scipy.stats import norm

import bcellsim as bc
from bcellsim.fit.posterior import draw
from bcellsim.fit.search import jacobian

HERE = Path(__file__).parent / "data"

SAME = 1e-9  # arithmetic
SOLVED = 1e-6  # a simulation at 1e-9 against the fit's at 1e-8
FOUND = 1e-4  # where a search stops, in the parameter
CURVED = 1e-4  # second differences on frozen steps
WEIGHED = 0.1  # as SAMPLED, between 4,000 draws and 2,000 effective ones
SAMPLED = 0.06  # mean and SD of 4,000 draws, in standard deviations: four standard errors


@pytest.fixture
def kpd(tmp_path):
    return model_of(tmp_path)


@pytest.fixture
def varied(tmp_path):
    return model_of(tmp_path, KPD + IIV)


# --- likelihoods whose estimate has a closed form ----------------------------------------------


def test_estimated_sd_is_the_root_mean_square(kpd, tmp_path):
    seen = observed(kpd)
    logs = np.log(seen / shape(kpd))
    fit = alone(kpd, tmp_path, seen, sigma="estimate")
    n = len(DAYS)
    assert fit.converged
    assert fit.params.loc["b0", "value"] == pytest.approx(math.exp(logs.mean()), rel=FOUND)
    assert fit.params.loc["bcell_sd", "value"] == pytest.approx(logs.std(), rel=FOUND)
    assert fit.params.loc["bcell_sd", "log_se"] == pytest.approx(1 / math.sqrt(2 * n), rel=FOUND)
    assert fit.params.loc["b0", "log_se"] == pytest.approx(logs.std() / math.sqrt(n), rel=FOUND)
    likelihood = n * (math.log(2 * math.pi * logs.var()) + 1) + 2 * np.log(seen).sum()
    assert fit.minus_two_log_l == pytest.approx(likelihood, rel=SOLVED)
    assert fit.aic == pytest.approx(likelihood + 4, rel=SOLVED)
    assert fit.errors["bcell"].values["sd"] == pytest.approx(logs.std(), rel=FOUND)
    assert "maximum likelihood" in fit.report()
    assert "SD 0.2" in fit.report()


def test_additive_error_is_a_weighted_mean(kpd, tmp_path):
    seen, f = observed(kpd), shape(kpd)
    fit = alone(kpd, tmp_path, seen, error="additive", sigma=7)
    assert fit.params.loc["b0", "value"] == pytest.approx((seen @ f) / (f @ f), rel=FOUND)


@pytest.mark.parametrize("form", ["poisson", "negative-binomial"])
def test_counting_error_of_the_baseline(kpd, tmp_path, form):
    cells = np.random.default_rng(3).poisson(200.0 * shape(kpd) * 5.0)
    error = "poisson" if form == "poisson" else {"form": form, "dispersion": 1e-7}
    fit = alone(kpd, tmp_path, np.maximum(cells, 1) / 5.0, error=error, volume=5)
    cells = np.maximum(cells, 1)
    # With hardly any overdispersion the negative binomial is Poisson.
    near = FOUND if form == "poisson" else 1e-3
    wanted = cells.sum() / (5.0 * shape(kpd).sum())
    assert fit.params.loc["b0", "value"] == pytest.approx(wanted, rel=near)
    assert fit.params.loc["b0", "log_se"] == pytest.approx(1 / math.sqrt(cells.sum()), rel=near)


@pytest.mark.parametrize("form", ["proportional", "combined1", "combined2"])
def test_errors_that_depend_on_the_prediction_against_scipy(kpd, tmp_path, form):
    from scipy.optimize import minimize_scalar
    from scipy.stats import norm

    seen, f = observed(kpd), shape(kpd)
    settings = {"form": form, "prop_sd": 0.3, **({} if form == "proportional" else {"add_sd": 2})}
    fit = alone(kpd, tmp_path, seen, error=settings)

    def minus_two_log_l(log_b0):
        mean = math.exp(log_b0) * f
        sd = {"proportional": 0.3 * mean, "combined1": 2 + 0.3 * mean,
              "combined2": np.sqrt(4 + (0.3 * mean) ** 2)}[form]  # fmt: skip
        return -2 * norm.logpdf(seen, mean, sd).sum()

    best = minimize_scalar(minus_two_log_l, bracket=(4.5, 6.0), tol=1e-10)
    assert math.log(fit.params.loc["b0", "value"]) == pytest.approx(best.x, abs=FOUND)
    assert fit.minus_two_log_l == pytest.approx(best.fun, rel=SOLVED)


def test_right_and_interval_censored_rows_of_the_baseline(kpd, tmp_path):
    from scipy.optimize import minimize_scalar
    from scipy.stats import norm

    seen, f = observed(kpd), shape(kpd)
    table = counts(tmp_path, seen)
    rows = np.flatnonzero(table["EVID"] == 0)
    table["CENS"] = table["CENS"].astype(int)
    for at, cens, value, limit in ((0, -1, 150.0, math.nan), (5, 1, 15.0, 5.0), (6, 1, 25.0, 15.0)):
        table.loc[table.index[rows[at]], ["CENS", "DV", "LIMIT"]] = cens, value, limit
    fit = bc.fit_individual(kpd, table, prior=None, fixed=HELD, sigma=0.3, starts=1)

    def minus_two_log_l(log_b0):
        mean = np.log(f) + log_b0
        exact = np.array([i for i in range(len(f)) if i not in (0, 5, 6)])
        total = norm.logpdf(np.log(seen[exact]), mean[exact], 0.3).sum()
        total += norm.logsf(math.log(150), mean[0], 0.3)
        for i, low, high in ((5, 5, 15), (6, 15, 25)):
            total += math.log(norm.cdf(math.log(high), mean[i], 0.3)
                              - norm.cdf(math.log(low), mean[i], 0.3))  # fmt: skip
        return -2 * total

    best = minimize_scalar(minus_two_log_l, bracket=(4.5, 6.0), tol=1e-10)
    assert math.log(fit.params.loc["b0", "value"]) == pytest.approx(best.x, abs=FOUND)
    assert fit.to_json()["n_censored"] == 3
    assert "3 censored (M3)" in fit.report()


# --- bounds, expressions, lmfit's own parameters -------------------------------------------------


def test_bounds_keep_a_parameter_and_its_error_is_missing(kpd, tmp_path):
    fit = alone(kpd, tmp_path, observed(kpd), sigma=0.3, start={},
                parameters={"b0": {"value": 90, "max": 120}})  # fmt: skip
    assert fit.params.loc["b0", "value"] == pytest.approx(120, rel=1e-3)
    assert math.isnan(fit.params.loc["b0", "log_se"])
    assert fit.params.loc["b0", "determined"] == "nothing"
    assert "b0 ended at a bound" in fit.report()
    assert "n/a" in fit.report()


def test_an_auxiliary_parameter_and_an_expression(kpd, tmp_path):
    seen = observed(kpd)
    plain = alone(kpd, tmp_path, seen, sigma=0.3)
    tied = alone(
        kpd, tmp_path, seen, sigma=0.3, start={},
        parameters={"ratio": {"value": 0.7, "min": 0.1, "max": 10}, "b0": {"expr": "ratio * 150"}},
    )  # fmt: skip
    for column in ("value", "log_se"):
        assert tied.params.loc["b0", column] == pytest.approx(plain.params.loc["b0", column],
                                                              rel=1e-3)  # fmt: skip
    assert tied.objective == pytest.approx(plain.objective, abs=1e-6)


def test_lmfits_own_parameters_and_a_tie_between_two(kpd, tmp_path):
    seen = observed(kpd)
    held = {name: HELD[name] for name in ("kel", "a50")}
    given = lmfit.Parameters()
    given.add("kout", 0.03, min=0.001, max=1.0)
    given.add("b0", expr="4000 * kout")
    given.add("emax", 60, vary=False)
    fit = alone(kpd, tmp_path, seen, sigma=0.3, start={}, fixed=held, parameters=given)
    kout, b0 = fit.params.loc["kout"], fit.params.loc["b0"]
    assert b0["value"] == pytest.approx(4000 * kout["value"], rel=SAME)
    assert b0["log_se"] == pytest.approx(kout["log_se"], rel=1e-6)
    assert fit.params.loc["emax", "determined"] == "fixed"
    # The Jacobian has the chain rule in it: at the minimum the objective is flat along kout.
    assert abs(fit.curvature.gradient[0]) < 1e-3


def test_a_fixed_parameter_keeps_its_value_though_a_covariate_follows_another(tmp_path):
    rows = ["1,-1,.,300,70,38", "1,0,20,.,70,38", "1,40,.,9,70,38"]
    data = read(tmp_path, rows, "ID,TIME,AMT,DV,WT,AGE")
    fit = bc.fit_individual("yu2022_ofatumumab", data, fixed={"emax": 100, "b0": 250}, starts=1)
    assert fit.params.loc["emax", "value"] == pytest.approx(100, rel=SAME)
    assert fit.params.loc["b0", "value"] == pytest.approx(250, rel=SAME)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parameters": {"kot": 1}, "fixed": {}}, 'unknown setting'),
        ({"parameters": {"kout": {"maximum": 1}}}, 'unknown setting "maximum"; did you mean "max"'),
        ({"parameters": {"kot": {"min": 1}}}, 'unknown parameter "kot"; did you mean "kout"'),
        ({"parameters": {"b0": {"value": 5, "min": 50}}}, "not between its bounds: min 50, max no"),
        ({"parameters": {"b0": {"min": 50, "max": 20}}}, "lies between min = 50 and max = 20"),
        ({"parameters": {"b0": {"expr": "2 * kuot"}}}, 'b0: expr "2 * kuot"'),
        ({"parameters": {"b0": {"expr": "-2 * 3"}}}, "gives -6 at the start"),
        ({"parameters": {"b0": {"expr": "3", "value": 3}}}, "b0 has an expr and value"),
        ({"parameters": {"kel": {"max": 1}}, "fixed": ["kel"]}, "parameters: kel is fixed"),
        ({"starts": 0}, "starts = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"censored": "M4"}, 'unknown method for censored rows "M4"'),
        ({"censored": "M5", "sigma": None}, "give sigma"),
    ],
)  # fmt: skip
def test_wrong_options_say_so(kpd, tmp_path, options, words):
    options = {"prior": None, "sigma": 0.3, **options}
    if words == "unknown setting":
        options["parameters"], words = {"b0": {"vale": 1}}, 'unknown setting "vale"'
    with pytest.raises(ValueError, match=r"\w") as raised:
        bc.fit_individual(kpd, counts(tmp_path, observed(kpd)), **options)
    assert words in str(raised.value)


def test_a_sd_is_not_estimated_from_few_counts(kpd, tmp_path):
    data = read(tmp_path, ["1,0,1000,.", *(f"1,{t},.,{t}" for t in (5, 60, 120, 150, 170)),
                           "1,200,.,<5", "1,201,.,<5"])  # fmt: skip
    with pytest.raises(ValueError, match="from 5 uncensored observations; at least 6"):
        bc.fit_individual(kpd, data, prior=None, sigma="estimate", fixed=HELD)


def test_a_zero_needs_a_law_that_has_one(kpd, tmp_path):
    table = counts(tmp_path, observed(kpd))
    table.loc[table.index[7], "DV"] = 0.0
    with pytest.raises(ValueError, match="bcell = 0 cannot be under a log-normal error; declare"):
        bc.fit_individual(kpd, table, prior=None, sigma=0.3, fixed=HELD)
    fit = bc.fit_individual(kpd, table, prior=None, error="poisson", volume=1, fixed=HELD, starts=1)
    assert np.isfinite(fit.objective)


# --- few data ------------------------------------------------------------------------------------


def test_doses_after_the_last_count_tell_the_baseline_only(varied, tmp_path):
    data = read(tmp_path, ["1,-3,.,300", "1,0,1000,."])
    fit = bc.fit_individual(varied, data, starts=1)
    assert "every dose is given after the last observation" in fit.report()
    with pytest.raises(ValueError, match="without a prior nothing does"):
        bc.fit_individual(varied, data, prior=None, fixed=HELD)


def test_all_counts_censored_gives_limits(varied, tmp_path):
    rows = [f"1,{t},.,<5" for t in (30, 60, 90)]
    fit = bc.fit_individual(varied, read(tmp_path, ["1,0,1000,.", *rows]), starts=2)
    assert fit.converged
    assert "every observation is censored" in fit.report()
    assert 0.2 < fit.params.loc["b0", "log_se"] < 0.4  # the prior's is 0.4
    draws = fit.draws(200, 1)
    assert len(draws) == 200


# --- several starts ------------------------------------------------------------------------------


def test_starts_depend_on_the_seed_only_and_are_reported(varied, tmp_path):
    data = counts(tmp_path, observed(varied))
    a, b, c = (bc.fit_individual(varied, data, starts=3, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(a.starts, b.starts)
    assert not a.starts["objective"].equals(c.starts["objective"])
    assert a.objective == pytest.approx(c.objective, abs=1e-5)
    assert len(a.starts) == 3
    assert a.starts["agrees"].all()
    assert "3 of 3 starts ended at the best minimum" in a.report()
    assert a.curvature.decrement < 1e-4


# --- methods for comparison ----------------------------------------------------------------------


def test_replacing_censored_rows_warns_and_is_biased(varied, tmp_path):
    seen = observed(varied, sd=0.0)
    texts = [f"<{20.0}" if value < 20 else repr(value) for value in seen.tolist()]
    rows = [f"1,{t},.,{v}" for t, v in zip(DAYS, texts, strict=True)]
    data = read(tmp_path, ["1,0,1000,.", *rows[:4], "1,14,1000,.", *rows[4:]])
    kept = bc.fit_individual(varied, data, starts=1)
    with pytest.warns(UserWarning, match=r"dropped, .* replaced \(M5.* biased"):
        half = bc.fit_individual(varied, data, censored="M5", starts=1)
    assert "biased" in half.report()
    assert "(M5)" in half.report()
    truth = {"b0": 200.0, "kout": 0.05, "kel": 0.05}
    off = {name: [abs(math.log(f.params.loc[name, "value"] / value)) for f in (kept, half)]
           for name, value in truth.items()}  # fmt: skip
    assert off["kel"][1] > 2 * off["kel"][0]
    with pytest.raises(ValueError, match="bcell = 0 cannot be under a log-normal"):
        bc.fit_individual(varied, data, censored="M7")


# --- profiles and draws --------------------------------------------------------------------------


def test_profile_of_the_baseline_is_a_parabola(kpd, tmp_path):
    fit = alone(kpd, tmp_path, observed(kpd), sigma=0.3)
    table = fit.profile("b0")
    row = fit.params.loc["b0"]
    z = np.log(table["value"] / row["value"]) / row["log_se"]
    np.testing.assert_allclose(table["rise"], z**2, atol=1e-4)
    assert table.attrs["low"] == pytest.approx(row["low_90"], rel=FOUND)
    assert table.attrs["high"] == pytest.approx(row["high_90"], rel=FOUND)
    assert table.attrs["unit"] == "cells/uL"
    with pytest.raises(ValueError, match="unknown parameter that was searched"):
        fit.profile("kout")
    with pytest.raises(ValueError, match="level = 90"):
        fit.profile("b0", level=90)


def test_profile_refits_the_others(varied, tmp_path):
    fit = bc.fit_individual(varied, counts(tmp_path, observed(varied)), starts=1)
    table = fit.profile("kout", 0.9)
    at = int(table["rise"].argmin())
    assert table["rise"].iloc[at] == pytest.approx(0.0, abs=1e-6)
    near = table.iloc[[at - 1, at + 1]]
    se = fit.params.loc["kout", "log_se"]
    z = np.log(near["value"] / fit.params.loc["kout", "value"]) / se
    # It is not symmetric; to second order both sides together rise by z^2.
    assert near["rise"].mean() == pytest.approx((z**2).mean(), rel=0.02)
    assert table.attrs["low"] < fit.params.loc["kout", "value"] < table.attrs["high"]


@pytest.mark.parametrize("method", ["importance", "laplace"])
def test_draws_of_a_normal_posterior(varied, tmp_path, method):
    # One count before any dose: only b0 is learnt, and kout through its correlation with it.
    data = read(tmp_path, ["1,-3,.,300", "1,0,1000,."])
    fit = bc.fit_individual(varied, data, starts=1)
    draws = fit.draws(4000, 5, method)
    prior = np.array([[0.4**2, 0.6 * 0.4 * 0.5], [0.6 * 0.4 * 0.5, 0.5**2]])
    gain = prior[:, 0] / (prior[0, 0] + 0.3**2)
    mean = gain * math.log(300 / 200)
    left = prior - np.outer(gain, prior[0])
    logs = np.log(draws[["b0", "kout"]].to_numpy() / [200.0, 0.05])
    sd = np.sqrt(np.diag(left))
    assert logs.mean(axis=0) == pytest.approx(mean, abs=SAMPLED * sd.max())
    assert logs.std(axis=0) == pytest.approx(sd, rel=SAMPLED)
    correlation = left[0, 1] / np.prod(sd)
    assert np.corrcoef(logs.T)[0, 1] == pytest.approx(correlation, abs=SAMPLED)
    assert draws.attrs["effective"] >= 2000
    assert draws.attrs["seed"] == 5
    pd.testing.assert_frame_equal(draws, fit.draws(4000, 5, method))


def test_draws_agree_with_a_weighed_sample_of_the_population(varied, tmp_path):
    """The posterior by weights of the likelihood: no search, no curvature, no proposals."""
    days, seen = (0.0, 10.0, 60.0, 150.0, 190.0), (260.0, 2.0, 1.0, 3.0, 9.0)
    rows = [f"1,{t},.,{'<5' if c < 5 else c}" for t, c in zip(days, seen, strict=True)]
    fit = bc.fit_individual(
        varied, read(tmp_path, [rows[0], "1,0,1000,.", rows[1], "1,14,1000,.", *rows[2:]]), starts=2
    )
    people = bc.sample_population(varied, 60_000, seed=2)
    plan = "1000 mg iv at 0 d, 14 d"
    logs = np.log(bc.simulate(varied, plan, people, times=[*days, 230.0]).bcell.values)
    weights = np.ones(len(logs))
    for k, count in enumerate(seen):
        apart = (np.log(max(count, 5.0)) - logs[:, k]) / 0.3
        weights *= norm.cdf(apart) if count < 5 else norm.pdf(apart)
    weights /= weights.sum()
    assert 1 / np.sum(weights**2) > 2000
    later = bc.simulate(varied, plan, fit.population(4000, 6), times=[230.0]).bcell.values[:, 0]
    draws = np.column_stack([np.log(fit.draws(4000, 6)[["b0", "kout", "kel"]]), np.log(later)])
    names = [varied.structure.parameters.index(name) for name in ("b0", "kout", "kel")]
    exact = np.column_stack([np.log(people.parameters[:, names]), logs[:, -1]])
    mean = weights @ exact
    sd = np.sqrt(weights @ (exact - mean) ** 2)
    assert (draws.mean(axis=0) - mean) / sd == pytest.approx(np.zeros(4), abs=WEIGHED)
    assert draws.std(axis=0) == pytest.approx(sd, rel=WEIGHED)
    # The lower tail of the count, which a redose day rests on.
    for q in (0.05, 0.5, 0.9):
        low = np.mean(draws[:, -1] <= _quantile(exact[:, -1], weights, q))
        assert low == pytest.approx(q, abs=0.03)


def _quantile(values, weights, q):
    order = np.argsort(values)
    return values[order][np.searchsorted(np.cumsum(weights[order]), q)]


def test_draws_without_a_curvature_begin_from_the_prior(varied, tmp_path):
    fit = bc.fit_individual(varied, counts(tmp_path, observed(varied)), starts=1)
    blind = replace(fit.curvature, covariance=np.full_like(fit.curvature.covariance, np.nan))
    found = draw(fit.problem, [blind], 2000, 7, "importance")
    ours, other = np.log(fit.draws(2000, 7)), found.points
    assert found.effective > 1000
    for k, key in enumerate(fit.problem.coordinates.variables):
        column = ours[key.removeprefix("log_")]
        assert other[:, k].mean() == pytest.approx(column.mean(), abs=0.15 * column.std())
        assert other[:, k].std() == pytest.approx(column.std(), rel=0.15)
    with pytest.raises(ValueError, match='so that nothing can be drawn: use method="importance"'):
        draw(fit.problem, [blind], 10, 7, "laplace")


def test_a_population_of_draws_is_simulated(varied, tmp_path):
    fit = bc.fit_individual(varied, counts(tmp_path, observed(varied)), starts=1)
    people = fit.population(50, 3)
    draws = fit.draws(50, 3)
    assert people.table()["b0"].to_numpy() == pytest.approx(draws["b0"].to_numpy(), rel=SAME)
    many = bc.simulate(varied, PLAN, people, times=[0.0, 100.0])
    assert many.bcell.values[:, 0] == pytest.approx(draws["b0"].to_numpy(), rel=SAME)


def test_draws_that_cannot_be_made_say_so(kpd, varied, tmp_path):
    fit = bc.fit_individual(varied, counts(tmp_path, observed(varied)), starts=1)
    with pytest.raises(ValueError, match='unknown method of drawing "mcmc"; known: emcee'):
        fit.draws(10, 1, "mcmc")
    with pytest.raises(ValueError, match="n = 0"):
        fit.draws(0)
    rows = ["1,0,1000,.", "1,300,.,200", "1,350,.,190"]
    flat = bc.fit_individual(kpd, read(tmp_path, rows), prior=None, sigma=0.3, starts=1,
                             fixed={"kel": 0.05, "a50": 20, "kout": 0.05})  # fmt: skip
    with pytest.raises(ValueError, match="these data do not determine emax"):
        flat.draws(10)


def test_emcee_is_named_when_it_is_not_there(varied, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "emcee", None)
    fit = bc.fit_individual(varied, counts(tmp_path, observed(varied)), starts=1)
    with pytest.raises(ImportError, match=r'pip install "bcellsim\[sampling\]"'):
        fit.draws(10, 1, "emcee")


@pytest.mark.slow
def test_emcee_agrees_with_importance_resampling(varied, tmp_path):
    pytest.importorskip("emcee")
    fit = bc.fit_individual(varied, counts(tmp_path, observed(varied)), starts=1)
    ours, theirs = (np.log(fit.draws(2000, 4, method)[["b0", "kout", "kel"]])
                    for method in ("importance", "emcee"))  # fmt: skip
    sd = ours.std()
    assert (ours.mean() - theirs.mean()).abs().div(sd).max() < 0.2
    assert (theirs.std() / sd - 1).abs().max() < 0.15


# --- what would determine a parameter --------------------------------------------------------


def test_what_further_observations_would_tell(varied, tmp_path):
    # Depleted throughout: when cells return is not known, and so not how fast the drug goes.
    rows = [f"1,{t},.,4" for t in (20, 40)]
    fit = bc.fit_individual(varied, read(tmp_path, ["1,0,1000,.", *rows]), sigma=0.8, starts=1)
    assert fit.params.loc["kel", "determined"] == "prior"
    table = fit.identify()
    best = table[table["coordinate"] == "log_kel"].iloc[0]
    assert best["observation"] == "counts while B cells return"
    assert best["se_with"] < 0.5 * best["se"]
    assert len(best["days"]) > 1
    assert np.diff(best["days"]).min() >= 6  # a week apart, rounded to days
    # Counts before the first dose measure b0 alone: what they add is known in closed form.
    base = table[(table["coordinate"] == "log_kout")
                 & (table["observation"] == "counts before the first dose")].iloc[0]  # fmt: skip
    precision = np.linalg.inv(fit.curvature.covariance)
    b, k = (fit.problem.coordinates.variables.index(f"log_{n}") for n in ("b0", "kout"))
    precision[b, b] += 3 / 0.8**2
    wanted = math.sqrt(np.linalg.inv(precision)[k, k])
    assert base["se_with"] == pytest.approx(wanted, rel=CURVED)
    text = fit.report()
    assert "What would determine them" in text
    assert "kel: counts while B cells return (day " in text


def test_a_flat_direction_is_named(kpd, tmp_path):
    rows = ["1,0,1000,.", "1,300,.,200", "1,350,.,190"]
    fit = bc.fit_individual(kpd, read(tmp_path, rows), prior=None, sigma=0.3, starts=1,
                            fixed={"kel": 0.05, "a50": 20, "kout": 0.05})  # fmt: skip
    assert math.isnan(fit.params.loc["emax", "log_se"])
    assert fit.params.loc["emax", "determined"] == "nothing"
    assert fit.params.loc["b0", "determined"] == "data"
    text = fit.report()
    assert "Not determined by these data: emax" in text
    assert "emax: counts while B cells are depleted (day " in text
    assert "is where the search ends without bounds" in text


# --- published and certified values ----------------------------------------------------------

WANG = """
name = "wang"
title = "Wang 2007: f = 10 exp(-0.5 exp(eta) t)"
structure = "kpd"
drug = "rituximab"
citation = ""
source = "Wang 2007"
read_in = "observed.md"
status = "transcribed"
context_of_use = "tests"
not_for = "anything else"

[parameters]
kel = { value = 0.5, unit = "1/day" }
a50 = { value = 1, unit = "mg" }
b0 = { value = 1, unit = "cells/uL" }
kout = { value = 1, unit = "1/day" }
emax = { value = 1, unit = "" }

[iiv]
kel = { value = 0.04, scale = "variance" }
"""
# Wang 2007, Table 2 (NONMEM, FOCE with interaction), without n ln(2 pi); quoted to three decimals.
PUBLISHED = {"proportional": 39.458, "additive": -2.059}


def pieces(form, eta, time, value):
    """Return the objective in closed form, without n ln(2 pi), and its expected curvature."""
    f = 10 * np.exp(-0.5 * np.exp(eta) * time)
    slope = -f * 0.5 * np.exp(eta) * time
    variance, change = (0.1 * f**2, 0.2 * f * slope) if form == "proportional" else (0.1, 0.0 * f)
    objective = np.sum((value - f) ** 2 / variance + np.log(variance + 0.0 * f)) + eta**2 / 0.04
    curved = 2 / 0.04 + np.sum(2 * slope**2 / variance + change**2 / variance**2)
    return objective, curved


@pytest.mark.parametrize("form", PUBLISHED)
def test_objectives_of_wang_2007(tmp_path, form):
    model = model_of(tmp_path, WANG, "wang")
    rows = pd.read_csv(HERE / "wang2007.csv")
    parameter = {"proportional": "prop_sd", "additive": "add_sd"}[form]
    error = {"form": form, parameter: math.sqrt(0.1)}
    total = 0.0
    for _, own in rows.groupby("ID"):
        time, value = own["Time"].to_numpy(), own["Y"].to_numpy()
        # An output at the time of a dose is the trough: observe a moment later.
        lines = [f"1,{t + 1e-9},.,amount,{y}" for t, y in zip(time, value, strict=True)]
        data = read(tmp_path, ["1,0,10,.,.", *lines], "ID,TIME,AMT,DVID,DV")
        fit = bc.fit_individual(model, data, error={"amount": error}, starts=1)
        eta = math.log(fit.params.loc["kel", "value"] / 0.5)
        constants = len(own) * math.log(2 * math.pi)
        wanted, expected = pieces(form, eta, time, value)
        assert fit.objective - constants == pytest.approx(wanted, abs=1e-5)
        h = 1e-3
        near = [pieces(form, eta + step, time, value)[0] for step in (-h, 0, h)]
        assert near[0] > near[1] < near[2]
        second = (near[0] - 2 * near[1] + near[2]) / h**2
        assert fit.curvature.hessian[0, 0] == pytest.approx(second, rel=CURVED)
        laplace = wanted + math.log(0.04) + math.log(second / 2)
        assert fit.laplace - constants == pytest.approx(laplace, abs=1e-3)
        total += fit.objective - constants + math.log(0.04) + math.log(expected / 2)
    assert total == pytest.approx(PUBLISHED[form], abs=1e-3)


# A constant infusion of R into one compartment gives R / cl (1 - exp(-cl / vc t)): Misra1a with
# b1 = R / cl and b2 = cl / vc.
MISRA = (
    KPD.replace("invented_kpd", "misra1a").replace('"kpd"', '"turnover"').split("[parameters]")[0]
    + """
[parameters]
cl = { value = 0.003, unit = "L/day" }
vc = { value = 10, unit = "L" }
q = { value = 0, unit = "L/day", fixed = true }
vp = { value = 1, unit = "L", fixed = true }
b0 = { value = 1, unit = "cells/uL", fixed = true }
kout = { value = 1, unit = "1/day", fixed = true }
emax = { value = 1, unit = "", fixed = true }
ec50 = { value = 1, unit = "mg/L", fixed = true }
"""
)
# NIST StRD, Misra1a: certified values, their standard deviations, residual SD, sum of squares.
B1, B2 = (2.3894212918e02, 2.7070075241e00), (5.5015643181e-04, 7.2668688436e-06)
RESIDUAL_SD, SQUARES = 1.0187876330e-01, 1.2455138894e-01


@pytest.mark.parametrize("start", [(500.0, 0.0001), (250.0, 0.0005)])
def test_certified_problem_of_nist(tmp_path, start):
    model = model_of(tmp_path, MISRA, "misra1a")
    table = pd.read_csv(HERE / "misra1a.csv")
    lines = [f"1,{x!r},.,.,conc,{y!r}" for x, y in zip(table["x"], table["y"], strict=True)]
    data = read(tmp_path, ["1,0,800,800,.,.", *lines], "ID,TIME,AMT,DUR,DVID,DV")
    data.loc[data["EVID"] == 1, "CMT"] = "iv"
    cl, vc = 1.0 / start[0], 1.0 / start[0] / start[1]
    fit = bc.fit_individual(
        model, data, prior=None, start={"cl": cl, "vc": vc}, starts=1,
        error={"conc": {"form": "additive", "add_sd": RESIDUAL_SD}},
    )  # fmt: skip
    assert fit.converged
    found = 1.0 / fit.params.loc["cl", "value"], fit.params.loc["cl", "value"] / fit.params.loc[
        "vc", "value"]  # fmt: skip
    # lmfit's own least squares of the formula, as lmfit's tests of these problems set it.
    own = lmfit.Model(lambda x, b1, b2: b1 * (1 - np.exp(-b2 * x))).fit(
        table["y"].to_numpy(), x=table["x"].to_numpy(), b1=start[0], b2=start[1],
        fit_kws={"ftol": 1e-14, "xtol": 1e-14},
    )  # fmt: skip
    squares = float((fit.residuals["DV"] - fit.residuals["IPRED"]).pow(2).sum())
    assert squares == pytest.approx(SQUARES, rel=1e-7)
    for ours, theirs, certified in zip(found, own.best_values.values(), (B1, B2), strict=True):
        assert ours == pytest.approx(certified[0], rel=1e-6)
        assert ours == pytest.approx(theirs, rel=1e-6)
    # b1 is R / cl, so that their logarithms have one error. NIST's leaves second derivatives out,
    # as J'J does; they are 2e-3 of it here.
    slopes = jacobian(fit.problem, fit.curvature.point)
    linear = np.sqrt(np.linalg.inv(slopes.T @ slopes)[0, 0])
    assert linear == pytest.approx(B1[1] / B1[0], rel=1e-5)
    assert fit.params.loc["cl", "log_se"] == pytest.approx(linear, rel=3e-3)


def test_concentrations_are_what_tells_the_clearance(tmp_path):
    text = MISRA.replace("vc = {", 'ka = { value = 1, unit = "1/day", fixed = true }\nvc = {')
    text = text.replace("value = 0.003", "value = 0.3")
    text += '\n[iiv]\ncl = { value = 0.3, scale = "sd" }\nvc = { value = 0.2, scale = "sd" }\n'
    text += "\n[residual_error]\nconc = { prop_sd = 0.2 }\n"
    model = model_of(tmp_path, text, "misra1a")
    data = read(tmp_path, ["1,0,800,iv,.,.", "1,1,.,.,conc,78"], "ID,TIME,AMT,CMT,DVID,DV")
    fit = bc.fit_individual(model, data, starts=1)
    assert fit.params.loc["cl", "determined"] == "prior"
    assert "cl: drug concentrations (day " in fit.report()


# --- what tables can hold ------------------------------------------------------------------------


def test_percent_of_baseline_and_of_lymphocytes(kpd, tmp_path):
    seen, f = observed(kpd), shape(kpd)
    alc = 1500.0
    rows = [f"1,{t},.,{100 * v / alc!r},%,1.5" for t, v in zip(DAYS, seen.tolist(), strict=True)]
    rows = ["1,0,1000,.,.,.", *rows[:4], "1,14,1000,.,.,.", *rows[4:]]
    data = read(tmp_path, rows, "ID,TIME,AMT,DV,UNIT,ALC")
    fit = bc.fit_individual(kpd, data, prior=None, fixed=HELD, sigma=0.3, starts=1)
    wanted = np.log(seen / f).mean()
    assert math.log(fit.params.loc["b0", "value"]) == pytest.approx(wanted, abs=FOUND)
    assert "counts are % of lymphocytes" in fit.report()
    # Of its own baseline a count says nothing of the baseline: kout is fitted instead.
    rows = [f"1,{t},.,{100 * v!r},% of baseline" for t, v in zip(DAYS[5:], f[5:].tolist(),
                                                                  strict=True)]  # fmt: skip
    data = read(tmp_path, ["1,0,1000,.,.", "1,14,1000,.,.", *rows], "ID,TIME,AMT,DV,UNIT")
    held = {name: HELD[name] for name in ("kel", "a50", "emax")} | {"b0": 77}
    fit = bc.fit_individual(kpd, data, prior=None, fixed=held, sigma=0.3, starts=1,
                            start={"kout": 0.04})  # fmt: skip
    assert fit.params.loc["kout", "value"] == pytest.approx(0.05, rel=FOUND)


def test_counted_volume_of_the_table(kpd, tmp_path):
    rows = [f"1,{t},.,{v!r},5" for t, v in zip(DAYS[1:], (200 * shape(kpd))[1:].tolist(),
                                               strict=True)]  # fmt: skip
    data = read(tmp_path, ["1,0,1000,.,.", *rows], "ID,TIME,AMT,DV,VOLUME")
    fit = bc.fit_individual(kpd, data, prior=None, fixed=HELD, error="poisson", starts=1)
    assert fit.errors["bcell"].values["volume"] == 5.0
    data.loc[data.index[3], "VOLUME"] = 7.0
    with pytest.raises(ValueError, match="state 2 counted volumes"):
        bc.fit_individual(kpd, data, prior=None, fixed=HELD, error="poisson")


# --- estimates at the edge of reason -----------------------------------------------------------

LATE = ["1,20,.,3.18", "1,60,.,1.71", "1,120,.,7.07", "1,180,.,28.8", "1,260,.,257", "1,400,.,268"]


def test_a_parameter_without_bounds_that_runs_away_is_no_estimate(varied, tmp_path):
    """No count stands while B cells fall, so that nothing holds their turnover from above."""
    table = read(tmp_path, ["1,0,1000,.", "1,14,1000,.", *LATE])
    options = {"prior": None, "fixed": ["a50", "emax"], "starts": 1, "sigma": 0.3}
    free = bc.fit_individual(varied, table, **options)
    assert not free.converged
    assert free.implausible == ("kout",)
    assert free.params.loc["kout", "value"] == pytest.approx(500.0, rel=1e-3)  # 10,000 times 0.05
    assert any("kout = 500 1/day is where the search ends" in w for w in free.warnings)
    assert "DID NOT CONVERGE, at an implausible value of kout" in free.report()
    held = bc.fit_individual(varied, table, **options, parameters={"kout": {"max": 1.0}})
    assert held.converged  # at the user's own bound
    assert any("kout ended at a bound" in w for w in held.warnings)
    assert bc.fit_individual(varied, table, starts=1).implausible == ()


def test_a_minimum_far_from_any_patient_is_said(kpd, varied, tmp_path):
    """A count of 3 before any dose is a baseline of 3: a minimum, and hardly a patient."""
    few = [3.0 * value for value in shape(kpd)]
    for model, far in ((varied, "10 SD of the model's population"), (kpd, None)):
        fit = alone(model, tmp_path, few, sigma=0.3)
        assert fit.converged
        assert fit.implausible == (("b0",) if far else ())
        assert far is None or f"b0 = 3 cells/uL lies {far} from the 200" in fit.warnings[0]
    tiny = alone(kpd, tmp_path, [1.0 * value for value in shape(kpd)], sigma=0.3)
    assert "b0 = 1 cells/uL lies 2e+02 times from the 200" in tiny.warnings[0]
