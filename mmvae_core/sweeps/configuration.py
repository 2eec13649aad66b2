"""What a run is: plain data, with a key, and grids of them."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from typing import Any

from mmvae_core import data as datasets
from mmvae_core import recipes
from mmvae_core.model import MultimodalVAE
from mmvae_core.training import TrainConfig

__all__ = ["Run", "grid"]

MODEL_OPTIONS = tuple(
    name
    for name in inspect.signature(MultimodalVAE).parameters
    if name not in ("recipe", "shapes", "names")
)
TRAINING_OPTIONS = tuple(f.name for f in fields(TrainConfig) if f.name != "seed")
LATENT_DIM = 20


@dataclass(frozen=True)
class Run:
    """One configuration and a seed: what is trained, on what, and how.

    Args:
        recipe: a name from :data:`mmvae_core.recipes.RECIPES`.
        modalities: M.
        data: a name from :data:`mmvae_core.data.DATASETS`.
        seed: of the model's start, the order of the samples and the noise. The data stay the same.
        options: of the recipe, such as ``{"rho": 0.4}``.
        data_options: of the data set, such as ``{"train_size": 8000}``.
        model: of :class:`mmvae_core.model.MultimodalVAE`, such as ``{"scale": "bounded"}``;
            ``latent_dim`` is 20 where not given.
        training: of :class:`mmvae_core.training.TrainConfig`, such as ``{"beta": 2.5}``.

    A value that is the default is left out, so that naming it makes no other run.

    Raises:
        ValueError: a name or an option does not exist, or the recipe refuses its value.

    >>> run = Run("code_vae", options={"rho": 0.6}, training={"epochs": 5})
    >>> run.label, run.key == Run.from_json(run.to_json()).key
    ('code_vae rho=0.6', True)
    """

    recipe: str = "code_vae"
    modalities: int = 3
    data: str = "digits"
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    data_options: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data not in datasets.DATASETS:
            raise ValueError(
                f"data must be one of {', '.join(sorted(datasets.DATASETS))}; got {self.data!r}"
            )
        if type(self.seed) is not int:
            raise ValueError(f"seed must be a whole number; got {self.seed!r}")
        for group, names in (("model", MODEL_OPTIONS), ("training", TRAINING_OPTIONS)):
            unknown = sorted(set(getattr(self, group)) - set(names))
            if unknown:
                raise ValueError(
                    f"{group} has no option {', '.join(unknown)}; it has {', '.join(names)}"
                )
        defaults = {
            "options": recipes.build(self.recipe, self.modalities).options,
            "data_options": _defaults(datasets.DATASETS[self.data]),
            "model": {**_defaults(MultimodalVAE), "latent_dim": LATENT_DIM},
            "training": _defaults(TrainConfig),
        }
        for group, usual in defaults.items():
            values = getattr(self, group)
            if group == "options":
                values = recipes.build(self.recipe, self.modalities, **values).options
            unusual = {
                name: value
                for name, value in values.items()
                if name not in usual or value != usual[name]
            }
            # The dataclass is frozen; leaving out what goes without saying is part of making it.
            object.__setattr__(self, group, unusual)
        TrainConfig(**self.training)
        try:
            self.to_json()
        except TypeError as error:
            raise ValueError(
                f"a run is plain data (numbers, words, lists), so that it can be stored: {error}"
            ) from error

    def to_json(self) -> str:
        """The run as text, the same for the same run."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Run:
        """The run that :meth:`to_json` wrote."""
        return cls(**json.loads(text))

    @property
    def values(self) -> dict[str, Any]:
        """All options of recipe, data, model and training by name, the defaults too."""
        return {
            **self.data_options,
            **_defaults(MultimodalVAE),
            "latent_dim": LATENT_DIM,
            **self.model,
            **_defaults(TrainConfig),
            **self.training,
            **recipes.build(self.recipe, self.modalities, **self.options).options,
        }

    @property
    def key(self) -> str:
        """Twelve letters and digits that tell this run from every other, in file names."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """The recipe and its options, for people."""
        return " ".join([self.recipe, *(f"{name}={value}" for name, value in self.options.items())])

    def with_values(self, **values: Any) -> Run:
        """The same run with other values, each given by its name alone.

        A name is a field of the run, an option of its recipe, of the model, of the training or of
        the data, looked up in that order.
        """
        own = {name: values.pop(name) for name in ("recipe", "modalities", "data", "seed")
               if name in values}  # fmt: skip
        run = replace(self, **own)
        groups: dict[str, Any] = {}
        for name, value in values.items():
            group = run._group_of(name)
            groups.setdefault(group, dict(getattr(run, group)))[name] = value
        return replace(run, **groups)

    def _group_of(self, name: str) -> str:
        if name in recipes.option_names(self.recipe):
            return "options"
        if name in MODEL_OPTIONS:
            return "model"
        if name in TRAINING_OPTIONS:
            return "training"
        parameters = inspect.signature(datasets.DATASETS[self.data]).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if name not in ("root", "seed", "modalities") and (name in parameters or takes_any):
            return "data_options"
        raise ValueError(
            f"nothing of a run is called {name!r}: neither the run (recipe, modalities, data, "
            f"seed), nor recipe {self.recipe} ({', '.join(recipes.option_names(self.recipe))}), "
            f"nor model, training or data {self.data}"
        )


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if name != "seed" and parameter.default is not parameter.empty
    }


def grid(base: Run | None = None, **axes: Iterable[Any]) -> list[Run]:
    """All combinations of the values on the axes, the last axis fastest.

    Args:
        base: what stays the same.
        axes: names as in :meth:`Run.with_values`, each with its values.

    The search of arXiv 2505.01134, beta by rho by learned or equal weights by M by three seeds:

    >>> betas = [0.1, 0.5, 1, 1.5, 2, 2.5, 3, 5, 7.5, 10, 15, 20]
    >>> search = grid(
    ...     Run("code_vae", data="polymnist"), modalities=[2, 3, 4, 5], beta=betas,
    ...     rho=[0.0, 0.2, 0.4, 0.6, 0.8], weights=["learned", "equal"], seed=range(3),
    ... )
    >>> len(search)
    1440

    The paper counts 120 configurations for each M; with five values of rho and two kinds of
    weights they have twelve of beta, which it does not list. Those above are ours.
    """
    base = Run() if base is None else base
    names = list(axes)
    return [
        base.with_values(**dict(zip(names, values, strict=True)))
        for values in product(*(list(axes[name]) for name in names))
    ]
