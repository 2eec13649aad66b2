"""The door for arguments: a call is held to its function's annotations before anything is done.

``@arguments`` on a public function or constructor refuses what does not fit, naming function and
argument, what was expected and what came. What fits comes in one form: NumPy's numbers as plain
ones, paths with ``~`` expanded. Ranges stand in the annotations (:data:`Count`, :data:`Seed`, ...);
what values have to do with each other is the function's own to say.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import numpy as np
from torch import Tensor, nn

__all__ = [
    "ArgumentError",
    "Count",
    "Natural",
    "NotNegative",
    "Positive",
    "Seed",
    "Share",
    "arguments",
]

P = ParamSpec("P")
R = TypeVar("R")
LONG = 80  # characters of a value that a message shows


class ArgumentError(ValueError, TypeError):
    """An argument is not what the function takes; raised before anything was done."""


@dataclass(frozen=True)
class Within:
    """A range of numbers; ``open``: without its lower end."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def __contains__(self, value: Any) -> bool:
        return (
            -math.inf < value < math.inf
            and self.low <= value <= self.high
            and not (self.open and value == self.low)
        )

    def __str__(self) -> str:
        most = f", at most {self.high}" if self.high < math.inf else ""
        return f", {'above' if self.open else 'at least'} {self.low}{most}"


Count: TypeAlias = Annotated[int, Within(1)]
Natural: TypeAlias = Annotated[int, Within(0)]
Seed: TypeAlias = Annotated[int, Within(0, 2**63 - 1)]
Share: TypeAlias = Annotated[float, Within(0, 1)]
Positive: TypeAlias = Annotated[float, Within(0, open=True)]
NotNegative: TypeAlias = Annotated[float, Within(0)]


class _Unfit(Exception):
    """The value does not fit the hint."""


def arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function or a dataclass: calls are checked against annotations, see the module.

    Raises:
        ArgumentError: from the decorated function; a ``ValueError`` and a ``TypeError``.

    >>> @arguments
    ... def draw(count: Count, seed: Seed = 0) -> int:
    ...     return count
    >>> draw(0)
    Traceback (most recent call last):
    mmvae_core.arguments.ArgumentError: draw: count must be a whole number, at least 1; got 0
    """
    if isinstance(function, type):
        function.__init__ = arguments(function.__init__)  # type: ignore[misc]
        return function
    signature = inspect.signature(function)
    name = function.__qualname__.removesuffix(".__init__")

    @functools.cache
    def hints() -> dict[str, Any]:
        return {
            parameter.name: _evaluated(parameter.annotation, function)
            for parameter in signature.parameters.values()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{name} cannot be called like this: {error}") from None
        for key, value in bound.arguments.items():
            hint = hints().get(key, Any)
            try:
                bound.arguments[key] = _admitted(value, hint)
            except _Unfit:
                raise ArgumentError(
                    f"{name}: {key} must be {_words(hint)}; got {_shown(value)}"
                ) from None
        return function(*bound.args, **bound.kwargs)

    return checked


def _evaluated(annotation: Any, function: Callable[..., Any]) -> Any:
    """An annotation as the type that it names; Any where it cannot be found."""
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, inspect.unwrap(function).__globals__)
    except NameError:  # imported for type checkers alone
        return Any


def _admitted(value: Any, hint: Any) -> Any:
    """``value`` in the form that the function gets, or :class:`_Unfit`."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if Path in parts and isinstance(value, str):
            return Path(_kept(value, bool(value))).expanduser()
        for part in parts:
            try:
                return _admitted(value, part)
            except _Unfit:
                continue
        raise _Unfit
    if origin is Annotated:
        plain = _admitted(value, parts[0])
        return _kept(plain, all(plain in part for part in parts[1:] if isinstance(part, Within)))
    if origin is Literal:
        return _kept(value, value in parts)
    if hint in (int, float):
        kind = Integral if hint is int else Real
        _kept(value, isinstance(value, kind) and not isinstance(value, bool | np.bool_))
        _kept(value, value == value)  # no number is NaN
        return value if type(value) in (int, float) else hint(value)
    if hint is bool and isinstance(value, np.bool_):
        return bool(value)
    if hint is Path:
        return Path(_kept(value, isinstance(value, Path))).expanduser()
    if hint is str:
        return _kept(value, isinstance(value, str))
    if getattr(hint, "array_type", None) is Tensor:
        return _kept(value, _fits_array(value, hint))
    if origin is not None and isinstance(origin, type):
        return _collection(value, origin, parts)
    if isinstance(hint, type) and not getattr(hint, "_is_protocol", False):
        inner = getattr(value, "_orig_mod", value)  # of a compiled model
        return _kept(value, isinstance(inner, hint))
    return value


def _kept(value: Any, fits: bool) -> Any:
    if not fits:
        raise _Unfit
    return value


def _collection(value: Any, origin: type, parts: tuple[Any, ...]) -> Any:
    """Of what has parts: a function is callable, the values of a mapping and the items of a
    sequence fit; arrays are sequences, text is none."""
    if not issubclass(origin, Iterable):
        return _kept(value, origin is type or callable(value))
    if isinstance(value, np.ndarray | Tensor):
        value = value.tolist()
    kinds = (list, origin) if origin is tuple else origin
    _kept(value, isinstance(value, kinds) and not isinstance(value, str | bytes))
    _kept(value, isinstance(value, Mapping) == issubclass(origin, Mapping))
    if isinstance(value, Mapping):
        items: Iterable[Any] = value.values()
    else:  # an iterator is left to the function
        items = value if isinstance(value, list | tuple) else ()
    hints: Iterable[Any] = [parts[-1] if isinstance(value, Mapping) else parts[0]] if parts else []
    if origin is tuple and parts and parts[1:] != (...,):
        hints = parts
        _kept(value, len(parts) == len(value))
    for item, hint in zip(items, itertools.cycle(hints), strict=False):
        _admitted(item, hint)
    return value


def _fits_array(value: Any, hint: Any) -> bool:
    if not isinstance(value, Tensor):
        return False
    dims = [dim for dim in hint.dim_str.split() if not dim.startswith("*") and dim != "..."]
    more = len(dims) < len(hint.dim_str.split())
    known = isinstance(hint.dtypes, tuple)
    return (not known or str(value.dtype).removeprefix("torch.") in hint.dtypes) and (
        value.ndim == len(dims) or (more and value.ndim > len(dims))
    )


def _words(hint: Any) -> str:
    """What a hint asks for."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        words = [_words(part) for part in parts if part is not str or Path not in parts]
        return ", or ".join(dict.fromkeys(words))
    if origin is Annotated:
        kind = "a finite number" if parts[0] is float else _words(parts[0])
        return kind + "".join(str(part) for part in parts[1:])
    if origin is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    plain = {int: "a whole number", float: "a number", str: "text", bool: "True or False",
             Path: "a path", type(None): "None", None: "None", Tensor: "a tensor"}  # fmt: skip
    if isinstance(hint, type | None) and hint in plain:
        return plain[hint]
    if getattr(hint, "array_type", None) is Tensor:
        kind = hint.__name__.partition("[")[0].lower()
        shape = ", ".join(hint.dim_str.split())
        return f"a tensor [{shape}]" if kind == "shaped" else f"a {kind} tensor [{shape}]"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a mapping to {_words(parts[-1])}"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return f"a sequence of {_words(parts[0])} each" if parts else "a sequence"
    return "a function" if callable(origin) else f"a {getattr(hint, '__name__', hint)}"


def _shown(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"a tensor, {dtype} of shape {list(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array, {value.dtype} of shape {list(value.shape)}"
    if isinstance(value, nn.Module):
        return f"a {type(value).__name__}"
    text = repr(value)
    text = text if len(text) <= LONG else f"{text[:LONG]}..."
    return text if type(value).__module__ == "builtins" else f"{text} ({type(value).__name__})"
