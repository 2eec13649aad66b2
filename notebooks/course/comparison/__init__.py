"""Notebook 07: every recipe side by side, from one stored table, beside what its paper reports.

* :mod:`~course.comparison.results`: the table, selections of its runs, scores, what seeds decide;
* :mod:`~course.comparison.states`: what every picture and table of text shows, as numbers;
* :mod:`~course.comparison.published` and ``published.toml``: the paper's numbers and claims;
* :mod:`~course.comparison.claims`, :mod:`~course.comparison.questions`: its claims judged by our
  runs, and our own questions answered by them;
* :mod:`~course.comparison.planes`, :mod:`~course.comparison.lines`: the pictures;
* :mod:`~course.comparison.explorer`: the plane of runs, in motion;
* :mod:`~course.comparison.kept`: the pictures that are kept as files.

Nothing is typed in: every number comes from the table, or from ``published.toml``, which says where
it stands in the paper.
"""
