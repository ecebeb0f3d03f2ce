"""Figures of small real results: axes, units, lines at the right values, and every dose drawn."""

import math

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import bcellsim as bc

YU = "yu2022_ofatumumab"
PLAN = "20 mg sc at 0 d, 7 d, 14 d; 20 mg sc q4w x 2 from 4 w"
DOSES = [0.0, 7.0, 14.0, 28.0, 56.0]
THRESHOLDS = [8.0, 40.0]


@pytest.fixture(autouse=True)
def _closed():
    assert matplotlib.get_backend().lower() == "agg"
    yield
    plt.close("all")
    assert not plt.get_fignums()


@pytest.fixture(scope="module")
def one():
    return bc.simulate(YU, PLAN, until="12 w", every="7 d")


@pytest.fixture(scope="module")
def many():
    return bc.simulate(YU, [PLAN, "20 mg sc at 0 d"], 5, until="12 w", every="7 d", seed=1)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "patient.csv"
    path.write_text(
        "ID,TIME,AMT,ADDL,II,DV,WT,AGE\n1,-7,.,.,.,210,70,38\n1,0,20,2,7,.,70,38\n"
        "1,20,.,.,.,<5,70,38\n1,40,.,.,.,<5,70,38\n1,150,.,.,.,60,70,38\n"
    )
    return bc.fit_individual(YU, bc.read_observations(path))


@pytest.fixture(scope="module")
def table():
    plans = bc.grid(dose=["10 mg sc", "20 mg sc"], every=["4 w", "12 w"])
    return bc.explore(YU, plans, 6, below=[10, 40], until="26 w", seed=1)


def lines_at(axis):
    """Return the heights of the horizontal lines."""
    found = [np.asarray(line.get_ydata()) for line in axis.lines
             if line.get_transform() == axis.get_yaxis_transform(which="grid")]  # fmt: skip
    return [float(y[0]) for y in found]


def ticks(axis):
    """Return the days of the dose ticks, a list a row."""
    rows = [line.get_xdata() for line in axis.lines if line.get_marker() == "|"]
    return [[float(day) for day in row if not math.isnan(day)] for row in rows]


def drawn(figure, folder):
    figure.savefig(folder / "figure.png")  # a figure that cannot be drawn is no figure
    return (folder / "figure.png").stat().st_size > 0


# --- trajectories ----------------------------------------------------------------------------


def test_trajectories_of_a_typical_subject(one, tmp_path):
    figure = bc.plot.trajectories(one, below=THRESHOLDS)
    assert isinstance(figure, Figure)
    counts, drug = figure.axes
    assert counts.get_yscale() == "log"
    assert "cells/uL" in counts.get_ylabel()
    assert "mg/L" in drug.get_ylabel()
    assert "[day]" in drug.get_xlabel()
    assert drug.get_ylim()[0] == 0
    assert lines_at(counts) == THRESHOLDS
    assert ticks(counts) == [DOSES]
    curve = counts.lines[0]
    np.testing.assert_array_equal(curve.get_xdata(), one.time)
    np.testing.assert_array_equal(curve.get_ydata(), one.bcell)
    np.testing.assert_array_equal(drug.lines[0].get_ydata(), one.conc)
    title = figure.get_suptitle()
    assert all(word in title for word in (YU, "Yu2022", "typical subject"))
    assert drawn(figure, tmp_path)


def test_a_long_name_fits_the_figure(one, tmp_path):
    name = "gibiansky2021_ocrelizumab~davda2014_antibody+chen2024_rituximab"
    facts = {"model": name, "citation": "A + B + C", "status": "unpublished combination (partial)"}
    figure = bc.plot.trajectories(one.assign_attrs(facts))
    assert drawn(figure, tmp_path)
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    title = " ".join(figure.get_suptitle().split())
    assert all(text in title for text in facts.values())


def test_trajectories_of_a_population(many, tmp_path):
    figure = bc.plot.trajectories(many, below=8)
    counts = figure.axes[0]
    assert lines_at(counts) == [8]
    assert ticks(counts) == [DOSES, [0.0]]
    medians = [line for line in counts.lines if line.get_label().endswith("(median)")]
    for line, regimen in zip(medians, many.regimen.values, strict=True):
        expected = many.bcell.sel(regimen=regimen).median("subject")
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-12)
        assert str(regimen) in line.get_label()
    assert len({line.get_linestyle() for line in medians}) == 2  # not told apart by colour alone
    assert len(counts.collections) == 4  # two bands a regimen
    assert "5 virtual patients, seed 1" in figure.get_suptitle()
    assert figure.legends
    assert drawn(figure, tmp_path)


def test_other_output_and_many_regimens(many, tmp_path):
    plans = [f"{dose} mg sc at 0 d" for dose in range(1, 7)]
    figure = bc.plot.trajectories(bc.simulate(YU, plans, 2, until="2 w", seed=1), output="conc")
    top = figure.axes[0]
    assert "mg/L" in top.get_ylabel()
    assert not top.collections  # six bands would hide one another
    assert len(ticks(top)) == 6
    assert drawn(figure, tmp_path)


def test_a_plan_without_drug_concentrations_has_one_panel(one):
    figure = bc.plot.trajectories(one.drop_vars("conc"))
    assert len(figure.axes) == 1
    assert "[day]" in figure.axes[0].get_xlabel()
    assert figure.axes[0].get_ylim()[0] > 0  # the log axis is left alone


# --- fits ------------------------------------------------------------------------------------


def test_fit_shows_counts_censored_rows_and_doses(fitted, tmp_path):
    figure = bc.plot.fit(fitted, below=THRESHOLDS)
    (axis,) = figure.axes
    assert axis.get_yscale() == "log"
    assert "cells/uL" in axis.get_ylabel()
    assert "[day]" in axis.get_xlabel()
    by_label = {line.get_label(): line for line in axis.lines}
    below = by_label["below this limit"]
    assert below.get_marker() == "v"
    assert below.get_markerfacecolor() == "none"
    assert list(below.get_xdata()) == [20, 40]
    assert list(below.get_ydata()) == [5, 5]
    assert list(by_label["observed"].get_xdata()) == [-7, 150]
    assert list(by_label["observed"].get_ydata()) == [210, 60]
    assert ticks(axis) == [[0.0, 7.0, 14.0]]
    assert lines_at(axis) == THRESHOLDS
    np.testing.assert_array_equal(by_label["fitted"].get_ydata(), fitted.curves["bcell"])
    assert {"fitted", "typical subject"} <= set(by_label)
    assert "MAP" in axis.get_title()
    assert drawn(figure, tmp_path)


def test_fit_without_censored_rows_has_no_triangles(tmp_path):
    path = tmp_path / "patient.csv"
    path.write_text("ID,TIME,AMT,DV,WT,AGE\n1,0,20,.,70,38\n1,20,.,9,70,38\n")
    (axis,) = bc.plot.fit(bc.fit_individual(YU, path)).axes
    assert "below this limit" not in {line.get_label() for line in axis.lines}


# --- heat maps -------------------------------------------------------------------------------


def cells(axis):
    """Return the texts of the cells, by (dose, interval) position."""
    return {tuple(round(p) for p in text.get_position()[::-1]): text.get_text()
            for text in axis.texts}  # fmt: skip


@pytest.mark.parametrize(
    "value", ["suppressed_throughout", "suppressed_fraction_mean", "nadir_median"]
)
def test_heatmap_cells_are_the_table(table, value, tmp_path):
    figure = bc.plot.heatmap(table, value=value, target=0.5)
    panels = [axis for axis in figure.axes if axis.images and axis.get_title()]
    assert len(panels) == 2
    doses, intervals = ["10 mg sc", "20 mg sc"], [28.0, 84.0]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == doses
    for axis, threshold in zip(panels, (10, 40), strict=True):
        assert f"{threshold} cells" in axis.get_title()
        assert "[week]" in axis.get_xlabel()
        assert [label.get_text() for label in axis.get_xticklabels()] == ["4", "12"]
        shown, outlined = cells(axis), 0
        for row in table[table["threshold"] == threshold].to_dict("records"):
            at = (doses.index(row["dose"]), intervals.index(row["interval"]))
            share = value.startswith("suppressed")
            expected = f"{100 * row[value]:.0f}%" if share else f"{row[value]:.3g}"
            assert shown[at] == expected
            outlined += share and row[value] >= 0.5
        frames = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
        assert len(frames) == outlined
    assert YU in figure.get_suptitle()
    assert "6 virtual patients" in figure.get_suptitle()
    assert drawn(figure, tmp_path)


def test_heatmap_writes_what_is_not_reached_as_infinite(table, tmp_path):
    changed = table.assign(time_to_repletion_median=math.inf)
    figure = bc.plot.heatmap(changed, value="time_to_repletion_median")
    assert set(cells(figure.axes[0]).values()) == {"∞"}
    assert drawn(figure, tmp_path)


def test_heatmap_refuses_what_it_cannot_draw(table):
    with pytest.raises(ValueError, match='did you mean "suppressed_throughout"'):
        bc.plot.heatmap(table, value="suppressed_throughot")
    alone = bc.explore(YU, PLAN, 2, below=10, until="12 w", seed=1)
    with pytest.raises(ValueError, match="needs regimens with a dose and an interval"):
        bc.plot.heatmap(alone)


# --- wrong input -----------------------------------------------------------------------------


@pytest.mark.parametrize("below", [math.nan, math.inf, 0.0, -4.0, [8, -4], "ten"])
def test_a_threshold_must_be_a_number_above_zero(one, fitted, below):
    for draw, data in ((bc.plot.trajectories, one), (bc.plot.fit, fitted)):
        with pytest.raises(ValueError, match="below"):
            draw(data, below=below)
    assert not plt.get_fignums()


@pytest.mark.parametrize("below", [np.int64(8), "8", np.array([8.0]), ["8 cells/uL"]])
def test_a_threshold_may_be_text_or_of_numpy(one, below):
    assert lines_at(bc.plot.trajectories(one, below=below).axes[0]) == [8]


def test_an_unknown_output_is_named_and_leaves_no_figure(one, fitted):
    for draw, data in ((bc.plot.trajectories, one), (bc.plot.fit, fitted)):
        with pytest.raises(ValueError, match='unknown output "bcel"; did you mean "bcell"'):
            draw(data, output="bcel")
    assert not plt.get_fignums()
