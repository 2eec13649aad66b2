"""What the parameters of a notebook may be: one call below their cell, one sentence where not.

    check(globals(), smoke=flag, rho=number(-0.95, 0.95), which=choice("m0", "m1") | nothing)

stops a notebook before anything is computed, where a value cannot be used or a name is misspelt:
in the cell of parameters, or in the one that papermill puts below it.
"""

from __future__ import annotations

import ast
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

__all__ = [
    "Rule", "check", "choice", "data_folder", "devices", "flag", "folder", "folder_with", "listed",
    "nothing", "number", "options_of", "sampled_subsets", "seconds", "seed", "whole",
]  # fmt: skip

Number = float | int
ROOT_VARIABLE = "MMVAE_DATA"
LONGEST = 240  # bytes that a name of a folder may have, and still get an ending

# --- check ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """What a value must be, in words, and whether one is. ``a | b`` takes what either takes."""

    words: str
    holds: Callable[[Any], bool]

    def __or__(self, other: Rule) -> Rule:
        either = (self, other)
        return Rule(f"{self.words}, or {other.words}", lambda v: any(r.holds(v) for r in either))


def check(values: Mapping[str, Any], /, **rules: Rule | Callable[[], Rule]) -> None:
    """Stop where a parameter of a notebook is not what its rule says.

    Args:
        values: the notebook's ``globals()``.
        rules: all parameters; a function returns the rule where it depends on those before.

    Raises:
        ValueError: a name that is none of these, or a value that its rule does not take.
    """
    for name in _told(values.get("In", ())):
        if name not in rules:
            near = get_close_matches(name, rules, 1)
            meant = f"; did you mean {near[0]}?" if near else "."
            raise ValueError(
                f"{name} is no parameter of this notebook{meant} It has {', '.join(rules)}"
            )
    for name, made in rules.items():
        if name not in values:
            raise ValueError(f"{name} is not set: run the cell of parameters first")
        rule = made if isinstance(made, Rule) else made()
        why = _refused(rule, values[name])
        if why is not None:
            raise ValueError(
                f"{name} must be {rule.words}; got {_SHORT.repr(values[name])}{why}. Change it "
                f"in the cell of parameters (papermill: -p {name} VALUE) and run again"
            )


def _refused(rule: Rule, value: Any) -> str | None:
    """None where the rule takes the value; else why it does not, where it says so."""
    try:
        return None if rule.holds(value) else ""
    except Exception as error:  # of whatever was tried with the value
        return f" ({' '.join(str(error).split())[:300]})"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120


def _told(history: Iterable[str]) -> list[str]:
    """The names set by the last cell of parameters and by papermill's, below it."""
    own = injected = ""
    for cell in history:
        if cell.startswith("# Parameters\n"):  # papermill's
            injected = cell
        elif re.search(r"^smoke *=", cell, re.MULTILINE):
            own, injected = cell, ""
    with suppress(SyntaxError):
        nodes = ast.walk(ast.parse(f"{own}\n{injected}"))
        return [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return []


# --- numbers, words, lists ------------------------------------------------------------------------

nothing = Rule("None", lambda value: value is None)
flag = Rule("True or False", lambda value: isinstance(value, bool))


def number(low: Number, high: Number, when: str = "") -> Rule:
    """A number from ``low`` to ``high``, both included; ``when`` says on what that depends.

    >>> number(0, 0.95).words
    'a number from 0 to 0.95'
    """
    return Rule(
        f"a number from {low} to {high}{when}",
        lambda value: type(value) in (int, float) and low <= value <= high,
    )


def whole(low: int, high: int, when: str = "") -> Rule:
    """A whole number from ``low`` to ``high``, both included.

    >>> [whole(2, 5).holds(value) for value in (2, 5, 6, 3.0, True, "3")]
    [True, True, False, False, False, False]
    """
    span = f"a whole number from {low} to {high}" if low < high else f"{low}"
    return Rule(f"{span}{when}", lambda value: type(value) is int and low <= value <= high)


seed = whole(0, 2**32 - 1)  # what every generator takes
seconds = number(1, 86_400)  # a day at most


def choice(*known: str) -> Rule:
    """One of the ``known`` words."""
    return Rule(f"one of {', '.join(known)}", lambda v: isinstance(v, str) and v in known)


def listed(rule: Rule, count: int | None = None) -> Rule:
    """A list or tuple, of ``count`` values or of one and more, each of which ``rule`` takes.

    >>> listed(number(0, 1), 2).words
    'a list of 2, each a number from 0 to 1'
    """
    return Rule(
        f"a list of {count or 'one or more'}, each {rule.words}",
        lambda values: (
            isinstance(values, (list, tuple))
            and (len(values) == count if count else len(values) > 0)
            and all(map(rule.holds, values))
        ),
    )


# --- folders, devices, recipes --------------------------------------------------------------------


def _path(value: Any) -> Path | None:
    """The path that a value stands for, ``~`` at its beginning included; None where it is none."""
    with suppress(RuntimeError):  # ~name, of nobody's
        if isinstance(value, (str, Path)) and str(value).strip() and "\0" not in str(value):
            return Path(value).expanduser()
    return None


def _writable(value: Any) -> bool:
    path = _path(value)
    if path is None:
        return False
    with suppress(OSError):
        for here in (path, *path.parents):
            if os.path.lexists(here):
                with TemporaryDirectory(dir=here):
                    return len(path.name.encode()) < LONGEST
    return False


folder = Rule("a folder that is there or can be made, and written to", _writable)


def folder_with(*names: str) -> Rule:
    """A folder that is there and holds these files."""
    holding = f" and holds {' and '.join(names)}" if names else ""

    def holds(value: Any) -> bool:
        path = _path(value)
        with suppress(OSError):
            return path is not None and path.is_dir() and all((path / n).is_file() for n in names)
        return False

    return Rule(f"a folder that is there{holding}", holds)


def data_folder(data: str) -> Rule:
    """Where a data set's files are; None where it reads none or the environment names it."""
    if data == "polymnist" and not os.environ.get(ROOT_VARIABLE):
        there = folder_with()
        return Rule(f"{there.words}, for {data} (or set the variable {ROOT_VARIABLE})", there.holds)
    return folder_with() | nothing


def devices() -> Rule:
    """``auto``, or a device that this machine has."""
    import torch

    names = ["auto", "cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return choice(*names)


def options_of(recipe: str, modalities: int) -> Rule:
    """A dictionary of options that the recipe takes."""
    from mmvae_core import recipes

    names = recipes.option_names(recipe)

    def holds(options: Any) -> bool:
        if not isinstance(options, dict) or not set(options) <= set(names):
            return False
        return bool(recipes.build(recipe, modalities, **options))

    told = ", ".join(names) or "{}, for it has none"
    return Rule(f"a dictionary of options of {recipe}: {told}", holds)


def sampled_subsets(recipe: str, modalities: int, options: Mapping[str, Any]) -> Rule:
    """How many subsets stand for all; None, for all, where the recipe needs them."""
    from mmvae_core import recipes

    if recipes.build(recipe, modalities, **options).reduce.needs_all:
        return Rule(f"None with {recipe}, which needs all of them", nothing.holds)
    return whole(1, 2**modalities - 1) | nothing
