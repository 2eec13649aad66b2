"""What the CoDE-VAE paper reports: ``published.toml``, read.

>>> TABLES["table_12"].values["rho = 0.9"]["95 %"].mean
53.68
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["CLAIMS", "TABLES", "Claim", "Printed", "PublishedTable"]


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


def _table(where: str, data: str, about: str, columns: list, rows: dict) -> PublishedTable:
    cells = {
        name: [Printed(*cell) if isinstance(cell, list) else Printed(cell) for cell in row]
        for name, row in rows.items()
    }
    values = {name: dict(zip(columns, row, strict=True)) for name, row in cells.items()}
    return PublishedTable(where, data, about, values)


_STORED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
TABLES: Mapping[str, PublishedTable] = {n: _table(**t) for n, t in _STORED["tables"].items()}
CLAIMS: Mapping[str, Claim] = {key: Claim(key, **claim) for key, claim in _STORED["claims"].items()}
