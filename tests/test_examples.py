"""Every example runs, small; so does every example in a docstring."""

import doctest
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import matplotlib
import pytest

import bcellsim

matplotlib.use("Agg")

FOLDER = Path(__file__).parent.parent / "examples"
SMALL = {
    "01_label_in_1000_patients": {"n_subjects": 20, "until": "12 w"},
    "02_fit_a_mean_series": {},
    "03_which_interval": {"n_subjects": 10, "intervals": ("4 w", "24 w")},
    "04_add_a_drug": {"n_subjects": 10, "until": "30 w"},
    "09_when_to_redose": {"draws": 300, "starts": 2},
    "10_children_without_concentrations": {},
    "05_add_a_structure": {"n_subjects": 8, "until": "12 w"},  # so few are not compiled for
    "06_autoimmune_encephalitis": {"n_subjects": 10, "until": "40 w"},
    "07_rituximab_reduced_dose": {"n_subjects": 10, "until": "40 w"},
    "08_extended_ocrelizumab": {"n_subjects": 10, "intervals": ("24 w", "48 w")},
    "11_sweep": {"n_subjects": 2},
}
MODULES = [m.name for m in pkgutil.walk_packages(bcellsim.__path__, "bcellsim.")]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_example(path, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(**SMALL[path.stem], out=tmp_path)
    assert capsys.readouterr().out
    assert (tmp_path / f"{path.stem}.png").stat().st_size > 10_000
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


# The kernel is a template, which is never imported; the main module runs the command line.
@pytest.mark.parametrize(
    "name", [name for name in MODULES if "kernel" not in name and "__main__" not in name]
)
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert result.failed == 0


def test_code_of_the_readme():
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL):
        exec(block.replace("1000", "12"), names)
    assert len(names["table"]) == 12


def test_patient_and_links_of_the_readme():
    patient = bcellsim.read_observations(FOLDER / "data" / "invented_patient.csv")
    fit = bcellsim.fit_individual("yu2022_ofatumumab", patient, covariates={"AGE": 31})
    assert fit.converged
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)|`((?:examples|benchmarks|bcellsim)/[^`]+)`", readme):
        assert (FOLDER.parent / "".join(target)).exists(), target


def test_every_public_name_is_documented():
    for name in bcellsim.__all__:
        assert getattr(bcellsim, name).__doc__, name
