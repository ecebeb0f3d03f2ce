"""What the command line says of a data file."""

from __future__ import annotations

import json
import sys


def check(name: str, model: str | None, reading: dict, as_json: bool) -> None:
    """List every fault of a data file; exit 1 when one is an error."""
    import bcellsim as bc
    from bcellsim.observations.faults import SEVERITIES

    model = bc.load_model(model) if model else None
    faults = bc.check_data(name, model=model, **reading)
    counts = {f"{severity}s": sum(f.severity == severity for f in faults)
              for severity in SEVERITIES}  # fmt: skip
    if as_json:
        print(json.dumps({"file": name, **counts, "faults": [vars(f) for f in faults]}, indent=2))
    else:
        for fault in faults:
            print(_text(fault))
        print(f"{name}: " + ", ".join(_counted(n, what[:-1]) for what, n in counts.items()))
    if counts["errors"]:
        sys.exit(1)


def events(name: str, model: str | None, reading: dict, as_json: bool) -> None:
    """List what a data file says was given, as a model takes it."""
    import bcellsim as bc

    if model is None:
        raise ValueError("--events needs --model, whose routes and parameters the doses take")
    model = bc.load_model(model)
    table = bc.event_list(model, bc.read_observations(name, model=model, **reading))
    if as_json:
        rows = json.loads(table.to_json(orient="records", double_precision=15))
        print(json.dumps({"file": name, "sha256": table.attrs["sha256"], "events": rows}, indent=2))
    else:
        print(table.to_string(index=False, na_rep="-", float_format=lambda x: f"{x:.6g}"))
        print("sha256: " + " ".join(table.attrs["sha256"]))


def _text(fault):
    place = f"line {fault.line}" if fault.line else "file"
    column = f", {fault.column} = {fault.value or 'missing'}" if fault.column else ""
    lines = [f"{place}{column}: {fault.severity} ({fault.rule}): {fault.message}"]
    return "\n".join([*lines, *([f"    {fault.suggestion}"] if fault.suggestion else [])])


def _counted(n, what):
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
