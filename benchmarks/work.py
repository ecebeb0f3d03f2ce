"""The standard problems: who is treated how, when it is observed, and the answer.

W1 is 20 mg subcutaneously on days 0, 7, 14 and every 28 days to day 700, with daily output; W2 is
1,000 mg over 4 h on days 0, 14, 182, 364 and 546, with weekly output; both run 728 days. Six
parameters of a subject are log-normal with omega = 0.30. `HARD` is W1 in a corner of the parameters
where it is steep, strong and fast.
"""

from __future__ import annotations

import getpass
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numba as nb
import numpy as np
import w1
import w2
from scipy.integrate import solve_ivp

from bcellsim.engine.events import DOSE, RATE, Events
from bcellsim.structures import Structure

HORIZON = 728.0
#: Of the reference; longer steps leave 1e-8 in the continuous solution between them.
TIGHT = {"rtol": 1e-12, "atol": 1e-13, "max_step": 0.25}


@dataclass(frozen=True, eq=False)
class Problem:
    """One standard problem.

    Parameters
    ----------
    name : str
        Its name.
    structure : Structure
        Its equations, as every compiled method here takes them.
    typical : dict of str to float
        The typical parameters, in the order of the structure.
    varied : tuple of str
        Those that differ between subjects.
    seed : int
        Seed of the population.
    doses : float array (n_doses, 4)
        Day, duration [day], amount into the depot at once, rate into the central state.
    times : float array (n_times,)
        Output times [day].
    truth : callable(t, y, p, rate)
        The reference's own statement of the equations, which shares no code with `structure`.
    corner : dict of str to (factor, value), optional
        Parameters multiplied by a factor (or, where that is 0, set to a value).
    """

    name: str
    structure: Structure
    typical: dict[str, float]
    varied: tuple[str, ...]
    seed: int
    doses: np.ndarray
    times: np.ndarray
    truth: Callable
    corner: dict[str, tuple[float, float]] | None = None

    def sample(self, n_subjects: int) -> np.ndarray:
        """Return the parameters (n_subjects, n_parameters) of the first subjects."""
        generator = np.random.default_rng(self.seed)
        names = list(self.typical)
        params = np.tile(np.array(list(self.typical.values()), dtype=float), (n_subjects, 1))
        for name in self.varied:
            draws = generator.standard_normal(max(n_subjects, 100_000))[:n_subjects]
            params[:, names.index(name)] *= np.exp(0.3 * draws)
        for name, (factor, value) in (self.corner or {}).items():
            column = params[:, names.index(name)]
            column[:] = factor * column + value
        return params

    def baseline(self, params: np.ndarray) -> np.ndarray:
        """Return the states (n_subjects, n_states) without drug."""
        states = np.zeros((len(params), len(self.structure.states)))
        self.structure.initial(params.T, states.T)
        return states

    def events(self, n_subjects: int) -> Events:
        """Return the one schedule of all subjects."""
        depot, central = 0, 1
        rows = []
        for day, duration, amount, rate in self.doses:
            if duration:
                rows += [(day, RATE, central, rate, -1), (day + duration, RATE, central, 0.0, -1)]
            else:
                rows.append((day, DOSE, depot, amount, -1))
        return Events.from_rows([rows], np.zeros(n_subjects, dtype=np.int64))

    def segments(self) -> np.ndarray:
        """Return what happens between stops: rows of begin, end, amount at begin, rate during."""
        ends = [*self.doses[1:, 0], HORIZON]
        rows = []
        for (day, duration, amount, rate), end in zip(self.doses, ends, strict=True):
            if duration:
                rows += [(day, day + duration, amount, rate), (day + duration, end, 0.0, 0.0)]
            else:
                rows.append((day, end, amount, 0.0))
        return np.array(rows)

    def grids(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each segment the days to visit (begin, outputs, end), and which are outputs.

        The second array holds the position of each day in `times`, or -1; begin is always -1.
        """
        found = []
        for begin, end, *_ in self.segments():
            inside = np.flatnonzero((self.times > begin) & (self.times < end))
            last = np.flatnonzero(self.times == end)
            days = np.array([begin, *self.times[inside], end])
            found.append((days, np.array([-1, *inside, *(last if len(last) else [-1])])))
        return found

    def digest(self) -> str:
        """Return a short hash of all that the reference depends on."""
        code = self.truth.__code__
        parts = (self.sample(8).tobytes(), self.doses.tobytes(), self.times.tobytes())
        text = repr((code.co_code, code.co_consts, code.co_names, TIGHT))
        return hashlib.sha256(b"".join(parts) + text.encode()).hexdigest()[:12]

    def reference(self, n_subjects: int) -> np.ndarray:
        """Return the counts (n_subjects, n_times), correct to about 1e-10; kept between runs."""
        folder = Path(tempfile.gettempdir()) / f"bcellsim-benchmark-{getpass.getuser()}"
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.name}-{self.digest()}.npy"
        known = np.load(path) if path.is_file() else np.empty((0, len(self.times)))
        if len(known) < n_subjects:
            print(f"{self.name}: reference for {n_subjects} subjects ...", flush=True)
            derivative = nb.njit(self.truth)
            more = [
                _solve_tightly(self, derivative, row)
                for row in self.sample(n_subjects)[len(known) :]
            ]
            known = np.concatenate([known, more])
            np.save(path, known)
        return known[:n_subjects]


def _solve_tightly(problem, derivative, params):
    """Return one subject's counts by scipy's DOP853, restarted at every stop."""
    count = problem.structure.states.index("bcell")
    y = problem.baseline(params[None])[0]
    counts = np.full(len(problem.times), y[count])
    for segment, (days, position) in zip(problem.segments(), problem.grids(), strict=True):
        y[0] += segment[2]
        span, args = segment[:2], (params, segment[3])
        result = solve_ivp(derivative, span, y, "DOP853", days, args=args, **TIGHT)
        counts[position[position >= 0]] = result.y[count, position >= 0]
        y = result.y[:, -1].copy()
    return counts


def _truth_w1(t, y, p, rate):
    """Return the derivatives of W1 with total drug as the state, the other root than `w1` takes."""
    ka, f, v, kel, kpt, ktp, kint, kss, ksyn, kdeg, kin, kout, emax, ec50, g, kcp, kpc = p
    depot, total, peripheral, target, b, q = y
    half = 0.5 * (total - target - kss)
    root = np.sqrt(half * half + kss * total)
    free = half + root if half >= 0.0 else kss * total / (root - half)
    free = max(free, 0.0)
    bound = total - free
    effect = emax * free**g / (ec50**g + free**g)
    return np.array(
        [
            -ka * depot,
            ka * f * depot / v - (kel + kpt) * free + ktp * peripheral / v - kint * bound,
            kpt * free * v - ktp * peripheral,
            ksyn - kdeg * (target - bound) - kint * bound,
            kin - kout * (1.0 + effect) * b - kcp * b + kpc * q,
            kcp * b - kpc * q,
        ]
    )


def _truth_w2(t, y, p, rate):
    """Return the derivatives of W2."""
    ka, cl, v, q, v2, kin, kout, emax, ec50 = p
    depot, central, peripheral, b = y
    conc = central / v
    flow = q * (conc - peripheral / v2)
    return np.array(
        [
            -ka * depot,
            ka * depot + rate - cl * conc - flow,
            flow,
            kin - kout * (1.0 + emax * conc / (ec50 + conc)) * b,
        ]
    )


def _doses(days, duration, amount):
    """Return the dose table of `Problem`."""
    at_once, rate = (0.0, amount / duration) if duration else (amount, 0.0)
    return np.array([(day, duration, at_once, rate) for day in days])


W1 = Problem(
    name="W1",
    structure=w1.STRUCTURE,
    typical={
        "ka": 0.2, "F": 0.7, "V": 3.0, "kel": 0.0667, "kpt": 0.1, "ktp": 0.1, "kint": 0.5,
        "Kss": 0.5, "ksyn": 0.4, "kdeg": 0.2, "kin": 4.0, "kout": 0.02, "Emax": 100.0,
        "EC50": 0.3, "g": 1.5, "kcp": 0.1, "kpc": 0.05,
    },
    varied=("ka", "V", "kel", "ksyn", "EC50", "kout"),
    seed=20,
    doses=_doses([0.0, 7.0, 14.0, *28.0 * np.arange(1, 26)], 0.0, 20.0 / 146.0 * 1000.0),
    times=np.arange(0.0, HORIZON + 1.0),
    truth=_truth_w1,
)  # fmt: skip

W2 = Problem(
    name="W2",
    structure=w2.STRUCTURE,
    typical={
        "ka": 0.2, "CL": 0.2, "V": 3.0, "Q": 0.4, "V2": 3.0, "kin": 4.0, "kout": 0.02,
        "Emax": 100.0, "EC50": 1.0,
    },
    varied=("CL", "V", "Q", "kout", "EC50", "Emax"),
    seed=21,
    doses=_doses([0.0, 14.0, 182.0, 364.0, 546.0], 4.0 / 24.0, 1000.0),
    times=np.arange(0.0, HORIZON + 1.0, 7.0),
    truth=_truth_w2,
)  # fmt: skip

HARD = replace(
    W1,
    name="hard",
    seed=77,
    corner={"ka": (10.0, 0.0), "Kss": (0.0, 0.02), "g": (0.0, 4.0), "Emax": (0.0, 400.0)},
)

PROBLEMS = {problem.name: problem for problem in (W1, W2, HARD)}
