"""How the experts of a multimodal VAE should agree.

The rooms, by what they are for (``tests/test_rooms.py`` has the order in which they may import):

* :mod:`~mmvae_core.subsets`, :mod:`~mmvae_core.tableau`: which experts take part in which term;
* :mod:`~mmvae_core.distributions`, :mod:`~mmvae_core.aggregation`, :mod:`~mmvae_core.learned`: from
  experts to a consensus, by a rule or by one that is learned;
* :mod:`~mmvae_core.bounds`, :mod:`~mmvae_core.networks`, :mod:`~mmvae_core.recipes`,
  :mod:`~mmvae_core.data`, :mod:`~mmvae_core.model`: a multimodal VAE, one engine for every method;
* :mod:`~mmvae_core.worlds`, :mod:`~mmvae_core.exact_bounds`: where the truth is known;
* :mod:`~mmvae_core.metrics`, :mod:`~mmvae_core.training`, :mod:`~mmvae_core.sweeps`: train and
  judge one, or hundreds;
* what one notebook computes: :mod:`~mmvae_core.toy` (01), :mod:`~mmvae_core.many_experts` and
  :mod:`~mmvae_core.readings` (02), :mod:`~mmvae_core.geometry` and :mod:`~mmvae_core.averages`
  (03), :mod:`~mmvae_core.learned_rules` and :mod:`~mmvae_core.identifiable` (05),
  :mod:`~mmvae_core.comparison` and :mod:`~mmvae_core.published` (07);
* :mod:`~mmvae_core.figures`, :mod:`~mmvae_core.explore`: look at it, in print and moving.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mmvae-core")
except PackageNotFoundError:  # imported from a folder, not installed
    __version__ = "0+unknown"
