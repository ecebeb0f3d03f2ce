"""Other solvers on the standard problems, each as fast as its documentation lets one make it.

Every function takes (problem, params, rtol, atol) and returns the counts (n_subjects, n_times),
computed on one core; what is compiled is kept, so that only the first call pays for it. The
equations are the structure's own wherever a solver takes compiled Python; diffrax and libroadrunner
have theirs stated here.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
from functools import cache
from pathlib import Path

import numba as nb
import numpy as np

# One core: jax, imported on first use, sizes its pool of threads by NPROC.
os.environ.update(
    NPROC="1", OMP_NUM_THREADS="1", JAX_PLATFORMS="cpu",
    XLA_FLAGS="--xla_cpu_multi_thread_eigen=false",
)  # fmt: skip

PROTOTYPE = Path(__file__).resolve().parents[2] / "shared" / "prototype"

FAST = {"fastmath": True, "error_model": "numpy"}


def scipy_lsoda(problem, params, rtol, atol):
    """Solve by scipy's solve_ivp with LSODA and a compiled right-hand side."""
    from scipy.integrate import solve_ivp

    derivative, count = _scipy_derivative(problem), problem.structure.states.index("bcell")
    segments, grids = problem.segments(), problem.grids()
    counts = np.empty((len(params), len(problem.times)))
    rates = np.zeros(len(problem.structure.states))
    for p, y, out in zip(params, problem.baseline(params), counts, strict=True):
        out[0] = y[count]
        for (begin, end, amount, rate), (days, position) in zip(segments, grids, strict=True):
            y[0] += amount
            rates[1] = rate
            result = solve_ivp(
                derivative, (begin, end), y, "LSODA", days, rtol=rtol, atol=atol, args=(p, rates)
            )
            out[position[position >= 0]] = result.y[count, position >= 0]
            y = result.y[:, -1]
    return counts


@cache
def _scipy_derivative(problem):
    rhs = nb.njit(**FAST)(problem.structure.rhs)

    @nb.njit(**FAST)
    def derivative(t, y, p, u):
        dy = np.empty_like(y)
        rhs(t, y, p, u, dy)
        return dy

    return derivative


def numbalsoda(problem, params, rtol, atol):
    """Solve by numbalsoda's LSODA: a compiled loop over subjects and stops."""
    run, address = _numbalsoda_loop(problem)
    grids = problem.grids()
    start = np.cumsum([0, *(len(days) for days, _ in grids)])
    counts = np.empty((len(params), len(problem.times)))
    run(
        address,
        np.ascontiguousarray(params),
        problem.baseline(params),
        problem.segments(),
        start,
        np.concatenate([days for days, _ in grids]),
        np.concatenate([position for _, position in grids]),
        rtol,
        atol,
        counts,
    )
    return counts


@cache
def _numbalsoda_loop(problem):
    from numbalsoda import lsoda, lsoda_sig

    n_states, n_params = len(problem.structure.states), len(problem.structure.parameters)
    count = problem.structure.states.index("bcell")
    rhs = nb.njit(**FAST)(problem.structure.rhs)

    @nb.cfunc(lsoda_sig, **FAST)
    def derivative(t, y, dy, data):
        values = nb.carray(data, n_params + n_states)
        rhs(t, y, values[:n_params], values[n_params:], dy)

    @nb.njit(error_model="numpy")
    def run(address, params, baseline, segments, start, days, position, rtol, atol, counts):
        data = np.zeros(n_params + n_states)
        for i in range(len(params)):
            data[:n_params] = params[i]
            y = baseline[i].copy()
            counts[i, 0] = y[count]
            for k in range(len(segments)):
                y[0] += segments[k, 2]
                data[n_params + 1] = segments[k, 3]
                first, last = start[k], start[k + 1]
                path, ok = lsoda(address, y, days[first:last], data, rtol, atol)
                for j in range(1, last - first):
                    if position[first + j] >= 0:
                        counts[i, position[first + j]] = path[j, count] if ok else np.nan
                y = path[-1].copy()

    return run, derivative.address


def diffrax(problem, params, rtol, atol):
    """Solve by diffrax's Tsit5 (float64): batches of subjects, restarted at every stop."""
    import jax.numpy as jnp

    run = _diffrax_run(problem)
    baseline = problem.baseline(params)
    parts = [
        run(
            tuple(jnp.asarray(column) for column in params[i : i + BATCH].T),
            tuple(jnp.asarray(column) for column in baseline[i : i + BATCH].T),
            rtol,
            atol,
        )
        for i in range(0, len(params), BATCH)
    ]
    return np.concatenate([np.asarray(part) for part in parts])


#: Subjects that diffrax solves at once (a batch of a length not seen before is compiled anew).
BATCH = 500


@cache
def _diffrax_run(problem):
    import jax

    jax.config.update("jax_enable_x64", True)
    import diffrax as dfx
    import jax.numpy as jnp

    count = problem.structure.states.index("bcell")
    segments, grids = problem.segments(), problem.grids()
    width = max(len(days) for days, _ in grids) - 1
    saved = np.array([[*days[1:], *[days[-1]] * (width + 1 - len(days))] for days, _ in grids])
    term = dfx.ODETerm(_DIFFRAX[problem.name])

    def solve(p, y, rtol, atol):
        controller = dfx.PIDController(rtol=rtol, atol=atol)

        def segment(y, row):
            begin, end, amount, rate, days = row
            y = (y[0] + amount, *y[1:])
            ts = dfx.SubSaveAt(ts=days, fn=lambda t, y, args: y[count])
            result = dfx.diffeqsolve(
                term, dfx.Tsit5(), begin, end, 0.01, y, (p, rate),
                saveat=dfx.SaveAt(subs=[ts, dfx.SubSaveAt(t1=True)]),
                stepsize_controller=controller, adjoint=dfx.ForwardMode(), max_steps=None,
            )  # fmt: skip
            counts, last = result.ys
            return tuple(state[0] for state in last), counts

        return jax.lax.scan(segment, y, (*segments.T, jnp.asarray(saved)))[1]

    chosen = _chosen(problem, saved)
    batched = jax.vmap(solve, in_axes=(0, 0, None, None))

    @jax.jit
    def run(p, y, rtol, atol):
        counts = batched(p, y, rtol, atol).reshape(len(p[0]), -1)[:, chosen]
        return jnp.concatenate([y[count][:, None], counts], axis=1)

    return run


def _chosen(problem, saved):
    """Return where among all saved days the output times after the first stand."""
    flat = saved.ravel()
    return np.array([np.flatnonzero(flat == time)[0] for time in problem.times[1:]])


def _diffrax_w1(t, y, args):
    import jax.numpy as jnp

    p, _ = args
    ka, f, v, kel, kpt, ktp, kint, kss, ksyn, kdeg, kin, kout, emax, ec50, g, kcp, kpc = p
    depot, free, peripheral, target, b, q = y
    u = kss + free
    both = u * u + kss * target
    inverse = 1.0 / (u * both)
    occupancy = free * both * inverse
    bound = target * occupancy
    d_target = ksyn - kdeg * target - (kint - kdeg) * bound
    d_total = ka * f * depot / v - (kel + kpt) * free + ktp * peripheral / v - kint * bound
    ratio = jnp.exp(g * (jnp.log(ec50) - jnp.log(jnp.maximum(free, 1e-30))))
    exchange = kcp * b - kpc * q
    return (
        -ka * depot,
        (d_total - occupancy * d_target) * u * u * u * inverse,
        kpt * free * v - ktp * peripheral,
        d_target,
        kin - kout * (1.0 + emax / (1.0 + ratio)) * b - exchange,
        exchange,
    )


def _diffrax_w2(t, y, args):
    (ka, cl, v, q, v2, kin, kout, emax, ec50), rate = args
    depot, central, peripheral, b = y
    conc = central / v
    flow = q * (conc - peripheral / v2)
    return (
        -ka * depot,
        ka * depot + rate - cl * conc - flow,
        flow,
        kin - kout * (1.0 + emax * conc / (ec50 + conc)) * b,
    )


_DIFFRAX = {"W1": _diffrax_w1, "W2": _diffrax_w2}


def roadrunner(problem, params, rtol, atol):
    """Solve by libroadrunner's CVODE, stopped and set at every dose (events inside are slower)."""
    runner, names, states = _roadrunner_model(problem)
    runner.integrator.relative_tolerance = rtol
    runner.integrator.absolute_tolerance = atol
    model = runner.model
    where = {name: i for i, name in enumerate(model.getGlobalParameterIds())}
    names, states, rate = [where[x] for x in names], [where[x] for x in states], [where["rate"]]
    depot, segments, grids = states[:1], problem.segments(), problem.grids()
    days = [list(days) for days, _ in grids]
    chosen = [(position[position >= 0], position >= 0) for _, position in grids]
    counts = np.empty((len(params), len(problem.times)))
    counts[:, 0] = problem.baseline(params)[:, problem.structure.states.index("bcell")]
    for p, y, out in zip(params, problem.baseline(params), counts, strict=True):
        model.setGlobalParameterValues(names, p)
        model.setGlobalParameterValues(states, y)
        for k, (_, _, amount, rate_now) in enumerate(segments):
            model.setGlobalParameterValues(
                depot, [model.getGlobalParameterValues(depot)[0] + amount]
            )
            model.setGlobalParameterValues(rate, [rate_now])
            path = runner.simulate(times=days[k])
            positions, taken = chosen[k]
            out[positions] = path[taken, 0]
    return counts


@cache
def _roadrunner_model(problem):
    import roadrunner

    names, states, rules = _SBML[problem.name]
    runner = roadrunner.RoadRunner(_sbml(names.split(), states, rules))
    runner.selections = ["b"]
    return runner, names.split(), list(states)


def _sbml(names, states, rules):
    """Return a model of SBML level 3: parameters, what follows from the states, rates of these."""
    parameters = [f'<parameter id="{name}" value="1" constant="true"/>' for name in names]
    parameters.append('<parameter id="rate" value="0" constant="true"/>')
    parameters += [f'<parameter id="{x}" value="0" constant="false"/>' for x in (*states, *rules)]
    kinds = [("assignmentRule", rules), ("rateRule", states)]
    body = [
        f'<{kind} variable="{name}"><math xmlns="http://www.w3.org/1998/Math/MathML">'
        f"{_mathml(ast.parse(text, mode='eval').body)}</math></{kind}>"
        for kind, table in kinds
        for name, text in table.items()
    ]
    return (
        '<sbml xmlns="http://www.sbml.org/sbml/level3/version1/core" level="3" version="1"><model>'
        f"<listOfParameters>{''.join(parameters)}</listOfParameters>"
        f"<listOfRules>{''.join(body)}</listOfRules></model></sbml>"
    )


_MATHML = {
    ast.Add: "plus", ast.Sub: "minus", ast.USub: "minus", ast.Mult: "times", ast.Div: "divide",
    ast.Pow: "power",
}  # fmt: skip


def _mathml(node):
    """Return an arithmetic expression as MathML."""
    match node:
        case ast.Name(id=name):
            return f"<ci>{name}</ci>"
        case ast.Constant(value=value):
            return f"<cn>{value}</cn>"
        case ast.BinOp(left=left, op=op, right=right):
            inner = f"<{_MATHML[type(op)]}/>{_mathml(left)}{_mathml(right)}"
        case ast.UnaryOp(op=op, operand=operand):
            inner = f"<{_MATHML[type(op)]}/>{_mathml(operand)}"
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            inner = f"<{name}/>{_mathml(argument)}"
        case _:
            raise ValueError(f"no MathML for {ast.dump(node)}")
    return f"<apply>{inner}</apply>"


#: By problem: parameters, rates of the states, and what follows from the states.
_SBML = {
    "W1": (
        "ka f v kel kpt ktp kint kss ksyn kdeg kin kout emax ec50 g kcp kpc",
        {
            "depot": "-ka * depot",
            "free": "(d_total - occupancy * d_target) * u * u * u * inverse",
            "peripheral": "kpt * v * free - ktp * peripheral",
            "target": "d_target",
            "b": "kin - kout * (1 + emax / (1 + ratio)) * b - exchange",
            "q": "exchange",
        },
        {
            "u": "kss + free",
            "both": "u * u + kss * target",
            "inverse": "1 / (u * both)",
            "occupancy": "free * both * inverse",
            "bound": "target * occupancy",
            "d_target": "ksyn - kdeg * target - (kint - kdeg) * bound",
            "d_total": "ka * f * depot / v - (kel + kpt) * free + ktp * peripheral / v"
            " - kint * bound",
            "ratio": "(ec50 / (abs(free) + 1e-30)) ** g",
            "exchange": "kcp * b - kpc * q",
        },
    ),
    "W2": (
        "ka cl v q v2 kin kout emax ec50",
        {
            "depot": "-ka * depot",
            "central": "ka * depot + rate - cl * conc - flow",
            "peripheral": "flow",
            "b": "kin - kout * (1 + emax * conc / (ec50 + conc)) * b",
        },
        {"conc": "central / v", "flow": "q * (conc - peripheral / v2)"},
    ),
}


def prototype(problem, params, rtol, atol):
    """Solve by the measured prototype of the engine; for W2 it has three grids, no tolerance."""
    threads = nb.get_num_threads()
    nb.set_num_threads(1)
    try:
        return _prototype(problem)(np.ascontiguousarray(params), rtol, atol)
    finally:
        nb.set_num_threads(threads)


@cache
def _prototype(problem):
    """Return a function of (params, rtol, atol) around the prototype's own code."""
    if problem.name == "W2":
        module = _prototype_module("proto_w2")
        coarse, middle, fine = (module.grid(level) for level in (-1, 0, 1))
        return lambda params, rtol, atol: module.sim(
            params, coarse if rtol > 1e-4 else middle if rtol > 1e-6 else fine
        )
    loop, _ = _prototype_module("proto_async_numba").build(16, parallel=False)
    days, amount = problem.doses[:, 0].copy(), problem.doses[0, 2]
    per_block = 320

    def run(params, rtol, atol):
        counts = np.empty((len(params), len(problem.times)))
        steps = np.zeros((len(params), 2), np.int64)
        loop(params, days, amount, problem.times, rtol, atol, counts, steps, per_block)
        return counts

    return run


def _prototype_module(name):
    """Import one of the prototype's scripts, which import one another by their bare names."""
    if not (PROTOTYPE / f"{name}.py").is_file():
        raise ImportError(f"shared/prototype/{name}.py is not beside this repository")
    sys.path.insert(0, str(PROTOTYPE))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(PROTOTYPE))


#: Every peer by the name it has in the results.
PEERS = {
    "numbalsoda (LSODA)": numbalsoda,
    "diffrax (Tsit5)": diffrax,
    "libroadrunner (CVODE)": roadrunner,
    "scipy (LSODA)": scipy_lsoda,
    "prototype": prototype,
}
