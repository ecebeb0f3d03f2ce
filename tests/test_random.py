"""Random cases of every structure against the reference; `benchmarks/check_random.py` runs more."""

import sys
from pathlib import Path

import cases
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import check_random

ENOUGH = 0.99  # of the cases; the rest may have a status that says why they are not solved


def test_the_check_sees_errors_and_gaps():
    structure = cases.ALL[0]
    result = check_random.run_chunk(structure, range(4))
    assert check_random.passes({structure.name: result})
    assert np.all(result.error > 0)
    wrong = result._replace(error=result.error + 1.1 * check_random.ALLOWED)
    assert not check_random.passes({structure.name: wrong})
    gap = result._replace(silent=np.arange(4) == 2)
    assert not check_random.passes({structure.name: gap})
    values = np.array([[100.0, 0.05], [np.nan, 1.0]])
    errors = check_random.scaled(values, np.array([[100.0, 0.04], [1.0, 1.0]]), np.full(2, 100.0))
    assert errors == pytest.approx([0.1 / check_random.RTOL, np.inf])  # 0.01 of 0.1 cells/uL


def test_a_case_depends_on_its_seed_only():
    structure = cases.ALL[-1]
    whole = check_random.run_chunk(structure, range(3))
    alone = check_random.run_chunk(structure, [2])
    assert all(np.array_equal(a[2:], b) for a, b in zip(whole, alone, strict=True))


@pytest.mark.slow
def test_two_thousand_random_cases():
    results = check_random.check(2000, seed=100_000)
    for name, result in results.items():
        assert not result.silent.any(), name
        assert np.mean(result.status == 0) > ENOUGH, name
        assert np.mean(result.decided) < 1 - ENOUGH, name  # nearly all by the reference itself
    assert check_random.passes(results), {
        name: check_random.worst(result) for name, result in results.items()
    }
