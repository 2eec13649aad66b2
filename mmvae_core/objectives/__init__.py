"""Objectives: what a recipe asks of a model, summed up to the loss.

An objective stands below the model and knows of it what :class:`Joined` says. It is a
:class:`Sum` of a tableau's terms, or a mean of log-weights, outside the logarithm
(:class:`MeanLog`) or inside (:class:`LogMean`).
"""

from mmvae_core.objectives.estimates import evidence, log_weights
from mmvae_core.objectives.prior_expert import consensus
from mmvae_core.objectives.protocol import Experts, Joined, Latents, Reference, SampledMixture
from mmvae_core.objectives.reductions import LogMean, MeanLog, Sum
from mmvae_core.objectives.subset_weights import ClosedForm, Given, Learned, SubsetWeights

__all__ = [
    "ClosedForm",
    "Experts",
    "Given",
    "Joined",
    "Latents",
    "Learned",
    "LogMean",
    "MeanLog",
    "Reference",
    "SampledMixture",
    "SubsetWeights",
    "Sum",
    "consensus",
    "evidence",
    "log_weights",
]
