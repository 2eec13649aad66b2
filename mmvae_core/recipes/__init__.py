"""Recipes: one function per paper, each a row of one table.

A recipe says which subsets have posteriors, how experts are aggregated, who reconstructs what,
against which reference and with which weights; networks and data are chosen elsewhere.
Hierarchical models and diffusion decoders are outside this project.

>>> build("code_vae", 3, rho=0.4).tableau.num_posteriors
7
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import resources
from typing import Any

from mmvae_core.arguments import Count, arguments
from mmvae_core.files import read_text
from mmvae_core.recipes.consensus import (
    DEFAULT_RHO,
    ENTROPY_SCALE,
    MVTCAE_ALPHA,
    code_vae,
    mopoe,
    mvae,
    mvtcae,
    mwb_vae,
    vae,
    wb_vae,
)
from mmvae_core.recipes.invariant import permutation_invariant
from mmvae_core.recipes.mixtures import cmvae, mmjsd, mmvae, mmvae_plus, mmvm
from mmvae_core.recipes.recipe import Consensus, LearnedConsensus, MixtureOfExperts, Recipe
from mmvae_core.recipes.tableaux import Tableaux, stratified_rows

__all__ = [
    "DEFAULT_RHO",
    "ENTROPY_SCALE",
    "MVTCAE_ALPHA",
    "RECIPES",
    "Consensus",
    "LearnedConsensus",
    "MixtureOfExperts",
    "Recipe",
    "Tableaux",
    "build",
    "cite",
    "cmvae",
    "code_vae",
    "mmjsd",
    "mmvae",
    "mmvae_plus",
    "mmvm",
    "mopoe",
    "mvae",
    "mvtcae",
    "mwb_vae",
    "option_names",
    "permutation_invariant",
    "stratified_rows",
    "vae",
    "wb_vae",
]

RECIPES: dict[str, Callable[..., Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        vae, mvae, mmvae, mmjsd, mopoe, mvtcae, mmvae_plus, cmvae, code_vae, wb_vae, mwb_vae,
        mmvm, permutation_invariant,
    )
}  # fmt: skip


@arguments
def build(name: str, num_modalities: Count, **options: Any) -> Recipe:
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
    path = resources.files(__package__).joinpath("references.bib")
    with resources.as_file(path) as file:
        text = read_text(file)
    entries = {entry.partition("{")[2].partition(",")[0]: entry for entry in text.split("\n\n")}
    papers = [build(r, 2).paper if isinstance(r, str) else r.paper for r in recipes]
    if lacking := sorted(set(papers) - set(entries)):
        raise ValueError(f"{path} must have {', '.join(lacking)}, and has not. Install this anew")
    return "\n\n".join(entries[paper].strip() for paper in dict.fromkeys(papers))
