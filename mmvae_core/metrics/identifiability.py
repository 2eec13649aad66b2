r"""Identifiability: how well estimated latents recover the true ones, where those are known.

A model that is identifiable recovers every latent up to its place, its sign and its scale, so the
score matches the components one to one and looks at correlations only:

.. math:: \mathrm{MCC} = \frac{1}{D} \max_{\pi} \sum_d
          \big|\mathrm{corr}(z_d, \hat z_{\pi(d)})\big| .

Where only the space that the latents span is recovered, in any basis, :func:`weak_mcc` is high
and :func:`mcc` is not.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata
from torch import Tensor

from mmvae_core.arguments import arguments
from mmvae_core.checks import check_numbers

__all__ = ["correlations", "mcc", "weak_mcc"]


@arguments
def mcc(
    true: Float[Tensor, "N D"],
    estimated: Float[Tensor, "N E"],
    *,
    ranks: bool = False,
) -> float:
    """The mean correlation coefficient under the best one-to-one match of components.

    Args:
        true: the latents that the data were made from.
        estimated: the latents of a model, such as posterior means. There may be more of them, and
            each is used once; where there are fewer, a true latent without a match counts 0.
        ranks: correlate ranks (Spearman) instead of values (Pearson): then any monotone
            transformation of a component is allowed too.

    Returns:
        Between 0 and 1. N samples of unrelated latents give about ``1/sqrt(N)`` and more, not 0.

    Raises:
        ValueError: the rows do not belong together, or are fewer than 2.

    Source: Khemakhem et al., "Variational Autoencoders and Nonlinear ICA: A Unifying Framework",
    2020 (arXiv 1907.04809), section 5; after Hyvärinen and Morioka, 2016.

    >>> import torch
    >>> z = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    >>> round(mcc(z, z.flip(1) * torch.tensor([-3.0, 0.5]) + 1), 4)
    1.0
    """
    strength = correlations(true, estimated, ranks=ranks).abs().numpy()
    chosen = linear_sum_assignment(strength, maximize=True)
    return float(strength[chosen].sum() / len(strength))


@arguments
def weak_mcc(true: Float[Tensor, "N D"], estimated: Float[Tensor, "N E"]) -> float:
    """The mean correlation coefficient after the best affine map of the estimate to the truth.

    The mean over the true latents of the multiple correlation: the correlation of ``z_d`` with its
    least-squares prediction from all estimated components. Invariant to every invertible affine
    map of the estimate, so it says whether the latents can be read off linearly, not whether they
    have been told apart. Never below :func:`mcc` of values. The map is fitted on the samples that
    it is judged by, so unrelated latents give about ``sqrt(E/N)``; use many samples.

    Raises:
        ValueError: as :func:`mcc`.

    Source: Kivva et al., "Identifiability of Deep Generative Models without Auxiliary
    Information", 2022 (arXiv 2206.10044), who name the weak and the strong score.

    >>> import torch
    >>> z = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    >>> turned = z @ torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    >>> round(weak_mcc(z, turned), 4), mcc(z, turned) < 0.9
    (1.0, True)
    """
    true, estimated = _checked(true, estimated)
    # The minimum-norm solution: collapsed components leave the design without full rank.
    fit = torch.linalg.lstsq(estimated, true, driver="gelsd").solution
    share = (estimated @ fit).square().sum(0) / true.square().sum(0)  # R²; a constant gives NaN
    return share.nan_to_num(0.0).clamp(0.0, 1.0).sqrt().mean().item()


@arguments
def correlations(
    true: Float[Tensor, "N D"],
    estimated: Float[Tensor, "N E"],
    *,
    ranks: bool = False,
) -> Float[Tensor, "D E"]:
    """The correlation of every true with every estimated component.

    A component that does not vary, up to rounding, has correlation 0 with everything. Arguments
    and errors as :func:`mcc`.
    """
    true, estimated = _checked(true, estimated)
    if ranks:
        true, estimated = (torch.from_numpy(rankdata(v, axis=0)) for v in (true, estimated))
    both = torch.corrcoef(torch.cat([true, estimated], dim=1).T)
    return both[: true.shape[1], true.shape[1] :].nan_to_num(0.0)  # NaN: it does not vary


def _checked(true: Tensor, estimated: Tensor) -> tuple[Tensor, Tensor]:
    if true.ndim != 2 or estimated.ndim != 2 or len(true) != len(estimated) or len(true) < 2:
        raise ValueError(
            "true and estimated latents must be [N, D] and [N, E], a row a sample, at least 2; "
            f"got {list(true.shape)} and {list(estimated.shape)}"
        )
    check_numbers(true=true, estimated=estimated)
    return _centred(true), _centred(estimated)


def _centred(values: Tensor) -> Tensor:
    """Columns of mean 0 in float64; zeros where a column varies by no more than its rounding."""
    eps = torch.finfo(values.dtype).eps  # of the model's own numbers
    values = values.detach().cpu().double()
    centred = values - values.mean(0)
    rounding = 8 * eps * values.abs().amax(0)
    return torch.where(centred.abs().amax(0) > rounding, centred, 0.0)
