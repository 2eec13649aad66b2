"""What a run is: plain data, with a key, and grids of them."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from itertools import product
from typing import Any

import torch

from mmvae_core import data as datasets
from mmvae_core import recipes
from mmvae_core.arguments import Count, Seed, arguments
from mmvae_core.checks import whole_number
from mmvae_core.model import MultimodalVAE
from mmvae_core.training import TrainConfig

__all__ = ["Run", "grid"]

MODEL_OPTIONS = tuple(
    name
    for name in inspect.signature(MultimodalVAE).parameters
    if name not in ("recipe", "shapes", "names")
)
TRAINING_OPTIONS = tuple(f.name for f in fields(TrainConfig) if f.name != "seed")
OF_THE_MACHINE = (
    "root", "modalities", "backgrounds", "download", "cache", "mnist_source", "archive_url",
    "archive_checksum",
)  # fmt: skip
LATENT_DIM = 20


@arguments
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
    modalities: Count = 3
    data: str = "digits"
    seed: Seed = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    data_options: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data not in datasets.DATASETS:
            raise ValueError(
                f"data must be one of {', '.join(sorted(datasets.DATASETS))}; got {self.data!r}"
            )
        names = {
            "data_options": data_option_names(self.data, self.data_options),
            "model": MODEL_OPTIONS,
            "training": TRAINING_OPTIONS,
        }
        for group, known in names.items():
            unknown = sorted(set(getattr(self, group)) - set(known))
            if unknown:
                raise ValueError(
                    f"{group} has no option {', '.join(unknown)}; it has {', '.join(known)}"
                )
        options = (
            self.options and recipes.build(self.recipe, self.modalities, **self.options).options
        )
        for group, usual in self._defaults().items():
            values = options if group == "options" else getattr(self, group)
            # The dataclass is frozen; leaving out what goes without saying is part of making it.
            object.__setattr__(self, group, _unusual(values, usual))
        TrainConfig(**self.training)
        for name in ("train_size", "test_size"):
            if self.data_options.get(name) is not None:
                whole_number(name, self.data_options[name])
        try:
            self.to_json()
        except TypeError as error:
            raise ValueError(
                f"a run is plain data (numbers, words, lists), so that it can be stored: {error}"
            ) from error
        parameters = inspect.signature(datasets.DATASETS[self.data]).parameters
        if "image_size" in parameters:
            size = self.data_options.get("image_size", parameters["image_size"].default)
            whole_number("image_size", size)
            described = json.dumps(
                [dict(self.options), dict(self.model)], sort_keys=True, default=str
            )
            _check_model(self.recipe, self.modalities, size, described)

    def to_json(self) -> str:
        """The run as text, the same for the same run."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Run:
        """The run that :meth:`to_json` wrote."""
        return cls(**json.loads(text))

    @property
    def complete(self) -> dict[str, dict[str, Any]]:
        """``options``, ``data_options``, ``model`` and ``training`` with the defaults filled in."""
        usual = self._defaults()
        options = recipes.build(self.recipe, self.modalities, **self.options).options
        return {
            group: {**usual[group], **(options if group == "options" else getattr(self, group))}
            for group in usual
        }

    def _defaults(self) -> dict[str, dict[str, Any]]:
        return {
            "options": dict(_usual_options(self.recipe, self.modalities)),
            "data_options": _defaults_of(datasets.DATASETS[self.data]),
            "model": {**_defaults_of(MultimodalVAE), "latent_dim": LATENT_DIM},
            "training": _defaults_of(TrainConfig),
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
        own = {
            name: values.pop(name, getattr(self, name))
            for name in ("recipe", "modalities", "data", "seed")
        }
        groups: dict[str, Any] = {
            group: dict(getattr(self, group))
            for group in ("options", "data_options", "model", "training")
        }
        of_data = data_option_names(own["data"], {**self.data_options, **values})
        for name, value in values.items():
            groups[_group_of(name, own["recipe"], own["data"], of_data)][name] = value
        return Run(**own, **groups)


def _group_of(name: str, recipe: str, data: str, of_data: Sequence[str]) -> str:
    groups = {
        "options": recipes.option_names(recipe),
        "model": MODEL_OPTIONS,
        "training": TRAINING_OPTIONS,
        "data_options": [option for option in of_data if option != "seed"],
    }
    for group, names in groups.items():
        if name in names:
            return group
    raise ValueError(
        f"nothing of a run is called {name!r}: neither the run (recipe, modalities, data, seed), "
        f"nor recipe {recipe} ({', '.join(groups['options'])}), nor model, training or data {data}"
    )


def data_option_names(data: str, options: Mapping[str, Any]) -> list[str]:
    """The options of a data set that are part of a run; what depends on the machine is not."""
    parameters = inspect.signature(datasets.DATASETS[data]).parameters
    names = [
        name
        for name, parameter in parameters.items()
        if name not in OF_THE_MACHINE and parameter.kind is not parameter.VAR_KEYWORD
    ]
    if "of" in parameters:  # made of another data set, whose options it takes too
        source = options.get("of", parameters["of"].default)
        if source in datasets.DATASETS and source != data:
            names += [name for name in data_option_names(source, {}) if name not in names]
    return names


@lru_cache
def _check_model(recipe: str, modalities: int, size: int, described: str) -> None:
    """Raise what a worker would: the model is made, without its numbers."""
    options, model = json.loads(described)
    built = recipes.build(recipe, modalities, **options)
    with torch.device("meta"):
        MultimodalVAE(
            built,
            [(3, size, size)] * modalities,
            **{"latent_dim": LATENT_DIM, **model},
        )


@lru_cache
def _usual_options(recipe: str, modalities: int) -> Mapping[str, Any]:
    return recipes.build(recipe, modalities).options


@lru_cache
def _defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a function that are plain data."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in (*OF_THE_MACHINE, "names", *(("seed",) if function is TrainConfig else ()))
        and (parameter.default is None or isinstance(parameter.default, (bool, int, float, str)))
    }


def _unusual(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not the default; a whole number where a default is not one is a float."""
    result = {}
    for name, value in values.items():
        if name in usual and type(usual[name]) is float and type(value) is int:
            value = float(value)
        if name not in usual or value != usual[name]:
            result[name] = value
    return result


@arguments
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
