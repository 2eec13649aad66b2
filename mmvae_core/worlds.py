r"""Worlds in which the truth is known, so that models can be judged by it.

**The laboratory.** Every modality is a noisy linear view of one latent,

.. math:: z \sim N(0, I_D), \qquad x_m = W_m z + N(0, v_m I_{P_m}),

so with :math:`\tau_S = I + \sum_{m \in S} W_m^T W_m / v_m` and
:math:`h_S = \sum_{m \in S} W_m^T x_m / v_m` everything about a subset S of modalities is known:

.. math::
    p(z \mid x_S) &= N(\tau_S^{-1} h_S,\; \tau_S^{-1}), \\
    -2 \log p(x_S) &= \sum_{m \in S} \Big(P_m \log 2\pi v_m + \frac{\|x_m\|^2}{v_m}\Big)
        + \log\det \tau_S - h_S^T \tau_S^{-1} h_S .

The second line is the Gaussian density with covariance :math:`W_S W_S^T + \mathrm{diag}(v)`,
rewritten by the matrix-determinant lemma and Woodbury's identity: only D x D matrices appear. It
is also Bayes' rule, log p(x_S|z) + log p(z) − log p(z|x_S), at any z.

**Modulated sources.** Nothing in the laboratory is identifiable: a rotation of z leaves p(x) as it
is. In the nonlinear world a label u changes mean and variance of independent sources z, which an
invertible map f mixes into x. From x alone no method can tell z from any other latent with the same
p(x); with u beside it the segments tell the sources apart
(:mod:`mmvae_core.metrics.identifiability` measures how well).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.distributions import Normal
from torch.nn import functional

from mmvae_core.data.dataset import Batch
from mmvae_core.distributions import StandardPrior
from mmvae_core.model import MultimodalVAE
from mmvae_core.recipes import Recipe

__all__ = ["LinearGaussian", "ModulatedSources"]

Number: TypeAlias = float | int
Views: TypeAlias = tuple[Float[Tensor, "B _"], ...]  # one a modality, of any widths
Subset: TypeAlias = Bool[Tensor, " M"] | None  # None: all modalities

STRENGTHS = (0.5, 1.5)  # length of the first and the last column of a random map
GROWTH = 0.3  # how much longer each modality's columns are than the one's before: no two are alike
DIAGONAL_ATOL = 1e-12  # relative; a product of orthogonal columns in float64 stays below
LEAK = 0.2  # slope of the sources' leaky ReLU below zero: every layer is a bijection
VARIANCES = (0.5, 3.0)  # of a source; the range over the segments
MEANS = 2.0  # means of a source lie in (-2, 2)


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """Linear views of one latent, with Gaussian noise: the world where everything is known.

    Args:
        maps: ``W_m [P_m, D]``, one a modality; widths P_m may differ. Kept in float64.
        noise: ``v_m``, the variance of the noise, one a modality (not a standard deviation).

    Raises:
        ValueError: maps and noise do not fit together, or a variance is not positive.

    Source: Tipping and Bishop, "Probabilistic Principal Component Analysis", 1999, for one view;
    Bach and Jordan, "A Probabilistic Interpretation of Canonical Correlation Analysis", 2005, for
    several.

    >>> world = LinearGaussian((torch.ones(1, 1), torch.ones(1, 1)), (1.0, 1.0))
    >>> mean, cov = world.posterior((torch.ones(1, 1), torch.ones(1, 1)))
    >>> round(mean.item(), 4), round(cov.item(), 4)  # two readings and the prior: three thirds
    (0.6667, 0.3333)
    """

    maps: tuple[Float[Tensor, "_ D"], ...]
    noise: tuple[Number, ...]

    def __post_init__(self) -> None:
        if not self.maps or len(self.maps) != len(self.noise):
            raise ValueError(
                "a world needs one map and one noise variance a modality, at least one; "
                f"got {len(self.maps)} maps and {len(self.noise)} variances"
            )
        shapes = [list(w.shape) for w in self.maps]
        if any(len(shape) != 2 or shape[1] != shapes[0][-1] for shape in shapes):
            raise ValueError(f"maps must be [P_m, D] with one D; got shapes {shapes}")
        if not all(0 < v < math.inf for v in self.noise):
            raise ValueError(f"noise holds variances, all positive; got {self.noise}")
        object.__setattr__(self, "maps", tuple(w.double() for w in self.maps))
        object.__setattr__(self, "noise", tuple(float(v) for v in self.noise))

    @classmethod
    def random(
        cls, num_modalities: int, latent_dim: int, width: int | Sequence[int], *,
        noise: Number | Sequence[Number] = 0.5, seed: int = 0, orthogonal: bool = True,
    ) -> LinearGaussian:  # fmt: skip
        """A world with random maps.

        Args:
            width: P, numbers a modality; or one for each modality.
            noise: v, the variance of the noise; or one for each modality.
            orthogonal: give every map orthogonal columns, so that all posteriors are diagonal;
                otherwise entries are independent and Gaussian.

        Raises:
            ValueError: widths or noises do not fit, or are too few for orthogonal columns.

        >>> LinearGaussian.random(3, 2, [4, 5, 6]).is_diagonal
        True
        """
        widths = _each(width, num_modalities, "width")
        if orthogonal and min(widths) < latent_dim:
            raise ValueError(
                f"{latent_dim} orthogonal columns need a width of at least {latent_dim} in every "
                f"modality; got {widths}. orthogonal=False takes any width"
            )
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.linspace(*STRENGTHS, latent_dim, dtype=torch.float64)
        maps = []
        for m, p in enumerate(widths):
            w = torch.randn(p, latent_dim, generator=generator, dtype=torch.float64)
            w = torch.linalg.qr(w)[0] if orthogonal else w / math.sqrt(p)
            maps.append(w * lengths * (1 + GROWTH * m))
        return cls(tuple(maps), tuple(_each(noise, num_modalities, "noise")))

    @property
    def num_modalities(self) -> int:
        """M."""
        return len(self.maps)

    @property
    def latent_dim(self) -> int:
        """D."""
        return self.maps[0].shape[1]

    @property
    def widths(self) -> tuple[int, ...]:
        """P_m, numbers in a view, one a modality."""
        return tuple(len(w) for w in self.maps)

    @property
    def is_diagonal(self) -> bool:
        """Whether every posterior p(z|x_S) is diagonal: each map has orthogonal columns."""
        sizes = self._precisions.abs()
        off = sizes - torch.diag_embed(sizes.diagonal(dim1=1, dim2=2))
        return bool((off.amax((1, 2)) <= DIAGONAL_ATOL * sizes.amax((1, 2))).all())

    def sample(
        self, count: int, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "B D"], Batch]:
        """``count`` latents and what is seen of them."""
        options: dict[str, Any] = dict(generator=generator, dtype=torch.float64)
        z = torch.randn(count, self.latent_dim, **options)
        x = tuple(
            z @ w.T + math.sqrt(v) * torch.randn(count, len(w), **options)
            for w, v in zip(self.maps, self.noise, strict=True)
        )
        return z, Batch(x=x, present=torch.ones(count, self.num_modalities, dtype=torch.bool))

    def posterior(
        self, x: Views, subset: Subset = None
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "D D"]]:
        """Mean and covariance of p(z|x_S), of all by default; the empty subset gives the prior."""
        members = self._members(subset)
        cov = _covariance(self._precisions[members].sum(0))
        return self._shifts(x)[members].sum(0) @ cov, cov

    def log_evidence(self, x: Views, subset: Subset = None) -> Float[Tensor, " B"]:
        """Exact log p(x_S) in nats, for all modalities by default; 0 for the empty subset."""
        mean, cov = self.posterior(x, subset)  # Bayes' rule at the posterior's mean
        given = self.expected_log_likelihood(x, mean, torch.zeros_like(mean))
        prior = StandardPrior().log_prob(mean)
        posterior = -torch.logdet(2 * math.pi * cov) / 2
        return given[self._members(subset)].sum(0) + prior - posterior

    def experts(self, x: Views) -> tuple[Float[Tensor, "M B D"], Float[Tensor, "M B D"]]:
        """The exact experts: means and standard deviations of every p(z_d|x_m).

        They are the whole posterior p(z|x_m) only where :attr:`is_diagonal`; elsewhere they are
        its marginals, and the correlations between dimensions are lost.
        """
        cov = _covariance(self._precisions)  # (M, D, D)
        loc = self._shifts(x) @ cov
        return loc, cov.diagonal(dim1=1, dim2=2).sqrt()[:, None].expand_as(loc)

    def error_correlation(self) -> Float[Tensor, "D M M"]:
        r"""Correlation between the errors of the exact experts, in every latent dimension.

        With :math:`G_m = \tau_m^{-1} W_m^T / v_m` the expert's mean is :math:`G_m x_m` and its
        error :math:`e_m = G_m n_m - \tau_m^{-1} z`: the noises :math:`n_m` are independent, z is
        shared. So :math:`\mathrm{Cov}(e_i, e_j) = \tau_i^{-1}\tau_j^{-1}`, and
        :math:`\mathrm{Cov}(e_i) = \tau_i^{-1}`. Where posteriors are diagonal the correlation is
        :math:`\sigma_i\sigma_j` (:func:`mmvae_core.aggregation.shared_prior_correlation`).
        """
        own = _covariance(self._precisions)  # (M, D, D)
        std = own.diagonal(dim1=1, dim2=2).T.sqrt()  # (D, M)
        corr = torch.einsum("ide,jde->dij", own, own) / (std[:, :, None] * std[:, None])
        corr.diagonal(dim1=1, dim2=2).fill_(1.0)
        return corr

    def expected_log_likelihood(
        self, x: Views, loc: Float[Tensor, "*shape B D"], scale: Float[Tensor, "*shape B D"]
    ) -> Float[Tensor, "*shape M B"]:
        r"""E_q[log p(x_m|z)] in nats under q = N(loc, scale²), for every modality.

        .. math:: -\tfrac{1}{2}\Big(P_m \log 2\pi v_m + \frac{1}{v_m}\big(
                  \|x_m - W_m\mu\|^2 + \textstyle\sum_d \sigma_d^2 \|w_{md}\|^2\big)\Big)
        """
        terms = []
        for w, v, view in zip(self.maps, self.noise, x, strict=True):
            at_mean = Normal(loc @ w.T, math.sqrt(v), validate_args=False).log_prob(view).sum(-1)
            terms.append(at_mean - scale.square() @ w.square().sum(0) / (2 * v))
        return torch.stack(terms, dim=-2)

    def elbo(
        self, x: Views, loc: Float[Tensor, "*shape B D"], scale: Float[Tensor, "*shape B D"],
        recon: Subset = None,
    ) -> Float[Tensor, "*shape B"]:  # fmt: skip
        """The evidence lower bound in closed form, E_q[log p(x_R|z)] − KL(q‖N(0, I)) ≤ log p(x_R).

        In nats, for any diagonal Gaussian q and the modalities R = ``recon`` that it has to explain
        (all by default); equal to :meth:`log_evidence` of R where q is p(z|x_R).
        """
        explained = self.expected_log_likelihood(x, loc, scale)[..., self._members(recon), :]
        kl = 0.5 * (loc.square() + scale.square() - 1) - scale.log()
        return explained.sum(-2) - kl.sum(-1)

    def model(self, recipe: Recipe, **options: Any) -> MultimodalVAE:
        """A model with the true decoders, and encoders that are the exact experts.

        ``recipe`` joins the experts; ``options`` are more of :class:`MultimodalVAE`'s arguments.

        Raises:
            ValueError: an expert is not diagonal.
        """
        if not self.is_diagonal:
            raise ValueError(
                "exact encoders need diagonal posteriors, so maps with orthogonal columns; "
                "LinearGaussian.random(..., orthogonal=True) gives some"
            )
        model = MultimodalVAE(
            recipe, [(p,) for p in self.widths], self.latent_dim, networks="linear",
            likelihood="normal", likelihood_scale=[math.sqrt(v) for v in self.noise],
            scale="exponential", **options,
        )  # fmt: skip
        model.encoders = nn.ModuleList(map(_ExactEncoder, self.maps, self.noise))
        model.decoders = nn.ModuleList(_linear(w) for w in self.maps)
        return model.double()

    def _members(self, subset: Subset) -> Bool[Tensor, " M"]:
        if subset is None:
            return torch.ones(self.num_modalities, dtype=torch.bool)
        if subset.dtype != torch.bool or subset.shape != (self.num_modalities,):
            got = f"{subset.dtype} of shape {list(subset.shape)}"
            raise ValueError(
                f"a subset is a bool mask of {self.num_modalities} modalities; got {got}"
            )
        return subset

    @property
    def _precisions(self) -> Float[Tensor, "M D D"]:
        """W_m^T W_m / v_m, what every view adds to the posterior's precision."""
        return torch.stack([w.T @ w / v for w, v in zip(self.maps, self.noise, strict=True)])

    def _shifts(self, x: Views) -> Float[Tensor, "M B D"]:
        """W_m^T x_m / v_m, what every view adds to the posterior's precision times mean."""
        if len(x) != self.num_modalities:
            raise ValueError(f"x must hold {self.num_modalities} views; got {len(x)}")
        views = zip(x, self.maps, self.noise, strict=True)
        return torch.stack([view.double() @ w / v for view, w, v in views])


def _covariance(precision: Float[Tensor, "*M D D"]) -> Float[Tensor, "*M D D"]:
    """Of the latent, where the views add this ``precision`` to the prior's."""
    return torch.linalg.inv(torch.eye(precision.shape[-1]).double() + precision)


class _ExactEncoder(nn.Module):
    """Mean and log standard deviation of p(z|x), for one view whose posterior is diagonal."""

    gain: Tensor
    log_scale: Tensor

    def __init__(self, w: Tensor, v: float) -> None:
        super().__init__()
        gain, cov = LinearGaussian((w,), (v,)).posterior((torch.eye(len(w)),))
        self.register_buffer("gain", gain)  # (P, D): the means of the unit vectors
        self.register_buffer("log_scale", 0.5 * cov.diagonal().log())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc = x @ self.gain
        return loc, self.log_scale.expand_as(loc)


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], len(weight), bias=False)
    layer.weight = nn.Parameter(weight.clone())
    return layer


def _each(value: Any, count: int, name: str) -> list[Any]:
    values = [value] * count if isinstance(value, (int, float)) else list(value)
    if count < 1 or len(values) != count:
        raise ValueError(f"{name} must be one number or {count}, one a modality; got {value}")
    return values


@dataclass(frozen=True, eq=False)
class ModulatedSources:
    r"""Sources that a label modulates, mixed by a nonlinear map: identifiable with the label only.

    .. math:: u \sim U\{0..U-1\}, \quad z \mid u \sim N(\mu_u, \mathrm{diag}(v_u)), \quad
              x = f(z) + N(0, \mathrm{noise}\, I)

    f is a network of leaky ReLUs between orthogonal matrices, so it can be inverted and loses no
    direction. With enough different pairs (mean, variance) (2D + 1 segments suffice), x and u
    determine z up to order, shift and scale of its components.

    Args:
        means, variances: of the sources in every segment, ``[U, D]``.
        weights: the matrices of f, the last one ``[P, D]``.
        noise: its variance.

    Source: Khemakhem et al., "Variational Autoencoders and Nonlinear ICA: A Unifying Framework",
    2020 (arXiv 1907.04809), section 5.1; with u as a modality in arXiv 2309.00380.

    >>> world = ModulatedSources.random(2, 5, width=3)
    >>> z, batch = world.sample(7)
    >>> z.shape, batch.x[0].shape, batch.x[1].shape  # sources; what is seen; the label, one-hot
    (torch.Size([7, 2]), torch.Size([7, 3]), torch.Size([7, 5]))
    """

    means: Float[Tensor, "U D"]
    variances: Float[Tensor, "U D"]
    weights: tuple[Float[Tensor, "_ D"], ...]
    noise: Number

    @classmethod
    def random(
        cls, num_sources: int, num_segments: int, width: int | None = None, *, depth: int = 3,
        noise: Number = 0.01, seed: int = 0,
    ) -> ModulatedSources:  # fmt: skip
        """Random segments; a random f of ``depth`` matrices (1: linear) to ``width`` numbers."""
        width = num_sources if width is None else width
        if width < num_sources or depth < 1 or num_segments < 1:
            raise ValueError(
                f"f can be inverted only if width is at least {num_sources}, and it takes at "
                f"least one layer and segment; got {width}, {depth} and {num_segments}"
            )
        generator = torch.Generator().manual_seed(seed)
        options: dict[str, Any] = dict(generator=generator, dtype=torch.float64)
        means = MEANS * (2 * torch.rand(num_segments, num_sources, **options) - 1)
        low, high = VARIANCES
        variances = low + (high - low) * torch.rand(num_segments, num_sources, **options)
        sizes = [num_sources] * (depth - 1) + [width]
        drawn = [torch.randn(size, num_sources, **options) for size in sizes]
        return cls(means, variances, tuple(torch.linalg.qr(w)[0] for w in drawn), noise)

    def mix(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N P"]:
        """f(z), without noise."""
        for w in self.weights[:-1]:
            z = functional.leaky_relu(z @ w.T, LEAK)
        return z @ self.weights[-1].T

    def sample(
        self, count: int, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "B D"], Batch]:
        """Sources ``z [B, D]`` and a batch of two modalities: x, and the one-hot of the label."""
        num_segments = len(self.means)
        options: dict[str, Any] = dict(generator=generator, dtype=torch.float64)
        label = torch.randint(num_segments, (count,), generator=generator)
        own = torch.randn(count, self.means.shape[1], **options)
        z = self.means[label] + self.variances[label].sqrt() * own
        x = self.mix(z)
        x = x + math.sqrt(self.noise) * torch.randn(x.shape, **options)
        one_hot = functional.one_hot(label, num_segments).double()
        present = torch.ones(count, 2, dtype=torch.bool)
        return z, Batch(x=(x, one_hot), present=present, label=label)
