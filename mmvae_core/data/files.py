"""Files of data sets: where they lie, how they are fetched, and how made tensors are kept.

Nothing here executes what it reads: tensors are kept as safetensors, never pickled.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmvae_core.files import digest_of, regular, replacing

__all__ = ["ROOT_VARIABLE", "cached", "data_root", "fingerprint", "picture", "retrieve"]

ROOT_VARIABLE = "MMVAE_DATA"
# What is opened as a picture, whatever a file is called. Formats that Pillow hands to another
# program (EPS to Ghostscript) are not among them.
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
DEEP = ("I", "F")  # how the modes of Pillow begin that have more than 8 bits a channel


def data_root(root: str | Path | None) -> Path:
    """The folder of the data files: ``root``, or the environment variable ``MMVAE_DATA``.

    Raises ``ValueError`` where neither is given.
    """
    root = root or os.environ.get(ROOT_VARIABLE)
    if not root:
        raise ValueError(
            "this data set lies in a folder of yours, and none was named: pass root=FOLDER or set "
            f"the environment variable {ROOT_VARIABLE}=FOLDER. The files need not be there yet: "
            "download=True fetches them into it. (data.load('digits') needs no files)"
        )
    return Path(root).expanduser()


def picture(content: bytes, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of 8 bits a channel, in red, green and blue.

    Args:
        content: of the file.
        name: of the file, for messages.

    Raises:
        ValueError: it is no picture in one of the formats that are read, is damaged, or has more
            than 8 bits a channel.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
            if opened.mode.startswith(DEEP):
                raise ValueError(f"mode {opened.mode!r}, more than 8 bits a channel")
            return np.array(opened.convert("RGB"))
    except (Exception, Image.DecompressionBombWarning) as error:  # Pillow raises of every kind
        raise ValueError(
            f"{name} is no readable picture ({error}); it must be one of {', '.join(FORMATS)} "
            "with 8 bits a channel. Replace it"
        ) from error


def retrieve(
    url: str,
    path: Path,
    checksum: str | None = None,
    check: Callable[[Path], object] | None = None,
) -> Path:
    """Download a file; it appears under its name only when it is complete and has been checked.

    Args:
        url: where it is.
        path: where it is to be.
        checksum: ``"sha256:..."`` or ``"md5:..."`` of the file, or None where it is not known.
        check: called with the path of the file before it gets its name; raises to refuse it.

    Raises:
        ValueError: the file does not have the checksum, or ``check`` refused it.
        OSError: it could not be fetched.
    """
    import pooch  # needed for downloads only

    try:
        with replacing(path) as part:
            pooch.retrieve(
                url,
                known_hash=checksum,
                fname=part.name,
                path=part.parent,
                progressbar=importlib.util.find_spec("tqdm") is not None,
            )
            if check is not None:
                check(part)
    except (OSError, ValueError) as error:
        error.add_note(f"Nothing was kept. You can also fetch {url} by hand and save it as {path}")
        raise
    return path


def fingerprint(parts: Iterable[object]) -> str:
    """A SHA-256 of the parts, for a key that names all that determines a content."""
    return hashlib.sha256("\n".join(repr(part) for part in parts).encode()).hexdigest()


def cached(
    path: Path, key: str, names: Iterable[str], build: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The tensors kept in a file, or, where it does not hold them, built and kept there.

    The file is written under another name and then renamed, so that a reader never sees half of
    it. A file that is truncated, or that was made for another key, is rebuilt with a warning; a
    folder that cannot be written to costs a warning, too.

    Args:
        path: the file, in the safetensors format.
        key: names all that determines the content; it is stored in the file.
        names: the tensors that the file has to hold.
        build: makes them.
    """
    if path.exists():
        try:
            return _read(path, key, names)
        except (SafetensorError, OSError, ValueError) as error:
            warnings.warn(f"{path} cannot be used and is built again: {error}", stacklevel=2)
    tensors = build()
    try:
        with replacing(path) as part:
            save_file(tensors, part, metadata={"key": key, "sha256": digest_of(tensors)})
    except (OSError, SafetensorError) as error:
        warnings.warn(
            f"the data could not be kept in {path.parent} and will be built again next time: "
            f"{error}. Name a folder that can be written to with cache=FOLDER",
            stacklevel=2,
        )
    return tensors


def _read(path: Path, key: str, names: Iterable[str]) -> dict[str, Tensor]:
    with safe_open(regular(path), framework="pt") as file:
        noted = file.metadata() or {}
        if noted.get("key") != key:
            raise ValueError("it was made for other data or other options")
        if set(file.keys()) != set(names):
            raise ValueError(f"it should hold {sorted(names)} and holds {sorted(file.keys())}")
        tensors = {name: file.get_tensor(name) for name in names}
    if noted.get("sha256") != digest_of(tensors):
        raise ValueError("it does not hold what was written to it")
    return tensors
