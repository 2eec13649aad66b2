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

from mmvae_core.files import check_form, read_text

__all__ = ["CLAIMS", "TABLES", "Claim", "Printed", "PublishedTable", "read_published"]


FORM = {
    "tables": {
        ...: {
            "where": str, "data": str, "about": str, "columns": [str],
            "rows": {...: [(float, [float])]},
        }
    },
    "claims": {...: {"where": str, "text": str}},
}  # fmt: skip


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


def read_published(
    path: str | Path,
) -> tuple[Mapping[str, PublishedTable], Mapping[str, Claim]]:
    """Tables and claims of a file like ``published.toml``.

    Raises ``ValueError`` where it is damaged or of another form; the message says where.
    """
    text = read_text(path)
    try:
        stored = tomllib.loads(text)
        check_form(stored, FORM, f"{path}:")
        tables = {name: _table(**table) for name, table in stored["tables"].items()}
        claims = {key: Claim(key, **claim) for key, claim in stored["claims"].items()}
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must be a file in TOML with tables and claims, and is not ({error}). Copy it "
            "again from where it came"
        ) from error
    return tables, claims


TABLES, CLAIMS = read_published(Path(__file__).with_suffix(".toml"))
