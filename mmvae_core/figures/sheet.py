"""A table of text that a notebook shows as a table, and print and terminals as aligned lines."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Sheet"]


@dataclass(frozen=True)
class Sheet:
    """Rows of text under a header; a cell may be long.

    Args:
        header: names of the columns.
        rows: cells, as many in each row as there are names.
        widths: of the columns in letters, where it is printed as text.

    >>> print(repr(Sheet(["a", "b"], [["one", "two words"]], [4, 5])))
    a    b
    one  two
         words
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    widths: Sequence[int]

    def __post_init__(self) -> None:
        for row in (*self.rows, self.widths):
            if len(row) != len(self.header):
                raise ValueError(f"{len(self.header)} cells are needed, one a column; got {row}")

    def __repr__(self) -> str:
        lines = []
        for row in (self.header, *self.rows):
            cells = [
                textwrap.wrap(cell, width) or [""]
                for cell, width in zip(row, self.widths, strict=True)
            ]
            for i in range(max(map(len, cells))):
                parts = [
                    (cell[i] if i < len(cell) else "").ljust(width)
                    for cell, width in zip(cells, self.widths, strict=True)
                ]
                lines.append(" ".join(parts).rstrip())
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        style = "text-align:left;vertical-align:top"
        head = "".join(f'<th style="{style}">{html.escape(name)}</th>' for name in self.header)
        body = "".join(
            "<tr>" + "".join(f'<td style="{style}">{html.escape(c)}</td>' for c in row) + "</tr>"
            for row in self.rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        # Once is enough in a stored notebook; print() gives the lines.
        return {"text/html": table, "text/plain": f"a table of {len(self.rows)} rows"}
