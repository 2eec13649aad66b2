"""One run's evaluation as plain data, with where it comes from.

:func:`measure` takes every number of a model in few passes over the data and returns tidy rows,
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
from dataclasses import dataclass, replace
from math import nan, pi, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, nn
from tqdm.auto import tqdm

from mmvae_core import subsets
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.files import replacing
from mmvae_core.metrics.classifiers import accuracies
from mmvae_core.metrics.coherence import (
    average,
    conditional_coherence,
    unconditional_coherence,
)
from mmvae_core.metrics.estimate import Estimate, mean_estimate, proportion
from mmvae_core.metrics.frechet import Extractor, frechet_distance
from mmvae_core.metrics.generation import encoded, sizes
from mmvae_core.metrics.imputation import (
    imputation_coverage,
    imputation_error,
    reconstruction_error,
)
from mmvae_core.metrics.judged import PRIOR, Judged
from mmvae_core.metrics.likelihood import BATCH as LIKELIHOOD_BATCH
from mmvae_core.metrics.likelihood import joint_log_likelihood, log_likelihoods
from mmvae_core.metrics.probe import fit_probes, linear_accuracy
from mmvae_core.metrics.weights import objective_weights
from mmvae_core.model import MultimodalVAE

__all__ = ["VERSION", "Measurement", "Settings", "evaluate", "measure", "provenance", "write_json"]

VERSION = 1  # of the definitions behind measure(); raise it with any change of what a row means


class Measurement(NamedTuple):
    """One number of one model.

    ``given``: a subset such as ``"m0+m2"``, ``"prior"``, or ``""`` where nothing is given;
    ``generated``: a modality, or ``""`` where the number is of none. ``stderr`` is NaN where there
    is none; ``count`` is how many samples the value rests on (0: none, a parameter).
    """

    metric: str
    given: str
    generated: str
    value: float
    stderr: float
    count: int  # type: ignore[assignment]  # the word that a table needs; tuple.count is not used


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

    draws: int = 64
    likelihood_samples: int = 256
    generated: int = 2000
    probe_latents: int = 500
    imputation_samples: int = 500
    imputation_draws: int = 16
    seed: int = 0
    version: int = VERSION

    def __post_init__(self) -> None:
        for name in (
            "draws", "likelihood_samples", "generated", "probe_latents", "imputation_samples",
            "imputation_draws",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.version != VERSION:
            raise ValueError(
                f"these are the definitions of version {VERSION}; the settings are of version "
                f"{self.version}: measure again, or use the release that they come from"
            )


@torch.no_grad()
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
        train: gives the probe its latents, and the intervals their noise.
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
    model.eval()
    rows = subsets.powerset(len(model.names))
    names = [subsets.name(row, model.names) for row in rows]
    sheet = _Sheet()
    few = test.subset(slice(0, settings.likelihood_samples))
    steps = len(rows) * (len(sizes(len(test))) + len(sizes(len(few), LIKELIHOOD_BATCH)))
    with tqdm(total=steps + len(model.names), desc="measuring", unit="step", leave=False,
              disable=not show_progress) as bar:  # fmt: skip
        for name, weight in objective_weights(model).items():
            sheet.add("mixture_weight", name, "", Estimate(weight, nan, 0))
        _from_subsets(sheet, model, train, test, classifiers, settings, bar)
        found = log_likelihoods(
            model, few, draws=settings.draws, seed=settings.seed, progress=bar.update
        )
        for name in names:
            for metric, estimate in found[name]._asdict().items():
                sheet.add(metric, name, "", estimate)
        _imputation(sheet, model, train, test, settings, bar)
    if inception is not None:
        distances = frechet_distance(
            model, test, inception, count=settings.generated, seed=settings.seed,
            show_progress=show_progress,
        )  # fmt: skip
        for given, row in distances.items():
            for name, estimate in row.items():
                sheet.add("fid" if given else "fid_floor", given, name, estimate)
    return sheet.rows


class _Sheet:
    """The rows so far."""

    def __init__(self) -> None:
        self.rows: list[Measurement] = []

    def add(self, metric: str, given: str, generated: str, estimate: Estimate) -> None:
        self.rows.append(Measurement(metric, given, generated, *estimate))


def _from_subsets(
    sheet: _Sheet,
    model: MultimodalVAE,
    train: MultimodalDataset,
    test: MultimodalDataset,
    classifiers: Sequence[nn.Module] | None,
    settings: Settings,
    bar: Any,
) -> None:
    """One pass over the test data: what posteriors say, and the pictures that they make."""
    rows = subsets.powerset(len(model.names))
    names = [subsets.name(row, model.names) for row in rows]
    labelled = test.label is not None and train.label is not None
    probes = (
        fit_probes(
            model, train, rows, count=min(settings.probe_latents, len(train)), seed=settings.seed
        )
        if labelled
        else []
    )
    judged = None if classifiers is None else Judged(model, classifiers)
    generator = Generator(device=model.device).manual_seed(settings.seed)
    traces, right = [], [0] * len(rows)
    for batch, experts, q in encoded(model, test, rows):
        traces.append(q.stddev.square().sum(dim=-1).cpu())  # (K, B)
        if batch.label is not None and probes:
            means, truth = q.mean.cpu().numpy(), batch.label.cpu().numpy()
            for k, probe in enumerate(probes):
                right[k] += int((probe.predict(means[k]) == truth).sum())
        if judged is not None:
            judged.real(batch.x, batch.label)
        draw = q.draw(1, generator)[0]  # (K, B, D)
        for k, row in enumerate(rows):
            if judged is not None:
                made = model.generate_from(experts, row[None], draw[k], generator=generator)
                judged.generated(names[k], made, batch.label)
            bar.update()
    for k, name in enumerate(names):
        sheet.add("posterior_trace", name, "", mean_estimate(torch.cat(traces, dim=1)[k]))
        if probes:
            sheet.add("linear_accuracy", name, "", proportion(right[k], len(test)))
    if judged is not None:
        for size in sizes(settings.generated):
            judged.generated(PRIOR, model.sample(size, generator=generator), None)
        for metric, given, name, estimate in judged.scores():
            sheet.add(metric, given, name, estimate)


def _imputation(
    sheet: _Sheet,
    model: MultimodalVAE,
    train: MultimodalDataset,
    test: MultimodalDataset,
    settings: Settings,
    bar: Any,
) -> None:
    """Errors of views that were given, and of views that were hidden one at a time."""
    every = "+".join(model.names)
    complete = test.subset(slice(0, settings.imputation_samples))
    for name, error in reconstruction_error(model, complete, seed=settings.seed).items():
        sheet.add("reconstruction_error", every, name, error)
    noise = _fitted_noise(model, train.subset(slice(0, settings.imputation_samples)), settings.seed)
    for m, name in enumerate(model.names):
        bar.update()
        if len(model.names) == 1:
            break
        present = complete.present.clone()
        present[:, m] = False
        gaps = replace(complete, present=present)
        given = "+".join(other for other in model.names if other != name)
        options: dict[str, Any] = {"draws": settings.imputation_draws, "seed": settings.seed}
        error = imputation_error(model, gaps, complete, **options)[name]
        sheet.add("imputation_error", given, name, error)
        if model.spec["likelihood"][m] == "categorical":
            continue
        covered = imputation_coverage(model, gaps, complete, noise=noise, **options)[name]
        for level, share in covered.items():
            sheet.add(f"imputation_coverage_{level}", given, name, share)


def _fitted_noise(model: MultimodalVAE, data: MultimodalDataset, seed: int) -> dict[str, float]:
    """The scale of every modality's likelihood that fits its reconstructions best.

    E|x - mean| is the scale of a Laplace; a Normal's standard deviation is sqrt(pi/2) times that.
    """
    errors = reconstruction_error(model, data, seed=seed)
    factor = {"laplace": 1.0, "normal": sqrt(pi / 2), "categorical": 1.0}
    kinds = zip(model.names, model.spec["likelihood"], strict=True)
    return {name: errors[name].value * factor[kind] for name, kind in kinds}


def _check(
    model: MultimodalVAE,
    train: MultimodalDataset,
    test: MultimodalDataset,
    classifiers: Sequence[nn.Module] | None,
) -> None:
    for data in (train, test):
        if list(data.names) != list(model.names):
            raise ValueError(
                f"the model's modalities are {list(model.names)}; those of the data are "
                f"{list(data.names)}. data.modalities([...]) takes some of them"
            )
    if not test.complete:
        raise ValueError(
            "a model is measured on complete samples, whose views it hides by itself; "
            "data.complete_cases(test) takes those that are complete"
        )
    if classifiers is not None and len(classifiers) != len(model.names):
        raise ValueError(
            f"one classifier is needed for each of {model.names}; got {len(classifiers)}"
        )


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
