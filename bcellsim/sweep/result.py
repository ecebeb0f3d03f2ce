"""Opening a sweep: a lazy table of its rows, labelled arrays, and summaries by factor."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bcellsim.explore import summarise
from bcellsim.metrics import METRICS
from bcellsim.names import unknown
from bcellsim.sweep.store import COURSES, chunk_path, read_manifest, wrong_with
from bcellsim.sweep.store import METRICS as FOLDER

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset as ds
    import xarray as xr

#: Rows up to which quantiles are those of all values; of more, they come of a t-digest.
EXACT = 5_000_000
#: Shares at which a t-digest is read, to go between them where some values are infinite.
_SHARES = np.linspace(0.0, 1.0, 1001)


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep on disk.

    Parameters
    ----------
    table : pyarrow.dataset.Dataset
        Its rows, read when asked for: ``table.to_table(columns=[...]).to_pandas()``. Other tools
        read the files themselves, as `bcellsim.sweep` says.
    trajectories : xarray.Dataset or None
        Outputs over (scenario, time), read when used; None if the design wants none.
    manifest : dict
        Design, versions, seed, and what each chunk holds.
    """

    table: ds.Dataset
    trajectories: xr.Dataset | None
    manifest: dict

    @property
    def factors(self) -> list[str]:
        """The columns by which scenarios differ: the model, factors and threshold."""
        return [*self.manifest["factors"], "threshold"]

    @property
    def metrics(self) -> list[str]:
        """The metrics of the table."""
        return [name for name in self.table.schema.names if name in METRICS]

    @property
    def source(self) -> str:
        """Models, number of scenarios and seed, as figures show them."""
        models = ", ".join(self.manifest["design"]["model"])
        return f"{models}, {self.manifest['n_scenarios']:,} scenarios, seed {self.manifest['seed']}"

    def __repr__(self):
        facts = self.manifest
        return (
            f"<Sweep: {facts['n_scenarios']:,} scenarios, {facts['rows']:,} rows in "
            f"{len(facts['chunks'])} chunks, {facts['failed']:,} failed; by "
            f"{', '.join(self.factors)}>"
        )

    def to_dataset(self, metrics: Sequence[str] | None = None) -> xr.Dataset:
        """Return metrics as labelled arrays, in memory.

        Parameters
        ----------
        metrics : sequence of str, optional
            The metrics wanted; all by default.

        Returns
        -------
        xarray.Dataset
            Over (factor, ..., subject, threshold) for a full factorial; otherwise over (point,
            subject, threshold), with the factors along the points. NaN where there is no row.
        """
        import xarray as xr

        names = _known(self.metrics if metrics is None else metrics, self.metrics)
        facts, levels = self.manifest["factors"], self.manifest["thresholds"]
        columns = self.table.to_table(columns=["scenario", "subject", "point", "threshold", *names,
                                               *facts])  # fmt: skip
        found = {name: columns.column(name).to_numpy() for name in columns.column_names}
        n_subjects, n = self.manifest["n_subjects"], self.manifest["n_scenarios"]
        first = found["threshold"] == levels[0]
        numbers = found["subject"].dtype.kind in "iu"
        subject = np.arange(n_subjects) if numbers else np.full(n_subjects, "", dtype=object)
        subject[found["scenario"][first] % n_subjects] = found["subject"][first]
        coords = {"subject": subject, "threshold": levels}
        if all(entry["levels"] for entry in facts.values()) and self.manifest["crossed"]:
            dims = {name: entry["levels"] for name, entry in facts.items()}
            coords |= dims
            shape = tuple(len(values) for values in dims.values())
        else:
            shape, dims = (n // n_subjects,), {"point": None}
            for name in facts:
                along = np.full(shape, np.nan, dtype=found[name].dtype)
                along[found["point"][first]] = found[name][first]
                coords[name] = ("point", along)
        ascending = np.argsort(levels)
        level = ascending[np.searchsorted(np.sort(levels), found["threshold"])]
        order = found["scenario"] * len(levels) + level
        data = {}
        for name in names:
            values = np.full(n * len(levels), np.nan)
            values[order] = found[name]
            about = {"unit": METRICS[name].unit, "units": METRICS[name].unit}
            whole = values.reshape(*shape, n_subjects, len(levels))
            data[name] = ((*dims, "subject", "threshold"), whole, about)
        return xr.Dataset(data, coords)

    def summary(
        self,
        by: Sequence[str] | None = None,
        *,
        metrics: Sequence[str] | None = None,
        exact: int = EXACT,
    ) -> pd.DataFrame:
        """Summarise metrics over the scenarios that share the values of some factors.

        Parameters
        ----------
        by : sequence of str, optional
            Columns; by default the factors that have levels, and the threshold.
        metrics : sequence of str, optional
            The metrics wanted; all by default.
        exact : int
            Up to so many rows one metric is read whole; of more, the table is streamed, means are
            exact and quantiles come of a t-digest (Dunning 2021, doi:10.1016/j.simpa.2020.100049).

        Returns
        -------
        pandas.DataFrame
            A row a group: the factors, ``n`` solved, ``n_failed``, and the summaries of `explore`.
        """
        levels = [name for name, entry in self.manifest["factors"].items() if entry["levels"]]
        by = _known([*levels, "threshold"] if by is None else list(by), self.table.schema.names)
        names = _known(self.metrics if metrics is None else metrics, self.metrics)
        if not by:
            raise ValueError("by: at least one column is wanted, such as threshold")
        one = _exact if self.manifest["rows"] <= exact else _streamed
        table = _counts(self.table, by)
        for name in names:
            table = table.join(one(self.table, by, name))
        table = self._in_order(table.reset_index(), by)
        schema = self.table.schema
        table.attrs["units"] = {
            name: (schema.field(name).metadata or {}).get(b"unit", b"").decode()
            for name in [*by, *names]
        }
        table.attrs["source"] = self.source
        return table

    def _in_order(self, table, by):
        """Return rows in the order of the levels of the design, which texts do not have."""

        def place(column):
            levels = self.manifest["factors"].get(column.name, {}).get("levels")
            return column.map({level: i for i, level in enumerate(levels)}) if levels else column

        return table.sort_values(by, key=place, ignore_index=True)


def point_means(done: Sweep, metric: str) -> dict[float, np.ndarray]:
    """Return, by threshold, the mean of a metric over the subjects of each point (n_points,).

    NaN where a subject of the point failed.
    """
    import pyarrow.compute as pc

    columns = {name: pc.field(name) for name in ("point", "threshold", metric)}
    whole = pc.ScalarAggregateOptions(skip_nulls=False)
    means = _grouped(done.table, columns, ["threshold", "point"], [(metric, "hash_mean", whole)])
    n = done.manifest["n_scenarios"] // done.manifest["n_subjects"]
    return {
        level: means.loc[level].iloc[:, 0].reindex(range(n)).to_numpy(float)
        for level in done.manifest["thresholds"]
    }


def open_sweep(folder: str | Path, *, damaged: str = "raise") -> Sweep:
    """Open the directory of a sweep.

    Parameters
    ----------
    folder : str or Path
        The directory.
    damaged : str
        ``"raise"``, or ``"skip"``: open the rest where chunks are damaged or missing, and warn.

    Raises
    ------
    FileNotFoundError
        If it is no sweep.
    ValueError
        If the manifest or a chunk is damaged, or a chunk is missing: they are named.
    """
    if damaged not in ("raise", "skip"):
        raise ValueError(unknown("damaged", damaged, ["raise", "skip"]))
    folder = Path(folder)
    manifest = read_manifest(folder)
    import pyarrow.dataset as ds

    good, wrong = [], []
    for k in range(manifest["n_chunks"]):
        first = k * manifest["chunk"]
        numbers = range(first, min(first + manifest["chunk"], manifest["n_scenarios"]))
        sentence = wrong_with(folder, k, manifest["chunks"].get(str(k)), numbers)
        if sentence:
            wrong.append(sentence)
        else:
            good.append(str(chunk_path(folder, k)))
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        sentence = f"{len(wrong)} of {manifest['n_chunks']} chunks: {'; '.join(wrong[:5])}{more}"
        if damaged == "raise" or not good:
            raise ValueError(
                f'{sentence}. The same sweep goes on with them; damaged="skip" opens the rest'
            )
        warnings.warn(sentence, stacklevel=2)
    table = ds.dataset(
        good, format="parquet", partitioning="hive", partition_base_dir=str(folder / FOLDER)
    )
    return Sweep(table, _courses(folder, table), manifest)


def _courses(folder, table):
    """Return the trajectories with the factors of their scenarios, or None."""
    if not (folder / COURSES).is_dir():
        return None
    import xarray as xr

    data = xr.open_zarr(folder / COURSES, consolidated=False)
    names = [n for n in table.schema.names if n not in METRICS]
    names = names[: names.index("threshold")]
    found = table.to_table(columns=names).to_pandas().drop_duplicates("scenario")
    found = found.set_index("scenario").reindex(range(data.sizes["scenario"]))
    coords = {name: ("scenario", found[name].to_numpy()) for name in found}
    return data.assign_coords(scenario=np.arange(len(found)), **coords)


def _known(names, known):
    for name in names:
        if name not in known:
            raise ValueError(unknown("column", name, known))
    return list(names)


def _counts(table, by):
    """Return how many scenarios of each group were solved, and how many failed."""
    import pyarrow.compute as pc

    of = {name: pc.field(name) for name in by}
    ok = (pc.field("status") == "ok").cast("int64")
    found = _grouped(table, {**of, "ok": ok}, by, [("ok", "hash_sum"), ("ok", "hash_count")])
    found["n_failed"] = found["ok_hash_count"] - found["ok_hash_sum"]
    return found.rename(columns={"ok_hash_sum": "n"})[["n", "n_failed"]]


def _exact(table, by, name):
    import pandas as pd

    columns = table.to_table(columns=[*by, name]).to_pandas()
    rows = {
        key: summarise({name: group.to_numpy()})
        for key, group in columns.dropna(subset=name).groupby(by if len(by) > 1 else by[0])[name]
    }
    found = pd.DataFrame(rows).T
    found.index = _index(pd, list(rows), by)
    return found


def _index(pd, keys, by):
    return pd.MultiIndex.from_tuples(keys, names=by) if len(by) > 1 else pd.Index(keys, name=by[0])


def _streamed(table, by, name):
    """Return the summary of a metric from one pass over the table."""
    import pyarrow.compute as pc

    value = pc.field(name)
    there = pc.is_valid(value).cast("int64")
    finite = pc.if_else(pc.is_finite(value), value, None)
    columns = {**{key: pc.field(key) for key in by}, "there": there, "x": finite}
    digest = pc.TDigestOptions(q=_SHARES.tolist(), delta=300, buffer_size=2000)
    asked = [
        ("there", "hash_sum"), ("x", "hash_count"), ("x", "hash_mean"),
        ("x", "hash_stddev", pc.VarianceOptions(ddof=1)), ("x", "hash_tdigest", digest),
    ]  # fmt: skip
    found = _grouped(table, columns, by, asked)
    n, reached = found["there_hash_sum"].to_numpy(), found["x_hash_count"].to_numpy()
    mean, whole = found["x_hash_mean"].to_numpy(float), reached == n
    out = found.iloc[:, :0].copy()
    if name == "suppressed_throughout":
        out[name] = mean
        out[f"{name}_mc_se"] = np.sqrt(mean * (1.0 - mean) / n)
        return out[n > 0]
    spread = found["x_hash_stddev"].to_numpy(float) / np.sqrt(np.maximum(n, 1))
    out[f"{name}_mean"] = np.where(whole, mean, np.inf)
    out[f"{name}_mc_se"] = np.where(whole & (n > 1), spread, np.nan)
    digests = found["x_hash_tdigest"].to_list()
    for label, share in (("median", 0.5), ("p5", 0.05), ("p95", 0.95)):
        out[f"{name}_{label}"] = [
            _quantile(q, share, a, b) for q, a, b in zip(digests, n, reached, strict=True)
        ]
    if name.startswith("time_to_"):
        out[f"{name}_reached_share"] = reached / np.maximum(n, 1)
    return out[n > 0]


def _quantile(digest, share, n, n_finite):
    """Return a quantile of n values, of which the infinite ones are the largest."""
    position = share * (n - 1)
    if position > n_finite - 1:
        return np.inf
    return float(np.interp(position / max(n_finite - 1, 1), _SHARES, np.asarray(digest, float)))


def _grouped(table, columns, by, asked):
    """Return aggregates of a table by groups, in memory that does not grow with its rows."""
    from pyarrow import acero

    scanned = acero.Declaration("scan", acero.ScanNodeOptions(table))
    projected = acero.Declaration(
        "project", acero.ProjectNodeOptions(list(columns.values()), list(columns)), [scanned]
    )
    wanted = [
        (name, function, options[0] if options else None, f"{name}_{function}")
        for name, function, *options in asked
    ]
    summed = acero.Declaration("aggregate", acero.AggregateNodeOptions(wanted, by), [projected])
    return summed.to_table(use_threads=False).to_pandas().set_index(by).sort_index()
