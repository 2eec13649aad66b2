"""MNIST in its original IDX format: read, checked, and on request downloaded.

An IDX file is a header of big-endian numbers and then the values: two zero bytes, one byte for
the type (8 = uint8), one for the number of dimensions, four bytes for the size of each.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import UInt8
from torch import Tensor

from mmvae_core.arguments import arguments
from mmvae_core.data.files import ROOT_VARIABLE, data_root, retrieve
from mmvae_core.files import regular

__all__ = ["MNIST", "IdxSource", "mnist", "read_idx"]

IDX_UINT8 = 8  # the type byte of unsigned bytes
MOST_BYTES = 1 << 30  # of a file, unpacked; MNIST's largest has 47 million
FOLDERS = ("", "mnist", "MNIST/raw")  # below the data root; the last is torchvision's
FILES = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)

ImagesAndLabels: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class IdxSource:
    """Where MNIST's four files come from, and how to know that they are the right ones.

    Args:
        url: the folder that holds the four files, compressed, ``.gz``.
        md5: the MD5 of each file's content, uncompressed; so it holds whoever compressed it.
    """

    url: str
    md5: Mapping[str, str]


MNIST = IdxSource(
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    md5={
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
)


@arguments
def mnist(
    root: str | Path | None = None, *, download: bool = False, source: IdxSource = MNIST
) -> tuple[ImagesAndLabels, ImagesAndLabels]:
    """MNIST's training and test set, each as images ``[N, 28, 28]`` and labels ``[N]``.

    Args:
        root: the data folder; ``MMVAE_DATA`` where not given. The files may be plain or ``.gz``,
            and lie in it, in its ``mnist/`` or in torchvision's ``MNIST/raw/``.
        download: fetch the files that are missing into ``mnist/``, 11 MB.
        source: the files' origin and checksums; another one for data in the same format.

    Returns:
        uint8 images and int64 labels, for training and for testing.

    Raises:
        FileNotFoundError: a file is missing; the message says how to get it.
        ValueError: a file is not what it should be: wrong checksum, format or length.

    Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", 1998.
    """
    folder = data_root(root)
    parts = []
    for images_name, labels_name in FILES:
        images, labels = (
            _read(_find(folder, name, download, source), source.md5[name])
            for name in (images_name, labels_name)
        )
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise ValueError(
                f"{images_name} and {labels_name} must hold N pictures and N labels; got shapes "
                f"{list(images.shape)} and {list(labels.shape)}"
            )
        parts.append((images, labels.long()))
    return parts[0], parts[1]


@arguments
def read_idx(path: str | Path) -> UInt8[Tensor, "..."]:
    """The array in an IDX file of unsigned bytes, plain or compressed with gzip.

    Raises ``ValueError`` where the file is not in that format or is cut short.
    """
    return _read(Path(path).expanduser())


def _read(path: Path, md5: str | None = None) -> UInt8[Tensor, "..."]:
    """The array of a file, refused where it has another checksum than ``md5``.

    No more is unpacked than the file says that it holds: a few bytes of gzip can become gigabytes.
    """
    regular(path)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"  # how every gzip file begins
        with gzip.open(path) if packed else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0" + bytes([IDX_UINT8]) or not head[3]:
                raise ValueError(
                    f"{path} must begin with the bytes 0, 0, {IDX_UINT8} and the number of "
                    "dimensions, as an IDX file of unsigned bytes does; "
                    f"got {list(head)}. Is it another file?"
                )
            sizes = file.read(4 * head[3])
            if len(sizes) < 4 * head[3]:
                raise EOFError("the sizes of its dimensions are missing")
            shape = [int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4)]
            whole = len(head) + len(sizes) + math.prod(shape)
            if math.prod(shape) > MOST_BYTES:
                raise ValueError(
                    f"{path} must be smaller: it says that it holds an array of shape {shape}; at "
                    f"most {MOST_BYTES} bytes are read. Is it another file?"
                )
            content = head + sizes + file.read(math.prod(shape) + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path} must be a whole IDX file, and is cut short or damaged ({error}). Fetch it "
            "again"
        ) from error
    if len(content) != whole:
        got = "more" if len(content) > whole else len(content)
        raise ValueError(
            f"{path} must have {whole} bytes for an array of shape {shape}; got {got}. The "
            "download may have broken off: fetch it again"
        )
    checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 not in (None, checksum):
        raise ValueError(
            f"the content of {path} must have the MD5 {md5}; got {checksum}. It is damaged or "
            "another data set: delete it and load again with download=True, or describe your own "
            "files with source=IdxSource(...)"
        )
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return values[whole - math.prod(shape) :].reshape(shape)


def _find(root: Path, name: str, download: bool, source: IdxSource) -> Path:
    for folder in FOLDERS:
        for file in (name, f"{name}.gz"):
            if (root / folder / file).is_file():
                return root / folder / file
    if not download:
        raise FileNotFoundError(
            f"{name}(.gz) is not in {root} (nor in its {', '.join(FOLDERS[1:])}). Pass "
            f"download=True to fetch it, put the four files of {source.url} there, or name "
            f"another folder with root= or {ROOT_VARIABLE}"
        )
    return retrieve(
        source.url.rstrip("/") + f"/{name}.gz",
        root / FOLDERS[1] / f"{name}.gz",
        check=lambda path: _read(path, source.md5[name]),
    )
