"""From a model and a batch to the objective, by the two paths of :mod:`mmvae_core.bounds`."""

from __future__ import annotations

from math import log

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from mmvae_core import bounds, subsets
from mmvae_core.bounds import Evidence, LogWeights, by_sample
from mmvae_core.data.dataset import Batch
from mmvae_core.distributions import log_density, standard_noise
from mmvae_core.model.vae import Experts, MultimodalVAE
from mmvae_core.tableau import SampleTableaux, Tableau, sent

__all__ = ["evidence", "log_weights", "terms"]

BASELINE_RATE = 0.05  # of the running mean that the sampled gradient of the mixture is taken from


def evidence(
    model: MultimodalVAE,
    batch: Batch,
    tableau: Tableau | SampleTableaux | None = None,
    *,
    samples: int = 1,
    generator: Generator | None = None,
    noise: Float[Tensor, "L K B D"] | None = None,
) -> Evidence:
    """What the batch says about every term of the tableau (the recipe's own by default), in nats.

    Args:
        samples: L, draws from every posterior.
        generator: of their noise; or ``noise`` itself.
    """
    if tableau is None:
        tableau = model.recipe.plan(len(batch), None if batch.complete else batch.present.cpu())
    elif isinstance(tableau, Tableau) and not batch.complete:
        raise ValueError(
            "a tableau for complete samples was given with a batch that lacks modalities; "
            "make the batch's own with recipe.plan(len(batch), batch.present.cpu())"
        )
    _check_samples(samples)
    experts = model.experts(batch)
    loc, scale = model.aggregate_experts(experts.loc, experts.scale, tableau.cond)  # (K, B, D)
    if noise is None:
        noise = standard_noise("normal", (samples, *loc.shape), loc, generator)
    z = loc + scale * noise  # (L, K, B, D)
    kl = _divergences(model, experts, tableau, loc, scale, z)
    wanted = tableau.recon != 0  # on the host
    columns = []
    for m in range(len(model.names)):
        column = loc.new_zeros(z.shape[:3])
        rows = wanted[:, m].nonzero()
        if len(rows) == wanted[:, m].numel():
            column = model.log_likelihood(m, z, batch.x[m])
        elif len(rows):
            index = tuple(sent(part, model.device) for part in rows.unbind(dim=1))
            if len(index) == 1:  # whole rows: posterior k for every sample
                column = column.index_copy(
                    1, index[0], model.log_likelihood(m, z[:, index[0]], batch.x[m])
                )
            else:  # posterior k for sample b
                k, b = index
                values = model.log_likelihood(m, z[:, k, b], batch.x[m][b])  # (L, N)
                column = column.index_put((torch.arange(len(z), device=z.device)[:, None], k, b),
                                          values)  # fmt: skip
        columns.append(column)
    return Evidence(torch.stack(columns, dim=2), kl)


def log_weights(
    model: MultimodalVAE,
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
    recipe, family = model.recipe, model.recipe.family
    _check_samples(samples)
    experts = model.experts(batch)
    usable = batch.present.T  # (K, B): every expert is a component
    z = _draw(experts.loc, experts.scale, samples, family, generator)  # (L, K, B, D)
    density = [part.detach() if hold else part for part in experts]
    each = log_density(family, z[:, :, None], density[0], density[1])  # (L, K, M, B)
    each = each.masked_fill(~usable, float("-inf"))
    log_q = each.logsumexp(dim=2) - usable.sum(dim=0).to(each).log()  # (L, K, B)
    regular = model.prior.log_prob(z) - log_q
    draws: tuple[Tensor, ...] = (z,)
    if recipe.private_dim:
        own = _draw(experts.private_loc, experts.private_scale, samples, family, generator)
        regular = regular + log_density(family, own, own.new_zeros(()), own.new_ones(()))
        regular = regular - log_density(family, own, density[2], density[3])
        draws = (z, own)
        # For every target modality n and source k a draw from n's auxiliary prior, (L, K, n, B, W)
        shape = (samples, len(own[0]), len(model.names), *own.shape[2:])
        aside = standard_noise(family, shape, own, generator)
        aside = aside * model.auxiliary_log_scale.exp()[:, None]
    recon = []
    for m in range(len(model.names)):
        latents = z
        if recipe.private_dim:
            mine = torch.zeros(len(model.names), dtype=torch.bool, device=z.device)
            mine[m] = True
            private = torch.where(mine[:, None, None], own, aside[:, :, m])
            latents = torch.cat([z, private], dim=-1)
        if batch.complete:
            values = model.log_likelihood(m, latents, batch.x[m])  # (L, K, B)
        else:
            values = z.new_zeros(z.shape[:3])
            k, b = (usable & usable[m]).nonzero(as_tuple=True)  # both are there
            if len(k):
                some = model.log_likelihood(m, latents[:, k, b], batch.x[m][b])
                values = values.index_put(
                    (torch.arange(samples, device=z.device)[:, None], k, b), some
                )
        recon.append(values)
    stacked = torch.stack(recon, dim=2)  # (L, K, M, B)
    total = (stacked * model.modality_weights[:, None]).sum(dim=2)
    return LogWeights(total + beta * regular, usable, draws, stacked, regular)


def terms(
    model: MultimodalVAE,
    batch: Batch,
    tableau: Tableau | SampleTableaux,
    beta: float,
    samples: int,
    generator: Generator | None,
) -> dict[str, Tensor]:
    """``loss`` and the terms it is made of, see :meth:`MultimodalVAE.loss`."""
    if model.recipe.reduction == "elbo":
        return _linear_terms(model, batch, tableau, beta, samples, generator)
    reduction = model.recipe.reduction
    weights = log_weights(model, batch, beta=beta, samples=samples, generator=generator,
                          hold=reduction == "dreg")  # fmt: skip
    tight = model.recipe.tight
    if reduction == "mixture":
        bound = bounds.mean_log_weight(weights).mean()
    elif reduction == "iwae":
        bound = bounds.iwae(weights, tight=tight).mean()
    else:
        bound = bounds.dreg(weights, beta=beta, tight=tight).mean()
    usable = weights.usable
    cost = -torch.where(usable, weights.regular, 0.0).mean(dim=0).sum() / usable.sum()
    asked = usable[:, None] & usable  # (K, M, B): both the expert and what it explains are there
    logged = _mean_log_likelihoods(model, weights.recon, asked)
    return {"loss": -bound, "bound": bound, "kl": cost, **logged}


def _linear_terms(
    model: MultimodalVAE,
    batch: Batch,
    tableau: Tableau | SampleTableaux,
    beta: float,
    samples: int,
    generator: Generator | None,
) -> dict[str, Tensor]:
    found = evidence(model, batch, tableau, samples=samples, generator=generator)
    tableau = tableau.to(model.device)
    rows = bounds.posterior_elbos(
        found, tableau, beta=beta, modality_weights=model.modality_weights
    )  # (K, B)
    mixture, gamma = model.mixture, model.recipe.entropy_scale
    if model.recipe.closed_form:
        bound, gain = _closed_form(model, batch, tableau, rows)
        objective = bound + gain
    elif mixture is None:
        objective = bound = rows.sum(dim=0).mean()
    else:
        objective = bound = _weighed(model, batch, tableau, rows, mixture)
        if gamma is not None:
            objective = bound + _entropy_gain(mixture, gamma)
    # Averages over the posteriors that have the term.
    kl_weight = by_sample(tableau.kl, found.kl)
    cost = torch.where(kl_weight != 0, kl_weight * found.kl, 0.0).sum() / kl_weight.sum()
    asked = by_sample(tableau.recon, found.recon[0]) != 0
    logged = _mean_log_likelihoods(model, found.recon, asked)
    return {"loss": -objective, "bound": bound, "kl": cost, **logged}


def _mean_log_likelihoods(
    model: MultimodalVAE, recon: Float[Tensor, "L K M B"], asked: Bool[Tensor, "K M B"]
) -> dict[str, Tensor]:
    """The mean log-likelihood of every modality, over draws and over what was asked for."""
    values = torch.where(asked, recon.mean(dim=0), 0.0).sum(dim=(0, 2))  # (M,)
    means = values / asked.sum(dim=(0, 2)).clamp_min(1)
    return {f"log_likelihood_{name}": means[m] for m, name in enumerate(model.names)}


def _divergences(
    model: MultimodalVAE,
    experts: Experts,
    tableau: Tableau | SampleTableaux,
    loc: Tensor,
    scale: Tensor,
    z: Tensor,
) -> Float[Tensor, "K R B"]:
    """KL of every posterior to every reference, in nats."""
    recipe, ref = model.recipe, tableau.ref
    gate = None
    if recipe.gate:
        # One tableau gives all modalities that are present the same weight; the gate shares it out.
        present = _present(tableau, loc)
        gate = model.gate(experts.loc, experts.scale, present)  # (M, B)
    if not recipe.reference_mixture:
        kl = bounds.gaussian_kl(
            loc, scale,
            *model.aggregate_experts(experts.loc, experts.scale, ref, recipe.reference_rule),
        )  # fmt: skip
        if gate is None:
            return kl
        # The reference of modality n, wherever it stands among the rows: M_present times g_n.
        member = sent(ref[:, :-1], loc.device).to(loc)  # (R, M) or (R, M, B)
        share = gate * (len(gate) if present is None else present.sum(dim=0))
        member = member if member.ndim == 3 else member[..., None]
        prior = (member.sum(dim=1) == 0).to(loc)
        return kl * ((member * share).sum(dim=1) + prior)
    # The prior's KL is known; that to a mixture is estimated at the draws.
    prior = bounds.gaussian_kl(loc, scale, torch.zeros_like(loc[:1]), torch.ones_like(loc[:1]))
    each = log_density("normal", z[:, :, None], experts.loc, experts.scale)  # (L, K, M, B)
    log_q = log_density("normal", z, loc, scale)  # (L, K, B)
    columns = []
    for r in range(tableau.num_references):
        members = sent(ref[r, :-1], loc.device)  # (M,) or (M, B)
        if not bool(ref[r, :-1].any()):
            columns.append(prior[:, 0])
            continue
        members = members if members.ndim == 2 else members[:, None]
        weight = torch.ones_like(each[0, 0]) if gate is None else gate  # (M, B)
        weight = weight.clamp_min(torch.finfo(weight.dtype).tiny)  # a gate may have shut to 0
        # Logarithms of members' weights alone: that of an absent one's 0 would have no gradient.
        weight = torch.where(members, weight, 1.0).log().masked_fill(~members, float("-inf"))
        mixture = (each + weight.log_softmax(dim=0)).logsumexp(dim=2)
        columns.append((log_q - mixture).mean(dim=0))
    return torch.stack(columns, dim=1)


def _present(tableau: Tableau | SampleTableaux, like: Tensor) -> Tensor | None:
    """Which modalities the samples have, as the tableau's references tell: [M, B] or None."""
    if isinstance(tableau, Tableau):
        return None
    return sent(tableau.ref[:, :-1].any(dim=0), like.device)


def _closed_form(
    model: MultimodalVAE, batch: Batch, tableau: Tableau | SampleTableaux, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """The bound at pi = softmax(L / gamma), and what the entropy of pi adds to the objective.

    L is the mean over the batch, or over the samples that have the same modalities: their pi is
    over their own subsets. It is held fixed, for at its best value the gradient does not see it.
    """
    gamma = model.recipe.entropy_scale
    assert gamma is not None
    if isinstance(tableau, Tableau):
        each = rows.mean(dim=1) * len(rows)  # the tableau weighs every bound by 1/K
        mixture = bounds.optimal_weights(each.detach(), gamma)
        return (mixture * each).sum(), _entropy_gain(mixture, gamma)
    weight = by_sample(tableau.kl, rows[:, None]).sum(dim=1)  # (K, B): 1/K, or 0 in padding
    patterns, which = batch.present.unique(dim=0, return_inverse=True)
    bound, gain = rows.new_zeros(()), rows.new_zeros(())
    for index in range(len(patterns)):
        samples = which == index
        used = weight[:, samples][:, 0] > 0
        each = rows[used][:, samples].mean(dim=1) * used.sum()
        mixture = bounds.optimal_weights(each.detach(), gamma)
        share = samples.to(rows).mean()
        bound = bound + share * (mixture * each).sum()
        gain = gain + share * _entropy_gain(mixture, gamma)
    return bound, gain


def _entropy_gain(mixture: Tensor, gamma: float) -> Tensor:
    """gamma (H(pi) - log K), 0 at equal weights and negative elsewhere: a bound stays a bound."""
    return gamma * (-torch.xlogy(mixture, mixture).sum() - log(len(mixture)))


def _check_samples(samples: int) -> None:
    if samples < 1:
        raise ValueError(f"samples must be at least 1, draws from every posterior; got {samples}")


def _weighed(
    model: MultimodalVAE,
    batch: Batch,
    tableau: Tableau | SampleTableaux,
    rows: Tensor,
    mixture: Tensor,
) -> Tensor:
    """The mean over the batch of the rows, weighed by the mixture instead of equally."""
    if isinstance(tableau, Tableau):
        return (rows * bounds.mixture_factors(mixture)[:, None].to(rows)).sum(dim=0).mean()
    family = model.recipe.tableau.to(model.device).subsets
    available = subsets.available(family, batch.present)
    factors = bounds.mixture_factors(mixture, available)  # (K, B) over all of the recipe's rows
    factors = factors.gather(0, _sources(model, tableau)).to(rows)
    if not mixture.requires_grad:
        return (rows * factors).sum(dim=0).mean()
    # A sampled sum depends on pi through the rows that happened to be drawn. Its gradient is
    # unbiased with any number taken from every bound, and a number close to them takes the noise
    # out: the bounds are thousands of nats, their differences tens.
    weight = by_sample(tableau.kl, rows[:, None]).sum(dim=1).to(rows)  # (n, B)
    baseline = model.baseline.clone()
    if model.training and torch.is_grad_enabled():
        with torch.no_grad():
            now = rows.sum(dim=0).mean()
            rate = torch.where(model.baseline == 0, 1.0, BASELINE_RATE)
            model.baseline += rate * (now - model.baseline)
    return ((rows - weight * baseline) * factors).sum(dim=0).mean() + baseline


def _sources(model: MultimodalVAE, tableau: SampleTableaux) -> Tensor:
    """Which row of the recipe's own tableau every row is, [K, B]; 0 for rows without weight."""
    own = model.recipe.tableau.cond
    powers = 2 ** torch.arange(own.shape[1])
    table = torch.zeros(2 ** own.shape[1], dtype=torch.long)
    table[(own * powers).sum(dim=1)] = torch.arange(len(own))
    device = tableau.cond.device
    codes = (tableau.cond * sent(powers[:, None], device)).sum(dim=1)
    return sent(table, device)[codes]


def _draw(
    loc: Tensor, scale: Tensor, samples: int, family: str, generator: Generator | None
) -> Float[Tensor, "L K B D"]:
    return loc + scale * standard_noise(family, (samples, *loc.shape), loc, generator)
