"""How the experts of a multimodal VAE should agree.

From the top down, each room knowing only those above it:

* :mod:`~mmvae_core.subsets`, :mod:`~mmvae_core.tableau`: which experts take part in which term;
* :mod:`~mmvae_core.distributions`, :mod:`~mmvae_core.aggregation`: from experts to a consensus;
* :mod:`~mmvae_core.geometry`, :mod:`~mmvae_core.averages`, :mod:`~mmvae_core.toy`: what the first
  notebooks compute;
* :mod:`~mmvae_core.bounds`, :mod:`~mmvae_core.networks`, :mod:`~mmvae_core.recipes`,
  :mod:`~mmvae_core.data`, :mod:`~mmvae_core.model`: a multimodal VAE, one engine for every method;
* :mod:`~mmvae_core.metrics`, :mod:`~mmvae_core.training`: train and judge it;
* :mod:`~mmvae_core.figures`, :mod:`~mmvae_core.explore`: look at it, in print and moving.
"""

from importlib.metadata import version

__version__ = version("mmvae-core")
