"""The page of a comparison: whole, self-contained, and readable in a browser of a phone's width."""

import base64
import contextlib
import html
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from test_cli import EXPLORE, YU, folder, run  # noqa: F401

import bcellsim as bc
from bcellsim import cli, report
from bcellsim.report import words

PHONE, DESK = 390, 1200  # widths [px]
RULE = "dose=20 mg sc; visit_every=4 w; at_or_above=5; lloq=1; label=guided <5>"
COMMAND = [
    *EXPLORE, "--subjects", "12", "--seed", "1", "--below", "40", "--dose", "20 mg sc", "--dose",
    "60 mg sc", "--every", "4w,12w", "--loading", "20 mg sc at 0 d, 7 d", "--rule", RULE, "--by",
    "b0", "--follow-up", "20w", "--out", "out",
]  # fmt: skip
FIND = [*EXPLORE, "--seed", "1", "--probability", "0.6", "--mc-error", "0.2", "--out", "found",
        "--find", "longest-interval", "--dose", "20 mg sc"]  # fmt: skip
VOID = {"meta", "link", "img", "br", "hr", "input"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


class Page(HTMLParser):
    """Read a page: its tags, its text by tag, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def said(self, tag):
        return [text.strip() for name, text in self.texts if name == tag and text.strip()]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the directory that one run wrote."""
    place = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as err:
        patch.chdir(place)
        patch.setattr(sys, "argv", ["bcellsim", *COMMAND])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code
    assert err.getvalue() == "wrote out\n"
    return place / "out"


def test_the_page_has_everything_and_loads_nothing(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.said("title") == ["Dosing schedules of ofatumumab"]
    recorded = json.loads((written / "run.json").read_text())
    pictures = [name for name in recorded["files"] if name.endswith(".svg")]
    assert sorted(pictures) == sorted(
        f"{name}.svg" for name in (
            "heatmap", "counts", "pareto", "survival_curves", "swimmer_1", "forest", "drivers")
    )  # fmt: skip
    sources = [image["src"] for image in page.all("img")]
    embedded = [base64.b64decode(source.partition("base64,")[2]) for source in sources]
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert sorted(embedded) == sorted((written / name).read_bytes() for name in pictures)
    assert all(image["alt"] for image in page.all("img"))
    # Nothing is loaded, nothing runs; only links lead out.
    assert not page.all("script")
    assert {link["href"] for link in page.all("link")} == {"data:,"}
    assert "@import" not in text
    assert not re.search(r"url\(", text)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )
    for heading in ("What the answer rests on", "Tables", "Figures", "Model", "Limits",
                    "How to repeat it"):  # fmt: skip
        assert heading in page.said("h2")
    assert "guided &lt;5&gt;" in text  # what the user writes is text
    assert "guided <5>" not in text


def test_the_page_says_what_the_run_was(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    plain = html.unescape(text)
    recorded = json.loads((written / "run.json").read_text())
    assert "bcellsim explore --model yu2022_ofatumumab" in plain
    assert f"label=guided <5>' --by b0" in plain  # noqa: F541
    for value in recorded["inputs"].values():
        assert value.removeprefix("sha256:") in plain
    for name, value in recorded["versions"].items():
        assert re.search(rf"<dt>{name}</dt><dd>{re.escape(value)}</dd>", text)
    model = bc.load_model(YU)
    assert str(model) in plain
    assert f"status: {model.label()}" in plain
    assert model.not_for in plain
    assert "not medical advice" in plain
    table = pd.read_csv(written / "schedules.csv")
    cells = Page(text).said("td")
    for share in table["suppressed_throughout"]:
        assert any(cell.startswith(f"{100 * share:.1f} ± ") for cell in cells)


def test_data_of_each_figure_is_beside_it(written):
    for name in json.loads((written / "run.json").read_text())["files"]:
        if name.endswith(".svg"):
            assert len(pd.read_csv(written / name.replace(".svg", "_data.csv"))) > 0


def test_the_page_of_a_search(run, folder):  # noqa: F811
    code, out, _ = run(*FIND)
    assert code == 0
    text = html.unescape((folder / "found/report.html").read_text(encoding="utf-8"))
    said = out.splitlines()[-1]
    assert said[1:] in text
    assert "What is the longest interval that keeps the counts of 60 %" in text
    assert len(Page(text.replace("<5", "&lt;5")).all("img")) == 1


def test_warnings_of_the_run_are_among_the_limits(run, folder):  # noqa: F811
    words = [*EXPLORE, "--subjects", "3", "--seed", "1", "--regimen", "20 mg sc at 0 d",
             "--below", "5000", "--out", "out"]  # fmt: skip
    code, _, err = run(*words)
    assert code == 0
    assert err.count("below = 5000 cells/uL is at or above the baseline") == 1
    page = Page((folder / "out/report.html").read_text(encoding="utf-8"))
    assert any("Warning of the run: below = 5000" in text for text in page.said("li"))


def test_without_jinja_the_run_goes_on(run, folder, monkeypatch):  # noqa: F811
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    code, out, err = run(*FIND)
    assert code == 0
    assert out
    assert "pip install jinja2" in err
    assert not (folder / "found/report.html").exists()
    assert (folder / "found/run.json").exists()
    with pytest.raises(ModuleNotFoundError, match="pip install jinja2"):
        report.page(title="", question="", answer=(), settings={}, tables={}, pictures=(),
                    models=(), limits=(), reproduction={}, command="")  # fmt: skip


# --- the words ---------------------------------------------------------------------------------


def compared(**columns):
    table = pd.DataFrame(
        {
            "regimen": ["a", "b", "c"], "n_subjects": 100, "threshold": 10.0, "recovery": 10.0,
            "induction": 28.0, "suppressed_throughout": [0.9, 0.5, 0.4],
            "suppressed_throughout_mc_se": [0.03, 0.05, 0.049],
            "suppressed_fraction_mean": [0.99, 0.8, 0.7], "n_doses": [10, 5, 6],
            "cumulative_dose": [200.0, 100.0, 120.0], "time_to_repletion_reached_share": 1.0,
            **columns,
        }
    )  # fmt: skip
    table.attrs = {"model": "m", "until": 364.0, "seed": 1}
    return table


def test_question_and_answer_of_a_comparison():
    table = compared()
    assert words.question(table) == (
        "Which of 3 schedules keeps the count at or below 10 cells/uL from 4 w after the first "
        "dose to 52 w, in 100 virtual patients of m?"
    )
    best, least = words.answer(table)
    assert best == (
        "The largest share of patients stays suppressed throughout under a (10 doses, 200 mg), "
        "90.0 ± 3.0 % at or below 10 cells/uL."
    )
    assert least == (
        "The least is given under b (5 doses, 100 mg), which keeps 50.0 ± 5.0 % at or below 10 "
        "cells/uL throughout and 80 % of the time (mean); of the 3 schedules 1 is beaten by "
        "another that needs no more drug and keeps no fewer suppressed."
    )


def test_answer_of_one_schedule_and_of_doses_without_a_sum():
    alone = compared().iloc[:1]
    assert len(words.answer(alone)) == 2
    assert "90.0 ± 3.0 %" in words.answer(alone)[0]
    assert "In how many of 100" in words.question(alone)
    _, least = words.answer(compared(cumulative_dose=np.nan))
    assert "b (5 doses)" in least
    assert "no more doses" in least


def test_limits_hold_the_warnings_and_what_is_not_reached():
    model = bc.load_model(YU)
    said = words.limits(compared(time_to_repletion_reached_share=0.2), [model], ["be careful"])
    assert "Warning of the run: be careful" in said
    assert any("--follow-up" in text for text in said)
    assert not any("--follow-up" in text for text in words.limits(compared(), [model], []))


def test_cells_of_a_table():
    shown = report._cells(pd.DataFrame({"a": [1.23456, np.inf, np.nan], "b": ["x", "y", "z"]}))
    assert shown["head"] == [("a", True), ("b", False)]
    assert [row[0][0] for row in shown["rows"]] == ["1.235", "not reached", "–"]


# --- in a browser --------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(
    BROWSER is None, reason=f"no browser found ({', '.join(BROWSERS)}): the page is not rendered"
)
#: Frames the page at a width and writes what it measures into the frame's own document.
FRAME = """<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,">
<iframe id="f" style="border:0;width:{width}px;height:3000px" srcdoc="{page}"></iframe>
<p id="found"></p><script>
addEventListener("load", () => {{
  const page = document.getElementById("f").contentDocument, root = page.documentElement;
  const images = [...page.images];
  document.getElementById("found").textContent = JSON.stringify({{
    inner: root.clientWidth, scroll: root.scrollWidth, images: images.length,
    seen: images.filter((i) => i.complete && i.naturalWidth > 100 && i.height > 100).length,
    font: Math.min(...[...page.querySelectorAll("p, td, dd, li")].map(
      (e) => parseFloat(page.defaultView.getComputedStyle(e).fontSize))),
    wide: [...page.querySelectorAll("main > *")].filter(
      (e) => e.getBoundingClientRect().right > root.clientWidth + 1).map((e) => e.tagName),
  }});
}});
</script>"""


def browse(path, *options, dump=True):
    """Open a file in a headless browser; return the document after loading, and its console."""
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--enable-logging=stderr", "--hide-scrollbars", "--virtual-time-budget=5000",
         f"--user-data-dir={path.parent / 'profile'}", *(["--dump-dom"] if dump else []),
         *options, path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def measured(text, width, folder):  # noqa: F811
    path = folder / f"frame_{width}.html"
    path.write_text(FRAME.format(width=width, page=html.escape(text)), encoding="utf-8")
    document, console = browse(path)
    found = re.search(r'<p id="found">(.+?)</p>', document)
    return json.loads(html.unescape(found.group(1))), console


@needs_browser
def test_the_page_in_a_browser(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    document, console = browse(written / "report.html")
    assert console == []
    assert 'id="answer"' in document
    for width in (PHONE, DESK):
        found, console = measured(text, width, written)
        assert console == []
        assert found["inner"] == width
        assert found["scroll"] == width  # nothing runs out of the page: wide things scroll inside
        assert found["wide"] == []
        assert found["images"] == found["seen"] == 7
        assert found["font"] >= 13
    picture = written / "phone.png"
    browse(written / "report.html", f"--window-size={PHONE},2000", f"--screenshot={picture}",
           dump=False)  # fmt: skip
    assert picture.stat().st_size > 50_000


@needs_browser
def test_the_browser_test_can_fail(tmp_path):
    broken = '<script>null.x</script><img src="data:,x"><p style="width:900px">wide</p>'
    found, console = measured(f"<!DOCTYPE html><main>{broken}</main>", PHONE, tmp_path)
    assert any("TypeError" in line for line in console)
    assert found["scroll"] > PHONE
    assert (found["images"], found["seen"]) == (1, 0)
    assert found["wide"]
