"""A picture as plain data: panels, layers and labels, for print and for the page.

What is to be seen is written down once, as a :class:`Picture`. :mod:`mmvae_core.pictures.paper`
paints it with Matplotlib, :mod:`mmvae_core.pictures.page` as SVG in a notebook; both measure in the
same pixels, and take colours, dashes, markers, ticks and places of labels from its parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmvae_core.pictures.paper import png
from mmvae_core.pictures.parts import (
    SIDES,
    WIDTH,
    Label,
    Layer,
    Panel,
    Ticks,
    curve,
    point,
)

__all__ = ["SIDES", "WIDTH", "Label", "Layer", "Panel", "Picture", "Ticks", "curve", "point"]


@dataclass(frozen=True, eq=False)
class Picture:
    """Everything that is drawn: panels, layers by name in drawing order, labels by panel.

    As the last value of a notebook's cell it shows itself, with ``alt`` as its text.

    Args:
        height: in pixels; the width is :data:`WIDTH`.
        panels, layers, labels: by name.
        alt: what there is to see, in words, for those who do not see it.
        name: of the picture, in a few words.
    """

    height: int
    panels: Mapping[str, Panel]
    layers: Mapping[str, Layer]
    labels: Mapping[str, Sequence[Label]] = field(default_factory=dict)
    alt: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        wanted = {layer.panel for layer in self.layers.values()} | set(self.labels)
        if unknown := wanted - set(self.panels):
            raise ValueError(f"no panel {sorted(unknown)}; there are {sorted(self.panels)}")
        for name, layer in self.layers.items():
            log = "y" in self.panels[layer.panel].log
            if log and layer.fill and not layer.closed and layer.base <= 0:
                raise ValueError(
                    f"layer {name!r}: on a logarithmic axis the base of an area must be positive; "
                    f"got {layer.base}"
                )

    def __repr__(self) -> str:
        return self.alt

    def _repr_png_(self) -> bytes:
        return png(self)
