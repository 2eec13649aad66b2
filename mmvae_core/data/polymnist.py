"""PolyMNIST: five modalities that show one digit, each by another hand on another photograph.

The data set of the multimodal VAE literature. It is read from the original archive, or made in
the same way from MNIST and any folder of photographs, with two to eight modalities:

1. for every modality and digit, a random permutation of that digit's images, so that the
   modalities of a sample share the digit and nothing else;
2. a random crop of the modality's photograph;
3. the colours inverted where MNIST, thresholded at 128, has the digit.

In the archive, ``MMNIST/{train,test}/m{0..4}/{index}.{digit}.png``, the index counts within a
digit: a sample is known by index and digit together. Samples are ordered by these numbers and
not as the file system lists them, for then the modalities would no longer belong together.

Reading 350,000 files or drawing them takes a while, so the tensors are kept, one file a modality,
in a cache folder. Five modalities take 0.8 GB of memory.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from mmvae_core.arguments import Count, Seed, arguments
from mmvae_core.data.backgrounds import (
    MAX_MODALITIES,
    check_modalities,
    generator,
    invert,
    random_crops,
)
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.data.files import ROOT_VARIABLE, cached, data_root, fingerprint, picture, retrieve
from mmvae_core.data.mnist import MNIST, IdxSource, mnist
from mmvae_core.files import regular

__all__ = ["ARCHIVE_URL", "polymnist"]

ARCHIVE_URL = "https://zenodo.org/records/4899160/files/PolyMNIST.zip"
ARCHIVE_FOLDERS = ("MMNIST", "PolyMNIST/MMNIST", "PolyMNIST", "")  # below the data root
ARCHIVE_FILE = "PolyMNIST.zip"
MEMBER = re.compile(r"(?:^|/)(train|test)/m(\d+)/(\d+)\.(\d)\.(?:png|jpe?g)$", re.IGNORECASE)
SPLITS = ("train", "test")
UNREADABLE = (  # what reading a damaged or locked zip file raises
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError
)  # fmt: skip
MOST_BYTES = 1 << 20  # of a picture of 28 x 28 pixels, a file in the archive
THRESHOLD = 128  # MNIST's grey above it is digit
SIZE = 28  # pixels across
SIZES = (28, 14, 7)  # that pictures can be shrunk to
RECIPE = 1  # to be raised when the same inputs come to give other tensors
PHOTOGRAPHS = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
TENSORS = ("train", "train_label", "test", "test_label")

# One modality: a key that names all that determines it, and the function that makes it.
Modality: TypeAlias = tuple[str, Callable[[], dict[str, Tensor]]]
# A file of the archive: its sample (index, digit), its name, and what changes when it changes.
Member: TypeAlias = tuple[tuple[int, int], str, object]


@arguments
def polymnist(
    root: str | Path | None = None,
    modalities: Count = 5,
    seed: Seed = 0,
    *,
    source: str = "auto",
    backgrounds: str | Path | None = None,
    image_size: Count = SIZE,
    train_size: Count | None = None,
    test_size: Count | None = None,
    download: bool = False,
    cache: str | Path | None = None,
    mnist_source: IdxSource = MNIST,
    archive_url: str = ARCHIVE_URL,
    archive_checksum: str | None = None,
) -> tuple[MultimodalDataset, MultimodalDataset]:
    """PolyMNIST's training and test set, from the archive or made from MNIST and photographs.

    Args:
        root: the data folder; ``MMVAE_DATA`` where not given.
        modalities: M, from 2 to 8; the archive has five. The first ones are the same whatever
            their number.
        seed: determines pairing and crops where the set is made.
        source: ``"archive"``, ``"mnist"`` (made), or ``"auto"``: made where ``backgrounds`` is
            given, else the archive where it is found, else made where the root has the folder
            ``backgrounds/``, else, with ``download``, the archive.
        backgrounds: a folder of photographs, taken in the order of their names, the first for
            m0; ``backgrounds/`` below the root where not given.
        image_size: 28, or 14 or 7: pictures are then the means of 2 x 2 or 4 x 4 pixels.
        train_size, test_size: how many samples, drawn at random with ``seed``; None for all.
        download: fetch what is missing: the archive, or MNIST where the set is made.
        cache: where the tensors are kept; ``cache/`` below the root where not given.
        mnist_source: MNIST's origin and checksums.
        archive_url: the archive's address.
        archive_checksum: ``"sha256:..."`` or ``"md5:..."`` of the archive, verified after the
            download where it is given. This package does not know the published checksum for
            certain and so has no default; the archive's page lists it.

    Returns:
        Two data sets of ``[N, 3, image_size, image_size]`` pictures with their digits as labels.

    Raises:
        FileNotFoundError: the files are not there; the message says how to get them.
        ValueError: an argument is out of range, or the files are not what they should be.

    Source: Sutter, Daunhawer and Vogt, "Generalized Multimodal ELBO", 2021 (arXiv 2105.02470).
    Their reader takes the files as the file system lists them.
    """
    check_modalities(modalities)
    if image_size not in SIZES:
        raise ValueError(f"image_size must be one of {SIZES}; got {image_size}")
    if source not in ("auto", "archive", "mnist"):
        raise ValueError(f"source must be 'auto', 'archive' or 'mnist'; got {source!r}")
    folder = data_root(root)
    photo_folder = folder / "backgrounds" if backgrounds is None else Path(backgrounds).expanduser()
    if source == "auto":
        given = backgrounds is not None
        made = given or (_archive(folder) is None and photo_folder.is_dir())
        source = "mnist" if made else "archive"
    if source == "archive":
        archive = _archive(folder)
        if archive is None:
            archive = _fetched_archive(folder, download, archive_url, archive_checksum)
        parts = _from_archive(archive, modalities)
    else:
        photos = photographs(photo_folder, modalities)
        parts = _from_mnist(photos, seed, folder, download, mnist_source)
    cache = folder / "cache" if cache is None else Path(cache).expanduser()
    tensors = [
        cached(cache / f"polymnist-m{m}-{key[:16]}.safetensors", key, TENSORS, build)
        for m, (key, build) in enumerate(parts)
    ]
    train, test = (
        _chosen(
            MultimodalDataset(
                x=tuple(view[split] for view in tensors),
                label=tensors[0][f"{split}_label"],
                name=f"polymnist {split}",
            ),
            size, image_size, seed,
        )
        for split, size in zip(SPLITS, (train_size, test_size), strict=True)
    )  # fmt: skip
    return train, test


def _chosen(
    data: MultimodalDataset, size: int | None, image_size: int, seed: int
) -> MultimodalDataset:
    """``size`` random samples of the data, shrunk to ``image_size``."""
    if size is not None:
        if not 1 <= size <= len(data):
            raise ValueError(f"{data.name} has {len(data)} samples; {size} were asked for")
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        data = data.subset(order[:size])
    if image_size < SIZE:
        factor = SIZE // image_size
        views = [avg_pool2d(view.float(), factor).round().to(torch.uint8) for view in data.x]
        data = replace(data, x=tuple(views))
    return data


def photographs(folder: Path, count: int) -> list[Path]:
    """The first ``count`` pictures of a folder, in the order of their names.

    Raises ``ValueError`` where the folder holds fewer or one is no plain file,
    ``FileNotFoundError`` where there is none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}. Put {count} photographs of your own in it, one a "
            "modality, or name another folder with backgrounds="
        )
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTOGRAPHS)
    if len(found) < count:
        raise ValueError(
            f"{count} modalities need {count} photographs in {folder}; found {len(found)}. Add "
            f"some ({', '.join(sorted(PHOTOGRAPHS))}) or ask for fewer modalities"
        )
    # One that cannot be read is refused: to leave it out would make another data set.
    return [regular(path) for path in found[:count]]


def _from_mnist(
    photos: list[Path], seed: int, root: Path, download: bool, source: IdxSource
) -> list[Modality]:
    """Every modality as PolyMNIST makes it, from its photograph and its own random stream."""
    generator(seed)  # refuses a bad seed before anything is read
    originals = lru_cache(maxsize=1)(partial(mnist, root, download=download, source=source))
    parts: list[Modality] = []
    for m, photo in enumerate(photos):
        content = hashlib.sha256(regular(photo).read_bytes()).hexdigest()
        key = fingerprint(["made", RECIPE, m, seed, content, sorted(source.md5.items())])
        parts.append((key, partial(_made, m, photo, seed, originals)))
    return parts


def _made(m: int, photo: Path, seed: int, originals: Callable) -> dict[str, Tensor]:
    background = torch.from_numpy(picture(photo.read_bytes(), str(photo))).permute(2, 0, 1)
    if min(background.shape[1:]) < SIZE:
        raise ValueError(
            f"{photo} must measure at least {SIZE} x {SIZE} pixels to crop from; "
            f"got {background.shape[1]} x {background.shape[2]}. Take a larger one"
        )
    tensors = {}
    for part, (split, (images, label)) in enumerate(zip(SPLITS, originals(), strict=True)):
        rng = generator(seed, part, m)
        writer = torch.empty_like(label)
        for digit in label.unique():
            members = (label == digit).nonzero().flatten()
            writer[members] = members[torch.from_numpy(rng.permutation(len(members)))]
        ink = images[writer] > THRESHOLD
        tensors[split] = invert(random_crops(background, images.shape[-1], len(label), rng), ink)
        tensors[f"{split}_label"] = label
    return tensors


def _archive(root: Path) -> Path | None:
    """The unpacked archive's folder, or the archive, or None where there is neither."""
    for folder in ARCHIVE_FOLDERS:
        if (root / folder / "train" / "m0").is_dir():
            return root / folder
    return root / ARCHIVE_FILE if (root / ARCHIVE_FILE).is_file() else None


def _fetched_archive(root: Path, download: bool, url: str, checksum: str | None) -> Path:
    if not download:
        raise FileNotFoundError(
            f"{root} must have the folder {ARCHIVE_FOLDERS[0]}/train/m0/ or the file "
            f"{ARCHIVE_FILE}, and has neither. Three ways: "
            f"download=True fetches the archive from {url}; put it there yourself; or make the "
            "set from MNIST with source='mnist' and backgrounds=FOLDER of photographs. Another "
            f"root is named with root= or {ROOT_VARIABLE}"
        )
    return retrieve(url, root / ARCHIVE_FILE, checksum=checksum, check=_check_archive)


def _check_archive(path: Path) -> None:
    """Refuse a download that is no archive: a page that says why there is none, for example."""
    if not _listing(path):
        raise ValueError(f"{path} holds no pictures train/m0/INDEX.DIGIT.png")


def _from_archive(archive: Path, modalities: int) -> list[Modality]:
    """Every modality as the archive has it, its samples ordered by index and digit."""
    listing = _listing(archive)
    available = {m for _, m in listing}
    if not available.issuperset(range(modalities)):
        raise ValueError(
            f"{archive} has the modalities {sorted(available)}, {modalities} were asked for and "
            "must be there. Ask for fewer, or make the set (2 to "
            f"{MAX_MODALITIES}) with source='mnist' and backgrounds=FOLDER of photographs"
        )
    for split in SPLITS:
        first = [sample for sample, _, _ in listing.get((split, 0), [])]
        for m in range(modalities):
            samples = [sample for sample, _, _ in listing.get((split, m), [])]
            if not samples:
                raise ValueError(
                    f"{archive} has no pictures {split}/m{m}/INDEX.DIGIT.png, and needs some. "
                    f"Unpack {ARCHIVE_FILE} again"
                )
            for (sample, name, _), (after, other, _) in pairwise(listing[split, m]):
                if sample == after:
                    raise ValueError(
                        f"{archive} has the sample (index, digit) {sample} of {split}/m{m} twice: "
                        f"{name} and {other}. Remove the copy"
                    )
            if samples != first:
                odd = sorted(set(samples) ^ set(first))[:3]
                raise ValueError(
                    f"all modalities must hold the same samples; {split}/m0 has {len(first)} and "
                    f"{split}/m{m} has {len(samples)}. Only one of the two has the (index, digit) "
                    f"{odd}. Unpack {ARCHIVE_FILE} again"
                )
    parts: list[Modality] = []
    for m in range(modalities):
        members = {split: listing[split, m] for split in SPLITS}
        parts.append((fingerprint(["archive", RECIPE, members]), partial(_read, archive, members)))
    return parts


def _listing(archive: Path) -> dict[tuple[str, int], list[Member]]:
    """The pictures by split and modality, in the order of their numbers: as text 10 would come
    before 9, and the file system keeps no order at all."""
    listing: dict[tuple[str, int], list[Member]] = {}
    for name, stamp in _files(archive):
        if match := MEMBER.search(name.replace("\\", "/")):  # as some programs write it
            split, m, index, digit = match.groups()
            listing.setdefault((split.lower(), int(m)), []).append(
                ((int(index), int(digit)), name, stamp)
            )
    return {part: sorted(members) for part, members in listing.items()}


def _files(archive: Path) -> Iterator[tuple[str, object]]:
    """Every file of the archive, packed or not, and what changes when it changes."""
    if archive.is_file():
        with _opened(archive) as file:
            yield from ((info.filename, (info.file_size, info.CRC)) for info in file.infolist())
        return
    for folder in (f"{split}/m{m}" for split in SPLITS for m in range(MAX_MODALITIES)):
        for entry in os.scandir(archive / folder) if (archive / folder).is_dir() else ():
            if entry.is_file():
                stat = entry.stat()
                yield f"{folder}/{entry.name}", (stat.st_size, stat.st_mtime_ns)


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """The zip file; whatever it turns out to lack is said with its name."""
    try:
        with zipfile.ZipFile(archive) as file:
            yield file
    except UNREADABLE as error:
        raise ValueError(
            f"{archive} is no complete zip file of pictures, as it must be ({error}); delete it "
            "and fetch it again"
        ) from error


def _read(archive: Path, members: dict[str, list[Member]]) -> dict[str, Tensor]:
    if not archive.is_file():
        return _decoded(archive, lambda name: (archive / name).read_bytes(), members)
    with _opened(archive) as file:
        return _decoded(archive, partial(_member, file), members)


def _member(file: zipfile.ZipFile, name: str) -> bytes:
    if (size := file.getinfo(name).file_size) > MOST_BYTES:
        raise ValueError(
            f"{name} in {file.filename} must be a picture of at most {MOST_BYTES} bytes; it says "
            f"that it has {size}. Fetch the archive again"
        )
    return file.read(name)


def _decoded(
    archive: Path, read: Callable[[str], bytes], members: dict[str, list[Member]]
) -> dict[str, Tensor]:
    tensors = {}
    for split, rows in members.items():
        pictures = np.empty((len(rows), 3, SIZE, SIZE), dtype=np.uint8)
        for row, (_, name, _) in enumerate(rows):
            pixels = picture(read(name), f"{archive}/{name}")
            if pixels.shape != (SIZE, SIZE, 3):
                raise ValueError(
                    f"{archive}/{name} must measure {SIZE} x {SIZE} pixels; "
                    f"got {pixels.shape[0]} x {pixels.shape[1]}. Unpack {ARCHIVE_FILE} again"
                )
            pictures[row] = pixels.transpose(2, 0, 1)
        tensors[split] = torch.from_numpy(pictures)
        tensors[f"{split}_label"] = torch.tensor([digit for (_, digit), _, _ in rows])
    return tensors
