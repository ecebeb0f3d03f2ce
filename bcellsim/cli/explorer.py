"""What `explore` reads and shows: schedules, searches, and the columns that fit a terminal."""

from __future__ import annotations

#: What `--find` knows, by the names of the package.
SEARCHES = ("longest_interval", "smallest_dose", "fewest_doses")
#: Times to an event that are drawn and tabulated.
EVENTS = ("time_to_escape", "time_to_repletion")


def plans(settings: dict) -> list:
    """Return the schedules asked for: named or written regimens, a grid, and rules.

    Raises
    ------
    ValueError
        If options that go together are not both there, or nothing is asked for.
    """
    import bcellsim as bc

    found = [bc.load_regimen(text) for text in settings["regimen"] or ()]
    if bool(settings["dose"]) != bool(settings["every"]):
        raise ValueError("--dose and --every go together: they make the grid of schedules")
    if settings["dose"]:
        found += bc.grid(
            dose=settings["dose"], every=intervals(settings), loading=settings["loading"],
            start=settings["start"],
        )  # fmt: skip
    elif settings["start"] or (settings["loading"] and not settings["rule"]):
        raise ValueError("--loading and --start belong to a grid: give --dose and --every")
    found += [_rule(text, settings["loading"]) for text in settings["rule"] or ()]
    if not found:
        raise ValueError("give --dose and --every, or --regimen, or --rule")
    return found


def intervals(settings: dict) -> list[str]:
    """Return the intervals of `--every`."""
    return [part.strip() for part in settings["every"].split(",") if part.strip()]


def _rule(text, loading):
    """Read a rule; `--loading` is its loading where it names none."""
    import bcellsim as bc

    own = loading and "loading" not in text
    return bc.DosingRule.parse(f"{text}; loading={loading}" if own else text)


def by(settings: dict) -> dict:
    """Return what `--by` groups the patients by, and the cuts."""
    found = {}
    for text in settings["by"] or ():
        name, _, cuts = (part.strip() for part in text.partition("="))
        try:
            found[name] = [float(cut) for cut in cuts.split(",")] if cuts else None
        except ValueError:
            raise ValueError(f'--by {text}: "WT" or "WT=60,80" is wanted') from None
    return found


def _refuse(settings, options, of):
    for option in options:
        if settings[option]:
            raise ValueError(f"--{option} does not belong to {of}")


def search(settings: dict, model, people):
    """Run the search that `--find` names.

    Raises
    ------
    ValueError
        If an option that it needs is not there.
    """
    import bcellsim as bc
    from bcellsim.names import unknown

    what = settings["find"].replace("-", "_")
    if what not in SEARCHES:
        raise ValueError(f"--find: {unknown('question', what, SEARCHES)}")
    if settings["probability"] is None:
        raise ValueError("--find needs --probability, such as 0.9")
    _refuse(settings, ("regimen", "rule", "reference", "by", "recovery", "survival"), "--find")
    if settings["follow_up"] != "0 d":
        raise ValueError("--follow-up does not belong to --find")
    common = {
        "below": settings["below"], "probability": settings["probability"],
        "until": settings["until"], "induction": settings["induction"],
        "loading": settings["loading"], "mc_error": settings["mc_error"],
        "seed": settings["seed"], "threads": settings["threads"],
    }  # fmt: skip
    doses = settings["dose"] or []
    if what == "smallest_dose":
        if len(doses) != 2 or not settings["every"]:
            raise ValueError(
                "--find smallest_dose needs --dose twice, the smallest and the largest to look "
                "at, and --every"
            )
        return bc.smallest_dose(
            model, people, lowest=doses[0], highest=doses[1], every=settings["every"],
            start=settings["start"], **common,
        )  # fmt: skip
    if len(doses) != 1:
        raise ValueError(f"--find {what} needs one --dose")
    if what == "fewest_doses":
        return bc.fewest_doses(model, people, dose=doses[0], **common)
    return bc.longest_interval(model, people, dose=doses[0], start=settings["start"], **common)


def tables(settings: dict, table, runs, ask) -> dict:
    """Return the tables that `--out` writes, by name; `ask` is `explore` of the same question."""
    import pandas as pd

    import bcellsim as bc
    from bcellsim.cli.people import dose_table
    from bcellsim.explore import common_cost

    found = {"schedules": bc.pareto(table, cost=common_cost(table))}
    fixed = [run for run in runs if isinstance(run.plan, bc.Regimen)]
    if fixed:
        found["doses"] = pd.concat(
            [dose_table([run.plan], settings["until"], run.people) for run in fixed]
        )
    decided = [
        [frame.assign(regimen=run.plan.name, model=run.model.name) for frame in bc.follow_rule(
            run.model, run.plan, run.people, until=settings["until"], seed=run.seed,
            threads=settings["threads"],
        )]
        for run in runs if run not in fixed
    ]  # fmt: skip
    if decided:
        decisions, ledgers = zip(*decided, strict=True)
        found["decisions"], found["ledger"] = pd.concat(decisions), pd.concat(ledgers)
    if settings["survival"]:
        each = ask(per_subject=True)
        found["survival"] = pd.concat([bc.survival(each, event) for event in EVENTS])
    return found


def readable(table):
    """Return the columns of a comparison that fit a terminal, as people read them."""
    import pandas as pd

    shown = {"regimen": table["regimen"]}
    for name in ("model", "group"):
        if name in table:
            shown[name] = table[name]
    shown |= {
        "threshold": table["threshold"],
        "throughout [%]": _share(table, "suppressed_throughout"),
        "time at or below [%]": 100 * table["suppressed_fraction_mean"],
        "days above, median": table["days_above_median"],
        "p95": table["days_above_p95"],
        "repletion [d], median": table["time_to_repletion_median"],
        "reached [%]": 100 * table["time_to_repletion_reached_share"],
        "doses": table["n_doses"],
        "total [mg]": table["cumulative_dose"],
    }
    if "suppressed_throughout_difference" in table:
        ends = [100 * table[f"suppressed_throughout_difference{e}"] for e in ("", "_low", "_high")]
        shown["difference [%]"] = [
            f"{mean:+.1f} ({low:.1f} to {high:.1f})" if low < high else "reference"
            for mean, low, high in zip(*ends, strict=True)
        ]
    if "answer" in table:
        shown["answer"] = ["<-" if answer else "" for answer in table["answer"]]
    return pd.DataFrame(shown)


def trade_off(table):
    """Return which schedules no other beats, and which one beats the others."""
    import pandas as pd

    import bcellsim as bc
    from bcellsim.explore import common_cost
    from bcellsim.plot.style import everybody

    rows = everybody(table)
    cost = common_cost(rows)
    rows = bc.pareto(rows, cost=cost).sort_values(["threshold", cost])
    shown = {"threshold": rows["threshold"], "regimen": rows["regimen"]}
    if "model" in rows:
        shown["model"] = rows["model"]
    return pd.DataFrame(
        {
            **shown,
            "doses": rows["n_doses"],
            "total [mg]": rows["cumulative_dose"],
            "throughout [%]": _share(rows, "suppressed_throughout"),
            "beaten by": rows["dominated_by"].replace("", "none"),
        }
    )


def _share(table, name):
    pairs = zip(table[name], table[f"{name}_mc_se"], strict=True)
    return [f"{100 * share:.1f} ± {100 * error:.1f}" for share, error in pairs]
