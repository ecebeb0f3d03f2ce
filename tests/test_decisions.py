"""Advised days keep the true count down as often as claimed, in a few virtual patients."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

PATIENTS = 60


@pytest.mark.slow
def test_advice_keeps_what_it_claims():
    from decisions import OWN, PROBABILITY, decide

    rows = [row for row in decide(OWN, PATIENTS, draws=400) if row["inside"]]
    assert len(rows) > PATIENTS / 2
    share = np.mean([row["kept"] for row in rows])
    # Four standard errors of so few patients; the whole benchmark says more.
    assert abs(share - PROBABILITY) < 4 * np.sqrt(PROBABILITY * (1 - PROBABILITY) / len(rows))
    days, crossing = (np.array([row[key] for row in rows]) for key in ("day", "crossing"))
    late = crossing > np.median(crossing)
    assert np.median(days[late]) > np.median(days[~late])
