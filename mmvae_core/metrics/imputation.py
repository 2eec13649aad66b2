r"""Imputation: what a model puts where a view is hidden, held against the view itself.

A sample has the views S; of a hidden view n the model says

.. math::
    p(x_n \mid x_S) \approx \mathbb{E}_{q(z \mid x_S)}\big[p(x_n \mid z)\big]
    \approx \frac{1}{L} \sum_{l=1}^{L} p(x_n \mid z_l), \qquad z_l \sim q(z \mid x_S),

a mixture of L likelihoods. Its mean is the imputed view, its distribution function, the mean of
the likelihoods' functions, tells in which central intervals the truth lies. Private latents of a
hidden view are drawn from the prior, as in generation; a recipe that keeps latents apart draws z
from the latents of the views that are there.

All functions take the data with gaps and the complete data they were made from
(:mod:`mmvae_core.data.missing`), row for row, and return a number a modality; a modality that is
nowhere hidden has none. A sample's view is one observation: pixels are averaged first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool
from torch import Generator, Tensor, nn
from torch.distributions import Distribution, Laplace, Normal

from mmvae_core import subsets
from mmvae_core.arguments import Count, Seed, arguments
from mmvae_core.data.dataset import Batch, MultimodalDataset
from mmvae_core.distributions import Posterior, event_log_prob, standard_noise
from mmvae_core.metrics.calibration import LEVELS, Number, covered
from mmvae_core.metrics.coherence import judges_of
from mmvae_core.metrics.estimate import Estimate, nested
from mmvae_core.metrics.walk import Accumulator, Encoded, labels_of, seeded, walk
from mmvae_core.model import MultimodalVAE
from mmvae_core.model.members import check_data

__all__ = [
    "Imputation",
    "Reconstruction",
    "absolute_error",
    "coverage_of",
    "imputation_coherence",
    "imputation_coverage",
    "imputation_error",
    "imputation_log_likelihood",
    "imputed",
    "reconstruction_error",
]

BATCH = 64  # small, as a hidden view is decoded from all draws at once; divides the walk's
DRAWS = 32


class Hidden(NamedTuple):
    """One modality's hidden views of a batch: the truth, and the mixture's parts."""

    name: str
    truth: Tensor  # (n, *shape)
    label: Tensor | None
    likelihood: Distribution  # batch shape (L, n, *shape)


Score: TypeAlias = Callable[[Hidden], dict[str, Tensor]]  # by metric, a number a view


@dataclass(eq=False)
class Imputation(Accumulator):
    """What scores say of hidden views.

    With ``complete`` data these are the views that it has and the walk's data lack. Without, of
    the first ``count`` samples of complete data, every view is hidden, one at a time; all without
    it then have to be among the walk's subsets.
    """

    model: MultimodalVAE
    scores: Sequence[Score]
    _: KW_ONLY
    draws: int
    seed: int
    complete: MultimodalDataset | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        self.whole = None if self.complete is None else iter(self.complete.batches(BATCH))
        self.generators = defaultdict[str, Generator](lambda: seeded(self.model, self.seed))

    def update(self, seen: Encoded) -> None:
        names = self.model.names
        for part in seen.parts(BATCH, self.count):
            present = part.batch.present
            if self.whole is not None:
                whole = next(self.whole)
                self._hide(part, "+".join(names), whole, whole.present & ~present)
            elif len(names) > 1:
                for m, name in enumerate(names):
                    hidden = torch.zeros_like(present)
                    hidden[:, m] = True
                    rest = "+".join(other for other in names if other != name)
                    self._hide(part, rest, part.batch, hidden)

    def _hide(self, part: Encoded, given: str, whole: Batch, hidden: Tensor) -> None:
        q, generator = part.posterior_of(given), self.generators[given]
        for m, rows, likelihood in _mixtures(self.model, q, hidden, self.draws, generator):
            label = None if whole.label is None else whole.label[rows]
            views = Hidden(self.model.names[m], whole.x[m][rows], label, likelihood)
            for score in self.scores:
                for metric, values in score(views).items():
                    self.add(metric, given, views.name, values)


@dataclass(eq=False)
class Reconstruction(Accumulator):
    """The error of views that were given, those of ``subset``, of the first ``count`` samples."""

    model: MultimodalVAE
    subset: Bool[Tensor, " M"]
    _: KW_ONLY
    seed: int
    count: int | None = None

    def __post_init__(self) -> None:
        self.generator = seeded(self.model, self.seed)

    def update(self, seen: Encoded) -> None:
        names = self.model.names
        subset = subsets.name(self.subset, names)
        for part in seen.parts(BATCH, self.count):
            given = part.batch.present & self.subset.to(part.batch.present.device)
            z = part.posterior_of(subset).draw(1, self.generator)[0, 0]
            made = self.model.generate_from(part.experts, given, z, generator=self.generator)
            for m, name in enumerate(names):
                if (rows := given[:, m]).any():
                    error = (made[name][rows] - part.batch.x[m][rows]).abs().flatten(1).mean(dim=1)
                    self.add("reconstruction_error", subset, name, error)


@arguments
def imputation_error(
    model: MultimodalVAE,
    data: MultimodalDataset,
    complete: MultimodalDataset,
    *,
    draws: Count = DRAWS,
    seed: Seed = 0,
) -> dict[str, Estimate]:
    """Mean absolute error of the imputed views, in units of the data (a pixel is in [0, 1]).

    The imputed view is the mean of the mixture over ``draws`` draws of z. With few draws it
    strays from the model's mean, and the error is larger.

    Raises:
        ValueError: data and complete data do not belong together, nothing is hidden, or there is
            nothing to draw.
    """
    return _scored(model, data, complete, absolute_error, draws, seed)["imputation_error"]


@arguments
def imputation_log_likelihood(
    model: MultimodalVAE,
    data: MultimodalDataset,
    complete: MultimodalDataset,
    *,
    draws: Count = DRAWS,
    seed: Seed = 0,
) -> dict[str, Estimate]:
    """E_q(z|x_S)[log p(x_n|z)] of the hidden views, in nats a view, without bias for any ``draws``.

    By Jensen's inequality at most log E_q[p(x_n|z)], the log-density of the mixture itself.
    Raises as :func:`imputation_error`.
    """

    def score(views: Hidden) -> dict[str, Tensor]:
        values = event_log_prob(views.likelihood, views.truth, views.truth.ndim - 1)  # (L, n)
        return {"log_likelihood": values.mean(dim=0)}

    return _scored(model, data, complete, score, draws, seed)["log_likelihood"]


@arguments
def imputation_coherence(
    model: MultimodalVAE,
    data: MultimodalDataset,
    complete: MultimodalDataset,
    classifiers: Sequence[nn.Module],
    *,
    seed: Seed = 0,
) -> dict[str, Estimate]:
    """The share of imputed views to which the classifiers give the sample's label.

    As in :func:`mmvae_core.metrics.conditional_coherence` the view is the mean of p(x_n|z) at one
    draw z ~ q(z|x_S), S being what each sample has.

    Args:
        classifiers: one a modality, trained on real views
            (:func:`mmvae_core.metrics.train_classifiers`).

    Raises:
        ValueError: no labels, not one classifier a modality, or as :func:`imputation_error`.
    """
    labels_of(complete, "coherence")
    judges = judges_of(model, classifiers)

    def score(views: Hidden) -> dict[str, Tensor]:
        said = judges[views.name](views.likelihood.mean[0]).argmax(1)
        return {"coherence": said == views.label}

    return _scored(model, data, complete, score, 1, seed)["coherence"]


@arguments
def imputation_coverage(
    model: MultimodalVAE,
    data: MultimodalDataset,
    complete: MultimodalDataset,
    *,
    noise: Number | Mapping[str, Number] | None = None,
    levels: Sequence[float] = LEVELS,
    draws: Count = 100,
    seed: Seed = 0,
) -> dict[str, dict[float, Estimate]]:
    """The share of hidden pixels inside the central intervals of what the model says of them.

    Args:
        noise: the scale of the likelihood's noise, in place of its own; one number or one a
            modality. 0 leaves the noise out: the intervals are those of the decoded means alone,
            which say how far z is from known. A VAE's fixed scale is often chosen to train well,
            and not to be true; the scale that fits a Laplace likelihood is
            :func:`reconstruction_error`.
        levels: masses of the intervals, in (0, 1).
        draws: L. The mixture of L likelihoods is narrower than its limit by a share of about 1/L
            of the variance that z brings; without noise there is only rounding by 1/(L + 1),
            because the rank of the truth among L draws is uniform for any L.

    Returns:
        ``{modality: {level: share}}``. Calibrated imputation gives the levels back.

    Raises:
        ValueError: a likelihood without intervals (categorical), a noise that is negative or
            missing for a modality, or as :func:`imputation_error`.
    """
    score = coverage_of(_noises(model, noise), levels)
    found = _scored(model, data, complete, score, draws, seed).values()
    return {name: dict(zip(levels, (share[name] for share in found), strict=True))
            for name in next(iter(found))}  # fmt: skip


def absolute_error(views: Hidden) -> dict[str, Tensor]:
    """Of the mixture's mean; a score."""
    error = (views.likelihood.mean.mean(dim=0) - views.truth).abs()
    return {"imputation_error": error.flatten(1).mean(dim=1)}


@arguments
def coverage_of(noise: Mapping[str, Number | None], levels: Sequence[float] = LEVELS) -> Score:
    """The score of the intervals, with this noise; modalities without one are left out."""

    def score(views: Hidden) -> dict[str, Tensor]:
        if views.name not in noise:
            return {}
        shares = covered(_pit(views, noise[views.name]), levels)
        return {f"imputation_coverage_{level}": share for level, share in shares.items()}

    return score


@arguments
def reconstruction_error(
    model: MultimodalVAE,
    data: MultimodalDataset,
    subset: Bool[Tensor, " M"] | None = None,
    *,
    seed: Seed = 0,
) -> dict[str, Estimate]:
    """E_q|x_m - E p(x_m|z)| of the views that were *given*, a pixel, in units of the data.

    What a model keeps of a view, the part included that no other view knows: against
    :func:`imputation_error`, where the view was not given. It is also the scale of a Laplace
    likelihood that fits best (the maximum of E_q[log p(x_m|z)] over the scale). One draw a sample.

    Args:
        subset: the views that are given; by default all that each sample has.

    Raises:
        ValueError: a sample lacks a modality of the subset.
    """
    rows = None if subset is None else subset[None]
    given = subsets.full(len(model.names))[0] if subset is None else subset
    found = walk(model, data, [Reconstruction(model, given, seed=seed)], rows)
    return {row.generated: row.estimate for row in found}


@torch.no_grad()
@arguments
def imputed(
    model: MultimodalVAE, batch: Batch, *, draws: Count = DRAWS, seed: Seed = 0
) -> dict[str, Tensor]:
    """The batch without gaps: a view that is there as it is, a hidden one imputed.

    With ``draws=1`` one of the many views that the model holds possible, with more their mean.

    Returns:
        ``{modality: [B, ...]}``.
    """
    q, generator = model.eval().posterior(batch), seeded(model, seed)
    result = {name: x.clone() for name, x in zip(model.names, batch.x, strict=True)}
    for m, rows, likelihood in _mixtures(model, q, ~batch.present, draws, generator):
        result[model.names[m]][rows] = likelihood.mean.mean(dim=0).to(batch.x[m].dtype)
    return result


def _scored(
    model: MultimodalVAE,
    data: MultimodalDataset,
    complete: MultimodalDataset,
    score: Score,
    draws: int,
    seed: int,
) -> dict[str, dict[str, Estimate]]:
    """By metric and modality, of every hidden view; the same draws for the same seed."""
    here, there = data.present, complete.present
    if here.shape != there.shape or (here & ~there).any():
        raise ValueError(
            "complete must hold the samples of data, row for row, with no view less; got presence "
            f"of shape {list(here.shape)} for data and {list(there.shape)} for complete"
        )
    check_data(model.spec, complete)
    if here.equal(there):
        raise ValueError(
            "no view is hidden, so there is nothing to impute; data.hide_at_random hides some"
        )
    gaps = Imputation(model, [score], draws=draws, seed=seed, complete=complete)
    rows = sorted(walk(model, data, [gaps]), key=lambda row: model.names.index(row.generated))
    return nested(rows, "metric", "generated")


def _mixtures(
    model: MultimodalVAE,
    q: Posterior,
    wanted: Bool[Tensor, "B M"],
    draws: int,
    generator: Generator,
) -> Iterator[tuple[int, Tensor, Distribution]]:
    """For every modality the samples that want it, and p(x_m|z_l) at ``draws`` draws of z ~ q."""
    z = q.draw(draws, generator)[:, 0]  # (L, B, D)
    for m, name in enumerate(model.names):
        rows = wanted[:, m].nonzero().flatten()
        if len(rows) == 0:
            continue
        private = None
        if model.latents.private_dim:
            shape = (len(model.names), draws, len(rows), model.latents.private_dim)
            private = standard_noise(model.latents.family, shape, z, generator)
        yield m, rows, model.decode(z[:, rows], [m], private=private)[name]


def _pit(views: Hidden, noise: Number | None) -> Tensor:
    """The mixture's distribution function at the truth; without noise, the truth's rank."""
    name, truth, _, likelihood = views
    if not isinstance(likelihood, (Laplace, Normal)):
        raise ValueError(
            f"{name} has a {type(likelihood).__name__} likelihood, which has no intervals; "
            "measure imputation_log_likelihood instead"
        )
    if noise == 0:
        below = (likelihood.loc < truth).sum(dim=0) + 0.5 * (likelihood.loc == truth).sum(dim=0)
        return (below + 0.5) / (len(likelihood.loc) + 1)
    if noise is not None:
        scale = torch.as_tensor(noise).to(truth)
        likelihood = type(likelihood)(likelihood.loc, scale, validate_args=False)
    return likelihood.cdf(truth).mean(dim=0)


def _noises(
    model: MultimodalVAE, noise: Number | Mapping[str, Number] | None
) -> Mapping[str, Number | None]:
    if noise is None:
        return dict.fromkeys(model.names)
    each = noise if isinstance(noise, Mapping) else dict.fromkeys(model.names, noise)
    if not all(each.get(name, -1) >= 0 for name in model.names):
        raise ValueError(
            f"noise must be one number, not negative, or one for each of {model.names}; "
            f"got {dict(each)}"
        )
    return each
