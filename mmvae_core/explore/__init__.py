"""Interactive pictures: views only.

A view holds sliders, one plotly figure and a table. What it shows is computed by pure functions
elsewhere (:mod:`mmvae_core.toy` for two experts) and drawn again by a static twin in
:mod:`mmvae_core.figures`, so picture, twin and tests cannot disagree.
"""
