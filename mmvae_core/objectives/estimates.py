"""From a model and a batch, by draws, to what :mod:`mmvae_core.bounds` reduces."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from mmvae_core import bounds
from mmvae_core.bounds import Evidence, LogWeights
from mmvae_core.data.dataset import Batch
from mmvae_core.distributions import log_density, standard_noise
from mmvae_core.objectives.prior_expert import consensus
from mmvae_core.objectives.protocol import Experts, Joined, SampledMixture
from mmvae_core.tableau import AnyTableau, SampleTableaux, Tableau, sent

__all__ = ["evidence", "log_weights"]


def evidence(
    model: Joined,
    batch: Batch,
    tableau: AnyTableau | None = None,
    *,
    samples: int = 1,
    generator: Generator | None = None,
) -> Evidence:
    """What the batch says about every term of the tableau (the recipe's own by default), in nats.

    Args:
        samples: L, draws from every posterior.
        generator: of their noise.
    """
    if tableau is None:
        tableau = model.plan(batch)
    elif isinstance(tableau, Tableau) and not batch.complete:
        raise ValueError(
            "a tableau for complete samples was given with a batch that lacks modalities; "
            "make the batch's own with recipe.plan(len(batch), batch.present.cpu())"
        )
    experts = model.experts(batch)
    loc, scale = consensus(model.aggregate, *experts[:2], tableau.cond)  # (K, B, D)
    z = _draw(loc, scale, samples, "normal", generator)  # (L, K, B, D)
    gate = present = None
    if model.gate is not None:
        if isinstance(tableau, SampleTableaux):  # its references tell what the samples have
            present = sent(tableau.ref[:, :-1].any(dim=0), loc.device)  # (M, B)
        gate = model.gate(experts.loc, experts.scale, present)  # (M, B)
    if isinstance(model.reference, SampledMixture):
        kl = _sampled_kl(experts, tableau, loc, scale, z, gate)
    else:
        rule = model.reference or model.aggregate
        kl = bounds.gaussian_kl(loc, scale, *consensus(rule, *experts[:2], tableau.ref))
        if gate is not None:
            kl = kl * _shares(gate, present, tableau)
    asked = (tableau.recon != 0).unbind(dim=1)  # on the host
    recon = [_where_asked(model, m, z, batch.x[m], rows) for m, rows in enumerate(asked)]
    return Evidence(torch.stack(recon, dim=2), kl)


def log_weights(
    model: Joined,
    batch: Batch,
    *,
    beta: float = 1.0,
    samples: int = 1,
    generator: Generator | None = None,
    hold: bool = False,
) -> LogWeights:
    r"""log p(X, z) - log q(z|X) for ``samples`` draws from every expert, q the mixture of all.

    With private latents, :math:`w` of draw and expert k,

    .. math::
        \sum_n \lambda_n \log p(x_n|z, w_n)
        + \beta\,[\log p(z) - \log q(z|X) + \log p(w_k) - \log q(w_k|x_k)],

    where :math:`w_k` comes from k's own encoder and the others from their auxiliary priors.

    Args:
        hold: hold the parameters of q fixed inside its density, as
            :func:`mmvae_core.bounds.dreg` needs it.
    """
    family, auxiliary = model.latents.family, model.auxiliary_log_scale
    experts = model.experts(batch)
    usable = batch.present.T  # (K, B): every expert is a component
    z = _draw(experts.loc, experts.scale, samples, family, generator)  # (L, K, B, D)
    density = [part.detach() if hold else part for part in experts]
    each = log_density(family, z[:, :, None], density[0], density[1])  # (L, K, M, B)
    each = each.masked_fill(~usable, float("-inf"))
    log_q = each.logsumexp(dim=2) - usable.sum(dim=0).to(each).log()  # (L, K, B)
    regular = model.prior.log_prob(z) - log_q
    draws: tuple[Tensor, ...] = (z,)
    if auxiliary is not None:
        own = _draw(experts.private_loc, experts.private_scale, samples, family, generator)
        regular = regular + log_density(family, own, own.new_zeros(()), own.new_ones(()))
        regular = regular - log_density(family, own, density[2], density[3])
        draws = (z, own)
        # For every target modality n and source k a draw from n's auxiliary prior, (L, K, n, B, W)
        shape = (samples, len(own[0]), len(model.names), *own.shape[2:])
        aside = standard_noise(family, shape, own, generator)
        aside = aside * auxiliary.exp()[:, None]
    # Expert k explains modality m where the sample has both; looked at on the host.
    there = torch.ones(len(z[0]), 1, dtype=torch.bool) if batch.complete else usable.cpu()
    recon = []
    for m in range(len(model.names)):
        latents = z
        if auxiliary is not None:
            mine = torch.zeros(len(model.names), dtype=torch.bool, device=z.device)
            mine[m] = True
            beside = torch.where(mine[:, None, None], own, aside[:, :, m])
            latents = torch.cat([z, beside], dim=-1)
        recon.append(_where_asked(model, m, latents, batch.x[m], there & there[m]))
    stacked = torch.stack(recon, dim=2)  # (L, K, M, B)
    total = (stacked * model.modality_weights[:, None]).sum(dim=2)
    return LogWeights(total + beta * regular, usable, draws, stacked, regular)


def _where_asked(
    model: Joined,
    modality: int,
    z: Float[Tensor, "L K B D"],
    x: Float[Tensor, "B *shape"],
    asked: Bool[Tensor, "K *batch"],
) -> Float[Tensor, "L K B"]:
    """log p(x_m|z) where posterior k, or k for sample b, is ``asked`` for it (on the host); 0 and
    no run of the decoder elsewhere."""
    if asked.all():
        return model.log_likelihood(modality, z, x)
    values = z.new_zeros(z.shape[:3])
    k, *b = (sent(part, z.device) for part in asked.nonzero(as_tuple=True))
    if not len(k):
        return values
    if not b:
        return values.index_copy(1, k, model.log_likelihood(modality, z[:, k], x))
    found = model.log_likelihood(modality, z[:, k, b[0]], x[b[0]])  # (L, N)
    return values.index_put((torch.arange(len(z), device=z.device)[:, None], k, b[0]), found)


def _shares(
    gate: Float[Tensor, "M B"], present: Tensor | None, tableau: AnyTableau
) -> Float[Tensor, "R B"]:
    """What the gate makes of a tableau that gives all modalities that are present one weight.

    The reference of modality n, wherever it stands among the rows, gets M_present times g_n.
    """
    member = sent(tableau.ref[:, :-1], gate.device).to(gate)
    member = member if member.ndim == 3 else member[..., None]  # (R, M, 1 or B)
    share = gate * (len(gate) if present is None else present.sum(dim=0))
    prior = (member.sum(dim=1) == 0).to(gate)
    return (member * share).sum(dim=1) + prior


def _sampled_kl(
    experts: Experts,
    tableau: AnyTableau,
    loc: Tensor,
    scale: Tensor,
    z: Tensor,
    gate: Tensor | None,
) -> Float[Tensor, "K R B"]:
    """KL of every posterior: the prior's is known, that to a mixture is estimated at the draws."""
    prior = bounds.gaussian_kl(loc, scale, torch.zeros_like(loc[:1]), torch.ones_like(loc[:1]))
    each = log_density("normal", z[:, :, None], *experts[:2])  # (L, K, M, B)
    log_q = log_density("normal", z, loc, scale)  # (L, K, B)
    weight = torch.ones_like(each[0, 0]) if gate is None else gate  # (M, B)
    weight = weight.clamp_min(torch.finfo(weight.dtype).tiny)  # a gate may have shut to 0
    columns = []
    for row in tableau.ref[:, :-1]:
        if not bool(row.any()):
            columns.append(prior[:, 0])
            continue
        members = sent(row, loc.device).view(len(weight), -1)  # (M, 1 or B)
        # Logarithms of members' weights alone: that of an absent one's 0 would have no gradient.
        share = torch.where(members, weight, 1.0).log().masked_fill(~members, float("-inf"))
        mixture = (each + share.log_softmax(dim=0)).logsumexp(dim=2)
        columns.append((log_q - mixture).mean(dim=0))
    return torch.stack(columns, dim=1)


def _draw(
    loc: Tensor, scale: Tensor, samples: int, family: str, generator: Generator | None
) -> Float[Tensor, "L K B D"]:
    if samples < 1:
        raise ValueError(f"samples must be at least 1, draws from every posterior; got {samples}")
    return loc + scale * standard_noise(family, (samples, *loc.shape), loc, generator)
