"""Likelihoods, scale maps, priors and posteriors; ``torch.distributions`` does the rest.

What is our own is there because ``torch.distributions`` draws without a generator, and a run that
is to resume bit for bit needs one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, log1p, pi

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    Laplace,
    MixtureSameFamily,
    Normal,
    OneHotCategorical,
)
from torch.nn.functional import softplus

from mmvae_core.arguments import Count, arguments
from mmvae_core.checks import check_numbers, one_of

__all__ = [
    "FAMILIES",
    "LIKELIHOODS",
    "SCALES",
    "ClusterPrior",
    "Posterior",
    "StandardPrior",
    "bounded_scale",
    "categorical",
    "exponential_scale",
    "laplace",
    "log_density",
    "mixture_of_experts",
    "normal",
    "raw_scale",
    "softmax_scale",
    "standard_noise",
]

LAPLACE_SCALE = 0.75  # the authors' code of CoDE-VAE (arXiv 2505.01134)


def laplace(params: Tensor, scale: float = LAPLACE_SCALE) -> Laplace:
    """Laplace likelihood with location ``params`` and a fixed ``scale`` (in units of the data)."""
    return Laplace(params, params.new_full((), scale), validate_args=False)


def normal(params: Tensor, scale: float = 1.0) -> Normal:
    """Normal likelihood with location ``params`` and a fixed ``scale`` (in units of the data)."""
    return Normal(params, params.new_full((), scale), validate_args=False)


def categorical(params: Tensor, scale: float = 1.0) -> OneHotCategorical:
    """One of U classes, as a one-hot vector of shape ``[..., U]``; ``params`` are the logits.

    ``scale`` has no meaning here; it is there because every likelihood has one.
    """
    return OneHotCategorical(logits=params, validate_args=False)


LIKELIHOODS: dict[str, Callable[..., Distribution]] = {
    "categorical": categorical,
    "laplace": laplace,
    "normal": normal,
}


def exponential_scale(raw: Tensor) -> Tensor:
    """``sigma = exp(raw)``: any positive scale. The map of the CoDE-VAE authors' code, where the
    encoder's second output is the log standard deviation (not the log variance)."""
    return raw.exp()


def bounded_scale(raw: Tensor) -> Tensor:
    """``sigma = exp(-softplus(-raw)) = sigmoid(raw)``, always in (0, 1).

    An expert then never knows less than the prior N(0, 1), which the product of experts with the
    prior counted once and the shared-prior correlation need.
    """
    return torch.exp(-softplus(-raw))


def softmax_scale(raw: Tensor) -> Tensor:
    """``D softmax(raw) + 1e-6``: the D scales of an expert always have the mean 1.

    The map of the authors' code of MMVAE and MMVAE+ (arXiv 1911.03393), for Laplace experts: an
    expert may choose which dimensions it knows, but not to know all of them well.
    """
    return raw.shape[-1] * torch.softmax(raw, dim=-1) + 1e-6


SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "exponential": exponential_scale,
    "bounded": bounded_scale,
    "softmax": softmax_scale,
}


@arguments
def raw_scale(name: str, sigma: float | None) -> float:
    """The raw number that the map called ``name`` takes to ``sigma``; 0 for ``sigma=None``.

    Raises ``ValueError`` where no number does, or (softmax) where it is no map of single numbers.

    >>> round(raw_scale("exponential", 0.5), 4), raw_scale("bounded", 0.5)
    (-0.6931, 0.0)
    """
    one_of("scale", name, SCALES)
    if sigma is None:
        return 0.0
    if name == "exponential" and sigma > 0:
        return log(sigma)
    if name == "bounded" and 0 < sigma < 1:
        return log(sigma) - log1p(-sigma)
    raise ValueError(
        "initial_scale (sigma) must be positive with scale='exponential', between 0 and 1 with "
        f"'bounded', and None with 'softmax'; got {sigma} with {name!r}"
    )


FAMILIES = {"laplace": Laplace, "normal": Normal}
"""Families of experts: location and scale families with independent dimensions."""


def standard_noise(
    family: str, shape: tuple[int, ...], like: Tensor, generator: Generator | None
) -> Tensor:
    """Noise of location 0 and scale 1 with the device and precision of ``like``."""
    if family == "normal":
        return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
    # The inverse of Laplace's distribution function, of a uniform number in (-1/2, 1/2).
    u = torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype) - 0.5
    # u = -1/2 does come; the clamp makes of it the largest number that others give, not infinity.
    smallest = torch.finfo(like.dtype).eps / 2
    return -u.sign() * (1 - 2 * u.abs()).clamp_min(smallest).log()


def log_density(
    family: str,
    z: Float[Tensor, "*batch D"],
    loc: Float[Tensor, "*params"],
    scale: Float[Tensor, "*params"],
) -> Tensor:
    """log q(z) of a factorised density of this family, in nats, summed over the latent.

    ``loc`` and ``scale`` are broadcast against ``z``.
    """
    return FAMILIES[family](loc, scale, validate_args=False).log_prob(z).sum(dim=-1)


@dataclass(frozen=True, eq=False)
class Posterior:
    r"""q(z|x_S) for K subsets: a mixture of C factorised components, one where experts agree.

    .. math:: q_k(z) = \sum_c w_{ckb}\, q(z; \mu_{ckb}, \sigma_{ckb})

    Args:
        loc, scale: ``[C, K, B, D]``, of the components.
        weights: ``[C, K, B]``, summing to 1 over the components; 0 switches one off.
        family: of the components, from :data:`FAMILIES`.
    """

    loc: Float[Tensor, "C K B D"]
    scale: Float[Tensor, "C K B D"]
    weights: Float[Tensor, "C K B"]
    family: str = "normal"

    @property
    def mean(self) -> Float[Tensor, "K B D"]:
        return (self.weights[..., None] * self.loc).sum(dim=0)

    @property
    def stddev(self) -> Float[Tensor, "K B D"]:
        within = self.scale.square() * (2.0 if self.family == "laplace" else 1.0)
        spread = (self.loc - self.mean).square()
        return (self.weights[..., None] * (within + spread)).sum(dim=0).sqrt()

    def draw(self, samples: int, generator: Generator | None = None) -> Float[Tensor, "L K B D"]:
        """``samples`` draws from every posterior: a component for each draw, then its noise."""
        (count, *batch), dim = self.weights.shape, self.loc.shape[-1]
        noise = standard_noise(self.family, (samples, *batch, dim), self.loc, generator)
        if count == 1:
            return self.loc + self.scale * noise
        flat = self.weights.flatten(1).T  # (K B, C)
        chosen = torch.multinomial(flat, samples, replacement=True, generator=generator)
        index = chosen.T.view(samples, *batch, 1).expand(-1, *[-1] * len(batch), dim)
        return self.loc.gather(0, index) + self.scale.gather(0, index) * noise

    def log_prob(self, z: Float[Tensor, "L K B D"]) -> Float[Tensor, "L K B"]:
        """log q_k(z) in nats."""
        each = log_density(self.family, z[:, None], self.loc, self.scale)  # (L, C, K, B)
        return (each + self.weights.log()).logsumexp(dim=1)


class StandardPrior(nn.Module):
    """p(z): location 0 and scale 1 in every dimension, normal or Laplace."""

    def __init__(self, family: str = "normal") -> None:
        super().__init__()
        self.family = family

    def log_prob(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """log p(z) in nats."""
        return log_density(self.family, z, z.new_zeros(()), z.new_ones(()))

    def draw(self, shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
        """Draws of this shape, whose last axis is the latent."""
        return standard_noise(self.family, shape, like, generator)


class ClusterPrior(nn.Module):
    r"""CMVAE's prior, a learned mixture of Gaussians: p(z) = Σ_c π_c N(z; μ_c, diag(σ_c²)).

    Args:
        clusters: C, how many to start with.
        latent_dim: D.

    The buffer ``kept`` ``[C]`` says which of them take part; the rest have π_c = 0
    (:func:`mmvae_core.metrics.prune_clusters` switches clusters off). Means start uniform in
    (-1, 1) as in the authors' code; the scales, which stay 1 there, are learned.

    Source: Palumbo et al., "Deep Generative Clustering with Multimodal Diffusion Variational
    Autoencoders", ICLR 2024.
    """

    kept: Tensor

    @arguments
    def __init__(self, clusters: Count, latent_dim: Count) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(clusters))
        self.loc = nn.Parameter(2 * torch.rand(clusters, latent_dim) - 1)
        self.log_scale = nn.Parameter(torch.zeros(clusters, latent_dim))
        self.register_buffer("kept", torch.ones(clusters, dtype=torch.bool))

    @property
    def log_pi(self) -> Float[Tensor, " C"]:
        """log π."""
        return self.logits.masked_fill(~self.kept, float("-inf")).log_softmax(dim=0)

    def log_joint(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch C"]:
        """log p(z, c) in nats.

        The squared distances to all clusters are two matrix products, so that nothing of the size
        of z times C has to be kept. Taken from the clusters' centre, they cancel little.
        """
        centre = self.loc.mean(dim=0)
        z, loc = z - centre, self.loc - centre
        precision = torch.exp(-2 * self.log_scale)  # (C, D)
        distance = z.square() @ precision.T - 2 * z @ (loc * precision).T
        distance = distance + (loc.square() * precision).sum(dim=1)
        size = 2 * self.log_scale.sum(dim=1) + z.shape[-1] * log(2 * pi)
        return self.log_pi - (distance + size) / 2

    def log_prob(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """log p(z) in nats."""
        return self.log_joint(z).logsumexp(dim=-1)

    def assignment(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch C"]:
        """p(c|z), the share of every cluster in z."""
        return self.log_joint(z).softmax(dim=-1)

    def draw(self, shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
        """Draws of this shape: a cluster, then its Gaussian."""
        *batch, dim = shape
        count = torch.Size(batch).numel()
        chosen = torch.multinomial(self.log_pi.exp(), count, replacement=True, generator=generator)
        noise = standard_noise("normal", (count, dim), like, generator)
        return (self.loc[chosen] + self.log_scale.exp()[chosen] * noise).view(shape)


@arguments
def mixture_of_experts(
    loc: Float[Tensor, "M *shape"],
    scale: Float[Tensor, "M *shape"],
    weights: Float[Tensor, " M"] | None = None,
) -> MixtureSameFamily:
    r"""The mixture of experts: q(z) = sum_m w_m N(z; mu_m, diag(sigma_m^2)).

    It is not a Gaussian, so it stays a distribution; its Gaussian stand-in with the same first
    two moments is :func:`mmvae_core.aggregation.forward_kl`.

    Args:
        loc, scale: the experts, one per leading index; every number has a mixture of its own.
        weights: mixture weights, positive, scaled to sum 1; uniform by default.

    Source: Shi et al., "Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep
    Generative Models", 2019 (arXiv 1911.03393).

    >>> q = mixture_of_experts(torch.tensor([4.0, 8.0]), torch.tensor([3.0 ** 0.5, 1.0]))
    >>> round(q.mean.item(), 4), round(q.variance.item(), 4)
    (6.0, 6.0)
    """
    if loc.shape != scale.shape or not len(loc):
        raise ValueError(
            "loc and scale must have one shape [M, ...], M at least 1; "
            f"got {list(loc.shape)} and {list(scale.shape)}"
        )
    check_numbers(loc=loc)
    check_numbers(above=0.0, scale=scale)
    experts = Normal(loc.movedim(0, -1), scale.movedim(0, -1))
    weights = shares(weights, loc).expand(experts.batch_shape)
    return MixtureSameFamily(Categorical(probs=weights), experts)


def shares(
    weights: Float[Tensor, " M"] | None, like: Float[Tensor, "M *shape"]
) -> Float[Tensor, " M"]:
    """Weights of the M experts ``like``, scaled to sum 1; uniform by default."""
    count = len(like)
    weights = torch.ones(count) if weights is None else torch.as_tensor(weights)
    if weights.shape != (count,) or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(
            f"weights must be {count} numbers, none negative, not all 0; got {weights.tolist()}"
        )
    return weights.to(like) / weights.to(like).sum()


def _is_one_number(values: Tensor) -> bool:
    """Whether a tensor is one number spread over its shape."""
    return values.numel() > 0 and not any(values.stride())


def event_log_prob(likelihood: Distribution, x: Tensor, event_dims: int) -> Tensor:
    """log p(x) in nats, summed over the last ``event_dims`` dimensions."""
    if isinstance(likelihood, Laplace) and event_dims and _is_one_number(likelihood.scale):
        # The likelihood of every picture of every step: torch, which takes the logarithm of the
        # scale of each pixel anew, needs three times as long.
        scale = likelihood.scale[(0,) * likelihood.scale.ndim]
        error = (x - likelihood.loc).abs()
        count = error.shape[-event_dims:].numel()
        return -error.flatten(-event_dims).sum(dim=-1) / scale - count * (2 * scale).log()
    over = event_dims - len(likelihood.event_shape)
    return Independent(likelihood, over, validate_args=False).log_prob(x)
