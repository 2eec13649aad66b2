"""Calls with values that mean nothing are refused where they are made, and by name.

What was expected, what came, and how to mend it; nothing hangs. And what should work with a model
does: pickling, other precisions, a compiled model's checkpoint.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fuzz_calls
import numpy as np
import pytest
import torch
from fuzz import end_of, seed_of
from jaxtyping import Float
from models import noisy_pictures
from torch import Tensor

from mmvae_core import data, metrics, recipes, subsets, sweeps
from mmvae_core.arguments import ArgumentError, Count, Share, arguments
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.model import MultimodalVAE
from mmvae_core.sweeps import Run
from mmvae_core.training import TrainConfig, fit, load_model, save_checkpoint

pytestmark = pytest.mark.usefixtures("as_user")
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def pictures() -> MultimodalDataset:
    return noisy_pictures()


def make(name: str = "code_vae", shape: tuple[int, ...] = (3, 8, 8), **options: Any) -> Any:
    torch.manual_seed(0)
    options = {"networks": "dense", **options}
    return MultimodalVAE(recipes.build(name, 3), [shape] * 3, 4, **options)


CALLS: list[tuple[Callable[[], Any], str]] = [
    (lambda: TrainConfig(mixed_precision="no"), "mixed_precision must be True or False; got 'no'"),
    (lambda: TrainConfig(mixed_precision=1), "mixed_precision must be True or False; got 1"),
    (lambda: TrainConfig(seed=1.5), "seed must be a whole number, at least 0,.* got 1.5"),
    (lambda: TrainConfig(seed=None), "seed must be a whole number"),
    (lambda: TrainConfig(seed=-1), "seed must be a whole number, at least 0,.* got -1"),
    (lambda: TrainConfig(batch_size=True), "batch_size must be a whole number"),
    (lambda: TrainConfig(epochs="3"), "epochs must be a whole number, at least 1; got '3'"),
    (lambda: TrainConfig(epochs=[3]), r"epochs must be a whole number, at least 1; got \[3\]"),
    (lambda: TrainConfig(subset_samples=0), "subset_samples must be a whole number"),
    (lambda: TrainConfig(warmup_epochs=NAN), "warmup_epochs must be a finite number"),
    (lambda: TrainConfig(warmup_epochs=-1), "warmup_epochs must be a finite number, at least 0"),
    (lambda: TrainConfig(checkpoint_seconds=None), "checkpoint_seconds must be a finite number"),
    (lambda: TrainConfig(learning_rate="0.1"), "learning_rate must be a finite number, above 0"),
    (lambda: TrainConfig(beta=INF), "beta must be a finite number, above 0; got inf"),
    (lambda: TrainConfig(beta=0), "beta must be a finite number, above 0; got 0"),
    (lambda: make(modality_weights="111"), "modality_weights must be a sequence .*; got '111'"),
    (lambda: make(modality_weights=[1, NAN, 1]), "modality_weights must be a sequence"),
    (lambda: make(networks="smal"), "networks must be one of .*; got 'smal'"),
    (lambda: MultimodalVAE(recipes.mopoe(1), [(2,)], 2.5), "latent_dim must be a whole number"),
    (lambda: Run(model={"networks": "smal"}), "networks must be one of .*; got 'smal'"),
    (lambda: Run(model={"latent_dim": -3}), "latent_dim must be a whole number, at least 1"),
    (lambda: Run(model={"scale": "big"}), "scale must be one of .*; got 'big'"),
    (lambda: Run(data_options={"train_size": -1}), "train_size must be a whole number"),
    (lambda: Run(data_options={"test_size": 1.5}), "test_size must be a whole number"),
    (lambda: Run(data_options={"image_size": "16"}), "image_size must be a whole number"),
    (lambda: Run(modalities=[3]), r"modalities must be a whole number, at least 1; got \[3\]"),
    (lambda: Run(modalities=0), "modalities must be a whole number, at least 1; got 0"),
    (lambda: Run(seed=None), "seed must be a whole number"),
    (lambda: Run(training={"epochs": "3"}), "epochs must be a whole number"),
    (lambda: sweeps.sweep([Run()], "unused", workers=0), "workers must be a whole number"),
    (lambda: sweeps.sweep([Run()], "unused", threads=-2), "threads must be a whole number"),
    (lambda: subsets.powerset(40), "40 modalities have 2[*][*]40 - 1 subsets, .* at most 16"),
    (lambda: subsets.powerset(2.0), "num_modalities must be a whole number"),
    (lambda: recipes.build("mopoe", 30).tableau, "30 modalities have 2[*][*]30 - 1 subsets"),
    (lambda: recipes.build("code_vae", 17).tableau, "17 modalities have"),
    (lambda: data.load("digits", modalities=2, seed=1.5), "seed must be a whole number"),
    (lambda: data.load("digits", modalities=2, seed=None), "seed must be a whole number"),
    (lambda: data.load("digits", modalities=9), "modalities must be a whole number from 2 to 8"),
    (lambda: metrics.accuracies([], noisy_pictures(label=torch.arange(24) % 2)),
     "one classifier for each of .*; got 0"),
    (lambda: fit(torch.nn.DataParallel(make()), noisy_pictures(), TrainConfig()),
     "model must be a MultimodalVAE; got a DataParallel"),
    (lambda: fit(make(), list(noisy_pictures().x), TrainConfig()),
     "data must be a MultimodalDataset; got"),
]  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("call", "says"), CALLS, ids=range(len(CALLS)))
def test_what_means_nothing_is_refused_by_name(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_whole_numbers_of_numpy_are_whole_numbers(tmp_path: Path) -> None:
    two, three = np.int64(2), np.int32(3)
    model = MultimodalVAE(recipes.build("code_vae", three), [(3, 8, 8)] * 3, two, networks="dense")
    config = TrainConfig(epochs=two, batch_size=np.uint8(8), seed=np.int64(1))
    fit(model, noisy_pictures(), config, folder=tmp_path, show_progress=False)
    assert load_model(tmp_path / "last.pt").latent_dim == 2
    assert Run(modalities=two, seed=three).key == Run(modalities=2, seed=3).key


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_model_survives_pickling_and_copying(name: str, pictures: MultimodalDataset) -> None:
    model = make(name)
    batch = pictures.batch(torch.arange(6))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        torch.load(file, weights_only=False),
    ):
        losses = [
            one.loss(batch, generator=torch.Generator().manual_seed(1))[0] for one in (model, other)
        ]
        assert torch.equal(*losses)
        assert other.recipe.spec == model.recipe.spec


def test_a_recipe_that_was_changed_is_not_pickled_as_the_call_that_made_it() -> None:
    plain = recipes.mopoe(3)
    changed = replace(plain, name="mine")
    assert pickle.loads(pickle.dumps(changed)).name == "mine"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["code_vae", "mmvae_plus", "mmjsd"])
def test_a_model_trains_saves_and_loads_in_its_precision(
    name: str, dtype: torch.dtype, pictures: MultimodalDataset, tmp_path: Path
) -> None:
    model = make(name).to(dtype)
    config = TrainConfig(epochs=1, batch_size=8)
    fit(model, pictures, config, folder=tmp_path, show_progress=False)
    assert model.dtype == dtype
    back = load_model(tmp_path / "last.pt")
    for key, value in model.state_dict().items():
        assert back.state_dict()[key].dtype == value.dtype
        assert torch.equal(back.state_dict()[key], value)


def test_float64_by_default_trains(pictures: MultimodalDataset) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        loss, _ = make().loss(pictures.batch(torch.arange(4)))
    finally:
        torch.set_default_dtype(torch.float32)
    assert loss.dtype == torch.float64 and torch.isfinite(loss)


def test_a_compiled_model_is_stored_as_the_model_it_is(tmp_path: Path) -> None:
    model = make()
    path = save_checkpoint(tmp_path / "best.pt", torch.compile(model))
    for key, value in load_model(path).state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_a_model_is_measured_on_what_is_complete_of_its_training_data() -> None:
    test = noisy_pictures(label=torch.arange(24) % 2)
    train = replace(test, present=torch.rand(len(test), 3) < 0.8)
    train = replace(train, present=train.present | (torch.arange(3) == 0))
    settings = metrics.Settings(
        draws=2, likelihood_samples=4, generated=8, probe_latents=8, imputation_samples=4,
        imputation_draws=2,
    )  # fmt: skip
    judges = metrics.train_classifiers(train, epochs=1)
    rows = metrics.measure(make(), train, test, judges, settings)
    alone = metrics.measure(make(), data.complete_cases(train), test, judges, settings)
    assert len(rows) > 20 and repr(rows) == repr(alone)
    with pytest.raises(ValueError, match="at least 4 test samples; got 3"):
        metrics.measure(make(), train, test.subset(slice(0, 3)), [torch.nn.Identity()] * 3)


def test_bad_calls_of_every_public_function_end_clearly(request: pytest.FixtureRequest) -> None:
    """A few hundred; thousands with ``python tests/fuzz.py --files 0 --calls 5000 --seed N``."""
    ends = [
        (end_of(fault), fault)
        for fault in fuzz_calls.faults(seed_of(request.config), 300)
        if not fault.kind.startswith("sweeps.sweep")  # which starts processes
    ]
    bad = [(words, fault.kind, fault.what) for (end, words), fault in ends
           if end in ("silent", "hangs")]  # fmt: skip
    assert not bad
    unclear = [(words, fault.kind, fault.what) for (end, words), fault in ends if end == "unclear"]
    assert len(unclear) <= 0.05 * len(ends), unclear


def test_every_public_function_of_numbers_is_called_badly() -> None:
    """What ``arguments`` decorates is in the table of bad calls, or is named here."""
    called = {function.__wrapped__ if hasattr(function, "__wrapped__") else function
              for function, _, _ in fuzz_calls.calls()}  # fmt: skip
    left_out = {"mean_estimate", "provenance"}
    for name in metrics.__all__:
        value = getattr(metrics, name)
        if hasattr(value, "__wrapped__") and name not in left_out:
            assert value.__wrapped__ in called, name


@arguments
def _takes(
    count: Count = 1,
    share: Share = 0.5,
    place: str | Path = "x",
    rows: Float[Tensor, "N *shape"] | None = None,
    names: Sequence[str] = (),
    pair: tuple[int, float] = (1, 2.0),
    table: Mapping[str, float] | None = None,
    flag: bool = False,
) -> tuple[Any, ...]:
    return count, share, place, names, pair


def test_what_fits_comes_in_one_form() -> None:
    home = Path("~/x").expanduser()
    got = _takes(np.int64(3), np.float32(0.25), "~/x", torch.zeros(2, 3), ["a"], (1, 1))
    assert got == (3, 0.25, home, ["a"], (1, 1)) and type(got[0]) is int and type(got[1]) is float
    assert _takes(place=Path("~/x"))[2] == home


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 1.0}, "_takes: count must be a whole number, at least 1; got 1.0"),
        ({"share": 1.1}, "share must be a finite number, at least 0, at most 1; got 1.1"),
        ({"share": NAN}, "share must be a finite number.*got nan"),
        ({"place": ""}, "place must be a path; got ''"),
        ({"rows": [1.0]}, r"rows must be a float tensor \[N, \*shape\], or None; got \[1.0\]"),
        ({"rows": torch.zeros(2).int()}, "rows must be .*; got a tensor, int32 of shape"),
        ({"rows": torch.zeros(())}, r"rows must be .*; got a tensor, float32 of shape \[\]"),
        ({"rows": np.zeros(2)}, r"rows must be .*; got a NumPy array, float64 of shape \[2\]"),
        ({"names": "ab"}, "names must be a sequence of text each; got 'ab'"),
        ({"names": {"a": 1}}, "names must be a sequence"),
        ({"pair": (1,)}, "pair must be a sequence"),
        ({"pair": (1, "2")}, "pair must be a sequence"),
        ({"table": {"a": "b"}}, "table must be a mapping to a number, or None; got"),
        ({"flag": 1}, "flag must be True or False; got 1"),
        ({"flags": True}, "_takes cannot be called like this: .*'flags'"),
    ],
)
def test_what_does_not_fit_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        _takes(**given)
