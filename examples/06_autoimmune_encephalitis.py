"""Ofatumumab in autoimmune encephalitis: four doses, the monthly label, or doses by the count?"""

import sys
from pathlib import Path

import bcellsim as bc

MODEL = "yu2022_ofatumumab"
FOUR = (
    "20 mg sc at 0 w, 1 w, 6 w, 12 w"  # a series of 18 refractory patients (ofatumumab_ae_ruijin)
)


def main(n_subjects=500, until="2 y", out=None):
    # No published model here is of autoimmune encephalitis. Yu 2022 is a model of relapsing
    # multiple sclerosis: what follows holds as far as B cells answer alike in both diseases.
    patients = bc.sample_population(MODEL, n_subjects, seed=1)

    # The four doses alone; the label; and after the four doses 20 mg more whenever the count,
    # measured every four weeks with the model's error, is 10 cells/uL or more.
    four = bc.load_regimen("ofatumumab_ae_ruijin")
    label = bc.load_regimen("ofatumumab_rms")
    guided = bc.DosingRule(
        visit_every="4 w", first_visit="16 w", dose="20 mg sc", at_or_above=10, lloq=1,
        loading=FOUR, label="count-guided",
    )  # fmt: skip
    plans = [four, label, guided]
    table = bc.explore(
        MODEL, plans, patients, below=[10, 40], induction="12 w", until=until, reference=label
    )
    print(f"{n_subjects} virtual patients of {MODEL} (relapsing MS), from week 12 to {until}")
    for level, rows in table.groupby("threshold"):
        print(f"\n  at or below {level:g} cells/uL      throughout     of the time   doses     mg"
              "   throughout, less the label")  # fmt: skip
        for row in rows.to_dict("records"):
            same = row["regimen"] == label.name
            ends = [100 * row[f"suppressed_throughout_difference{end}"]
                    for end in ("", "_low", "_high")]  # fmt: skip
            print(f"  {row['regimen']:24}{row['suppressed_throughout']:10.1%} ± "
                  f"{row['suppressed_throughout_mc_se']:.1%}{row['suppressed_fraction_mean']:12.1%}"
                  f"{row['n_doses']:9.1f}{row['cumulative_dose']:7.0f}"
                  + ("" if same else "{:14.1f} % ({:.1f} to {:.1f})".format(*ends)))  # fmt: skip
    print(
        "\nFour doses are a short course: the count comes back. The rule doses once it is back:\n"
        "it spares doses, and gives up being suppressed throughout, as it waits for a rise."
    )
    if out:
        courses = [
            bc.simulate(MODEL, [four, label], patients, until=until, every="4 d"),
            bc.simulate_rule(MODEL, guided, patients, until=until, every="4 d"),
        ]
        figure = bc.plot.ribbons(courses, below=[10, 40])
        bc.plot.save(figure, Path(out) / "06_autoimmune_encephalitis.png")


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
