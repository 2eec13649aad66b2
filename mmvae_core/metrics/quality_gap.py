r"""The generative quality gap: what learning several modalities at once costs one of them.

.. math:: \mathrm{gap}(M) = d^2(\text{model of } M \text{ modalities}) - d^2(\text{VAE of one}),

both distances those of the same modality's pictures to the same real ones
(:mod:`mmvae_core.metrics.frechet`; with Inception features the papers' FID). Positive where the
multimodal model paints worse than the VAE that has to do with this modality only. The finite-sample
bias of the distances, nearly the same in both, mostly goes out of the difference.

Source: Daunhawer et al., "On the Limitations of Multimodal VAEs", ICLR 2022 (arXiv 2110.04121);
over 2 to 5 modalities in arXiv 2505.01134.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, nan, sqrt
from statistics import fmean, stdev

import torch
from torch import Generator

from mmvae_core import subsets
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.metrics.estimate import Estimate
from mmvae_core.metrics.frechet import (
    BLOCKS,
    Extractor,
    FeatureStatistics,
    gathered,
    jackknife_error,
    leave_one_out,
)
from mmvae_core.metrics.generation import BATCH, encoded, sizes, views
from mmvae_core.model import MultimodalVAE

__all__ = ["mean_over_runs", "model_quality_gap", "quality_gap"]

PRIOR = "prior"


def quality_gap(
    multimodal: Mapping[int, Sequence[Estimate]], unimodal: Sequence[Estimate]
) -> dict[int, Estimate]:
    """The gap from distances that were measured before, over runs with several seeds.

    Args:
        multimodal: the distances of the runs with M modalities, by M.
        unimodal: those of the runs of the VAE.

    Returns:
        ``{M: gap}``; the error is that of both means (:func:`mean_over_runs`) in quadrature, and
        ``num_samples`` the number of multimodal runs. Both distances share the real pictures, so
        their errors go together a little, and the error is rather too large than too small.

    Raises:
        ValueError: no run is there.

    >>> vae, three = Estimate(2.0, 0.3, 2000), Estimate(5.0, 0.4, 2000)
    >>> quality_gap({3: [three]}, [vae])
    {3: Estimate(value=3.0, stderr=0.5, num_samples=1)}
    """
    yardstick = mean_over_runs(unimodal)
    result = {}
    for num, runs in multimodal.items():
        mean = mean_over_runs(runs)
        error = sqrt(mean.stderr**2 + yardstick.stderr**2)
        result[num] = Estimate(mean.value - yardstick.value, error, mean.num_samples)
    return result


def mean_over_runs(runs: Sequence[Estimate]) -> Estimate:
    """The mean of runs that differ by their seed; ``num_samples`` is how many there are.

    The error of the mean is the spread between the runs over the root of their number, but not
    below what the errors of the measurements amount to, for two or three runs may lie close to
    each other by chance. What all runs share (the real pictures) is not in it. NaN where there is
    no spread and a measurement has no error.
    """
    if not runs:
        raise ValueError("a mean over runs needs at least one run; got none")
    count = len(runs)
    between = stdev(run.value for run in runs) / sqrt(count) if count > 1 else nan
    within = sqrt(sum(run.stderr**2 for run in runs)) / count
    error = max((error for error in (between, within) if not isnan(error)), default=nan)
    return Estimate(fmean(run.value for run in runs), error, count)


def model_quality_gap(
    models: Mapping[int, MultimodalVAE],
    vae: MultimodalVAE,
    data: MultimodalDataset,
    extractor: Extractor,
    *,
    given: str = PRIOR,
    count: int = 2000,
    blocks: int = BLOCKS,
    seed: int = 0,
) -> dict[int, Estimate]:
    """The gap of models at hand, with the error of the difference itself.

    Args:
        models: by their number of modalities, the VAE's among them.
        vae: the model of that one modality, which is the one that is looked at.
        data: real samples with every modality of every model.
        extractor: from this modality's pictures to features.
        given: ``"prior"``, or ``"self"``: pictures made from the modality itself.
        count: draws from the prior.

    Returns:
        ``{M: gap}``. The jackknife leaves the same block of real pictures out of both distances.

    Raises:
        ValueError: the VAE has several modalities, a model lacks its modality, or ``given`` is
            neither of the two, or modalities are in another order than the data's.
    """
    if len(vae.names) != 1:
        raise ValueError(f"the yardstick is a VAE of one modality; got one of {vae.names}")
    if given not in (PRIOR, "self"):
        raise ValueError(f"given must be {PRIOR!r} or 'self'; got {given!r}")
    (name,) = vae.names
    lacking = [num for num, model in models.items() if name not in model.names]
    if lacking:
        raise ValueError(f"the models of {lacking} modalities lack the VAE's {name}")
    for model in models.values():
        order = list(data.modalities(model.names).names)
        if order != list(model.names):
            raise ValueError(
                f"a model's modalities must be in the order of the data, {order}; "
                f"got {list(model.names)}"
            )
    real: FeatureStatistics | None = None
    for batch in data.modalities([name]).batches(BATCH):
        real = gathered(real, extractor, batch.x[0], blocks)
    assert real is not None  # no data set is empty
    options = (extractor, given, count, blocks, seed)
    base, *base_without = leave_one_out(real, _made(vae, name, data, *options))
    result = {}
    for num, model in models.items():
        made = _made(model, name, data, *options)
        value, *without = leave_one_out(real, made)
        pairs = zip(without, base_without, strict=True)
        error = jackknife_error([ours - theirs for ours, theirs in pairs])
        result[num] = Estimate(value - base, error, min(real.count, made.count))
    return result


@torch.no_grad()
def _made(
    model: MultimodalVAE,
    name: str,
    data: MultimodalDataset,
    extractor: Extractor,
    given: str,
    count: int,
    blocks: int,
    seed: int,
) -> FeatureStatistics:
    """What the model makes of one modality, from the prior or from the modality itself."""
    model.eval()
    generator = Generator(device=model.device).manual_seed(seed)
    stats: FeatureStatistics | None = None
    if given == PRIOR:
        for size in sizes(count):
            made = model.sample(size, generator=generator)[name]
            stats = gathered(stats, extractor, made, blocks)
    else:
        m = model.names.index(name)
        own = subsets.mask([m], model.names)
        for _, experts, q in encoded(model, data.modalities(model.names), own[None]):
            z = q.draw(1, generator)[0, 0]
            seen = views(model, experts, own, z, generator=generator, modalities=[m])
            stats = gathered(stats, extractor, seen[name], blocks)
    assert stats is not None
    return stats
