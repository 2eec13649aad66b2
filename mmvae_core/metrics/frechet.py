r"""Fréchet distance between the features of real and of generated pictures.

Two sets of feature vectors are each summed up by a Gaussian. The squared 2-Wasserstein distance
of the two Gaussians, which is what FID reports and what every function here returns, is

.. math::
    d^2 = \|\mu_a - \mu_b\|^2 + \mathrm{tr}\big(\Sigma_a + \Sigma_b
          - 2 (\Sigma_a^{1/2} \Sigma_b \Sigma_a^{1/2})^{1/2}\big),

in the squared units of the features. With :math:`\Sigma = L L^T` for any factor L the last trace
is the nuclear norm of :math:`L_a^T L_b`: the sum of its singular values, exact where a matrix is
singular, as it is where a feature never fires.

**Bias.** Estimated from N vectors, d² is too large by about c/N, where c grows with the number of
features: two halves of one data set do not come out at 0. So figures compare at the same N only,
and the distance between two halves of the real pictures is reported beside them as a floor. It is
of N/2 against N/2 vectors, about twice the bias of N against N.

**Uncertainty.** The vectors are dealt to G blocks in turn, and a block of generated vectors is
left out together with the real ones of the same block (which they may have been made from). With
:math:`\theta_g` the distance without block g the delete-one-block jackknife gives

.. math:: \mathrm{stderr}^2 = \frac{G-1}{G} \sum_g (\theta_g - \bar\theta)^2 .

Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium", 2017 (arXiv 1706.08500), for the distance; Chan, Golub and LeVeque, 1983, for the
streaming moments; Quenouille and Tukey for the jackknife.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import nan
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmvae_core import subsets
from mmvae_core.arguments import Count, Seed, arguments
from mmvae_core.checks import check_numbers
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.metrics.estimate import PRIOR, Estimate, Measurement, nested
from mmvae_core.metrics.walk import (
    Accumulator,
    check_complete,
    check_few,
    check_pictures,
    seeded,
    walk,
)
from mmvae_core.model import MultimodalVAE
from mmvae_core.model.members import check_data

__all__ = [
    "BLOCKS",
    "LEAST",
    "Extractor",
    "FeatureStatistics",
    "Features",
    "frechet_distance",
    "gaussian_frechet",
    "quality_gap",
    "statistics_distance",
]

Extractor: TypeAlias = Callable[[Tensor], Tensor]

BLOCKS = 10  # the jackknife's; even, as the floor is taken between the even and the odd ones
LEAST = 4  # real pictures: two halves for the floor, each with a covariance
MEMORY = 4 * 2**30  # bytes that the statistics of several subsets may take at once


@arguments
def gaussian_frechet(
    mean_a: Float[Tensor, "*batch F"],
    cov_a: Float[Tensor, "*batch F F"],
    mean_b: Float[Tensor, "*batch F"],
    cov_b: Float[Tensor, "*batch F F"],
) -> Float[Tensor, "*batch"]:
    """The squared Fréchet (2-Wasserstein) distance of two Gaussians, as FID reports it.

    Args:
        mean_a, cov_a, mean_b, cov_b: in the units of the features, and their squares; covariances
            symmetric and not negative, singular ones allowed. Taken to float64.

    Returns:
        The *square* of the distance; 0 where both Gaussians are one. Diagonal covariances give
        ``|mean_a - mean_b|² + |std_a - std_b|²``.

    >>> one, cov = torch.ones(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    >>> round(gaussian_frechet(one, cov, 0 * one, 4 * cov).item(), 10)  # 2 + (1 - 2)² twice
    4.0
    """
    if not mean_a.shape == mean_b.shape == cov_a.shape[:-1] == cov_b.shape[:-1]:
        raise ValueError(
            "mean_a, mean_b, cov_a, cov_b must have shapes [..., F], [..., F], [..., F, F], "
            f"[..., F, F]; got {[list(x.shape) for x in (mean_a, mean_b, cov_a, cov_b)]}"
        )
    check_numbers(mean_a=mean_a, mean_b=mean_b, cov_a=cov_a, cov_b=cov_b)
    mean_a, mean_b = mean_a.double(), mean_b.double()
    cov_a, cov_b = cov_a.double(), cov_b.double()
    cross = torch.linalg.svdvals(_factor(cov_a).mT @ _factor(cov_b)).sum(-1)
    traces = (cov_a + cov_b).diagonal(dim1=-2, dim2=-1).sum(-1)
    return (mean_a - mean_b).square().sum(-1) + traces - 2 * cross


class FeatureStatistics:
    """Mean and covariance of feature vectors that come in parts, in float64.

    Args:
        dim: F, features of a vector.
        blocks: G, of the jackknife; vector i belongs to block i mod G. Memory is G F² numbers.
        device: of the vectors to come.

    >>> stats = FeatureStatistics(1, blocks=2)
    >>> stats.add(torch.tensor([[1.0], [2.0]]))
    >>> stats.add(torch.tensor([[6.0]]))
    >>> stats.count, stats.mean.tolist(), stats.cov.tolist()
    (3, [3.0], [[7.0]])
    """

    def __init__(
        self, dim: int, *, blocks: int = BLOCKS, device: torch.device | str = "cpu"
    ) -> None:
        if dim < 1 or blocks < 2:
            raise ValueError(
                "statistics need at least one feature and two blocks, so that one can be left "
                f"out; got dim={dim} and blocks={blocks}"
            )
        self.blocks = blocks
        self._roots: list[tuple[Tensor, Tensor, Tensor]] = []
        self._sizes = [0] * blocks
        self._means = torch.zeros(blocks, dim, dtype=torch.float64, device=device)
        self._scatters = torch.zeros(blocks, dim, dim, dtype=torch.float64, device=device)

    def add(self, features: Float[Tensor, "N F"]) -> None:
        """Take in ``N`` more vectors."""
        self._roots.clear()
        features, first = features.double(), self.count
        for block in range(self.blocks):
            part = features[(block - first) % self.blocks :: self.blocks]
            if (size := len(part)) == 0:
                continue
            before, mean = self._sizes[block], part.mean(dim=0)
            centred, shift = part - mean, mean - self._means[block]
            share = size / (before + size)  # of the new ones
            self._scatters[block].addmm_(centred.T, centred).addr_(
                shift, shift, alpha=before * share
            )
            self._means[block] += shift * share
            self._sizes[block] += size

    @property
    def count(self) -> int:
        """Vectors so far."""
        return sum(self._sizes)

    @property
    def mean(self) -> Float[Tensor, " F"]:
        return self._moments(None)[0]

    @property
    def cov(self) -> Float[Tensor, "F F"]:
        """The unbiased sample covariance (divided by ``count - 1``)."""
        return self._moments(None)[1]

    @property
    def memory(self) -> int:
        """Bytes."""
        return self._scatters.numel() * self._scatters.element_size()

    def roots(self, *, jackknife: bool = True) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Mean, trace of the covariance and a factor L with L L^T = covariance: of all vectors,
        then (with ``jackknife``) without each block. Kept until vectors are added."""
        wanted = [None, *range(self.blocks)] if jackknife else [None]
        for left_out in wanted[len(self._roots) :]:
            mean, cov = self._moments(left_out)
            self._roots.append((mean, cov.trace(), _factor(cov)))
        return self._roots[: len(wanted)]

    def half(self, which: int) -> FeatureStatistics:
        """The statistics of the blocks of even (0) or odd (1) number, alone."""
        blocks, dim, _ = self._scatters[which::2].shape
        half = FeatureStatistics(dim, blocks=blocks, device=self._means.device)
        half._sizes = self._sizes[which::2]
        half._means.copy_(self._means[which::2])
        half._scatters.copy_(self._scatters[which::2])
        return half

    def _moments(self, left_out: int | None) -> tuple[Tensor, Tensor]:
        kept = [block for block in range(self.blocks) if block != left_out]
        size = self._means.new_tensor([self._sizes[block] for block in kept])[:, None]
        total = int(size.sum())
        if total < 2:
            raise ValueError(f"a covariance needs at least two vectors; got {total}")
        mean = (size * self._means[kept]).sum(dim=0) / total
        shift = self._means[kept] - mean
        scatter = self._scatters[kept].sum(dim=0) + (size * shift).T @ shift
        return mean, scatter / (total - 1)


def statistics_distance(real: FeatureStatistics, made: FeatureStatistics) -> Estimate:
    """The Fréchet distance (squared) between two sets of vectors, with its jackknife error.

    Both need the same number of blocks, which are left out together. ``num_samples`` is the
    smaller of the two counts; where it leaves fewer than two vectors a block, the error is NaN.
    The roots of ``real`` are kept for the next call: many sets are held against the same one.
    """
    return _jackknifed(_leave_one_out(real, made), min(real.count, made.count))


def _leave_one_out(real: FeatureStatistics, made: FeatureStatistics) -> Float[Tensor, " n"]:
    """The distance of all vectors, then (with two vectors a block) without each block in turn."""
    if real.blocks != made.blocks:
        raise ValueError(
            "the jackknife leaves one block out on both sides, so both need the same number of "
            f"blocks; got {real.blocks} and {made.blocks}"
        )
    enough = min(real.count, made.count) >= 2 * real.blocks
    roots = real.roots(jackknife=enough)
    values = []
    for left_out, (mean, trace, root) in zip([None, *range(real.blocks)], roots, strict=False):
        other_mean, other_cov = made._moments(left_out)
        # With one root at hand the eigenvalues of L^T cov L are cheaper than singular values; a
        # root of rounding instead of 0 is of the order 1e-8 of the largest.
        inner = root.mT @ other_cov @ root
        cross = torch.linalg.eigvalsh((inner + inner.mT) / 2).clamp_min(0).sqrt().sum()
        shift = (mean - other_mean).square().sum()
        values.append((shift + trace + other_cov.trace() - 2 * cross).item())
    return torch.tensor(values, dtype=torch.float64)


def _jackknifed(values: Tensor, count: int) -> Estimate:
    """The first value; the others, without each block, give its error, NaN where there are none."""
    without = values[1:]
    error = without.std(correction=0).item() * (len(without) - 1) ** 0.5 if len(without) else nan
    return Estimate(values[0].item(), error, count)


@dataclass(eq=False)
class Features(Accumulator):
    """Features of pictures, by what the pictures were made from; real ones from nothing, ``""``.

    Args:
        metric: what the distances are called in rows.
        extractors: by modality, where the walk itself shows the pictures.
    """

    metric: str
    extractors: Mapping[str, Extractor] = field(default_factory=dict)
    statistics: dict[tuple[str, str], FeatureStatistics] = field(default_factory=dict, init=False)

    def wanted(self, given: Sequence[str]) -> Iterable[str]:
        return self.extractors

    def look(self, given: str, made: Mapping[str, Tensor], label: Tensor | None) -> None:
        for name in [name for name in made if name in self.extractors]:
            self.add_vectors(given, name, self.extractors[name](made[name]))

    def add_vectors(self, given: str, name: str, features: Float[Tensor, "N F"]) -> None:
        """Take in the features of pictures of modality ``name``."""
        if (given, name) not in self.statistics:
            self.statistics[given, name] = FeatureStatistics(
                features.shape[1], device=features.device
            )
        self.statistics[given, name].add(features)

    def floor(self) -> Iterator[Measurement]:
        """The distances between two halves of the real pictures."""
        for (given, name), real in self.statistics.items():
            if not given:
                distance = statistics_distance(real.half(0), real.half(1))
                yield Measurement(f"{self.metric}_floor", "", name, *distance)

    def rows(self) -> Iterator[Measurement]:
        """The distances of all others to them. Their statistics are forgotten as it goes."""
        for given, name in [key for key in self.statistics if key[0]]:
            made = self.statistics.pop((given, name))
            distance = statistics_distance(self.statistics["", name], made)
            yield Measurement(self.metric, given, name, *distance)


@arguments
def frechet_distance(
    model: MultimodalVAE,
    data: MultimodalDataset,
    extractors: Extractor | Sequence[Extractor],
    *,
    given: Bool[Tensor, "K M"] | None = None,
    count: Count = 2000,
    seed: Seed = 0,
    show_progress: bool = False,
) -> dict[str, dict[str, Estimate]]:
    """Distances of generated to real pictures, by what they were generated from.

    From a subset S of the views of every sample all modalities are made, those of S too, as in
    the papers' "conditional" figures; their "unconditional" one takes draws from the prior.

    Args:
        data: real pictures; both what is given and what the made ones are held against.
        extractors: from pictures ``[B, C, H, W]`` in [0, 1] to features ``[B, F]``: one for all
            modalities, such as :func:`mmvae_core.metrics.inception`, or one for each, such as
            the ``features`` of :class:`~mmvae_core.metrics.classifiers.Classifier`.
        given: the subsets; all of them by default.
        count: draws from the prior.

    Returns:
        ``{given: {generated: distance squared}}``: every subset by its name, then ``"prior"``;
        and under ``""`` the floor, the distance between two halves of the real pictures.

    Raises:
        ValueError: a sample lacks a view, there are fewer than 4 samples or 2 draws, there is not
            one extractor a modality, or a modality has no pictures.

    The features' units are the extractor's: distances by different extractors do not compare, and
    only those by Inception-v3 are FID.
    """
    names = model.names
    each = [*extractors] if isinstance(extractors, Sequence) else [extractors] * len(names)
    if len(each) != len(names):
        raise ValueError(f"one extractor is needed, or one for each of {names}; got {len(each)}")
    check_data(model.spec, data)
    check_complete(data, "the Fréchet distance")
    check_pictures(data, "features are taken of", "imputation_error takes other views")
    check_few(data, LEAST, "the Fréchet distance, with its floor,")
    _check_count(count)
    rows = subsets.powerset(len(names)) if given is None else given
    features = Features("distance", dict(zip(names, each, strict=True)))
    features.look_at(data)
    weight = sum(real.memory for real in features.statistics.values())
    found = [*features.floor()]
    seen_in = partial(walk, model, accumulators=[features], generator=seeded(model, seed),
                      show_progress=show_progress)  # fmt: skip
    # Statistics of 2048 features weigh 34 MB a block: as many subsets at once as memory holds.
    for some in rows.split(max(1, MEMORY // weight)):
        found += seen_in(data=data, rows=some)
    found += seen_in(data=None, from_prior=count)
    return nested(found, "given", "generated")


@arguments
def quality_gap(
    models: Mapping[int, MultimodalVAE],
    vae: MultimodalVAE,
    data: MultimodalDataset,
    extractor: Extractor,
    *,
    given: str = PRIOR,
    count: Count = 2000,
    seed: Seed = 0,
) -> dict[int, Estimate]:
    r"""The generative quality gap: what learning several modalities at once costs one of them.

    .. math:: \mathrm{gap}(M) = d^2(\text{model of } M \text{ modalities}) - d^2(\text{VAE of one}),

    both distances those of the same modality's pictures to the same real ones (with Inception
    features the papers' FID). Positive where the multimodal model paints worse. The finite-sample
    bias of the distances, nearly the same in both, mostly goes out of the difference.

    Args:
        models: by their number of modalities, the VAE's among them.
        vae: the model of that one modality, which is the one that is looked at.
        data: real samples, with every modality of every model; those with the VAE's count.
        extractor: from this modality's pictures to features.
        given: ``"prior"``, or ``"self"``: pictures made from the modality itself.
        count: draws from the prior.

    Returns:
        ``{M: gap}``, with the error of the difference itself: the jackknife leaves the same block
        of real pictures out of both distances.

    Raises:
        ValueError: the VAE has several modalities, a model lacks its modality, or ``given`` is
            neither of the two, or modalities are in another order than the data's.

    Source: Daunhawer et al., "On the Limitations of Multimodal VAEs", ICLR 2022 (arXiv 2110.04121);
    over 2 to 5 modalities in arXiv 2505.01134.
    """
    if not models:
        raise ValueError("models must hold a model at least, by its number of modalities; got none")
    if len(vae.names) != 1:
        raise ValueError(f"the yardstick is a VAE of one modality; got one of {vae.names}")
    if given not in (PRIOR, "self"):
        raise ValueError(f"given must be {PRIOR!r} or 'self'; got {given!r}")
    (name,) = vae.names
    lacking = [num for num, model in models.items() if name not in model.names]
    if lacking:
        raise ValueError(f"the models of {lacking} modalities lack the VAE's {name}")
    for model in [vae, *models.values()]:
        check_data(model.spec, data.modalities(model.names))
    _check_count(count)
    shown = data.having(name)
    check_few(shown, 2, "the gap")
    features = Features("", {name: extractor})
    features.look_at(shown.modalities([name]))
    real = features.statistics["", name]

    def painted(model: MultimodalVAE) -> FeatureStatistics:
        """What the model makes of the modality."""
        features, generator = Features("", {name: extractor}), seeded(model, seed)
        if given == PRIOR:
            walk(model, None, [features], generator=generator, from_prior=count)
        else:
            rows = subsets.mask([name], model.names)[None]
            walk(model, shown.modalities(model.names), [features], rows, generator=generator)
        (made,) = features.statistics.values()
        return made

    base, result = _leave_one_out(real, painted(vae)), {}
    for num, model in models.items():
        made = painted(model)
        gaps = _leave_one_out(real, made) - base
        result[num] = _jackknifed(gaps, min(real.count, made.count))
    return result


def _check_count(count: int) -> None:
    if count < 2:
        raise ValueError(f"count must be at least 2, draws with a covariance; got {count}")


def _factor(cov: Tensor) -> Tensor:
    """L with L L^T = cov; rounding below 0 is taken for 0."""
    values, vectors = torch.linalg.eigh((cov + cov.mT) / 2)
    return vectors * values.clamp_min(0).sqrt()[..., None, :]
