"""Speed of a MAP fit, its draws and the redose advice, beside scipy and finite differences.

Ten counts over two years, eight starts, 1,000 draws. The comparison solves the same equations with
`scipy.integrate.solve_ivp` (LSODA, the same tolerances) from dose to dose, takes its Jacobian by
forward differences, and minimises the same residuals with the same lmfit method and criteria, from
one of the same starts: seconds of the whole are its seconds for one start times eight. So that the
equations themselves are not in plain Python on one side only, scipy's right-hand side is compiled
with numba.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from types import FunctionType

import lmfit
import numba
import numpy as np
from harness import save, show
from scipy.integrate import solve_ivp

import bcellsim as bc
from bcellsim.engine import events as ev
from bcellsim.fit.problem import COARSE, FINE
from bcellsim.fit.search import minimise, starting_points

DOSES = (0, 7, 14, 28, 112, 196, 280, 364, 448, 532)
TIMES = (0.0, 30.0, 90.0, 150.0, 210.0, 300.0, 400.0, 500.0, 600.0, 720.0)
STARTS, DRAWS = 8, 1000


def patient(folder, seed: int):
    """Return the data of a virtual patient of Yu 2022, counts below 5 cells/uL censored."""
    model = bc.load_model("yu2022_ofatumumab")
    people = bc.sample_population(model, 1, seed=seed)
    plan = "20 mg sc at " + ", ".join(f"{day} d" for day in DOSES)
    true = bc.simulate(model, plan, people, times=TIMES).bcell.values[0]
    seen = true * np.exp(0.381 * np.random.default_rng(seed).standard_normal(len(TIMES)))
    rows = [(day, 1, f"1,{day},20,.,70,38") for day in DOSES]
    rows += [(day, 0, f"1,{day},.,{'<5' if count < 5 else repr(float(count))},70,38")
             for day, count in zip(TIMES, seen, strict=True)]  # fmt: skip
    path = Path(folder) / "patient.csv"
    path.write_text("\n".join(["ID,TIME,AMT,DV,WT,AGE", *(r[2] for r in sorted(rows))]) + "\n")
    return model, bc.read_observations(path)


def compiled(function):
    """Return a function compiled with numba, and the functions it calls with it."""
    names = dict(function.__globals__)
    for name in function.__code__.co_names:
        if isinstance(names.get(name), FunctionType):
            names[name] = compiled(names[name])
    return numba.njit(FunctionType(function.__code__, names, function.__name__))


class ByScipy:
    """The same problem, solved by `solve_ivp` between the doses."""

    def __init__(self, problem):
        self.problem, self.n_solved = problem, 0
        structure = problem.model.structure
        rhs, observe, initial = (
            compiled(f) for f in (structure.rhs, structure.observe, structure.initial)
        )
        n, m = len(structure.states), len(structure.outputs)
        none = np.zeros(n)

        def slopes(t, y, p):
            dy = np.empty(n)
            rhs(t, y, p, none, dy)
            return dy

        self.slopes = numba.njit(slopes)
        self.initial, self.observe, self.n, self.m = initial, observe, n, m
        events = problem.events
        assert set(events.kind) == {ev.DOSE}
        self.doses = list(zip(events.time, events.index, events.value, events.scale, strict=True))
        self.scales = np.array(structure.state_scales())

    def outputs(self, params, rtol):
        """Return the outputs at the times of the problem (n_times, n_outputs)."""
        self.n_solved += 1
        times = self.problem.times
        y = np.empty(self.n)
        self.initial(params, y)
        found = np.empty((len(times), self.m))
        begin = min(times[0], self.doses[0][0])
        edges = [*(dose[0] for dose in self.doses), times[-1]]
        for k, end in enumerate(edges):
            inside = times[(times >= begin) & (times <= end)]
            if end > begin:
                run = solve_ivp(
                    self.slopes, (begin, end), y, method="LSODA", args=(params,), rtol=rtol,
                    atol=1e-2 * rtol * self.scales, t_eval=np.union1d(inside, [end]),
                )  # fmt: skip
                for t in inside:
                    self.observe(t, run.y[:, np.searchsorted(run.t, t)], params,
                                 found[np.searchsorted(times, t)])  # fmt: skip
                y = run.y[:, -1].copy()
            elif len(inside):
                self.observe(begin, y, params, found[np.searchsorted(times, begin)])
            if k < len(self.doses):
                _, state, amount, scale = self.doses[k]
                y[state] += amount * (params[scale] if scale >= 0 else 1.0)
            begin = end
        return found

    def residuals(self, points, rtol):
        """Return the residual vectors at points."""
        params = self.problem.parameters(points)
        values = np.array([self.outputs(p, rtol) for p in params])
        return self.problem.residuals(points, self.problem.at_rows(values, params))

    def minimise(self, point, rtol, stop):
        """Minimise by lmfit's least squares with forward differences."""
        coordinates = self.problem.coordinates
        minimiser = lmfit.Minimizer(
            lambda p: self.residuals(coordinates.vector(p)[None], rtol)[0],
            coordinates.params(point), scale_covar=False, calc_covar=False,
        )  # fmt: skip
        return minimiser.leastsq(ftol=stop, xtol=stop, epsfcn=rtol)


def ours(model, data, seed):
    """Return a fit with its starts, and draws."""
    fit = bc.fit_individual(model, data, starts=STARTS, seed=0)
    return fit, fit.drawn(DRAWS, seed)


def main(patients: int = 3, repeats: int = 3) -> None:
    """Run the benchmark and write ``results/fit.json``."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, patients + 1):
            model, data = patient(folder, seed)
            ours(model, data, 1)
            seconds = []
            for _ in range(repeats):
                begun = time.perf_counter()
                fit, drawn = ours(model, data, 1)
                seconds.append(time.perf_counter() - begun)
            rows.append({"patient": seed, **compared(fit, drawn, seconds), **advised(fit)})
            show(rows)
    ratios = [row["times_faster"] for row in rows]
    print(f"median {statistics.median(ratios):.0f} times faster, least {min(ratios):.0f}")
    save("fit", {"starts": STARTS, "draws": DRAWS, "counts": len(TIMES), "rows": rows})


def advised(fit) -> dict:
    """Return seconds of the redose advice from the same draws, and the trajectories it solved."""
    begun = time.perf_counter()
    advice = bc.redose(fit, dose="20 mg sc", below=10, until="1 y", draws=DRAWS, seed=1)
    seconds = time.perf_counter() - begun
    tables = advice.latest.looked_at, advice.intervals, advice.alternatives
    solved = 3 + sum(map(len, tables))  # the crossing, and the course of both plans, besides
    return {"advice_s": seconds, "advice_trajectories": DRAWS * solved}


def compared(fit, drawn, seconds) -> dict:
    """Return one patient's row: our seconds and those of scipy, and how far results differ."""
    problem = fit.problem
    other = ByScipy(problem)
    points = starting_points(problem, STARTS, 0)
    # The start from which our search took a median number of evaluations.
    i = int(np.argsort(fit.starts["evaluations"].to_numpy())[STARTS // 2])
    other.residuals(points[i : i + 1], COARSE)
    begun = time.perf_counter()
    coarse = other.minimise(points[i], COARSE, 1e-4)
    one_start = time.perf_counter() - begun
    begun, before = time.perf_counter(), other.n_solved
    few = drawn.points[:50]
    values = other.residuals(few, COARSE)
    a_draw = (time.perf_counter() - begun) / (other.n_solved - before)
    error = np.max(np.abs(values - problem.residuals(few, rtol=COARSE)))
    whole = STARTS * one_start + drawn.n_proposed * a_draw
    own = minimise(problem, points[i], FINE)
    return {
        "ours_s": statistics.median(seconds), "ours_min_s": min(seconds),
        "trajectories": problem.n_solved, "scipy_one_start_s": one_start,
        "scipy_evaluations": coarse.nfev, "scipy_draw_s": a_draw, "scipy_s": whole,
        "times_faster": whole / statistics.median(seconds),
        "residual_difference": float(error),
        "objective_above_ours": float(coarse.chisqr - own.chisqr),
        "effective": drawn.effective,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--patients", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    main(given.patients, given.repeats)
