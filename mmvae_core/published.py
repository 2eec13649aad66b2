"""What the CoDE-VAE paper reports, as data, to stand beside what is measured here.

Two kinds of things, and nothing else: numbers that are printed in its tables or text, copied by
hand from there (:data:`TABLES`), and what its text says about figures whose numbers it does not
print, each as one sentence in our words (:data:`CLAIMS`). No number was read off a picture.

Source: Mancisidor, Jenssen, Yu and Kampffmeyer, "Aggregation of Dependent Expert Distributions in
Multimodal Variational Autoencoders", ICML 2025 (arXiv 2505.01134).

>>> TABLES["table_12"].values["rho = 0.9"]["95 %"].mean
53.68
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["ARXIV", "CLAIMS", "SETTING", "TABLES", "Claim", "Printed", "PublishedTable"]

ARXIV = "2505.01134"

# How the paper's PolyMNIST models were trained (section 4.2, appendices D.1, D.2 and D.4).
SETTING: Mapping[str, str] = {
    "pictures": "28×28, 60,000 samples to train on, 5 modalities",
    "latent dimensions": "512",
    "networks": "convolutional",
    "quality": "FID, features of a pre-trained Inception network",
    "runs": "3 for each configuration; β and ρ by search",
}


class Printed(NamedTuple):
    """A printed number, and the standard deviation over runs printed with it, if any."""

    mean: float
    sd: float | None = None


@dataclass(frozen=True)
class PublishedTable:
    """Numbers of one table or passage.

    Args:
        where: in the paper.
        data: the data set they are of.
        about: what they are.
        values: row by row, ``{row: {column: Printed}}``.
    """

    where: str
    data: str
    about: str
    values: Mapping[str, Mapping[str, Printed]]


@dataclass(frozen=True)
class Claim:
    """What the paper's text says of a figure or table, in our words."""

    key: str
    where: str
    text: str


def _rows(
    columns: Sequence[str], rows: Mapping[str, Sequence[float | tuple[float, float]]]
) -> dict[str, dict[str, Printed]]:
    return {
        name: {
            column: Printed(*cell) if isinstance(cell, tuple) else Printed(cell)
            for column, cell in zip(columns, cells, strict=True)
        }
        for name, cells in rows.items()
    }


_COHERENCE_AND_FID = (
    "conditional coherence", "unconditional coherence", "conditional FID", "unconditional FID"
)  # fmt: skip

TABLES: Mapping[str, PublishedTable] = {
    "table_1": PublishedTable(
        "Table 1", "MNIST-SVHN-Text", "coherence and FID, best β of each method",
        _rows(_COHERENCE_AND_FID, {
            "mvae": [(0.38, 0.042), (0.18, 0.047), (41.09, 2.57), (44.96, 3.26)],
            "mmvae": [(0.72, 0.014), (0.34, 0.031), (153.96, 7.73), (111.72, 5.07)],
            "mmjsd": [(0.74, 0.013), (0.02, 0.001), (148.47, 4.38), (291.59, 1.38)],
            "mopoe": [(0.79, 0.015), (0.46, 0.014), (105.36, 1.49), (101.43, 7.49)],
            "mvtcae": [(0.66, 0.031), (0.15, 0.040), (38.34, 1.85), (52.86, 0.48)],
            "mmvae_plus": [(0.53, 0.012), (0.20, 0.005), (54.69, 0.86), (77.35, 1.37)],
            "code_vae": [(0.82, 0.022), (0.51, 0.015), (79.11, 2.73), (71.40, 1.93)],
        }),
    ),
    "table_2": PublishedTable(
        "Table 2", "CUB", "captions to images",
        _rows(("conditional coherence", "conditional FID"), {
            "mvae": [(0.27, 0.007), (172.21, 39.61)],
            "mmvae": [(0.71, 0.057), (232.20, 2.14)],
            "mmjsd": [(0.56, 0.158), (262.80, 6.93)],
            "mopoe": [(0.58, 0.158), (265.55, 4.01)],
            "mvtcae": [(0.22, 0.007), (208.43, 1.10)],
            "mmvae_plus": [(0.72, 0.090), (164.94, 1.50)],
            "code_vae": [(0.75, 0.050), (175.97, 0.30)],
        }),
    ),
    "table_6": PublishedTable(
        "Table 6", "MNIST-SVHN-Text", "best β for linear classification",
        _rows(("β",), {
            "mvae": [5], "mmvae": [0.1], "mmjsd": [5], "mopoe": [10], "mvtcae": [20],
            "mmvae_plus": [5], "code_vae": [5],
        }),
    ),
    "table_7": PublishedTable(
        "Table 7", "PolyMNIST", "best β for linear classification",
        _rows(("β",), {
            "mvae": [1], "mmvae": [1], "mmjsd": [1], "mopoe": [1], "mvtcae": [5],
            "mmvae_plus": [1], "code_vae": [5],
        }),
    ),
    "table_12": PublishedTable(
        "Table 12", "m1 of PolyMNIST and a noisy copy", "FID of the clean picture by noise",
        _rows(("0 %", "25 %", "95 %"), {
            "rho = 0": [29.00, 31.27, 48.22],
            "rho = 0.9": [26.12, 29.90, 53.68],
        }),
    ),
    "table_15": PublishedTable(
        "Table 15", "MNIST-SVHN-Text", "CoDE-VAE by ρ, at β = 20",
        _rows(
            ("unconditional coherence", "conditional coherence", "unconditional FID",
             "conditional FID", "linear accuracy"),
            {
                "0": [0.52, 0.70, 78.2, 95.3, 0.88],
                "0.2": [0.53, 0.78, 77.5, 87.4, 0.93],
                "0.4": [0.51, 0.82, 76.7, 83.6, 0.95],
                "0.6": [0.55, 0.81, 79.4, 87.0, 0.95],
                "0.8": [0.54, 0.77, 77.0, 91.2, 0.95],
            },
        ),
    ),
    "batch_ms": PublishedTable(
        "Appendix C", "two data sets", "milliseconds a batch, on an A100",
        _rows(("PoE", "CoDE"), {"MNIST-SVHN-Text": [36, 46], "PolyMNIST": [790, 1050]}),
    ),
    "beta_10": PublishedTable(
        "Section 4.2", "PolyMNIST", "CoDE-VAE at β = 10",
        _rows(("coherence",), {"code_vae": [0.38]}),
    ),
}  # fmt: skip

CLAIMS: Mapping[str, Claim] = {
    claim.key: claim
    for claim in (
        Claim("mixtures_likelihood", "Figs 2 and 4",
              "Plain mixtures of experts (MMVAE, mmJSD) reach lower log-likelihoods than methods "
              "with products of experts (MVAE, MoPoE, MVTCAE)."),
        Claim("code_balances", "Figs 2 and 4",
              "CoDE-VAE balances coherence and log-likelihood: no other method is better in both."),
        Claim("products_trade", "Table 1, Fig. 4",
              "MVAE and MVTCAE generate pictures of high quality and pay with coherence."),
        Claim("private_coherence", "Fig. 4",
              "At low β, MMVAE+ is more coherent than CoDE-VAE."),
        Claim("gap_grows", "Fig. 3",
              "The quality gap to a unimodal VAE grows with the number of modalities for methods "
              "that see a sub-sample of the modalities at a time."),
        Claim("gap_stays", "Fig. 3",
              "MVAE, MVTCAE and CoDE-VAE, which see all modalities at once, have a linear or "
              "falling gap: it grows less with more modalities."),
        Claim("gap_closes", "Fig. 3",
              "With 4 and 5 modalities CoDE-VAE draws pictures from the prior as well as a "
              "unimodal VAE does."),
        Claim("weights_grow", "Fig. 5", "The learned weight π grows with the subset's size."),
        Claim("trace_shrinks", "Fig. 5",
              "The trace of the posterior's covariance shrinks with the subset's size."),
        Claim("mixtures_flat", "Figs 8 and 10",
              "For mixtures of experts linear accuracy does not grow with the subset's size; for "
              "products and CoDE it does."),
        Claim("mvtcae_accurate", "Fig. 10",
              "Large subsets: MVTCAE has the highest linear accuracy."),
        Claim("rho_helps", "Fig. 13, Table 15",
              "Coherence and linear accuracy are higher with ρ > 0 than with ρ = 0, except with 5 "
              "modalities."),
        Claim("rho_likelihood", "Fig. 6d", "The joint log-likelihood rises with ρ."),
        Claim("beta_likelihood", "Fig. 6d", "The joint log-likelihood falls as β grows."),
        Claim("baseline", "Figs 6a and 21",
              "Learned π and a searched ρ beat equal weights with ρ = 0 in coherence, "
              "log-likelihood or both, at every β; at β = 1 on PolyMNIST in log-likelihood alone."),
        Claim("baseline_quality", "Figs 6b and 6c",
              "Learned π and a searched ρ improve the quality of what is generated."),
        Claim("copy_same", "Table 12",
              "Where both modalities are the same picture, ρ = 0.9 gives better pictures than "
              "ρ = 0."),
        Claim("copy_noise", "Table 12",
              "Where the copy is 95 % noise, ρ = 0 gives better pictures than ρ = 0.9."),
        Claim("code_costs", "Appendix C",
              "A training step with CoDE takes about 1.3 times as long as one with PoE."),
    )
}  # fmt: skip
