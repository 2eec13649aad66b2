"""Where every method was published."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["REFERENCES", "Reference"]

NEURIPS = "Advances in Neural Information Processing Systems"
ICLR = "International Conference on Learning Representations"


@dataclass(frozen=True)
class Reference:
    """Where a method was published."""

    key: str
    title: str
    authors: str
    year: int
    venue: str
    arxiv: str | None = None

    def bibtex(self) -> str:
        """The entry for a bibliography."""
        rows = {
            "title": f"{{{self.title}}}",
            "author": self.authors,
            "year": self.year,
            "booktitle": self.venue,
            "note": f"arXiv:{self.arxiv}" if self.arxiv else None,
        }
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in rows.items() if value)
        return f"@inproceedings{{{self.key},\n{body}\n}}"


REFERENCES: dict[str, Reference] = {
    "vae": Reference(
        "kingma2014vae", "Auto-Encoding Variational Bayes",
        "Kingma, Diederik P. and Welling, Max", 2014, ICLR, "1312.6114",
    ),
    "mvae": Reference(
        "wu2018mvae", "Multimodal Generative Models for Scalable Weakly-Supervised Learning",
        "Wu, Mike and Goodman, Noah", 2018, NEURIPS, "1802.05335",
    ),
    "mmvae": Reference(
        "shi2019mmvae",
        "Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep Generative Models",
        "Shi, Yuge and Siddharth, N. and Paige, Brooks and Torr, Philip H. S.", 2019, NEURIPS,
        "1911.03393",
    ),
    "mmjsd": Reference(
        "sutter2020mmjsd",
        "Multimodal Generative Learning Utilizing Jensen-Shannon-Divergence",
        "Sutter, Thomas M. and Daunhawer, Imant and Vogt, Julia E.", 2020, NEURIPS, "2006.08242",
    ),
    "mopoe": Reference(
        "sutter2021mopoe", "Generalized Multimodal ELBO",
        "Sutter, Thomas M. and Daunhawer, Imant and Vogt, Julia E.", 2021, ICLR, "2105.02470",
    ),
    "mvtcae": Reference(
        "hwang2021mvtcae", "Multi-View Representation Learning via Total Correlation Objective",
        "Hwang, HyeongJoo and Kim, Geon-Hyeong and Hong, Seunghoon and Kim, Kee-Eung", 2021,
        NEURIPS,
    ),
    "mmvae_plus": Reference(
        "palumbo2023mmvaeplus",
        "MMVAE+: Enhancing the Generative Quality of Multimodal VAEs without Compromises",
        "Palumbo, Emanuele and Daunhawer, Imant and Vogt, Julia E.", 2023, ICLR,
    ),
    "cmvae": Reference(
        "palumbo2024cmvae",
        "Deep Generative Clustering with Multimodal Diffusion Variational Autoencoders",
        "Palumbo, Emanuele and Manduchi, Laura and Laguna, Sonia and Chopard, Daphne and "
        "Vogt, Julia E.", 2024, ICLR,
    ),
    "code_vae": Reference(
        "mancisidor2025codevae",
        "Aggregation of Dependent Expert Distributions in Multimodal Variational Autoencoders",
        "Mancisidor, Rogelio A. and Jenssen, Robert and Yu, Shujian and Kampffmeyer, Michael",
        2025, "International Conference on Machine Learning", "2505.01134",
    ),
    "wb_vae": Reference(
        "qiu2025barycentric", "Multimodal Variational Autoencoder: a Barycentric View",
        "Qiu, Peijie and Zhu, Wenhui and Kumar, Sayantan and Chen, Xiwen and Yang, Jin and "
        "Sun, Xiaotong and Razi, Abolfazl and Wang, Yalin and Sotiras, Aristeidis", 2025,
        "AAAI Conference on Artificial Intelligence", "2412.20487",
    ),
    "mmvm": Reference(
        "sutter2024mmvm",
        "Unity by Diversity: Improved Representation Learning in Multimodal VAEs",
        "Sutter, Thomas M. and Meng, Yang and Agostini, Andrea and Chopard, Daphne and "
        "Fortin, Norbert and Vogt, Julia E. and Shahbaba, Babak and Mandt, Stephan", 2024,
        NEURIPS, "2403.05300",
    ),
    "permutation_invariant": Reference(
        "hirt2024permutation",
        "Learning multi-modal generative models with permutation-invariant encoders and tighter "
        "variational objectives",
        "Hirt, Marcel and Campolo, Domenico and Leong, Victoria and Ortega, Juan-Pablo", 2024,
        "Transactions on Machine Learning Research", "2309.00380",
    ),
}  # fmt: skip
REFERENCES["mwb_vae"] = REFERENCES["wb_vae"]
