"""Training: one loop, readable from top to bottom, that loses nothing when it is killed.

Everything random comes from seeded sources, the order of the samples (a function of seed and
epoch), the noise and the subsets of recipes that draw them (generators whose states are
checkpointed), so that a run that was killed and resumed equals, bit for bit on a CPU, the run that
was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mmvae_core.arguments import Count, NotNegative, Positive, Seed, arguments
from mmvae_core.checkpoints import (
    CheckpointError,
    brief,
    check_same_run,
    load_checkpoint,
    load_model,
    origin_of,
    remembered,
    save_checkpoint,
)
from mmvae_core.checks import InvalidExpertError, check_present
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.model import MultimodalVAE
from mmvae_core.model.members import check_data

__all__ = [
    "History",
    "Progress",
    "TrainConfig",
    "fit",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
]


@arguments
@dataclass(frozen=True)
class TrainConfig:
    """How to train; all of it is kept in the checkpoint.

    Args:
        epochs: passes over the data.
        batch_size: samples a step; the last incomplete batch of an epoch is left out.
        learning_rate: of Adam.
        beta: weight of the KL terms, reached linearly over ``warmup_epochs``.
        warmup_epochs: 0 starts at the full ``beta``.
        samples: L, draws from every posterior.
        subset_samples: n, to estimate the sum over subsets without bias from n of them a sample
            (:func:`mmvae_core.recipes.stratified_rows`); None for all. With eight modalities
            there are 255. A step teaches less then; with a batch larger in proportion three
            modalities learned as much in the same time (notebook 07). The gradient of learned
            weights becomes far noisier than that of the networks (figures/subset_sampling.json);
            equal weights do without it.
        seed: of the sample order and the noise.
        mixed_precision: bfloat16 autocast in the networks; aggregation, KL and loss stay float32.
        checkpoint_seconds: the most that a killed run loses, beside the end of each epoch.
    """

    epochs: Count = 10
    batch_size: Count = 256
    learning_rate: Positive = 1e-3
    beta: Positive = 1.0
    warmup_epochs: NotNegative = 0
    samples: Count = 1
    subset_samples: Count | None = None
    seed: Seed = 0
    mixed_precision: bool = False
    checkpoint_seconds: NotNegative = 60.0


@dataclass
class History:
    """What happened: the mean of every loss term, in nats, an epoch a row.

    ``steps`` holds a finer trace (step, loss) for live pictures; ``seconds`` the time spent, but
    for writing checkpoints, and ``processor_seconds`` that of all cores together, which says less
    of what else ran.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    steps: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    processor_seconds: float = 0.0

    def column(self, name: str) -> list[float]:
        """One term over the epochs, for a plot."""
        return [row[name] for row in self.epochs if name in row]

    def plot(self, axes: Any = None) -> Any:
        """Draw loss (train and validation) over the epochs; returns the matplotlib axes."""
        from matplotlib import pyplot as plt

        axes = plt.gca() if axes is None else axes
        for name, line, label in (("loss", "-", "training"), ("valid_loss", "--", "held out")):
            if values := self.column(name):
                axes.plot(range(1, len(values) + 1), values, line, label=label)
        axes.set(xlabel="epoch", ylabel="loss (nats a sample)")
        axes.legend()
        return axes


@dataclass
class Progress:
    """What a callback sees; it must not change the run.

    ``epoch`` epochs and ``step`` steps of the next one are done, of ``total_steps`` in all.
    """

    model: MultimodalVAE
    history: History
    epoch: int
    step: int
    steps_per_epoch: int
    total_steps: int


@arguments
def fit(
    model: MultimodalVAE,
    data: MultimodalDataset,
    config: TrainConfig,
    *,
    valid: MultimodalDataset | None = None,
    folder: str | Path | None = None,
    callback: Callable[[Progress], None] | None = None,
    keep_best: bool = True,
    show_progress: bool = True,
) -> History:
    """Train ``model`` on ``data`` and return the history.

    With a ``folder`` the run is checkpointed in ``last.pt`` (model, optimiser, random state,
    history, recipe, configuration) and ``best.pt`` (the lowest held-out loss, or training loss
    without ``valid``); called again with the same arguments it goes on from where it stopped,
    and with more ``epochs`` it goes on beyond. The same arguments: a checkpoint knows data, mask,
    held-out data, starting weights and settings by their fingerprints.

    Args:
        model, data: on the same device; batches are gathered there.
        callback: called about once a second and after every epoch, for live pictures.
        keep_best: False writes no ``best.pt``.

    Raises:
        ValueError: the folder holds a checkpoint of another run, or a damaged one, or the data do
            not suit the model or are smaller than a batch.
        FloatingPointError: the run diverged (a loss, scale or parameter is not finite); the last
            good checkpoint stays.
    """
    _check_data(model, data, config.batch_size)
    if valid is not None:
        _check_data(model, valid, 1)
    device = model.device
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    noise = torch.Generator(device=device).manual_seed(config.seed)
    rows = torch.Generator().manual_seed(config.seed)  # of recipes that draw their subsets
    history, epoch, step = History(), 0, 0
    best, sums = math.inf, {}
    last = None if folder is None else Path(folder).expanduser() / "last.pt"
    origin = {} if last is None else origin_of(model, data, valid)
    if last is not None and last.exists():
        saved = load_checkpoint(last)
        settings = asdict(config)  # these two may change between the parts of a run
        del settings["epochs"], settings["checkpoint_seconds"]
        check_same_run(saved, model, settings, origin, last)
        if saved["epoch"] > config.epochs:
            raise CheckpointError(
                f"{last} already has {saved['epoch']} epochs, more than the {config.epochs} asked "
                "for: epochs must be at least as many"
            )
        origin = {**origin, **json.loads(saved.get("origin", "{}"))}
        try:
            optimizer.load_state_dict(saved["optimizer"])
            noise.set_state(saved["noise"])
            rows.set_state(saved["rows"])
            history = History(**saved["history"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{last} must hold the state of this training, and does not ({brief(error)}); "
                "choose another folder, or delete this one to start anew"
            ) from error
        model.load_state_dict(saved["model"])
        epoch, step, best, sums = (saved[name] for name in ("epoch", "step", "best", "sums"))
        sums = {name: torch.as_tensor(value, device=device) for name, value in sums.items()}

    steps_per_epoch = len(data) // config.batch_size
    total_steps = config.epochs * steps_per_epoch
    resumed_at = epoch * steps_per_epoch + step
    started = time.monotonic() - history.seconds
    worked = time.process_time() - history.processor_seconds
    last_saved = last_called = time.monotonic()

    def write(path: Path, **state: Any) -> None:
        nonlocal started, worked
        since, before = time.monotonic(), time.process_time()
        save_checkpoint(path, model, **state)
        started += time.monotonic() - since  # not time of training
        worked += time.process_time() - before

    def checkpoint() -> None:
        if last is not None:
            _check_finite(model, epoch, step)
            write(
                last, epoch=epoch, step=step, best=best, sums=sums, history=asdict(history),
                optimizer=optimizer.state_dict(), noise=noise.get_state(), rows=rows.get_state(),
                config=json.dumps(asdict(config)), origin=json.dumps(origin), device=device.type,
            )  # fmt: skip

    def show() -> None:
        if callback is not None:
            callback(Progress(model, history, epoch, step, steps_per_epoch, total_steps))

    bar = tqdm(
        total=total_steps, initial=resumed_at, unit="step",
        disable=not show_progress, desc=f"epoch {epoch + 1}/{config.epochs}",
    )  # fmt: skip
    with _half_precision(model, config.mixed_precision), remembered(model, origin), bar:
        while epoch < config.epochs:
            model.train()
            order = _epoch_order(len(data), config.seed, epoch).to(device)
            while step < steps_per_epoch:
                batch = data.batch(order[step * config.batch_size : (step + 1) * config.batch_size])
                beta = _beta(config, epoch * steps_per_epoch + step, steps_per_epoch)
                tableau = model.recipe.plan(
                    len(batch),
                    None if batch.complete else batch.present.cpu(),
                    generator=rows,
                    epoch=epoch + step / steps_per_epoch,
                    subset_samples=config.subset_samples,
                )
                try:
                    loss, terms = model.loss(
                        batch, beta=beta, samples=config.samples, generator=noise, tableau=tableau
                    )
                except InvalidExpertError as error:
                    raise _diverged(epoch, step, str(error)) from error
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                sums = {name: sums.get(name, 0.0) + value for name, value in terms.items()}
                step += 1
                bar.update()
                now = time.monotonic()
                if now - last_called > 1 or step == steps_per_epoch:
                    # The only place that waits for an accelerator, about once a second.
                    value = terms["loss"].item()
                    if not math.isfinite(value):
                        raise _diverged(epoch, step, f"the loss became {value}")
                    history.seconds = now - started
                    history.processor_seconds = time.process_time() - worked
                    history.steps.append((epoch * steps_per_epoch + step, value))
                    bar.set_postfix(loss=f"{value:.1f}", kl=f"{terms['kl'].item():.1f}")
                    if step < steps_per_epoch:
                        show()
                        model.train()  # a callback may have looked at samples
                    last_called = time.monotonic()
                if now - last_saved > config.checkpoint_seconds and step < steps_per_epoch:
                    checkpoint()
                    last_saved = time.monotonic()
            row = {name: float(value) / step for name, value in sums.items()}
            if valid is not None:
                try:
                    row["valid_loss"] = held_out_loss(model, valid, config)
                except InvalidExpertError as error:
                    raise _diverged(epoch, step, str(error)) from error
            history.epochs.append(row)
            history.seconds = time.monotonic() - started
            history.processor_seconds = time.process_time() - worked
            epoch, step, sums = epoch + 1, 0, {}
            score = row.get("valid_loss", row["loss"])
            improved = score < best
            best = min(best, score)
            # best.pt first: killed in between, the resumed run comes here again.
            if improved and keep_best and last is not None:
                _check_finite(model, epoch - 1, steps_per_epoch)
                write(last.with_name("best.pt"))
            checkpoint()
            last_saved = time.monotonic()
            bar.set_description(f"epoch {min(epoch + 1, config.epochs)}/{config.epochs}")
            show()
        model.eval()
        if resumed_at == total_steps:  # nothing was left to do
            show()
    return history


@torch.no_grad()
def held_out_loss(model: MultimodalVAE, data: MultimodalDataset, config: TrainConfig) -> float:
    """The loss on ``data`` in nats a sample, with noise that is the same at every call.

    A recipe that draws subsets or changes while it trains is held to its fixed tableau here, so
    that the numbers of two epochs compare. With mvae's random subsets they do not compare with
    its training loss, which has more terms.
    """
    model.eval()
    generator = torch.Generator(device=model.device).manual_seed(config.seed)
    total = 0.0
    for batch in data.batches(config.batch_size):
        loss, _ = model.loss(batch, beta=config.beta, samples=config.samples, generator=generator)
        total += loss.item() * len(batch.present)
    return total / len(data)


@contextmanager
def _half_precision(model: MultimodalVAE, wanted: bool) -> Iterator[None]:
    """Networks in bfloat16 inside, as they were outside."""
    before = model.network_dtype
    model.network_dtype = torch.bfloat16 if wanted else before
    try:
        yield
    finally:
        model.network_dtype = before


def _check_finite(model: MultimodalVAE, epoch: int, step: int) -> None:
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise _diverged(epoch, step, "a parameter is not finite")


def _diverged(epoch: int, step: int, what: str) -> FloatingPointError:
    return FloatingPointError(
        f"the run diverged in epoch {epoch + 1}, step {step}: {what}. The last good checkpoint "
        "stays; lower learning_rate or beta, or use scale='bounded' in the model"
    )


def _epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    # Drawn on the CPU, so that it does not depend on the device.
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def _beta(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    if config.warmup_epochs == 0:
        return config.beta
    return config.beta * min(1.0, (step + 1) / (config.warmup_epochs * steps_per_epoch))


def _check_data(model: MultimodalVAE, data: MultimodalDataset, batch_size: int) -> None:
    check_data(model.spec, data)
    if len(data) < batch_size:
        raise ValueError(f"batch_size is {batch_size} but there are {len(data)} samples; lower it")
    check_present(data.present, "the data")
    if data.x[0].device != model.device:
        raise ValueError(
            f"model and data must be on one device; got {model.device} and {data.x[0].device}. "
            "Use data.to(device)"
        )
