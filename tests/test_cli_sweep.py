"""The command line of sweeps: what it prints, how it goes on, and one sentence for a mistake."""

import errno
import io
import os
import re
import shutil
import sys
import time

import pytest
from sweeps import GRID, checksums, written
from test_cli import folder, parsed, run  # noqa: F401

import bcellsim as bc
from bcellsim.cli import sweeps
from bcellsim.sweep import run as running
from bcellsim.sweep import store

pytest.importorskip("pyarrow")
SWEEP = ["sweep", "design.toml", "--out", "out"]


@pytest.fixture(autouse=True)
def design(folder):  # noqa: F811
    return written(folder, GRID)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    place = tmp_path_factory.mktemp("undisturbed")
    return bc.sweep(written(place, GRID), out=place / "out"), place / "out"


@pytest.fixture
def out(undisturbed, folder):  # noqa: F811
    shutil.copytree(undisturbed[1], folder / "out")
    return folder / "out"


def said(found, code=1):
    """Return the one sentence of a command that failed."""
    assert (found[0], found[1]) == (code, "")
    assert found[2].startswith("bcellsim: error: ")
    assert found[2].count("\n") == 1
    return found[2]


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(run, folder):  # noqa: F811
    before = sorted(folder.iterdir())
    code, out, err = run("sweep", "design.toml", "--dry-run", "--threads", "2")
    assert (code, err) == (0, "")
    first, *rest = out.splitlines()
    assert first == "60 scenarios: 12 points x 5 subjects; 120 rows in 9 chunks"
    assert [line.split()[0] for line in rest] == ["time", "memory", "disk"]
    assert "on 2 threads" in rest[0]
    facts = parsed(run("sweep", "design.toml", "--dry-run", "--json")[1])
    assert facts["seconds"] > 0
    assert facts["memory_mb"] > 0
    assert facts["disk_mb"] > 0
    assert sorted(folder.iterdir()) == before


def test_a_sweep_prints_a_summary_and_writes(run, folder, undisturbed):  # noqa: F811
    code, printed, err = run(*SWEEP)
    assert (code, err) == (0, "wrote out\n")
    assert printed.startswith("<Sweep: 60 scenarios, 120 rows in 9 chunks")
    assert "suppressed_throughout" in printed
    assert checksums(bc.open_sweep(folder / "out")) == checksums(undisturbed[0])


def test_the_same_command_goes_on(run, out, undisturbed):  # noqa: F811
    for k in (2, 5):
        store.chunk_path(out, k).unlink()
    facts = parsed(run(*SWEEP, "--json")[1])
    assert (facts["n_scenarios"], facts["rows"]) == (60, 120)
    assert checksums(bc.open_sweep(out)) == checksums(undisturbed[0])


def test_a_damaged_chunk_is_computed_again(run, out, undisturbed):  # noqa: F811
    path = store.chunk_path(out, 4)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"chunk=4/rows.parquet is damaged"):
        bc.open_sweep(out)
    assert run(*SWEEP)[0] == 0
    assert checksums(bc.open_sweep(out)) == checksums(undisturbed[0])


def test_a_terminal_shows_rate_and_time_left(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with sweeps.progress(quiet=False) as show:
        show(20_000, 60_000)  # of an earlier run
        for done in (30_000, 40_000, 50_000):
            time.sleep(0.12)  # the bar is drawn ten times a second
            show(done, 60_000)
        time.sleep(0.12)
    shown = sys.stderr.getvalue()
    assert "50000/60000" in shown
    rates = [int(rate.replace(",", "")) for rate in re.findall(r"([\d,]+)/s", shown)]
    # Ten thousand in an eighth of a second or more; the first twenty thousand do not count.
    assert 0 < rates[-1] < 100_000
    assert re.search(r"0:00:0\d", shown)
    with sweeps.progress(quiet=True) as show:
        assert show is None


def test_a_stopped_sweep_says_how_to_go_on(run, monkeypatch):  # noqa: F811
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_chunk", stop)
    code, out, err = run(*SWEEP)
    assert (code, out, err) == (130, "", "bcellsim: stopped; the same command goes on in out\n")


def test_a_changed_design_is_refused_and_says_what_changed(run, out, folder):  # noqa: F811
    before = store.read_manifest(out)
    written(folder, GRID.replace("seed = 3", "seed = 4"))
    sentence = "out was begun with another design: seed was 3, is 4; give another directory"
    assert sentence in said(run(*SWEEP))
    assert store.read_manifest(out) == before


def test_a_directory_of_something_else_is_left_alone(run, folder):  # noqa: F811
    (folder / "out").mkdir()
    (folder / "out/thesis.tex").write_text("long")
    assert "out holds other files: give an empty or new directory" in said(run(*SWEEP))
    assert [path.name for path in (folder / "out").iterdir()] == ["thesis.tex"]


def test_ten_million_scenarios_want_a_yes(run, folder, monkeypatch):  # noqa: F811
    many = GRID.replace("n = 5", "n = 10_000_000").replace("chunk = 7", "chunk = 1_000_000")
    written(folder, many)
    sentence = said(run(*SWEEP))
    assert "the design has 120,000,000 scenarios: more than 10,000,000" in sentence
    assert "(--yes)" in sentence
    assert not (folder / "out").exists()

    def no_room(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # With a yes it begins, as far as this disk lets it.
    monkeypatch.setattr(store, "write_whole", no_room)
    assert "the disk of out is full" in said(run(*SWEEP, "--yes"))


def test_a_scheduler_that_does_not_answer(run, monkeypatch):  # noqa: F811
    pytest.importorskip("distributed")
    monkeypatch.setattr(running, "_PATIENCE", 0.5)
    sentence = said(run(*SWEEP, "--scheduler", "tcp://127.0.0.1:9"))
    assert "no Dask scheduler answers at tcp://127.0.0.1:9 within 0.5 s" in sentence
    assert 'scheduler "nowhere://x"' in said(run(*SWEEP, "--scheduler", "nowhere://x"))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no permissions as of POSIX")
def test_a_directory_that_cannot_be_written(run, folder, monkeypatch):  # noqa: F811
    (folder / "file").write_text("")
    wrong = said(run("sweep", "design.toml", "--out", "file/out"))
    assert "cannot write to file/out: Not a directory" in wrong

    def refuse(path, content):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(store, "write_whole", refuse)
    assert "cannot write to out: Read-only file system" in said(run(*SWEEP))
    monkeypatch.undo()
    if os.geteuid():  # to whom permissions apply
        (folder / "closed").mkdir(mode=0o500)
        wrong = said(run("sweep", str(folder / "design.toml"), "--out", str(folder / "closed/out")))
        assert "closed/out: Permission denied" in wrong


DESIGNED = {
    "unknown factor": ("[factors.emax]", "[factors.emx]",
                       'factors.emx: unknown factor "emx"; did you mean "emax"?'),
    "empty range": ("low = 0.5", "low = 2.0", "the range from 2.0 to 2.0 is empty"),
    "no values": ('values = ["1 w", "4 w", "8 w"]', "values = []", "values is empty"),
    "reversed": ("low = 0.5", "low = 3", "the range is reversed: low = 3 is above high = 2.0"),
    "twice": ("[factors.emax]", "[factors.dose]",
              "line 25, factors.dose: not valid TOML: it is given twice"),
    "also in the schedule": ("[schedule]", '[schedule]\ndose = "5 mg sc"',
                             "dose is given twice: in [schedule] as well"),
    "no toml": ("seed = 3", "seed = ", "design.toml, line 3, seed: not valid TOML"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", DESIGNED)
def test_a_mistake_in_the_design_is_one_sentence(run, folder, wrong):  # noqa: F811
    old, new, sentence = DESIGNED[wrong]
    assert old in GRID
    written(folder, GRID.replace(old, new, 1))
    assert sentence in said(run(*SWEEP))
    assert sentence in said(run("sweep", "design.toml", "--dry-run"))
    assert not (folder / "out").exists()


def test_usage(run):  # noqa: F811
    assert "no design file absent.toml" in said(run("sweep", "absent.toml", "--dry-run"))
    code, _, err = run("sweep", "design.toml")
    assert code == 2
    assert "give --out DIR, or --dry-run" in err
    assert run("sweep", "--help")[0] == 0
