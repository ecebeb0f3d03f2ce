"""Sensitivity and figures of sweeps."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sweeps import GRID, SAMPLED, written

import bcellsim as bc
from bcellsim.sweep import read_design
from bcellsim.sweep.salib import shares
from bcellsim.sweep.sensitivity import _indices

pytest.importorskip("pyarrow")
pytest.importorskip("SALib")

#: Sobol indices of a linear function from 1,024 base points: their error by Monte Carlo.
OF_SOBOL = 0.03

SENSITIVE = GRID[: GRID.index("[factors.dose]")].replace("chunk = 7", "chunk = 50").replace(
    "seed", 'sampling = "saltelli"\npoints = 8\nseed', 1).replace(
    'metrics = ["suppressed_throughout", "days_above", "time_to_repletion", "nadir"]',
    'metrics = ["auc", "time_to_repletion", "suppressed_fraction"]').replace(
    "[schedule]", '[schedule]\ndose = "20 mg sc"\ninterval = "4 w"').replace("n = 5", "n = 2") + """
[factors.HT]
low = 150
high = 190

[factors.emax]
low = 0.5
high = 2.0
how = "multiply"
"""  # fmt: skip


@pytest.mark.parametrize("sampling", ["saltelli", "morris"])
def test_indices_of_a_linear_function_are_known(sampling):
    n = 1024 if sampling == "saltelli" else 50
    u = shares(sampling, 3, 1, n)
    assert len(u) == n * (5 if sampling == "saltelli" else 4)
    rows = _indices({"sampling": sampling, "seed": 1}, ["a", "b", "none"], u, u @ [3.0, 1.0, 0.0])
    if sampling == "saltelli":
        for key in ("s1", "st"):
            assert [row[key] for row in rows] == pytest.approx([0.9, 0.1, 0.0], abs=OF_SOBOL)
        assert all(0 <= row["st_ci"] < 0.1 for row in rows)
    else:
        assert [row["mu_star"] for row in rows] == pytest.approx([3.0, 1.0, 0.0])
        assert [row["sigma"] for row in rows] == pytest.approx([0.0] * 3, abs=1e-9)


def test_sensitivity_of_a_metric_to_a_factor(tmp_path):
    done = bc.sweep(written(tmp_path, SENSITIVE), out=tmp_path / "out")
    assert done.manifest["n_scenarios"] == 8 * 4 * 2
    table = bc.sensitivity(done, "auc").set_index(["threshold", "factor"])
    # The model does not know the height: it explains nothing.
    assert (table.xs("HT", level="factor")["st"] == 0).all()
    assert (table.xs("emax", level="factor")["st"] > 0.5).all()
    with pytest.raises(ValueError, match="time_to_repletion at threshold 10 is not a finite"):
        bc.sensitivity(done, "time_to_repletion")
    with pytest.raises(ValueError, match='unknown metric "acu"; did you mean "auc"'):
        bc.sensitivity(done, "acu")
    figure = bc.plot.sensitivities(bc.sensitivity(done, "auc"))
    assert len(figure.axes) == 2
    assert figure.get_suptitle().startswith("auc: intervals at 95 %\nyu2022_ofatumumab, 64 ")
    plt.close(figure)


def test_indices_do_not_depend_on_the_order_of_factors_in_the_file(tmp_path):
    begin, end = SENSITIVE.index("[factors.HT]"), SENSITIVE.index("[factors.emax]")
    swapped = f"{SENSITIVE[:begin]}{SENSITIVE[end:]}\n{SENSITIVE[begin:end]}"
    assert "HT" in swapped.partition("[factors.emax]")[2]
    swapped = swapped.replace("HT", "kout").replace("low = 150\nhigh = 190", 'low = 0.999\n'
                              'high = 1.001\nhow = "multiply"')  # fmt: skip
    table = bc.sensitivity(bc.sweep(written(tmp_path, swapped), out=tmp_path / "out"), "auc")
    strongest = table.loc[table.groupby("threshold")["st"].idxmax(), "factor"]
    assert set(strongest) == {"emax"}


def test_designs_that_sensitivity_cannot_use(tmp_path):
    with pytest.raises(ValueError, match=r"points = 12: .* power of 2"):
        read_design(written(tmp_path, SENSITIVE.replace("points = 8", "points = 12")))
    text = SAMPLED.replace('"sobol"', '"morris"')
    with pytest.raises(ValueError, match=r"factors.kout: a lognormal factor has no ends"):
        read_design(written(tmp_path, text))
    done = bc.sweep(written(tmp_path, GRID), out=tmp_path / "out")
    with pytest.raises(ValueError, match='sampling = "factorial"; sensitivity needs'):
        bc.sensitivity(done, "nadir")


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return bc.sweep(written(folder, GRID), out=folder / "out").summary()


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    done = bc.sweep(written(folder, SAMPLED), out=folder / "out")
    return done.summary(["dose", "interval", "kout", "WT", "threshold"])


def test_surface_over_a_grid_and_over_points(summary, sampled):
    one = summary[(summary["threshold"] == 10) & (summary["emax"] == 0.5)]
    figure = bc.plot.response_surface(one, "interval", "dose", "suppressed_throughout")
    assert figure.axes[0].get_xlabel() == "interval [day]"
    assert figure.axes[0].get_ylabel() == "dose"
    # What all of it shares is said, and the numbers are kept beside it.
    assert "emax 0.5, threshold 10 cells/uL" in figure.get_suptitle()
    assert bc.plot.data(figure)["interval"].tolist() == [28, 56, 28, 56]  # no week has a value
    plt.close(figure)
    figure = bc.plot.response_surface(
        sampled[sampled["threshold"] == 10], "interval", "dose", "nadir_median"
    )
    assert figure.axes[1].get_ylabel() == "nadir median [cells/uL]"
    assert figure.axes[0].get_ylabel() == "dose [mg]"
    plt.close(figure)
    with pytest.raises(ValueError, match="several rows share interval and dose"):
        bc.plot.response_surface(summary, "interval", "dose", "nadir_median")
    with pytest.raises(ValueError, match='unknown column "intervall"; did you mean "interval"'):
        bc.plot.response_surface(one, "intervall", "dose", "nadir_median")


def test_parallel_coordinates(summary):
    figure = bc.plot.parallel_coordinates(
        summary, ["dose", "interval", "emax", "threshold"], "suppressed_throughout"
    )
    lines = figure.axes[0].collections[0]
    shown = summary["suppressed_throughout"].notna().sum()
    assert len(lines.get_segments()) == shown
    assert np.nanmin(lines.get_array()) >= 0
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {"5 mg sc", "20 mg sc", "28", "56", "0.5", "2", "10", "40"} <= texts
    plt.close(figure)
    with pytest.raises(ValueError, match="two columns or more"):
        bc.plot.parallel_coordinates(summary, ["dose"], "nadir_median")


def test_small_multiples(summary):
    few = summary[summary["threshold"] == 40]
    figure = bc.plot.small_multiples(few, "interval", "nadir_median", panels="emax", lines="dose")
    assert [axis.get_title() for axis in figure.axes] == ["emax 0.5", "emax 2"]
    assert len(figure.axes[0].lines) == 2
    plt.close(figure)
    with pytest.raises(ValueError, match="several rows share a point"):
        bc.plot.small_multiples(few, "interval", "nadir_median", panels="emax")
