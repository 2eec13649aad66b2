"""Bad calls of public functions: every argument of every function in turn, by what it should be."""

from __future__ import annotations

import copy
import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz import Fault
from torch import Tensor

from mmvae_core import (
    aggregation,
    bounds,
    checkpoints,
    data,
    distributions,
    exact_bounds,
    geometry,
    learned,
    metrics,
    recipes,
    subsets,
    sweeps,
    training,
)
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.data.missing import hide_at_random, hide_blocks, hide_modality, kept_shares
from mmvae_core.data.mnist import read_idx
from mmvae_core.model import MultimodalVAE
from mmvae_core.tableau import Tableau

# --- what an argument may be, and what it may not -------------------------------------------------

Bad = Callable[[np.random.Generator, Any], Any]
NAN, INF = float("nan"), float("inf")


def one(*values: Any) -> Bad:
    return lambda rng, good: values[rng.integers(len(values))]


def _spoiled(rng: np.random.Generator, good: Tensor) -> Any:
    """A tensor that is none, or of another kind or shape, or holds what is no number."""
    way = rng.integers(7)
    if way == 0:
        return [None, "tensor", 3, {}][rng.integers(4)]
    if way == 1:
        return good.tolist()
    if way == 2:
        return good[None]
    if way == 3 and good.ndim and good.dtype != torch.bool:  # a family of no subsets is one
        return good.movedim(0, -1)[..., :0].movedim(-1, 0)  # empty
    if way == 4:
        return good.to(torch.complex64)
    bad = good.clone().float()
    bad.view(-1)[rng.integers(bad.numel())] = [NAN, INF, -INF][rng.integers(3)]
    return bad


def _misspelt(rng: np.random.Generator, good: str) -> Any:
    at = int(rng.integers(len(good) + 1))
    return [good[:at] + "q" + good[at:], good.upper() + "!", "", None, 3, [good]][rng.integers(6)]


COUNT = one(0, -1, -7, 1.5, NAN, "3", [2], {}, True, INF)
NATURAL = one(-1, -40, 0.5, NAN, "0", [0], {}, False, INF)
NUMBER = one("1.0", [0.5], {}, NAN, True, b"1", object)
POSITIVE = one(0, -0.5, NAN, INF, "1", [1.0], True)
SHARE = one(-0.1, 1.5, NAN, INF, "0.5", [0.5], True)
FLAG = one("yes", 2, 0.0, [], NAN)
TENSOR: Bad = _spoiled
WORD: Bad = _misspelt
PLACE = one("", 3, 1.5, ["a"], "/no/such/place", "/dev/null/x")
WRITE = one("", 3, 1.5, ["a"], "/dev/null/x")
MODEL = one(None, "model", 3, {}, torch.nn.Linear(2, 2))
DATA = one(None, "data", 3, {}, [torch.zeros(4, 1, 2, 2)], torch.zeros(4, 1, 2, 2))
LIST = one("ab", 3, NAN, {1: 2}, [object()], [None])
CALLABLES = one("ab", 3, None, [3], [None])
RECIPE = one(None, "code_vae", 3, {})

# fmt: off
# --- good calls -----------------------------------------------------------------------------------


@cache
def _set(count: int = 24) -> MultimodalDataset:
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (2, count, 1, 8, 8), dtype=torch.uint8, generator=rng)
    return MultimodalDataset(x=tuple(x), label=torch.arange(count) % 3)


@cache
def _model(name: str = "code_vae") -> MultimodalVAE:
    torch.manual_seed(0)
    return MultimodalVAE(recipes.build(name, 2), [(1, 8, 8)] * 2, 2)


@cache
def _alone() -> MultimodalVAE:
    return MultimodalVAE(recipes.vae(1), [(1, 8, 8)], 2, names=["m0"])


@cache
def _judges() -> list[torch.nn.Module]:
    return metrics.train_classifiers(_set(), epochs=1)


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp())
    checkpoints.save_checkpoint(folder / "model.pt", _model())
    return folder


def _experts(*shape: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(3, *shape, generator=rng), torch.rand(3, *shape, generator=rng) * 0.8 + 0.1


Call = tuple[Callable[..., Any], dict[str, Any], dict[str, Bad]]


def calls() -> Iterator[Call]:
    """A function, the arguments of a call that works, and what may be wrong with each."""
    loc, scale = _experts(4, 2)
    rule = {"loc": TENSOR, "scale": TENSOR, "cond": TENSOR}
    of = {"loc": loc, "scale": scale, "cond": subsets.powerset(3)}
    for name in ("poe", "poe_prior_once", "code_shared_prior"):
        yield getattr(aggregation, name), of, rule
    yield aggregation.code, {**of, "rho": 0.3}, {**rule, "rho": one(1.0, -0.5, NAN, INF, 7)}
    corr = torch.full((3, 3), 0.2).fill_diagonal_(1.0)
    yield aggregation.code, {**of, "corr": corr}, {"corr": TENSOR}
    for name in ("reverse_kl", "forward_kl", "wasserstein"):
        weights = {**of, "weights": torch.tensor([1.0, 2.0, 3.0])}
        yield getattr(aggregation, name), weights, {**rule, "weights": one([-1, 1, 1], [1.0], NAN)}
    yield geometry.fisher_rao, {**of, "max_steps": 9}, {**rule, "max_steps": COUNT}
    four = dict(zip(("loc_a", "scale_a", "loc_b", "scale_b"), (*_experts(2), *_experts(2)),
                    strict=True))
    negative: Bad = lambda rng, good: -good  # noqa: E731
    for name in ("kl", "wasserstein_distance", "fisher_rao_distance"):
        bad = {key: TENSOR for key in four}
        yield getattr(geometry, name), four, bad
        yield getattr(geometry, name), four, {"scale_a": negative, "scale_b": negative}
    ends = {"a": (torch.zeros(()), torch.ones(())), "b": (torch.ones(()), torch.ones(()))}
    path = {"kind": "fisher_rao", **ends, "t": torch.tensor(0.5)}
    yield geometry.path, path, {"kind": WORD, "a": LIST, "t": one(torch.tensor(1.5), None, "x")}
    full = {"loc": torch.randn(2, 2), "cov": torch.eye(2).expand(2, 2, 2)}
    for name in ("full_reverse_kl", "full_forward_kl"):
        yield getattr(geometry, name), full, {"loc": TENSOR, "cov": TENSOR}
    yield distributions.mixture_of_experts, dict(zip(("loc", "scale"), _experts(2), strict=True)), {
        "loc": TENSOR, "scale": TENSOR}
    yield distributions.raw_scale, {"name": "bounded", "sigma": 0.5}, {"name": WORD, "sigma": SHARE}
    yield bounds.optimal_weights, {"subset_elbos": torch.randn(3), "entropy_scale": 1.0}, {
        "subset_elbos": TENSOR, "entropy_scale": POSITIVE}
    kl = dict(zip(("loc", "scale", "ref_loc", "ref_scale"), (*_experts(4, 2), *_experts(4, 2)),
                  strict=True))
    yield bounds.gaussian_kl, kl, {"scale": negative, "ref_scale": negative}

    yield subsets.powerset, {"num_modalities": 3}, {"num_modalities": COUNT}
    yield subsets.full, {"num_modalities": 3}, {"num_modalities": COUNT}
    yield (
        subsets.of_size,
        {"num_modalities": 3, "size": 2},
        {"num_modalities": COUNT, "size": COUNT},
    )
    yield subsets.mask, {"members": ["a"], "names": ["a", "b"]}, {"members": LIST, "names": LIST}

    options: dict[str, dict[str, Bad]] = {
        "code_vae": {"rho": one(1.0, NAN, "learnt", [0.1], {}), "corr": one("x", [[1]], NAN, 3),
                     "weights": one("eqal", [1, 2], [NAN] * 7, 3), "entropy_scale": POSITIVE},
        "mvae": {"random_subsets": NATURAL}, "mopoe": {"aggregation": WORD, "prior_expert": FLAG},
        "mvtcae": {"alpha": SHARE}, "mmvm": {"alpha": SHARE, "kl": WORD, "mixture": WORD,
                                             "anneal_epochs": one(-1.0, NAN, INF, "1")},
        "mmvae": {"bound": WORD, "latent": WORD, "tight": FLAG},
        "mmvae_plus": {"private_dim": COUNT, "bound": WORD, "latent": WORD},
        "cmvae": {"clusters": COUNT, "private_dim": COUNT, "bound": WORD},
        "permutation_invariant": {"aggregation": WORD, "bound": WORD, "hidden": COUNT},
        "vae": {}, "wb_vae": {}, "mwb_vae": {}, "mmjsd": {},
    }
    for name, bad in options.items():
        make = getattr(recipes, name)
        usual = {p.name: p.default for p in inspect.signature(make).parameters.values()
                 if p.default is not p.empty}
        yield make, {**usual, "num_modalities": 3}, {"num_modalities": COUNT, **bad}
    build = {"name": "code_vae", "num_modalities": 3}
    yield recipes.build, build, {"name": WORD, "num_modalities": COUNT}
    for make in (learned.SumPooling, learned.SelfAttention):
        yield make, {"latent_dim": 2, "hidden": 8}, {"latent_dim": COUNT, "hidden": COUNT}
    yield learned.LearnedCode, {"num_experts": 3, "rho": 0.1}, {
        "num_experts": COUNT, "rho": one(1.0, -0.5, NAN, "x")}

    tableau = recipes.mopoe(2).tableau
    parts = {key: getattr(tableau, key) for key in ("cond", "recon", "ref", "kl")}
    yield Tableau, parts, {key: TENSOR for key in parts}
    vae = {"recipe": recipes.mopoe(2), "shapes": [(1, 8, 8)] * 2, "latent_dim": 2,
           "names": ["a", "b"], "networks": "small", "likelihood": "laplace",
           "likelihood_scale": 0.75, "scale": "bounded", "initial_scale": 0.5,
           "modality_weights": [1.0, 2.0]}
    yield MultimodalVAE, vae, {
        "recipe": RECIPE, "shapes": LIST, "latent_dim": COUNT, "names": LIST, "networks": WORD,
        "likelihood": WORD, "likelihood_scale": POSITIVE, "scale": WORD, "initial_scale": SHARE,
        "modality_weights": LIST,
    }
    views = {"x": _set().x, "label": _set().label, "names": ["a", "b"]}
    yield MultimodalDataset, views, {
        "x": one(None, 3, "ab", torch.zeros(2, 3), [torch.zeros(2), None]),
        "label": one(3, "ab", [1, 2], torch.zeros(24), -torch.ones(24).long()),
        "names": one("ab", ["a", "a"], ["a", "x+y"], ["a", "../b"], [1, 2], ["prior", "b"], 3),
    }
    config = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "beta": 1.0, "warmup_epochs": 1,
              "samples": 1, "subset_samples": 2, "seed": 0, "mixed_precision": False,
              "checkpoint_seconds": 60}
    yield training.TrainConfig, config, {
        "epochs": COUNT, "batch_size": COUNT, "learning_rate": POSITIVE, "beta": POSITIVE,
        "warmup_epochs": one(-1, NAN, INF, "1", True), "samples": COUNT, "subset_samples": COUNT,
        "seed": NATURAL, "mixed_precision": FLAG, "checkpoint_seconds": one(-1, NAN, INF, "1"),
    }
    short = training.TrainConfig(epochs=1, batch_size=8)
    yield training.fit, {"model": copy.deepcopy(_model()), "data": _set(), "config": short,
                         "show_progress": False}, {
        "model": MODEL, "data": DATA, "config": one(None, {}, 3), "valid": one("x", 3, {}),
        "folder": WRITE, "show_progress": FLAG}
    yield checkpoints.save_checkpoint, {"path": _folder() / "m.pt", "model": _model()}, {
        "path": WRITE, "model": MODEL}
    device = one("cuda:99", "gpu", "", 3)
    for load in (checkpoints.load_model, checkpoints.load_checkpoint):
        yield (
            load,
            {"path": _folder() / "model.pt", "device": "cpu"},
            {"path": PLACE, "device": device},
        )

    yield data.load, {"name": "digits", "modalities": 2, "train_size": 8, "test_size": 4}, {
        "name": WORD, "modalities": COUNT, "train_size": COUNT, "test_size": COUNT, "seed": NATURAL,
        "image_size": COUNT, "max_shift": NATURAL}
    yield data.load, {"name": "polymnist"}, {"root": PLACE, "modalities": COUNT}
    yield read_idx, {"path": _folder() / "model.pt"}, {"path": PLACE}
    for hide, good, bad in (
        (hide_at_random, {"rate": 0.3}, {"rate": one(-0.1, 0.9, NAN, "x", 1.0)}),
        (hide_modality, {"modality": "m1", "share": 0.5}, {"modality": one("m7", 5, -1, 1.0, None),
                                                         "share": SHARE}),
        (hide_blocks, {"patterns": [["m0"], ["m1"]]},
         {"patterns": one([], [[]], "ab", [["m9"]], 3)}),
    ):
        yield hide, {"data": _set(), **good, "seed": 0}, {"data": DATA, **bad, "seed": NATURAL}
    yield kept_shares, {"num_modalities": 3, "rate": 0.2}, {
        "num_modalities": COUNT, "rate": one(-0.1, 0.9, NAN, "x")}

    yield from _metrics()

    world = exact_bounds.noisy_views([1.0, 2.0])
    x = exact_bounds.balanced_points(world)
    at = {"world": world, "x": x, "recipe": recipes.mopoe(2)}
    yield exact_bounds.exact_objective, at, {
        "world": one(None, 3, "w"), "x": one(None, 3, [], "x"), "recipe": RECIPE,
        "beta": one(NAN, "1", [1])}
    for gap in (exact_bounds.exact_gap, exact_bounds.least_gap):
        yield gap, {"num_modalities": 4, "noise": 1.0, "size": 2}, {
            "num_modalities": COUNT, "noise": POSITIVE,
            "size": one(0, 5, 1.5, NAN, "2")}

    run = {"recipe": "mopoe", "modalities": 2, "data": "digits", "seed": 0, "options": {},
           "model": {"latent_dim": 2}, "training": {"epochs": 1}}
    yield sweeps.Run, run, {
        "recipe": WORD, "modalities": COUNT, "data": WORD, "seed": NATURAL,
        "options": one({"rh": 1}, "x", 3, {"aggregation": "pow"}),
        "model": one({"latent_dim": 0}, {"networks": "smal"}, {"x": 1}, "x", {"scale": 3}),
        "training": one({"epochs": 0}, {"beta": NAN}, {"x": 1}, 3, {"mixed_precision": "no"}),
        "data_options": one({"train_size": -1}, {"x": 1}, {"image_size": 1.5}, 3),
    }
    some = [sweeps.Run(**run)]
    yield (
        sweeps.remaining,
        {"runs": some, "folder": _folder()},
        {
        "runs": LIST, "folder": one("", 3, 1.5, ["a"])},
    )
    yield sweeps.sweep, {"runs": some, "folder": Path(tempfile.mkdtemp()), "workers": 1}, {
        "folder": WRITE, "workers": COUNT, "threads": COUNT,
        "settings": one({}, 3, "x"), "show_progress": FLAG,
        "client": one(3, "tcp://", "nowhere", [1]), "device": one("gpu", "", 3),
        "runs": one([], "ab", 3, [None])}
    yield sweeps.read, {"source": _folder()}, {"source": PLACE}
    yield sweeps.combine, {"source": _folder(), "target": _folder() / "t.parquet"}, {
        "source": PLACE, "target": WRITE}


def _metrics() -> Iterator[Call]:
    extractor = torch.nn.Flatten()
    model, views = {"model": _model()}, {"data": _set()}
    both = {"model": MODEL, "data": DATA}
    judges = {"classifiers": _judges()}
    yield metrics.train_classifiers, {**views, "epochs": 1}, {
        "data": DATA, "epochs": COUNT, "seed": NATURAL, "folder": WRITE}
    yield metrics.accuracies, {**judges, **views}, {"classifiers": CALLABLES, "data": DATA}
    yield metrics.average, {"coherence": {"a": {"b": metrics.Estimate(1.0, 0.1, 3)}}}, {
        "coherence": one({}, {"a": 3}, 3, "x", [1], None)}
    yield metrics.conditional_coherence, {**model, **views, **judges}, {
        **both, "classifiers": CALLABLES, "seed": NATURAL}
    yield metrics.unconditional_coherence, {**model, **judges, "count": 8}, {
        "model": MODEL, "classifiers": CALLABLES, "count": COUNT, "seed": NATURAL}
    yield metrics.joint_log_likelihood, {**model, **views, "draws": 2}, {
        **both, "draws": COUNT, "seed": NATURAL}
    yield metrics.log_likelihoods, {**model, **views, "draws": 2}, {**both, "draws": COUNT}
    yield metrics.linear_accuracy, {**model, "train": _set(), "test": _set(), "count": 20}, {
        "model": MODEL, "train": DATA, "test": DATA, "count": one(0, -1, 1.5, 25, NAN, "3"),
        "seed": NATURAL}
    hidden = hide_at_random(_set(), 0.3)
    gaps = {**model, "data": hidden, "complete": _set()}
    two = {"draws": 2}
    for name, more in (("imputation_error", two), ("imputation_log_likelihood", two),
                       ("imputation_coherence", judges), ("imputation_coverage", {})):
        bad = {"draws": COUNT} if more and "draws" in more else {}
        yield getattr(metrics, name), {**gaps, **more}, {
            **both, "complete": DATA, "seed": NATURAL, **bad}
    yield metrics.reconstruction_error, {**model, **views}, {**both, "seed": NATURAL}
    settings = metrics.Settings(draws=2, likelihood_samples=4, generated=8, probe_latents=8,
                                imputation_samples=4, imputation_draws=2)
    yield metrics.measure, {**model, "train": _set(), "test": _set(), **judges,
                           "settings": settings}, {
        "model": MODEL, "train": DATA, "test": DATA, "classifiers": one("ab", 3, [3], [None]),
        "settings": one({}, 3, "x")}
    yield metrics.Settings, {"draws": 2}, {"draws": COUNT, "generated": COUNT, "seed": NATURAL,
                                          "version": one(0, 99, "1", None)}
    z = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    for name in ("mcc", "weak_mcc"):
        yield (
            getattr(metrics, name),
            {"true": z, "estimated": z},
            {"true": TENSOR, "estimated": TENSOR},
        )
    cover = {"loc": z, "scale": z.abs() + 0.1, "truth": z}
    yield (
        metrics.coverage,
        cover,
        {**{key: TENSOR for key in cover}, "levels": one([0], [1.5], 3, "x")},
    )
    yield metrics.coverage_of_pit, {"pit": torch.rand(9)}, {
        "pit": one(None, "x", [0.5], torch.tensor([1.5]), torch.tensor([NAN]), torch.zeros(0)),
        "levels": one([0], [1.5], 3, "x")}
    yield metrics.gaussian_coverage, {"ratio": 1.0, "level": 0.5}, {
        "ratio": one(-1, NAN, "1"), "level": one(0, 1, 1.5, NAN, "x")}
    yield metrics.evaluate, {**model, "train": _set(), "test": _set(), **judges, "draws": 2,
                             "likelihood_samples": 4}, {
        "model": MODEL, "train": DATA, "test": DATA, "classifiers": CALLABLES, "draws": COUNT,
        "likelihood_samples": COUNT, "seed": NATURAL}
    yield metrics.inception, {"path": _folder() / "model.pt"}, {"path": PLACE}
    yield metrics.write_json, {"path": _folder() / "r.json", "content": {}}, {
        "path": WRITE, "content": one(3, "x", None, [1])}
    yield metrics.quality_gap, {
        "models": {2: _model()}, "vae": _alone(), "data": _set(), "given": "prior",
        "extractor": extractor,
        "count": 8}, {
        "models": one(3, "x", {}, {2: 3}), "vae": MODEL, "data": DATA, "extractor": one(3, None),
        "given": WORD, "count": COUNT, "seed": NATURAL}
    yield metrics.imputed, {**model, "batch": hidden.batch(torch.arange(4)), "draws": 2}, {
        "model": MODEL, "batch": one(None, 3, "x"), "draws": COUNT, "seed": NATURAL}
    moments = {"mean_a": torch.zeros(2), "cov_a": torch.eye(2), "mean_b": torch.zeros(2),
               "cov_b": torch.eye(2)}
    yield metrics.gaussian_frechet, moments, {key: TENSOR for key in moments}
    yield metrics.frechet_distance, {**model, **views, "extractors": extractor, "count": 8}, {
        **both, "extractors": one(3, "x", None, [3]), "count": COUNT, "seed": NATURAL}
    yield metrics.objective_weights, model, {"model": MODEL}
    yield metrics.predicted_weights, {"bounds": {"a": 1.0, "b": 2.0}, "gamma": 1.0}, {
        "bounds": one(3, "ab", {}, {"a": NAN}, {"a": "x"}), "gamma": POSITIVE}
    mixture = {"model": _model("cmvae"), **views}
    yield metrics.assign_clusters, mixture, {**both, "seed": NATURAL}
    yield metrics.prune_clusters, mixture, {**both, "seed": NATURAL, "beta": one(-1, NAN, "1")}


# fmt: on
def faults(seed: int, count: int) -> Iterator[Fault]:
    """``count`` bad calls, as many of each function as of any other; names may be misspelt too."""
    rng = np.random.default_rng(seed)
    known = [call for call in calls() if call[2]]
    for number in range(count):
        function, good, bad = known[number % len(known)]
        name = f"{function.__module__.removeprefix('mmvae_core.')}.{function.__name__}"
        open_ended = any(
            p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values()
        )
        if rng.random() < 0.05 and not open_ended:
            key = f"{next(iter(good))}{rng.integers(10)}"
            call = partial(function, **good, **{key: 1})
            yield Fault(name, f"{key}=1, which it has not", call, (key,))
            continue
        key = list(bad)[rng.integers(len(bad))]
        value = bad[key](rng, good.get(key))
        names = [key, repr(value), value] if isinstance(value, str) else [key]
        names += list(value) if isinstance(value, dict) else []
        right = partial(_same, partial(_called, function, good))
        call = partial(_called, function, {**good, key: value})
        yield Fault(name, f"{key}={_words(value)}", call, tuple(map(str, names)), right)


def _called(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    result = function(**given)
    return list(result) if isinstance(result, Iterator) else result


def _same(usual: Callable[[], Any], result: Any) -> bool:
    """Whether the argument was not wrong after all: what comes of it is what usually comes."""
    one, other = (x if isinstance(x, tuple) else (x,) for x in (result, usual()))
    return all(isinstance(part, Tensor) for part in one) and all(
        a.numel() == b.numel() and torch.equal(a.flatten(), b.flatten())
        for a, b in zip(one, other, strict=True)
    )


def _words(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return repr(value)[:60]
