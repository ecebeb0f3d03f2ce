"""The compiled kernel itself: its exp and log, its instructions, other processors, the cache."""

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cases
import numpy as np
import pytest
from cases import solve
from llvmlite.binding import get_host_cpu_features

from bcellsim.engine import lower
from bcellsim.engine.cache import cache_directory, compiled_kernel
from bcellsim.engine.collocation import LOBATTO_NODES
from bcellsim.engine.lower_split import SplitSource, source_of
from bcellsim.structures import get_structure

EXP_ERROR = 4e-16  # relative; measured 1.7e-16 (a rounding is 1.1e-16)
LOG_ERROR = 1e-15  # relative; measured 4.3e-16, next to 1
SMALLEST = np.finfo(float).tiny  # below it a number has fewer digits, and `_log` is wrong

each = cases.each
#: A kernel compiles in 15 s: afresh only among the slow tests.
each_afresh = cases.on(cases.ALL, cases.IDS)
FIRST = cases.ALL[0]

TIMES = np.linspace(0.0, 400.0, 101)


def integrated(structure):
    """Return a structure all of whose states are integrated, by Tsit5."""
    return replace(structure, linear=())


def many(structure, n, seed=7):
    """Return vectors, events and times of n random subjects."""
    return cases.random_vectors(structure, n, seed), cases.random_events(structure, n, seed), TIMES


# exp and log


def over(name):
    """Return a function of the kernel over an array."""
    import numba

    function = compiled_kernel(FIRST).solve_block.py_func.__globals__[name]

    @numba.njit(error_model="numpy")
    def run(x):
        found = np.empty_like(x)
        for i in range(len(x)):
            found[i] = function(x[i])
        return found

    return run


@pytest.fixture(scope="module")
def kernel_exp():
    return over("_exp")


@pytest.fixture(scope="module")
def kernel_log():
    return over("_log")


def worst(found, exact):
    """Return the largest relative error, against numpy in extended precision."""
    return float(np.max(np.abs(found - exact) / np.abs(exact)))


def test_exp_over_its_range(kernel_exp):
    rng = np.random.default_rng(0)
    small = 10.0 ** rng.uniform(-320.0, 0.0, 50_000)
    halves = (np.arange(-2018, 2046) / 2.0) * np.log(2.0)  # where the power of two changes
    x = np.concatenate([rng.uniform(-700.0, 709.0, 300_000), rng.uniform(-2.0, 2.0, 200_000),
                        small, -small, np.arange(-700.0, 710.0), halves])  # fmt: skip
    x = x[(x >= -700.0) & (x <= 709.0)]
    assert worst(kernel_exp(x), np.exp(x.astype(np.longdouble))) < EXP_ERROR
    assert kernel_exp(np.zeros(1))[0] == 1.0


def test_exp_beyond_its_range_stays_at_the_ends(kernel_exp):
    beyond = np.array([709.5, 710.0, 1e308, np.inf, -700.5, -746.0, -1e308, -np.inf, np.nan])
    low, high = kernel_exp(np.array([-700.0, 709.0]))
    assert np.array_equal(kernel_exp(beyond), [*4 * [high], *4 * [low], np.nan], equal_nan=True)


def test_log_over_its_range(kernel_log):
    rng = np.random.default_rng(1)
    near = 10.0 ** rng.uniform(-15.0, -0.1, 100_000)
    powers = 2.0 ** np.arange(-1022.0, 1024.0)
    x = np.concatenate([10.0 ** rng.uniform(-307.6, 308.2, 300_000), rng.uniform(0.5, 2.0, 200_000),
                        1.0 + near, 1.0 - near, powers, np.sqrt(2.0) * powers[:-1],
                        [SMALLEST, np.finfo(float).max]])  # fmt: skip
    x = x[x != 1.0]
    assert worst(kernel_log(x), np.log(x.astype(np.longdouble))) < LOG_ERROR
    assert kernel_log(np.ones(1))[0] == 0.0


def test_log_of_what_has_none(kernel_log):
    x = np.array([0.0, -0.0, -1.0, -1e308, -np.inf, np.nan, -SMALLEST])
    wanted = [-np.inf, -np.inf, *5 * [np.nan]]
    assert np.array_equal(kernel_log(x), wanted, equal_nan=True)


def test_log_of_the_extremes_is_large_enough(kernel_log):
    """Of inf and of subnormal numbers it is wrong, but beyond all others."""
    assert kernel_log(np.array([np.inf]))[0] >= 709.78
    assert np.all(kernel_log(np.array([5e-324, 1e-310, 0.9 * SMALLEST])) < np.log(SMALLEST))


def test_a_power_of_nothing_is_nothing(kernel_exp, kernel_log):
    exponents = np.array([0.1, 1.0, 50.0])
    assert np.all(kernel_exp(exponents * kernel_log(np.zeros(1))) < 1e-300)


# Compiled afresh


@pytest.fixture(scope="module")
def afresh(tmp_path_factory):
    """Return a function that compiles a kernel into an empty folder, solves, and loads it again."""
    known = {}

    def compiled(structure):
        if structure.name not in known:
            known[structure.name] = compile_afresh(structure, tmp_path_factory.mktemp("kernels"))
        return known[structure.name]

    return compiled


def compile_afresh(structure, folder):
    structure = integrated(structure)
    before = compiled_kernel(structure)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BCELLSIM_CACHE_DIR", str(folder))
        compiled_kernel.cache_clear()
        values = solve(structure, *many(structure, 40)).values
        solve_block = compiled_kernel(structure).solve_block
    compiled_kernel.cache_clear()
    assert solve_block is not before.solve_block
    return SimpleNamespace(
        folder=folder, values=values, assembly="\n".join(solve_block.inspect_asm().values())
    )


ALONE = """
@_entry
def stages_alone(F, rtol, atol):
{}
"""


def stages_alone(structure, path):
    """Return the assembly of the stages and the error estimate, with nothing else around them."""
    source = source_of(structure)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lower.Source, "template", ("kernel_head", "kernel"))
        text = source.text()
    tolerances = [f"atol{i} = atol[{i}]" for i in range(source.n)]
    lines = [*tolerances, *source.stages(), *source.error()]
    path.write_text(text + ALONE.format("\n".join("    " + line for line in lines)))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    room = np.ones(source.n_rows)
    module.stages_alone(room, 1e-6, np.ones(source.n))
    return "\n".join(module.stages_alone.inspect_asm().values())


def arithmetic(assembly, function):
    """Count the operations on floats in some functions: (operation, packed, register)."""
    found, inside = Counter(), False
    for line in assembly.splitlines():
        label = re.match(r"(_Z\w+):", line)
        inside = function in label[1] if label else inside
        word = re.match(r"\s+v?(div|sqrt|mul|add|sub|fn?madd|fn?msub)(?:\d{3})?([ps])d\s", line)
        if inside and word:
            found[word[1], word[2] == "p", re.search(r"%?([xyz])mm", line)[1]] += 1
    return found


def divisions(structure):
    """Return how many divisions a step needs: in the stages, and beside them."""
    source = source_of(structure)
    slopes = [source.equations.slopes[i] for i in source.stepped()]
    if not isinstance(source, SplitSource):
        return 7 * divided(slopes, source)  # six stages and the look into the gap
    rate = source.driven.matrix[-1][-1]
    pivots = len(LOBATTO_NODES) * len(source.driven.states)
    return 6 * divided(slopes, source) + len(LOBATTO_NODES) * divided([rate], source) + pivots


def divided(nodes, source):
    """Return how many divisions equations have; a logarithm holds one."""
    seen, waiting = set(), list(nodes)
    while waiting:
        node = waiting.pop()
        if node in seen or node.op in ("number", "input") or node in source.equations.derived:
            continue
        seen.add(node)
        waiting += node.args
    return sum(node.op in ("/", "log") for node in seen)


def check_packed(structure, counts):
    """Check that there are as many packed operations as the stages need, in full registers."""
    packed = {key: n for key, n in counts.items() if key[1]}
    assert packed
    assert {key[2] for key in packed} == {REGISTER}
    assert counts["div", True, REGISTER] >= divisions(structure)  # one or more for all lanes
    assert sum(n for (name, *_), n in packed.items() if name.startswith("f")) > 20 * 7


@pytest.mark.parametrize(
    ("name", "states"),
    [("kpd", {"bcell"}), ("turnover", {"bcell"}), ("tmdd_qss", {"central", "target", "bcell"})],
)
def test_the_gap_is_looked_into_where_equations_are_not_affine(name, states):
    structure = get_structure(name)
    assert {structure.states[i] for i in lower.Source(structure).steep()} == states


@pytest.mark.parametrize(
    ("name", "taken"), [("turnover", {"conc", "bcell"}), ("tmdd_qss", {"conc_free", "bcell"})]
)
def test_multiples_of_states_are_followed_without_a_fit(name, taken):
    """Total drug of a target-mediated structure is no multiple of its states."""
    structure = get_structure(name)
    source = source_of(structure)
    nodes = zip(structure.outputs, source.equations.outputs, strict=True)
    assert {output for output, node in nodes if source.combination(node)} == taken


FEATURES = get_host_cpu_features()
REGISTER = "z" if FEATURES.get("avx512f") else "y" if FEATURES.get("avx2") else None
wide = pytest.mark.skipif(REGISTER is None, reason="this machine has neither AVX-512 nor AVX2")


@wide
@cases.on(cases.WHOLE)
def test_nothing_in_the_stages_is_scalar(structure, tmp_path):
    counts = arithmetic(stages_alone(structure, tmp_path / "alone.py"), "stages_alone")
    check_packed(structure, counts)
    assert sum(n for (_, packed, _), n in counts.items() if not packed) == 0


@wide
@each_afresh
def test_the_whole_kernel_is_packed(structure, afresh):
    """In it scalar operations, of outputs, events and tallies, stand beside the stages."""
    check_packed(structure, arithmetic(afresh(structure).assembly, "_advance"))


@each_afresh
def test_compiled_again_it_gives_the_same_bits(structure, afresh):
    values = solve(integrated(structure), *many(structure, 40)).values
    assert np.array_equal(afresh(structure).values, values)


@pytest.mark.slow
def test_the_cache_folder_is_honoured(afresh, monkeypatch, capsys):
    made = afresh(FIRST)
    capsys.readouterr()
    monkeypatch.setenv("BCELLSIM_CACHE_DIR", str(made.folder))
    compiled_kernel.cache_clear()
    assert np.array_equal(solve(integrated(FIRST), *many(FIRST, 40)).values, made.values)
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("", "")
    files = list(made.folder.glob(f"{FIRST.name}_*.py"))
    assert len(files) == 1
    assert list(made.folder.glob(f"__pycache__/{FIRST.name}_*.nbi"))
    assert files[0].stem in sys.modules
    compiled_kernel.cache_clear()


def test_compiling_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BCELLSIM_CACHE_DIR", str(tmp_path))
    compiled_kernel.cache_clear()
    compiled_kernel(FIRST)
    seen = capsys.readouterr()
    assert f'bcellsim: compiling structure "{FIRST.name}"' in seen.err
    assert seen.out == ""
    compiled_kernel.cache_clear()


def test_an_unwritable_cache_folder_is_replaced(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("BCELLSIM_CACHE_DIR", str(blocked / "kernels"))
    folder = cache_directory()
    assert folder.is_dir()
    assert blocked not in folder.parents


# Other processors

#: On a processor without fused multiply-add roundings differ, at times a step is accepted that is
#: rejected here, and from then on the steps are others: both meet the tolerance, of which this is
#: ten times, but no more. Measured: 4.6 rtol (tmdd_qss), 0.3 rtol where all steps are the same.
ELSEWHERE_RTOL, ELSEWHERE = 1e-9, 1e-8


def elsewhere(name, path):
    """Solve and write the values; called in a process that compiles for another processor."""
    import numba

    structure = next(s for s in cases.ALL if s.name == name)
    values = solve_elsewhere(structure)
    np.savez(path, values=values, processor=numba.config.CPU_NAME)


def solve_elsewhere(structure):
    vectors, events, times = many(structure, 40)
    return solve(
        structure, vectors, events, times, rtol=ELSEWHERE_RTOL, atol=ELSEWHERE_RTOL / 100
    ).values


@pytest.mark.slow
@each
def test_the_same_on_any_processor(structure, tmp_path):
    path = tmp_path / "values.npz"
    code = f"import test_kernel; test_kernel.elsewhere({structure.name!r}, {str(path)!r})"
    # The kernels of another processor stand in the same folder, so that a second run is quick.
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    other = np.load(path)
    assert str(other["processor"]) == "generic"
    vectors = many(structure, 40)[0]
    values = solve_elsewhere(structure)
    if FEATURES.get("fma"):
        assert not np.array_equal(other["values"], values)  # it was indeed another kernel
    error = cases.scaled_error(structure, vectors, other["values"], values)
    assert error.max() <= ELSEWHERE
