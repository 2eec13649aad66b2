"""Files: old or new, never half; plain, whole and of the form that is wanted; and digests."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import platform
import re
import sys
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["check_form", "check_zip", "digest_of", "read_json", "read_text", "regular", "replacing"]

MOST_CODE = 1 << 24  # bytes
AGAIN = "Copy it again from where it came, or make it anew"


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A SHA-256 of names, types, shapes and values, whatever the order and the device."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        plain = value.detach().cpu().contiguous().flatten().view(torch.uint8)  # bfloat16 too
        digest.update(plain.numpy().data)
    return digest.hexdigest()


def regular(path: str | Path) -> Path:
    """``path``, if it is a plain file: a folder cannot be read, and a pipe may never answer.

    Raises:
        FileNotFoundError: there is nothing.
        PermissionError: it may not be read.
        ValueError: there is something else.
    """
    path = Path(path).expanduser()
    if path.is_file():
        if not os.access(path, os.R_OK):
            raise PermissionError(f"{path} cannot be read: its permissions do not let you")
        return path
    if not path.exists():
        raise FileNotFoundError(f"{path} must be a file; there is none")
    kind = "a folder" if path.is_dir() else "a pipe or device"
    raise ValueError(f"{path} must be a plain file; it is {kind}")


def read_text(path: str | Path) -> str:
    """The text of a plain file in UTF-8; ``ValueError`` with its name where it is none."""
    path = regular(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a text in UTF-8, and is not ({error}). {AGAIN}") from None


def read_json(path: str | Path, form: Any = ...) -> Any:
    """The content of a file in JSON, of the form that is wanted (:func:`check_form`).

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is damaged, or of another form; the message says where.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be a file in JSON, and is not ({error}). {AGAIN}") from error
    check_form(content, form, f"{path}:")
    return content


def check_form(content: Any, form: Any, of: str) -> None:
    """Raise ``ValueError`` where plain data do not have the form that is wanted.

    Args:
        form: a type (``float`` takes whole numbers too, and nothing that is not finite), a tuple of
            forms of which one is enough, ``None``, ``...`` for anything; ``[form]`` for a list;
            ``{name: form}`` for what has these names at least; ``{...: form}`` for any names.
        of: what has the content, for messages.

    >>> check_form({"rows": [{"s": 1}, {"s": "?"}]}, {"rows": [{"s": float}]}, "a:")
    Traceback (most recent call last):
    ValueError: a: ['rows'][1]['s'] must be a finite number; got '?'
    """
    problem = _misfit(content, form, "")
    if problem is not None:
        place, wanted, got = problem
        raise ValueError(f"{of} {place or 'it'} must be {wanted}; got {got!r:.80}")


def _misfit(content: Any, form: Any, place: str) -> tuple[str, str, Any] | None:
    """Where the content is of another form, what it must be there, and what it is."""
    if form is ...:
        return None
    if isinstance(form, tuple):
        found = [_misfit(content, one, place) for one in form]
        if None in found:
            return None
        return place, " or ".join(problem[1] for problem in found if problem), content
    inner: list[tuple[Any, Any, str]] = []
    if isinstance(form, dict):
        if not isinstance(content, dict):
            return place, "names with their values", content
        if lacking := [name for name in form if name is not ... and name not in content]:
            return place, f"something with {', '.join(lacking)}", sorted(map(str, content))
        names = content if ... in form else form
        inner = [(content[name], form.get(..., form.get(name)), f"[{name!r}]") for name in names]
    elif isinstance(form, list):
        if not isinstance(content, list):
            return place, "a list", content
        inner = [(value, form[0], f"[{n}]") for n, value in enumerate(content)]
    elif not _is_of(content, form):
        return place, NAMES.get(form, f"a {getattr(form, '__name__', form)}"), content
    problems = (_misfit(value, one, place + step) for value, one, step in inner)
    return next((problem for problem in problems if problem), None)


NAMES = {
    None: "nothing", Real: "a number", dict: "names with their values", str: "a text",
    int: "a whole number", float: "a finite number",
}  # fmt: skip


def _is_of(value: Any, form: Any) -> bool:
    if form is None or value is None:
        return form is value
    if form is bool or isinstance(value, bool):
        return form is bool and isinstance(value, bool)
    if form is float:
        return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
    return isinstance(value, form)


def check_zip(path: str | Path) -> None:
    """Raise ``zipfile.BadZipFile`` where a part of a file that torch wrote has another checksum.

    torch does not compare them. It packs code and no tensors: what would unpack to much is refused.
    """
    with zipfile.ZipFile(regular(path)) as file:
        for part in file.infolist():
            if part.compress_type != zipfile.ZIP_STORED and part.file_size > MOST_CODE:
                raise zipfile.BadZipFile(f"its part {part.filename} is packed, as torch packs none")
        if (damaged := file.testzip()) is not None:
            raise zipfile.BadZipFile(f"the checksum of its part {damaged} is another")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A neighbour of ``path`` to write to, which takes its name at the end, in one step.

    The bytes reach the disk first, and a missing folder is made. Where anything fails on the way,
    ``path`` stays as it was and nothing is left beside it; what a process that was killed left
    there is removed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "note.txt") as partial:
    ...         _ = partial.write_text("whole")
    ...     print([(file.name, file.read_text()) for file in Path(folder).iterdir()])
    [('note.txt', 'whole')]
    """
    path = Path(path).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(
            f"{path} cannot be written: {path.parent} must be a folder, and is something else"
        ) from error
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
        if _is_abandoned(left):
            left.unlink(missing_ok=True)
    # Several machines may share the folder, and several threads a process.
    owner = f"{uuid.uuid4().hex[:8]}.{os.getpid()}@{_machine()}"
    partial = path.with_name(f"{path.name}.{owner}.partial")
    try:
        yield partial
        with open(partial, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _is_abandoned(partial: Path) -> bool:
    """Whether the process that wrote it is gone, as far as can be told from here."""
    owner = re.search(r"\.(\d+)@([^@]+)\.partial$", partial.name)
    if os.name != "posix" or owner is None or owner[2] != _machine():
        return False
    try:
        os.kill(int(owner[1]), 0)  # asks only
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _machine() -> str:
    """A name that no other machine has that shares a folder with this one."""
    return f"{platform.node()}-{uuid.getnode():x}"
