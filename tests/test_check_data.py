"""`check` on data files: each fault that it must find, all of them at once, as text and JSON."""

import json
import math

import pytest
from typer.testing import CliRunner

import bcellsim as bc
from bcellsim.cli import app
from bcellsim.observations.faults import SEVERITIES

#: Rows of a plain file, of which each fault below changes something.
GOOD = """\
ID,TIME,AMT,DV,WT
1,-3,.,200,70
1,0,20,.,70
1,28,.,12.5,70
1,84,20,.,70
1,100,.,<5,70
2,0,20,.,55
2,30,.,7,55
"""
#: By the name of the fault: the file, then severity, line, column and rule of what is found.
FAULTS = {
    "unsorted TIME": (GOOD.replace("1,28", "1,-9"), "error", 4, "TIME", "time-order"),
    "missing TIME": (GOOD.replace("1,28", "1,."), "error", 4, "TIME", "time-missing"),
    "ID in two blocks": (GOOD + "1,120,.,9,70\n", "error", 9, "ID", "id-blocks"),
    "dose row with MDV 0": (
        "ID,TIME,AMT,DV,MDV\n1,0,20,.,0\n1,9,.,5,0\n", "error", 2, "MDV", "mdv-event",
    ),
    "II without ADDL": (
        "ID,TIME,AMT,DV,II\n1,0,20,.,28\n1,9,.,5,.\n", "error", 2, "II", "addl-ii",
    ),
    "AMT on an observation": (
        "ID,TIME,AMT,DV,EVID\n1,0,20,.,1\n1,9,20,5,0\n", "error", 3, "AMT", "dose-item",
    ),
    "covariate missing": (
        GOOD.replace(",55", ",."), "warning", 7, "WT", "covariate-missing",
    ),
    "covariate implausible": (GOOD.replace(",55", ",700", 1), "error", 7, "WT", "covariate-range"),
    "duplicate rows": (GOOD + "2,30,.,7,55\n", "warning", 9, "", "duplicate"),
    "zero count without LLOQ": (GOOD.replace("<5", "0"), "error", 6, "DV", "zero-count"),
    "hours for days": (
        "ID,TIME,AMT,DV\n1,0,20,.\n1,168,20,.\n1,336,20,.\n1,672,.,5\n1,1344,.,9\n",
        "warning", 6, "TIME", "hours-for-days",
    ),
    "mg against mg/kg": (
        "ID,TIME,AMT,DV,WT\n1,0,700,.,70\n1,14,10,.,70\n1,28,.,5,70\n",
        "warning", 3, "AMT", "mg-per-size",
    ),
    "text in a numeric column": (GOOD.replace("12.5", "few"), "error", 4, "DV", "number"),
    "commas as decimals": (GOOD.replace("12.5", '"12,5"'), "error", 4, "DV", "number"),
    "BOM": ("\ufeff" + GOOD, "note", 1, "", "byte-order-mark"),
    "time zone dates": (
        "ID,TIME,AMT,DV\n1,2024-05-01T08:30,20,.\n1,2024-05-09T10:00+02:00,.,5\n",
        "error", 3, "TIME", "time-zone",
    ),
    # and others of the same kinds
    "hours of ten decades": (
        "ID,TIME,AMT,DV\n1,0,20,.\n1,30,.,5\n1,17533,.,9\n", "warning", 4, "TIME",
        "hours-for-days",
    ),
    "a small infusion": (
        "ID,TIME,AMT,DV,WT,CMT\n1,0,10,.,70,iv\n1,28,.,5,70,\n", "warning", 2, "AMT",
        "mg-per-size",
    ),
    "mg as mg/m2": (
        "ID,TIME,AMT,DV,BSA,UNIT\n1,0,20,.,1.8,mg\n1,2,2000,.,1.8,mg/m2\n1,28,.,5,1.8,\n",
        "warning", 3, "AMT", "mg-per-size",
    ),
    "text in a covariate": (GOOD.replace(",55", ",light", 1), "error", 7, "WT", "number"),
    "a column mostly of numbers": (
        "ID,TIME,DV,IGG\n1,0,5,9\n1,1,5,8\n1,2,5,low\n", "warning", 4, "IGG", "mixed-column",
    ),
    "percent above 100": (
        "ID,TIME,DV,UNIT,ALC\n1,0,200,%,2.1\n", "error", 2, "DV", "percent",
    ),
    "percent without ALC": ("ID,TIME,DV,UNIT\n1,0,12,%\n", "error", 2, "UNIT", "percent-basis"),
    "ALC in another unit": (
        "ID,TIME,DV,UNIT,ALC\n1,0,12,%,2100\n", "error", 2, "ALC", "alc-unit",
    ),
    "replicates that disagree": (GOOD + "2,30,.,8,55\n", "warning", 9, "DV", "replicates"),
    "several baselines": (GOOD.replace("ID,TIME,AMT,DV,WT\n", "ID,TIME,AMT,DV,WT\n1,-9,.,180,70\n"),
                          "note", 2, "", "baselines"),
    "doses after the last count": (
        "ID,TIME,AMT,DV\n1,0,.,200\n1,9,20,.\n", "warning", 3, "TIME", "doses-late",
    ),
    "mixed times": (
        "ID,TIME,AMT,DV\n1,2024-05-01,20,.\n1,9,.,5\n", "error", 3, "TIME", "mixed-times",
    ),
    "clock times on some": (
        "ID,TIME,AMT,DV\n1,2024-05-01T08:30,20,.\n1,2024-05-09,.,5\n", "error", 3, "TIME",
        "mixed-times",
    ),
    "dates of another form": (
        "ID,TIME,AMT,DV\n1,01/05/2024,20,.\n", "error", 2, "TIME", "date-format",
    ),
    "dates by name": ("ID,TIME,AMT,DV\n1,1 May 2024,20,.\n", "error", 2, "TIME", "date-format"),
    "no such date": ("ID,TIME,AMT,DV\n1,2024-02-30,20,.\n", "error", 2, "TIME", "date-format"),
    "an infusion of the model": (
        "ID,TIME,AMT,RATE,DV\n1,0,20,-2,.\n1,9,.,.,5\n", "note", 2, "RATE", "rate-code",
    ),
    "DV of a dose": ("ID,TIME,AMT,DV\n1,0,20,7\n1,9,.,5\n", "note", 2, "DV", "dv-unused"),
    "DV with MDV 1": ("ID,TIME,AMT,DV,MDV\n1,0,20,.,1\n1,9,.,5,1\n", "note", 3, "DV", "dv-unused"),
}  # fmt: skip


def check(folder, text, *arguments):
    path = folder / "data.csv"
    path.write_text(text, encoding="utf-8")
    return CliRunner().invoke(app, ["check", str(path), *arguments])


def test_a_good_file_has_no_fault(tmp_path):
    done = check(tmp_path, GOOD)
    assert done.exit_code == 0
    assert done.stdout.endswith("data.csv: 0 errors, 0 warnings, 0 notes\n")


@pytest.mark.parametrize(
    ("text", "severity", "line", "column", "rule"), FAULTS.values(), ids=FAULTS
)
def test_check_finds(tmp_path, text, severity, line, column, rule):
    done = check(tmp_path, text, "--json")
    found = json.loads(done.stdout)
    place = [(f["severity"], f["line"], f["column"], f["rule"]) for f in found["faults"]]
    assert place == [(severity, line, column, rule)]
    assert done.exit_code == (1 if severity == "error" else 0)
    said = check(tmp_path, text).stdout
    assert f"line {line}" in said
    assert f"{severity} ({rule}): {found['faults'][0]['message']}" in said
    # The reader knows the same rules.
    path = tmp_path / "data.csv"
    if severity == "error":
        with pytest.raises(ValueError, match=f"line {line}"):
            bc.read_observations(path)
    elif severity == "warning":
        with pytest.warns(UserWarning, match=f"line {line}"):
            bc.read_observations(path)
    else:
        assert len(bc.read_observations(path)) == text.count("\n") - 1


def test_everything_wrong_is_listed_at_once(tmp_path):
    done = check(
        tmp_path,
        "ID,TIME,AMT,DV,EVID,MDV,ADDL,WT,UNIT\n1,0,20,.,1,0,3,700,\n1,7,.,0,0,0,.,70,\n"
        "1,5,3,60,0,0,.,70,cells\n.,28,.,x,9,0,.,70,\n",
        "--json",
    )
    found = json.loads(done.stdout)
    errors = {(f["line"], f["column"]) for f in found["faults"] if f["severity"] == "error"}
    assert errors == {(2, "II"), (2, "MDV"), (2, "WT"), (3, "DV"), (4, "TIME"), (4, "AMT"),
                      (4, "UNIT"), (5, "ID"), (5, "EVID")}  # fmt: skip
    assert found["errors"] == len(errors)
    for fault in found["faults"]:
        assert fault["severity"] in SEVERITIES
        assert fault["message"]
        assert "\n" not in fault["message"]
    assert [f["line"] for f in found["faults"]] == sorted(f["line"] for f in found["faults"])


def test_what_the_columns_do_not_say_is_an_option(tmp_path):
    hours = FAULTS["hours for days"][0]
    assert check(tmp_path, hours, "--time-unit", "h").exit_code == 0
    assert "0 warnings" in check(tmp_path, hours, "--time-unit", "h").stdout
    assert (
        check(tmp_path, FAULTS["ALC in another unit"][0], "--alc-unit", "cells/uL").exit_code == 0
    )
    assert check(tmp_path, FAULTS["zero count without LLOQ"][0], "--lloq", "5").exit_code == 0
    numbers = "ID,TIME,AMT,DV,CMT,DVID\n1,0,20,.,2,.\n1,9,.,5,.,3\n"
    assert "read the file with its model" in check(tmp_path, numbers).stdout
    done = check(tmp_path, numbers, "--model", "yu2022_ofatumumab")
    assert done.exit_code == 0
    assert "there is no column WT (body weight), which model yu2022_ofatumumab needs" in done.stdout


def test_days_read_as_hours(tmp_path):
    done = check(tmp_path, GOOD.replace("1,84", "1,14"), "--time-unit", "h")
    assert "days-for-hours" in done.stdout


@pytest.mark.parametrize("content", [b"", b"\n", b"\x00\xff\xfe" * 9, b"ID;TIME;DV\n1;0;5\n"])
def test_a_file_that_is_no_table_is_one_error(tmp_path, content):
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    done = CliRunner().invoke(app, ["check", str(path)])
    assert done.exit_code == 1
    assert done.stdout.count(": error (") >= 1


def test_warnings_are_one_a_cause(tmp_path):
    path = tmp_path / "data.csv"
    rows = [f"{i},0,20,.,.\n{i},9,.,5,.\n" for i in range(1, 6)]
    path.write_text("ID,TIME,AMT,DV,WT\n" + "".join(rows))
    with pytest.warns(UserWarning, match="has no WT") as caught:
        table = bc.read_observations(path)
    assert [str(w.message) for w in caught] == [
        f"{path}, line 2, column WT: subject 1 has no WT in any row (and 4 more such rows)"
    ]
    assert len(table.attrs["faults"]) == 5
    assert math.isnan(table["WT"].iloc[0])


def test_the_events_of_a_file_are_listed(tmp_path):
    path, yu = tmp_path / "data.csv", ("--model", "yu2022_ofatumumab", "--events")
    path.write_text("ID,TIME,AMT,ADDL,II,DV,WT,AGE\n1,0,20,2,7,.,70,40\n1,28,.,.,.,5,70,40\n")
    done = CliRunner().invoke(app, ["check", str(path), *yu, "--json"])
    found = json.loads(done.stdout)
    assert [(e["time"], e["amount"], e["cmt"], e["line"]) for e in found["events"]] == [
        (0, 20, "depot", 2), (7, 20, "depot", 2), (14, 20, "depot", 2),
    ]  # fmt: skip
    assert found["events"][0]["f"] == pytest.approx(0.685, rel=0.01)
    said = CliRunner().invoke(app, ["check", str(path), *yu]).stdout
    assert found["sha256"][0] in said
    alone = CliRunner().invoke(app, ["check", str(path), "--events"])
    assert "--events needs --model" in str(alone.exception)
