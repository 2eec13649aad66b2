"""Every consumer of data, on every kind of data.

A view is uint8 or float32 and may be absent; beside pictures stand vectors and one-hot texts. A
consumer says the same of the same data, never looks at what stands where nothing is, or refuses
in words of its own: a ``ValueError`` that says what is wrong. Nothing else may come out.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from mmvae_core import metrics, objectives, recipes
from mmvae_core.data import MultimodalDataset, hide_at_random, hide_modality
from mmvae_core.data.dataset import Batch
from mmvae_core.metrics import Measurement, Settings, train_classifiers
from mmvae_core.metrics.estimate import Estimate
from mmvae_core.model import MultimodalVAE
from mmvae_core.pictures import training as pictures
from mmvae_core.pictures.style import Still
from mmvae_core.training import History, Progress, TrainConfig, fit

pytestmark = pytest.mark.usefixtures("as_user")

COUNT, SIDE, WORDS = 60, 8, 5
NAMES = {"pictures": ("left", "right", "grey"), "mixed": ("left", "vector", "text")}
SHAPES = {
    "pictures": ((3, SIDE, SIDE), (3, SIDE, SIDE), (1, SIDE, SIDE)),
    "mixed": ((3, SIDE, SIDE), (4,), (2, WORDS)),
}
FEW = Settings(draws=2, likelihood_samples=8, generated=20, probe_latents=30,
               imputation_samples=12, imputation_draws=2)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Data, and what is needed to look at them."""

    train: MultimodalDataset
    test: MultimodalDataset
    whole: MultimodalDataset  # the samples of ``gaps``, nothing hidden
    gaps: MultimodalDataset
    model: MultimodalVAE
    clustered: MultimodalVAE  # with a mixture prior
    single: MultimodalVAE  # of the first modality
    judges: list[nn.Module]

    @property
    def batch(self) -> Batch:
        return self.test.batch(torch.arange(min(8, len(self.test))))

    @property
    def names(self) -> tuple[str, ...]:
        return self.test.names


@cache
def views(kind: str, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Views by name, pictures as bytes, and labels that they show."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.arange(COUNT) % 3
    result = {}
    for name, shape in zip(NAMES[kind], SHAPES[kind], strict=True):
        noise = torch.rand(COUNT, *shape, generator=draw)
        shown = (noise + label.view(-1, *[1] * len(shape))) / 3  # in [0, 1)
        if len(shape) == 3:
            shown = (255 * shown).to(torch.uint8)
        elif name == "text":
            words = (shown.mean(dim=-1) * WORDS).long()
            shown = torch.eye(WORDS)[words]
        result[name] = shown
    return result, label


def filled(view: Tensor, absent: Tensor, fill: str) -> Tensor:
    """The view with this at its absent places."""
    view = view.clone()
    if fill == "noise":
        noise = torch.rand(view.shape, generator=torch.Generator().manual_seed(9))
        values = (255 * noise).to(torch.uint8) if view.dtype == torch.uint8 else 1e6 * noise
        view[absent] = values[absent]
    elif fill:
        value = float(fill)
        whole = view.dtype == torch.uint8
        view[absent] = (0 if math.isnan(value) else int(value)) if whole else value
    return view


def dataset(kind: str, dtype: str, seed: int = 0, hidden: str = "", fill: str = "") -> Any:
    """``hidden``: nothing, ``"half"`` of the views, or a modality by its name."""
    x, label = views(kind, seed)
    values = [v / 255 if dtype == "floats" and v.dtype == torch.uint8 else v for v in x.values()]
    data = MultimodalDataset(x=tuple(values), label=label, names=tuple(x))
    if not hidden:
        return data
    gaps = hide_at_random(data, 0.5) if hidden == "half" else hide_modality(data, hidden, 1)
    absent = (~gaps.present).unbind(dim=1)
    return replace(gaps, x=tuple(map(filled, values, absent, [fill] * len(absent))))


@cache
def model_of(recipe: str, names: tuple[str, ...], shapes: tuple[Any, ...], **options: Any) -> Any:
    torch.manual_seed(len(names))
    return MultimodalVAE(
        recipes.build(recipe, len(names), **options), shapes, 2, names=names, networks="vector",
        likelihood=["categorical" if n == "text" else "laplace" for n in names], scale="bounded",
    ).eval()  # fmt: skip


@cache
def models(kind: str) -> dict[str, Any]:
    """Models, and judges of every modality: the library's own for pictures."""
    names, shapes = NAMES[kind], SHAPES[kind]
    torch.manual_seed(1)
    judges: list[nn.Module] = [
        nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 3)) for shape in shapes
    ]
    if kind == "pictures":
        judges = [*train_classifiers(dataset(kind, "bytes"), epochs=1)]
    return {
        "model": model_of("mopoe", names, shapes),
        "clustered": model_of("cmvae", names, shapes, private_dim=1, clusters=3),
        "single": model_of("vae", names[:1], shapes[:1]),
        "judges": judges,
    }


@cache
def case(
    kind: str = "pictures", dtype: str = "bytes", hidden: str = "", fill: str = "", count: int = 24
) -> Case:
    """Data of one kind; those of imputation have gaps in any case."""
    train = dataset(kind, dtype, 1, hidden, fill)
    some = slice(0, count)
    test = dataset(kind, dtype, 0, hidden, fill).subset(some)
    gaps = dataset(kind, dtype, 0, hidden or "half", fill).subset(some)
    if not (~gaps.present).any():  # so few samples that all is there
        gaps = dataset(kind, dtype, 0, NAMES[kind][0], fill).subset(some)
    whole = dataset(kind, dtype, 0).subset(some)
    return Case(train, test, whole, gaps, **models(kind))


def flat(x: Tensor) -> Tensor:
    """Features of a picture."""
    return x.flatten(1)[:, :6]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def trained(c: Case, data: MultimodalDataset, **options: Any) -> Any:
    """One epoch of a copy of the model; its history and its weights."""
    spec = dict(c.model.spec)
    torch.manual_seed(0)
    model = MultimodalVAE.from_spec(spec)
    config = TrainConfig(epochs=1, batch_size=min(8, len(data)))
    history = fit(model, data, config, show_progress=False, **options)
    return history.epochs, [*model.parameters()]


def pruned(c: Case) -> Any:
    """The prior is changed: it is put back."""
    kept = c.clustered.prior.kept
    before = kept.clone()
    try:
        return metrics.prune_clusters(c.clustered, c.test), kept.clone()
    finally:
        kept.copy_(before)


def lived(c: Case) -> Any:
    history = History(epochs=[], steps=[(1, 5.0), (2, 4.0)])
    return pictures.live_picture(Progress(c.model, history, 0, 2, 4, 4), c.batch)


def shown_in(figure: Figure) -> list[np.ndarray]:
    """The pictures in a figure."""
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def live_training(c: Case) -> Any:
    shown: list[Any] = []

    def png(figure: Figure, dpi: int) -> bytes:
        shown.extend(shown_in(figure))
        return b""

    with mock.patch.object(pictures, "small_png", png):  # painting takes longest, and is not it
        trained(c, c.test, callback=pictures.LiveTraining(c.batch))
    return shown


def gaps_of(c: Case, consumer: Callable[..., Any], *rest: Any, **options: Any) -> Any:
    return consumer(c.model, c.gaps, c.whole, *rest, draws=2, **options)


# --- the table ------------------------------------------------------------------------------------

Works = Callable[[Case], Any]
METRICS: dict[str, Works] = {
    "accuracies": lambda c: metrics.accuracies(c.judges, c.test),
    "assign_clusters": lambda c: metrics.assign_clusters(c.clustered, c.test),
    "prune_clusters": pruned,
    "average": lambda c: metrics.average(metrics.conditional_coherence(c.model, c.test, c.judges)),
    "conditional_coherence": lambda c: metrics.conditional_coherence(c.model, c.test, c.judges),
    "unconditional_coherence": lambda c: metrics.unconditional_coherence(
        c.model, c.judges, count=20
    ),
    "frechet_distance": lambda c: metrics.frechet_distance(c.model, c.test, flat, count=20),
    "quality_gap": lambda c: [
        metrics.quality_gap({3: c.model}, c.single, c.test, flat, given=given, count=20)
        for given in ("prior", "self")
    ],
    "imputation_error": lambda c: gaps_of(c, metrics.imputation_error),
    "imputation_log_likelihood": lambda c: gaps_of(c, metrics.imputation_log_likelihood),
    "imputation_coverage": lambda c: gaps_of(c, metrics.imputation_coverage, noise=0.1),
    "imputation_coherence": lambda c: metrics.imputation_coherence(
        c.model, c.gaps, c.whole, c.judges
    ),
    "imputed": lambda c: metrics.imputed(c.model, c.batch, draws=2),
    "reconstruction_error": lambda c: metrics.reconstruction_error(c.model, c.test),
    "joint_log_likelihood": lambda c: metrics.joint_log_likelihood(c.model, c.test, draws=2),
    "log_likelihoods": lambda c: metrics.log_likelihoods(c.model, c.test, draws=2),
    "linear_accuracy": lambda c: metrics.linear_accuracy(c.model, c.train, c.test, count=30),
    "evaluate": lambda c: metrics.evaluate(c.model, c.train, c.test, c.judges, draws=2),
    "measure": lambda c: metrics.measure(c.model, c.train, c.test, c.judges, FEW),
    "objective_weights": lambda c: metrics.objective_weights(c.model),
    "train_classifiers": lambda c: [
        [*judge.parameters()] for judge in train_classifiers(c.train, epochs=1)
    ],
}
MODEL: dict[str, Works] = {
    "loss": lambda c: [m.loss(c.batch, generator=seeded()) for m in (c.model, c.clustered)],
    "plan": lambda c: c.model.plan(c.batch).cond,
    "encode": lambda c: c.model.encode(c.batch),
    "experts": lambda c: c.model.experts(c.batch),
    "posterior": lambda c: vars(c.model.posterior(c.batch)),
    "posterior_of": lambda c: vars(c.model.posterior_of(c.model.experts(c.batch), c.batch)),
    "generate": lambda c: c.model.generate(c.batch, generator=seeded()),
}
PICTURES: dict[str, Works] = {
    "cross_generation": lambda c: pictures.cross_generation(c.model, c.batch),
    "cross_generation_rows": lambda c: pictures.cross_generation_rows(c.model, c.batch),
    "data_samples": lambda c: pictures.data_samples(c.batch, c.names),
    "latent_traversal": lambda c: pictures.latent_traversal(c.model, c.batch),
    "live_picture": lived,
    "LiveTraining": live_training,
    "subset_generation": lambda c: pictures.subset_generation(c.model, c.batch),
    "traversal_rows": lambda c: pictures.traversal_rows(c.model, c.batch),
}
OTHERS: dict[str, Works] = {
    "fit": lambda c: trained(c, c.test, valid=c.test),
    "evidence": lambda c: vars(objectives.evidence(c.model, c.batch, generator=seeded())),
    "log_weights": lambda c: vars(objectives.log_weights(c.clustered, c.batch, generator=seeded())),
}
CONSUMERS = {**METRICS, **MODEL, **PICTURES, **OTHERS}

# What refuses, and how; all else works.
Refusals = dict[str, str]
ALL_VIEWS = r"every modality present; \d+ of the \d+ lack (left|vector|right)"
LACKS = r"lacks a modality of subset .*subset=None"
COMPLETE: Refusals = {
    "average conditional_coherence linear_accuracy evaluate measure frechet_distance "
    "joint_log_likelihood log_likelihoods": ALL_VIEWS,
    "cross_generation cross_generation_rows subset_generation live_picture LiveTraining": LACKS,
}
NO_PICTURES: Refusals = {
    "frechet_distance": r"pictures \[C, H, W\]; vector has samples of shape \[4\]",
    "train_classifiers": r"pictures \[C, H, W\]; vector has samples of shape \[4\]",
    "imputation_coverage": "text has a OneHotCategorical likelihood.*imputation_log_likelihood",
    "cross_generation data_samples latent_traversal live_picture LiveTraining subset_generation":
        r"pictures \[N, C, H, W\].*got .*\[\d+, 4\]",
}  # fmt: skip
FEW_SAMPLES: Refusals = {"frechet_distance measure": "at least 4 .*samples; got [12]"}
NO_LABELS: Refusals = {
    "accuracies average conditional_coherence imputation_coherence linear_accuracy evaluate "
    "train_classifiers": r"needs? labels, which .* has not; .*label=",
}
ONE_CLASS: Refusals = {
    "linear_accuracy evaluate measure": r"samples of two classes; all \d+ are of class 1",
}
NOWHERE = {"accuracies train_classifiers quality_gap": "no sample has the modality left"}


def refusals(*parts: Refusals) -> dict[str, str]:
    """By consumer; the first that is given counts."""
    result: dict[str, str] = {}
    for part in parts:
        for names, message in part.items():
            result = dict.fromkeys(names.split(), message) | result
    assert not result.keys() - CONSUMERS.keys()
    return result


def numbers(result: Any) -> list[Any]:
    """All that was said, in a row: numbers, texts; of a picture what it shows."""
    if isinstance(result, Still):
        return numbers(shown_in(result.figure))
    if isinstance(result, (Tensor, np.ndarray)):
        values = np.asarray(torch.as_tensor(result).detach().double())
        return [values.tobytes(), float(values.sum())]  # the sum is finite if all of them are
    if isinstance(result, Mapping):
        return [v for key, value in result.items() for v in (str(key), *numbers(value))]
    if isinstance(result, (Estimate, Measurement)):  # the error of one sample is NaN, and may be
        return [str(v) if name == "stderr" else v for name, v in result._asdict().items()]
    if isinstance(result, (list, tuple)):
        return [value for part in result for value in numbers(part)]
    return [result]


def outcome(consumer: str, c: Case, refused: Mapping[str, str]) -> list[Any]:
    """What was said, every number finite; nothing, where it was refused as expected."""
    if message := refused.get(consumer):
        with pytest.raises(ValueError) as caught:
            CONSUMERS[consumer](c)
        assert re.search(message, str(caught.value)), caught.value
        return [str(caught.value)]
    said = numbers(CONSUMERS[consumer](c))
    assert said and all(math.isfinite(v) for v in said if isinstance(v, (int, float)))
    return said


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """A picture that was refused half-way leaves its figure."""
    yield
    plt.close("all")


every_consumer = pytest.mark.parametrize("consumer", CONSUMERS)


def test_no_consumer_is_forgotten() -> None:
    """Every public function that takes data, a batch, a model or judges stands in the table."""
    takers = {"data", "train", "test", "batch", "complete", "model", "classifiers", "progress"}

    def taking(names: Iterable[str], of: Any) -> set[str]:
        public = {n: getattr(of, n) for n in names if not n.startswith("_")}
        signed = {n: inspect.signature(f) for n, f in public.items() if callable(f)}
        return {name for name, sign in signed.items() if takers & sign.parameters.keys()}

    own = {n for n in vars(MultimodalVAE) if n != "from_spec"}
    assert taking(metrics.__all__, metrics) | {"average"} == METRICS.keys()
    assert taking(own, MultimodalVAE) == MODEL.keys()
    assert taking(pictures.__all__, pictures) - {"joint_samples"} == PICTURES.keys()
    assert taking(objectives.__all__, objectives) | {"fit"} == OTHERS.keys()


@every_consumer
def test_bytes_and_floats_are_the_same_pictures(consumer: str) -> None:
    said = outcome(consumer, case(dtype="bytes"), {})
    assert said == outcome(consumer, case(dtype="floats"), {})


@every_consumer
def test_nothing_is_seen_where_nothing_is(consumer: str) -> None:
    """Half of the views hidden, and something else at their places each time."""
    refused = refusals(COMPLETE)
    said = outcome(consumer, case(hidden="half", fill="0"), refused)
    for dtype, fill in (
        ("bytes", "255"),
        ("bytes", "noise"),
        ("floats", "nan"),
        ("floats", "noise"),
    ):
        assert said == outcome(consumer, case(dtype=dtype, hidden="half", fill=fill), refused), fill


@every_consumer
def test_vectors_and_texts_beside_pictures(consumer: str) -> None:
    outcome(consumer, case("mixed"), refusals(NO_PICTURES))


@every_consumer
def test_vectors_and_texts_may_be_absent(consumer: str) -> None:
    refused = refusals(COMPLETE, NO_PICTURES)
    said = outcome(consumer, case("mixed", hidden="half", fill="nan"), refused)
    assert said == outcome(consumer, case("mixed", hidden="half", fill="noise"), refused)


@pytest.mark.parametrize("count", [1, 2])
@every_consumer
def test_so_few_samples(consumer: str, count: int) -> None:
    few = refusals(
        {"quality_gap": "at least 2 .*samples; got 1"} if count == 1 else {}, FEW_SAMPLES
    )
    outcome(consumer, case(count=count), few)


@every_consumer
def test_labels_of_one_class(consumer: str) -> None:
    outcome(consumer, labelled(torch.ones(COUNT, dtype=torch.long)), refusals(ONE_CLASS))


@every_consumer
def test_no_labels(consumer: str) -> None:
    outcome(consumer, labelled(None), refusals(NO_LABELS))


@every_consumer
def test_a_view_hidden_everywhere(consumer: str) -> None:
    refused = refusals(NOWHERE, COMPLETE)
    said = outcome(consumer, case(hidden="left", fill="noise"), refused)
    assert said == outcome(consumer, case(dtype="floats", hidden="left", fill="nan"), refused)


def labelled(label: Tensor | None) -> Case:
    c = case()
    parts = {n: getattr(c, n) for n in ("train", "test", "whole", "gaps")}
    cut = {n: None if label is None else label[: len(d)] for n, d in parts.items()}
    return replace(c, **{n: replace(d, label=cut[n]) for n, d in parts.items()})


# --- models and judges of something else ---------------------------------------------------------

WITHOUT_DATA = {"unconditional_coherence", "objective_weights"}
ONLY_JUDGES = {"accuracies", "train_classifiers", "data_samples"}
WITH_MODEL = [n for n in CONSUMERS if n not in WITHOUT_DATA | ONLY_JUDGES]
OF_BATCHES = {*MODEL, *PICTURES, "imputed", "evidence", "log_weights"} - {"plan"}


def other(c: Case, names: tuple[str, ...], shapes: tuple[Any, ...]) -> Case:
    """The case with models of these modalities."""
    return replace(
        c,
        model=model_of("mopoe", names, shapes),
        clustered=model_of("cmvae", names, shapes, private_dim=1, clusters=3),
        single=model_of("vae", names[:1], shapes[:1]),
        judges=c.judges[: len(names)],
    )


@pytest.mark.parametrize("consumer", [n for n in WITH_MODEL if n != "plan"])
def test_a_model_of_other_shapes_is_refused(consumer: str) -> None:
    shapes = ((3, SIDE, SIDE),) * 3
    refused = dict.fromkeys(CONSUMERS, r"3, 8, 8.*1, 8, 8")
    outcome(consumer, other(case(), NAMES["pictures"], shapes), refused)


@pytest.mark.parametrize("consumer", [n for n in WITH_MODEL if n not in {*OF_BATCHES, "plan"}])
def test_a_model_of_other_modalities_is_refused(consumer: str) -> None:
    """Of other names, and of fewer."""
    refused = dict.fromkeys(CONSUMERS, r"up.*left|left.*up")
    outcome(consumer, other(case(), ("up", "down", "out"), SHAPES["pictures"]), refused)
    refused = dict.fromkeys(CONSUMERS, r"left.*right.*grey")
    if consumer != "quality_gap":  # takes what it needs
        outcome(consumer, other(case(), NAMES["pictures"][:2], SHAPES["pictures"][:2]), refused)


@pytest.mark.parametrize("consumer", sorted(OF_BATCHES - {"LiveTraining", "data_samples"}))
def test_a_batch_of_fewer_modalities_is_refused(consumer: str) -> None:
    refused = dict.fromkeys(CONSUMERS, r"3, 8, 8.*1, 8, 8")
    outcome(consumer, other(case(), NAMES["pictures"][:2], SHAPES["pictures"][:2]), refused)


@pytest.mark.parametrize(
    "consumer",
    ["accuracies", "average", "conditional_coherence", "unconditional_coherence", "evaluate",
     "measure", "imputation_coherence"],
)  # fmt: skip
def test_judges_in_another_order_are_refused(consumer: str) -> None:
    c = case()
    refused = dict.fromkeys(CONSUMERS, r"pictures with 1 channel.*got .*3, 8, 8.*order")
    outcome(consumer, replace(c, judges=c.judges[::-1]), refused)
    mixed = case("mixed")
    refused = dict.fromkeys(CONSUMERS, r"pictures with 3 channel.*got .*, 4\].*order")
    outcome(consumer, replace(mixed, judges=[c.judges[0]] * 3), refused)


# --- values ---------------------------------------------------------------------------------------


def test_what_is_absent_does_not_count() -> None:
    """Judges and Fréchet distances see the samples that have a view, and no zeros for the rest."""
    c, gaps = case(count=COUNT), case(hidden="half", count=COUNT)
    shares = metrics.accuracies(c.judges, gaps.test)
    for m, name in enumerate(c.names):
        own = c.test.subset(gaps.test.present[:, m].nonzero().flatten()).modalities([name])
        assert [shares[m]] == metrics.accuracies([c.judges[m]], own)
    own = c.test.subset(gaps.test.present[:, 0].nonzero().flatten())
    for given in ("prior", "self"):
        several = {"given": given, "count": 20}
        of_all, of_some, expected = (
            metrics.quality_gap({3: c.model}, c.single, data, flat, **several)
            for data in (c.test, gaps.test, own)
        )
        assert of_some == expected != of_all
        assert of_some[3].value != 0


def test_what_is_there_stays_and_is_counted() -> None:
    c = case(hidden="half")
    errors = metrics.reconstruction_error(c.model, c.test)
    assert [errors[n].num_samples for n in c.names] == c.test.present.sum(dim=0).tolist()
    made = metrics.imputed(c.model, c.batch)
    for name, view, present in zip(c.names, c.batch.x, c.batch.present.T, strict=True):
        assert torch.equal(made[name][present], view[present])
        assert made[name].shape == view.shape and made[name][~present].any()


def test_a_proposal_that_all_have_is_not_enough() -> None:
    """The joint likelihood and the distance need the views that are not given, too."""
    c, left = case(hidden="right"), torch.tensor([[True, False, False]])
    metrics.reconstruction_error(c.model, c.test, left[0])  # needs no others
    for call in (
        lambda: metrics.log_likelihoods(c.model, c.test, draws=2, proposals=left),
        lambda: metrics.frechet_distance(c.model, c.test, flat, given=left, count=20),
    ):
        with pytest.raises(ValueError, match="24 of the 24 lack right"):
            call()


@pytest.mark.parametrize("dtype", ["bytes", "floats"])
def test_a_batch_by_hand_is_that_of_the_data(dtype: str) -> None:
    data = case(dtype=dtype, hidden="half", fill="noise").test
    batch, by_hand = data.batch(torch.arange(len(data))), Batch(data.x, data.present, data.label)
    for view, other_view, present in zip(batch.x, by_hand.x, data.present.T, strict=True):
        assert view.dtype == torch.float32 and torch.equal(view, other_view)
        assert not view[~present].any() and 0 < view[present].max() <= 1
    assert not by_hand.complete


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Batch((torch.zeros(4, 3).byte(),), torch.ones(4, 1) > 0),
         r"x\[0\] must hold floats, or a picture .* got torch.uint8 of shape \[4, 3\]"),
        (lambda: Batch((torch.zeros(4, 3),), torch.ones(4, 2) > 0), r"present .* \[B, 1\]"),
        (lambda: Batch((torch.zeros(4, 3),), torch.ones(5, 1) > 0), r"\[5, 1\] and views of \[4\]"),
        (lambda: Batch((torch.zeros(4, 3),), torch.ones(4, 1)), "bool .* got torch.float32"),
        (lambda: pictures.mosaic([torch.zeros(2, 2, 4, 4)]), r"C 1 or 3\); got \[\[2, 2, 4, 4"),
        (lambda: pictures.mosaic([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 8, 8)]), "one size"),
        (lambda: metrics.quality_gap({3: case().model}, case().single, case().test, flat, count=1),
         "count must be at least 2, .* got 1"),
        (lambda: metrics.frechet_distance(case().model, case().test, flat, count=0),
         "count must be a whole number, at least 1; got 0"),
    ],
)  # fmt: skip
def test_what_is_no_view_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("consumer", [n for n in METRICS if n.startswith("imputation")])
def test_other_complete_data_are_refused(consumer: str) -> None:
    """Fewer channels, which would be spread over all, and modalities in another order."""
    c = case()
    grey = [view[:, :1] for view in c.whole.x]
    turned = [c.whole.x[m] for m in (1, 0, 2)]
    refused = dict.fromkeys(CONSUMERS, r"left \[3, 8, 8\].*data are (left \[1|right)")
    for x, names in ((grey, c.names), (turned, ("right", "left", "grey"))):
        whole = MultimodalDataset(x=tuple(x), names=names, label=c.whole.label)
        outcome(consumer, replace(c, whole=whole), refused)
