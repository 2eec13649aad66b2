"""Evaluation: functions of (model, data) that return numbers with their uncertainty."""

from mmvae_core.metrics.calibration import coverage, coverage_of_pit, gaussian_coverage
from mmvae_core.metrics.classifiers import train_classifiers
from mmvae_core.metrics.clusters import assign_clusters, prune_clusters
from mmvae_core.metrics.coherence import (
    accuracies,
    average,
    conditional_coherence,
    unconditional_coherence,
)
from mmvae_core.metrics.estimate import Estimate, Measurement
from mmvae_core.metrics.fid import Inception, inception
from mmvae_core.metrics.frechet import (
    FeatureStatistics,
    frechet_distance,
    gaussian_frechet,
    quality_gap,
)
from mmvae_core.metrics.identifiability import mcc, weak_mcc
from mmvae_core.metrics.imputation import (
    imputation_coherence,
    imputation_coverage,
    imputation_error,
    imputation_log_likelihood,
    imputed,
    reconstruction_error,
)
from mmvae_core.metrics.likelihood import joint_log_likelihood, log_likelihoods
from mmvae_core.metrics.probe import linear_accuracy
from mmvae_core.metrics.report import Settings, evaluate, measure, provenance, write_json
from mmvae_core.metrics.weights import objective_weights, predicted_weights

__all__ = [
    "Estimate",
    "FeatureStatistics",
    "Inception",
    "Measurement",
    "Settings",
    "accuracies",
    "assign_clusters",
    "average",
    "conditional_coherence",
    "coverage",
    "coverage_of_pit",
    "evaluate",
    "frechet_distance",
    "gaussian_coverage",
    "gaussian_frechet",
    "imputation_coherence",
    "imputation_coverage",
    "imputation_error",
    "imputation_log_likelihood",
    "imputed",
    "inception",
    "joint_log_likelihood",
    "linear_accuracy",
    "log_likelihoods",
    "mcc",
    "measure",
    "objective_weights",
    "predicted_weights",
    "provenance",
    "prune_clusters",
    "quality_gap",
    "reconstruction_error",
    "train_classifiers",
    "unconditional_coherence",
    "weak_mcc",
    "write_json",
]
