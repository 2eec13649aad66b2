"""Recipes with their options, and small models of them, for tests that sweep over all methods."""

from __future__ import annotations

from typing import Any

import torch

from mmvae_core import recipes
from mmvae_core.data.dataset import Batch, MultimodalDataset
from mmvae_core.model import MultimodalVAE

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("vae", {}),
    ("mvae", {"random_subsets": 2}),
    ("mopoe", {}),
    ("mopoe", {"aggregation": "poe_prior_once"}),
    ("mopoe", {"prior_expert": True}),
    ("mvtcae", {}),
    ("code_vae", {}),
    ("code_vae", {"rho": "learned"}),
    ("code_vae", {"rho": "shared_prior"}),
    ("code_vae", {"corr": [[1.0, 0.2, 0.1], [0.2, 1.0, 0.3], [0.1, 0.3, 1.0]], "weights": "equal"}),
    ("code_vae", {"corr": "learned", "weights": "closed_form"}),
    ("code_vae", {"rho": 0.2, "weights": [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0]}),
    ("wb_vae", {}),
    ("mwb_vae", {}),
    ("mmvae", {}),
    ("mmvae", {"bound": "dreg", "latent": "normal"}),
    ("mmvae", {"bound": "iwae", "tight": True}),
    ("mmvae", {"bound": "elbo"}),
    ("mmjsd", {}),
    ("mmvae_plus", {"private_dim": 2}),
    ("mmvae_plus", {"private_dim": 2, "bound": "dreg"}),
    ("cmvae", {"private_dim": 2, "clusters": 5}),
    ("mmvm", {}),
    ("mmvm", {"kl": "sampled"}),
    ("mmvm", {"mixture": "gate", "anneal_epochs": 1.0}),
    ("mmvm", {"mixture": "gate", "kl": "sampled", "alpha": 0.1}),
    ("permutation_invariant", {"hidden": 8}),
    ("permutation_invariant", {"aggregation": "self_attention", "hidden": 8}),
    ("permutation_invariant", {"bound": "mixture", "hidden": 8}),
]
IDS = [
    "-".join([name, *(f"{key}={value}" for key, value in options.items())])[:60] + f"-{i}"
    for i, (name, options) in enumerate(VARIANTS)
]
# For pretended.py, beside all variants: a method of each kind, and the weights of sampled subsets.
MEASURED = ("code_vae-6", "mmvae_plus-private_dim=2-19")
SAMPLED = ("equal", "learned")


def tiny(
    name: str, options: dict[str, Any], num: int = 3, seed: int = 0, smooth: bool = False
) -> MultimodalVAE:
    """A model in float64 on pictures of 4x4 pixels, its learned weights away from their start.

    ``smooth``: no kinks, neither in the networks nor in the likelihood, for finite differences.
    """
    torch.manual_seed(seed)
    recipe = recipes.build(name, num, **options)
    model = MultimodalVAE(
        recipe, [(1, 4, 4)] * num, 2, networks="vector" if smooth else "dense", scale="bounded",
        likelihood="normal" if smooth else "laplace",
        modality_weights=[1.0, 2.5, 0.5, 1.5][:num],
    ).double()  # fmt: skip
    for key, parameter in model.named_parameters():
        if not key.startswith(("encoders", "decoders")):
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def pictures(count: int, num: int = 3, seed: int = 1) -> Batch:
    """Complete samples of ``num`` views, float64."""
    generator = seeded(seed)
    x = tuple(
        torch.rand(count, 1, 4, 4, dtype=torch.float64, generator=generator) for _ in range(num)
    )
    return Batch(x=x, present=torch.ones(count, num, dtype=torch.bool))


def noisy_pictures(
    count: int = 24, num: int = 3, shape: tuple[int, ...] = (3, 8, 8), **parts: Any
) -> MultimodalDataset:
    """A data set of pictures of noise; ``parts``: its labels, or what is present."""
    generator = seeded(0)
    views = (
        torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
        for _ in range(num)
    )
    return MultimodalDataset(x=tuple(views), **parts)


def dense(name: str, options: dict[str, Any], num: int = 3) -> MultimodalVAE:
    """A model of that data."""
    torch.manual_seed(0)
    recipe = recipes.build(name, num, **options)
    return MultimodalVAE(recipe, [(3, 8, 8)] * num, 4, networks="dense", scale="bounded")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
