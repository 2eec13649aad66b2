"""What a worker does with one run: train it, or go on with it, measure it, write it down."""

from __future__ import annotations

import hashlib
import json
import os
import re
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from distributed import KilledWorker
from filelock import FileLock, Timeout
from torch import nn

from mmvae_core import data as datasets
from mmvae_core import metrics, recipes
from mmvae_core.checkpoints import CheckpointError, model_of
from mmvae_core.data import MultimodalDataset
from mmvae_core.data.files import ROOT_VARIABLE
from mmvae_core.files import read_json, regular, replacing
from mmvae_core.metrics.report import Measurement, Settings
from mmvae_core.model import MultimodalVAE
from mmvae_core.sweeps.configuration import LATENT_DIM, Run
from mmvae_core.sweeps.table import read_run, write_run
from mmvae_core.training import TrainConfig, fit, load_checkpoint, save_checkpoint

__all__ = ["Outcome", "execute", "folder_of", "is_done", "load_data", "load_run", "train_run"]

_ONE_AT_A_TIME = Lock()  # torch's seed and number of threads belong to the whole process
DIVERGED = FloatingPointError.__name__  # what fit raises; it would come again
# What stops a run and says nothing of it: a full disk, a folder that cannot be written to, memory.
OUTSIDE = (OSError, MemoryError, torch.OutOfMemoryError, KilledWorker)
DIGEST = "sha256"  # of the rest, in a file in JSON
NOTE = {"roots": [str], "fingerprint": (str, None)}
REPORT = {
    "steps": int, "training_seconds": float, "processor_seconds": float,
    "peak_device_bytes": (int, None), "device": str, "losses": {...: float}, "made_with": str,
}  # fmt: skip
# "finished", "failed", "interrupted" (by something outside of it), "known" (was finished before),
# "busy" (another has it)
Outcome = str


class OtherDataError(ValueError):
    """The folder holds results on other data."""


def folder_of(folder: str | Path, run: Run) -> Path:
    """The folder of a run: checkpoint while it trains, model when it is trained."""
    return Path(folder) / "runs" / f"{run.recipe}-{run.key}"


def is_done(folder: str | Path, run: Run, settings: str, retry_failed: bool = False) -> bool:
    """Whether there is nothing left to do: the run is measured with these settings, or diverged.

    A run that failed for another reason (files that were not there, a full disk) is tried again.
    """
    rows = read_run(folder, run.key)
    if not rows:
        return False
    if rows[0]["status"] != "finished":
        return not retry_failed and rows[0]["error"].startswith(DIVERGED)
    return rows[0]["settings"] == settings


def as_text(settings: Settings, inception: str | Path | None = None) -> str:
    """What is measured and how, as it stands in the table."""
    content = asdict(settings)
    if inception is not None:
        content["inception"] = hashlib.sha256(regular(inception).read_bytes()).hexdigest()[:16]
    return json.dumps(content, sort_keys=True)


def execute(
    run: Run,
    folder: str | Path,
    *,
    data_root: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    settings: Settings | None = None,
    inception: str | None = None,
    retry_failed: bool = False,
    keep_models: bool = True,
) -> Outcome:
    """Carry out one run, whatever of it is left to do, and write its rows.

    A run belongs to the process that holds the lock in its folder; another that comes meanwhile
    is told ``"busy"``. A lock ends with its process, however that ends. A process carries out one
    run at a time, whatever the number of its threads. What was trained stays trained: a run that
    was killed goes on from its checkpoint, one that was trained is only measured. An error is
    written to the table, unless that holds numbers of the run already, and not raised; ``log.txt``
    in the run's folder says what was done when.

    Raises:
        ValueError: the folder holds results on other data than these.
    """
    settings = Settings() if settings is None else settings
    wanted = as_text(settings, inception)
    if is_done(folder, run, wanted, retry_failed):
        check_data(run, folder, data_root)
        return "known"
    place = folder_of(folder, run)
    place.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place / "lock", timeout=0):
            if is_done(folder, run, wanted, retry_failed):  # between the question and the lock
                return "known"
            with _ONE_AT_A_TIME, _settled(threads):
                try:
                    rows = _carried_out(run, folder, data_root, device, settings, inception)
                except OtherDataError:
                    raise
                except Exception as error:  # of any kind: the other runs go on
                    return write_failure(folder, run, error)
                write_run(folder, run, [{**row, "settings": wanted} for row in rows])
                if not keep_models:
                    (place / "model.pt").unlink(missing_ok=True)
                return "finished"
    except Timeout:
        return "busy"


def write_failure(folder: str | Path, run: Run, error: BaseException) -> Outcome:
    """Note an error in the run's log, and in the table unless that has numbers of the run.

    Returns ``"interrupted"`` where the cause lies outside the run, and ``"failed"`` else.
    """
    status = "interrupted" if isinstance(error, OUTSIDE) else "failed"
    brief = f"{type(error).__name__}: {error}"
    text = "".join(traceback.format_exception(error, limit=-3))
    try:
        log(folder_of(folder, run), f"{status}: {text}")
        rows = read_run(folder, run.key)
        if not rows or rows[0]["status"] != "finished":
            row = {"status": status, "error": f"{brief}\n\n{text}"}
            write_run(folder, run, [row | {"made_with": json.dumps(metrics.provenance())}])
    except OSError as second:  # the disk is full, or cannot be written to: the others go on
        warnings.warn(f"{run.label} {run.key}: {brief}. Not noted: {second}", stacklevel=2)
    return status


def check_data(
    run: Run,
    folder: str | Path,
    data_root: str | None,
    data: tuple[MultimodalDataset, MultimodalDataset] | None = None,
) -> None:
    """Refuse data that are not those of the results which the folder holds.

    The folder notes the fingerprint of every data set, and the roots where it was found. Data are
    loaded where they are not given and come from a root that is not noted.

    Raises:
        ValueError: they are other data.
    """
    options = _frozen(run.data_options)
    name = f"{run.data}-{run.modalities}-{hashlib.sha256(options.encode()).hexdigest()[:12]}.json"
    note = Path(folder) / "data" / name
    root = data_root or os.environ.get(ROOT_VARIABLE)
    root = "" if root is None else str(Path(root).expanduser().resolve())
    known = _read_json(note, NOTE) or {"roots": [], "fingerprint": None}
    if data is None and (root in known["roots"] or not known["roots"] or not root):
        return
    data = data or _loaded(run.data, run.modalities, options, data_root, "cpu")
    found = hashlib.sha256("".join(part.fingerprint for part in data).encode()).hexdigest()
    if known["fingerprint"] not in (None, found):
        raise OtherDataError(
            f"{folder} holds results on {run.data} from {' and '.join(known['roots'])}, and those "
            f"of {root or 'no root'} are other data. Choose another folder for them"
        )
    if root not in known["roots"]:
        _write_json(note, {"roots": [*known["roots"], root], "fingerprint": found})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file with a digest of its content, in place of what was there."""
    if path.is_dir():  # no file can take its name
        path.replace(path.with_name(f"{path.name}.damaged"))
    metrics.write_json(path, {**content, DIGEST: _digest(content)})


def _read_json(path: Path, form: Any, **own: str) -> dict[str, Any] | None:
    """What a file holds; None, with a warning if it is damaged, where there is nothing to read.

    Args:
        form: see :func:`mmvae_core.files.check_form`.
        own: what the content has to say, where it says anything of it.
    """
    try:
        content = read_json(path, form)
        digest = content.pop(DIGEST, None)
        if digest is not None and digest != _digest(content):
            raise ValueError(f"{path} does not hold what was written to it")
        for name, value in own.items():
            if content.pop(name, value) != value:
                raise ValueError(f"{path} belongs to another {name}")
    except FileNotFoundError:
        return None
    except ValueError as error:
        warnings.warn(f"{error}. It is not used, and is made again", stacklevel=2)
        return None
    return content


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def log(place: Path, line: str) -> None:
    """Add a line to the log of a run."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with open(place / "log.txt", "a", encoding="utf-8") as file:
        file.write(f"{now} process {os.getpid()}: {line}\n")


def _carried_out(
    run: Run,
    folder: str | Path,
    data_root: str | None,
    device: str,
    settings: Settings,
    inception: str | None,
) -> list[dict[str, Any]]:
    place = folder_of(folder, run)
    with replacing(place / "run.json") as partial:
        partial.write_text(run.to_json() + "\n", encoding="utf-8")
    where = _device(device)
    options = _frozen(run.data_options)
    check_data(run, folder, data_root, _loaded(run.data, run.modalities, options, data_root, where))
    model, report = train_run(run, place, data_root=data_root, device=where)
    train, test, judges = load_data(run, folder, data_root, where)
    network = None if inception is None else metrics.inception(inception)
    measured = metrics.measure(model, train, test, judges, settings, inception=network)
    log(place, f"measured {len(measured)} numbers")
    losses = _training_terms(report.pop("losses"))
    report["measured_by"] = metrics.provenance()["commit"]
    return [{**row._asdict(), **report, "status": "finished"} for row in [*measured, *losses]]


def train_run(
    run: Run, place: Path, *, data_root: str | None, device: str
) -> tuple[MultimodalVAE, dict[str, Any]]:
    """The trained model of a run, and what its training took.

    ``model.pt`` in ``place`` takes the place of the checkpoint when the run is trained.
    """
    train, _ = _loaded(run.data, run.modalities, _frozen(run.data_options), data_root, device)
    trained, facts = place / "model.pt", place / "training.json"
    if trained.exists() and (report := _read_json(facts, REPORT, run=run.key)):
        try:
            return _own_model(trained, run, device, train.shapes), report
        except ValueError as error:
            _set_aside(trained, error)
    torch.manual_seed(run.seed)
    model = _untrained(run, train.shapes, train.names).to(device)
    config = TrainConfig(**run.training, seed=run.seed)
    if (last := place / "last.pt").exists():
        try:
            model_of(load_checkpoint(last), last)
        except ValueError as error:
            _set_aside(last, error)
    resumed = last.exists()
    log(place, f"{'goes on with' if resumed else 'begins'} the training on {device}")
    on_gpu = device.startswith("cuda")
    held = 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device) - _bytes_of(model)  # the data, other runs' too
    go_on = partial(fit, model, train, config, folder=place, keep_best=False, show_progress=False)
    try:
        history = go_on()
    except CheckpointError as error:  # another run's
        _set_aside(last, error)
        resumed, history = False, go_on()
    peak = torch.cuda.max_memory_allocated(device) - held if on_gpu and not resumed else None
    report = {
        "steps": config.epochs * (len(train) // config.batch_size),
        "training_seconds": history.seconds,
        "processor_seconds": history.processor_seconds,
        "peak_device_bytes": peak,
        "device": device,
        "losses": history.epochs[-1],
        "made_with": json.dumps(metrics.provenance()),
    }
    save_checkpoint(trained, model, run=run.key)
    _write_json(facts, {**report, "run": run.key})
    (place / "last.pt").unlink(missing_ok=True)
    log(place, f"trained, {history.seconds:.0f} s")
    return model.eval(), report


def _set_aside(path: Path, error: ValueError) -> None:
    """What cannot be read costs its run no more than its time."""
    kept = path.with_name(f"{path.name}.damaged")
    path.replace(kept)
    log(path.parent, f"set aside as {kept.name}: {error}")
    warnings.warn(f"{error}. It was set aside as {kept}, and its run goes on without", stacklevel=3)


def _bytes_of(model: MultimodalVAE) -> int:
    return sum(part.numel() * part.element_size() for part in model.state_dict().values())


def load_run(folder: str | Path, run: Run, device: str = "cpu") -> MultimodalVAE:
    """The trained model of a run of a sweep.

    Raises ``FileNotFoundError`` where it has not been trained, or its model was not kept.
    """
    return _own_model(folder_of(folder, run) / "model.pt", run, device)


def _untrained(
    run: Run, shapes: Sequence[Sequence[int]], names: Sequence[str], device: str = "cpu"
) -> MultimodalVAE:
    recipe = recipes.build(run.recipe, run.modalities, **run.options)
    options = {"latent_dim": LATENT_DIM, **run.model}
    with torch.device(device):
        return MultimodalVAE(recipe, [tuple(shape) for shape in shapes], names=names, **options)


def _own_model(
    path: Path, run: Run, device: str, shapes: Sequence[Sequence[int]] | None = None
) -> MultimodalVAE:
    """The model in a file; ``ValueError`` where it is another run's, or of other shapes."""
    content = load_checkpoint(path, device)
    model = model_of(content, path, device)
    shapes = model.spec["shapes"] if shapes is None else shapes
    fits = len(shapes) == len(model.names) == run.modalities and (
        _untrained(run, shapes, model.names, "meta").spec == model.spec
    )
    if not fits or content.get("run", run.key) != run.key:
        raise ValueError(
            f"{path} must hold the model of the run {run.key} ({run.label}), and has that of "
            f"another. Copy the right one there, or delete it and sweep again"
        )
    return model


def load_data(
    run: Run, folder: str | Path, data_root: str | None = None, device: str = "cpu"
) -> tuple[MultimodalDataset, MultimodalDataset, list[nn.Module] | None]:
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
) -> list[nn.Module] | None:
    train, _ = _loaded(name, modalities, options, data_root, device)
    if train.label is None:
        return None
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

        number = re.search(r"(\d+)$", str(get_worker().name))
    except (ImportError, ValueError):  # not a worker of Dask
        number = None
    return f"cuda:{int(number[1]) % torch.cuda.device_count() if number else 0}"


@contextmanager
def _settled(threads: int | None) -> Iterator[None]:
    """So many threads for torch inside, and float32 in full, where convolutions on a GPU would take
    the shorter TF32; both as before outside."""
    before, short = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    torch.set_num_threads(threads or before)
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.backends.cudnn.allow_tf32 = short
