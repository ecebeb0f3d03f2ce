"""What does the licensed ofatumumab schedule do to the B cells of 1,000 virtual patients?"""

import sys
from pathlib import Path

import bcellsim as bc


def main(n_subjects=1000, until="2 y", out=None):
    # The model is Yu 2022 (relapsing MS); the schedule is 20 mg SC at weeks 0, 1, 2, then q4w from
    # week 4. Patients are sampled once with the published variability and can be used again.
    model = bc.load_model("yu2022_ofatumumab")
    label = bc.load_regimen("ofatumumab_rms")
    patients = bc.sample_population(model, n_subjects, seed=1)
    counts = bc.simulate(model, label, patients, until=until)

    print(label)
    print(f"\n{model.name} ({model.citation}, {model.status}), {n_subjects} patients, {until}")
    print("  week   5 %  median  95 %  [cells/uL]   at or below 10   at or below 40")
    for week in (0, 1, 2, 4, 8, 12, 26, 52, 104):
        if week * 7 > counts.time[-1]:
            break
        now = counts.bcell.sel(time=week * 7)
        low, median, high = now.quantile([0.05, 0.5, 0.95]).values
        shares = [float((now <= level).mean()) for level in (10, 40)]
        print(f"  {week:4d} {low:6.1f} {median:6.1f} {high:7.1f}" + " " * 14
              + "".join(f"{share:14.1%}" for share in shares))  # fmt: skip

    # The trials depleted more patients by day 28: the published spread is wider than theirs.
    figure = bc.plot.trajectories(counts, below=[10, 40])
    if out:
        figure.savefig(Path(out) / "01_label_in_1000_patients.png", dpi=150)


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
