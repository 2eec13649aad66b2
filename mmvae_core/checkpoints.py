"""Checkpoints: written whole, read back as they were written, and knowing whose they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from mmvae_core.arguments import arguments
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.files import check_form, check_zip, digest_of, regular, replacing
from mmvae_core.model import MultimodalVAE

__all__ = [
    "check_same_run",
    "load_checkpoint",
    "load_model",
    "origin_of",
    "remembered",
    "save_checkpoint",
]

FORMAT = 4  # of checkpoints; raised when their content changes
MODEL = {"format": int, "spec": str, "model": {...: Tensor}}
STATE = {
    "optimizer": {"state": dict, "param_groups": list}, "noise": Tensor, "rows": Tensor,
    "epoch": int, "step": int, "best": Real, "sums": {...: (Tensor, float)}, "config": str,
    "device": str,
    "history": {"epochs": [{...: float}], "steps": list},
}  # fmt: skip
RENAMED = {"mixture_logits": "pi.logits", "baseline": "pi.baseline"}  # since format 2


class CheckpointError(ValueError):
    """A file is no checkpoint, is damaged, or is not of the run that is to go on."""


# Where the weights of a model started that has been trained here, and what they were at the end.
_STARTS: WeakKeyDictionary[MultimodalVAE, tuple[str, str]] = WeakKeyDictionary()


@arguments
def save_checkpoint(path: str | Path, model: MultimodalVAE, **state: Any) -> Path:
    """Write model, its description and ``state`` so that the file is old or new, never half.

    A compiled model is written as the model that was compiled.
    """
    model = getattr(model, "_orig_mod", model)
    content = {
        "format": FORMAT, "spec": json.dumps(model.spec), "model": model.state_dict(), **state
    }  # fmt: skip
    with replacing(path) as partial:
        torch.save(content, partial)
    return Path(path)


@arguments
def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint; tensors and plain data only, so that a file cannot run code.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of this project, or is damaged.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"there is no checkpoint at {path}; train with folder={str(path.parent)!r}"
        )
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device must be one that torch can use here, such as 'cpu'; got {str(device)!r} "
            f"({str(error).splitlines()[0][:120]})"
        ) from error
    path = regular(path)
    try:
        check_zip(path)
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # of many kinds
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({brief(error)}); it is "
            "damaged or something else. Copy it again from where it came, or train again in "
            "another folder"
        ) from error
    if not isinstance(content, dict) or content.get("format") not in (2, 3, FORMAT):
        found = content.get("format") if isinstance(content, dict) else None
        raise CheckpointError(
            f"{path} must be a checkpoint of format 2 to {FORMAT}, as save_checkpoint writes it; "
            f"got {f'format {found}' if found else 'something else'}"
        )
    _check_form(content, MODEL, f"{path}:")
    if content["format"] == 2:
        content["model"] = {RENAMED.get(k, k): value for k, value in content["model"].items()}
    return content


@arguments
def load_model(path: str | Path, device: str | torch.device = "cpu") -> MultimodalVAE:
    """The trained model of a checkpoint (``last.pt`` or ``best.pt``)."""
    return model_of(load_checkpoint(path, device), path, device)


def model_of(
    content: Mapping[str, Any], path: str | Path, device: str | torch.device = "cpu"
) -> MultimodalVAE:
    """The model that a checkpoint holds; ``path`` is for messages."""
    try:
        dtype = content["model"]["modality_weights"].dtype
        model = MultimodalVAE.from_spec(json.loads(content["spec"])).to(device, dtype)
        model.load_state_dict(content["model"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} must hold a model that can be built here, and does not ({brief(error)}). Copy "
            "it again from where it came, or train again in another folder"
        ) from error
    return model.eval()


def brief(error: BaseException) -> str:
    """The beginning of what an error says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (" ".join(lines) or type(error).__name__)[:200]


def origin_of(
    model: MultimodalVAE, data: MultimodalDataset, valid: MultimodalDataset | None
) -> dict[str, str]:
    """Fingerprints of what shapes a run beside its settings, by what they are of."""
    now = digest_of(model.state_dict())
    start, end = _STARTS.get(model, (now, now))
    masks = {name: part.present for name, part in (("", data), ("held-out ", valid)) if part}
    return {
        **{f"the mask of the {name}data": digest_of({"": mask}) for name, mask in masks.items()},
        "the number of samples": str(len(data)),
        "the data": data.fingerprint,
        "the held-out data": "none" if valid is None else valid.fingerprint,
        "the starting weights": start if now == end else now,
    }


@contextmanager
def remembered(model: MultimodalVAE, origin: dict[str, str]) -> Iterator[None]:
    """What the model started from is known after the block too, however that ends."""
    try:
        yield
    finally:
        if origin:
            end = digest_of(model.state_dict())
            _STARTS[model] = (origin["the starting weights"], end)


def check_same_run(
    saved: dict[str, Any],
    model: MultimodalVAE,
    settings: Mapping[str, Any],
    origin: Mapping[str, str],
    path: Path,
) -> None:
    """Raise ``ValueError``, which says what differs, where a checkpoint is of another run.

    Args:
        saved: what it holds.
        settings: of the run, other than those that may change between its parts.
        origin: see :func:`origin_of`.
        path: of the checkpoint, for messages.
    """
    advice = "choose another folder, or delete this one to start anew"
    if "optimizer" not in saved:
        raise CheckpointError(
            f"{path} holds a model and not the state of its training, as best.pt does, which a run "
            f"needs to go on: {advice}"
        )

    _check_form(saved, STATE, f"{path}:")

    def compare(there: dict[str, Any], here: dict[str, Any], problem: str) -> None:
        keys = [key for key in here | there if there.get(key) != here.get(key)]
        if keys:
            was, now = ([part.get(key) for key in keys] for part in (there, here))
            raise CheckpointError(
                f"{path} must be of this run, and {problem} {', '.join(keys)} (there {was}, here "
                f"{now}); {advice}"
            )

    here = json.loads(json.dumps(model.spec))
    compare(_parsed(saved, "spec", path), here, "belongs to another model, with another")
    tensors = {name: list(value.shape) for name, value in model.state_dict().items()}
    held = {name: list(value.shape) for name, value in saved["model"].items()}
    compare(held, tensors, "holds other tensors:")
    before = _parsed(saved, "config", path)
    compare(
        {name: before.get(name) for name in settings}, dict(settings), "was trained with another"
    )
    if saved["device"] != model.device.type:
        raise CheckpointError(
            f"{path} was trained on {saved['device']}, the model is on {model.device.type}; noise "
            f"differs between them, so the run cannot go on there: {advice}"
        )
    before_format_4 = {"the number of samples": str(saved.get("num_samples"))}
    there = _parsed(saved, "origin", path) if "origin" in saved else before_format_4
    if origin["the starting weights"] == digest_of(saved["model"]):  # this run's own, read back
        origin = {**origin, "the starting weights": there.get("the starting weights", "")}
    different = [name for name, found in there.items() if origin.get(name) != found]
    if different:
        raise CheckpointError(
            f"{path} must be of this run, and belongs to another run: {', '.join(different)} "
            f"differ from what is given now; {advice}"
        )
    if min(saved["epoch"], saved["step"]) < 0:
        raise CheckpointError(
            f"{path}: epoch and step must be at least 0; got {saved['epoch']}, {saved['step']}; "
            f"{advice}"
        )


def _parsed(saved: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """A part of a checkpoint that is text in JSON."""
    try:
        content = json.loads(saved[name])
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: {name} must be a text in JSON; got {saved[name]!r:.80}"
        ) from error
    _check_form(content, {}, f"{path}: {name}:")
    return content


def _check_form(content: Any, form: Any, of: str) -> None:
    try:
        check_form(content, form, of)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
