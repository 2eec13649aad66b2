"""A multimodal data set held in memory, and the batch that it gives.

All modalities of one sample share its row: ``x[m][i]`` are M views of the same thing, and
``present[i, m]`` says whether the view exists. The pictures stay ``uint8`` (a quarter of the
memory of floats, and exact) and become floats in [0, 1] as a batch is gathered. A gather on the
data's own device takes microseconds, so there are no loader workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from mmvae_core import subsets

__all__ = ["Batch", "MultimodalDataset"]

WHITE = 255  # the largest value of a uint8 pixel
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
RESERVED = ("prior", "self")  # what results say instead of a modality


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples, ready for a model: what every consumer of data sees.

    Args:
        x: one tensor a modality, floats or pictures ``[B, C, H, W]`` as uint8. They become floats
            in [0, 1], and an absent modality all zeros, whatever stood there.
        present: which modality exists for which sample.
        label: the class of each sample, or None where the data have no classes.

    Raises:
        ValueError: ``present`` is not one bool a sample and modality, or a view has another type.

    >>> batch = Batch((torch.full((2, 1, 1, 1), 255, dtype=torch.uint8),), torch.eye(2)[:, :1] > 0)
    >>> batch.x[0].flatten().tolist(), batch.complete
    ([1.0, 0.0], False)
    """

    x: tuple[Shaped[Tensor, "B ..."], ...]
    present: Bool[Tensor, "B M"]
    label: Int[Tensor, " B"] | None = None
    _complete: bool | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        x, present = self.x, self.present
        sizes = [len(view) for view in x]
        fits = [[*present.shape] == [size, len(x)] for size in sizes]
        if present.dtype != torch.bool or not all(fits):
            raise ValueError(
                f"present must be a bool tensor [B, {len(x)}], a row a sample and a column a "
                f"modality; got {present.dtype} {[*present.shape]} and views of {sizes} samples"
            )
        x = tuple(_floats(f"x[{m}]", view) for m, view in enumerate(x))
        # An accelerator is not halted to ask whether there is anything to hide.
        if not (self._complete or (present.device.type == "cpu" and self.complete)):
            absent = (~present).unbind(dim=1)
            x = tuple(v.masked_fill(a.view(-1, *[1] * (v.ndim - 1)), 0.0)
                      for v, a in zip(x, absent, strict=True))  # fmt: skip
        object.__setattr__(self, "x", x)  # frozen, but this is part of making it

    def __len__(self) -> int:
        return len(self.present)

    @property
    def complete(self) -> bool:
        """Whether every sample has every modality. A batch of a complete data set knows it
        without halting an accelerator."""
        if self._complete is None or self.present.device.type == "cpu":
            return bool(self.present.all())
        return self._complete


@dataclass(frozen=True, eq=False, repr=False)
class MultimodalDataset:
    """M views of N samples, the whole set in memory.

    Args:
        x: one tensor or NumPy array a modality: pictures ``[N, C, H, W]`` as uint8, or as float32
            in [0, 1]; anything else (vectors, one-hot labels) as float32 ``[N, ...]``, which is
            passed on as it is. Shapes may differ between modalities, the number of samples not.
        label: the class of each sample, whole numbers from 0; None where there are no classes.
        names: one name a modality; ``m0, m1, ...`` where none are given. Results name subsets
            (``m0+m1``) and files after them.
        present: which modality exists for which sample; all of them where not given. What an
            absent view holds is never looked at.
        name: what the set is called in figures and in results.

    Raises:
        ValueError: the parts do not fit together, or a view that is present holds NaN, infinity
            or, of a picture, values outside [0, 1]; the message names modality and row.

    To hide modalities, replace the mask: ``dataclasses.replace(data, present=mask)``.

    >>> pictures = torch.full((5, 1, 2, 2), 255, dtype=torch.uint8)
    >>> data = MultimodalDataset(x=(pictures, pictures), label=torch.arange(5))
    >>> batch = data.batch(torch.tensor([3, 0]))
    >>> data.names, batch.x[1].shape, batch.label.tolist()
    (('m0', 'm1'), torch.Size([2, 1, 2, 2]), [3, 0])
    """

    x: Any  # a tuple of tensors [N, ...] once it is made
    label: Any = None  # an int64 tensor [N], or None
    names: Any = ()
    present: Any = None  # a bool tensor [N, M]
    name: str = "data"

    def __post_init__(self) -> None:
        # The dataclass is frozen; bringing the parts into their form is part of making it.
        x = _views(self.x)
        names = _names(self.names, len(x))
        _check_views(x, names)
        for part, value in {
            "x": x,
            "names": names,
            "label": _labels(self.label, len(x[0]), x[0].device),
            "present": _presence(self.present, x),
        }.items():
            object.__setattr__(self, part, value)
        _check_device(self)
        _check_values(self)

    def __len__(self) -> int:
        return len(self.x[0])

    def __repr__(self) -> str:
        views = [f"{n} {list(s)}" for n, s in zip(self.names, self.shapes, strict=True)]
        return f"MultimodalDataset({self.name!r}, {len(self)} samples, {', '.join(views)})"

    @property
    def num_modalities(self) -> int:
        """M, the number of modalities."""
        return len(self.x)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of one sample in each modality, such as ``((3, 16, 16), (3, 16, 16))``."""
        return tuple(tuple(view.shape[1:]) for view in self.x)

    @cached_property
    def complete(self) -> bool:
        """Whether every sample has every modality."""
        return bool(self.present.all())

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of all that a model can see: names, shapes, views that are present, labels.

        The same on every device; a second for 300,000 pictures of PolyMNIST.
        """
        digest = hashlib.sha256(repr((self.names, self.shapes)).encode())
        for present, *views in zip(
            *(part.split(4096) for part in (self.present, *self.x)), strict=True
        ):
            for m, view in enumerate(views):
                if not self.complete:
                    view = view.clone()
                    view[~present[:, m]] = 0
                digest.update(str(view.dtype).encode() + view.cpu().contiguous().numpy().data)
            digest.update(present.cpu().contiguous().numpy().data)
        if self.label is not None:
            digest.update(self.label.cpu().numpy().data)
        return digest.hexdigest()

    @property
    def device(self) -> torch.device:
        """Where the data are, and where its batches will be."""
        return self.x[0].device

    def to(self, device: torch.device | str) -> MultimodalDataset:
        """The same data on another device."""
        return replace(
            self,
            x=tuple(view.to(device) for view in self.x),
            label=None if self.label is None else self.label.to(device),
            present=self.present.to(device),
        )

    def batch(self, indices: Tensor) -> Batch:
        """The samples at these positions ``[B]``, as floats in [0, 1].

        Raises:
            ValueError: ``indices`` is not a vector of whole numbers.
            IndexError: a position lies outside the data (checked by torch).
        """
        indices = self._positions(indices)
        views = tuple(view[indices] for view in self.x)
        label = None if self.label is None else self.label[indices]
        return Batch(views, self.present[indices], label, _complete=self.complete or None)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All samples once, in order; the last batch holds what is left.

        Raises ``ValueError`` where ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        everything = torch.arange(len(self), device=self.device)
        return (self.batch(rows) for rows in everything.split(batch_size))

    def subset(self, rows: Tensor | slice) -> MultimodalDataset:
        """The data set of these samples, given as positions or as a slice.

        Raises ``ValueError`` where no sample is left.
        """
        rows = rows if isinstance(rows, slice) else self._positions(rows)
        return replace(
            self,
            x=tuple(view[rows] for view in self.x),
            label=None if self.label is None else self.label[rows],
            present=self.present[rows],
        )

    def modalities(self, keep: Iterable[int | str]) -> MultimodalDataset:
        """The data set of these modalities, given as positions or names.

        They keep the order that they have here, whatever the order of ``keep``.
        Raises ``ValueError`` where ``keep`` is empty or names a modality that does not exist.
        """
        kept = subsets.mask(keep, self.names).nonzero().flatten().tolist()
        return replace(
            self,
            x=tuple(self.x[m] for m in kept),
            names=tuple(self.names[m] for m in kept),
            present=self.present[:, kept],
        )

    def having(self, name: str) -> MultimodalDataset:
        """The samples that have this modality.

        Raises ``ValueError`` where there is none.
        """
        if self.complete:
            return self
        rows = self.present[:, self.names.index(name)].nonzero().flatten()
        if not len(rows):
            raise ValueError(
                f"no sample has the modality {name}: there is nothing to look at or to learn from; "
                "data.modalities([...]) takes the others"
            )
        return self.subset(rows)

    def _positions(self, indices: Tensor) -> Int[Tensor, " B"]:
        indices = torch.as_tensor(indices, device=self.device)
        if indices.ndim != 1 or indices.is_floating_point() or indices.dtype == torch.bool:
            raise ValueError(
                "indices must be a vector of whole numbers (mask.nonzero().flatten() makes one "
                f"of a mask); got {indices.dtype} with shape {list(indices.shape)}"
            )
        return indices


def _is_picture(view: Tensor) -> bool:
    """Whether these are pictures as bytes. A one-hot text of bytes is none, and no 255th of one."""
    return view.dtype == torch.uint8 and view.ndim == 4


def _floats(name: str, view: Tensor) -> Tensor:
    """A view as floats, pictures in [0, 1]."""
    if _is_picture(view):
        return view.float() / WHITE
    if not view.is_floating_point():
        raise ValueError(
            f"{name} must hold floats, or a picture [B, C, H, W] as uint8; got {view.dtype} of "
            f"shape {[*view.shape]}. x.float() makes it floats"
        )
    return view


def _tensor(name: str, values: Any) -> Tensor:
    """A tensor as it is, an array of numbers as a tensor that shares its memory where it can."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return torch.from_numpy(values if values.flags.writeable else values.copy())
    if not isinstance(values, Tensor):
        raise ValueError(f"{name} must be a tensor or an array of numbers; got {values!r:.60}")
    return values


def _views(x: Any) -> tuple[Tensor, ...]:
    """One tensor a modality."""
    if not isinstance(x, (tuple, list)):
        got = f"a {type(x).__name__}" + (
            f" of shape {list(x.shape)}" if hasattr(x, "shape") else ""
        )
        raise ValueError(
            f"x must be a tuple with one tensor a modality; got {got}. Write x=(view,)"
        )
    if not x:
        raise ValueError("a data set needs at least one modality; x is empty")
    return tuple(_tensor(f"x[{m}]", view) for m, view in enumerate(x))


def _names(names: Any, count: int) -> tuple[str, ...]:
    """One distinct name a modality, of which names of subsets and of files can be made."""
    if isinstance(names, str):
        raise ValueError(f"names must be a tuple with one name a modality; got the text {names!r}")
    if not isinstance(names, Iterable):
        raise ValueError(f"names must be a tuple with one name a modality; got {names!r}")
    names = tuple(names) or tuple(f"m{m}" for m in range(count))
    if len(names) != count or len(set(names)) != len(names):
        raise ValueError(f"names must hold {count} distinct names, one a modality; got {names}")
    for name in names:
        usable = isinstance(name, str) and name.strip(" .") and name.isprintable()
        if not usable or set(name) & set("+/\\:") or name in RESERVED:
            raise ValueError(
                "a modality's name stands in names of subsets and files, so it must be a text "
                f"without + / \\ : that is none of {RESERVED}; got {name!r}"
            )
    return names


def _check_views(x: tuple[Tensor, ...], names: tuple[str, ...]) -> None:
    """Views: uint8 or float32, equally many samples."""
    for label, view in zip(names, x, strict=True):
        if view.ndim < 2 or len(view) != len(x[0]) or view.numel() == 0:
            raise ValueError(
                f"{label} must have shape [{len(x[0]) or 'N > 0'}, ...], one row a sample as in "
                f"{names[0]}, and none of its sizes 0; got {list(view.shape)}"
            )
        if view.dtype != torch.float32 and not _is_picture(view):
            raise ValueError(
                f"{label} must be uint8 with values 0..{WHITE} (pictures [N, C, H, W]) or float32 "
                f"(anything else); got {view.dtype} of shape {[*view.shape]}. x.float() makes it "
                "float32"
            )


def _labels(label: Any, count: int, device: torch.device) -> Tensor | None:
    """Classes as an int64 tensor ``[N]`` of whole numbers from 0."""
    if label is None:
        return None
    values: Any = label if isinstance(label, Tensor) else np.asarray(label)
    if not isinstance(values, Tensor) and values.dtype.kind in "iu":
        values = torch.from_numpy(values.astype(np.int64)).to(device)
    whole = isinstance(values, Tensor) and values.dtype in WHOLE
    if not whole or list(values.shape) != [count]:
        raise ValueError(
            f"label must hold {count} whole numbers, one a sample; got {values.dtype} of shape "
            f"{list(values.shape)}. numpy.unique(names, return_inverse=True)[1] numbers names"
        )
    values = values.long()
    if values.device.type == "cpu" and (rows := (values < 0).nonzero()).numel():
        raise ValueError(
            f"label must hold classes counted from 0; got {int(values[rows[0]])} in row "
            f"{int(rows[0])}. Leave samples without a class out, or all labels: label=None"
        )
    return values


def _presence(present: Any, x: tuple[Tensor, ...]) -> Tensor:
    """The mask that was given, or one that says that everything is there."""
    shape = [len(x[0]), len(x)]
    if present is None:
        return torch.ones(shape, dtype=torch.bool, device=x[0].device)
    mask = present if isinstance(present, Tensor) else torch.as_tensor(np.asarray(present))
    if mask.dtype != torch.bool or list(mask.shape) != shape:
        raise ValueError(
            f"present must be a bool tensor of shape {shape}, one column a modality; "
            f"got {mask.dtype} {list(mask.shape)}"
        )
    return mask if isinstance(present, Tensor) else mask.to(x[0].device)


def _check_device(data: MultimodalDataset) -> None:
    devices = {part.device for part in (*data.x, data.present, data.label) if part is not None}
    if len(devices) > 1:
        raise ValueError(
            f"all parts must be on one device; got {sorted(map(str, devices))}. "
            "Build the set on one device, then move it with .to(device)"
        )


def _check_values(data: MultimodalDataset) -> None:
    """What is present: finite and, of a picture, in [0, 1]; said here, not hours later."""
    for m, (name, view) in enumerate(zip(data.names, data.x, strict=True)):
        if view.dtype == torch.uint8 or view.device.type == "meta":
            continue
        picture = view.ndim == 4
        good = view.isfinite() & ((view >= 0) & (view <= 1) if picture else True)
        bad = ~good.flatten(1).all(dim=1) & data.present[:, m]
        if not bad.any():
            continue
        row = int(bad.nonzero()[0])
        value = view[row][~good[row]].flatten()[0].item()
        wanted = "finite numbers in [0, 1] (uint8 for 0..255)" if picture else "finite numbers"
        raise ValueError(
            f"{name} must hold {wanted}; got {value:g} in row {row}, and {int(bad.sum())} rows in "
            "all are not. Mark a view that is missing as absent in `present`"
        )
