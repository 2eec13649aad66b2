"""Likelihoods, scale maps and the mixture of experts; ``torch.distributions`` does the rest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    Laplace,
    MixtureSameFamily,
    Normal,
)
from torch.nn.functional import softplus

__all__ = [
    "LIKELIHOODS",
    "SCALES",
    "bounded_scale",
    "exponential_scale",
    "laplace",
    "mixture_of_experts",
    "normal",
]

LAPLACE_SCALE = 0.75  # the authors' code of CoDE-VAE (arXiv 2505.01134)


def laplace(params: Tensor, scale: float = LAPLACE_SCALE) -> Laplace:
    """Laplace likelihood with location ``params`` and a fixed ``scale`` (in units of the data)."""
    return Laplace(params, params.new_full((), scale), validate_args=False)


def normal(params: Tensor, scale: float = 1.0) -> Normal:
    """Normal likelihood with location ``params`` and a fixed ``scale`` (in units of the data)."""
    return Normal(params, params.new_full((), scale), validate_args=False)


LIKELIHOODS: dict[str, Callable[..., Distribution]] = {
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


SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "exponential": exponential_scale,
    "bounded": bounded_scale,
}


def mixture_of_experts(
    loc: Float[Tensor, "M *shape"],
    scale: Float[Tensor, "M *shape"],
    weights: Float[Tensor, " M"] | None = None,
    event_dims: int = 0,
) -> MixtureSameFamily:
    r"""The mixture of experts: q(z) = sum_m w_m N(z; mu_m, diag(sigma_m^2)).

    It is not a Gaussian, so it stays a distribution; its Gaussian stand-in with the same first
    two moments is :func:`mmvae_core.aggregation.forward_kl`.

    Args:
        loc, scale: the experts, one per leading index.
        event_dims: how many of the last dimensions one draw of the component decides together
            (1 for a latent vector; 0 gives a mixture for every number, for plots).
        weights: mixture weights, positive, scaled to sum 1; uniform by default.

    Source: Shi et al., "Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep
    Generative Models", 2019 (arXiv 1911.03393).

    >>> q = mixture_of_experts(torch.tensor([4.0, 8.0]), torch.tensor([3.0 ** 0.5, 1.0]))
    >>> round(q.mean.item(), 4), round(q.variance.item(), 4)
    (6.0, 6.0)
    """
    if weights is None:
        weights = torch.ones(len(loc), dtype=loc.dtype, device=loc.device)
    if weights.shape != (len(loc),) or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(
            f"weights must be {len(loc)} numbers, none negative, not all 0; got {weights.tolist()}"
        )
    batch = loc.shape[1 : loc.ndim - event_dims]
    component = -1 - event_dims
    experts = Normal(loc.movedim(0, component), scale.movedim(0, component))
    return MixtureSameFamily(
        Categorical(probs=weights.to(loc).expand(*batch, len(loc))),
        Independent(experts, event_dims),
    )


def event_log_prob(likelihood: Distribution, x: Tensor, event_dims: int) -> Tensor:
    """log p(x) in nats, summed over the last ``event_dims`` dimensions."""
    return Independent(likelihood, event_dims, validate_args=False).log_prob(x)
