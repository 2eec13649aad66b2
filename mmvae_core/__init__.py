"""How the experts of a multimodal VAE should agree.

The rooms, by what they are for (``tests/test_rooms.py`` has the order in which they may import):

* :mod:`~mmvae_core.subsets`, :mod:`~mmvae_core.tableau`: which experts take part in which term;
* :mod:`~mmvae_core.distributions`, :mod:`~mmvae_core.aggregation`, :mod:`~mmvae_core.learned`: from
  experts to a consensus, by a rule or by one that is learned;
* :mod:`~mmvae_core.geometry`: averages of Gaussians, and the paths between them;
* :mod:`~mmvae_core.bounds`, :mod:`~mmvae_core.networks`, :mod:`~mmvae_core.data`,
  :mod:`~mmvae_core.objectives`, :mod:`~mmvae_core.recipes`, :mod:`~mmvae_core.model`: a multimodal
  VAE, one engine for every method;
* :mod:`~mmvae_core.worlds`, :mod:`~mmvae_core.exact_bounds`: where the truth is known;
* :mod:`~mmvae_core.metrics`, :mod:`~mmvae_core.training`, :mod:`~mmvae_core.sweeps`: train and
  judge one, or hundreds;
* :mod:`~mmvae_core.pictures`: look at it, in print and moving.

What a notebook shows and only it is in ``notebooks/course``, which stands on all of these.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mmvae-core")
except PackageNotFoundError:  # imported from a folder, not installed
    __version__ = "0+unknown"
