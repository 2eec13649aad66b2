"""Damaged files of every kind that is read, made from a seed, for :mod:`fuzz`.

A scene is a small folder with one file that will be damaged, and a call that reads it. What a call
returns is plain data, so that two results can be compared. Right is what the whole file gives; of a
format without a checksum also what its bytes now say, read by another reader than the library's;
and where nothing ties a file to its place, what another whole file there gives.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import sys
import tempfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save as as_safetensors
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "notebooks"))  # the course

from course import noisy_readings
from course.comparison import kept, published, states
from course.comparison.results import Results
from fuzz import Fault
from models import dense, noisy_pictures, seeded

from mmvae_core import data, metrics, recipes, sweeps
from mmvae_core.checkpoints import load_checkpoint, load_model
from mmvae_core.data.files import cached, picture
from mmvae_core.data.polymnist import photographs
from mmvae_core.files import digest_of, read_json
from mmvae_core.sweeps import Run, work
from mmvae_core.sweeps.table import SCHEMA, read_run
from mmvae_core.training import TrainConfig, fit

__all__ = ["faults"]

Files: TypeAlias = Mapping[str, bytes]
Draw: TypeAlias = np.random.Generator
Put: TypeAlias = Callable[[Path], object]


@dataclass(frozen=True)
class Scene:
    """A folder, and the call that reads the file in it which is to be damaged.

    Args:
        target: the file, by its name in the folder.
        files: all of them.
        use: the call, given the folder; returns plain data.
        names: beside the file's own, what a message may call it.
        others: whole files of the same kind, of other content.
        tied: whether the file belongs to its place, so that another whole file there is wrong.
        wrong: contents in the right container.
        says: another reader, of formats without a checksum; what it raises counts as no answer.
        in_place: whether a folder, a pipe or nothing may stand in the file's place.
        optional: whether the call does without the file.
        text: whether it is in JSON.
    """

    target: str
    files: Files
    use: Callable[[Path], Any]
    names: tuple[str, ...] = ()
    others: tuple[bytes, ...] = ()
    tied: bool = True
    wrong: Files = field(default_factory=dict)
    says: Callable[[bytes], Any] | None = None
    in_place: bool = True
    optional: bool = False
    text: bool = False

    @property
    def whole(self) -> bytes:
        """The undamaged content."""
        return self.files[self.target]

    def run(self, put: Put) -> Any:
        """What the call returns after ``put`` was done to the file."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            for name, content in self.files.items():
                write(folder / name, content)
            put(folder / self.target)
            return self.use(folder)


def write(path: Path, content: bytes) -> None:
    """Write a file, in a folder that need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def read_back(folder: Path) -> dict[str, bytes]:
    """All files of a folder, without the locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("lock")
    }


def made(*steps: Callable[[Path], object]) -> dict[str, bytes]:
    """The files that the steps leave in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        for step in steps:
            step(Path(folder))
        return read_back(Path(folder))


def torch_saved(content: Any) -> bytes:
    """What ``torch.save`` writes."""
    torch.save(content, file := io.BytesIO())
    return file.getvalue()


# Damages -----------------------------------------------------------------------------------------

PAGE = b"<!DOCTYPE html>\n<html><head><title>429 Too Many Requests</title></head></html>\n"


def flipped(rng: Draw, whole: bytes) -> bytes:
    """One bit is another."""
    content = bytearray(whole)
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    return bytes(content)


def run_of(rng: Draw, whole: bytes, *, zeros: bool) -> bytes:
    """A run of bytes is zero or noise."""
    start = int(rng.integers(len(whole)))
    length = min(int(rng.integers(1, 600)), len(whole) - start)
    return whole[:start] + (bytes(length) if zeros else rng.bytes(length)) + whole[start + length :]


DAMAGES: dict[str, Callable[[Draw, bytes], bytes]] = {
    "a flipped bit": flipped,
    "a flipped bit more": flipped,
    "zeroed bytes": partial(run_of, zeros=True),
    "random bytes": partial(run_of, zeros=False),
    "cut short": lambda rng, whole: whole[: rng.integers(len(whole))],
    "empty": lambda rng, whole: b"",
    "half written": lambda rng, whole: whole[: len(whole) // 2] + bytes(len(whole) // 2),
    "bytes appended": lambda rng, whole: whole + rng.bytes(int(rng.integers(1, 100))),
    "an HTML page": lambda rng, whole: PAGE,
    "a text": lambda rng, whole: "Grüße, not found\n".encode("latin-1"),
    "a JSON list": lambda rng, whole: b"[1, 2]",
    "a JSON null": lambda rng, whole: b"null",
    "an npz": lambda rng, whole: npz({"x": np.zeros(2)}),
    "a zip with other names": lambda rng, whole: zipped({"README": b"moved"}),
}

PLACES: dict[str, Put] = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to(path.with_name("nowhere")),
}
if os.geteuid():  # the superuser may read everything
    PLACES["no permission"] = lambda path: (path.write_bytes(b"x"), path.chmod(0))


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    np.savez_compressed(file := io.BytesIO(), **arrays)
    return file.getvalue()


def zipped(files: Files, kind: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def other_json(rng: Draw, whole: bytes) -> tuple[str, bytes]:
    """A JSON of another shape: a value somewhere in it is gone, or of another type."""
    if rng.random() < 0.15:
        return "JSON 100,000 lists deep", b"[" * 100_000 + b"]" * 100_000
    content = json.loads(whole)
    keys = sorted(content)
    key = keys[rng.integers(len(keys))]
    place: Any = content
    while isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.7:
        place = place[key]
        inside = sorted(place) if isinstance(place, dict) else range(len(place))
        key = inside[rng.integers(len(inside))]
    if rng.random() < 0.4:
        del place[key]
        return f"JSON without {key!r}", json.dumps(content).encode()
    values: list[Any] = [None, "word", [], {}, True, [[1]], {"a": None}, 10**400, float("nan")]
    value = values[rng.integers(len(values))]
    place[key] = value
    return f"JSON with {key!r} {value!r:.20}", json.dumps(content).encode()


def damage(rng: Draw, scene: Scene) -> tuple[str, Put, bytes | None]:
    """One damage: what it is, what it does to the file, and what is in the file then."""
    kinds = [*DAMAGES, *(PLACES if scene.in_place else ())]
    kinds += ["another file"] * min(2, len(scene.others)) + ["wrong"] * min(6, len(scene.wrong))
    kinds += ["other JSON"] * 8 * scene.text
    kind = kinds[rng.integers(len(kinds))]
    if kind in PLACES:
        return kind, lambda path: (path.unlink(), PLACES[kind](path)), None
    if kind == "another file":
        content = scene.others[rng.integers(len(scene.others))]
    elif kind == "wrong":
        kind = list(scene.wrong)[rng.integers(len(scene.wrong))]
        content = scene.wrong[kind]
    elif kind == "other JSON":
        kind, content = other_json(rng, scene.whole)
    else:
        content = DAMAGES[kind](rng, scene.whole)
    return kind, lambda path: path.write_bytes(content), content


@cache
def result_of(kind: str, content: bytes | None = None) -> Any:
    """What a whole file gives: the scene's own, or another in its place."""
    scene = SCENES[kind]()
    return scene.run(lambda path: None if content is None else path.write_bytes(content))


def is_right(kind: str, what: str, content: bytes | None, result: Any) -> bool:
    """Whether the result is right in spite of the damage."""
    scene = SCENES[kind]()
    if result == result_of(kind):
        return True
    if what == "a link to nothing" and scene.optional:
        return result == scene.run(Path.unlink)
    if content in scene.others and not scene.tied:
        return result == result_of(kind, content)
    with suppress(Exception):
        return scene.says is not None and content is not None and result == scene.says(content)
    return False


def faults(seed: int, count: int) -> Iterator[Fault]:
    """``count`` damaged files, as many of every kind, in an order of the seed."""
    rng = np.random.default_rng(seed)
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += [list(SCENES)[n] for n in rng.permutation(len(SCENES))]
    for kind in kinds[:count]:
        scene = SCENES[kind]()
        what, put, content = damage(rng, scene)
        yield Fault(
            kind=kind, what=f"{scene.target}: {what}", run=partial(scene.run, put),
            names=(Path(scene.target).name, *scene.names),
            right=partial(is_right, kind, what, content),
        )  # fmt: skip


# Scenes: checkpoints and caches ------------------------------------------------------------------

SCENES: dict[str, Callable[[], Scene]] = {}


def scene(kind: str) -> Callable[[Callable[[], Scene]], Callable[[], Scene]]:
    """Register a scene, made once."""

    def register(make: Callable[[], Scene]) -> Callable[[], Scene]:
        SCENES[kind] = cache(make)
        return SCENES[kind]

    return register


CONFIG = TrainConfig(epochs=1, batch_size=8)


def trained(folder: Path, seed: int = 0, epochs: int = 1) -> str:
    """A model of two views of noise, trained in a folder or gone on with there."""
    torch.manual_seed(seed)
    model = dense("code_vae", {}, 2)
    pictures = noisy_pictures(16, 2)
    config = replace(CONFIG, epochs=epochs, seed=seed)
    fit(model, pictures, config, folder=folder, show_progress=False)
    return digest_of(model.state_dict())


@cache
def checkpoints(seed: int = 0) -> dict[str, bytes]:
    return made(partial(trained, seed=seed))


@cache
def wrong_checkpoints() -> dict[str, bytes]:
    """What torch.save can write that is no checkpoint, or not one of this model."""
    good = torch.load(io.BytesIO(checkpoints()["last.pt"]), weights_only=True)
    first = next(iter(good["model"]))
    without = {name: {k: v for k, v in good.items() if k != name} for name in good}
    changed: dict[str, Any] = {
        "a list": [1, 2],
        "a tensor": torch.zeros(3),
        "another dict": {"weights": torch.zeros(3)},
        "format 99": {**good, "format": 99},
        "a format that is a list": {**good, "format": [4]},
        "a spec that is no JSON": {**good, "spec": "no"},
        "a spec of another shape": {**good, "spec": "[1]"},
        "a spec without a recipe": {**good, "spec": "{}"},
        "a model that is a list": {**good, "model": [1]},
        "a model of words": {**good, "model": {"modality_weights": "equal"}},
        "a model that lacks a tensor": {
            **good, "model": {k: v for k, v in good["model"].items() if k != first}
        },
        "a tensor of another shape": {**good, "model": {**good["model"], first: torch.zeros(3)}},
        "a configuration that is no JSON": {**good, "config": "no"},
        "epochs that are a word": {**good, "epoch": "two"},
        "steps that are negative": {**good, "step": -3},
        "a best loss that is a word": {**good, "best": "low"},
        "sums that are a list": {**good, "sums": [1]},
        "sums of words": {**good, "sums": {"loss": "low"}},
        "another history": {**good, "history": {"losses": []}},
        "a history that is a list": {**good, "history": [1]},
        "another optimizer": {**good, "optimizer": {"state": {}}},
        "an optimizer that is a word": {**good, "optimizer": "Adam"},
        "another random state": {**good, "noise": torch.zeros(4)},
        "a random state that is a word": {**good, "rows": "seed"},
        "an origin that is no JSON": {**good, "origin": "here"},
        "a device that is a number": {**good, "device": 3},
    }  # fmt: skip
    changed |= {f"no {name}": content for name, content in without.items()}
    files = {name: torch_saved(content) for name, content in changed.items()}
    with zipfile.ZipFile(io.BytesIO(checkpoints()["last.pt"])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    part = next(name for name in parts if name.endswith("data/0"))
    bomb = {**parts, part: bytes(1 << 26)}
    files["a part that unpacks to 64 MB"] = zipped(bomb, zipfile.ZIP_DEFLATED)
    return files


def plain(content: Any) -> Any:
    """A checkpoint as plain data."""
    if isinstance(content, Tensor):
        return digest_of({"": content})
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    return [plain(value) for value in content] if isinstance(content, (list, tuple)) else content


def checkpoint_says(content: bytes) -> Any:
    """The content of a checkpoint whose parts have their checksums."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
    return plain(torch.load(io.BytesIO(content), weights_only=True))


@scene("last.pt, load_checkpoint")
def _() -> Scene:
    return Scene(
        "last.pt", checkpoints(), lambda folder: plain(load_checkpoint(folder / "last.pt")),
        others=(checkpoints(1)["last.pt"],), tied=False, wrong=wrong_checkpoints(),
        says=checkpoint_says,
    )  # fmt: skip


@scene("best.pt, load_model")
def _() -> Scene:
    def use(folder: Path) -> str:
        return digest_of(load_model(folder / "best.pt").state_dict())

    def says(content: bytes) -> str:  # what it needs of it
        saved = torch.load(io.BytesIO(content), weights_only=True)
        assert saved["spec"] == json.dumps(dense("code_vae", {}, 2).spec)
        return digest_of(saved["model"])

    return Scene(
        "best.pt", checkpoints(), use, others=(checkpoints(1)["best.pt"],), tied=False,
        wrong=wrong_checkpoints(), says=says,
    )  # fmt: skip


@scene("last.pt, fit goes on")
def _() -> Scene:
    return Scene(
        "last.pt", checkpoints(), partial(trained, epochs=2), wrong=wrong_checkpoints(),
        others=(checkpoints(1)["last.pt"], checkpoints()["best.pt"]),
    )  # fmt: skip


@scene("classifier cache, train_classifiers")
def _() -> Scene:
    def use(folder: Path, seed: int = 0) -> list[str]:
        labelled = noisy_pictures(16, 1, label=torch.arange(16) % 2)
        judges = metrics.train_classifiers(labelled, epochs=1, seed=seed, folder=folder)
        return [digest_of(judge.state_dict()) for judge in judges]

    files, others = made(use), made(partial(use, seed=1))
    (target,) = files
    return Scene(target, files, use, others=tuple(others.values()), wrong=wrong_tensors())


def wrong_tensors() -> dict[str, bytes]:
    """Whole safetensors of another content, one with a header that lies."""
    lie = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    odd = json.dumps({"x": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}).encode()
    tensors = {"x": torch.zeros(2)}
    return {
        "other tensors": as_safetensors(tensors),
        "no tensors": as_safetensors({}),
        "other metadata": as_safetensors(tensors, {"key": "k"}),
        "a header of another size": struct.pack("<Q", 1 << 62) + b"{}",
        "a shape that does not fit": struct.pack("<Q", len(lie)) + lie + bytes(64),
        "another type": struct.pack("<Q", len(odd)) + odd + bytes(4),
    }


@scene("tensor cache, cached")
def _() -> Scene:
    def use(folder: Path, key: str = "k") -> str:
        built = {"a": torch.arange(64, dtype=torch.uint8), "b": torch.ones(3)}
        path = folder / "cache" / "made.safetensors"
        return digest_of(cached(path, key, ("a", "b"), lambda: built))

    files, others = made(use), made(partial(use, key="other"))
    (target,) = files
    return Scene(target, files, use, others=tuple(others.values()), wrong=wrong_tensors())


# MNIST, PolyMNIST and pictures -------------------------------------------------------------------


def idx(array: np.ndarray, order: str = "big", kind: int = 8) -> bytes:
    sizes = b"".join(int(size).to_bytes(4, order) for size in array.shape)  # type: ignore[arg-type]
    return bytes([0, 0, kind, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@cache
def digits(seed: int = 0) -> dict[str, bytes]:
    """MNIST's four files, small."""
    rng = np.random.default_rng(seed)
    files = {}
    for split, count in (("train", 20), ("t10k", 10)):
        images = rng.choice([0, 128, 129, 255], (count, 28, 28))
        files[f"{split}-images-idx3-ubyte"] = idx(images)
        files[f"{split}-labels-idx1-ubyte"] = idx(rng.permutation(count) % 10)
    return files


def wrong_idx(whole: bytes) -> dict[str, bytes]:
    """Headers that are another file's, or do not fit."""
    array = np.frombuffer(whole, np.uint8, offset=4 + 4 * whole[3])
    return {
        "little endian": idx(array, "little"),
        "floats": idx(array, kind=13),
        "no dimensions": bytes([0, 0, 8, 0]) + whole[4:],
        "255 dimensions": bytes([0, 0, 8, 255]) + whole[4:],
        "sizes too large": whole[:4] + b"\0\xff\xff\xff" + whole[8:],
        "sizes too small": whole[:4] + b"\0\0\0\x01" + whole[8:],
        "a size of 2^32 - 1": whole[:4] + b"\xff" * 4 + whole[8:],
    }


def idx_says(content: bytes) -> list:
    """The array that plain IDX bytes hold."""
    array = np.frombuffer(content, np.uint8, offset=4 + 4 * content[3])
    assert content[:3] == b"\0\0\x08"
    assert content[3]
    return array.reshape(np.frombuffer(content, ">u4", content[3], 4)).tolist()


def gzip_says(content: bytes) -> list:
    return idx_says(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)


def idx_scene(name: str, pack: Callable[[bytes], bytes]) -> Scene:
    whole = idx(np.random.default_rng(0).integers(0, 256, (5, 6, 7)))
    wrong = {what: pack(content) for what, content in wrong_idx(whole).items()}
    wrong["what unpacks to 64 MB"] = gzip.compress(whole + bytes(1 << 26), 1)
    return Scene(
        name, {name: pack(whole)}, lambda folder: data.read_idx(folder / name).tolist(),
        others=(pack(idx(np.arange(9))),), tied=False, wrong=wrong, says=gzip_says,
    )  # fmt: skip


@scene("IDX, read_idx")
def _() -> Scene:
    return idx_scene("some-idx3-ubyte", bytes)


@scene("IDX .gz, read_idx")
def _() -> Scene:
    return idx_scene("some-idx3-ubyte.gz", partial(gzip.compress, mtime=0))


def mnist_source() -> data.IdxSource:
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in digits().items()}
    return data.IdxSource("http://nowhere.invalid", md5)


def mnist_scene(target: str, pack: Callable[[bytes], bytes], end: str) -> Scene:
    def use(folder: Path) -> str:
        parts = data.mnist(folder, source=mnist_source())
        return digest_of({f"{i}{j}": x for i, part in enumerate(parts) for j, x in enumerate(part)})

    files = {name + end: pack(content) for name, content in digits().items()}
    others = tuple(files[name] for name in files if name != target + end)
    others += (pack(digits(1)[target]),)
    wrong = {what: pack(content) for what, content in wrong_idx(digits()[target]).items()}
    return Scene(target + end, files, use, names=(target,), others=others, wrong=wrong)


@scene("IDX, mnist")
def _() -> Scene:
    return mnist_scene("train-images-idx3-ubyte", bytes, "")


@scene("IDX .gz, mnist")
def _() -> Scene:
    return mnist_scene("t10k-labels-idx1-ubyte", partial(gzip.compress, mtime=0), ".gz")


def painted(rng: Draw, size: tuple[int, ...] = (28, 28, 3)) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, size, np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    image.save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(
        ">I", zlib.crc32(name + content)
    )  # fmt: skip


def empty_png(width: int, height: int) -> bytes:
    """A PNG of any size by its header, with the pixels of one row."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(3 * min(width, 100) + 1))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@cache
def wrong_pictures(side: int = 28) -> dict[str, bytes]:
    """Pictures of another kind than usual; some can be read."""
    image = painted(np.random.default_rng(5), (side, side, 3))
    deep = np.random.default_rng(5).integers(0, 2**16, (side, side)).astype(np.uint16)
    return {
        "16 bits": encoded(Image.fromarray(deep)),
        "a palette": encoded(image.quantize(16)),
        "grey": encoded(image.convert("L")),
        "black and white": encoded(image.convert("1")),
        "transparent": encoded(image.convert("RGBA")),
        "a CMYK JPEG": encoded(image.convert("CMYK"), "JPEG"),
        "a GIF": encoded(image, "GIF"),
        "a BMP": encoded(image, "BMP"),
        "a TIFF": encoded(image, "TIFF"),
        "a TIFF of floats": encoded(image.convert("F"), "TIFF"),
        "of no width": empty_png(0, side),
        "of no height": empty_png(side, 0),
        "of 2^31 pixels": empty_png(1 << 16, 1 << 15),
        "of one pixel": encoded(image.resize((1, 1))),
        "larger": encoded(image.resize((side + 1, side))),
        "a picture with one row": empty_png(side, side),
    }


def pixels(content: bytes) -> np.ndarray:
    """A picture as Pillow decodes it; a PNG with all its checksums."""
    with Image.open(io.BytesIO(content)) as image:
        image.verify()
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode[0] not in "IF"
        return np.array(image.convert("RGB"))


def picture_scene(name: str, kind: str) -> Scene:
    rng = np.random.default_rng(3)
    return Scene(
        name, {name: encoded(painted(rng), kind)},
        lambda folder: picture((folder / name).read_bytes(), name).tolist(),
        others=(encoded(painted(rng), kind),), tied=False, wrong=wrong_pictures(),
        says=lambda content: pixels(content).tolist(), in_place=False,
    )  # fmt: skip


@scene("PNG, picture")
def _() -> Scene:
    return picture_scene("photo.png", "PNG")


@scene("JPEG, picture")
def _() -> Scene:
    return picture_scene("photo.jpeg", "JPEG")


@cache
def archive(seed: int = 0) -> dict[str, bytes]:
    """An archive's pictures."""
    rng = np.random.default_rng(seed)
    return {
        f"MMNIST/{split}/m{m}/{index}.{digit}.png": encoded(painted(rng))
        for split in ("train", "test")
        for m in range(2)
        for index, digit in ((0, 3), (0, 7), (1, 3))
    }


def read_polymnist(folder: Path, **options: Any) -> str:
    parts = data.polymnist(folder, 2, **options)
    return digest_of({
        f"{i} {j}": x for i, part in enumerate(parts) for j, x in enumerate((*part.x, part.label))
    })  # fmt: skip


@scene("PolyMNIST.zip, polymnist")
def _() -> Scene:
    files, name = archive(), "PolyMNIST.zip"
    locked = bytearray(zipped(files))
    for place in range(len(locked) - 4):  # as if it had a password
        if locked[place : place + 4] in (b"PK\x03\x04", b"PK\x01\x02"):
            locked[place + (6 if locked[place + 2] == 3 else 8)] |= 1
    first = next(iter(files))
    wrong = {
        "with a password": bytes(locked),
        "without a picture": zipped({k: v for k, v in files.items() if k != first}),
        "without a modality": zipped({k: v for k, v in files.items() if "m1" not in k}),
        "without a split": zipped({k: v for k, v in files.items() if "test" not in k}),
        "with a text for a picture": zipped({**files, first: b"no picture"}),
        "with a picture that unpacks to 64 MB": zipped(
            {**files, first: bytes(1 << 26)}, zipfile.ZIP_DEFLATED
        ),
        "empty": zipped({}),
        **{
            f"with a picture {what}": zipped({**files, first: content})
            for what, content in wrong_pictures().items()
            if what in ("16 bits", "of no width", "larger", "of 2^31 pixels")
        },
    }
    return Scene(
        name, {name: zipped(files)}, read_polymnist, others=(zipped(archive(1)),), tied=False,
        wrong=wrong,
    )  # fmt: skip


@scene("PolyMNIST unpacked, polymnist")
def _() -> Scene:
    target = "MMNIST/train/m1/0.7.png"

    def says(content: bytes) -> str:
        good = encoded(Image.fromarray(pixels(content)))
        return SCENES["PolyMNIST unpacked, polymnist"]().run(lambda path: path.write_bytes(good))

    return Scene(
        target, archive(), read_polymnist, names=("train/m1", "(0, 7)"),
        others=(encoded(painted(np.random.default_rng(8))),), tied=False, wrong=wrong_pictures(),
        says=says,
    )  # fmt: skip


@scene("photograph, polymnist")
def _() -> Scene:
    rng = np.random.default_rng(4)
    photos = {f"backgrounds/photo{m}.png": encoded(painted(rng, (30, 32, 3))) for m in range(3)}
    target = "backgrounds/photo1.png"

    def says(content: bytes) -> str:
        good = encoded(Image.fromarray(pixels(content)))
        return SCENES["photograph, polymnist"]().run(lambda path: path.write_bytes(good))

    return Scene(
        target, {**digits(), **photos}, partial(read_polymnist, mnist_source=mnist_source()),
        others=(encoded(painted(rng, (40, 40, 3))),), tied=False, wrong=wrong_pictures(30),
        says=says,
    )  # fmt: skip


@scene("photograph, photographs")
def _() -> Scene:
    photo = encoded(painted(np.random.default_rng(4)))
    target = "photo0.png"
    return Scene(
        target, {target: photo, "photo1.png": photo},
        lambda folder: [path.name for path in photographs(folder, 1)],
    )  # fmt: skip


# Sweeps ------------------------------------------------------------------------------------------

RUN = Run(
    "code_vae", modalities=2, data_options={"train_size": 64, "test_size": 10, "image_size": 10},
    model={"networks": "dense", "latent_dim": 2, "scale": "bounded"},
    training={"epochs": 1, "batch_size": 32},
)  # fmt: skip
OTHER = RUN.with_values(seed=1)
QUICK = metrics.Settings(
    draws=2, generated=8, probe_latents=40, imputation_samples=4, imputation_draws=2,
    likelihood_samples=4,
)  # fmt: skip
TABLE, OTHER_TABLE = f"table/{RUN.key}.parquet", f"table/{OTHER.key}.parquet"
PLACE = str(work.folder_of("", RUN))


def carried_out(folder: Path, *runs: Run) -> None:
    for run in runs:
        work.execute(run, folder, settings=QUICK)


@cache
def swept() -> dict[str, bytes]:
    """A sweep of two runs, and the checkpoint that the first had while it was trained."""

    def half(folder: Path) -> None:
        (place := work.folder_of(folder, RUN)).mkdir(parents=True)
        with mock.patch.object(Path, "unlink"):  # last.pt stays
            work.train_run(RUN, place, data_root=None, device="cpu")

    files = made(lambda folder: carried_out(folder, RUN, OTHER))
    last = made(half)[f"{PLACE}/last.pt"]
    return {**files, f"{PLACE}/last.pt": last}


def measured(folder: Path) -> Any:
    """The numbers of both runs, after what was left to do was done."""
    for run in sweeps.remaining([RUN, OTHER], folder, settings=QUICK):
        work.execute(run, folder, settings=QUICK)
    table = sweeps.read(folder, [RUN.key, OTHER.key])
    for error in table.loc[table["status"] != "finished", "error"]:
        raise ValueError(error)
    return numbers(table)


def numbers(table: pd.DataFrame) -> list:
    wanted = ["key", "metric", "given", "generated", "value", "stderr", "rho", "epochs"]
    return sorted(map(repr, table[wanted].itertuples(index=False, name=None)))


def as_parquet(table: pa.Table) -> bytes:
    pq.write_table(table, file := io.BytesIO())
    return file.getvalue()


@cache
def wrong_tables() -> dict[str, bytes]:
    """Whole Parquet files that are no table of results of this run."""
    good = pq.read_table(io.BytesIO(swept()[TABLE]))

    bare = good.replace_schema_metadata(None)  # as older versions wrote them, without a digest

    def changed(name: str, value: Any, good: pa.Table = bare) -> bytes:
        column = pa.array([value] * len(good), SCHEMA.field(name).type)
        return as_parquet(good.set_column(good.column_names.index(name), name, column))

    return {
        "other columns": as_parquet(pa.table({"x": [1, 2]})),
        "no rows": as_parquet(bare.slice(0, 0)),
        "one row of its rows": as_parquet(good.slice(0, 1)),
        "a column less": as_parquet(bare.drop_columns(["options"])),
        "no values": as_parquet(bare.drop_columns(["value"])),
        "values of words": as_parquet(bare.set_column(
            good.column_names.index("value"), "value", pa.array(["high"] * len(good))
        )),
        "other values": changed("value", 0.5, good),
        "options that are no JSON": changed("options", "{no"),
        "options of another shape": changed("options", "[1]"),
        "no keys": changed("key", None),
        "no status": changed("status", None),
        "no settings": changed("settings", None, good),
    }  # fmt: skip


def without(*names: str) -> dict[str, bytes]:
    return {name: content for name, content in swept().items() if Path(name).name not in names}


def table_scene(use: Callable[[Path], Any], **more: Any) -> Scene:
    files = {TABLE: swept()[TABLE], OTHER_TABLE: swept()[OTHER_TABLE], **more.pop("files", {})}
    return Scene(
        TABLE, files, use, names=(f"{RUN.key}",), others=(files[OTHER_TABLE],),
        wrong=wrong_tables(), **more,
    )  # fmt: skip


@scene("run's table, remaining and execute")
def _() -> Scene:
    return table_scene(measured, files=without("last.pt"))


def told(result: Callable[[], Any], folder: Path) -> Any:
    """The rows of both runs; those of one where a warning named the other's file."""
    import warnings

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        rows = result()
    if any(RUN.key in str(w.message) and "must be" in str(w.message) for w in said):
        assert not any(RUN.key in row for row in rows)
        assert len(rows) == len([r for r in result_of(ROWS) if OTHER.key in r])
        return result_of(ROWS)
    return rows


ROWS = "combined table, read"


@scene("run's table, read")
def _() -> Scene:
    return table_scene(lambda folder: told(lambda: numbers(sweeps.read(folder)), folder))


@scene("run's table, read_run")
def _() -> Scene:
    def use(folder: Path) -> Any:
        rows = read_run(folder, RUN.key)  # none: not measured, with a warning
        return True if rows is None else [row["value"] for row in rows]

    whole = pq.read_table(io.BytesIO(swept()[TABLE]))["value"].to_pylist()

    def use_again(folder: Path) -> Any:
        return use(folder) in (True, whole)

    return table_scene(use_again)


@scene("run's table, combine")
def _() -> Scene:
    def use(folder: Path) -> Any:
        target = folder / "all.parquet"
        return told(lambda: numbers(sweeps.read(sweeps.combine(folder, target))), folder)

    return table_scene(use)


@cache
def combined() -> tuple[bytes, bytes]:
    """One file of both runs, and one of the other run."""

    def use(folder: Path) -> None:
        carried = {name: content for name, content in swept().items() if "table" in name}
        for name, content in carried.items():
            write(folder / "sweep" / name, content)
        sweeps.combine(folder / "sweep", folder / "all.parquet")
        sweeps.combine(folder / "sweep", folder / "one.parquet", [OTHER.key])

    files = made(use)
    return files["all.parquet"], files["one.parquet"]


def combined_scene(use: Callable[[Path], Any], **more: Any) -> Scene:
    whole, other = combined()
    wrong = {
        what: content for what, content in wrong_tables().items()
        if what not in ("one row of its rows", "other values", "no settings", "no values")
    }  # fmt: skip
    return Scene(
        "all.parquet", {"all.parquet": whole, **more.pop("files", {})}, use, others=(other,),
        wrong=wrong, **more,
    )  # fmt: skip


@scene(ROWS)
def _() -> Scene:
    return combined_scene(lambda folder: numbers(sweeps.read(folder / "all.parquet")), tied=False)


@scene("combined table, combine")
def _() -> Scene:
    files = {OTHER_TABLE: swept()[OTHER_TABLE]}
    return combined_scene(
        lambda folder: numbers(sweeps.read(sweeps.combine(folder, folder / "all.parquet"))),
        files=files, tied=False, optional=True,
    )  # fmt: skip


@scene("combined table, Results of the course")
def _() -> Scene:
    def use(folder: Path) -> Any:
        return Results.read(folder / "all.parquet").runs["linear_accuracy"].tolist()

    return combined_scene(use, tied=False, optional=True)


def run_scene(name: str, *absent: str, **more: Any) -> Scene:
    """A file in the folder of a run whose table is gone, so that it is measured again."""
    files = without(Path(TABLE).name, *absent)
    return Scene(f"{PLACE}/{name}", files, measured, names=(RUN.key,), **more)


OTHER_PLACE = str(work.folder_of("", OTHER))


@scene("model.pt, execute")
def _() -> Scene:
    others = (swept()[f"{OTHER_PLACE}/model.pt"],)
    return run_scene("model.pt", "last.pt", others=others, wrong=wrong_checkpoints())


@scene("last.pt, execute")
def _() -> Scene:
    return run_scene("last.pt", "model.pt", wrong=wrong_checkpoints())


@scene("training.json, execute")
def _() -> Scene:
    others = (swept()[f"{OTHER_PLACE}/training.json"],)
    return run_scene("training.json", "last.pt", others=others, text=True)


@scene("model.pt, load_run")
def _() -> Scene:
    others = (swept()[f"{OTHER_PLACE}/model.pt"],)
    scene = run_scene("model.pt", others=others, wrong=wrong_checkpoints())
    return replace(scene, use=lambda folder: digest_of(sweeps.load_run(folder, RUN).state_dict()))


@scene("note of the data, check_data")
def _() -> Scene:
    (target,) = (name for name in swept() if name.startswith("data/"))

    def use(folder: Path) -> Any:
        options = json.dumps(dict(RUN.data_options), sort_keys=True)
        parts = work._loaded(RUN.data, RUN.modalities, options, None, "cpu")
        work.check_data(RUN, folder, None, parts)
        return json.loads((folder / target).read_bytes())["fingerprint"]

    return Scene(target, {target: swept()[target]}, use, text=True)


# Inception ---------------------------------------------------------------------------------------


class Means(nn.Module):
    """What the known TorchScript file looks like from outside."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((64,), scale))

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        """Features when asked."""
        return x.float().flatten(1).mean(1, keepdim=True) * self.scale


class Words(nn.Module):
    """A script that takes no pictures."""

    def forward(self, x: Tensor) -> Tensor:
        """Half of it."""
        return x / 2


class Lists(nn.Module):
    """A script whose answer is no tensor."""

    def forward(self, x: Tensor, return_features: bool = False) -> list[int]:
        """Its shape."""
        return x.shape


def scripted(module: nn.Module) -> bytes:
    torch.jit.save(torch.jit.script(module), file := io.BytesIO())
    return file.getvalue()


def inception_scene(use: Callable[[Path], Any]) -> Scene:
    name = "inception-2015-12-05.pt"
    wrong = {
        "another script": scripted(Words()),
        "a script that answers otherwise": scripted(Lists()),
        "weights": torch_saved({"fc.weight": torch.zeros(2)}),
        "a list": torch_saved([1]),
    }
    files = {name: scripted(Means(0.5))}
    return Scene(name, files, use, others=(scripted(Means(2.0)),), tied=False, wrong=wrong)


@scene("TorchScript, inception")
def _() -> Scene:
    x = torch.rand(2, 3, 8, 8, generator=seeded(0))

    def use(folder: Path) -> Any:
        return metrics.inception(folder / "inception-2015-12-05.pt")(x).tolist()

    return inception_scene(use)


@scene("TorchScript, remaining")
def _() -> Scene:
    def use(folder: Path) -> Any:
        file = folder / "inception-2015-12-05.pt"
        return len(sweeps.remaining([RUN], folder, inception=file))  # its digest is all it needs

    return inception_scene(use)


# The course --------------------------------------------------------------------------------------


@scene("learned rules, load_rules")
def _() -> Scene:
    def save(folder: Path, seed: int = 0) -> None:
        torch.manual_seed(seed)
        rules = {name: new() for name, new in noisy_readings.NEW_RULES.items()}
        noisy_readings.save_rules(rules, folder / "05_rules_c0.safetensors")

    def use(folder: Path) -> Any:
        rules = noisy_readings.load_rules(folder / "05_rules_c0.safetensors")
        return [digest_of(rule.state_dict()) for rule in rules.values()]

    files, others = made(save), made(partial(save, seed=1))
    (target,) = files
    return Scene(
        target, files, use, others=tuple(others.values()), tied=False, wrong=wrong_tensors()
    )


@scene("samples .npz, read_samples")
def _() -> Scene:
    name = "07_samples.npz"
    sheet = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    odd = np.array([{"a": 1}], dtype=object)

    def use(folder: Path) -> Any:
        return {key: x.tolist() for key, x in kept.read_samples(folder / name).items()}

    return Scene(
        name, {name: npz({"digits/code_vae": sheet})}, use,
        others=(npz({"digits/mvae": sheet // 2}),), tied=False, optional=True,
        wrong={
            "floats": npz({"digits/code_vae": sheet / 2}),
            "a vector": npz({"digits/code_vae": np.arange(3)}),
            "a pickle": npz({"digits/code_vae": odd}),
            "a part that is no array": zipped({"digits/code_vae.npy": b"no array"}),
            "a shape that does not fit": zipped({"digits/code_vae.npy": lying_npy()}),
        },
    )  # fmt: skip


def lying_npy() -> bytes:
    """An array that its header says to be of 2^41 bytes."""
    np.save(file := io.BytesIO(), np.zeros((999, 1), np.uint8))
    return file.getvalue().replace(b"(999, 1)", b"(2**9, )", 1)


FIGURES = Path(__file__).resolve().parents[1] / "figures"


def json_scene(
    name: str, whole: Any, use: Callable, says: Callable, other: Any, **more: Any
) -> Scene:
    return Scene(
        name, {name: json.dumps(whole).encode()}, lambda folder: use(folder / name),
        others=(json.dumps(other).encode(),), tied=False, text=True,
        says=lambda content: says(json.loads(content)), **more,
    )  # fmt: skip


@scene("recipe_speed.json, speed")
def _() -> Scene:
    stored = json.loads((FIGURES / "recipe_speed.json").read_bytes())
    few = {**stored, "rows": stored["rows"][:6]}

    def use(path: Path) -> Any:
        return {name: (s.seconds, s.memory) for name, s in states.speed(path).items()}

    def says(content: Any) -> Any:
        found: dict[str, Any] = {}
        for row in content["rows"]:
            ours = (row["library"], row["precision"]) == ("ours", "float32")
            if ours and row["seconds"] is not None:
                seconds, memory = found.setdefault(row["recipe"], ({}, {}))
                seconds[row["modalities"]] = row["seconds"]
                memory[row["modalities"]] = row["peak_memory_mib"]
        return found

    other = {**stored, "rows": stored["rows"][6:9]}
    return json_scene("recipe_speed.json", few, use, says, other)


@scene("gpu_step.json, gpu_steps")
def _() -> Scene:
    def part(ms: float) -> dict[str, Any]:
        return {
            "milliseconds": {"code_vae": ms, "mopoe": 2 * ms}, "code_over_poe": [0.4, 0.5, 0.6],
            "aggregation_share": 0.1, "share_of_peak": 0.3,
        }  # fmt: skip

    def content(ms: float) -> dict[str, Any]:
        made_with = {"accelerator": "GPU"}
        return {"made_with": made_with, "float32": part(ms), "bfloat16": part(ms / 2)}

    def says(content: Any) -> Any:
        rows = []
        for name in ("float32", "bfloat16"):
            if name in content:
                part, ms = content[name], content[name]["milliseconds"]
                rows.append([
                    f"ours, {name}", content["made_with"]["accelerator"] or "processor",
                    f"{ms['code_vae']:.1f}", f"{ms['mopoe']:.1f}",
                    f"{sorted(part['code_over_poe'])[len(part['code_over_poe']) // 2]:.3f}",
                    f"{part['aggregation_share']:.1%}", f"{part['share_of_peak']:.0%}",
                ])  # fmt: skip
        return rows

    def use(path: Path) -> Any:
        return states.gpu_steps(path).rows[1:]

    return json_scene("gpu_step.json", content(7.0), use, says, content(9.0), optional=True)


@scene("figures/*.json, read_json")
def _() -> Scene:
    whole = {"rows": [{"method": "poe", "gap": 0.5}, {"method": "moe", "gap": 1.5}], "draws": 3}
    other = {"rows": [{"method": "code", "gap": 0.5}], "draws": 1}
    form = {"rows": [{"method": str, "gap": float}]}
    return json_scene(
        "04_gaps.json", whole, lambda path: read_json(path, form)["rows"],
        lambda content: content["rows"], other,
    )  # fmt: skip


@scene("published.toml, read_published")
def _() -> Scene:
    name = "published.toml"
    whole = Path(published.__file__).with_suffix(".toml").read_bytes()
    claims = whole.index(b"[claims")
    parts = whole.split(b"\n\n")
    small = b"\n\n".join(
        next(part for part in parts if part.startswith(start))
        for start in (b"[tables.table_6]", b"[claims.code_balances]")
    )

    def use(folder: Path) -> Any:
        return says_of(*published.read_published(folder / name))

    def says_of(tables: Any, claims: Any) -> Any:
        return (
            {n: (t.where, t.data, t.about, t.values) for n, t in tables.items()},
            {n: (c.where, c.text) for n, c in claims.items()},
        )

    def says(content: bytes) -> Any:
        stored = tomllib.loads(content.decode())
        tables = {
            name: (t["where"], t["data"], t["about"], {
                row: {
                    column: published.Printed(*(cell if isinstance(cell, list) else [cell]))
                    for column, cell in zip(t["columns"], cells, strict=True)
                } for row, cells in t["rows"].items()
            })
            for name, t in stored["tables"].items()
        }  # fmt: skip
        return tables, {n: (c["where"], c["text"]) for n, c in stored["claims"].items()}

    return Scene(
        name, {name: small}, use, tied=False, says=says, others=(whole,),
        wrong={"without claims": whole[:claims], "a table without rows": b"[tables.a]\nwhere=1\n"},
    )  # fmt: skip


@scene("references.bib, cite")
def _() -> Scene:
    name = "references.bib"
    whole = (Path(recipes.__file__).parent / name).read_bytes()

    def use(folder: Path) -> str:
        elsewhere = SimpleNamespace(files=lambda _: folder, as_file=nullcontext)
        with mock.patch.object(recipes, "resources", elsewhere):
            return recipes.cite("code_vae")

    def says(content: bytes) -> str:
        entries = content.decode().split("\n\n")
        (paper,) = {recipes.build("code_vae", 2).paper}
        (entry,) = (e for e in entries if e.partition("{")[2].startswith(f"{paper},"))
        return entry.strip()

    return Scene(name, {name: whole}, use, says=says, wrong={"another": b"@book{a,\n}\n"})
