r"""Networks and a recipe, joined to a multimodal VAE.

One pass over a batch: every encoder once, all posteriors of the tableau at once, every decoder
once on all the latents that it has to reconstruct.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.distributions import Distribution

from mmvae_core import networks as nets
from mmvae_core import recipes
from mmvae_core.arguments import Count, NotNegative, Positive, arguments
from mmvae_core.checks import ABSENT_SCALE, one_of
from mmvae_core.data.dataset import Batch
from mmvae_core.distributions import (
    LAPLACE_SCALE,
    LIKELIHOODS,
    SCALES,
    Posterior,
    event_log_prob,
    raw_scale,
    standard_noise,
)
from mmvae_core.learned import ExpertGate
from mmvae_core.model.members import check_batch, members_of
from mmvae_core.objectives import Experts, consensus
from mmvae_core.recipes import MixtureOfExperts, Recipe
from mmvae_core.tableau import AnyTableau, sent

__all__ = ["DECODE_CHUNK", "MultimodalVAE"]

DECODE_CHUNK = 2048  # latents a decoder takes at once, which bounds its working memory


class MultimodalVAE(nn.Module):
    """A multimodal VAE: experts, the recipe that joins them, and decoders.

    Args:
        recipe: the method, from :mod:`mmvae_core.recipes`.
        shapes: the shape of one sample of every modality, such as ``(C, H, W)``.
        latent_dim: D, of the latent that modalities share.
        names: one a modality; ``m0, m1, ...`` by default.
        networks: a kind from :data:`mmvae_core.networks.NETWORKS`; one for all or one a modality.
        likelihood: a name from :data:`mmvae_core.distributions.LIKELIHOODS`; one or one a modality.
        likelihood_scale: of a Laplace or Normal likelihood, in units of the data; one or one a
            modality.
        scale: how an encoder's second output becomes a standard deviation: ``"exponential"``
            (any positive number, the CoDE-VAE authors' choice), ``"bounded"`` (below 1, so that
            no expert knows less than the prior), or ``"softmax"`` (mean 1, the MMVAE authors').
        initial_scale: the standard deviation that an encoder's second output of 0 stands for, and
            so about the one that training starts with; None for the map's own, 1 of
            ``"exponential"`` and 1/2 of ``"bounded"``.
        modality_weights: lambda, one factor a likelihood; 1 by default.

    Raises:
        ValueError: numbers that do not belong together, or a name that does not exist.
    """

    modality_weights: Tensor
    auxiliary_log_scale: nn.Parameter | None
    network_dtype: torch.dtype | None = None  # autocast of the networks; None: as they are

    @arguments
    def __init__(
        self,
        recipe: Recipe,
        shapes: Sequence[tuple[int, ...]],
        latent_dim: Count,
        *,
        names: Sequence[str] | None = None,
        networks: str | Sequence[str] = "small",
        likelihood: str | Sequence[str] = "laplace",
        likelihood_scale: Positive | Sequence[Positive] = LAPLACE_SCALE,
        scale: str = "exponential",
        initial_scale: float | None = None,
        modality_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        count = len(shapes)
        if count != recipe.num_modalities:
            raise ValueError(
                f"recipe {recipe.name} was built for {recipe.num_modalities} modalities; "
                f"got shapes of {count}"
            )
        names = [f"m{m}" for m in range(count)] if names is None else list(names)
        if len(names) != count or len(set(names)) != count:
            raise ValueError(f"names must be {count} different words; got {names}")
        self.raw_offset = raw_scale(one_of("scale", scale, SCALES), initial_scale)
        kinds = _each("networks", networks, count)
        likelihoods = _each("likelihood", likelihood, count)
        scales = _each("likelihood_scale", likelihood_scale, count)
        for name in likelihoods:
            one_of("likelihood", name, LIKELIHOODS)
        lam = [1.0] * count if modality_weights is None else [*map(float, modality_weights)]
        if len(lam) != count or not all(0 <= weight < inf for weight in lam):
            raise ValueError(
                f"modality_weights must be {count} finite numbers, none negative; got {lam}"
            )
        self.recipe = recipe
        self.names = names
        self.latent_dim = latent_dim
        self.spec: dict[str, Any] = {  # plain data: MultimodalVAE.from_spec gives the model back
            "recipe": recipe.spec,
            "shapes": [list(shape) for shape in shapes],
            "latent_dim": latent_dim,
            "names": names,
            "networks": kinds,
            "likelihood": likelihoods,
            "likelihood_scale": scales,
            "scale": scale,
            "initial_scale": initial_scale,
            "modality_weights": lam,
        }
        self.latents, self.reference = recipe.latents, recipe.reduce.reference
        pi = recipe.reduce.pi
        self.pi = None if pi is None else pi.module(recipe.tableau)
        width = latent_dim + recipe.latents.private_dim
        pairs = [
            nets.pair(kind, tuple(shape), width) for kind, shape in zip(kinds, shapes, strict=True)
        ]
        self.encoders = nn.ModuleList(encoder for encoder, _ in pairs)
        self.decoders = nn.ModuleList(decoder for _, decoder in pairs)
        self.register_buffer("modality_weights", torch.tensor(lam))
        self.aggregate = recipe.aggregation.made(latent_dim, bounded=scale == "bounded")
        self.prior = recipe.latents.prior(latent_dim)
        joint = recipe.aggregation
        gated = isinstance(joint, MixtureOfExperts) and joint.gate
        self.gate = ExpertGate(count, latent_dim) if gated else None
        # The auxiliary priors' scales, as logarithms; generation uses the prior's own, 1.
        private = torch.zeros(count, recipe.latents.private_dim)
        self.auxiliary_log_scale = nn.Parameter(private) if private.numel() else None

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
        """pi, the weights of the subsets where they are learned or given; None where the tableau's
        own stand, and where the closed form gives every batch its own."""
        return None if self.pi is None else self.pi.weights(self.modality_weights)

    # --- inference -------------------------------------------------------------------------

    @arguments
    def encode(self, batch: Batch) -> tuple[Float[Tensor, "M B D"], Float[Tensor, "M B D"]]:
        """The experts q(z|x_m): locations and standard deviations. Each encoder runs once."""
        return self.experts(batch)[:2]

    def experts(self, batch: Batch) -> Experts:
        """All that the encoders say; an absent modality is not looked at.

        Raises ``ValueError`` where the batch has other shapes than the model.
        """
        check_batch(self.spec, batch)
        to_scale = SCALES[self.spec["scale"]]
        locs, scales = [], []
        for m, (encoder, x) in enumerate(zip(self.encoders, batch.x, strict=True)):
            x = x.to(self.dtype)
            seen = None if batch.complete else batch.present[:, m].nonzero().flatten()
            with self._autocast():
                loc, raw = encoder(x if seen is None else x[seen])
            # Full precision from here on, also where autocast made the networks' output half.
            shared, private = raw.to(self.dtype).tensor_split([self.latent_dim], dim=-1)
            shared = shared + self.raw_offset
            scale = torch.cat([to_scale(shared), to_scale(private)], dim=-1)
            loc = loc.to(self.dtype)
            if seen is not None:
                shape = (len(x), loc.shape[-1])
                loc = loc.new_zeros(shape).index_copy(0, seen, loc)
                scale = scale.new_full(shape, ABSENT_SCALE).index_copy(0, seen, scale)
            locs.append(loc)
            scales.append(scale)
        loc, scale = torch.stack(locs), torch.stack(scales)
        d = self.latent_dim
        return Experts(loc[..., :d], scale[..., :d], loc[..., d:], scale[..., d:])

    def aggregate_experts(
        self,
        loc: Float[Tensor, "M B D"],
        scale: Float[Tensor, "M B D"],
        cond: Bool[Tensor, "K E *batch"],
    ) -> tuple[Float[Tensor, "K B D"], Float[Tensor, "K B D"]]:
        """The consensus of every row of ``cond``, whose last column is the prior.

        ``cond`` is one family for all samples, ``[K, M + 1]``, or one for each, ``[K, M + 1, B]``.
        """
        return consensus(self.aggregate, loc, scale, cond)

    @arguments
    def posterior(self, batch: Batch, subset: Bool[Tensor, "K M"] | None = None) -> Posterior:
        """q(z|x_S) for the given subsets; by default for all that is present, sample by sample.

        For recipes that keep a mixture of experts it is the mixture of the subset's experts
        (vae, mmvae, mmvae_plus, cmvae, mmjsd, mmvm), weighed equally or by the learned gate; for
        the others one Gaussian.

        Raises:
            ValueError: a subset is empty or of another number of modalities, or a sample lacks a
                modality of it.
        """
        return self.posterior_of(self.experts(batch), batch, subset)

    def posterior_of(
        self, experts: Experts, batch: Batch, subset: Bool[Tensor, "K M"] | None = None
    ) -> Posterior:
        """As :meth:`posterior`, from experts that are at hand."""
        members = members_of(batch, self.names, subset)
        if isinstance(self.recipe.aggregation, MixtureOfExperts):
            inside = sent(members, self.device)
            inside = inside if inside.ndim == 3 else inside[..., None]  # (K, M, 1 or B)
            weights = inside.expand(-1, -1, len(batch)).to(experts.loc)
            if self.gate is not None:
                weights = weights * self.gate(*experts[:2], None)
            weights = (weights / weights.sum(dim=1, keepdim=True)).transpose(0, 1)  # (M, K, B)
            loc, scale = (part[:, None].expand(-1, len(members), -1, -1) for part in experts[:2])
            return Posterior(loc, scale, weights, self.latents.family)
        # Where every posterior of the recipe holds the prior as an expert, this one does too.
        prior = bool(self.recipe.tableau.cond[:, -1].all())
        column = members.new_full((len(members), 1, *members.shape[2:]), prior)
        cond = torch.cat([members, column], dim=1)
        loc, scale = self.aggregate_experts(*experts[:2], cond)
        return Posterior(loc[None], scale[None], loc.new_ones(1, *loc.shape[:2]))

    @arguments
    def decode(
        self,
        z: Float[Tensor, "*shape D"],
        modalities: Iterable[int] | None = None,
        *,
        private: Float[Tensor, "M *shape W"] | None = None,
    ) -> dict[str, Distribution]:
        """p(x_m|z) for the named modalities (all by default), batch shape ``*shape``.

        ``private``: the modalities' own latents, where the recipe has them; the prior's mean 0
        where it is not given.
        """
        if private is None:
            private = z.new_zeros(len(self.names), *z.shape[:-1], self.latents.private_dim)
        result = {}
        for m in range(len(self.names)) if modalities is None else modalities:
            latents = torch.cat([z, private[m]], dim=-1)
            flat = latents.reshape(-1, latents.shape[-1])
            params = torch.cat([self._decoded(m, part) for part in flat.split(DECODE_CHUNK)])
            params = params.view(*z.shape[:-1], *params.shape[1:])
            result[self.names[m]] = self._likelihood(m, params)
        return result

    @torch.no_grad()
    @arguments
    def generate(
        self,
        batch: Batch,
        subset: Bool[Tensor, " M"] | None = None,
        *,
        generator: Generator | None = None,
        sample: bool = True,
        modalities: Iterable[int] | None = None,
    ) -> dict[str, Tensor]:
        """Modalities from those of ``subset``: the mean of p(x_m|z), z ~ q(z|x_S).

        By default all modalities are made, from all that each sample has. Recipes that keep
        latents apart decode a given modality from its own; private latents come from the
        encoder where the modality was given and from the prior where it was not.
        ``sample=False`` takes means instead of draws.

        Raises:
            ValueError: a sample lacks a modality of the subset.
        """
        experts = self.experts(batch)
        q = self.posterior_of(experts, batch, None if subset is None else subset[None])
        z = (q.draw(1, generator)[0] if sample else q.mean)[0]  # (B, D)
        given = batch.present if subset is None else subset[None]
        return self.generate_from(
            experts, given, z, generator=generator, sample=sample, modalities=modalities
        )

    @torch.no_grad()
    def generate_from(
        self,
        experts: Experts,
        given: Bool[Tensor, "#B M"],
        z: Float[Tensor, "B D"],
        *,
        generator: Generator | None = None,
        sample: bool = True,
        modalities: Iterable[int] | None = None,
    ) -> dict[str, Tensor]:
        """What :meth:`generate` makes once z ~ q(z|x_S) is drawn, where S is what is ``given``.

        One pass through the encoders serves all subsets of a batch: :meth:`experts`,
        :meth:`posterior_of`, and then this for each of them.
        """
        given = given.to(self.device).expand(len(z), -1)
        own, private = experts.loc, experts.private_loc
        if sample and self.latents.own:
            own = own + experts.scale * self._noise(own.shape, generator)
        aside = torch.zeros_like(private)
        if sample:
            private = private + experts.private_scale * self._noise(private.shape, generator)
            aside = self._noise(private.shape, generator)
        private = torch.where(given.T[..., None], private, aside)
        result: dict[str, Distribution] = {}
        for m in range(len(self.names)) if modalities is None else modalities:
            z_m = torch.where(given[:, m, None], own[m], z) if self.latents.own else z
            result |= self.decode(z_m, [m], private=private)
        return {name: p.mean for name, p in result.items()}

    @torch.no_grad()
    @arguments
    def sample(self, count: Count, *, generator: Generator | None = None) -> dict[str, Tensor]:
        """``count`` joint samples from the prior: the mean of p(x_m|z), z ~ p(z)."""
        like = self.modality_weights
        z = self.prior.draw((count, self.latent_dim), like, generator)
        private = self._noise((len(self.names), count, self.latents.private_dim), generator)
        return {name: p.mean for name, p in self.decode(z, private=private).items()}

    # --- training --------------------------------------------------------------------------

    def plan(self, batch: Batch) -> AnyTableau:
        """The fixed tableau of the recipe, whole, for what every sample has."""
        return self.recipe.plan(len(batch), None if batch.complete else batch.present.cpu())

    @arguments
    def loss(
        self,
        batch: Batch,
        *,
        beta: NotNegative = 1.0,
        samples: Count = 1,
        generator: Generator | None = None,
        tableau: AnyTableau | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The mean negative objective of the batch, in nats, and its terms (detached) for a log.

        With a mixture pi that is learned its entropy is part of it, see
        :mod:`mmvae_core.objectives.subset_weights`.
        ``kl`` is an average with the tableau's weights, ``log_likelihood_*`` one over the
        posteriors that reconstruct the modality; neither has beta or lambda in it.

        Args:
            beta: weight of the KL terms, or of log q(z) - log p(z) in log-weights.
            samples: L, draws from every posterior.
            tableau: from :meth:`mmvae_core.recipes.Recipe.plan`; :meth:`plan` by default.

        Raises:
            ValueError: a sample has nothing present, or the tableau is not for these samples.
        """
        terms = self.recipe.reduce.terms(
            self, batch, self.plan(batch) if tableau is None else tableau,
            beta=beta, samples=samples, generator=generator,
        )  # fmt: skip
        return terms["loss"], {name: value.detach() for name, value in terms.items()}

    def log_likelihood(
        self,
        modality: int,
        z: Float[Tensor, "*lead B D"],
        x: Float[Tensor, "B *shape"],
    ) -> Float[Tensor, "*lead B"]:
        """log p(x_m|z) of every latent, in nats, a part at a time to bound the memory.

        The last axis of ``z`` holds the shared latent, and the private one behind it where the
        recipe has one.
        """
        rows = z.flatten(0, -3) if z.ndim > 2 else z[None]  # (N, B, D)
        if len(x) > DECODE_CHUNK:
            parts = zip(rows.split(DECODE_CHUNK, dim=1), x.split(DECODE_CHUNK), strict=True)
            each = [self.log_likelihood(modality, part, some) for part, some in parts]
            return torch.cat(each, dim=1).view(z.shape[:-1])
        per_chunk = max(1, DECODE_CHUNK // max(1, len(x)))
        values = []
        for part in rows.split(per_chunk):
            params = self._decoded(modality, part.flatten(0, 1)).view(len(part), *x.shape)
            likelihood = self._likelihood(modality, params)
            values.append(event_log_prob(likelihood, x, x.ndim - 1))
        return torch.cat(values).view(z.shape[:-1])

    # --- small parts -----------------------------------------------------------------------

    def _noise(self, shape: Sequence[int], generator: Generator | None) -> Tensor:
        """Standard noise of the recipe's family."""
        return standard_noise(self.latents.family, tuple(shape), self.modality_weights, generator)

    def _autocast(self) -> torch.autocast:
        dtype = self.network_dtype
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def _decoded(self, modality: int, z: Float[Tensor, "N D"]) -> Tensor:
        """The likelihood's parameters, in the model's own precision."""
        with self._autocast():
            params = self.decoders[modality](z)
        return params.to(self.dtype)

    def _likelihood(self, modality: int, params: Tensor) -> Distribution:
        likelihood = LIKELIHOODS[self.spec["likelihood"][modality]]
        return likelihood(params, self.spec["likelihood_scale"][modality])


def _each(name: str, value: Any, count: int) -> list[Any]:
    """One value a modality, from one for all or one for each."""
    if isinstance(value, (str, float, int)):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise ValueError(f"{name} must be one value or {count}, one a modality; got {values}")
    return values
