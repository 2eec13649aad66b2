"""From the table of a sweep to what its pictures show: selections, means, spreads, verdicts.

:class:`Results` holds the table, selects runs and reduces each to a few scores; the functions
beside it say what a picture or a question needs. Nothing here draws, and nothing is typed in:
every number comes from the table, or from :mod:`mmvae_core.published`, which says where.
"""

from mmvae_core.comparison.questions import Answer, answers
from mmvae_core.comparison.results import (
    SCORES,
    Results,
    Score,
    Spread,
    difference,
    paired_difference,
    spread,
    usual,
)
from mmvae_core.comparison.states import (
    Mark,
    Speed,
    baseline_marks,
    baseline_runs,
    by_cardinality,
    by_value,
    checks,
    clean_pictures,
    gpu_steps,
    quality_gap,
    rank,
    rho_search,
    score_sheet,
    speed,
    starts,
    trade_off,
    weights_by_subset,
)
from mmvae_core.comparison.verdicts import Verdict, verdicts

__all__ = [
    "SCORES",
    "Answer",
    "Mark",
    "Results",
    "Score",
    "Speed",
    "Spread",
    "Verdict",
    "answers",
    "baseline_marks",
    "baseline_runs",
    "by_cardinality",
    "by_value",
    "checks",
    "clean_pictures",
    "difference",
    "gpu_steps",
    "paired_difference",
    "quality_gap",
    "rank",
    "rho_search",
    "score_sheet",
    "speed",
    "spread",
    "starts",
    "trade_off",
    "usual",
    "verdicts",
    "weights_by_subset",
]
