"""Static pictures (matplotlib): functions of numbers, one file a notebook.

Each is the static face of an interactive picture in :mod:`mmvae_core.explore`; both take their
numbers from the same functions and their colours from :mod:`mmvae_core.figures.style`.
"""
