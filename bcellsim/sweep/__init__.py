"""Batch sweeps: parameters x schedules x patients x thresholds, from a laptop to a cluster.

A sweep is described by a design file:

.. code-block:: toml

    model = "yu2022_ofatumumab"       # or a list: every point is run with each
    seed = 1
    until = "2 y"
    induction = "12 w"                # the window opens this long after the first dose
    thresholds = [10, 40]             # a row for each, of every scenario
    sampling = "factorial"            # or "lhs" or "sobol", with points = how many
    metrics = ["suppressed_throughout", "days_above"]     # all by default
    trajectories = "1 w"              # if trajectories are wanted: the spacing; outputs = ["bcell"]
    chunk = 50000                     # scenarios of a chunk, or memory = "200 MB"

    [constants]
    standard = "20 mg sc"             # used as "$standard"

    [population]                      # without it, the typical subject
    n = 1000                          # or patients = "patients.csv", beside the design
    covariates = { WT = 80 }          # or "study"

    [schedule]                        # what all schedules share: regimen, or dose, interval,
    loading = "$standard at 0 d, 7 d, 14 d"   # loading, start, max_doses, or those of a rule

    [factors.dose]
    values = ["10 mg sc", "$standard"]
    [factors.interval]
    low = "4 w"                       # a range: levels of a factorial, or sampled (log = true)
    high = "24 w"
    levels = 6
    [factors.emax]                    # a parameter: its typical value, around which subjects vary
    how = "multiply"                  # or "replace"
    distribution = "lognormal"        # or normal (mean, sd), uniform, loguniform (low, high)
    median = 1.0
    cv = 0.3

A scenario is a model, a point of the factors and a subject; every threshold gives it one row. Rows
depend on the design alone: not on chunks, threads, workers, or where a run was broken off. Where
every scenario has its own dose or interval, `c_trough` is not defined.

Other tools
-----------
The files are plain Parquet, partitioned by chunk. What is not defined is null, what was not reached
is infinite, and ``status`` is ``ok`` or says why a scenario failed.

- pandas: ``pd.read_parquet("DIR/metrics")``
- polars: ``pl.scan_parquet("DIR/metrics", hive_partitioning=True)``
- DuckDB: ``SELECT dose, avg(nadir) FROM 'DIR/metrics/*/*.parquet' GROUP BY dose``

Global sensitivity
------------------
With ``sampling = "saltelli"`` or ``"morris"``, ``points`` is the number of base points, and
`bcellsim.sensitivity` gives the indices of each factor for any metric.

On a cluster
------------
``bcellsim sweep design.toml --out DIR --scheduler tcp://HOST:8786`` (or `scheduler=` of
`bcellsim.sweep`) sends chunks to the workers of a Dask scheduler; the process that was started
writes what they return, so that only it needs DIR. What must be shared: the address, the same
version of the package on all (others are refused), and the files that a design names, models and
patients of one's own, under the same path. Workers with ``--nthreads 1`` and one process a core are
best, and several chunks for each (``chunk`` in the design); the kernel is compiled once a machine
(`BCELLSIM_CACHE_DIR`). A lost worker's chunks are run again; a lost scheduler or a killed run loses
nothing that is written: give the same command.

- One machine: ``--threads`` needs no cluster. For processes, ``dask scheduler --port 8786`` and
  ``dask worker tcp://127.0.0.1:8786 --nworkers 8 --nthreads 1``; in Python, below
  ``if __name__ == "__main__":``,
  ``cluster = distributed.LocalCluster(n_workers=8, threads_per_worker=1)``, then
  ``bcellsim.sweep("design.toml", out="DIR", scheduler=cluster.scheduler_address)``.
- SSH: ``dask ssh HOST1 HOST2 HOST3 --nthreads 1 --nworkers 16`` (package ``paramiko``) starts the
  scheduler on the first host, at port 8786, and workers on all.
- SLURM, with package ``dask-jobqueue``: ``cluster = dask_jobqueue.SLURMCluster(cores=32,
  processes=32, memory="64GB", walltime="04:00:00")``, ``cluster.scale(jobs=10)``,
  ``cluster.wait_for_workers(1)``, then ``scheduler=cluster.scheduler_address``. Workers that start
  later are used as they come, and what a job leaves undone at its end is run again.
- Kubernetes, with the operator of ``dask-kubernetes`` in the cluster: an image with the package in
  ``cluster = dask_kubernetes.operator.KubeCluster(name="sweep", image=..., n_workers=20)``,
  ``cluster.wait_for_workers(1)``, then ``scheduler=cluster.scheduler_address``; from outside the
  cluster that address is a forwarded port.
"""

from bcellsim.sweep.design import Design
from bcellsim.sweep.reading import read_design
from bcellsim.sweep.result import Sweep, open_sweep
from bcellsim.sweep.run import plan_sweep, sweep
from bcellsim.sweep.sensitivity import sensitivity

__all__ = [
    "Design", "Sweep", "open_sweep", "plan_sweep", "read_design", "sensitivity", "sweep",
]  # fmt: skip
