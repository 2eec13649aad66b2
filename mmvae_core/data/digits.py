"""The embedded data set: handwritten digits on photographs, with nothing to download.

It is PolyMNIST in small (:mod:`mmvae_core.data.polymnist`), made of what installed packages
bring along: scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, and eight photographs of
scikit-image and scikit-learn. A sample shows the same digit in M modalities, each written by
another hand and each on the crop of another photograph, colours inverted where the digit is.

Two things are done so that small pictures stay legible.

*Contrast.* Inversion leaves grey as it is, so on a photograph of middling tones a small digit is
swallowed. Each channel of each photograph is therefore stretched into an interval that lies on
one side of grey (:data:`SCENES`): between background and digit every channel then differs by at
least 0.2. The eight combinations of dark and bright channels, the corners of the colour cube,
are the eight modalities, so each has a colour of its own and the digit has its complement.

*Scale.* The photographs are shrunk before they are cropped, so that a crop shows some of their
texture and not a patch of one colour.

The 1,797 originals are split first, by class; training and test samples are then drawn from their
own originals, so that no handwriting of the test set is seen in training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from mmvae_core.arguments import Count, Seed, arguments
from mmvae_core.data.backgrounds import WHITE, check_modalities, generator, invert, random_crops
from mmvae_core.data.dataset import MultimodalDataset

__all__ = ["SCENES", "Scene", "digits"]

NUM_CLASSES = 10
TEST_SHARE = 0.2  # of the originals: 1,438 for training, 359 for testing
INK = 16  # the darkest value in scikit-learn's digits
EDGE = (0.30, 0.75)  # below this ink is background, above it digit, between them a soft edge
CROPS_ACROSS = 5  # a photograph's shorter side, in crops
STRETCH = (2, 98)  # percentiles of a channel that are taken to the ends of its interval


@dataclass(frozen=True)
class Scene:
    """A photograph and the interval of [0, 1] that each of its channels is stretched into.

    Args:
        source: ``"skimage"`` or ``"sklearn"``, the package that brings the photograph.
        picture: its name there.
        red, green, blue: the intervals, each on one side of 0.5.
    """

    source: str
    picture: str
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


SCENES = (
    Scene("skimage", "hubble_deep_field", (0.03, 0.40), (0.03, 0.38), (0.12, 0.40)),  # night
    Scene("skimage", "coffee", (0.66, 0.96), (0.14, 0.40), (0.08, 0.34)),  # red
    Scene("sklearn", "flower.jpg", (0.10, 0.40), (0.60, 0.88), (0.14, 0.38)),  # green
    Scene("skimage", "rocket", (0.06, 0.38), (0.14, 0.40), (0.60, 0.92)),  # blue
    Scene("skimage", "retina", (0.78, 1.00), (0.62, 0.92), (0.10, 0.38)),  # yellow
    Scene("sklearn", "china.jpg", (0.12, 0.40), (0.62, 0.90), (0.66, 0.94)),  # cyan
    Scene("skimage", "astronaut", (0.64, 0.96), (0.10, 0.40), (0.60, 0.88)),  # magenta
    Scene("skimage", "chelsea", (0.68, 1.00), (0.63, 0.98), (0.60, 0.94)),  # day
)


@arguments
def digits(
    modalities: Count = 3,
    image_size: Count = 16,
    train_size: Count = 12_000,
    test_size: Count = 2_000,
    seed: Seed = 0,
    max_shift: int = 1,
) -> tuple[MultimodalDataset, MultimodalDataset]:
    """The embedded digits: a training and a test set of M-tuples of one digit.

    Args:
        modalities: M, from 2 to 8. The first modalities are the same whatever their number.
        image_size: H = W in pixels, at least 10.
        train_size, test_size: how many samples to draw; the classes are as equal as can be.
        seed: determines everything.
        max_shift: in training the digit moves by up to so many pixels in each direction.

    Returns:
        Two data sets of ``[N, 3, image_size, image_size]`` pictures with their digits as labels.

    Raises:
        ValueError: an argument is out of range.

    Sources: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998 (the digits); Sutter, Daunhawer and Vogt, "Generalized Multimodal ELBO", 2021
    (arXiv 2105.02470; the construction).

    >>> train, test = digits(modalities=2, train_size=20, test_size=10)
    >>> len(train), train.shapes
    (20, ((3, 16, 16), (3, 16, 16)))
    """
    check_modalities(modalities)
    _check_sizes(image_size, max_shift)
    ink, classes = _originals()
    photos = [_photograph(scene, image_size) for scene in SCENES[:modalities]]
    in_test = _held_out(classes, generator(seed, 0))
    parts = []
    for part, (name, keep, count, shift) in enumerate(
        [("train", ~in_test, train_size, max_shift), ("test", in_test, test_size, 0)],
        start=1,
    ):
        label, writer = _tuples(classes, keep, count, generator(seed, part))
        views = []
        for m, photo in enumerate(photos):
            rng = generator(seed, part, m)
            mask = _shifted(_rendered(ink, image_size)[writer[:, m]], shift, rng)
            views.append(invert(random_crops(photo, image_size, count, rng), mask))
        parts.append(MultimodalDataset(x=tuple(views), label=label, name=f"digits {name}"))
    return parts[0], parts[1]


def _originals() -> tuple[Float[Tensor, "n 8 8"], Int[Tensor, " n"]]:
    """scikit-learn's digits as ink in [0, 1], with their classes."""
    from sklearn.datasets import load_digits  # a slow import, needed here only

    bunch = load_digits()
    ink = torch.from_numpy(bunch.images).float() / INK
    return ink, torch.from_numpy(bunch.target).long()


def _photograph(scene: Scene, image_size: int) -> UInt8[Tensor, "3 Y X"]:
    """A scene's photograph, shrunk, each channel stretched into its interval."""
    if scene.source == "skimage":
        from skimage import data

        raw = getattr(data, scene.picture)()
    else:
        from sklearn.datasets import load_sample_image

        raw = load_sample_image(scene.picture)
    photo = torch.tensor(raw).permute(2, 0, 1).float() / WHITE
    scale = CROPS_ACROSS * image_size / min(photo.shape[1:])
    photo = functional.interpolate(
        photo[None],
        scale_factor=scale,
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0]
    channels = []
    for channel, (low, high) in zip(photo, (scene.red, scene.green, scene.blue), strict=True):
        dark, bright = np.percentile(channel.numpy(), STRETCH)
        unit = ((channel - dark) / (bright - dark)).clamp(0, 1)
        channels.append(low + (high - low) * unit)
    return (torch.stack(channels) * WHITE).round().to(torch.uint8)


def _rendered(ink: Float[Tensor, "n 8 8"], image_size: int) -> Float[Tensor, "n H W"]:
    """The digits at the size of the pictures, one pixel of margin, with a narrow soft edge."""
    large = functional.interpolate(
        ink[:, None], size=image_size - 2, mode="bicubic", align_corners=False
    )[:, 0]
    low, high = EDGE
    return functional.pad(((large - low) / (high - low)).clamp(0, 1), (1, 1, 1, 1))


def _held_out(classes: Int[Tensor, " n"], rng: np.random.Generator) -> Bool[Tensor, " n"]:
    """Which originals are kept for testing: the same share of every class."""
    chosen = torch.zeros(len(classes), dtype=torch.bool)
    for digit in range(NUM_CLASSES):
        members = (classes == digit).nonzero().flatten()
        order = torch.from_numpy(rng.permutation(len(members)))
        chosen[members[order[: round(TEST_SHARE * len(members))]]] = True
    return chosen


def _tuples(
    classes: Int[Tensor, " n"],
    keep: Bool[Tensor, " n"],
    count: int,
    rng: np.random.Generator,
) -> tuple[Int[Tensor, " N"], Int[Tensor, "N 8"]]:
    """Draw each sample's digit, and eight different originals of it, in random order.

    Eight are drawn whatever the number of modalities, so that the first ones do not depend on it.
    """
    label = torch.from_numpy(rng.permutation(count) % NUM_CLASSES)
    writer = torch.empty(count, len(SCENES), dtype=torch.int64)
    for digit in range(NUM_CLASSES):
        members = (keep & (classes == digit)).nonzero().flatten()
        rows = (label == digit).nonzero().flatten()
        lots = torch.from_numpy(rng.random((len(rows), len(members))))
        writer[rows] = members[lots.topk(len(SCENES), dim=1).indices]  # without replacement
    return label, writer


def _shifted(
    mask: Float[Tensor, "N H W"], max_shift: int, rng: np.random.Generator
) -> Float[Tensor, "N H W"]:
    """Each digit moved by a whole number of pixels, up to ``max_shift`` either way."""
    count, height, width = mask.shape
    moves = torch.from_numpy(rng.integers(-max_shift, max_shift + 1, (2, count)))
    padded = functional.pad(mask, (max_shift,) * 4)
    rows = torch.arange(height) + max_shift + moves[0][:, None]  # (N, H)
    columns = torch.arange(width) + max_shift + moves[1][:, None]  # (N, W)
    sample = torch.arange(count)[:, None, None]
    return padded[sample, rows[:, :, None], columns[:, None, :]]


def _check_sizes(image_size: int, max_shift: int) -> None:
    if image_size < 10:
        raise ValueError(
            f"image_size must be at least 10, for an 8 x 8 digit with a margin; got {image_size}"
        )
    if not 0 <= max_shift < image_size // 4:
        raise ValueError(
            f"max_shift must lie in 0..{image_size // 4 - 1} for pictures of {image_size} pixels; "
            f"got {max_shift}"
        )
