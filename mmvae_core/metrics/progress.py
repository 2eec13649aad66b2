"""A bar for metrics that take a while, shown on demand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tqdm.auto import tqdm

__all__ = ["watched"]

T = TypeVar("T")


def watched(things: Iterable[T], what: str, total: int, show: bool) -> Iterable[T]:
    """The same things with a bar, which shows nothing unless it is to and leaves nothing behind."""
    return tqdm(things, desc=what, total=total, unit="batch", disable=not show, leave=False)
