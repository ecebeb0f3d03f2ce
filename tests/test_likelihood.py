"""Residual errors: densities, probabilities of censored rows, simulation, and what is replaced."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import nbinom, norm, poisson

import bcellsim as bc
from bcellsim.fit.censoring import METHODS, rows_of
from bcellsim.fit.errors import error_models
from bcellsim.fit.likelihood import FAMILIES, ErrorModel, Rows, log_interval, log_likelihood
from bcellsim.observations.columns import NOTHING

THETA = {"sd": 0.4, "add_sd": 1.5, "prop_sd": 0.3, "volume": 2.0, "dispersion": 0.2}
NORMAL = [name for name, family in FAMILIES.items() if not family.counting]
COUNTING = [name for name, family in FAMILIES.items() if family.counting]
F = 12.0  # a prediction [cells/uL]

SAME = 1e-12  # arithmetic of a few operations
TAILS = 1e-10  # incomplete gamma and beta functions, and series of thousands of terms
INTEGRAL = 1e-7  # quad

every = pytest.mark.parametrize("form", FAMILIES)


def theta(form):
    return {name: THETA[name] for name in FAMILIES[form].parameters}


def log_p(form, lower, upper, closed=1, f=F, **changed):
    values = [np.atleast_1d(np.float64(v)) for v in (lower, upper)]
    found = FAMILIES[form].log_probability(*values, closed, np.array([f]), theta(form) | changed)
    return float(found[0])


def spread(form, f=F):
    """Return the SD, written apart from the code under test."""
    return {
        "log-normal": 0.4,
        "additive": 1.5,
        "proportional": 0.3 * f,
        "combined1": 1.5 + 0.3 * f,
        "combined2": math.sqrt(1.5**2 + (0.3 * f) ** 2),
    }[form]


def reference(form):
    """Return the distribution function of a value, from scipy."""
    if form == "poisson":
        return lambda y: poisson.cdf(math.floor(2 * y), 2 * F)
    if form == "negative-binomial":
        return lambda y: nbinom.cdf(math.floor(2 * y), 5.0, 5.0 / (5.0 + 2 * F))
    if form == "log-normal":
        return lambda y: norm.cdf(math.log(y / F) / 0.4) if y > 0 else 0.0
    return lambda y: norm.cdf(y, F, spread(form))


@every
@pytest.mark.parametrize(("lower", "upper"), [(2.0, 5.0), (9.0, 14.5), (11.0, 30.0), (15.5, 17.0)])
def test_censored_rows_have_the_probability_of_their_interval(form, lower, upper):
    cdf = reference(form)
    parts = [log_p(form, -math.inf, lower), log_p(form, lower, upper), log_p(form, upper, math.inf)]
    wanted = [cdf(lower), cdf(upper) - cdf(lower), 1.0 - cdf(upper)]
    assert np.exp(parts) == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert np.exp(parts).sum() == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("form", NORMAL)
def test_density_is_that_of_scipy_and_integrates_to_one(form):
    family = FAMILIES[form]
    low, high = (1e-9, 400.0) if family.logarithmic else (F - 60.0, F + 60.0)

    def density(y):
        return math.exp(family.log_density(np.float64(y), np.float64(F), theta(form)))

    if not family.logarithmic:
        assert density(7.0) == pytest.approx(norm.pdf(7.0, F, spread(form)), rel=SAME)
    assert quad(density, low, high, points=[F], limit=400)[0] == pytest.approx(1.0, abs=INTEGRAL)
    at = log_p(form, low, 9.0)
    assert quad(density, low, 9.0, limit=400)[0] == pytest.approx(math.exp(at), abs=INTEGRAL)


@pytest.mark.parametrize("form", COUNTING)
def test_counting_laws_are_those_of_scipy(form):
    cells = np.arange(0, 400)
    logs = FAMILIES[form].log_density(cells / 2.0, np.full(len(cells), F), theta(form))
    law = poisson(2 * F) if form == "poisson" else nbinom(5.0, 5.0 / (5.0 + 2 * F))
    np.testing.assert_allclose(logs, law.logpmf(cells), rtol=1e-9)
    assert np.exp(logs).sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("form", COUNTING)
def test_the_limit_itself_belongs_to_left_censored_rows_and_to_right_censored_ones(form):
    # 5 cells/uL in 2 uL are 10 cells: "<= 5" holds them, ">= 5" holds them too.
    mass = math.exp(FAMILIES[form].log_density(np.float64(5.0), np.float64(F), theta(form)))
    left, right = math.exp(log_p(form, -math.inf, 5.0)), math.exp(log_p(form, 5.0, math.inf, -1))
    assert left + right == pytest.approx(1.0 + mass, rel=1e-9)
    assert math.exp(log_p(form, 5.0, 7.0, -1)) == pytest.approx(
        sum(math.exp(FAMILIES[form].log_density(np.float64(k / 2), np.float64(F), theta(form)))
            for k in (10, 11, 12, 13)), rel=1e-9)  # fmt: skip


# --- the tails, where probabilities underflow ------------------------------------------------


def test_tails_of_the_normal():
    for a, b in ((-40.0, -39.0), (39.0, 40.0), (200.0, 201.0), (-201.0, -200.0)):
        near, far = min(abs(a), abs(b)), max(abs(a), abs(b))
        wanted = norm.logsf(near) + math.log1p(-math.exp(norm.logsf(far) - norm.logsf(near)))
        assert log_interval(np.array(a), np.array(b)) == pytest.approx(wanted, rel=TAILS)
    width = 1e-6  # a narrow interval is a density times its width
    narrow = log_interval(np.array(30.0), np.array(30.0 + width))
    assert narrow == pytest.approx(norm.logpdf(30.0) + math.log(width), abs=1e-4)


@pytest.mark.parametrize("mean", [10.0, 1e4, 1e6])
def test_tails_of_poisson(mean):
    f = mean / 2.0
    assert log_p("poisson", -math.inf, 0.0, f=f) == pytest.approx(-mean, rel=TAILS)
    two = -mean + math.log(1.0 + mean + mean**2 / 2.0)  # 0, 1 or 2 cells
    assert log_p("poisson", -math.inf, 1.0, f=f) == pytest.approx(two, rel=TAILS)
    assert log_p("poisson", 0.4, 1.0, f=f) == pytest.approx(
        -mean + math.log(mean + mean**2 / 2.0), rel=1e-9)  # fmt: skip


def test_upper_tails_of_the_counting_laws():
    found = log_p("poisson", 50.0, math.inf, f=0.5)  # 101 cells or more where 1 is expected
    assert found == pytest.approx(
        poisson.logpmf(101, 1.0) + math.log1p(1 / 102 * (1 + 1 / 103 * (1 + 1 / 104))), rel=TAILS
    )
    far = log_p("poisson", 500.0, math.inf, f=0.5)
    assert far == pytest.approx(
        poisson.logpmf(1001, 1.0) + math.log1p(1 / 1002 * (1 + 1 / 1003)), rel=TAILS
    )
    r, mean = 5.0, 2e-3
    q = mean / (r + mean)
    far = log_p("negative-binomial", 100.0, math.inf, f=mean / 2.0)
    wanted = nbinom.logpmf(201, r, 1 - q) + math.log1p((201 + r) / 202 * q)
    assert far == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize("mean", [10.0, 1e5, 1e80])
def test_lower_tail_of_the_negative_binomial(mean):
    r = 5.0
    found = log_p("negative-binomial", -math.inf, 0.0, f=mean / 2.0)
    assert found == pytest.approx(-r * math.log1p(mean / r), rel=TAILS)


@every
@settings(deadline=None, max_examples=60)
@given(
    lower=st.floats(0.0, 300.0), width=st.floats(0.5, 300.0), f=st.floats(1e-3, 1e4),
)  # fmt: skip
def test_probabilities_are_finite_and_below_one(form, lower, width, f):
    whole = log_p(form, -math.inf, math.inf, f=f)
    assert whole == pytest.approx(0.0, abs=1e-12)
    for a, b in ((-math.inf, lower + width), (lower, math.inf), (lower, lower + width)):
        found = log_p(form, a, b, f=f)
        assert not math.isnan(found)
        assert found <= 1e-9
        assert found > -1e12  # finite: a search can find its way back


@every
@pytest.mark.parametrize("u", [0.02, 0.3, 0.5, 0.77, 0.999])
def test_samples_are_quantiles(form, u):
    family = FAMILIES[form]
    value = float(family.sample(np.array([u]), np.array([F]), theta(form))[0])
    below = math.exp(log_p(form, -math.inf, value))
    if family.counting:
        assert value * 2 == pytest.approx(round(value * 2))
        assert math.exp(log_p(form, -math.inf, value - 0.5)) < u <= below + 1e-12
    else:
        assert below == pytest.approx(u, rel=1e-9)


@every
def test_stated_sd_is_that_of_samples(form):
    family = FAMILIES[form]
    u = (np.arange(20000) + 0.5) / 20000
    values = family.sample(u, np.full(len(u), F), theta(form))
    values = np.log(values) if family.logarithmic else values
    stated = float(family.sd(np.array([F]), theta(form))[0])
    assert np.std(values) == pytest.approx(stated, rel=1e-2)  # the ends of a grid of quantiles


def test_rows_of_two_endpoints_each_have_their_own_error():
    rows = Rows(
        time=np.zeros(3), clock=np.zeros(3), scale=np.ones(3), volume=np.ones(3),
        output=np.array(["bcell", "conc", "bcell"], dtype=object),
        observed=np.array([8.0, 3.0, 5.0]), lower=np.array([8.0, 3.0, -math.inf]),
        upper=np.array([8.0, 3.0, 5.0]), cens=np.array([0, 0, 1]), line=np.arange(3),
    )  # fmt: skip
    errors = {"bcell": ErrorModel("log-normal", {"sd": 0.4}),
              "conc": ErrorModel("additive", {"add_sd": 1.5})}  # fmt: skip
    found = log_likelihood(rows, np.array([[7.0, 2.0, 9.0]]), errors,
                           {name: error.values for name, error in errors.items()})[0]  # fmt: skip
    wanted = [norm.logpdf(math.log(8 / 7), 0, 0.4) - math.log(8), norm.logpdf(3, 2, 1.5),
              norm.logcdf(math.log(5 / 9) / 0.4)]  # fmt: skip
    assert found == pytest.approx(wanted, rel=SAME)


# --- which error an endpoint has -------------------------------------------------------------

YU = "yu2022_ofatumumab"


@pytest.mark.parametrize(
    ("options", "form", "values"),
    [
        ({}, "log-normal", {"sd": 0.381}),
        ({"sigma": 0.2}, "log-normal", {"sd": 0.2}),
        ({"error": "published"}, "combined2", {"add_sd": 0.153, "prop_sd": 0.381}),
        ({"error": {"bcell": "proportional"}}, "proportional", {"prop_sd": 0.381}),
        ({"error": "additive", "sigma": 3}, "additive", {"add_sd": 3.0}),
        ({"error": {"form": "combined1", "add_sd": 2}}, "combined1",
         {"add_sd": 2.0, "prop_sd": 0.381}),
        ({"error": "poisson", "volume": 50}, "poisson", {"volume": 50.0}),
        ({"error": {"form": "negative-binomial", "dispersion": 0.1}, "volume": 10},
         "negative-binomial", {"volume": 10.0, "dispersion": 0.1}),
        ({"sigma": "estimate"}, "log-normal", {"sd": 0.381}),
    ],
)  # fmt: skip
def test_words_and_settings_of_errors(options, form, values):
    found = error_models(bc.load_model(YU), ["bcell"], **options)["bcell"]
    assert found.form == form
    assert dict(found.values) == pytest.approx(values)
    assert bool(found.estimated) == (options.get("sigma") == "estimate")
    assert form in str(found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"error": "lognormal"}, 'unknown residual error "lognormal"; did you mean "log-normal"'),
        ({"error": {"bcel": "poisson"}}, 'error: unknown output "bcel"; did you mean "bcell"'),
        ({"error": "poisson"}, "give volume=, the counted volume"),
        ({"error": "negative-binomial", "volume": 9}, "needs dispersion"),
        ({"error": {"form": "additive", "sd": 3}}, 'unknown setting "sd"; did you mean "add_sd"'),
        ({"error": "combined1", "sigma": 0.3}, "sigma is not a number of the combined1 error"),
        ({"error": {"form": "additive", "add_sd": -1}}, "add_sd of bcell = -1: a finite number"),
        ({"error": "poisson", "volume": 0}, "volume of bcell = 0: a finite number above 0"),
        ({"error": "poisson", "volume": "estimate"}, "volume of bcell"),
    ],
)
def test_wrong_errors_say_so(options, words):
    with pytest.raises(ValueError, match=r"\w") as raised:
        error_models(bc.load_model(YU), ["bcell"], **options)
    assert words in str(raised.value)


def test_concentrations_are_not_counted():
    with pytest.raises(ValueError, match="poisson is for counts of cells"):
        error_models(bc.load_model(YU), ["conc"], error="poisson", volume=1)


# --- censored rows: kept, dropped, replaced --------------------------------------------------


def data(values, cens, limit=None):
    n = len(values)
    days = np.arange(float(n))
    return pd.DataFrame(
        {**NOTHING, "ID": "1", "TIME": days, "CLOCK": days, "MDV": 0, "DVID": "bcell", "DV": values,
         "CENS": cens, "LIMIT": limit or [math.nan] * n, "LINE": np.arange(2, n + 2)}
    )  # fmt: skip


SEEN = [200.0, 5.0, 5.0, 5.0, 9.0, 5.0, 40.0], [0, 1, 1, 1, 0, 1, 0]


def test_bounds_of_the_kinds_of_censored_rows():
    rows = rows_of(data([8.0, 5.0, 5.0, 500.0, 15.0], [0, 1, 1, -1, -1],
                        [math.nan, math.nan, 2.0, math.nan, 25.0]))  # fmt: skip
    assert rows.lower == pytest.approx([8.0, -math.inf, 2.0, 500.0, 15.0])
    assert rows.upper == pytest.approx([8.0, 5.0, 5.0, math.inf, 25.0])


@pytest.mark.parametrize(
    ("method", "times", "values"),
    [
        ("M1", [0, 4, 6], [200, 9, 40]),
        ("M5", [0, 1, 2, 3, 4, 5, 6], [200, 2.5, 2.5, 2.5, 9, 2.5, 40]),
        ("M6", [0, 1, 4, 5, 6], [200, 2.5, 9, 2.5, 40]),
        ("M7", [0, 1, 2, 3, 4, 5, 6], [200, 0, 0, 0, 9, 0, 40]),
    ],
)
def test_methods_for_comparison(method, times, values):
    rows = rows_of(data(*SEEN), method)
    assert list(rows.time) == times
    assert rows.observed == pytest.approx(values)
    assert (rows.cens == 0).all()
    assert method in rows.told[0]
    assert "4 censored rows" in rows.told[0]


def test_of_a_rising_run_the_last_is_kept():
    rows = rows_of(data([5.0, 5.0, 9.0], [1, 1, 0]), "M6")
    assert list(rows.time) == [1, 2]


@pytest.mark.parametrize(
    ("values", "cens", "limit", "method", "words"),
    [
        (*SEEN, None, "M4", 'unknown method for censored rows "M4"'),
        ([5.0, 500.0], [1, -1], None, "M5", "line 3 is censored on the other side"),
        ([5.0, 9.0], [1, 0], [2.0, math.nan], "M5", "between two limits"),
        ([5.0, 5.0], [1, 1], None, "M1", "every observation is censored"),
        ([5.0], [1], [7.0], "M3", "LIMIT must be on the other side"),
        ([50.0], [-1], [7.0], "M3", "line 2: a censored value between 50 and 7"),
    ],
)
def test_what_cannot_be_replaced_says_so(values, cens, limit, method, words):
    with pytest.raises(ValueError, match=r"\w") as raised:
        rows_of(data(values, cens, limit), method)
    assert words in str(raised.value)


def test_every_method_is_explained():
    assert {"M1", "M3", "M5", "M6", "M7"} == set(METHODS)
