"""The options of a fit, which `fit` and `redose` share."""

from __future__ import annotations

from typing import Annotated

import typer

Prior = Annotated[
    str,
    typer.Option(
        "--prior", help='"model" for MAP, "none" for least squares or maximum likelihood.'
    ),
]
Fix = Annotated[
    list[str] | None,
    typer.Option("--fix", help='Hold a parameter, as in "emax" or "b0=225"; repeatable.'),
]
Start = Annotated[
    list[str] | None,
    typer.Option("--start", help='Start of the search, as in "kout=0.02"; repeatable.'),
]
Bound = Annotated[
    list[str] | None,
    typer.Option(
        "--bound", help='Bounds of a parameter, as in "kout=0.005:0.1" or "b0=50:"; repeatable.'
    ),
]
Tie = Annotated[
    list[str] | None,
    typer.Option("--tie", help='A parameter tied to others, as in "kout=0.5*kel"; repeatable.'),
]
Error = Annotated[
    list[str] | None,
    typer.Option(
        "--error",
        help="Residual error: log-normal, additive, proportional, combined1, combined2, poisson, "
        'negative-binomial or published, with its SDs as in "combined2; add_sd=2; '
        'prop_sd=estimate"; "conc=proportional" for one endpoint; repeatable.',
    ),
]
Sigma = Annotated[
    list[str] | None,
    typer.Option(
        "--sigma",
        help='SD of the error (of the log of the counts), or "estimate"; "conc=0.2" for one '
        "endpoint; repeatable.",
    ),
]
Volume = Annotated[
    float | None, typer.Option("--volume", help="Counted volume [uL], for errors of cells counted.")
]
Censored = Annotated[
    str,
    typer.Option(
        "--censored",
        help="Censored rows: M3 (by their probability); M1, M5, M6 and M7 are biased, for "
        "comparison.",
    ),
]
Starts = Annotated[int, typer.Option("--starts", min=1, help="Searches from different points.")]
Subject = Annotated[str | None, typer.Option("--subject", help="Which ID to fit.")]
CovariateRule = Annotated[
    str, typer.Option("--covariate-rule", help="locf, nocb or linear, between its records.")
]
Method = Annotated[str, typer.Option("--method", help="How to draw: importance, laplace or emcee.")]
Profile = Annotated[
    list[str] | None,
    typer.Option(
        "--profile", help='A parameter whose profile likelihood to give, or "all"; repeatable.'
    ),
]
Draws = Annotated[
    int | None, typer.Option("--draws", min=1, help="Draws of the parameters; none by default.")
]
