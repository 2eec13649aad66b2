"""Files that are old or new, never half; that are files; and what tells their tensors apart."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["digest_of", "regular", "replacing"]


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
        ValueError: there is something else.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    kind = "a folder" if path.is_dir() else "a pipe or device"
    raise ValueError(f"{path} must be a plain file; it is {kind}")


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
    path.parent.mkdir(parents=True, exist_ok=True)
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
