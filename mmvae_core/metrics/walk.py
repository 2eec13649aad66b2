"""The one pass over the data in which every metric is measured.

The encoders run once a batch; their experts give the posteriors of all subsets at once. An
:class:`Accumulator` takes from each batch what it needs and says at the end what it found. Any
number of them walk together (:func:`mmvae_core.metrics.measure`); a metric by itself is the same
walk with one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Generator, Tensor
from tqdm.auto import tqdm

from mmvae_core import subsets
from mmvae_core.checks import check_present
from mmvae_core.data.dataset import Batch, MultimodalDataset
from mmvae_core.distributions import Posterior
from mmvae_core.metrics.estimate import PRIOR, Measurement, mean_estimate
from mmvae_core.model import Experts, MultimodalVAE
from mmvae_core.model.members import check_data

__all__ = [
    "BATCH",
    "Accumulator",
    "Encoded",
    "check_complete",
    "check_few",
    "check_pictures",
    "encoded",
    "labels_of",
    "seeded",
    "walk",
]

BATCH = 256


@dataclass(frozen=True)
class Encoded:
    """A batch, what its encoders say, and q(z|x_S) of every subset that was asked for, by name.

    ``start`` is the place of its first sample in the data.
    """

    batch: Batch
    experts: Experts
    given: Mapping[str, Bool[Tensor, " M"]]
    posterior: Posterior
    start: int = 0

    def parts(self, size: int, count: int | None = None) -> Iterator[Encoded]:
        """The same, ``size`` samples at a time; only the first ``count`` samples of the data."""
        batch = self.batch
        end = len(batch) if count is None else min(len(batch), count - self.start)
        for first in range(0, end, size):
            some = slice(first, min(first + size, end))
            label = None if batch.label is None else batch.label[some]
            x = tuple(view[some] for view in batch.x)
            yield replace(
                self,
                batch=replace(batch, x=x, present=batch.present[some], label=label),
                experts=Experts(*(values[:, some] for values in self.experts)),
                posterior=_part(self.posterior, slice(None), some),
                start=self.start + first,
            )

    def posterior_of(self, name: str) -> Posterior:
        """That of this subset alone."""
        k = [*self.given].index(name)
        return _part(self.posterior, slice(k, k + 1), slice(None))


def _part(q: Posterior, which: slice, some: slice) -> Posterior:
    return replace(
        q, loc=q.loc[:, which, some], scale=q.scale[:, which, some],
        weights=q.weights[:, which, some],
    )  # fmt: skip


@dataclass(eq=False)
class Accumulator:
    """What a metric looks at in a walk, and what it has found at its end."""

    found: dict[tuple[str, str, str], list[Tensor]] = field(default_factory=dict, init=False)

    def wanted(self, given: Sequence[str]) -> Iterable[str]:
        """The modalities that have to be generated from these, for :meth:`look`."""
        return ()

    def update(self, seen: Encoded) -> None:
        """Take in a batch."""

    def look(self, given: str, made: Mapping[str, Tensor], label: Tensor | None) -> None:
        """Look at what was generated from a subset or the prior, for samples of these labels."""

    @torch.no_grad()
    def look_at(self, data: MultimodalDataset) -> None:
        """Look at the real views of the data set, those that are there; they are given nothing."""
        for name in data.names:
            for batch in data.modalities([name]).having(name).batches(BATCH):
                self.look("", {name: batch.x[0]}, batch.label)

    def add(self, metric: str, given: str, generated: str, values: Shaped[Tensor, " N"]) -> None:
        """Keep the values of so many samples; True and False are hits and misses."""
        self.found.setdefault((metric, given, generated), []).append(values)

    def rows(self) -> Iterator[Measurement]:
        """The mean of each kind of values, and its standard error."""
        for key, parts in self.found.items():
            yield Measurement(*key, *mean_estimate(torch.cat(parts).cpu()))


def encoded(
    model: MultimodalVAE, data: MultimodalDataset, rows: Bool[Tensor, "K M"] | None
) -> Iterator[Encoded]:
    """The data, batch by batch, with the posteriors of these subsets; None: of all that each sample
    has."""
    check_data(model.spec, data)
    if rows is None:
        check_present(data.present, "the data")
    else:
        check_complete(data, "the posterior of a subset", rows.any(dim=0))
    model.eval()
    wanted = subsets.full(len(model.names)) if rows is None else rows
    given = {subsets.name(row, model.names): row for row in wanted}
    masks = None if rows is None else torch.stack([*given.values()])  # each once
    start = 0
    for batch in data.batches(BATCH):
        with torch.no_grad():  # not around the yield: the caller's own gradients are the caller's
            experts = model.experts(batch)
            posterior = model.posterior_of(experts, batch, masks)
        yield Encoded(batch, experts, given, posterior, start)
        start += len(batch)


@torch.no_grad()
def walk(
    model: MultimodalVAE,
    data: MultimodalDataset | None,
    accumulators: Sequence[Accumulator],
    rows: Bool[Tensor, "K M"] | None = None,
    *,
    generator: Generator | None = None,
    from_prior: int = 0,
    batch_size: int = BATCH,
    show_progress: bool = False,
) -> Iterator[Measurement]:
    """Show the data, and what is generated from them and from the prior, to all accumulators.

    Args:
        data: None where only draws from the prior are looked at.
        rows: the subsets; None for one posterior a sample, of all that it has.
        generator: of what is generated: the mean of p(x_m|z) at one draw of z.
        from_prior: how many draws from the prior, ``batch_size`` at a time.

    Returns:
        The rows of one accumulator after those of the other, each made as it is asked for.
    """
    model.eval()
    with tqdm(total=from_prior + (0 if data is None else len(data.present)), desc="measuring",
              unit="sample", disable=not show_progress, leave=False) as bar:  # fmt: skip
        for seen in () if data is None else encoded(model, data, rows):
            for accumulator in accumulators:
                accumulator.update(seen)
            wanted = [{w for a in accumulators for w in a.wanted(name.split("+"))}
                      for name in seen.given]  # fmt: skip
            if any(wanted):
                draws = seen.posterior.draw(1, generator)[0]  # (K, B, D)
                for (name, row), names, z in zip(seen.given.items(), wanted, draws, strict=True):
                    made = model.generate_from(
                        seen.experts, row[None], z, generator=generator,
                        modalities=[m for m, other in enumerate(model.names) if other in names],
                    )  # fmt: skip
                    for accumulator in accumulators:
                        accumulator.look(name, made, seen.batch.label)
            bar.update(len(seen.batch))
        for first in range(0, from_prior, batch_size):
            size = min(batch_size, from_prior - first)
            made = model.sample(size, generator=generator)
            for accumulator in accumulators:
                accumulator.look(PRIOR, made, None)
            bar.update(size)
    return (row for accumulator in accumulators for row in accumulator.rows())


def check_complete(
    data: MultimodalDataset, what: str, modalities: Bool[Tensor, " M"] | None = None
) -> None:
    """Raise ``ValueError`` where samples lack one of the modalities, by default of all."""
    for m, name in enumerate(() if data.complete else data.names):
        asked = modalities is None or bool(modalities[m])
        if asked and (count := int((~data.present[:, m]).sum())):
            raise ValueError(
                f"{what} needs samples with every modality present; {count} of the {len(data)} "
                f"lack {name}. data.complete_cases(data) takes those that are complete"
            )


def check_few(data: MultimodalDataset, least: int, what: str) -> None:
    """Raise ``ValueError`` where there are fewer samples than ``least``."""
    if len(data) < least:
        raise ValueError(f"{what} needs at least {least} test samples; got {len(data)}")


def check_pictures(data: MultimodalDataset, what: str, instead: str) -> None:
    """Raise ``ValueError`` where a modality has no pictures."""
    for name, shape in zip(data.names, data.shapes, strict=True):
        if len(shape) != 3:
            raise ValueError(
                f"{what} pictures [C, H, W]; {name} has samples of shape {list(shape)}. {instead}"
            )


def labels_of(data: MultimodalDataset, what: str) -> Int[Tensor, " N"]:
    """The labels; ``ValueError`` where there are none."""
    if data.label is None:
        raise ValueError(
            f"{what} needs labels, which {data.name!r} has not; "
            "dataclasses.replace(data, label=...) gives it some"
        )
    return data.label


def seeded(model: MultimodalVAE, seed: int) -> Generator:
    """A generator on the model's device."""
    return Generator(device=model.device).manual_seed(seed)
