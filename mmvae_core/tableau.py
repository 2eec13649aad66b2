r"""The tableau: a multimodal objective as four small arrays.

Every objective of the literature that is linear in its terms is one row of one table,

.. math::

    L = \sum_{k,m} \mathrm{recon}_{km}\, E_{q_k}[\lambda_m \log p(x_m \mid z)]
        - \beta \sum_{k,r} \mathrm{kl}_{kr}\, KL(q_k \,\|\, r_r),

where ``cond[k]`` says which experts make the posterior ``q_k``, ``ref[r]`` which experts make the
reference ``r_r``, and the prior N(0, I) is one more expert: the last column of both. As a
Runge-Kutta solver is a Butcher tableau, a recipe is such a tableau and the engine that evaluates
it (:mod:`mmvae_core.bounds`) is written once.

Where samples differ, in what is missing or in which subsets were drawn for them, every sample has
a tableau of its own: :class:`SampleTableaux` holds them as the same four arrays with one more axis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from mmvae_core.checks import check_tensors

__all__ = ["AnyTableau", "SampleTableaux", "Tableau", "prior_row", "sent", "with_prior"]


def with_prior(masks: Bool[Tensor, "K M"], *, prior: bool) -> Bool[Tensor, "K M+1"]:
    """Append the prior's column to a family of subsets, set or clear in every row."""
    return torch.cat([masks, torch.full((len(masks), 1), prior, dtype=torch.bool)], dim=1)


def prior_row(num_modalities: int) -> Bool[Tensor, "1 E"]:
    """The row that is the prior alone, ``0...01``."""
    return with_prior(torch.zeros(1, num_modalities, dtype=torch.bool), prior=True)


def sent(value: Tensor, device: torch.device) -> Tensor:
    """``value`` on ``device``; if it comes from the host, the host does not wait for its arrival.

    For the small arrays that a training step makes on the host. From ordinary memory CUDA copies
    and halts until the device has come so far; from pinned memory it goes on at once.
    """
    if value.device.type != "cpu":
        return value.to(device)
    if device.type == "cuda":
        value = value.pin_memory()
    return value.to(device, non_blocking=True)


@dataclass(frozen=True, eq=False)
class Tableau:
    """The coefficients of one objective.

    Args:
        cond: bool ``[K, M + 1]``, the experts behind posterior ``k``; last column: the prior.
        recon: ``[K, M]``, the weight of modality ``m``'s log-likelihood under posterior ``k``.
        ref: bool ``[R, M + 1]``, the experts behind reference ``r``; the prior is ``0...01``.
            ``R`` may be 0, for objectives on log-weights (:func:`mmvae_core.bounds.iwae`).
        kl: ``[K, R]``, the weight of ``KL(q_k || r_r)``.

    Raises:
        ValueError: the shapes do not belong together, a row of ``cond`` or ``ref`` is empty, a
            weight is negative or not finite, or a posterior has no term.

    >>> import torch
    >>> vae = Tableau(cond=torch.tensor([[True, False]]), recon=torch.ones(1, 1),
    ...               ref=torch.tensor([[False, True]]), kl=torch.ones(1, 1))
    >>> vae.is_elbo
    True
    """

    cond: Bool[Tensor, "K E"]
    recon: Float[Tensor, "K M"]
    ref: Bool[Tensor, "R E"]
    kl: Float[Tensor, "K R"]
    _placed: dict[torch.device, Tableau] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        check_tensors(cond=self.cond, recon=self.recon, ref=self.ref, kl=self.kl)
        for field in ("recon", "kl"):
            if getattr(self, field).is_complex():
                raise ValueError(f"weights in {field} must be real numbers")
        # Weights such as 1/7 are kept in double precision, whatever precision the model has.
        object.__setattr__(self, "recon", self.recon.double())
        object.__setattr__(self, "kl", self.kl.double())
        for field in ("cond", "ref"):
            rows = getattr(self, field)
            if rows.ndim != 2 or rows.dtype != torch.bool:
                raise ValueError(
                    f"{field} must be a boolean matrix; "
                    f"got {rows.dtype} of shape {list(rows.shape)}"
                )
            if not rows.any(dim=1).all():
                empty = (~rows.any(dim=1)).nonzero().flatten().tolist()
                raise ValueError(f"every row of {field} needs an expert; empty: rows {empty}")
        (num_posteriors, width), num_references = self.cond.shape, len(self.ref)
        expected = {
            "recon": (self.recon, (num_posteriors, width - 1)),
            "ref": (self.ref, (num_references, width)),
            "kl": (self.kl, (num_posteriors, num_references)),
        }
        for field, (value, shape) in expected.items():
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"{field} must have shape {list(shape)} to go with cond {list(self.cond.shape)}"
                    f" (one row a posterior, last column of cond and ref the prior); "
                    f"got {list(value.shape)}"
                )
        for field in ("recon", "kl"):
            value = getattr(self, field)
            if not (torch.isfinite(value) & (value >= 0)).all():
                raise ValueError(f"weights in {field} must be finite and not negative")
        idle = ((self.recon == 0).all(dim=1) & (self.kl == 0).all(dim=1)).nonzero().flatten()
        if len(idle):
            raise ValueError(f"posteriors {idle.tolist()} have no term: all their weights are 0")

    def to(self, device: torch.device) -> Tableau:
        """The same tableau on ``device``, copied there once."""
        if device == self.cond.device:
            return self
        if device not in self._placed:
            placed = object.__new__(Tableau)
            for name in ("cond", "recon", "ref", "kl"):
                object.__setattr__(placed, name, sent(getattr(self, name), device))
            object.__setattr__(placed, "_placed", {})
            self._placed[device] = placed
        return self._placed[device]

    @property
    def num_posteriors(self) -> int:
        return self.cond.shape[0]

    @property
    def num_references(self) -> int:
        return self.ref.shape[0]

    @property
    def num_modalities(self) -> int:
        return self.cond.shape[1] - 1

    @property
    def subsets(self) -> Bool[Tensor, "K M"]:
        """The modalities of every posterior, the prior's column left out."""
        return self.cond[:, :-1]

    @property
    def is_elbo(self) -> bool:
        """Whether every row is a multiple of an evidence lower bound (at beta = 1, lambda = 1).

        That holds where the prior alone is the reference and row ``k`` weighs its KL with ``w_k``
        and each log-likelihood with ``w_k`` or 0: then it is ``w_k`` times a lower bound on the
        log-evidence of the modalities that it reconstructs.
        """
        weight = self.kl.sum(dim=1, keepdim=True)  # (K, 1)
        prior_only = bool((~self.ref[:, :-1].any(dim=1) | (self.kl == 0).all(dim=0)).all())
        recon_fits = torch.isclose(self.recon, weight) | (self.recon == 0)
        return prior_only and bool(recon_fits.all()) and bool((weight > 0).all())

    @property
    def row_weights(self) -> Float[Tensor, " K"]:
        """How much every posterior counts: the total weight of its KL terms, or where it has none
        that of its likelihoods."""
        kl = self.kl.sum(dim=1)
        return torch.where(kl > 0, kl, self.recon.sum(dim=1))

    def embedded(self, members: Bool[Tensor, " W"]) -> Tableau:
        """The same objective for the modalities ``members`` among more: absent ones get zeros.

        Raises:
            ValueError: the mask does not name as many modalities as the tableau has.
        """
        if int(members.sum()) != self.num_modalities:
            raise ValueError(
                f"members must name {self.num_modalities} modalities, as many as the tableau has; "
                f"got {members.int().tolist()}"
            )
        if members.all():
            return self
        columns = torch.cat([members, torch.ones(1, dtype=torch.bool)])

        def wider(rows: Tensor, mask: Tensor) -> Tensor:
            return rows.new_zeros(len(rows), len(mask)).masked_scatter(mask, rows)

        return Tableau(
            wider(self.cond, columns), wider(self.recon, members),
            wider(self.ref, columns), self.kl,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class SampleTableaux:
    """One tableau for every sample of a batch; shorter ones end in rows without weight.

    Args:
        cond, recon, ref, kl: as in :class:`Tableau`, with the samples as last axis.
    """

    cond: Bool[Tensor, "K E B"]
    recon: Float[Tensor, "K M B"]
    ref: Bool[Tensor, "R E B"]
    kl: Float[Tensor, "K R B"]

    @classmethod
    def gather(cls, tableaux: Sequence[Tableau], which: Int[Tensor, " B"]) -> SampleTableaux:
        """Sample ``b`` gets ``tableaux[which[b]]``."""
        num_posteriors = max(tableau.num_posteriors for tableau in tableaux)
        num_references = max(tableau.num_references for tableau in tableaux)
        padded = [_padded(tableau, num_posteriors, num_references) for tableau in tableaux]
        stacks = (torch.stack(parts) for parts in zip(*padded, strict=True))
        return cls(*(stack[which].movedim(0, -1) for stack in stacks))

    def rows(self, chosen: Int[Tensor, "N B"], factor: Float[Tensor, "N B"]) -> SampleTableaux:
        """Of every sample the rows ``chosen``, their weights multiplied by ``factor``."""

        def take(values: Tensor) -> Tensor:
            index = chosen[:, None].expand(-1, values.shape[1], -1)
            return values.gather(0, index)

        weight = factor[:, None]
        return SampleTableaux(
            take(self.cond), take(self.recon) * weight, self.ref, take(self.kl) * weight
        )

    def to(self, device: torch.device) -> SampleTableaux:
        """The same on ``device``."""
        return SampleTableaux(
            *(sent(part, device) for part in (self.cond, self.recon, self.ref, self.kl))
        )


AnyTableau: TypeAlias = Tableau | SampleTableaux
"""Of a batch: one for all of its samples, or one for each."""


def _padded(tableau: Tableau, num_posteriors: int, num_references: int) -> tuple[Tensor, ...]:
    """The arrays of ``tableau`` with rows of the prior alone, without weight, at their ends."""
    prior = prior_row(tableau.num_modalities)
    more = num_posteriors - tableau.num_posteriors
    more_references = num_references - tableau.num_references
    return (
        torch.cat([tableau.cond, prior.expand(more, -1)]),
        pad(tableau.recon, (0, 0, 0, more)),
        torch.cat([tableau.ref, prior.expand(more_references, -1)]),
        pad(tableau.kl, (0, more_references, 0, more)),
    )
