"""Figures of fits and forecasts: what is drawn is the result's own data, with units."""

import matplotlib
import numpy as np
import patient
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

import bcellsim as bc


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plot")
    model = patient.model_of(folder, patient.KPD + patient.IIV)
    table = patient.counts(folder, patient.observed(model))
    seen = table.index[table["EVID"] == 0]
    table.loc[seen[3], ["CENS", "DV"]] = 1, 5.0
    table.loc[seen[4], ["CENS", "DV", "LIMIT"]] = 1, 15.0, 1.0
    table.loc[seen[0], ["CENS", "DV"]] = -1, 150.0
    return bc.fit_individual(model, table, starts=1)


def lines(axis):
    return {line.get_label(): line for line in axis.lines}


def test_fit_marks_each_kind_of_observation(fit):
    axis = bc.plot.fit(fit).axes[0]
    drawn = lines(axis)
    assert list(drawn["below this limit"].get_ydata()) == [5.0, 15.0]
    assert list(drawn["above this limit"].get_ydata()) == [150.0]
    assert drawn["below this limit"].get_marker() != drawn["above this limit"].get_marker()
    assert len(drawn["observed"].get_ydata()) == len(patient.DAYS) - 3
    assert len(axis.collections) == 2  # the bar of the interval; none for one that is open


def test_residuals_are_those_of_the_fit(fit):
    figure = bc.plot.residuals(fit)
    assert isinstance(figure, Figure)
    rows = fit.residuals[fit.residuals["CENS"] == 0]
    first, time, fitted, normal = figure.axes
    np.testing.assert_array_equal(time.lines[0].get_ydata(), rows["IWRES"])
    np.testing.assert_array_equal(fitted.lines[0].get_xdata(), rows["IPRED"])
    np.testing.assert_array_equal(normal.lines[0].get_ydata(), np.sort(rows["IWRES"]))
    assert [len(line.get_xdata()) for line in first.lines[:3]] == [len(rows), 2, 1]
    assert "without residual: 3" in figure._suptitle.get_text()
    assert "[day]" in time.get_xlabel()
    assert "[cells/uL]" in first.get_ylabel()
    with pytest.raises(ValueError, match='unknown output "amount"; known: bcell'):
        bc.plot.residuals(fit, output="amount")


def test_profiles_show_their_intervals(fit):
    tables = [fit.profile(name) for name in ("b0", "kel")]
    figure = bc.plot.profiles(tables)
    assert len(figure.axes) == 2
    for axis, table in zip(figure.axes, tables, strict=True):
        points = next(line for line in axis.lines if line.get_marker() == "o")
        np.testing.assert_array_equal(points.get_xdata(), table["value"])
        ends = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == ":"]
        assert ends == [table.attrs["low"], table.attrs["high"]]
    assert figure.axes[0].get_xlabel() == "b0 [cells/uL]"
    assert len(bc.plot.profiles(tables[0]).axes) == 1
    with pytest.raises(ValueError, match="no profile is given"):
        bc.plot.profiles([])


def test_prior_against_posterior(fit):
    draws = fit.draws(200, 1)
    axis = bc.plot.prior_posterior(fit, draws).axes[0]
    assert [t.get_text().split()[0] for t in axis.get_yticklabels()] == ["kel", "b0", "kout"]
    middle = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
    usual = fit.params.loc[["kel", "b0", "kout"], "typical"].to_numpy()
    assert middle == pytest.approx(draws[["kel", "b0", "kout"]].median().to_numpy() / usual)
    with pytest.raises(ValueError, match="no column kel"):
        bc.plot.prior_posterior(fit, draws.drop(columns="kel"))


def test_forecast_tells_the_bands_apart_without_colour(fit):
    data = bc.forecast(fit, "1000 mg iv at 30 d", until="60 d", draws=100, seed=1, every="10 d",
                       observations=True)  # fmt: skip
    figure = bc.plot.forecast(data, fit, below=[10, 40])
    axis = figure.axes[0]
    filled, hatched = axis.collections[-2:]
    assert filled.get_hatch() is None
    assert hatched.get_hatch() == "///"
    drawn = lines(axis)
    np.testing.assert_array_equal(drawn["median"].get_ydata(),
                                  data.bcell_credible.sel(quantile=0.5))  # fmt: skip
    assert list(drawn["dose given"].get_xdata()) == [0.0, 14.0]
    assert list(drawn["dose planned"].get_xdata()) == [430.0]
    assert "[cells/uL]" in axis.get_ylabel()
    assert "[day]" in axis.get_xlabel()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "90 % credible (parameters)" in labels
    assert "90 % prediction (a measured count)" in labels
    with pytest.raises(ValueError, match='unknown output "bcel"; did you mean "bcell"'):
        bc.plot.forecast(data, output="bcel")


def test_residuals_of_nothing_but_censored_rows(tmp_path):
    """No row has a residual: the figure says so instead of failing on a log axis."""
    rows = ["1,0,1000,.", "1,30,.,<5", "1,60,.,<5"]
    result = bc.fit_individual(
        patient.model_of(tmp_path, patient.KPD + patient.IIV),
        patient.read(tmp_path, rows),
        starts=1,
    )
    figure = bc.plot.residuals(result)
    figure.canvas.draw()
    assert any("censored" in text.get_text() for text in figure.axes[1].texts)
