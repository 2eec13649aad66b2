r"""Aggregation that is learned: modules with the signature of the rules.

A rule maps experts and subsets to one Gaussian for every subset,
``rule(loc, scale, cond) -> (loc, scale)``, as in :mod:`mmvae_core.aggregation`, with masks
``[K, M]`` or ``[K, M, B]``. Here it has parameters. There are two kinds.

**A correlation that is learned.** :class:`LearnedCode` has one number, :class:`LearnedCorrelation`
a whole matrix R, :class:`CodeOfMatrix` a given one. They are CoDE and keep its laws.

**A function of a set that is learned.** Let :math:`h_m = (\mu_m, \log\sigma_m)` be what expert m
says. A function of the set :math:`\{h_m : m \in S\}` may not depend on the order of its members:

.. math::
    \text{SumPooling:} \quad f(S) = \rho\Big(\sum_{m \in S} \chi(h_m)\Big), \qquad
    \text{SelfAttention:} \quad f(S) = \rho\Big(\sum_{m \in S} g_m(\{h_n : n \in S\})\Big),

with g a stack of attention blocks among the members and χ, ρ small networks. Sums, not means: a
product of experts is a sum of precisions, and a mean has forgotten how many there were. Nothing
says that one expert alone is given back as it is, nor that a consensus of confident experts is
confident: these rules know what they were trained on.

:class:`ExpertGate` weighs modalities by what their experts say.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions.transforms import CorrCholeskyTransform

from mmvae_core.aggregation import Gaussians, Subsets, code, member_sums
from mmvae_core.arguments import Count, arguments
from mmvae_core.checks import check_corr, check_rho, only_members
from mmvae_core.distributions import bounded_scale, exponential_scale

__all__ = [
    "CodeOfMatrix",
    "ExpertGate",
    "LearnedCode",
    "LearnedCorrelation",
    "SelfAttention",
    "SumPooling",
]

Experts: TypeAlias = Float[Tensor, "M B D"]

HIDDEN = 256
# Log standard deviations stay within e^-10 .. e^10, so that no input makes a scale 0 or infinite.
LOG_SCALE_LIMIT = 10.0


# --- CoDE with a matrix or a parameter ------------------------------------------------------------


class CodeOfMatrix(nn.Module):
    """:func:`mmvae_core.aggregation.code` with a fixed correlation matrix, on the model's device.

    It stays as precise as it was given, whatever precision the model is brought to.

    Args:
        corr: the correlation matrix of all experts.

    Raises:
        ValueError: ``corr`` is not a correlation matrix.
    """

    corr: Tensor

    @arguments
    def __init__(self, corr: Float[Tensor, "M M"]) -> None:
        super().__init__()
        self.register_buffer("corr", check_corr(corr, len(corr)))

    def _apply(self, *args: Any, **kwargs: Any) -> CodeOfMatrix:
        given = self.corr
        super()._apply(*args, **kwargs)
        self.corr = given.to(self.corr.device)
        return self

    def forward(self, loc: Tensor, scale: Tensor, cond: Tensor) -> Gaussians:
        return code(loc, scale, cond, corr=self.corr)


class LearnedCode(nn.Module):
    r"""CoDE with a correlation that is learned, kept inside its interval.

    ``rho = low + (high - low) * sigmoid(raw)``, where low and high lie ``MARGIN`` inside the
    interval ``(-1/(m-1), 1)`` of ``m`` experts: every value of the parameter is valid.

    Args:
        num_experts: the size of the largest subset, at least 2.
        rho: where to start, inside ``(-1/(num_experts - 1), 1)``.

    Raises:
        ValueError: fewer than 2 experts, or ``rho`` out of its interval.

    Source: ours; arXiv 2505.01134 finds rho by cross-validation.
    """

    MARGIN = 1e-2  # in units of rho, at both ends: float32 stays accurate (see ``code``)

    @arguments
    def __init__(self, num_experts: Count, rho: float = 0.0) -> None:
        super().__init__()
        _check_two(num_experts)
        check_rho(rho, num_experts)
        self.low = -1 / (num_experts - 1) + self.MARGIN
        self.high = 1 - self.MARGIN
        share = torch.tensor((rho - self.low) / (self.high - self.low)).clamp(1e-4, 1 - 1e-4)
        self.raw = nn.Parameter(torch.logit(share))

    @property
    def rho(self) -> Tensor:
        """The current correlation, differentiable."""
        return self.low + (self.high - self.low) * torch.sigmoid(self.raw)

    def forward(self, loc: Tensor, scale: Tensor, cond: Tensor) -> Gaussians:
        return code(loc, scale, cond, rho=self.rho)


class LearnedCorrelation(nn.Module):
    r"""CoDE with a whole correlation matrix that is learned, and that stays one.

    .. math:: R = (1 - \epsilon)\, L L^T + \epsilon I,

    where L is the Cholesky factor that M(M-1)/2 free numbers are mapped to (by their partial
    correlations), so every value of the parameters gives a correlation matrix. The share ε of the
    identity keeps every eigenvalue of R, and of the block of every subset, at ε or above: float32
    can invert them.

    Args:
        num_experts: the number M of experts, at least 2.
        start: the correlation of every pair at the start, in ``(-(1 - ε)/(M-1), 1 - ε)``; with 0
            the rule starts as a product of experts.
        margin: ε, in (0, 1).

    Raises:
        ValueError: fewer than 2 experts, ``start`` or ``margin`` out of their intervals.

    On a GPU each step waits twice for the device: torch's transform indexes with a mask.

    Source: ours; the parametrisation is that of Lewandowski, Kurowicka and Joe, "Generating random
    correlation matrices based on vines and extended onion method", 2009.

    >>> from mmvae_core import subsets
    >>> rule = LearnedCorrelation(3, start=0.4)
    >>> [round(r, 4) for r in rule.corr[0].tolist()]
    [1.0, 0.4, 0.4]
    >>> rule(torch.zeros(3, 1, 2), torch.ones(3, 1, 2), subsets.powerset(3))[0].shape
    torch.Size([7, 1, 2])
    """

    @arguments
    def __init__(self, num_experts: Count, start: float = 0.0, margin: float = 1e-2) -> None:
        super().__init__()
        _check_two(num_experts)
        if not 0 < margin < 1:
            raise ValueError(f"margin must lie in (0, 1); got {margin}")
        low, high = -(1 - margin) / (num_experts - 1), 1 - margin
        if not low < start < high:
            raise ValueError(
                f"start must lie in ({low:.4g}, {high:.4g}) for {num_experts} experts and margin "
                f"{margin}; got {start}"
            )
        self.num_experts, self.margin = num_experts, margin
        # In float64: at the ends of the interval the factor's last rows are nearly 0.
        unshrunk = torch.full((num_experts, num_experts), start / (1 - margin)).double()
        factor = torch.linalg.cholesky(unshrunk.fill_diagonal_(1.0))
        self.raw = nn.Parameter(CorrCholeskyTransform().inv(factor).to(torch.get_default_dtype()))

    @property
    def corr(self) -> Float[Tensor, "M M"]:
        """The current correlation matrix, differentiable."""
        factor = CorrCholeskyTransform()(self.raw)
        identity = torch.eye(self.num_experts, dtype=factor.dtype, device=factor.device)
        return torch.lerp(factor @ factor.mT, identity, self.margin)

    def forward(self, loc: Tensor, scale: Tensor, cond: Tensor) -> Gaussians:
        return code(loc, scale, cond, corr=self.corr)


# --- functions of a set ---------------------------------------------------------------------------


class SumPooling(nn.Module):
    r"""A learned function of the set of experts: encode each, add, decode (Deep Sets).

    .. math:: (\mu, \log\sigma) = \rho\Big(\sum_{m \in S} \chi(\mu_m, \log\sigma_m)\Big)

    χ and ρ are networks with one hidden layer; χ runs once for every expert, whatever the number
    of subsets. One χ serves all modalities, so the order of the experts does not matter, and any
    number of them will do.

    Args:
        latent_dim: D.
        hidden: the width of χ, of the sum and of ρ.
        bounded: whether the consensus is never less certain than the prior N(0, 1), scale below 1
            (:func:`mmvae_core.distributions.bounded_scale`).

    Raises:
        ValueError: a size is not a positive whole number; and when called as
            :func:`mmvae_core.aggregation.poe`, or with experts that have not ``latent_dim``
            dimensions.

    Source: Zaheer et al., "Deep Sets", 2017 (arXiv 1703.06114), theorem 2; as an aggregation of
    modalities Hirt et al., "Learning multi-modal generative models with permutation-invariant
    encoders and tighter variational objectives", 2024 (arXiv 2309.00380). There χ takes features
    of the modalities' networks; here these features are the experts.

    >>> from mmvae_core import subsets
    >>> rule = SumPooling(latent_dim=2, hidden=8)
    >>> loc, scale = rule(torch.zeros(3, 5, 2), torch.ones(3, 5, 2), subsets.powerset(3))
    >>> loc.shape, bool((scale > 0).all())
    (torch.Size([7, 5, 2]), True)
    """

    @arguments
    def __init__(self, latent_dim: Count, hidden: Count = HIDDEN, *, bounded: bool = False) -> None:
        super().__init__()
        self.latent_dim, self.bounded = latent_dim, bounded
        self.chi = _network(2 * latent_dim, hidden, hidden)
        # No normalisation of the sum: that would lose the number of members.
        self.rho = _network(hidden, hidden, 2 * latent_dim)

    def forward(self, loc: Experts, scale: Experts, cond: Subsets) -> Gaussians:
        loc, scale = only_members(loc, scale, cond)
        encoded = self.chi(_features(loc, scale, self.latent_dim))  # (M, B, H)
        (pooled,) = member_sums(cond, encoded)  # (K, B, H)
        return _gaussian(self.rho(pooled), self.bounded)


class SelfAttention(nn.Module):
    r"""A learned function of the set of experts in which its members look at each other.

    What the experts say is embedded, passes ``layers`` blocks of self-attention among the members
    of the subset (normalised before each step, Xiong et al., 2020), is added over the members, and
    a network ρ reads the sum. An expert outside the subset is neither looked at nor added. The
    cost is that of ``K B`` sets of M members, K times :class:`SumPooling`'s χ.

    Args:
        latent_dim: D.
        hidden: the width of a member, divisible by ``heads``.
        heads: how many attentions work side by side.
        layers: how many blocks.
        bounded: as in :class:`SumPooling`.

    Raises:
        ValueError: as :class:`SumPooling`, and where ``hidden`` does not divide by ``heads``.

    Source: Lee et al., "Set Transformer", 2019 (arXiv 1810.00825); as an aggregation of modalities
    Hirt et al., 2024 (arXiv 2309.00380).

    >>> from mmvae_core import subsets
    >>> rule = SelfAttention(latent_dim=2, hidden=8, heads=2, layers=1)
    >>> rule(torch.zeros(3, 5, 2), torch.ones(3, 5, 2), subsets.powerset(3))[0].shape
    torch.Size([7, 5, 2])
    """

    @arguments
    def __init__(
        self,
        latent_dim: Count,
        hidden: Count = HIDDEN,
        heads: Count = 4,
        layers: Count = 1,
        *,
        bounded: bool = False,
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"hidden must divide by heads; got {hidden} and {heads}")
        self.latent_dim, self.bounded = latent_dim, bounded
        self.embed = nn.Linear(2 * latent_dim, hidden)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                hidden, heads, 2 * hidden, dropout=0.0, activation="gelu",
                batch_first=True, norm_first=True,
            )
            for _ in range(layers)
        )  # fmt: skip
        self.rho = _network(hidden, hidden, 2 * latent_dim)

    def forward(self, loc: Experts, scale: Experts, cond: Subsets) -> Gaussians:
        loc, scale = only_members(loc, scale, cond)
        tokens = self.embed(_features(loc, scale, self.latent_dim))  # (M, B, H)
        count, batch, hidden = tokens.shape
        inside = cond if cond.ndim == 3 else cond[:, :, None].expand(-1, -1, batch)
        inside = inside.transpose(1, 2).reshape(-1, count)  # (K B, M)
        x = tokens.transpose(0, 1).expand(len(cond), -1, -1, -1).reshape(-1, count, hidden)
        for block in self.blocks:
            x = block(x, src_key_padding_mask=~inside)
        pooled = (x * inside[..., None]).sum(dim=1).view(-1, batch, hidden)  # (K, B, H)
        return _gaussian(self.rho(pooled), self.bounded)


class ExpertGate(nn.Module):
    r"""Weights of the modalities, from what their experts say.

    .. math:: w_m = \operatorname{softmax}_m\big(g(\mu_m, \log\sigma_m) + b_m\big)

    over the modalities that are present, with one network g for all and a free number b for each.
    It starts with equal weights, whatever the input.

    Args:
        num_experts: M.
        latent_dim: D.
        hidden: the width of g.

    Raises:
        ValueError: a size is not a positive whole number; experts of another shape; a sample
            without any modality.

    Source: ours, an option beside the uniform mixture of MMVM (arXiv 2403.05300).

    >>> gate = ExpertGate(num_experts=2, latent_dim=3, hidden=8)
    >>> gate(torch.zeros(2, 1, 3), torch.ones(2, 1, 3)).tolist()
    [[0.5], [0.5]]
    """

    @arguments
    def __init__(self, num_experts: Count, latent_dim: Count, hidden: Count = 64) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        last = nn.Linear(hidden, 1, bias=False)  # its bias would be one more b, the same for all
        nn.init.zeros_(last.weight)
        self.score = nn.Sequential(nn.Linear(2 * latent_dim, hidden), nn.SiLU(), last)
        self.bias = nn.Parameter(torch.zeros(num_experts))

    def forward(
        self, loc: Experts, scale: Experts, present: Bool[Tensor, "M B"] | None = None
    ) -> Float[Tensor, "M B"]:
        """The weights, which sum to 1 over the modalities ``present`` (all by default)."""
        if loc.ndim != 3 or len(loc) != len(self.bias):
            raise ValueError(
                f"the gate weighs experts of shape [{len(self.bias)}, B, {self.latent_dim}]; "
                f"got {list(loc.shape)}"
            )
        if present is None:
            present = torch.ones(loc.shape[:2], dtype=torch.bool, device=loc.device)
        loc, scale = only_members(loc, scale, present[None])
        logits = self.score(_features(loc, scale, self.latent_dim)).squeeze(-1)  # (M, B)
        logits = logits + self.bias[:, None]
        return torch.softmax(logits.masked_fill(~present, -torch.inf), dim=0)


def _features(loc: Tensor, scale: Tensor, latent_dim: Count) -> Float[Tensor, "M B twice_D"]:
    if loc.ndim != 3 or loc.shape[-1] != latent_dim:
        raise ValueError(
            f"this rule was made for experts [M, B, {latent_dim}]; got {list(loc.shape)}"
        )
    return torch.cat([loc, scale.log()], dim=-1)


def _network(inputs: int, hidden: Count, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


def _gaussian(output: Tensor, bounded: bool) -> Gaussians:
    loc, raw = output.chunk(2, dim=-1)
    raw = LOG_SCALE_LIMIT * torch.tanh(raw / LOG_SCALE_LIMIT)
    return loc, bounded_scale(raw) if bounded else exponential_scale(raw)


def _check_two(num_experts: Count) -> None:
    if num_experts < 2:
        raise ValueError(f"a correlation needs at least 2 experts; got {num_experts}")
