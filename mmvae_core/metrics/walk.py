"""The one pass over the data in which every metric is measured.

The encoders run once a batch; their experts give the posteriors of all subsets at once. An
:class:`Accumulator` takes from each batch what it needs and says at the end what it found. Any
number of them walk together (:func:`mmvae_core.metrics.measure`); a metric by itself is the same
walk with one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Shaped
from torch import Generator, Tensor
from tqdm.auto import tqdm

from mmvae_core import subsets
from mmvae_core.data.dataset import Batch, MultimodalDataset
from mmvae_core.distributions import Posterior
from mmvae_core.metrics.estimate import PRIOR, Measurement, mean_estimate, proportion
from mmvae_core.model import Experts, MultimodalVAE

__all__ = ["BATCH", "Accumulator", "Encoded", "encoded", "seeded", "sizes", "walk"]

BATCH = 256


@dataclass(frozen=True)
class Encoded:
    """A batch, what its encoders say, and q(z|x_S) of every subset that was asked for.

    ``start`` is the place of its first sample in the data.
    """

    batch: Batch
    experts: Experts
    posterior: Posterior
    start: int = 0

    def parts(self, size: int, count: int | None = None) -> Iterator[Encoded]:
        """The same, ``size`` samples at a time; only the first ``count`` samples of the data."""
        end = len(self.batch) if count is None else min(len(self.batch), count - self.start)
        for first in range(0, end, size):
            some = slice(first, min(first + size, end))
            batch, q = self.batch, self.posterior
            label = None if batch.label is None else batch.label[some]
            x = tuple(view[some] for view in batch.x)
            yield Encoded(
                replace(batch, x=x, present=batch.present[some], label=label),
                Experts(*(values[:, some] for values in self.experts)),
                replace(q, loc=q.loc[:, :, some], scale=q.scale[:, :, some],
                        weights=q.weights[:, :, some]),
                self.start + first,
            )  # fmt: skip

    def posterior_of(self, k: int) -> Posterior:
        """That of subset ``k`` alone; -1 is the last."""
        q, k = self.posterior, range(self.posterior.loc.shape[1])[k]
        one = slice(k, k + 1)
        return replace(q, loc=q.loc[:, one], scale=q.scale[:, one], weights=q.weights[:, one])


class Accumulator:
    """What a metric looks at in a walk, and what it has found at its end."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, str], list[Tensor]] = {}

    def wanted(self, given: Sequence[str]) -> Iterable[str]:
        """The modalities that have to be generated from these, for :meth:`look`."""
        return ()

    def update(self, seen: Encoded) -> None:
        """Take in a batch."""

    def look(self, given: str, made: Mapping[str, Tensor], label: Tensor | None) -> None:
        """Look at what was generated from a subset or the prior, for samples of these labels."""

    def add(self, metric: str, given: str, generated: str, values: Shaped[Tensor, " N"]) -> None:
        """Keep the values of so many samples; True and False are hits and misses."""
        self.found.setdefault((metric, given, generated), []).append(values)

    def rows(self) -> Iterator[Measurement]:
        """The mean of each kind of values, and its standard error."""
        for key, parts in self.found.items():
            values = torch.cat(parts).cpu()
            if values.dtype == torch.bool:
                yield Measurement(*key, *proportion(int(values.sum()), len(values)))
            else:
                yield Measurement(*key, *mean_estimate(values))


def encoded(
    model: MultimodalVAE,
    data: MultimodalDataset,
    rows: Bool[Tensor, "K M"] | None,
    *,
    batch_size: int = BATCH,
) -> Iterator[Encoded]:
    """The data, batch by batch, with the posteriors of these subsets; None: of all that each sample
    has."""
    model.eval()
    start = 0
    for batch in data.batches(batch_size):
        with torch.no_grad():  # not around the yield: the caller's own gradients are the caller's
            experts = model.experts(batch)
            posterior = model.posterior_of(experts, batch, rows)
        yield Encoded(batch, experts, posterior, start)
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
    what: str = "measuring",
    show_progress: bool = False,
) -> Iterator[Measurement]:
    """Show the data, and what is generated from them and from the prior, to all accumulators.

    Args:
        data: None where only draws from the prior are looked at.
        rows: the subsets; None for one posterior a sample, of all that it has.
        generator: of what is generated: the mean of p(x_m|z) at one draw of z.
        from_prior: how many draws from the prior.
        what: the bar says.

    Returns:
        The rows of one accumulator after those of the other, each made as it is asked for.
    """
    model.eval()
    given = subsets.full(len(model.names)) if rows is None else rows
    names = [subsets.name(row, model.names) for row in given]
    wanted = [{w for a in accumulators for w in a.wanted(name.split("+"))} for name in names]
    count = 0 if data is None else len(data.present)
    draws = sizes(from_prior, batch_size)
    with tqdm(total=len(sizes(count, batch_size)) + len(draws), desc=what, unit="batch",
              disable=not show_progress, leave=False) as bar:  # fmt: skip
        for seen in () if data is None else encoded(model, data, rows, batch_size=batch_size):
            for accumulator in accumulators:
                accumulator.update(seen)
            if any(wanted):
                z = seen.posterior.draw(1, generator)[0]  # (K, B, D)
                for k, row in enumerate(given):
                    made = model.generate_from(
                        seen.experts, row[None], z[k], generator=generator,
                        modalities=[m for m, name in enumerate(model.names) if name in wanted[k]],
                    )  # fmt: skip
                    for accumulator in accumulators:
                        accumulator.look(names[k], made, seen.batch.label)
            bar.update()
        for size in draws:
            made = model.sample(size, generator=generator)
            for accumulator in accumulators:
                accumulator.look(PRIOR, made, None)
            bar.update()
    return (row for accumulator in accumulators for row in accumulator.rows())


def seeded(model: MultimodalVAE, seed: int) -> Generator:
    """A generator on the model's device."""
    return Generator(device=model.device).manual_seed(seed)


def sizes(count: int, batch_size: int = BATCH) -> list[int]:
    """``count`` in parts of at most ``batch_size``."""
    whole, rest = divmod(count, batch_size)
    return [batch_size] * whole + [rest] * (rest > 0)
