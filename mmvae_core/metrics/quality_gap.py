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

from collections.abc import Mapping

from mmvae_core import subsets
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.metrics.estimate import PRIOR, Estimate
from mmvae_core.metrics.frechet import (
    BLOCKS,
    Extractor,
    Features,
    jackknife_error,
    leave_one_out,
)
from mmvae_core.metrics.walk import seeded, walk
from mmvae_core.model import MultimodalVAE

__all__ = ["quality_gap"]


def quality_gap(
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
    (real,) = Features("", {name: extractor}, blocks=blocks).real(data.modalities([name]))

    def distances(model: MultimodalVAE) -> tuple[list[float], int]:
        """To what the model makes of the modality, of all and without each block; and how many."""
        features, generator = Features("", {name: extractor}, blocks=blocks), seeded(model, seed)
        if given == PRIOR:
            walk(model, None, [features], generator=generator, from_prior=count)
        else:
            own = subsets.mask([name], model.names)[None]
            walk(model, data.modalities(model.names), [features], own, generator=generator)
        (made,) = features.statistics.values()
        return leave_one_out(real, made), min(real.count, made.count)

    (base, *base_without), _ = distances(vae)
    result = {}
    for num, model in models.items():
        (value, *without), smaller = distances(model)
        pairs = zip(without, base_without, strict=True)
        error = jackknife_error([ours - theirs for ours, theirs in pairs])
        result[num] = Estimate(value - base, error, smaller)
    return result
