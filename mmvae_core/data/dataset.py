"""A multimodal data set held in memory, and the batch that it gives.

All modalities of one sample share its row: ``x[m][i]`` are M views of the same thing, and
``present[i, m]`` says whether the view exists. The pictures stay ``uint8`` (a quarter of the
memory of floats, and exact) and become floats in [0, 1] as a batch is gathered. A gather on the
data's own device takes microseconds, so there are no loader workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from mmvae_core import subsets

__all__ = ["Batch", "MultimodalDataset"]

WHITE = 255  # the largest value of a uint8 pixel


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples, ready for a model.

    Args:
        x: one tensor a modality, floats, pictures in [0, 1]; an absent modality is all zeros.
        present: which modality exists for which sample.
        label: the class of each sample, or None where the data have no classes.
    """

    x: tuple[Float[Tensor, "B ..."], ...]
    present: Bool[Tensor, "B M"]
    label: Int[Tensor, " B"] | None = None
    _complete: bool | None = field(default=None, repr=False)

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
        x: one tensor a modality: pictures as uint8 of shape ``[N, C, H, W]``, anything else
            (vectors, one-hot labels) as float32 ``[N, ...]``, which is passed on as it is. Shapes
            may differ between modalities, the number of samples may not.
        label: the class of each sample; None where there are no classes.
        names: one name a modality; ``m0, m1, ...`` where none are given.
        present: which modality exists for which sample; all of them where not given.
        name: what the set is called in figures and in results.

    Raises:
        ValueError: the parts do not fit together.

    To hide modalities, replace the mask: ``dataclasses.replace(data, present=mask)``.

    >>> pictures = torch.full((5, 1, 2, 2), 255, dtype=torch.uint8)
    >>> data = MultimodalDataset(x=(pictures, pictures), label=torch.arange(5))
    >>> batch = data.batch(torch.tensor([3, 0]))
    >>> data.names, batch.x[1].shape, batch.label.tolist()
    (('m0', 'm1'), torch.Size([2, 1, 2, 2]), [3, 0])
    """

    x: tuple[Num[Tensor, "N ..."], ...]
    label: Int[Tensor, " N"] | None = None
    names: tuple[str, ...] = ()
    present: Bool[Tensor, "N M"] = None  # type: ignore[assignment]  # filled in below
    name: str = "data"

    def __post_init__(self) -> None:
        # The dataclass is frozen; filling in what was left out is part of making it.
        object.__setattr__(self, "x", tuple(self.x))
        names = tuple(self.names) or tuple(f"m{m}" for m in range(len(self.x)))
        object.__setattr__(self, "names", names)
        _check_views(self.x, names)
        if getattr(self, "present", None) is None:
            everything = torch.ones(len(self), len(names), dtype=torch.bool, device=self.device)
            object.__setattr__(self, "present", everything)
        _check_rows(self)

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
        present = self.present[indices]
        views = []
        for m, view in enumerate(self.x):
            values = view[indices]
            if view.dtype == torch.uint8:
                values = values.float() / WHITE
            absent = ~present[:, m].view(-1, *[1] * (values.ndim - 1))
            views.append(values.masked_fill_(absent, 0.0))
        label = None if self.label is None else self.label[indices]
        known = True if self.complete else None
        return Batch(x=tuple(views), present=present, label=label, _complete=known)

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

    def _positions(self, indices: Tensor) -> Int[Tensor, " B"]:
        indices = torch.as_tensor(indices, device=self.device)
        if indices.ndim != 1 or indices.is_floating_point() or indices.dtype == torch.bool:
            raise ValueError(
                "indices must be a vector of whole numbers (mask.nonzero().flatten() makes one "
                f"of a mask); got {indices.dtype} with shape {list(indices.shape)}"
            )
        return indices


def _check_views(x: tuple[Tensor, ...], names: tuple[str, ...]) -> None:
    """Views: at least one, uint8 or float32, equally many samples, one distinct name each."""
    if not x:
        raise ValueError("a data set needs at least one modality; x is empty")
    if len(names) != len(x) or len(set(names)) != len(names):
        raise ValueError(f"names must hold {len(x)} distinct names, one a modality; got {names}")
    for label, view in zip(names, x, strict=True):
        if view.dtype not in (torch.uint8, torch.float32):
            raise ValueError(
                f"{label} must be uint8 with values 0..{WHITE} (pictures) or float32 (anything "
                f"else); got {view.dtype}. x.float() makes it float32"
            )
        if view.ndim < 2 or len(view) != len(x[0]) or len(view) == 0:
            raise ValueError(
                f"{label} must have shape [{len(x[0]) or 'N > 0'}, ...], one row a sample as in "
                f"{names[0]}; got {list(view.shape)}"
            )


def _check_rows(data: MultimodalDataset) -> None:
    """Labels and presence: one row a sample, on the device of the views."""
    shape = [len(data), data.num_modalities]
    if data.present.dtype != torch.bool or list(data.present.shape) != shape:
        raise ValueError(
            f"present must be a bool tensor of shape {shape}, one column a modality; "
            f"got {data.present.dtype} {list(data.present.shape)}"
        )
    label = data.label
    if label is not None and (label.dtype != torch.int64 or list(label.shape) != shape[:1]):
        raise ValueError(
            f"label must be an int64 tensor of shape {shape[:1]}; "
            f"got {label.dtype} {list(label.shape)}"
        )
    devices = {part.device for part in (*data.x, data.present, label) if part is not None}
    if len(devices) > 1:
        raise ValueError(
            f"all parts must be on one device; got {sorted(map(str, devices))}. "
            "Build the set on one device, then move it with .to(device)"
        )
