"""What `sweep` prints: the plan of a sweep, its progress, and a summary by factor."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

#: The rows of a summary that a terminal shows.
_SHOWN = 40


def plan_lines(facts: dict) -> list[str]:
    """Return what a sweep would take, as lines."""
    return [
        f"{facts['scenarios']:,} scenarios: {facts['points']:,} points x {facts['subjects']:,} "
        f"subjects; {facts['rows']:,} rows in {facts['chunks']:,} chunks",
        f"time    about {_duration(facts['seconds'])} on {facts['threads']} threads",
        f"memory  about {facts['memory_mb']:,.0f} MB beyond that of an idle process",
        f"disk    about {facts['disk_mb']:,.1f} MB",
    ]


def _duration(seconds):
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


@contextlib.contextmanager
def progress(quiet: bool):
    """Yield a callable(done, total): a bar with rate and time left on a terminal, else nothing."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    class Rate(ProgressColumn):
        """Scenarios a second."""

        def render(self, task):
            return f"{task.speed:,.0f}/s" if task.speed else ""

    columns = (TextColumn("scenarios"), BarColumn(), MofNCompleteColumn(), Rate(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = None

        def show(done, total):
            nonlocal task
            # What an earlier run has done does not count in the rate.
            if task is None:
                task = bar.add_task("scenarios", total=total, completed=done)
            bar.update(task, completed=done)

        yield show


def sweep(settings: dict, print_json) -> None:
    """Run or plan a sweep; print its summary by factor."""
    import bcellsim as bc

    if settings["dry_run"]:
        facts = bc.plan_sweep(settings["design"], threads=settings["threads"])
        print_json(facts) if settings["json"] else print("\n".join(plan_lines(facts)))
        return
    out = settings["out"]
    try:
        with progress(settings["quiet"]) as bar:
            done = bc.sweep(
                settings["design"], out=out, threads=settings["threads"],
                scheduler=settings["scheduler"], confirmed=settings["yes"], progress=bar,
            )  # fmt: skip
    except KeyboardInterrupt:
        print(f"bcellsim: stopped; the same command goes on in {out}", file=sys.stderr)
        sys.exit(130)
    facts = {k: done.manifest[k] for k in ("n_scenarios", "rows", "failed", "seed", "design_hash")}
    if settings["json"]:
        print_json({**facts, "out": str(Path(out))})
        return
    print(done)
    table = done.summary(metrics=done.metrics[:1])
    print(table.head(_SHOWN).to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    if len(table) > _SHOWN:
        print(f"... and {len(table) - _SHOWN} more")
    print(f"wrote {out}", file=sys.stderr)
