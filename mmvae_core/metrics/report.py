"""One run's evaluation as plain data, with where it comes from.

:func:`measure` takes every number of a model in one pass over the data and returns tidy rows,
one number each: what was measured, from which modalities, of which modality, with its standard
error. :class:`Settings` says how, and carries the version of the definitions, so that a stored
table tells which rows may stand beside each other.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, pi, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmvae_core import subsets
from mmvae_core.arguments import Count, Seed, arguments
from mmvae_core.data import MultimodalDataset, complete_cases
from mmvae_core.files import replacing
from mmvae_core.metrics.coherence import (
    Judged,
    accuracies,
    average,
    conditional_coherence,
    unconditional_coherence,
)
from mmvae_core.metrics.estimate import Measurement
from mmvae_core.metrics.frechet import LEAST, Extractor, Features, frechet_distance
from mmvae_core.metrics.imputation import (
    Imputation,
    Reconstruction,
    absolute_error,
    coverage_of,
    reconstruction_error,
)
from mmvae_core.metrics.likelihood import ImportanceSampling, joint_log_likelihood
from mmvae_core.metrics.probe import TRAIN_LATENTS, Probes, linear_accuracy
from mmvae_core.metrics.walk import Accumulator, Encoded, check_complete, check_few, seeded, walk
from mmvae_core.metrics.weights import objective_weights
from mmvae_core.model import MultimodalVAE
from mmvae_core.model.members import check_data

__all__ = ["VERSION", "Measurement", "Settings", "evaluate", "measure", "provenance", "write_json"]

VERSION = 1  # of the definitions behind measure(); raise it with any change of what a row means


@arguments
@dataclass(frozen=True)
class Settings:
    """How :func:`measure` measures; plain numbers, to be stored with its rows.

    Args:
        draws: L, importance samples for each log-likelihood.
        likelihood_samples: test samples (the first ones) of the log-likelihoods.
        generated: draws from the prior.
        probe_latents: training latents of the linear probe.
        imputation_samples: test samples (the first ones) with a view hidden, and training samples
            that the noise of the intervals is fitted to.
        imputation_draws: latents drawn for each of them.
        seed: of everything that is drawn.
        version: of the definitions, :data:`VERSION`.

    Raises:
        ValueError: a number that is too small, or settings of another version.
    """

    draws: Count = 64
    likelihood_samples: Count = 256
    generated: Count = 2000
    probe_latents: Count = 500
    imputation_samples: Count = 500
    imputation_draws: Count = 16
    seed: Seed = 0
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ValueError(
                f"version must be {VERSION}, for these are the definitions of version {VERSION}; "
                f"the settings are of version {self.version}: measure again, or use the release "
                "that they come from"
            )


@torch.no_grad()
@arguments
def measure(
    model: MultimodalVAE,
    train: MultimodalDataset,
    test: MultimodalDataset,
    classifiers: Sequence[nn.Module] | None,
    settings: Settings | None = None,
    *,
    inception: Extractor | None = None,
    show_progress: bool = False,
) -> list[Measurement]:
    """Every number of a model, as tidy rows.

    ============================= ================ ============ =================================
    metric                        given            generated    unit and definition
    ============================= ================ ============ =================================
    conditional_coherence         S                outside S    share, :func:`conditional_coherence`
    unconditional_coherence       prior                         share, of prior draws
    classifier_accuracy                            each         share: the ceiling of coherence
    classifier_frechet            S, prior         each         :mod:`~mmvae_core.metrics.frechet`
    classifier_frechet_floor                       each         between two halves of real pictures
    fid, fid_floor                as these two     each         with ``inception`` only
    linear_accuracy               S                             share, :func:`linear_accuracy`
    log_likelihood                S (proposal)                  nats, log p(X)
    effective_sample_size         S (proposal)                  draws
    subset_log_likelihood         S                             nats, log p(x_S)
    subset_effective_sample_size  S                             draws
    bound                         S                             nats, E_q log p(X|z) − KL(q_S‖p)
    kl                            S                             nats, KL(q_S‖p)
    posterior_trace               S                             trace of Cov q(z|x_S)
    mixture_weight                S                             share of the objective
    reconstruction_error          all              each         data's units, a pixel
    imputation_error              all but one      that one     data's units, a pixel
    imputation_coverage_0.5, ...  all but one      that one     share of pixels inside the interval
    ============================= ================ ============ =================================

    Pictures of every subset are generated once, for coherence and Fréchet distance together. The
    distance is taken of all modalities, those of S too (the papers' "conditional on all subsets");
    coherence of those outside S.
    Intervals of imputed pixels take the noise that fits the model's reconstructions of training
    samples, not the fixed scale of its likelihood.

    Args:
        train: gives the probe its latents, and the intervals their noise; of incomplete data, the
            complete samples do.
        test: complete samples, with labels or without. Without labels the numbers that need them
            are left out.
        classifiers: one a modality (:func:`train_classifiers`); None leaves out what needs them.
            Fréchet distances need ``features_and_logits``.
        inception: from :func:`mmvae_core.metrics.inception`; adds ``fid`` and ``fid_floor`` beside
            the classifiers' distances. Pictures are generated once more, and the network takes
            by far most of the time.
        settings: how; the defaults take about ten seconds of one core for three modalities.
        show_progress: a bar.

    Raises:
        ValueError: the model's modalities are not those of the data or of the classifiers, or a
            test sample lacks a view.

    Standard errors take the test samples as independent. Those of the embedded digits are not
    quite: 2,000 triples are drawn from 359 handwritings, and errors are 2 to 2.5 times larger for
    it. Between models the spread over seeds is what counts.

    All numbers of one model come out the same for the same settings and number of threads. With
    one modality there is no coherence and nothing to impute.
    """
    settings = Settings() if settings is None else settings
    _check(model, train, test, classifiers)
    train = train if train.complete else complete_cases(train)
    rows, seed, few = subsets.powerset(len(model.names)), settings.seed, settings.imputation_samples
    accumulators: list[Accumulator] = [_Traces()]
    if test.label is not None and train.label is not None:
        count = min(settings.probe_latents, len(train))
        accumulators.append(Probes(model, train, rows, count=count, seed=seed))
    if classifiers is not None:
        judges = dict(zip(model.names, classifiers, strict=True))
        accumulators.append(Judged(judges, Features("classifier_frechet")))
    scores = [absolute_error, coverage_of(_fitted_noise(model, train.subset(slice(0, few)), seed))]
    accumulators += [
        ImportanceSampling(model, settings.draws, seed, settings.likelihood_samples),
        Reconstruction(model, rows[-1], seed=seed, count=few),
        Imputation(model, scores, draws=settings.imputation_draws, seed=seed, count=few),
    ]
    weights = objective_weights(model).items()
    found = [Measurement("mixture_weight", name, "", value, nan, 0) for name, value in weights]
    found += walk(
        model, test, accumulators, rows, generator=seeded(model, seed),
        from_prior=0 if classifiers is None else settings.generated, show_progress=show_progress,
    )  # fmt: skip
    if inception is not None:
        distances = frechet_distance(
            model, test, inception, count=settings.generated, seed=seed,
            show_progress=show_progress,
        )  # fmt: skip
        found += [
            Measurement("fid" if given else "fid_floor", given, name, *estimate)
            for given, row in distances.items()
            for name, estimate in row.items()
        ]
    return found


class _Traces(Accumulator):
    """The trace of every posterior's covariance."""

    def update(self, seen: Encoded) -> None:
        traces = seen.posterior.stddev.square().sum(-1)  # (K, B)
        for name, values in zip(seen.given, traces, strict=True):
            self.add("posterior_trace", name, "", values)


def _fitted_noise(model: MultimodalVAE, data: MultimodalDataset, seed: int) -> dict[str, float]:
    """The scale of every modality's likelihood that fits its reconstructions best.

    E|x - mean| is the scale of a Laplace; a Normal's standard deviation is sqrt(pi/2) times that.
    """
    errors = reconstruction_error(model, data, seed=seed)
    factor = {"laplace": 1.0, "normal": sqrt(pi / 2)}  # a categorical one has no scale
    kinds = zip(model.names, model.spec["likelihood"], strict=True)
    return {name: errors[name].value * factor[kind] for name, kind in kinds if kind in factor}


def _check(
    model: MultimodalVAE,
    train: MultimodalDataset,
    test: MultimodalDataset,
    classifiers: Sequence[nn.Module] | None,
) -> None:
    for data in (train, test):
        check_data(model.spec, data)
    check_complete(test, "measure, which hides views by itself,")
    if classifiers is not None:
        check_few(test, LEAST, "the Fréchet distance, which classifiers=None leaves out,")
    if classifiers is not None and len(classifiers) != len(model.names):
        raise ValueError(
            f"one classifier is needed for each of {model.names}; got {len(classifiers)}"
        )


@arguments
def evaluate(
    model: MultimodalVAE,
    train: MultimodalDataset,
    test: MultimodalDataset,
    classifiers: Sequence[nn.Module],
    *,
    draws: Count = 64,
    likelihood_samples: Count = 500,
    seed: Seed = 0,
) -> dict[str, Any]:
    """Coherence, linear accuracy and joint log-likelihood, for every subset, as plain data.

    Args:
        draws: importance samples for each log-likelihood.
        likelihood_samples: how many test samples its average takes (the first ones).

    Returns:
        Numbers are ``[value, standard error, samples]``, except averages and learned weights.
    """
    few = test.subset(slice(0, likelihood_samples))
    result: dict[str, Any] = {
        "linear_accuracy": linear_accuracy(
            model, train, test, count=min(TRAIN_LATENTS, len(train)), seed=seed
        ),
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
        result["mixture"] = objective_weights(model)
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


@arguments
def write_json(path: str | Path, content: dict[str, Any]) -> Path:
    """Write ``content`` so that the file is old or new, never half."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return Path(path)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
