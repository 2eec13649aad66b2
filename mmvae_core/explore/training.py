"""A training run as it happens: loss and cross-modal generation, redrawn in place."""

from __future__ import annotations

import time

from IPython.display import DisplayHandle, Image

from mmvae_core.data.dataset import Batch
from mmvae_core.figures.style import small_png
from mmvae_core.figures.training import live_picture
from mmvae_core.training import Progress

__all__ = ["LiveTraining"]


class LiveTraining:
    """A callback for :func:`mmvae_core.training.fit` that shows the run while it trains.

    The picture is a PNG that is replaced in place: it needs no widget, so the last one stays in
    the saved notebook.

    Args:
        batch: the held-out samples that every picture generates from.
        every: seconds between two pictures; drawing takes a fraction of a second.
    """

    def __init__(self, batch: Batch, every: float = 4.0) -> None:
        self.batch = batch
        self.every = every
        self._handle = DisplayHandle()
        self._shown = False
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        """Redraw where enough time has passed, and at the end in any case."""
        done = progress.epoch * progress.steps_per_epoch + progress.step >= progress.total_steps
        if not done and time.monotonic() - self._last < self.every:
            return
        history = progress.history
        held_out = [
            ((epoch + 1) * progress.steps_per_epoch, row["valid_loss"])
            for epoch, row in enumerate(history.epochs)
            if "valid_loss" in row
        ]
        still = live_picture(
            progress.model, self.batch, history.steps, progress.total_steps, held_out
        )
        alt = "The loss so far, and every view generated from one view"
        image = Image(small_png(still.figure, dpi=90), alt=alt)
        if self._shown:
            self._handle.update(image)
        else:
            self._handle.display(image)
            self._shown = True
        self._last = time.monotonic()
