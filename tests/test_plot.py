"""Figures of small real results: axes, units, lines at the right values, and every dose drawn."""

import math

import matplotlib
import numpy as np
import pandas as pd
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


# --- schedules apart -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guided():
    return bc.DosingRule(visit_every="4 w", dose="20 mg sc", at_or_above=5, lloq=1, label="guided",
                         loading="20 mg sc at 0 d, 7 d", missed=0.3, noise=0)  # fmt: skip


def test_ribbons_of_fixed_and_guided_schedules(many, guided, tmp_path):
    ruled = bc.simulate_rule(YU, guided, 5, until="12 w", every="7 d", seed=1)
    figure = bc.plot.ribbons([many, ruled], below=THRESHOLDS)
    panels = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title() for axis in panels] == [*map(str, many.regimen.values), "guided"]
    for axis in panels:
        assert axis.get_yscale() == "log"
        assert lines_at(axis) == THRESHOLDS
    assert "cells/uL" in figure.get_supylabel()
    assert "[day]" in figure.get_supxlabel()
    drawn_doses = [axis.collections[-1].get_segments() for axis in panels]
    assert [float(segment[0][0]) for segment in drawn_doses[0]] == DOSES
    table = bc.plot.data(figure)
    shares = table[(table.regimen == "guided") & table.dosed_share.notna()]
    given = ruled.dose_time.values
    for day, share in zip(shares.time, shares.dosed_share, strict=True):
        assert share == (given == day).any(axis=1).mean()
    assert shares.dosed_share.max() == 1  # loading
    assert shares.dosed_share.min() < 1
    first = table[table.regimen == str(many.regimen.values[0])].dropna(subset="median")
    np.testing.assert_allclose(
        first["p95"], many.bcell[0].quantile(0.95, "subject"), rtol=1e-12, atol=0
    )
    assert drawn(figure, tmp_path)


def test_ribbons_have_so_many_panels(many):
    with pytest.raises(ValueError, match="14 schedules: a figure has 1 to 12"):
        bc.plot.ribbons([many] * 7)
    assert not plt.get_fignums()


def test_swimmer_draws_every_visit_and_dose(guided, tmp_path):
    decisions, doses = bc.follow_rule(YU, guided, 6, until="40 w", seed=1)
    figure = bc.plot.swimmer(decisions, doses, most=4, title="guided")
    table = bc.plot.data(figure)
    assert table["subject"].nunique() == 4
    counts = doses.groupby("subject").size()
    for subject, rows in table.groupby("subject"):
        assert rows["what"].str.contains("dose$|rule$").sum() >= counts[subject]
        ordered = rows[rows["what"] == "dose ordered by the rule"]["day"]
        mine = doses[(doses.subject == subject) & (doses.given_by == "rule")]
        assert list(ordered) == list(mine["day"])
        untaken = decisions[(decisions.subject == subject) & (decisions.action == "none")]
        assert len(rows) == counts[subject] + len(untaken)
    order = [counts[name] for name in table.drop_duplicates("line")["subject"]]
    assert order == sorted(order)
    marks = {line.get_marker() for line in figure.axes[0].lines}
    assert marks == {"D", "o", "|", "x"}
    assert "4 of 6" in figure.axes[0].get_title()
    assert "[day]" in figure.axes[0].get_xlabel()
    assert drawn(figure, tmp_path)
    with pytest.raises(ValueError, match="at least one subject"):
        bc.plot.swimmer(decisions, doses, most=0)
    with pytest.raises(ValueError, match="the decisions and doses of one rule"):
        bc.plot.swimmer(doses, decisions)


# --- comparisons -----------------------------------------------------------------------------


def test_contour_of_the_heat_map_is_at_the_target(table):
    share = table["suppressed_throughout"].to_numpy().copy()
    share[::2], share[1::2] = [0.2, 0.6, 0.4, 0.8], 0.0  # thresholds 10 and 40 in turns
    figure = bc.plot.heatmap(table.assign(suppressed_throughout=share), target=0.5)
    first, second = (axis for axis in figure.axes if axis.images and axis.get_title())
    (line,) = first.collections[0].get_paths()
    x, y = line.vertices.T
    # Shares 0.2, 0.6 over 0.4, 0.8 are a plane: 0.2 + 0.4 x + 0.2 y = 0.5.
    np.testing.assert_allclose(0.2 + 0.4 * x + 0.2 * y, 0.5, rtol=1e-12)
    assert not second.collections
    assert "contour at 50%" in figure.get_suptitle()
    assert "none reaches 99%" in bc.plot.heatmap(table.assign(suppressed_throughout=0.1),
                                                 target=0.99).get_suptitle()  # fmt: skip


def test_pareto_front_and_what_it_dominates(table, tmp_path):
    figure = bc.plot.pareto(table)
    kept = bc.plot.data(figure)
    assert list(kept["pareto"]) == list(bc.pareto(table)["pareto"])
    assert not kept["pareto"].all()
    for axis, level in zip(figure.axes, (10, 40), strict=True):
        rows = kept[kept["threshold"] == level]
        marks = {line.get_marker(): line for line in axis.lines if line.get_marker() in "oX"}
        for mark, front in (("o", True), ("X", False)):
            some = rows[rows["pareto"] == front]
            assert sorted(marks[mark].get_xdata()) == sorted(some["cumulative_dose"])
            assert sorted(marks[mark].get_ydata()) == sorted(some["suppressed_throughout"])
    assert "[mg]" in figure.axes[-1].get_xlabel()
    named = {text.get_text() for text in figure.legends[0].get_texts()}
    assert set(table["regimen"]) <= named
    assert drawn(figure, tmp_path)


@pytest.fixture(scope="module")
def people():
    return bc.sample_population(YU, 24, seed=1, covariates="study")


@pytest.fixture(scope="module")
def each(people):
    plans = bc.grid(dose="20 mg sc", every=["4 w", "12 w"])
    return bc.explore(YU, plans, people, below=10, until="26 w", follow_up="30 w",
                      per_subject=True)  # fmt: skip


@pytest.mark.parametrize(
    "value", ["suppressed_throughout", "days_above_mean", "days_above_median", "nadir_p5"]
)
def test_forest_of_subgroups(people, value, tmp_path):
    plans = bc.grid(dose="20 mg sc", every=["4 w", "12 w"])
    table = bc.explore(YU, plans, people, below=10, until="26 w", by={"WT": [70]})
    figure = bc.plot.forest(table, value=value)
    (axis,) = figure.axes
    labels = [label.get_text() for label in axis.get_yticklabels()]
    sizes = [int(label.split("n = ")[1].strip(")")) for label in labels]
    assert sizes[0] == 24 == sizes[1] + sizes[2]
    marked = [line for line in axis.lines if line.get_marker() in ("o", "s")]
    for (_, rows), line in zip(table.groupby("regimen", sort=False), marked, strict=True):
        assert list(line.get_xdata()) == list(rows[value])
    kept = bc.plot.data(figure)
    if value != "nadir_p5":  # which has no interval
        assert (kept["drawn_low"] <= kept[value]).all()
        assert (kept["drawn_high"] >= kept[value]).all()
    assert drawn(figure, tmp_path)


def test_forest_refuses_what_it_cannot_draw(table):
    with pytest.raises(ValueError, match="needs groups"):
        bc.plot.forest(table)
    with pytest.raises(ValueError, match="unknown column"):
        bc.plot.forest(table.assign(group="all"), value="nadir_maen")
    rows = [table.assign(group="all", regimen=str(k)) for k in range(7)]
    with pytest.raises(ValueError, match="7 schedules: a forest has at most 6"):
        bc.plot.forest(pd.concat(rows))


def test_interval_of_a_share_is_wilsons():
    from bcellsim.plot.schedules import _wilson

    # 0 of 10 and 5 of 10, as in Newcombe 1998 (doi:10.1002/sim.779): 0 to 27.8 %, 23.7 to 76.3 %.
    low, high = _wilson(np.array([0.0, 0.5]), np.array([10, 10]))
    np.testing.assert_allclose([low, high], [[0.0, 0.2366], [0.2775, 0.7634]], atol=5e-5)


def test_survival_steps_bands_and_censoring(each, tmp_path):
    events = ("time_to_escape", "time_to_repletion")
    curves = pd.concat([bc.survival(each, event) for event in events])
    figure = bc.plot.survival(curves)
    for axis, event in zip(figure.axes, events, strict=True):
        assert "[day]" in axis.get_xlabel()
        assert len(axis.collections) == 2  # bands
        for name, some in curves[curves["event"] == event].groupby("regimen", sort=False):
            steps = next(line for line in axis.lines if line.get_label() == name)
            np.testing.assert_array_equal(steps.get_ydata(), some["share"])
            censored = some[some["censored"] > 0]
            marks = [line for line in axis.lines if line.get_marker() == "+"]
            assert any(list(line.get_xdata()) == list(censored["time"]) for line in marks)
    assert len({line.get_linestyle() for line in figure.axes[0].lines} - {"None"}) == 2
    assert drawn(figure, tmp_path)
    with pytest.raises(ValueError, match="a table of survival is wanted"):
        bc.plot.survival(each)
    many = pd.concat([curves.assign(regimen=str(k)) for k in range(13)])
    with pytest.raises(ValueError, match="at most 12 curves"):
        bc.plot.survival(many)


def test_tornado_is_the_table_of_drivers(each, people, tmp_path):
    found = bc.drivers(each, people, of="days_above")
    figure = bc.plot.tornado(found, most=5)
    assert len(figure.axes) == 2
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    strongest = found.loc[found["rank_correlation"].abs().idxmax(), "parameter"]
    assert labels[0] == strongest
    assert len(labels) == 5
    for axis, (_, rows) in zip(figure.axes, found.groupby("regimen", sort=False), strict=True):
        values = rows.set_index("parameter")["rank_correlation"]
        for bar in axis.patches:
            name = labels[round(bar.get_y() + bar.get_height() / 2)]
            assert bar.get_width() == values[name]
    assert "days above" in figure.get_supxlabel()
    assert drawn(figure, tmp_path)
    for wrong in (each, pd.concat([found.assign(regimen=str(k)) for k in range(5)])):
        with pytest.raises(ValueError, match=r"drivers is wanted|5 schedules and 1 thresholds"):
            bc.plot.tornado(wrong)


def test_curve_of_a_search(tmp_path):
    found = bc.longest_interval(
        YU, 10, dose="20 mg sc", below=40, probability=0.5, until="40 w", mc_error=0.2, seed=1
    )
    figure = bc.plot.search(found)
    (axis,) = figure.axes
    named = {line.get_label(): line for line in axis.lines}
    assert list(named["wanted"].get_ydata()) == [0.5, 0.5]
    beside = found[found["neighbour"]]
    assert list(named["neighbour of the answer"].get_xdata()) == list(beside["interval"] / 7)
    assert "[week]" in axis.get_xlabel()
    assert drawn(figure, tmp_path)
    with pytest.raises(ValueError, match="longest_interval"):
        bc.plot.search(found.drop(columns="reaches"))


def test_long_titles_are_folded_into_the_figure(table):
    long = bc.combine("gibiansky2021_ocrelizumab", "chen2024_rituximab",
                      pk_variability="davda2014_antibody")  # fmt: skip
    counts = bc.simulate(long, ["600 mg iv", "300 mg iv"], 2, until="4 w", seed=1)
    of_long = table.copy()
    of_long.attrs = {**table.attrs, "model": long.name, "citation": long.citation,
                     "status": long.label()}  # fmt: skip
    figures = [bc.plot.ribbons(counts), bc.plot.pareto(of_long), bc.plot.trajectories(counts)]
    for figure in figures:
        figure.draw_without_rendering()
        box = figure._suptitle.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1


def test_a_figure_from_elsewhere_has_no_table():
    with pytest.raises(ValueError, match="keeps no table"):
        bc.plot.data(plt.figure())
