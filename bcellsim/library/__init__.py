"""The library: published models, drugs and regimens, each one TOML file."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from bcellsim.library.build import build_model
from bcellsim.library.combine import combine_models
from bcellsim.library.schema import DrugFile, ModelFile, RegimenFile
from bcellsim.library.tables import located, read_table
from bcellsim.model import Drug, Model
from bcellsim.names import unknown
from bcellsim.regimen import Regimen

__all__ = [
    "combine",
    "drug_names",
    "list_models",
    "list_regimens",
    "load_drug",
    "load_model",
    "load_regimen",
    "model_names",
    "reference",
    "regimen_names",
]

_FOLDER = Path(__file__).parent


def _names(kind: str) -> list[str]:
    return sorted(path.stem for path in (_FOLDER / kind).glob("*.toml"))


def model_names() -> list[str]:
    """Return the names of the models in the library."""
    return _names("models")


def regimen_names() -> list[str]:
    """Return the names of the regimens in the library."""
    return _names("regimens")


def drug_names() -> list[str]:
    """Return the names of the drugs in the library."""
    return _names("drugs")


@cache
def _references() -> dict[str, dict[str, str]]:
    text = (_FOLDER / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"@\w+\{(\w+),\n(.*?)\n\}", text, flags=re.DOTALL)
    return {
        key: dict(re.findall(r"(\w+)\s*=\s*\{(.*?)\},?\s*$", body, re.M)) for key, body in entries
    }


def reference(key: str) -> dict[str, str]:
    """Return the fields of an entry of `references.bib`.

    Raises
    ------
    ValueError
        If there is no such entry.
    """
    if key not in _references():
        raise ValueError(unknown("citation", key, _references()))
    return _references()[key]


def load_drug(name: str) -> Drug:
    """Return a drug of the library; raise ValueError naming the nearest one."""
    if name not in drug_names():
        raise ValueError(unknown("drug", name, drug_names()))
    return _drug(read_table(_FOLDER / "drugs" / f"{name}.toml", DrugFile))


def _drug(file):
    """Return the drug that a model file names, or describes itself."""
    if isinstance(file, str):
        return load_drug(file)
    return Drug(
        file.name, file.target, tuple(file.routes), file.molar_mass, file.source, file.notes
    )


def load_model(name: str | Path | Model) -> Model:
    """Load a published model, or one's own model file.

    Parameters
    ----------
    name : str or Path
        A name of `list_models` or the path of a ``.toml`` file, with ``:variant`` behind it where
        the file has variants; or a combination of such, ``"pk+response"``, with ``~`` behind the PK
        the model whose variability it borrows (see `combine`).

    Returns
    -------
    Model

    Raises
    ------
    ValueError
        If the name is unknown, or something in the file is wrong (file, line, key): its name, too,
        where another model of the library has it.
    FileNotFoundError
        If the path does not exist.

    Examples
    --------
    >>> load_model("yu2022_ofatumumab").structure.name
    'tmdd_qss'
    """
    if isinstance(name, Model):
        return name
    own = re.fullmatch(r"(.*\.toml)(?::([^:/\\]+))?", str(name))
    if not (own and Path(own[1]).is_file()) and re.search(r"[+~]", str(name)):
        return _combination(str(name))
    if own:
        path, variant = Path(own[1]), own[2] or ""
        if not path.is_file():
            raise FileNotFoundError(f"no model file {path}")
    else:
        stem, _, variant = str(name).partition(":")
        if stem not in model_names():
            raise ValueError(unknown("model", stem, model_names()))
        path = _FOLDER / "models" / f"{stem}.toml"
    return _load_file(path, variant)


def _combination(name):
    """Return the combination that a name such as ``pk~variability+response`` stands for."""
    rest, _, response = name.partition("+")
    pk, _, variability = rest.partition("~")
    if not pk or name.endswith(("+", "~")) or "~" in response:
        raise ValueError(
            f'"{name}" is not a combination: "pk+response", "pk~variability" or '
            '"pk~variability+response" is wanted'
        )
    return combine(pk, response or None, pk_variability=variability or None)


def combine(
    pk: str | Path | Model,
    response: str | Path | Model | None = None,
    *,
    pk_variability: str | Path | Model | None = None,
    name: str | None = None,
) -> Model:
    """Combine the PK of one model with the B-cell response of another: an unpublished model.

    The PK block comes whole from one source and the response block whole from one source, each with
    its own variability, covariate effects and residual error; parameters are never mixed. The
    structure is the registered one that has this PK and this response. The card says which part
    comes from where. Wherever a model is named, ``"pk+response"`` and ``"pk~variability+response"``
    mean the same.

    Parameters
    ----------
    pk : Model, str or Path
        Model whose PK is taken.
    response : Model, str or Path, optional
        Model whose B-cell response is taken, such as one's own file with a ``turnover`` structure
        and ``missing = ["pk"]``; without it the PK stands alone.
    pk_variability : Model, str or Path, optional
        Model from which a PK without published variability borrows it, on request only.
    name : str, optional
        Name of the combination; made of the names by default.

    Returns
    -------
    Model
        Of status ``unpublished combination``.

    Raises
    ------
    ValueError
        If no structure has this PK and this response, names clash, or nothing can be borrowed.

    Examples
    --------
    >>> combine("gibiansky2021_ocrelizumab", "chen2024_rituximab").status
    'unpublished combination'
    """
    given = (pk, response, pk_variability)
    return combine_models(*(None if x is None else load_model(x) for x in given), name)


def _load_file(path: Path, variant: str) -> Model:
    file = read_table(path, ModelFile)
    with located(path, "name"):
        if file.name != path.stem:
            raise ValueError(f'"{file.name}" is not the name of the file, "{path.stem}"')
        _check_of_ones_own(path)
    with located(path, "drug"):
        drug = _drug(file.drug)
        if not isinstance(file.drug, str) and drug.name in drug_names():
            raise ValueError(f'drug "{drug.name}" is in the library; write drug = "{drug.name}"')
    with located(path, "citation"):
        doi = reference(file.citation).get("doi", "") if file.citation else ""
    return build_model(file, drug, doi, variant, path)


def _check_of_ones_own(path):
    """Raise ValueError if another file goes by the name of a published model."""
    published = _FOLDER / "models" / path.name
    if path.stem in model_names() and path.read_bytes() != published.read_bytes():
        raise ValueError(
            f'"{path.stem}" is a model of the library, and this file differs from it; name yours '
            "otherwise"
        )


def list_models():
    """Return the models: name, drug, disease, structure, outputs, status, citation."""
    import pandas as pd

    return pd.DataFrame([load_model(name).summary() for name in model_names()])


def load_regimen(name: str | Regimen) -> Regimen:
    """Return a regimen of the library by name, or parse a shorthand.

    Parameters
    ----------
    name : str
        ``"ofatumumab_rms"``, or ``"20 mg sc at 0 d, 7 d, 14 d; 20 mg sc q4w from 4 w"``.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(name, Regimen):
        return name
    if name in regimen_names():
        file = read_table(_FOLDER / "regimens" / f"{name}.toml", RegimenFile)
        regimen = Regimen.parse(file.shorthand, label=name, drug=file.drug, source=file.source)
        return replace(regimen, notes=file.notes)
    if re.fullmatch(r"\s*[A-Za-z_]\w*\s*", name):
        raise ValueError(unknown("regimen", name.strip(), regimen_names()))
    return Regimen.parse(name)


def list_regimens():
    """Return the regimens: name, title, drug, shorthand, source."""
    import pandas as pd

    files = [
        read_table(_FOLDER / "regimens" / f"{name}.toml", RegimenFile) for name in regimen_names()
    ]
    return pd.DataFrame([file.model_dump() for file in files])
