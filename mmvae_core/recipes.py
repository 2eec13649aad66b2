"""Recipes: one function per paper, each a row of one table.

A recipe says which subsets have posteriors, how experts are aggregated, who reconstructs what,
against which reference and with which weights; networks and data are chosen elsewhere.

>>> build("code_vae", 3, rho=0.4).tableau.num_posteriors
7
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from mmvae_core import subsets
from mmvae_core.aggregation import (
    Aggregate,
    code,
    code_shared_prior,
    poe,
    poe_prior_once,
    wasserstein,
)
from mmvae_core.learned import CodeOfMatrix, LearnedCode
from mmvae_core.tableau import Tableau, with_prior

__all__ = [
    "RECIPES",
    "Recipe",
    "Reference",
    "build",
    "cite",
    "code_vae",
    "mopoe",
    "mvae",
    "mvtcae",
    "mwb_vae",
    "option_names",
    "vae",
    "wb_vae",
]

ENTROPY_SCALE = 1000.0  # gamma of arXiv 2505.01134, appendix D.3: "works well for all datasets"
MVTCAE_ALPHA = 5 / 6  # the ratio in the authors' PolyMNIST script
DEFAULT_RHO = 0.4  # the best on MNIST-SVHN-Text and PolyMNIST, tables 6 and 7 of 2505.01134


@dataclass(frozen=True)
class Reference:
    """Where a method was published."""

    key: str
    title: str
    authors: str
    year: int
    venue: str
    arxiv: str | None = None

    def bibtex(self) -> str:
        rows = {
            "title": f"{{{self.title}}}",
            "author": self.authors,
            "year": self.year,
            "booktitle": self.venue,
            "note": f"arXiv:{self.arxiv}" if self.arxiv else None,
        }
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in rows.items() if value)
        return f"@inproceedings{{{self.key},\n{body}\n}}"


@dataclass(frozen=True, eq=False)
class Recipe:
    """A method: a tableau, the rule that fills its posteriors, and how its rows are weighed.

    Args:
        name, options: what :func:`build` needs to make it again; plain data, kept in checkpoints.
        tableau: the objective's coefficients.
        aggregate: the rule from experts to posteriors; a module where it learns.
        reference: the paper.
        entropy_scale: gamma, where the rows' weights are a learned softmax; None where the
            tableau's own weights stand.
        draw: makes a new tableau at every step, for objectives that sample subsets.
    """

    name: str
    num_modalities: int
    tableau: Tableau
    aggregate: Aggregate
    reference: Reference
    options: Mapping[str, Any] = field(default_factory=dict)
    entropy_scale: float | None = None
    draw: Callable[[Generator | None], Tableau] | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """What is stored of a recipe: ``build(**recipe.spec)`` gives it back."""
        return {"name": self.name, "num_modalities": self.num_modalities, **self.options}


def vae(num_modalities: int = 1) -> Recipe:
    """Independent unimodal VAEs, one for each modality: the yardstick of the quality gap.

    Every modality is encoded and reconstructed alone; with one modality it is the plain VAE.
    """
    cond = subsets.singletons(num_modalities)
    return Recipe(
        "vae", num_modalities,
        _against_prior(with_prior(cond, prior=False), recon=cond.float(), weight=1.0),
        poe, _VAE,
    )  # fmt: skip


def mvae(num_modalities: int, *, random_subsets: int = 1) -> Recipe:
    """MVAE: product of experts with the prior as an expert, each subset reconstructs what it sees.

    The objective sums the bounds of the full set, of every modality alone and of
    ``random_subsets`` subsets in between, drawn anew at every step (none where ``M < 3``).
    """
    middle = subsets.powerset(num_modalities)[num_modalities:-1]
    if (
        isinstance(random_subsets, bool)
        or not isinstance(random_subsets, int)
        or random_subsets < 0
    ):
        raise ValueError(f"random_subsets must be a whole number from 0; got {random_subsets!r}")
    fixed = subsets.singletons(num_modalities)
    if num_modalities > 1:
        fixed = torch.cat([fixed, subsets.full(num_modalities)])

    def tableau(rows: Tensor) -> Tableau:
        return _against_prior(with_prior(rows, prior=True), recon=rows.float(), weight=1.0)

    def draw(generator: Generator | None) -> Tableau:
        chosen = torch.randint(len(middle), (random_subsets,), generator=generator)
        return tableau(torch.cat([fixed, middle[chosen]]))

    return Recipe(
        "mvae", num_modalities, tableau(fixed), poe, _MVAE,
        options={"random_subsets": random_subsets},
        draw=draw if random_subsets and len(middle) else None,
    )  # fmt: skip


def mopoe(num_modalities: int, *, aggregation: str = "poe", prior_expert: bool = False) -> Recipe:
    """MoPoE-VAE: a product of experts for every subset, all bounds weighed equally.

    Args:
        aggregation: ``"poe"``, or ``"poe_prior_once"`` for exact Bayes' rule between experts.
        prior_expert: whether N(0, I) is one more expert of every product. (The authors' code adds
            it to the full subset only.)
    """
    rules = {"poe": poe, "poe_prior_once": poe_prior_once}
    if aggregation not in rules:
        raise ValueError(f"aggregation must be one of {sorted(rules)}; got {aggregation!r}")
    return Recipe(
        "mopoe", num_modalities, _every_subset(num_modalities, prior_expert=prior_expert),
        rules[aggregation], _MOPOE,
        options={"aggregation": aggregation, "prior_expert": prior_expert},
    )  # fmt: skip


def mvtcae(num_modalities: int, *, alpha: float = MVTCAE_ALPHA) -> Recipe:
    """MVTCAE: one product of experts for the full set, held close to every expert.

    ``alpha`` in [0, 1] shares the KL between the prior (1 - alpha) and the experts (alpha), and
    weighs the likelihoods by (M - alpha)/M. It is a bound on total correlation, not an ELBO.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1]; got {alpha}")
    prior = torch.zeros(1, num_modalities + 1, dtype=torch.bool)
    prior[0, -1] = True
    experts = with_prior(subsets.singletons(num_modalities), prior=False)
    kl = torch.full((1, num_modalities + 1), alpha / num_modalities, dtype=torch.float64)
    kl[0, 0] = 1 - alpha
    tableau = Tableau(
        cond=with_prior(subsets.full(num_modalities), prior=False),
        recon=1 - kl.new_full((1, num_modalities), alpha / num_modalities),
        ref=torch.cat([prior, experts]),
        kl=kl,
    )
    return Recipe("mvtcae", num_modalities, tableau, poe, _MVTCAE, options={"alpha": alpha})


def code_vae(
    num_modalities: int,
    *,
    rho: float | str | None = None,
    corr: Sequence[Sequence[float]] | None = None,
    weights: str = "learned",
    entropy_scale: float = ENTROPY_SCALE,
) -> Recipe:
    """CoDE-VAE: the consensus of dependent experts for every subset, with learned weights.

    Args:
        rho: the experts' common correlation, in ``(-1/(M-1), 1)``, 0.4 by default; or
            ``"learned"`` (one parameter, kept inside that interval), or ``"shared_prior"``
            (rho_ij = sigma_i sigma_j, needs experts with ``scale < 1``). 0 gives products of
            experts.
        corr: a whole correlation matrix ``[M, M]`` instead of ``rho``.
        weights: ``"learned"``: pi, a softmax trained with the bound; or ``"equal"``.
        entropy_scale: gamma, the weight of the entropy of pi, in nats.
    """
    if weights not in ("learned", "equal"):
        raise ValueError(f"weights must be 'learned' or 'equal'; got {weights!r}")
    if entropy_scale <= 0:
        raise ValueError(f"entropy_scale must be positive; got {entropy_scale}")
    aggregate: Aggregate
    if corr is not None:
        if rho is not None:
            raise ValueError(f"give rho or corr, not both; got rho={rho!r} and a matrix")
        matrix = torch.as_tensor(corr, dtype=torch.get_default_dtype())
        corr = matrix.tolist()  # plain data, for checkpoints
        if matrix.shape != (num_modalities, num_modalities):
            raise ValueError(
                f"corr must be a {num_modalities}x{num_modalities} correlation matrix, one row a "
                f"modality; its shape is {list(matrix.shape)}"
            )
        aggregate = CodeOfMatrix(matrix)
    elif isinstance(rho, str):
        if rho not in ("learned", "shared_prior"):
            raise ValueError(f"rho must be a number, 'learned' or 'shared_prior'; got {rho!r}")
        aggregate = LearnedCode(num_modalities) if rho == "learned" else code_shared_prior
    else:
        rho = DEFAULT_RHO if rho is None else float(rho)
        aggregate = partial(code, rho=rho)
    # A wrong rho or corr shows here, not at the first batch.
    experts = torch.zeros(num_modalities, 1), torch.full((num_modalities, 1), 0.5)
    aggregate(*experts, subsets.full(num_modalities))
    return Recipe(
        "code_vae", num_modalities, _every_subset(num_modalities), aggregate, _CODE_VAE,
        options={"rho": rho, "corr": corr, "weights": weights, "entropy_scale": entropy_scale},
        entropy_scale=entropy_scale if weights == "learned" else None,
    )  # fmt: skip


def wb_vae(num_modalities: int) -> Recipe:
    """WB-VAE: the 2-Wasserstein barycenter of all experts, one bound."""
    tableau = _against_prior(
        with_prior(subsets.full(num_modalities), prior=False),
        recon=torch.ones(1, num_modalities), weight=1.0,
    )  # fmt: skip
    return Recipe("wb_vae", num_modalities, tableau, wasserstein, _WB_VAE)


def mwb_vae(num_modalities: int) -> Recipe:
    """MWB-VAE: a mixture of 2-Wasserstein barycenters, one for every subset, weighed equally."""
    return Recipe("mwb_vae", num_modalities, _every_subset(num_modalities), wasserstein, _WB_VAE)


def build(name: str, num_modalities: int, **options: Any) -> Recipe:
    """The recipe called ``name`` with its options.

    Raises:
        ValueError: no such recipe, an option that it does not have, or a value that it refuses.
    """
    known = option_names(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"recipe {name} has no option {', '.join(unknown)}; "
            f"it has {', '.join(known) if known else 'none'}"
        )
    return RECIPES[name](num_modalities, **options)


def option_names(name: str) -> list[str]:
    """The options that the recipe called ``name`` has.

    >>> option_names("mvtcae")
    ['alpha']
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe is called {name!r}; there are {', '.join(sorted(RECIPES))}")
    return list(inspect.signature(RECIPES[name]).parameters)[1:]


def cite(*recipes: Recipe | str) -> str:
    """The BibTeX entries of the methods that were used, each once."""
    references = {}
    for recipe in recipes:
        entry = build(recipe, 2).reference if isinstance(recipe, str) else recipe.reference
        references[entry.key] = entry.bibtex()
    return "\n\n".join(references.values())


def _against_prior(cond: Tensor, *, recon: Tensor, weight: float) -> Tableau:
    """A tableau whose only reference is the prior, every row with one ``weight``."""
    prior = torch.zeros(1, cond.shape[1], dtype=torch.bool)
    prior[0, -1] = True
    return Tableau(cond=cond, recon=recon.double() * weight, ref=prior,
                   kl=torch.full((len(cond), 1), weight, dtype=torch.float64))  # fmt: skip


def _every_subset(num_modalities: int, *, prior_expert: bool = False) -> Tableau:
    """All subsets, each reconstructs everything, uniform weights."""
    rows = subsets.powerset(num_modalities)
    return _against_prior(with_prior(rows, prior=prior_expert),
                          recon=torch.ones(rows.shape), weight=1 / len(rows))  # fmt: skip


_VAE = Reference("kingma2014vae", "Auto-Encoding Variational Bayes",
                 "Kingma, Diederik P. and Welling, Max", 2014,
                 "International Conference on Learning Representations", "1312.6114")  # fmt: skip
_MVAE = Reference(
    "wu2018mvae",
    "Multimodal Generative Models for Scalable Weakly-Supervised Learning",
    "Wu, Mike and Goodman, Noah", 2018, "Advances in Neural Information Processing Systems",
    "1802.05335",
)  # fmt: skip
_MOPOE = Reference(
    "sutter2021mopoe", "Generalized Multimodal ELBO",
    "Sutter, Thomas M. and Daunhawer, Imant and Vogt, Julia E.", 2021,
    "International Conference on Learning Representations", "2105.02470",
)  # fmt: skip
_MVTCAE = Reference(
    "hwang2021mvtcae", "Multi-View Representation Learning via Total Correlation Objective",
    "Hwang, HyeongJoo and Kim, Geon-Hyeong and Hong, Seunghoon and Kim, Kee-Eung", 2021,
    "Advances in Neural Information Processing Systems",
)  # fmt: skip
_CODE_VAE = Reference(
    "mancisidor2025codevae",
    "Aggregation of Dependent Expert Distributions in Multimodal Variational Autoencoders",
    "Mancisidor, Rogelio A. and Jenssen, Robert and Yu, Shujian and Kampffmeyer, Michael", 2025,
    "International Conference on Machine Learning", "2505.01134",
)  # fmt: skip
_WB_VAE = Reference(
    "qiu2025barycentric", "Multimodal Variational Autoencoder: a Barycentric View",
    "Qiu, Peijie and Zhu, Wenhui and Kumar, Sayantan and Chen, Xiwen and Yang, Jin and "
    "Sun, Xiaotong and Razi, Abolfazl and Wang, Yalin and Sotiras, Aristeidis", 2025,
    "AAAI Conference on Artificial Intelligence", "2412.20487",
)  # fmt: skip

RECIPES: dict[str, Callable[..., Recipe]] = {
    recipe.__name__: recipe for recipe in (vae, mvae, mopoe, mvtcae, code_vae, wb_vae, mwb_vae)
}
