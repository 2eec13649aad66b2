"""One run's evaluation as plain data, with where it comes from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmvae_core import subsets
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.metrics.classifiers import accuracies
from mmvae_core.metrics.coherence import (
    average,
    conditional_coherence,
    unconditional_coherence,
)
from mmvae_core.metrics.likelihood import joint_log_likelihood
from mmvae_core.metrics.probe import linear_accuracy
from mmvae_core.model import MultimodalVAE

__all__ = ["evaluate", "provenance", "write_json"]


def evaluate(
    model: MultimodalVAE,
    train: MultimodalDataset,
    test: MultimodalDataset,
    classifiers: Sequence[nn.Module],
    *,
    draws: int = 64,
    likelihood_samples: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    """Coherence, linear accuracy and joint log-likelihood, for every subset, as plain data.

    Args:
        draws: importance samples for each log-likelihood.
        likelihood_samples: how many test samples its average takes (the first ones).

    Returns:
        Numbers are ``[value, standard error, samples]``, except averages and learned weights.
    """
    few = test.subset(slice(0, min(likelihood_samples, len(test))))
    result: dict[str, Any] = {
        "linear_accuracy": linear_accuracy(model, train, test, seed=seed),
        "log_likelihood_nats": joint_log_likelihood(model, few, draws=draws, seed=seed),
        "log_likelihood_draws": draws,
    }
    if len(model.names) > 1:
        coherence = conditional_coherence(model, test, classifiers, seed=seed)
        result["conditional_coherence"] = coherence
        result["conditional_coherence_average"] = average(coherence)
        result["unconditional_coherence"] = unconditional_coherence(model, classifiers, seed=seed)
        result["classifier_accuracy"] = dict(
            zip(model.names, accuracies(classifiers, test), strict=True)
        )
    if model.mixture is not None:
        rows = model.recipe.tableau.subsets
        names = [subsets.name(row, model.names) for row in rows]
        result["mixture"] = dict(zip(names, model.mixture.tolist(), strict=True))
    return result


def provenance() -> dict[str, Any]:
    """Where and with what a result was made: code version, packages, hardware."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    return {
        "commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": _processor(),
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def write_json(path: str | Path, content: dict[str, Any]) -> Path:
    """Write ``content`` so that the file is old or new, never half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
