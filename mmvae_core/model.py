r"""The multimodal VAE: one engine for every recipe.

One pass over a batch: every encoder once, all posteriors of the tableau at once, every decoder
once on all the latents that it has to reconstruct.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import inf, log
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.distributions import Distribution

from mmvae_core import networks as nets
from mmvae_core import recipes, subsets
from mmvae_core.aggregation import Aggregate, Gaussians, poe
from mmvae_core.bounds import Evidence, elbo, gaussian_kl
from mmvae_core.data.dataset import Batch
from mmvae_core.distributions import LAPLACE_SCALE, LIKELIHOODS, SCALES, event_log_prob
from mmvae_core.recipes import Recipe
from mmvae_core.tableau import Tableau, with_prior

__all__ = ["MultimodalVAE"]

DECODE_CHUNK = 2048  # latents a decoder takes at once, which bounds its working memory


class MultimodalVAE(nn.Module):
    """A multimodal VAE: experts, the recipe that joins them, and decoders.

    Args:
        recipe: the method, from :mod:`mmvae_core.recipes`.
        shapes: the shape of one sample of every modality, ``(C, H, W)``.
        latent_dim: D.
        names: one a modality; ``m0, m1, ...`` by default.
        networks: a kind from :data:`mmvae_core.networks.NETWORKS`, for all modalities.
        likelihood: a name from :data:`mmvae_core.distributions.LIKELIHOODS`.
        likelihood_scale: of a Laplace or Normal likelihood, in units of the data.
        scale: how an encoder's second output becomes a standard deviation: ``"exponential"``
            (any positive number, the CoDE-VAE authors' choice) or ``"bounded"`` (below 1, so that
            no expert knows less than the prior).
        modality_weights: lambda, one factor a likelihood; 1 by default.

    Raises:
        ValueError: numbers that do not belong together, or a name that does not exist.
    """

    modality_weights: Tensor
    network_dtype: torch.dtype | None = None  # autocast of the networks; None: as they are

    def __init__(
        self,
        recipe: Recipe,
        shapes: Sequence[tuple[int, ...]],
        latent_dim: int,
        *,
        names: Sequence[str] | None = None,
        networks: str = "small",
        likelihood: str = "laplace",
        likelihood_scale: float = LAPLACE_SCALE,
        scale: str = "exponential",
        modality_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if len(shapes) != recipe.num_modalities:
            raise ValueError(
                f"recipe {recipe.name} was built for {recipe.num_modalities} modalities; "
                f"got shapes of {len(shapes)}"
            )
        if latent_dim < 1:
            raise ValueError(f"latent_dim must be at least 1; got {latent_dim}")
        names = [f"m{m}" for m in range(len(shapes))] if names is None else list(names)
        if len(names) != len(shapes) or len(set(names)) != len(names):
            raise ValueError(f"names must be {len(shapes)} different words; got {names}")
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {', '.join(SCALES)}; got {scale!r}")
        if likelihood not in LIKELIHOODS:
            raise ValueError(
                f"likelihood must be one of {', '.join(LIKELIHOODS)}; got {likelihood!r}"
            )
        if not likelihood_scale > 0:
            raise ValueError(f"likelihood_scale must be positive; got {likelihood_scale}")
        lam = [1.0] * len(shapes) if modality_weights is None else [*map(float, modality_weights)]
        if len(lam) != len(shapes) or not all(0 <= weight < inf for weight in lam):
            raise ValueError(
                f"modality_weights must be {len(shapes)} finite numbers, none negative; got {lam}"
            )
        self.recipe = recipe
        self.names = names
        self.latent_dim = latent_dim
        self.spec: dict[str, Any] = {  # plain data: MultimodalVAE.from_spec gives the model back
            "recipe": recipe.spec,
            "shapes": [list(shape) for shape in shapes],
            "latent_dim": latent_dim,
            "names": names,
            "networks": networks,
            "likelihood": likelihood,
            "likelihood_scale": likelihood_scale,
            "scale": scale,
            "modality_weights": lam,
        }
        pairs = [nets.pair(networks, tuple(shape), latent_dim) for shape in shapes]
        self.encoders = nn.ModuleList(encoder for encoder, _ in pairs)
        self.decoders = nn.ModuleList(decoder for _, decoder in pairs)
        self.aggregate = copy.deepcopy(recipe.aggregate)  # a model owns what it learns
        self.register_buffer("modality_weights", torch.tensor(lam))
        if recipe.entropy_scale is not None:
            self.mixture_logits = nn.Parameter(torch.zeros(recipe.tableau.num_posteriors))

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> MultimodalVAE:
        """The untrained model that ``spec`` describes."""
        spec = dict(spec)
        recipe = recipes.build(**spec.pop("recipe"))
        spec["shapes"] = [tuple(shape) for shape in spec["shapes"]]
        return cls(recipe, **spec)

    @property
    def device(self) -> torch.device:
        return self.modality_weights.device

    @property
    def dtype(self) -> torch.dtype:
        return self.modality_weights.dtype

    @property
    def mixture(self) -> Float[Tensor, " K"] | None:
        """pi, the learned weights of the subsets; None where the tableau's weights are fixed."""
        if self.recipe.entropy_scale is None:
            return None
        return torch.softmax(self.mixture_logits, dim=0)

    # --- inference -------------------------------------------------------------------------

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "M B D"], Float[Tensor, "M B D"]]:
        """The experts q(z|x_m): locations and standard deviations. Each encoder runs once."""
        to_scale = SCALES[self.spec["scale"]]
        with self._autocast():
            experts = [encoder(x) for encoder, x in zip(self.encoders, batch.x, strict=True)]
        # Full precision from here on, also where autocast made the networks' output half.
        loc = torch.stack([loc for loc, _ in experts]).to(self.dtype)
        return loc, to_scale(torch.stack([raw for _, raw in experts]).to(self.dtype))

    def aggregate_experts(
        self,
        loc: Float[Tensor, "M B D"],
        scale: Float[Tensor, "M B D"],
        cond: Bool[Tensor, "K E"],
    ) -> tuple[Float[Tensor, "K B D"], Float[Tensor, "K B D"]]:
        """The consensus of every row of ``cond``, whose last column is the prior."""
        return self._aggregate(self.aggregate, loc, scale, cond)

    def posterior(
        self, batch: Batch, subset: Bool[Tensor, "K M"] | None = None
    ) -> tuple[Float[Tensor, "K B D"], Float[Tensor, "K B D"]]:
        """Location and scale of q(z|x_S) for the given subsets; for the full set by default.

        Raises:
            ValueError: a sample lacks a modality of the subset.
        """
        if subset is None:
            subset = subsets.full(len(self.names))
        usable = subsets.available(subset, batch.present.cpu())
        if not usable.all():
            row, sample = (~usable).nonzero()[0].tolist()
            raise ValueError(
                f"sample {sample} lacks a modality of subset "
                f"{subsets.name(subset[row], self.names)}; present is "
                f"{batch.present[sample].int().tolist()}"
            )
        # Where every posterior of the recipe holds the prior as an expert, this one does too.
        prior = bool(self.recipe.tableau.cond[:, -1].all())
        return self.aggregate_experts(*self.encode(batch), with_prior(subset, prior=prior))

    def decode(
        self, z: Float[Tensor, "*shape D"], modalities: Iterable[int] | None = None
    ) -> dict[str, Distribution]:
        """p(x_m|z) for the named modalities (all by default), batch shape ``*shape``."""
        wanted = range(len(self.names)) if modalities is None else modalities
        flat = z.reshape(-1, self.latent_dim)
        result = {}
        for m in wanted:
            params = torch.cat([self._decoded(m, part) for part in flat.split(DECODE_CHUNK)])
            result[self.names[m]] = self._likelihood(params.view(*z.shape[:-1], *params.shape[1:]))
        return result

    @torch.no_grad()
    def generate(
        self,
        batch: Batch,
        subset: Bool[Tensor, " M"],
        *,
        generator: Generator | None = None,
        sample: bool = True,
    ) -> dict[str, Tensor]:
        """Every modality from the modalities of ``subset``: the mean of p(x_m|z), z ~ q(z|x_S).

        ``sample=False`` takes the mean of q instead of a draw.
        """
        loc, scale = self.posterior(batch, subset[None])
        z = self._draw(loc, scale, 1, generator)[0, 0] if sample else loc[0]
        return {name: p.mean for name, p in self.decode(z).items()}

    @torch.no_grad()
    def sample(self, count: int, *, generator: Generator | None = None) -> dict[str, Tensor]:
        """``count`` joint samples from the prior: the mean of p(x_m|z), z ~ N(0, I)."""
        shape = (count, self.latent_dim)
        z = torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)
        return {name: p.mean for name, p in self.decode(z).items()}

    # --- training --------------------------------------------------------------------------

    def evidence(
        self,
        batch: Batch,
        tableau: Tableau | None = None,
        *,
        samples: int = 1,
        generator: Generator | None = None,
    ) -> Evidence:
        """What the batch says about every term of the tableau (the recipe's own by default)."""
        plan = self.recipe.tableau if tableau is None else tableau  # read on the host
        tableau = plan.to(self.device)
        expert_loc, expert_scale = self.encode(batch)
        loc, scale = self.aggregate_experts(expert_loc, expert_scale, plan.cond)  # (K, B, D)
        # A reference has one expert in every recipe so far, and any rule gives that one back.
        ref = self._aggregate(poe, expert_loc, expert_scale, plan.ref)  # (R, B, D)
        kl = gaussian_kl(loc, scale, *ref)  # (K, R, B)
        z = self._draw(loc, scale, samples, generator)  # (L, K, B, D)
        wanted = plan.recon != 0
        columns = []
        for m in range(len(self.names)):
            rows = wanted[:, m].nonzero().flatten().tolist()
            column = kl.new_zeros(samples, tableau.num_posteriors, kl.shape[-1])
            if rows:
                everything = len(rows) == tableau.num_posteriors
                latents = z if everything else z[:, rows]
                values = self.log_likelihood(m, latents, batch.x[m])  # (L, rows, B)
                column = values if everything else column.index_copy(1, _index(rows, z), values)
            columns.append(torch.where(batch.present[:, m], column, 0.0))
        available = subsets.available(tableau.subsets, batch.present)
        return Evidence(torch.stack(columns, dim=2), kl, available)

    def loss(
        self,
        batch: Batch,
        *,
        beta: float = 1.0,
        samples: int = 1,
        generator: Generator | None = None,
        tableau: Tableau | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The mean negative objective of the batch, in nats, and its terms (detached) for a log.

        With learned weights the entropy of pi, times the recipe's ``entropy_scale``, is part of
        it: gamma (H(pi) - log K), which is 0 at equal weights and keeps a bound a bound. The other
        terms, ``kl`` and ``log_likelihood_*``, are averages over posteriors and samples with the
        tableau's own weights.
        """
        tableau = self.recipe.tableau if tableau is None else tableau
        evidence = self.evidence(batch, tableau, samples=samples, generator=generator)
        mixture = self.mixture
        bound = elbo(
            evidence, tableau, beta=beta, modality_weights=self.modality_weights, mixture=mixture
        ).mean()
        objective = bound
        if mixture is not None and self.recipe.entropy_scale is not None:
            entropy = -(mixture * mixture.log()).sum()
            objective = bound + self.recipe.entropy_scale * (entropy - log(len(mixture)))
        # Averages over the posteriors that have the term, in samples where it can be evaluated.
        placed = tableau.to(self.device)
        kl_weight = placed.kl[:, :, None] * evidence.available[:, None, :]  # (K, R, B)
        kl = torch.where(evidence.available[:, None], evidence.kl, 0.0)
        terms = {"loss": -objective, "bound": bound, "kl": (kl_weight * kl).sum() / kl_weight.sum()}
        for m, name in enumerate(self.names):
            asked = (placed.recon[:, m] != 0)[:, None] & evidence.available & batch.present[:, m]
            values = torch.where(asked, evidence.recon[:, :, m].mean(dim=0), 0.0)  # (K, B)
            terms[f"log_likelihood_{name}"] = values.sum() / asked.sum().clamp_min(1)
        return -objective, {name: value.detach() for name, value in terms.items()}

    # --- small parts -----------------------------------------------------------------------

    def _aggregate(self, rule: Aggregate, loc: Tensor, scale: Tensor, cond: Tensor) -> Gaussians:
        """Apply a rule to the experts, with the prior as one more expert where a row has it."""
        prior = bool(cond[:, -1].any())
        cond = _placed(cond, loc.device)
        if prior:
            zero = torch.zeros_like(loc[:1])
            loc, scale = torch.cat([loc, zero]), torch.cat([scale, zero + 1])
        else:
            cond = cond[:, :-1]
        return rule(loc, scale, cond)

    def _autocast(self) -> torch.autocast:
        dtype = self.network_dtype
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def _decoded(self, modality: int, z: Float[Tensor, "N D"]) -> Tensor:
        """The likelihood's parameters, in the model's own precision."""
        with self._autocast():
            params = self.decoders[modality](z)
        return params.to(self.dtype)

    def _draw(
        self, loc: Tensor, scale: Tensor, samples: int, generator: Generator | None
    ) -> Float[Tensor, "L K B D"]:
        noise = torch.randn(
            samples, *loc.shape, generator=generator, device=loc.device, dtype=loc.dtype
        )
        return loc + scale * noise

    def _likelihood(self, params: Tensor) -> Distribution:
        return LIKELIHOODS[self.spec["likelihood"]](params, self.spec["likelihood_scale"])

    def log_likelihood(
        self, modality: int, z: Float[Tensor, "L K B D"], x: Float[Tensor, "B *shape"]
    ) -> Float[Tensor, "L K B"]:
        """log p(x_m|z) of every latent, in nats, a few rows at a time to bound the memory."""
        rows = z.flatten(0, 1)  # (L K, B, D)
        per_chunk = max(1, DECODE_CHUNK // max(1, len(x)))
        values = []
        for part in rows.split(per_chunk):
            params = self._decoded(modality, part.flatten(0, 1)).view(len(part), *x.shape)
            values.append(event_log_prob(self._likelihood(params), x, x.ndim - 1))
        return torch.cat(values).view(z.shape[:3])


@lru_cache(maxsize=64)
def _placed(cond: Tensor, device: torch.device) -> Tensor:
    """A mask on ``device``, copied there once (tensors are told apart by identity)."""
    return cond.to(device)


def _index(rows: list[int], like: Tensor) -> Tensor:
    return torch.tensor(rows, device=like.device)
