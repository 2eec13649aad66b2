"""FID: the Fréchet distance on Inception-v3 features, from a file that the user supplies.

The network is no part of this project. Its file is either

* TorchScript, which takes ``uint8`` pictures ``[B, 3, H, W]`` of any size and, called with
  ``return_features=True``, gives ``[B, 2048]`` features: the known ``inception-2015-12-05.pt`` of
  the StyleGAN metrics; or
* the weights of the package torch-fidelity (``pip install torch-fidelity``),
  ``weights-inception-2015-12-05-6726825d.pth``.

Either is put into torchmetrics' ``FrechetInceptionDistance``, whose extractor gives the features;
their moments are gathered by :mod:`mmvae_core.metrics.frechet`, which leaves blocks out for the
error and keeps float64. Both come to the same value.

Source: Heusel et al., 2017 (arXiv 1706.08500), for the FID; Szegedy et al., "Rethinking the
Inception Architecture for Computer Vision", 2016 (arXiv 1512.00567), for the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mmvae_core.arguments import arguments
from mmvae_core.files import check_zip

if TYPE_CHECKING:
    from torchmetrics.image.fid import FrechetInceptionDistance

__all__ = ["Inception", "inception"]

FEATURES = 2048  # of the last pooling, which FID is defined on
WHITE = 255

ADVICE = (
    "FID needs the Inception-v3 network as a file of yours: inception-2015-12-05.pt (TorchScript, "
    "from the StyleGAN metrics), or, with the package torch-fidelity, its "
    "weights-inception-2015-12-05-6726825d.pth. Load only a file that you trust. Without one the "
    "same distance on the classifiers' features stands in, under its own name: classifier_frechet"
)


class Inception(nn.Module):
    """From pictures in [0, 1] to the features of torchmetrics' FID.

    ``metric`` is torchmetrics' own, for those who want to feed it themselves; it takes
    :func:`as_bytes` of pictures.
    """

    def __init__(self, metric: FrechetInceptionDistance) -> None:
        super().__init__()
        self.metric = metric
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        """Features ``[B, F]``; grey pictures are shown in three equal colours."""
        return self.metric.inception(as_bytes(x)).float()


def as_bytes(x: Float[Tensor, "B C H W"]) -> UInt8[Tensor, "B 3 H W"]:
    """Pictures in [0, 1] as the network wants them.

    A real pixel comes back as the byte that it was; a generated one is rounded to the nearest, so
    that it does not get darker by half a step, as it does where it is cut off (torchmetrics' own
    ``normalize=True``).
    """
    return (x.clamp(0, 1) * WHITE).round().to(torch.uint8).expand(-1, 3, -1, -1)


@arguments
def inception(path: str | Path, *, device: torch.device | str = "cpu") -> Inception:
    """The extractor in the file at ``path``, for ``measure(inception=...)``.

    Raises:
        ValueError: no file is there, or it is neither TorchScript nor usable weights; the message
            says which file is meant, and what stands in without it.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # heavy, and needed here only

    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"no file at {path}. {ADVICE}")
    try:
        check_zip(path)
        script = torch.jit.load(str(path), map_location="cpu")
    except Exception as not_a_script:  # whatever reading something else may end in
        try:
            metric = FrechetInceptionDistance(
                feature=FEATURES, feature_extractor_weights_path=str(path)
            )
        except ModuleNotFoundError as missing:
            raise ValueError(
                f"{path.name} is not TorchScript, and to read it as weights the package "
                f"torch-fidelity is needed. {ADVICE}"
            ) from missing
        except Exception as error:  # whatever reading a wrong file of weights may end in
            raise ValueError(
                f"{path.name} is neither TorchScript ({str(not_a_script).splitlines()[0]}) "
                f"nor torch-fidelity's weights ({error}). {ADVICE}"
            ) from error
        return Inception(metric).to(device)
    try:
        metric = FrechetInceptionDistance(feature=_Scripted(script))  # shows it a picture
    except Exception as error:  # of whatever the script does
        raise ValueError(
            f"{path.name} is TorchScript, but must give features of pictures, [B, F], and does not "
            f"({str(error).strip().splitlines()[-1]}). {ADVICE}"
        ) from error
    return Inception(metric).to(device)


class _Scripted(nn.Module):
    """A TorchScript Inception as torchmetrics wants it: bytes in, features out."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script.eval()

    def forward(self, x: UInt8[Tensor, "B 3 H W"]) -> Tensor:
        return self.script(x, return_features=True).flatten(1)
