"""MultiVae around our networks: its models over the very same encoders and decoders.

Both libraries then hold the same parameters, so that losses can be compared number for number and
gradients parameter for parameter. MultiVae's encoders give the log variance where ours give the log
standard deviation: the wrapper doubles it.

MultiVae is asked for inside the functions, so that this file imports without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mmvae_core.data.dataset import Batch
from mmvae_core.model import MultimodalVAE

__all__ = ["dataset", "reason_to_skip", "wrapped"]

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
            return ModelOutput(embedding=loc, log_covariance=raw_to_log_covariance * raw)

    class Decoder(BaseDecoder):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.network(z))

    spec = model.spec
    likelihood = {"scale": spec["likelihood_scale"]}
    settings = getattr(multivae, f"{name}Config")(
        n_modalities=len(model.names),
        latent_dim=model.latent_dim,
        decoders_dist=dict.fromkeys(model.names, spec["likelihood"]),
        decoder_dist_params={modality: dict(likelihood) for modality in model.names},
        uses_likelihood_rescaling=True,
        rescale_factors=dict(zip(model.names, spec["modality_weights"], strict=True)),
        **config,
    )
    encoders = zip(model.names, map(Encoder, model.encoders), strict=True)
    decoders = zip(model.names, map(Decoder, model.decoders), strict=True)
    return getattr(multivae, name)(settings, dict(encoders), dict(decoders))


def dataset(batch: Batch, names: Iterable[str]) -> Any:
    """A batch of ours as MultiVae takes it."""
    from multivae.data.datasets.base import MultimodalBaseDataset

    return MultimodalBaseDataset(data=dict(zip(names, batch.x, strict=True)))
