"""What the CoDE-VAE paper reports, as data, to stand beside what is measured here.

Two kinds of things, and nothing else: numbers that are printed in its tables or text, copied by
hand from there (:data:`TABLES`), and what its text says about figures whose numbers it does not
print, each as one sentence in our words (:data:`CLAIMS`). No number was read off a picture. They
lie in ``published.toml``.

Source: Mancisidor, Jenssen, Yu and Kampffmeyer, "Aggregation of Dependent Expert Distributions in
Multimodal Variational Autoencoders", ICML 2025 (arXiv 2505.01134).

>>> TABLES["table_12"].values["rho = 0.9"]["95 %"].mean
53.68
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["ARXIV", "CLAIMS", "SETTING", "TABLES", "Claim", "Printed", "PublishedTable"]


class Printed(NamedTuple):
    """A printed number, and the standard deviation over runs printed with it, if any."""

    mean: float
    sd: float | None = None


@dataclass(frozen=True)
class PublishedTable:
    """Numbers of one table or passage.

    Args:
        where: in the paper.
        data: the data set they are of.
        about: what they are.
        values: row by row, ``{row: {column: Printed}}``.
    """

    where: str
    data: str
    about: str
    values: Mapping[str, Mapping[str, Printed]]


@dataclass(frozen=True)
class Claim:
    """What the paper's text says of a figure or table, in our words."""

    key: str
    where: str
    text: str


def _table(columns: list[str], rows: dict[str, list[Any]], **about: str) -> PublishedTable:
    cells = {
        row: [Printed(*(v if isinstance(v, list) else [v])) for v in rows[row]] for row in rows
    }
    values = {row: dict(zip(columns, cells[row], strict=True)) for row in rows}
    return PublishedTable(**about, values=values)


_PRINTED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
ARXIV: str = _PRINTED["arxiv"]
SETTING: Mapping[str, str] = _PRINTED["setting"]
TABLES: Mapping[str, PublishedTable] = {
    key: _table(**table) for key, table in _PRINTED["tables"].items()
}
CLAIMS: Mapping[str, Claim] = {
    key: Claim(key, **claim) for key, claim in _PRINTED["claims"].items()
}
