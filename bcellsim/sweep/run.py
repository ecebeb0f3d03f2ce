"""Running a sweep: chunks on threads here, or on the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import platform
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path

import numpy as np

from bcellsim.engine.compiled import available_threads
from bcellsim.sweep.chunks import SOLVED, solve_chunk
from bcellsim.sweep.design import Design
from bcellsim.sweep.reading import design_of, read_design
from bcellsim.sweep.result import Sweep, open_sweep
from bcellsim.sweep.store import Store, digest_of, encoded, versions

#: More scenarios than these are computed only when confirmed.
CONFIRM = 10_000_000
#: Scenarios of the pilot of `plan_sweep`; first so many, which compiles.
_PILOT, _FIRST = 2_000, 32
#: A scheduler that does not answer in this time is not there [s].
_PATIENCE = 10.0

Solved = tuple[int, bytes, dict, dict[str, np.ndarray]]


def sweep(
    design: str | Path,
    *,
    out: str | Path,
    threads: int | None = None,
    scheduler: str | None = None,
    confirmed: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Compute every scenario of a design, chunk by chunk; go on where an earlier run stopped.

    Parameters
    ----------
    design : str or Path
        The design file (TOML), see `bcellsim.sweep`.
    out : str or Path
        The directory to write: ``metrics/`` (Parquet), ``trajectories.zarr``, ``manifest.json``.
        One that a sweep of the same design has begun is finished.
    threads : int, optional
        Threads; all available ones by default. Results do not depend on it.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``"tcp://10.0.0.1:8786"``: its workers compute, and
        this process writes.
    confirmed : bool
        Compute more than 10,000,000 scenarios.
    progress : callable(done, total), optional
        Called with numbers of scenarios.

    Returns
    -------
    Sweep

    Raises
    ------
    ValueError
        If the design is wrong (file, line, key), is not the one that `out` was begun with, or is
        larger than confirmed.
    OSError
        If `out` cannot be written, or the scheduler cannot be reached.
    RuntimeError
        If workers have another version of the package, or are lost again and again.
    """
    design = read_design(design)
    if design.n_scenarios > CONFIRM and not confirmed:
        raise ValueError(
            f"the design has {design.n_scenarios:,} scenarios: more than {CONFIRM:,} are computed "
            "only with confirmed=True (--yes)"
        )
    with Store.opened(Path(out), design) as store:
        missing = store.missing()
        total = design.n_scenarios
        done = total - sum(len(design.scenarios(k)) for k in missing)
        if progress:
            progress(done, total)
        solved = _on_cluster(design, missing, scheduler) if scheduler else _here(
            design, missing, threads or available_threads())  # fmt: skip
        with contextlib.closing(solved):
            try:
                for k, content, facts, courses in solved:
                    store.add(k, content, facts, courses)
                    done += len(design.scenarios(k))
                    if progress:
                        progress(done, total)
            finally:
                with contextlib.suppress(OSError):
                    store.save()
        store.save()
    return open_sweep(out)


def run_chunk(text: str, k: int, expected: dict[str, str], threads: int | None = 1) -> Solved:
    """Solve a chunk of a design given as text, wherever this runs.

    Raises
    ------
    RuntimeError
        If the package or what it is computed with has another version than `expected`.
    """
    for name, wanted in expected.items():
        if versions()[name] != wanted:
            raise RuntimeError(
                f"the worker on {platform.node()} has {name} {versions()[name]}, this process has "
                f"{wanted}: install the same version on all"
            )
    design = design_of(text)
    table, courses = solve_chunk(design, design.scenarios(k), threads=threads)
    status = table.column("status").to_numpy()[:: len(design.levels)]
    facts = {
        "design": design.digest, "chunk": k, "rows": table.num_rows,
        "failed": int(np.count_nonzero(status != SOLVED)), "trajectories": digest_of(courses),
        "versions": versions(),
    }  # fmt: skip
    return k, encoded(table, facts), facts, courses


def _here(design: Design, missing: list[int], threads: int) -> Iterator[Solved]:
    """Yield chunks as they are solved on threads, a few ahead of the writing."""
    text, expected = design.text, versions()
    # The first one compiles, and uses all threads; so do few chunks.
    alone = min(len(missing), 1 if len(missing) > threads else threads)
    for k in missing[:alone]:
        yield run_chunk(text, k, expected, threads)
    rest = iter(missing[alone:])
    with ThreadPoolExecutor(threads) as pool:
        running = {pool.submit(run_chunk, text, k, expected) for k in islice(rest, threads + 1)}
        try:
            while running:
                ready, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ready:
                    solved = future.result()
                    running |= {pool.submit(run_chunk, text, k, expected) for k in islice(rest, 1)}
                    yield solved
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _on_cluster(design: Design, missing: list[int], address: str) -> Iterator[Solved]:
    """Yield chunks as the workers of a Dask cluster return them."""
    try:
        from distributed import as_completed
    except ImportError:
        raise RuntimeError(
            'a scheduler needs Dask: pip install "bcellsim[sweep]", here and on the workers'
        ) from None
    if not missing:
        return
    with _client(address) as client, _there(address):
        expected, text = versions(), design.text
        _require_versions(client, expected)
        rest = iter(missing)

        def submit(k):
            # Not pure: a chunk of an earlier run that the scheduler remembers is not taken.
            return client.submit(run_chunk, text, k, expected, pure=False, retries=2)

        def more(there):
            # Workers come and go: two chunks for each of their threads are under way.
            with _there(address, OSError, RuntimeError):
                ahead = 2 * max(1, sum(client.ncores().values()))
                return [submit(k) for k in islice(rest, max(0, ahead - there))]

        running = as_completed(more(0), loop=client.loop)
        for future in running:
            yield future.result()
            future.release()
            running.update(more(running.count()))


def _client(address):
    from distributed import Client

    try:
        return Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError):
        raise ConnectionError(
            f"no Dask scheduler answers at {address} within {_PATIENCE:g} s"
        ) from None
    except ValueError as error:
        raise ValueError(f'scheduler "{address}": {error}') from None


def _require_versions(client, expected):
    """Raise RuntimeError unless every worker has this version of the package."""
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError:
        raise ConnectionError(
            f"the scheduler at {client.scheduler.address} has no worker after {_PATIENCE:g} s"
        ) from None
    try:
        found = client.run(versions)
    except Exception as error:  # a worker without the package raises what it likes
        raise RuntimeError(
            f"a worker cannot run bcellsim: {error}; install the same version on all"
        ) from None
    for worker, theirs in found.items():
        for name, wanted in expected.items():
            if theirs.get(name) != wanted:
                raise RuntimeError(
                    f"worker {worker} has {name} {theirs.get(name)}, this process has {wanted}: "
                    "install the same version on all"
                )


@contextlib.contextmanager
def _there(address, *lost):
    """Say in a sentence that a scheduler is lost, or a worker again and again.

    A lost scheduler also raises the errors `lost`, where workers do not raise such ones.
    """
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise RuntimeError(
            f"a chunk was lost with its worker again and again ({error.last_worker}); has it too "
            "little memory? The same command goes on with what is missing"
        ) from None
    except (CancelledError, CommClosedError, *lost):
        raise ConnectionError(
            f"the scheduler at {address} is gone; the same command goes on with what is missing"
        ) from None


def plan_sweep(design: str | Path, *, threads: int | None = None) -> dict:
    """Say what a sweep would take, by a timed pilot of some of its scenarios.

    Parameters
    ----------
    design : str or Path
        The design file.
    threads : int, optional
        Threads; all available ones by default.

    Returns
    -------
    dict
        Numbers of scenarios, points, subjects, rows and chunks; estimated seconds, memory beyond
        that of an idle process [MB], and disk [MB].
    """
    design, threads = read_design(design), threads or available_threads()
    n = min(_PILOT, design.n_scenarios, design.chunk)
    solve_chunk(design, range(min(_FIRST, n)), threads=1)
    # From the middle of each tenth: a design may begin with its cheapest scenarios.
    parts = min(10, n)
    begins = [int((i + 0.5) * (design.n_scenarios - n // parts) / parts) for i in range(parts)]
    sample = [range(first, first + n // parts) for first in begins]
    began = time.perf_counter()
    solved = [solve_chunk(design, numbers, threads=1) for numbers in sample]
    size = sum(
        len(encoded(table, {})) + sum(v.nbytes for v in courses.values())
        for table, courses in solved
    )
    count = parts * (n // parts)
    each = (time.perf_counter() - began) / count
    tracemalloc.start()
    solve_chunk(design, range(n), threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    busy = min(threads, design.n_chunks)
    memory = (busy + 1) * min(design.chunk, design.n_scenarios) * peak / n
    return {
        "scenarios": design.n_scenarios,
        "points": len(design.models) * design.points_of_model,
        "subjects": design.n_subjects,
        "rows": design.n_scenarios * len(design.levels),
        "chunks": design.n_chunks,
        "threads": threads,
        "seconds": each * design.n_scenarios / threads,
        "memory_mb": memory / 1e6,
        "disk_mb": size / count * design.n_scenarios / 1e6,
    }
