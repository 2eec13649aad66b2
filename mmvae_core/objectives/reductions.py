"""From evidence or log-weights to the loss: the ways in which a recipe adds up its terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmvae_core import bounds
from mmvae_core.bounds import LogWeights, by_sample
from mmvae_core.data.dataset import Batch
from mmvae_core.objectives.estimates import evidence, log_weights
from mmvae_core.objectives.protocol import Joined, Reference
from mmvae_core.objectives.subset_weights import ClosedForm, Given, Learned
from mmvae_core.tableau import AnyTableau

__all__ = ["LogMean", "MeanLog", "Sum"]


@dataclass(frozen=True)
class Sum:
    """The tableau's sum of weighted log-likelihoods and KL divergences.

    Args:
        pi: the weights of the rows; None where the tableau's own stand.
        reference: what fills references of several experts; None for the posteriors' rule.
    """

    pi: Given | Learned | ClosedForm | None = None
    reference: Reference = None

    @property
    def needs_all(self) -> str | None:
        """Why posteriors cannot be sampled; None where they can."""
        closed = isinstance(self.pi, ClosedForm)
        return "pi in closed form needs the bounds of all" if closed else None

    def terms(
        self, model: Joined, batch: Batch, tableau: AnyTableau, beta: float, **draws: Any
    ) -> dict[str, Tensor]:
        """``loss`` and the terms it is made of, see :meth:`mmvae_core.model.MultimodalVAE.loss`.

        Args:
            draws: ``samples`` and ``generator``, of the latents.
        """
        found = evidence(model, batch, tableau, **draws)
        tableau = tableau.to(model.device)
        rows = bounds.posterior_elbos(
            found, tableau, beta=beta, modality_weights=model.modality_weights
        )  # (K, B)
        if model.pi is None:
            objective = bound = rows.sum(dim=0).mean()
        else:
            bound, gain = model.pi(rows, tableau, batch.present)
            objective = bound + gain
        # Averages over the posteriors that have the term.
        kl_weight = by_sample(tableau.kl, found.kl)
        cost = torch.where(kl_weight != 0, kl_weight * found.kl, 0.0).sum() / kl_weight.sum()
        asked = by_sample(tableau.recon, found.recon[0]) != 0
        logged = _mean_log_likelihoods(model, found.recon, asked)
        return {"loss": -objective, "bound": bound, "kl": cost, **logged}


@dataclass(frozen=True)
class MeanLog:
    """The mean of the log-weights of a mixture of experts, its ELBO; it has no tableau's terms."""

    pi: ClassVar[None] = None
    reference: ClassVar[None] = None
    needs_all: ClassVar[str] = (
        "its objective averages the experts' log-weights, one term a modality"
    )

    @property
    def hold(self) -> bool:
        """Whether log q(z) holds its parameters fixed."""
        return False

    def bound(self, weights: LogWeights, beta: float) -> Float[Tensor, " B"]:
        """The bound of every sample, in nats."""
        return bounds.mean_log_weight(weights)

    def terms(
        self, model: Joined, batch: Batch, tableau: AnyTableau, beta: float, **draws: Any
    ) -> dict[str, Tensor]:
        """As :meth:`Sum.terms`, from every expert that is present."""
        weights = log_weights(model, batch, beta=beta, hold=self.hold, **draws)
        bound, usable = self.bound(weights, beta).mean(), weights.usable
        cost = -torch.where(usable, weights.regular, 0.0).mean(dim=0).sum() / usable.sum()
        asked = usable[:, None] & usable  # (K, M, B): the expert and what it explains are there
        logged = _mean_log_likelihoods(model, weights.recon, asked)
        return {"loss": -bound, "bound": bound, "kl": cost, **logged}


@dataclass(frozen=True)
class LogMean(MeanLog):
    """The logarithm of the mean of the weights over the draws.

    Args:
        tight: the average over the experts stands inside the logarithm too.
        dreg: with the doubly reparametrised gradient.
    """

    tight: bool = False
    dreg: bool = False

    @property
    def hold(self) -> bool:
        return self.dreg

    def bound(self, weights: LogWeights, beta: float) -> Float[Tensor, " B"]:
        if self.dreg:
            return bounds.dreg(weights, beta=beta, tight=self.tight)
        return bounds.iwae(weights, tight=self.tight)


def _mean_log_likelihoods(
    model: Joined, recon: Float[Tensor, "L K M B"], asked: Bool[Tensor, "K M B"]
) -> dict[str, Tensor]:
    """The mean log-likelihood of every modality, over draws and over what was asked for."""
    values = torch.where(asked, recon.mean(dim=0), 0.0).sum(dim=(0, 2))  # (M,)
    means = values / asked.sum(dim=(0, 2)).clamp_min(1)
    return {f"log_likelihood_{name}": means[m] for m, name in enumerate(model.names)}
