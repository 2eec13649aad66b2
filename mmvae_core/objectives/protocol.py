"""What an objective asks of a model: the experts of a batch, and what the decoders say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmvae_core.aggregation import Aggregate
from mmvae_core.checks import one_of
from mmvae_core.data.dataset import Batch
from mmvae_core.distributions import FAMILIES, ClusterPrior, StandardPrior
from mmvae_core.learned import ExpertGate
from mmvae_core.objectives.subset_weights import SubsetWeights
from mmvae_core.tableau import AnyTableau

__all__ = ["Experts", "Joined", "Latents", "Reference", "SampledMixture"]


class Experts(NamedTuple):
    """What the encoders say of a batch.

    ``loc, scale`` ``[M, B, D]`` of the shared latent; ``private_loc, private_scale`` ``[M, B, W]``
    of the modality's own, with ``W = 0`` where the recipe has none. Where a modality is absent
    they are fillers.
    """

    loc: Float[Tensor, "M B D"]
    scale: Float[Tensor, "M B D"]
    private_loc: Float[Tensor, "M B W"]
    private_scale: Float[Tensor, "M B W"]


@dataclass(frozen=True)
class Latents:
    """The latent space: the family of experts and prior, and what stands beside the shared part.

    Args:
        family: from :data:`mmvae_core.distributions.FAMILIES`.
        private_dim: how many more latent dimensions every modality has for itself.
        clusters: how many components the prior has; 0 for N(0, I).
        own: a modality that was given is decoded from its own expert.
    """

    family: str = "normal"
    private_dim: int = 0
    clusters: int = 0
    own: bool = False

    def __post_init__(self) -> None:
        one_of("latent", self.family, FAMILIES)
        if self.clusters and self.family != "normal":
            raise ValueError(f"a prior of clusters is normal; got latent={self.family!r}")

    def prior(self, latent_dim: int) -> StandardPrior | ClusterPrior:
        """p(z), a module: a mixture of clusters is learned."""
        if self.clusters:
            return ClusterPrior(self.clusters, latent_dim)
        return StandardPrior(self.family)


@dataclass(frozen=True)
class SampledMixture:
    """A reference of several experts is their mixture; the KL is estimated at the draws."""


Reference: TypeAlias = Aggregate | SampledMixture | None
"""What fills a reference of several experts: a rule of its own, their mixture, or, with None, the
rule that fills the posteriors."""


@runtime_checkable
class Joined(Protocol):
    """A model, as far as its objective knows it.

    ``gate`` weighs the experts, where the recipe learns that, and ``pi`` the bounds of the subsets;
    ``auxiliary_log_scale`` ``[M, W]`` is that of the priors of private latents that are not given.
    """

    names: list[str]
    latents: Latents
    aggregate: Aggregate
    reference: Reference
    modality_weights: Tensor
    prior: StandardPrior | ClusterPrior
    auxiliary_log_scale: nn.Parameter | None
    gate: ExpertGate | None
    pi: SubsetWeights | None

    @property
    def device(self) -> torch.device: ...

    def plan(self, batch: Batch) -> AnyTableau:
        """The fixed tableau of what the samples have."""

    def experts(self, batch: Batch) -> Experts:
        """What the encoders say."""

    def log_likelihood(
        self, modality: int, z: Float[Tensor, "*lead B D"], x: Float[Tensor, "B *shape"]
    ) -> Float[Tensor, "*lead B"]:
        """log p(x_m|z) in nats."""
