"""The multimodal VAE: one engine for every recipe."""

from mmvae_core.model.vae import DECODE_CHUNK, MultimodalVAE
from mmvae_core.objectives import Experts, evidence, log_weights

__all__ = ["DECODE_CHUNK", "Experts", "MultimodalVAE", "evidence", "log_weights"]
