"""The order of the modules: each imports only from the left (design, section 7)."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import bcellsim

ROOT = Path(importlib.util.find_spec("bcellsim.names").origin).parent

#: Groups from the bottom to the top; a name is a module or a folder of the package.
ORDER = [
    {"names", "draws", "units", "formula"},
    {"event"},
    {"structures", "regimen"},
    {"rule"},
    {"card", "published"},
    {"model", "engine"},
    {"library", "covariates", "dimensions", "scripts"},
    {"population"},
    {"arrival"},
    {"schedule"},
    {"timeline"},
    {"simulate", "metrics", "observations"},
    {"pieces"},
    {"predict"},
    {"adaptive"},
    {"fit"},
    {"forecast"},
    {"explore", "soundness"},
    {"redose", "sweep", "check"},
    {"plot", "catalog"},
    {"__init__"},  # gathers the names of all; only the command line may import it
    {"report"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, group in enumerate(ORDER) for name in group}
#: Beside these, the standard library; other parts of the package may import anything outside it.
OUTSIDE = {"engine": {"numpy", "scipy", "numba", "llvmlite", "platformdirs"}, "structures": set()}
STRUCTURES_MAY = {"__future__", "math", "importlib", "pkgutil", "collections", "dataclasses",
                  "types", "typing"}  # fmt: skip
INSIDE = {"engine": {"engine", "structures", "names"}, "structures": {"structures", "names"}}

MODULES = sorted(ROOT.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]


def part(path):
    """Return the module or folder of the package that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Return (dotted name, not at run time of the import) of everything a file imports."""
    found = []

    def visit(node, inside):
        # What only a type checker reads is not imported with the module either.
        inside = inside or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        if isinstance(node, ast.Import):
            found.extend((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = ("bcellsim", *path.relative_to(ROOT).parts)[: -node.level]
                base = ".".join(filter(None, (*here, base)))
            # `from bcellsim import units` imports a module, `from bcellsim import load` a name.
            found.extend(
                (f"{base}.{a.name}" if base == "bcellsim" else base, inside) for a in node.names
            )
        inside = inside or isinstance(node, ast.FunctionDef)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(path.read_text(encoding="utf-8")), False)
    return found


def imported_parts(path):
    """Return the modules or folders of the package that a file imports."""
    names = [name.split(".") for name, _ in imports(path)]
    own = [name[1:] for name in names if name[0] == "bcellsim"]
    return {name[0] if name and name[0] in RANK else "__init__" for name in own}


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_only_from_the_left(path):
    here = part(path)
    assert here in RANK, f"{path} is in no group; give it its place in ORDER"
    for other in imported_parts(path):
        allowed = RANK[other] < RANK[here] or (other == here and path.parent != ROOT)
        bottom = RANK[other] == RANK[here] == 0
        assert allowed or bottom, f"bcellsim.{here} may not import bcellsim.{other}"
        assert other in INSIDE.get(here, RANK), f"bcellsim.{here} may not import bcellsim.{other}"


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) in OUTSIDE], ids=str)
def test_what_the_core_imports_from_outside(path):
    outside = {name.split(".")[0] for name, _ in imports(path)} - {"bcellsim"}
    if part(path) == "structures":
        assert outside <= STRUCTURES_MAY
    else:
        assert outside <= OUTSIDE[part(path)] | sys.stdlib_module_names


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_matplotlib_only_inside_functions_of_plot(path):
    for name, inside in imports(path):
        if name.split(".")[0] == "matplotlib":
            assert part(path) == "plot"
            assert inside


def test_every_module_of_the_package_is_there():
    assert Path(bcellsim.__path__[0]) == ROOT
    assert {"names.py", "engine/__init__.py", "structures/base.py"} <= set(NAMES)


def test_importing_the_package_is_light():
    code = "import sys, bcellsim; print(*{'numba', 'matplotlib', 'pint'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_reading_of_imports(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "fit").mkdir()
    path = tmp_path / "fit" / "map.py"
    path.write_text(
        "from . import prior\nfrom .. import units\nfrom ..engine.events import DOSE\n"
        "from bcellsim import load_model\nimport bcellsim.plot as p\n"
        "def f():\n    import matplotlib.pyplot\n"
    )
    assert part(path) == "fit"
    assert imported_parts(path) == {"fit", "units", "engine", "__init__", "plot"}
    assert imports(path)[-1] == ("matplotlib.pyplot", True)
