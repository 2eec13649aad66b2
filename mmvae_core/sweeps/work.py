"""What a worker does with one run: train it, or go on with it, measure it, write it down."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from mmvae_core import data as datasets
from mmvae_core import metrics, recipes
from mmvae_core.data import MultimodalDataset
from mmvae_core.metrics.report import Measurement, Settings
from mmvae_core.model import MultimodalVAE
from mmvae_core.sweeps.configuration import LATENT_DIM, Run
from mmvae_core.sweeps.table import read_run, write_run
from mmvae_core.training import TrainConfig, fit, load_model, save_checkpoint

__all__ = ["Outcome", "execute", "folder_of", "is_done", "load_data", "load_run", "train_run"]

_ONE_AT_A_TIME = Lock()  # torch's seed and number of threads belong to the whole process
Outcome = str  # "finished", "failed", "known" (was finished before), "busy" (another has it)


def folder_of(folder: str | Path, run: Run) -> Path:
    """The folder of a run: checkpoint while it trains, model when it is trained."""
    return Path(folder) / "runs" / f"{run.recipe}-{run.key}"


def is_done(folder: str | Path, run: Run, settings: Settings, retry_failed: bool = False) -> bool:
    """Whether the table has the run, measured with these settings (or its failure)."""
    rows = read_run(folder, run.key)
    if not rows:
        return False
    if rows[0]["status"] == "failed":
        return not retry_failed
    return rows[0]["settings"] == as_text(settings)


def as_text(settings: Settings) -> str:
    """The settings as they stand in the table."""
    return json.dumps(asdict(settings), sort_keys=True)


def execute(
    run: Run,
    folder: str | Path,
    *,
    data_root: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    settings: Settings | None = None,
    retry_failed: bool = False,
    keep_models: bool = True,
) -> Outcome:
    """Carry out one run, whatever of it is left to do, and write its rows.

    A run belongs to the process that holds the lock in its folder; another that comes meanwhile
    is told ``"busy"``. A lock ends with its process, however that ends. A process carries out one
    run at a time, whatever the number of its threads. What was trained stays
    trained: a run that was killed goes on from its checkpoint, one that was trained is only
    measured. An error is written to the table and not raised.
    """
    settings = Settings() if settings is None else settings
    if is_done(folder, run, settings, retry_failed):
        return "known"
    place = folder_of(folder, run)
    place.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place / "lock", timeout=0):
            if is_done(folder, run, settings, retry_failed):  # between the question and the lock
                return "known"
            with _ONE_AT_A_TIME, _threads(threads):
                return _carried_out(run, Path(folder), data_root, device, settings, keep_models)
    except Timeout:
        return "busy"


def _carried_out(
    run: Run, folder: Path, data_root: str | None, device: str, settings: Settings, keep: bool
) -> Outcome:
    rows: list[dict[str, Any]]
    try:
        place = folder_of(folder, run)
        (place / "run.json").write_text(run.to_json() + "\n", encoding="utf-8")
        where = _device(device)
        model, report = train_run(run, place, data_root=data_root, device=where)
        train, test, judges = load_data(run, folder, data_root, where)
        measured = metrics.measure(model, train, test, judges, settings)
        losses = _training_terms(report.pop("losses"))
        rows = [
            {**row._asdict(), **report, "status": "finished", "settings": as_text(settings)}
            for row in [*measured, *losses]
        ]
    except Exception as error:  # of any kind: the other runs go on
        brief = f"{type(error).__name__}: {error}"
        where_from = traceback.format_exc(limit=-3)
        row = {"status": "failed", "error": f"{brief}\n\n{where_from}"}
        write_run(folder, run, [row | {"made_with": json.dumps(metrics.provenance())}])
        return "failed"
    write_run(folder, run, rows)
    if not keep:
        (place / "model.pt").unlink(missing_ok=True)
    return "finished"


def train_run(
    run: Run, place: Path, *, data_root: str | None, device: str
) -> tuple[MultimodalVAE, dict[str, Any]]:
    """The trained model of a run, and what its training took.

    ``model.pt`` in ``place`` takes the place of the checkpoint when the run is trained.
    """
    trained, facts = place / "model.pt", place / "training.json"
    if trained.exists() and facts.exists():
        model = load_model(trained, device)
        return model, json.loads(facts.read_text(encoding="utf-8"))
    train, _ = _loaded(run.data, run.modalities, _frozen(run.data_options), data_root, device)
    torch.manual_seed(run.seed)
    model = MultimodalVAE(
        recipes.build(run.recipe, run.modalities, **run.options),
        train.shapes,
        names=train.names,
        **{"latent_dim": LATENT_DIM, **run.model},
    ).to(device)
    config = TrainConfig(**run.training, seed=run.seed)
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    resumed = (place / "last.pt").exists()
    before = time.process_time()
    history = fit(model, train, config, folder=place, show_progress=False)
    report = {
        "steps": config.epochs * (len(train) // config.batch_size),
        "training_seconds": history.seconds,
        # A run that was resumed had a part of its time in another process.
        "processor_seconds": None if resumed else time.process_time() - before,
        "peak_device_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else None,
        "losses": history.epochs[-1],
        "made_with": json.dumps(metrics.provenance()),
    }
    save_checkpoint(trained, model)
    metrics.write_json(facts, report)
    for name in ("last.pt", "best.pt"):
        (place / name).unlink(missing_ok=True)
    return model.eval(), report


def load_run(folder: str | Path, run: Run, device: str = "cpu") -> MultimodalVAE:
    """The trained model of a run of a sweep.

    Raises ``FileNotFoundError`` where it has not been trained, or its model was not kept.
    """
    return load_model(folder_of(folder, run) / "model.pt", device)


def load_data(
    run: Run, folder: str | Path, data_root: str | None = None, device: str = "cpu"
) -> tuple[MultimodalDataset, MultimodalDataset, list[nn.Module]]:
    """A run's training and test set, and the classifiers that judge what is generated.

    They are kept in memory for the next run on the same data; the classifiers on disk too, one
    training for all runs on the same pictures.
    """
    options = _frozen(run.data_options)
    train, test = _loaded(run.data, run.modalities, options, data_root, device)
    return train, test, _judges(run.data, run.modalities, options, data_root, device, str(folder))


@lru_cache(maxsize=2)
def _loaded(
    name: str, modalities: int, options: str, data_root: str | None, device: str
) -> tuple[MultimodalDataset, MultimodalDataset]:
    train, test = datasets.load(name, data_root, modalities, **json.loads(options))
    return train.to(device), test.to(device)


@lru_cache(maxsize=2)
def _judges(
    name: str, modalities: int, options: str, data_root: str | None, device: str, folder: str
) -> list[nn.Module]:
    train, _ = _loaded(name, modalities, options, data_root, device)
    if train.label is None:
        return []
    place = Path(folder) / "classifiers"
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / f"lock-{name}-{modalities}"):  # one trains, the others wait and read
        return [*metrics.train_classifiers(train, folder=place)]


def _training_terms(losses: dict[str, float]) -> list[Measurement]:
    """The training loss of the last epoch, term by term."""
    nan = float("nan")
    return [Measurement(f"training_{name}", "", "", v, nan, 0) for name, v in losses.items()]


def _frozen(options: Any) -> str:
    return json.dumps(dict(options), sort_keys=True)


def _device(wanted: str) -> str:
    """The device of this worker: with several GPUs, the one that has the worker's number."""
    if wanted != "auto":
        return wanted
    if not torch.cuda.is_available():
        return "cpu"
    try:
        from distributed import get_worker

        number = int(get_worker().name)
    except (ImportError, ValueError, TypeError):  # not a Dask worker, or one with another name
        number = 0
    return f"cuda:{number % torch.cuda.device_count()}"


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many threads for torch inside, as many as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
