"""MultiVae around our networks: its models over the very same encoders and decoders.

Both libraries then hold the same parameters, so that losses can be compared number for number and
gradients parameter for parameter. MultiVae's encoders give the log variance where ours give the log
standard deviation: the wrapper doubles it.

MultiVae is asked for inside the functions, so that this file imports without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from mmvae_core.data.dataset import Batch
from mmvae_core.model import MultimodalVAE
from mmvae_core.recipes import Recipe

__all__ = [
    "LAMBDA",
    "Serve",
    "dataset",
    "gradients",
    "model_and_batch",
    "reason_to_skip",
    "wrapped",
]

Serve = Callable[[Iterable[Tensor]], None]  # of the fixture that hands noise to MultiVae
SHAPE = (3, 8, 8)
LAMBDA = (1.0, 2.5, 0.5)  # weights of the likelihoods, unequal so that a mix-up shows
INSTALL = "`make peers` sets it up, and tests/peers/requirements.txt says what it takes"


def reason_to_skip() -> str | None:
    """Why MultiVae cannot be compared with here; None where it can."""
    try:
        import multivae.models  # noqa: F401
    except ImportError as error:
        return f"MultiVae is not installed ({error}); {INSTALL}"
    except RuntimeError as error:  # torchvision, of another build than torch
        return f"MultiVae does not import ({error}); {INSTALL}"
    return None


def wrapped(
    name: str, model: MultimodalVAE, *, raw_to_log_covariance: float = 2.0, **config: Any
) -> torch.nn.Module:
    """MultiVae's model called ``name``, over the networks of ``model``.

    Args:
        name: a class of ``multivae.models``, such as ``"MVAE"``; its settings are ``NAMEConfig``.
        model: ours; likelihood, its scale and the modalities' weights are taken over from it.
        raw_to_log_covariance: what an encoder's second output is multiplied with. Ours is the log
            of a standard deviation, MultiVae's the log of a variance.
        config: further settings of MultiVae's.
    """
    import multivae.models as multivae
    from multivae.models.base import BaseDecoder, BaseEncoder, ModelOutput

    class Encoder(BaseEncoder):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network, self.latent_dim = network, model.latent_dim

        def forward(self, x: Tensor) -> ModelOutput:
            loc, raw = self.network(x)
            outputs = [loc, raw_to_log_covariance * raw]
            (loc, private_loc), (lv, private_lv) = (
                output.tensor_split([model.latent_dim], dim=-1) for output in outputs
            )
            found = ModelOutput(embedding=loc, log_covariance=lv)
            if model.latents.private_dim:
                found.update(style_embedding=private_loc, style_log_covariance=private_lv)
            return found

    class Decoder(BaseDecoder):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.network(z))

    def each(option: str) -> dict[str, Any]:
        return dict(zip(model.names, model.spec[option], strict=True))

    scales = each("likelihood_scale")
    if model.latents.private_dim:
        config["modalities_specific_dim"] = model.latents.private_dim
    settings = getattr(multivae, f"{name}Config")(
        n_modalities=len(model.names),
        latent_dim=model.latent_dim,
        decoders_dist=each("likelihood"),
        decoder_dist_params={name: {"scale": scale} for name, scale in scales.items()},
        uses_likelihood_rescaling=True,
        rescale_factors=each("modality_weights"),
        **config,
    )
    encoders = zip(model.names, map(Encoder, model.encoders), strict=True)
    decoders = zip(model.names, map(Decoder, model.decoders), strict=True)
    return getattr(multivae, name)(settings, dict(encoders), dict(decoders))


def dataset(batch: Batch, names: Iterable[str]) -> Any:
    """A batch of ours as MultiVae takes it, with masks where a modality is absent."""
    from multivae.data.datasets.base import IncompleteDataset, MultimodalBaseDataset

    data = dict(zip(names, batch.x, strict=True))
    if batch.present.all():
        return MultimodalBaseDataset(data=data)
    return IncompleteDataset(data=data, masks=dict(zip(data, batch.present.T, strict=True)))


def model_and_batch(
    recipe: Recipe, size: int, latent_dim: int = 4, **options: Any
) -> tuple[MultimodalVAE, Batch]:
    """Small networks that disagree, with three modalities, and a batch without gaps."""
    shapes = [SHAPE] * len(LAMBDA)
    model = MultimodalVAE(
        recipe, shapes, latent_dim, networks="dense", modality_weights=LAMBDA, **options
    )
    with torch.no_grad():  # fresh networks hardly look at their input
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    x = tuple(torch.rand(size, *shape) for shape in shapes)
    return model, Batch(x=x, present=torch.ones(size, len(shapes), dtype=torch.bool))


def gradients(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of the loss in every parameter of the model that it reaches."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
