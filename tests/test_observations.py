"""Reading data files: what good tables give, and what every mistake says, with line and column."""

import csv
import math
import re
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bcellsim.library import load_model
from bcellsim.observations import (
    covariate_course,
    day_zero,
    fitted_rows,
    one_subject,
    read_observations,
    regimen_of,
    remarks,
)
from bcellsim.observations.subject import covariate_at
from bcellsim.structures import get_structure

# Converting 10^9/L to cells/uL multiplies once: one rounding, of 1e-16.
RTOL = 1e-12


def read(folder, text, **options):
    path = folder / "data.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_observations(path, **options)


# --- good tables -----------------------------------------------------------------------------


def test_columns_are_found_without_regard_to_case_order_spaces_and_bom(tmp_path):
    table = read(tmp_path, "\ufeffdv, Time ,id,Wt,amt\n.,0,A1,70,20\n<5,28,A1,70,\n")
    assert list(table["ID"]) == ["A1", "A1"]
    assert list(table["TIME"]) == [0, 28]
    assert list(table["EVID"]) == [1, 0]
    assert list(table["WT"]) == [70, 70]
    assert list(table["LINE"]) == [2, 3]
    assert table["DV"].iloc[1] == 5
    assert table["CENS"].iloc[1] == 1


@pytest.mark.parametrize("missing", [".", "NA", "", " "])
def test_missing_dv_is_no_observation_and_never_zero(tmp_path, missing):
    table = read(tmp_path, f"ID,TIME,AMT,DV\n1,0,20,{missing}\n1,7,{missing},{missing}\n")
    assert table["DV"].isna().all()
    assert list(table["AMT"]) == [20, 0]


def test_a_row_cut_short_is_missing_at_its_end(tmp_path):
    table = read(tmp_path, "ID,TIME,AMT,DV\n1,0,20\n1,7\n")
    assert len(table) == 2
    assert table["DV"].isna().all()


#: Columns after ID,TIME: header, row, options, (DV, CENS, LIMIT) expected; NaN where there is none.
CENSORING = {
    "exact": ("DV", "12.5", {}, (12.5, 0, math.nan)),
    "<5": ("DV", "<5", {}, (5, 1, math.nan)),
    "< 5": ("DV", "< 5", {}, (5, 1, math.nan)),
    "CENS": ("DV,CENS", "5,1", {}, (5, 1, math.nan)),
    "CENS 0 ignores LIMIT": ("DV,CENS,LIMIT", "5,0,1", {}, (5, 0, math.nan)),
    "interval": ("DV,CENS,LIMIT", "5,1,2", {}, (5, 1, 2)),
    "BLQ": ("DV,BLQ,LLOQ", "1,1,4", {}, (4, 1, 0)),
    "below the LLOQ column": ("DV,LLOQ", "1,4", {}, (4, 1, math.nan)),
    "above the LLOQ column": ("DV,LLOQ", "6,4", {}, (6, 0, math.nan)),
    "at the LLOQ": ("DV,LLOQ", "4,4", {}, (4, 0, math.nan)),
    "zero with an LLOQ": ("DV", "0", {"lloq": 3}, (3, 1, math.nan)),
    "lloq=": ("DV", "1", {"lloq": 3}, (3, 1, math.nan)),
    "lloq= leaves concentrations": ("DV,DVID", "1,conc", {"lloq": 3}, (1, 0, math.nan)),
    "unit": ("DV,UNIT", "0.2,10^9/L", {}, (200, 0, math.nan)),
    "unit and <": ("DV,UNIT", "<0.005,10^9/L", {}, (5, 1, math.nan)),
    "unit=": ("DV", "0.2", {"unit": "10^9/L"}, (200, 0, math.nan)),
    "unit= of a column wins": ("DV,UNIT", "20,cells/uL", {"unit": "10^9/L"}, (20, 0, math.nan)),
    "MDV": ("DV,MDV", "12,1", {}, (math.nan, 0, math.nan)),
    "BLQ without DV": ("DV,BLQ,LLOQ", ".,1,4", {}, (4, 1, 0)),
    "BLQ of a code": ("DV,BLQ,LLOQ", "-99,1,4", {}, (4, 1, 0)),
    "BLQ and lloq=": ("DV,BLQ", ".,1", {"lloq": 4}, (4, 1, 0)),
    "unit and LLOQ": ("DV,UNIT,BLQ,LLOQ", "0.001,10^9/L,1,0.005", {}, (5, 1, 0)),
    "unit= and LLOQ": ("DV,LLOQ", "0.001,0.005", {"unit": "10^9/L"}, (5, 1, math.nan)),
    "unit and lloq=": ("DV,UNIT", "0.001,10^9/L", {"lloq": 5}, (5, 1, math.nan)),
    "unit and LIMIT": ("DV,UNIT,CENS,LIMIT", "0.005,10^9/L,1,0.001", {}, (5, 1, 1)),
    "LIMIT 0": ("DV,CENS,LIMIT", "5,1,0", {}, (5, 1, 0)),
    "lloq= with a unit": ("DV", "1", {"lloq": "0.003 10^9/L"}, (3, 1, math.nan)),
    "lloq= of text": ("DV", "1", {"lloq": "3"}, (3, 1, math.nan)),
    ">500": ("DV", ">500", {}, (500, -1, math.nan)),
    "<=5": ("DV", "<= 5", {}, (5, 1, math.nan)),
    "≥500": ("DV", "≥500", {}, (500, -1, math.nan)),
    "CENS -1": ("DV,CENS", "500,-1", {}, (500, -1, math.nan)),
    "CENS -1 and LIMIT": ("DV,CENS,LIMIT", "500,-1,900", {}, (500, -1, 900)),
    "above the ULOQ column": ("DV,ULOQ", "600,500", {}, (500, -1, math.nan)),
    "< and LIMIT": ("DV,LIMIT", "<5,1", {}, (5, 1, 1)),
    "< and CENS": ("DV,CENS", "<5,1", {}, (5, 1, math.nan)),
    "zero counted in a volume": ("DV,VOLUME", "0,50", {}, (0, 0, math.nan)),
    "percent": ("DV,UNIT,ALC", "12.5,%,2.1", {}, (12.5, 0, math.nan)),
    "lloq= in percent": ("DV,UNIT,ALC", "0.05,%,2.1", {"lloq": "0.1 %"}, (0.1, 1, math.nan)),
    "lloq= in cells leaves percent": ("DV,UNIT,ALC", "0.5,%,2.1", {"lloq": 5}, (0.5, 0, math.nan)),
    "LLOQ of a percentage": ("DV,UNIT,ALC,LLOQ", "0.05,%,2.1,0.1", {}, (0.1, 1, math.nan)),
}


@pytest.mark.parametrize(
    ("header", "row", "options", "expected"), CENSORING.values(), ids=CENSORING
)
def test_observed_value_and_censoring(tmp_path, header, row, options, expected):
    seen = read(tmp_path, f"ID,TIME,{header}\n1,0,{row}\n", **options).iloc[0]
    np.testing.assert_allclose(seen[["DV", "CENS", "LIMIT"]].astype(float), expected, rtol=RTOL)


#: Columns after ID,TIME,AMT: header, row, (DUR, ADDL, II) expected.
DOSES = {
    "bolus": ("DV", ".", (0, 0, 0)),
    "RATE": ("RATE", "100", (0.2, 0, 0)),
    "DUR": ("DUR", "0.2", (0.2, 0, 0)),
    "RATE 0 and DUR": ("RATE,DUR", "0,0.2", (0.2, 0, 0)),
    "ADDL and II": ("ADDL,II", "3,28", (0, 3, 28)),
    "ADDL 0": ("ADDL,II", "0,0", (0, 0, 0)),
    "MDV 1": ("MDV,EVID", "1,1", (0, 0, 0)),
    "SS 0": ("SS,OCC", "0,.", (0, 0, 0)),
    "SS 1": ("SS,II", "1,28", (0, 0, 28)),
    "SS 1 and ADDL": ("SS,II,ADDL", "1,28,3", (0, 3, 28)),
    "SS 2": ("SS,II", "2,28", (0, 0, 28)),
    "EVID 4": ("EVID,DUR", "4,0.2", (0.2, 0, 0)),
}


@pytest.mark.parametrize(("header", "row", "expected"), DOSES.values(), ids=DOSES)
def test_doses(tmp_path, header, row, expected):
    seen = read(tmp_path, f"ID,TIME,AMT,{header}\n1,-2,20,{row}\n").iloc[0]
    assert (seen["EVID"], seen["AMT"], seen["TIME"]) == (4 if "EVID,DUR" in header else 1, 20, -2)
    np.testing.assert_allclose(seen[["DUR", "ADDL", "II"]].astype(float), expected, rtol=RTOL)


def test_regimen_covariates_and_subject_of_a_table(tmp_path):
    table = read(
        tmp_path,
        "ID,TIME,AMT,CMT,ADDL,II,DV,WT,AGE\n"
        "1,-7,.,.,.,.,200,70,.\n1,0,20,SC,2,28,.,.,38\n1,90,30,,.,.,.,70,38\n2,0,20,sc,0,0,.,50,9\n",
    )
    one = one_subject(table, "1")
    assert len(one) == 3
    plan = regimen_of(one, default_route="iv")
    assert [(d.time, d.amount, d.route) for d in plan.doses()] == [
        (0, 20, "sc"), (28, 20, "sc"), (56, 20, "sc"), (90, 30, "iv"),
    ]  # fmt: skip
    assert covariate_course(one, ["WT", "AGE"]).values == {"WT": [70], "AGE": [38]}
    with pytest.raises(ValueError, match=r"hold 2 subjects \(1, 2\);"):
        one_subject(table)
    with pytest.raises(ValueError, match='unknown subject "7"'):
        one_subject(table, "7")


# --- time --------------------------------------------------------------------------------------


def test_dates_count_from_the_first_dose_of_each_subject(tmp_path):
    table = read(
        tmp_path,
        "ID,TIME,AMT,DV\n1,2024-02-28T20:00,.,200\n1,2024-02-29T08:00,20,.\n"
        "1,2024-03-28 08:00:00,.,5\n2,2023-12-31T12:00,20,.\n2,2024-01-01T00:00,.,9\n",
    )
    np.testing.assert_allclose(table["TIME"], [-0.5, 0, 28, 0, 0.5], rtol=RTOL)
    assert day_zero(one_subject(table, "1")) == datetime(2024, 2, 29, 8)
    assert day_zero(one_subject(table, "2")) == datetime(2023, 12, 31, 12)
    assert table["DATE"].iloc[2] == pd.Timestamp("2024-03-28 08:00")
    assert "day 0 is 2024-02-29" in remarks(one_subject(table, "1"))
    plain = read(tmp_path, "ID,TIME,DV\n1,2024-03-01,5\n1,2024-03-08,6\n")
    assert list(plain["TIME"]) == [0, 7]
    assert "DATE" not in read(tmp_path, "ID,TIME,DV\n1,0,5\n")
    assert day_zero(read(tmp_path, "ID,TIME,DV\n1,0,5\n")) is None


def test_a_time_unit_is_that_of_time_interval_duration_and_rate(tmp_path):
    rows = (
        "ID,TIME,AMT,DV,RATE,DUR,ADDL,II\n1,{},20,.,.,{},2,{}\n1,{},20,.,{},.,.,.\n"
        "1,{},.,5,.,.,.,.\n"
    )
    weeks = read(tmp_path, rows.format(1, 0.5, 4, 20, 70, 26), time_unit="w")
    days = read(tmp_path, rows.format(7, 3.5, 28, 140, 10, 182))
    pd.testing.assert_frame_equal(weeks, days, rtol=RTOL)


def test_the_clock_tells_apart_what_stands_at_one_time(tmp_path):
    """Before a dose, after it, and after a second one of the same time."""
    table = read(
        tmp_path,
        "ID,TIME,AMT,DV\n1,0,20,.\n1,28,.,5\n1,28,20,.\n1,28,.,5.5\n1,28,30,.\n1,28,.,6\n1,29,.,7\n",
    )
    clock = table["CLOCK"].to_numpy()
    assert list(clock[[0, 1, 2, 6]]) == [0, 28, 28, 29]
    assert clock[2] < clock[3] == clock[4] < clock[5] < 28 + 1e-8
    assert list(table["TIME"]) == [0, 28, 28, 28, 28, 28, 29]
    assert list(table["REP"]) == [1, 1, 1, 2, 1, 3, 1]


def test_time_restarts_at_a_reset_only(tmp_path):
    rows = "ID,TIME,AMT,DV,EVID\n1,0,20,.,1\n1,28,.,5,0\n1,-1,.,.,{}\n1,9,.,6,0\n"
    with pytest.raises(ValueError, match="line 4, column TIME: times out of order"):
        read(tmp_path, rows.format(2))
    table = read(tmp_path, rows.format(3))
    assert list(table["CLOCK"]) == [0, 28, 28, 38]
    assert list(table["TIME"]) == [0, 28, -1, 9]


# --- doses as a regimen --------------------------------------------------------------------------


def events_of(table):
    return [
        (e.kind, e.time, e.amount, e.every, e.fixed_rate)
        for e in regimen_of(table, default_route="sc").expand()
    ]


def test_resets_cancel_what_was_to_come(tmp_path):
    rows = "ID,TIME,AMT,DV,EVID,ADDL,II\n1,0,20,.,1,4,28\n1,60,{},.,{},.,.\n1,90,.,5,0,.,.\n"
    before = [("dose", t, 20, None, False) for t in (0, 28, 56)]
    reset = [("reset", 60, 0, None, False)]
    assert events_of(read(tmp_path, rows.format(".", 3))) == before + reset
    dose = [("dose", 60, 30, None, False)]
    assert events_of(read(tmp_path, rows.format(30, 4))) == before + reset + dose
    after = [("dose", t, 20, None, False) for t in (84, 112)]
    assert events_of(read(tmp_path, rows.format(30, 1))) == before + dose + after
    at = rows.replace("1,60", "1,56").format(".", 3)  # the further dose of that moment too
    assert [e[1] for e in events_of(read(tmp_path, at)) if e[0] == "dose"] == [0, 28]


def test_a_steady_state_stands_before_its_dose(tmp_path):
    rows = "ID,TIME,AMT,DV,SS,ADDL,II\n1,0,20,.,0,9,28\n1,60,30,.,{},1,14\n1,90,.,5,.,.,.\n"
    steady = [("steady", 60, 30, 14, False)]
    doses = [("dose", t, 30, None, False) for t in (60, 74)]
    before = [("dose", t, 20, None, False) for t in (0, 28, 56)]
    assert events_of(read(tmp_path, rows.format(1))) == before + steady + doses
    both = events_of(read(tmp_path, rows.format(2)))
    assert both[:5] == before + steady + doses[:1]
    assert sorted(e[1] for e in both if e[0] == "dose") == sorted(
        [28.0 * k for k in range(10)] + [60, 74]
    )
    constant = read(tmp_path, "ID,TIME,AMT,DV,RATE,SS,CMT\n1,0,0,.,5,1,iv\n1,3,.,5,.,.,.\n")
    assert events_of(constant) == [("steady", 0, 5, None, True)]


def test_doses_per_size_take_the_size_at_their_time(tmp_path):
    rows = (
        "ID,TIME,AMT,DV,UNIT,ADDL,II,WT,BSA\n1,0,10,.,mg/kg,1,28,50,1.2\n1,20,.,5,,.,.,60,1.5\n"
        "1,40,100,.,mg/m2,.,.,70,2\n1,50,0.5,.,g,.,.,70,2\n"
    )
    given = [e[1:3] for e in events_of(read(tmp_path, rows))]
    assert given == [(0, 500), (28, 600), (40, 200), (50, 500)]
    backward = [e[1:3] for e in events_of(read(tmp_path, rows, covariates="nocb"))]
    assert backward == [(0, 500), (28, 700), (40, 200), (50, 500)]
    between = [e[1:3] for e in events_of(read(tmp_path, rows, covariates="linear"))]
    assert between == [(0, 500), (28, pytest.approx(640)), (40, 200), (50, 500)]
    with pytest.raises(ValueError, match="a dose in mg/kg needs WT, which is missing"):
        regimen_of(read(tmp_path, "ID,TIME,AMT,DV,UNIT,WT,X\n1,0,10,.,mg/kg,.,1\n1,9,.,5,,.,2\n"),
                   default_route="sc")  # fmt: skip


# --- what is fitted -------------------------------------------------------------------------


def test_rows_to_fit_and_their_scale(tmp_path):
    table = read(
        tmp_path,
        "ID,TIME,AMT,DV,UNIT,ALC,MDV\n1,-1,.,12,%,2.5,0\n1,0,20,.,,.,1\n"
        "1,28,.,20,% of baseline,.,0\n1,35,.,0.03,10^9/L,.,0\n"
        "1,40,.,30,cells/uL,.,100\n1,41,.,.,cells/uL,.,0\n",
    )
    rows = fitted_rows(table)
    assert list(rows["DV"]) == [12, 20, 30]
    np.testing.assert_allclose(rows["SCALE"], [100 / 2500, math.nan, 1.0], rtol=RTOL)
    assert list(rows["UNIT"]) == ["%", "%", "cells/uL"]
    said = " ".join(remarks(table))
    for words in (
        "% of lymphocytes, compared through the lymphocyte count of the sample (2500 to",
        "% of baseline, compared through the predicted baseline",
        "MDV = 100: kept",
    ):
        assert words in said


def test_bounds_of_censored_rows(tmp_path):
    rows = fitted_rows(
        read(tmp_path, "ID,TIME,DV,CENS,LIMIT\n1,0,8,0,1\n1,1,<5,.,.\n1,2,5,1,2\n1,3,>500,.,.\n"
             "1,4,15,-1,25\n")
    )  # fmt: skip
    assert list(rows["LOWER"]) == [8, -math.inf, 2, 500, 15]
    assert list(rows["UPPER"]) == [8, 5, 5, math.inf, 25]


def test_numbers_of_a_model_name_states_and_outputs(tmp_path):
    model = load_model("yu2022_ofatumumab")
    table = read(tmp_path, "ID,TIME,AMT,DV,CMT,DVID\n1,0,20,.,1,.\n1,1,20,.,2,.\n1,9,.,5,.,3\n"
                 "1,9,.,5,5,.\n1,9,.,2,2,.\n", model=model)  # fmt: skip
    assert list(table["CMT"][:2]) == ["sc", "iv"]
    assert list(table["DVID"][2:]) == ["bcell", "bcell", "conc"]
    with pytest.raises(ValueError, match="9: the model has 3, conc, conc_free, bcell"):
        read(tmp_path, "ID,TIME,DV,DVID\n1,0,5,9\n", model=model)
    with pytest.raises(ValueError, match='column CMT: unknown route "4"'):
        read(tmp_path, "ID,TIME,AMT,CMT\n1,0,5,4\n", model=model)
    seen = read(tmp_path, "ID,TIME,DV,DVID,UNIT\n1,0,5,conc,nmol/L\n", model=model)["DV"]
    assert list(seen) == [pytest.approx(5 * 0.146, rel=RTOL)]  # 146 kDa
    with pytest.raises(ValueError, match=r"column RATE: RATE = -2: .* defines no duration of"):
        read(tmp_path, "ID,TIME,AMT,RATE\n1,0,5,-2\n", model=model)


def test_rows_are_left_out_only_by_a_column_that_the_user_names(tmp_path):
    rows = "ID,TIME,AMT,DV,C\n1,0,20,.,.\n1,7,.,bad,C\n1,9,.,5,0\n"
    with pytest.raises(ValueError, match='line 3, column DV: "bad" is not a number'):
        read(tmp_path, rows)
    table = read(tmp_path, rows, skip="c")
    assert list(table["LINE"]) == [2, 4]
    assert "left out, as column C says: line 3" in " ".join(remarks(table))
    with pytest.raises(ValueError, match="column D, which marks rows to leave out, is not there"):
        read(tmp_path, rows, skip="D")
    with pytest.raises(ValueError, match="column C leaves out every row"):
        read(tmp_path, rows.replace(",.\n", ",1\n").replace(",0\n", ",1\n"), skip="C")


def test_a_row_of_evid_2_asks_for_a_prediction(tmp_path):
    table = read(tmp_path, "ID,TIME,AMT,DV,EVID,DVID\n1,0,20,.,1,.\n1,7,.,.,2,conc\n1,8,.,.,2,.\n")
    assert list(table["DVID"]) == ["", "conc", "bcell"]
    assert list(table["MDV"]) == [1, 1, 1]
    assert not len(fitted_rows(table))
    with pytest.raises(ValueError, match="switching compartments off is not supported"):
        read(tmp_path, "ID,TIME,AMT,DV,EVID,CMT\n1,0,20,.,1,.\n1,7,.,.,2,-1\n")


def test_without_b_cells_a_model_observes_its_concentration(tmp_path):
    model = replace(load_model("chen2024_rituximab"), structure=get_structure("pk_linear"))
    table = read(tmp_path, "ID,TIME,DV\n1,0,5\n", model=model)
    assert list(table["DVID"]) == ["conc"]
    assert list(table["UNIT"]) == ["mg/L"]


# --- covariates in time ---------------------------------------------------------------------

WEIGHTS = "ID,TIME,DV,WT\n1,0,5,.\n1,10,5,70\n1,20,5,.\n1,30,5,80\n1,40,5,80\n1,50,5,60\n1,60,5,.\n"
#: Weight just before, at and just after day 30, and far before and after the records.
BY_RULE = {
    "locf": [70, 80, 80, 70, 60],
    "nocb": [80, 80, 80, 70, 60],
    "linear": [80 - 5e-7, 80, 80, 70, 60],
}


@pytest.mark.parametrize(("rule", "expected"), BY_RULE.items(), ids=BY_RULE)
def test_covariates_between_their_records(tmp_path, rule, expected):
    table = read(tmp_path, WEIGHTS, covariates=rule)
    days = np.array([30 - 1e-6, 30, 30 + 1e-6, -100, 100])
    np.testing.assert_allclose(covariate_at(table, "WT", days), expected, rtol=1e-9)
    course = covariate_course(table, ["WT", "AGE"])
    assert set(course.values) == {"WT"}
    # The pieces hold what the rule gives everywhere but where a piece of the linear rule is flat.
    grid = np.linspace(-5.0, 65.0, 1401) + 1e-4
    piece = np.searchsorted(course.start, grid, side="left" if course.closed else "right") - 1
    error = np.abs(course.values["WT"][piece] / covariate_at(table, "WT", grid) - 1.0)
    assert error.max() <= (0.0051 if rule == "linear" else 0.0)


def test_the_pieces_of_a_covariate(tmp_path):
    course = covariate_course(read(tmp_path, WEIGHTS), ["WT"])
    assert list(course.start) == [-math.inf, 30, 50]
    assert list(course.values["WT"]) == [70, 80, 60]
    course = covariate_course(read(tmp_path, WEIGHTS, covariates="nocb"), ["WT"])
    assert list(course.start) == [-math.inf, 10, 40]
    assert list(course.values["WT"]) == [70, 80, 60]
    constant = covariate_course(read(tmp_path, "ID,TIME,DV,WT\n1,0,5,70\n1,9,5,70\n"), ["WT"])
    assert (list(constant.start), list(constant.values["WT"])) == ([-math.inf], [70])
    none = covariate_course(read(tmp_path, "ID,TIME,DV\n1,0,5\n"), ["WT"])
    assert (list(none.start), none.values) == ([-math.inf], {})


# --- mistakes --------------------------------------------------------------------------------

#: Text, then the line and column named, then words of the sentence.
MISTAKES = {
    "text in TIME": ("ID,TIME,DV\n1,soon,5\n", 2, "TIME", '"soon" is not a number'),
    "text in DV": ("ID,TIME,DV\n1,0,5\n1,7,five\n", 3, "DV", '"five" is not a number'),
    "text in AMT": ("ID,TIME,AMT\n1,0,20mg\n", 2, "AMT", "is not a number"),
    "decimal comma": ('ID,TIME,DV\n1,"0,5",5\n', 2, "TIME", "decimals with a point"),
    "no TIME": ("ID,TIME,DV\n1,.,5\n", 2, "TIME", "the time is missing"),
    "no ID": ("ID,TIME,DV\n1,0,5\n.,7,5\n", 3, "ID", "the subject is missing"),
    "time nan": ("ID,TIME,DV\n1,nan,5\n", 2, "TIME", "nan is not a finite number"),
    "order": ("ID,TIME,DV\n1,7,5\n1,0,5\n", 3, "TIME", "times out of order, 0 comes after 7"),
    "two blocks": ("ID,TIME,DV\n1,0,5\n2,0,5\n1,7,5\n", 4, "ID", "two separate blocks"),
    "AMT observed": ("ID,TIME,DV,AMT,EVID\n1,0,5,20,0\n", 2, "AMT", "(EVID 0) has AMT = 20"),
    "zero dose": ("ID,TIME,AMT,EVID\n1,0,0,1\n", 2, "AMT", "must be above 0"),
    "no amount": ("ID,TIME,AMT,EVID\n1,0,.,1\n", 2, "AMT", "must be above 0"),
    "negative dose": ("ID,TIME,AMT\n1,0,-20\n", 2, "AMT", "a dose of -20"),
    "RATE and DUR": ("ID,TIME,AMT,RATE,DUR\n1,0,20,5,4\n", 2, "DUR", "both RATE and DUR"),
    "DUR -1": ("ID,TIME,AMT,DUR\n1,0,20,-1\n", 2, "DUR", "is negative"),
    "ADDL": ("ID,TIME,AMT,ADDL\n1,0,20,3\n", 2, "II", "contradict"),
    "II": ("ID,TIME,AMT,II\n1,0,20,28\n", 2, "II", "contradict"),
    "II -28": ("ID,TIME,AMT,ADDL,II\n1,0,20,3,-28\n", 2, "II", "contradict"),
    "ADDL 1.5": ("ID,TIME,AMT,ADDL,II\n1,0,20,1.5,28\n", 2, "ADDL", "whole number"),
    "ADDL -1": ("ID,TIME,AMT,ADDL,II\n1,0,20,-1,28\n", 2, "ADDL", "whole number"),
    "MDV 0 on a dose": ("ID,TIME,AMT,MDV\n1,0,20,0\n", 2, "MDV", "it must be 1"),
    "zero count": ("ID,TIME,DV\n1,0,0\n", 2, "DV", "must be above 0"),
    "negative count": ("ID,TIME,DV\n1,0,-3\n", 2, "DV", "must be above 0"),
    "<0": ("ID,TIME,DV\n1,0,<0\n", 2, "DV", "must be above 0"),
    "inf": ("ID,TIME,DV\n1,0,inf\n", 2, "DV", "not a finite number"),
    "inf TIME": ("ID,TIME,DV\n1,-inf,5\n", 2, "TIME", "not a finite number"),
    "NAN": ("ID,TIME,DV\n1,0,NAN\n", 2, "DV", "not a finite number"),
    "BLQ alone": ("ID,TIME,DV,BLQ\n1,0,5,1\n", 2, "BLQ", "needs the limit"),
    "DVID": ("ID,TIME,DV,DVID\n1,0,5,bcel\n", 2, "DVID", 'did you mean "bcell"'),
    "UNIT": ("ID,TIME,DV,UNIT\n1,0,5,10^9/l\n", 2, "UNIT", 'did you mean "10^9/L"'),
    "UNIT of another kind": ("ID,TIME,DV,UNIT\n1,0,5,mg/L\n", 2, "UNIT", "is a mass/volume"),
    "blank lines": ("ID,TIME,DV\n1,0,5\n\n  \n1,7,x\n", 5, "DV", "is not a number"),
    "line break in a cell": ('ID,TIME,DV,NOTE\n1,0,5,"a\nb"\n1,7,x,\n', 4, "DV", "not a number"),
    "decimal comma in DV": ('ID,TIME,DV\n1,0,"12,5"\n', 2, "DV", "decimals with a point"),
    "nan DV": ("ID,TIME,DV\n1,0,nan\n", 2, "DV", "not a finite number"),
    "1e999": ("ID,TIME,DV\n1,0,1e999\n", 2, "DV", "not a finite number"),
    "1_000": ("ID,TIME,DV\n1,0,1_000\n", 2, "DV", "not a number"),
    "bare <": ("ID,TIME,DV\n1,0,<\n", 2, "DV", '"<" is not a number'),
    "MDV 2 on a dose": ("ID,TIME,AMT,MDV\n1,0,20,2\n", 2, "MDV", "only 0 and 1"),
    "BLQ 2": ("ID,TIME,DV,BLQ,LLOQ\n1,0,5,2,3\n", 2, "BLQ", "only 0 and 1"),
    "negative with an LLOQ": ("ID,TIME,DV,LLOQ\n1,0,-99,3\n", 2, "DV", "must be above 0"),
    "LIMIT above DV": ("ID,TIME,DV,CENS,LIMIT\n1,0,5,1,8\n", 2, "LIMIT", "8 must be 0 or more"),
    "LIMIT at DV": ("ID,TIME,DV,CENS,LIMIT\n1,0,5,1,5\n", 2, "LIMIT", "and below DV"),
    "LIMIT -1": ("ID,TIME,DV,CENS,LIMIT\n1,0,5,1,-1\n", 2, "LIMIT", "must be 0 or more"),
    "RATE observed": ("ID,TIME,DV,EVID,RATE\n1,0,5,0,20\n", 2, "RATE", "an observation"),
    "ADDL observed": ("ID,TIME,DV,EVID,ADDL,II\n1,0,5,0,3,28\n", 2, "ADDL", "an observation"),
    "CMT of a dose": ("ID,TIME,AMT,CMT\n1,0,20,2\n", 2, "CMT", 'unknown route "2"'),
    "CMT of a state not dosed": ("ID,TIME,AMT,CMT\n1,0,20,bcell\n", 2, "CMT", "unknown route"),
    "CMT of a state not seen": ("ID,TIME,DV,CMT\n1,0,5,depot\n", 2, "CMT", "unknown output"),
    "EVID 5": ("ID,TIME,DV,EVID\n1,0,5,5\n", 2, "EVID", "5 (replacing an amount) is not"),
    "EVID 6": ("ID,TIME,DV,EVID\n1,0,5,6\n", 2, "EVID", "6 (multiplying an amount) is not"),
    "EVID 7": ("ID,TIME,DV,EVID\n1,0,5,7\n", 2, "EVID", "7 (a phantom dose) is not supported"),
    "EVID 101": ("ID,TIME,AMT,EVID\n1,0,5,101\n", 2, "EVID", "classic RxODE coding; write EVID 1"),
    "EVID 1.5": ("ID,TIME,AMT,EVID\n1,0,5,1.5\n", 2, "EVID", "only 0, 1, 2, 3 and 4 are"),
    "EVID 2 with MDV 0": ("ID,TIME,DV,EVID,MDV\n1,0,5,2,0\n", 2, "MDV", "it must be 1"),
    "EVID 3 with a dose": ("ID,TIME,AMT,EVID\n1,0,5,3\n", 2, "AMT", "a row of EVID 3"),
    "RATE -3": ("ID,TIME,AMT,RATE\n1,0,20,-3\n", 2, "RATE", "a rate above 0, or DUR"),
    "ADDL -3": ("ID,TIME,AMT,ADDL,II\n1,0,20,-3,28\n", 2, "ADDL", "empirical steady state"),
    "SS 3": ("ID,TIME,AMT,SS,II\n1,0,20,3,28\n", 2, "SS", "only 0, 1 and 2 are"),
    "SS 1 without II": ("ID,TIME,AMT,SS\n1,0,20,1\n", 2, "II", "SS = 1 needs the interval II"),
    "SS infusion with II": ("ID,TIME,AMT,RATE,SS,II\n1,0,0,5,1,28\n", 2, "II", "both must be 0"),
    "SS observed": ("ID,TIME,DV,EVID,SS\n1,0,5,0,1\n", 2, "SS", "an observation"),
    "MDV 101 on a dose": ("ID,TIME,AMT,MDV\n1,0,20,101\n", 2, "MDV", "must be 1"),
    "OCC 1.5": ("ID,TIME,DV,OCC\n1,0,5,1.5\n", 2, "OCC", "a whole number of 1 or more"),
    "DATE": ("ID,TIME,DV,DATE\n1,0,5,2024-05-01\n", 2, "DATE", "write the date in TIME"),
    "CENS 0 and <": ("ID,TIME,DV,CENS\n1,0,<5,0\n", 2, "CENS", "CENS = 0 contradicts DV = <5"),
    "CENS 1 and >": ("ID,TIME,DV,CENS\n1,0,>5,1\n", 2, "CENS", "contradicts DV = >5"),
    "CENS 2": ("ID,TIME,DV,CENS\n1,0,5,2\n", 2, "CENS", "only -1, 0 and 1 are"),
    "LIMIT below DV": ("ID,TIME,DV,CENS,LIMIT\n1,0,500,-1,400\n", 2, "LIMIT", "above DV"),
    "percent of drug": ("ID,TIME,DV,DVID,UNIT\n1,0,5,conc,%\n", 2, "UNIT", "is a fraction"),
    "percent without ALC": ("ID,TIME,DV,UNIT\n1,0,5,% of lymphocytes\n", 2, "ALC", "needs the"),
    "ALC 0": ("ID,TIME,DV,UNIT,ALC\n1,0,5,%,0\n", 2, "ALC", "above 0 is wanted"),
    "weight of 0": ("ID,TIME,DV,WT\n1,0,5,0\n", 2, "WT", "0 is no WT a patient can have"),
    "dose in an unknown unit": ("ID,TIME,AMT,UNIT\n1,0,5,mg/lb\n", 2, "UNIT", "mg/lb"),
    "CMT by number": ("ID,TIME,AMT,CMT\n1,0,20,1\n", 2, "CMT", "with its model"),
    "DVID by number": ("ID,TIME,DV,DVID\n1,0,20,1\n", 2, "DVID", "with its model"),
    "CMT and DVID": ("ID,TIME,DV,CMT,DVID\n1,0,5,conc,bcell\n", 2, "CMT", "contradicts DVID"),
}


@pytest.mark.parametrize(("text", "line", "column", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_row_names_file_line_and_column(tmp_path, text, line, column, words):
    where = f"data.csv, line {line}, column {column}: "
    with pytest.raises(ValueError, match=re.escape(where)) as raised:
        read(tmp_path, text)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


#: Text, then words of the sentence.
BAD_FILES = {
    "empty": ("", "the file is empty"),
    "blank": ("\n\n", "the file is empty"),
    "header only": ("ID,TIME,DV\n", "the table has no rows"),
    "no TIME": ("ID,DV\n1,5\n", "line 1: there is no column TIME; columns are ID, DV"),
    "no ID": ("TIME,DV\n1,5\n", "line 1: there is no column ID"),
    "semicolons": ("ID;TIME;DV\n1;0;5\n", "there is no column ID; columns are ID;TIME;DV"),
    "duplicate column": ("ID,TIME,DV,dv\n1,0,5,6\n", "column DV stands there twice"),
    "binary": (bytes(range(256)), "not a CSV table"),
    "UTF-16": ("ID,TIME,DV\n1,0,5\n".encode("utf-16"), "not a CSV table"),
    "a row too long": ("ID,TIME,AMT,DV\n1,0,20,.\n1,7,.,12,5\n", "line 3"),
    "open quote": ('ID,TIME,DV\n1,0,"5\n1,7,6\n', "not a CSV table"),
    "every row too long": ("ID,TIME,DV\n1,0,12,5\n1,7,13,5\n", "line 2: 4 values"),
    "trailing commas": ("ID,TIME,DV\n1,0,12,\n1,7,13,\n", "stand under 3 columns"),
    "column twice": ("ID,TIME,DV,DV\n1,0,5,6\n", "line 1: column DV stands there twice"),
}


@pytest.mark.parametrize(("content", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_says_what_it_lacks(tmp_path, content, words):
    with pytest.raises(ValueError, match=r"data\.csv") as raised:
        read(tmp_path, content)
    assert words in str(raised.value)


#: Options of the reader and what is said of a wrong one.
BAD_OPTIONS = {
    "time_unit": ({"time_unit": "hh"}, 'unknown unit "hh"; did you mean "h"'),
    "time_unit of mass": ({"time_unit": "mg"}, "is a mass"),
    "alc_unit": ({"alc_unit": "mg"}, "is a mass"),
    "covariates": ({"covariates": "locv"}, 'covariates "locv"; did you mean "locf"'),
    "lloq": ({"lloq": "0 %"}, "a limit above 0 is wanted"),
}


@pytest.mark.parametrize(("options", "words"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_options_are_checked(tmp_path, options, words):
    with pytest.raises(ValueError, match=r"unit|rule|lloq") as raised:
        read(tmp_path, "ID,TIME,DV\n1,0,5\n", **options)
    assert words in str(raised.value)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(FileNotFoundError, match="no data file"):
            read_observations(path)


@pytest.mark.parametrize("lloq", [math.inf, math.nan, -1.0, 0, "nan", "low", "3 mg"])
def test_lloq_must_be_a_finite_number_above_zero(tmp_path, lloq):
    with pytest.raises(ValueError, match="lloq"):
        read(tmp_path, "ID,TIME,DV\n1,0,5\n", lloq=lloq)


@pytest.mark.parametrize(
    ("unit", "words"), [("cells/uk", 'did you mean "cells/uL"'), ("mg/L", "is a mass/volume")]
)
def test_the_unit_is_checked_even_if_no_row_needs_it(tmp_path, unit, words):
    with pytest.raises(ValueError, match=words):
        read(tmp_path, "ID,TIME,DV,UNIT\n1,0,5,cells/uL\n", unit=unit)


def test_cmt_says_what_is_observed_and_where_a_dose_goes(tmp_path):
    table = read(
        tmp_path,
        "ID,TIME,AMT,DV,CMT\n1,0,20,.,Depot\n1,1,20,.,central\n1,2,20,.,IV\n1,3,20,.,\n"
        "1,4,.,5,conc\n1,5,.,5,Central\n1,6,.,5,bcell\n1,7,.,5,.\n",
    )
    assert list(table["DVID"][4:]) == ["conc", "conc", "bcell", "bcell"]
    routes = [dose.route for dose in regimen_of(table, default_route="sc").doses()]
    assert routes == ["sc", "iv", "iv", "sc"]


def test_a_column_of_text_is_carried_through_and_no_covariate(tmp_path):
    table = read(tmp_path, "ID,TIME,DV,REMARK,WT,,\n1,0,5,first visit,70,a,NA\n1,1,5,,,,\n")
    assert list(table["REMARK"]) == ["first visit", ""]
    assert list(table["COLUMN6"]) == ["a", ""]
    assert table["COLUMN7"].isna().all()
    assert covariate_course(table, ["WT"]).values == {"WT": [70]}


@pytest.mark.parametrize(
    ("weight", "words"), [("heavy", '"heavy" is not a number'), ("inf", "inf is not a finite")]
)
def test_a_covariate_asked_for_must_be_a_number(tmp_path, weight, words):
    table = read(tmp_path, f"ID,TIME,DV,IGG\n1,0,5,.\n1,1,5,{weight}\n2,0,5,70\n")
    with pytest.raises(ValueError, match=rf"data\.csv, line 3, column IGG: {words}"):
        covariate_course(one_subject(table, "1"), ["IGG"])
    assert covariate_course(one_subject(table, "2"), ["IGG"]).values == {"IGG": [70]}


def test_a_table_from_elsewhere_is_refused_with_a_sentence():
    table = pd.DataFrame({"ID": ["1"], "TIME": [0.0], "DV": [5.0]})
    for take in (
        one_subject,
        lambda t: covariate_course(t, ["WT"]),
        lambda t: regimen_of(t, default_route="sc"),
    ):
        with pytest.raises(ValueError, match="from read_observations: column CLOCK is missing"):
            take(table)


def test_no_dose_is_said(tmp_path):
    with pytest.raises(ValueError, match="hold no dose"):
        regimen_of(read(tmp_path, "ID,TIME,DV\n1,0,5\n"), default_route="sc")


# --- any valid table ---------------------------------------------------------------------------

POSITIVE = st.floats(1e-3, 1e4, allow_nan=False)
OBSERVED = st.fixed_dictionaries({"DV": POSITIVE, "CENS": st.booleans(), "AMT": st.just(0.0)})
GIVEN = st.fixed_dictionaries(
    {"AMT": POSITIVE, "ADDL": st.integers(0, 5), "II": POSITIVE, "DUR": st.floats(0, 2)}
)
ROWS = st.lists(st.tuples(st.floats(-100, 1000), OBSERVED | GIVEN), min_size=1, max_size=8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(subjects=st.lists(ROWS, min_size=1, max_size=3), weight=st.floats(3, 200))
def test_a_valid_table_is_read_back_row_by_row(tmp_path, subjects, weight):
    written = [
        {"ID": f"S{i}", "TIME": time, "WT": weight, **row}
        for i, rows in enumerate(subjects)
        for time, row in sorted(rows, key=lambda row: row[0])
    ]
    path = tmp_path / "any.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "TIME", "AMT", "DV", "CENS", "ADDL", "II", "DUR", "WT"])
        for row in written:
            count = row.get("ADDL", 0)
            writer.writerow([
                row["ID"], repr(row["TIME"]), repr(row["AMT"]) if row["AMT"] else ".",
                repr(row["DV"]) if "DV" in row else "NA", int(row.get("CENS", 0)),
                count, repr(row["II"]) if count else 0, repr(row.get("DUR", 0.0)), repr(weight),
            ])  # fmt: skip
    table = read_observations(path)
    assert len(table) == len(written)
    expected = pd.DataFrame({
        "ID": [row["ID"] for row in written],
        "TIME": [row["TIME"] for row in written],
        "EVID": [int(row["AMT"] > 0) for row in written],
        "AMT": [row["AMT"] for row in written],
        "DUR": [row.get("DUR", 0.0) for row in written],
        "ADDL": [row.get("ADDL", 0) for row in written],
        "II": [row["II"] if row.get("ADDL") else 0.0 for row in written],
        "DV": [row.get("DV", math.nan) for row in written],
        "CENS": [int(row.get("CENS", 0)) for row in written],
        "LINE": range(2, len(written) + 2),
        "WT": weight,
    })  # fmt: skip
    pd.testing.assert_frame_equal(table[list(expected)], expected, check_dtype=False, rtol=RTOL)
