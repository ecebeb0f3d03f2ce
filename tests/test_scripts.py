"""Structures in a file of one's own: registered, and every mistake named with its line."""

import re
from pathlib import Path

import numpy as np
import pytest

from bcellsim import load_model, simulate
from bcellsim.scripts import load_structures
from bcellsim.structures import STRUCTURES

DATA = Path(__file__).parent.parent / "examples" / "data"
TEXT = (DATA / "kpd_production.py").read_text(encoding="utf-8")
LIMIT = 1e-6  # of a count, from the closed form: the reference backend's tolerance, twice


def own(tmp_path, old="", new=""):
    """Return the path of the example's structure with something in it replaced."""
    assert old in TEXT
    path = tmp_path / "own.py"
    path.write_text(TEXT.replace(old, new, 1) if old else TEXT, encoding="utf-8")
    return path


def test_what_is_registered(tmp_path):
    (structure,) = load_structures(own(tmp_path))
    assert STRUCTURES["kpd_production"] is structure
    again = load_structures(own(tmp_path))  # the file may have been changed meanwhile
    assert STRUCTURES["kpd_production"] is again[0]


def test_a_model_on_it_is_solved(tmp_path):
    load_structures(own(tmp_path))
    model = load_model(DATA / "invented_production.toml")
    counts = simulate(model, "1e9 mg sc", until=20, every=1).bcell
    p = model.typical()  # so large a dose stops the fraction emax of production
    floor = p["b0"] * (1 - p["emax"])
    wanted = floor + (p["b0"] - floor) * np.exp(-p["kout"] * counts.time)
    assert counts.values == pytest.approx(wanted.values, rel=LIMIT)


def test_a_file_may_register_for_itself(tmp_path):
    path = own(tmp_path, "import Route, Structure", "import Route, Structure, register_structure")
    path.write_text(path.read_text() + "\nregister_structure(PRODUCTION)\n")
    assert [s.name for s in load_structures(path)] == ["kpd_production"]


def line_of(path, mark):
    return next(i for i, line in enumerate(path.read_text().splitlines(), 1) if mark in line)


@pytest.mark.parametrize(
    ("old", "new", "mark", "said"),
    [
        ("def initial(p, y):", "def initial(p, y:", "def initial", "'(' was never closed"),
        ("from bcellsim", "import bcelsim\nfrom bcellsim", "bcelsim", "No module named 'bcelsim'"),
        ('"kel", "a50"', '"kel", "a5"', "Structure(", 'unknown parameter "a5"'),
        ("KEL, A50, B0", "A50, KEL, B0", "Structure(", ", but parameter"),
        ("    y[BCELL] = p[B0]", "    y[BCELL] = b0", "= b0", "name 'b0' is not defined"),
        ("out[1] = y[BCELL]", "out[2] = y[BCELL]", "out[2]", "IndexError"),
        ("rhs=rhs,\n", "", "Structure(", "missing 1 required"),
        ("VIRTUAL, BCELL", "import sys\nsys.exit(3)\nVIRTUAL, BCELL", "exit(3)", "SystemExit"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, old, new, mark, said):
    path = own(tmp_path, old, new)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        load_structures(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.startswith(f"{path}, line {line_of(path, mark)}: ")


def test_a_name_that_the_library_has(tmp_path):
    with pytest.raises(ValueError, match='a structure named "kpd" is registered already') as caught:
        load_structures(own(tmp_path, '"kpd_production"', '"kpd"'))
    assert str(caught.value).startswith(str(tmp_path / "own.py"))
    assert STRUCTURES["kpd"].rhs.__module__ == "bcellsim.structures.kpd"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it defines no Structure"),
        (b"from bcellsim.structures.kpd import KPD\n", "it defines no Structure"),
        (b"\xff\xfe\x00", "not a text file (UTF-8)"),
        (b"x = 1\x00\n", "null bytes"),
    ],
)
def test_a_file_without_a_structure(tmp_path, content, said):
    path = tmp_path / "own.py"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(said)):
        load_structures(path)


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "nowhere.py", tmp_path):
        with pytest.raises(FileNotFoundError, match="no structure file"):
            load_structures(path)
