"""The multimodal VAE: one engine for every recipe."""

from mmvae_core.model.objective import evidence, log_weights
from mmvae_core.model.vae import DECODE_CHUNK, Experts, MultimodalVAE

__all__ = ["DECODE_CHUNK", "Experts", "MultimodalVAE", "evidence", "log_weights"]
