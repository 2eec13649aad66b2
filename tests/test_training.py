"""Training: it learns, resumes bit for bit, survives being killed, and refuses what is wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mmvae_core import recipes, training
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.files import replacing
from mmvae_core.model import MultimodalVAE
from mmvae_core.training import TrainConfig, load_checkpoint, load_model, save_checkpoint

fit = partial(training.fit, show_progress=False)
CONFIG = TrainConfig(epochs=4, batch_size=8, checkpoint_seconds=0.0)  # a checkpoint every step


def pictures(count: int = 48) -> MultimodalDataset:
    """Two views of one of two brightnesses, with noise: there is something to learn."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(count) % 2
    noise = [torch.randint(0, 60, (count, 1, 4, 4), generator=generator) for _ in range(2)]
    views = tuple((label.view(-1, 1, 1, 1) * 150 + part).to(torch.uint8) for part in noise)
    return MultimodalDataset(x=views, label=label)


def make(name: str = "code_vae", **options) -> MultimodalVAE:
    torch.manual_seed(0)
    return MultimodalVAE(recipes.build(name, 2, **options), [(1, 4, 4)] * 2, 3, networks="dense")


def run(folder: Path | None, config: TrainConfig = CONFIG, **options) -> MultimodalVAE:
    model = make(**options)
    fit(model, pictures(), config, valid=pictures(16), folder=folder)
    return model


def assert_identical(one: MultimodalVAE, other: MultimodalVAE) -> None:
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.usefixtures("as_user")  # here and below: shapes are checked in shorter runs
def test_it_learns() -> None:
    model = make()
    data = pictures()
    config = TrainConfig(epochs=25, batch_size=8, beta=0.1, learning_rate=3e-3)
    history = fit(model, data, config, valid=data)
    losses = history.column("valid_loss")
    assert losses[-1] < losses[0] - 2
    x = data.batch(torch.arange(48))
    image = model.generate(x, torch.tensor([True, False]), sample=False)["m1"].mean((1, 2, 3))
    # Brightness crosses from m0 to m1: the two classes are 150/255 apart.
    assert image[x.label == 1].mean() - image[x.label == 0].mean() > 0.3


def test_mixed_precision_touches_the_networks_only() -> None:
    """bfloat16 has three digits: the loss moves by under 1 %; aggregation and KL stay float32."""
    batch = pictures().batch(torch.arange(48))
    losses = []
    for dtype in (None, torch.bfloat16):
        model = make(rho=0.9)
        model.network_dtype = dtype
        seen: list[torch.dtype] = []
        model.decoders[0].body[0].register_forward_hook(
            lambda _, __, out, seen=seen: seen.append(out.dtype)
        )
        loss, _ = model.loss(batch, generator=torch.Generator().manual_seed(0))
        loc, scale = model.encode(batch)
        mean, std = model.aggregate_experts(loc, scale, model.recipe.tableau.cond)
        assert {loc.dtype, scale.dtype, mean.dtype, std.dtype, loss.dtype} == {torch.float32}
        assert set(seen) == {dtype or torch.float32}
        cond = model.recipe.tableau.cond
        exact = model.double().aggregate_experts(loc.double(), scale.double(), cond)
        torch.testing.assert_close(std.double(), exact[1], rtol=1e-4, atol=0)
        losses.append(loss.item())
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.01)
    config = TrainConfig(epochs=2, batch_size=8, mixed_precision=True)
    history = fit(make(), pictures(), config)
    assert history.column("loss")[1] < history.column("loss")[0]


def test_history_holds_every_term_and_plots(tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    history = fit(make(), pictures(), CONFIG, valid=pictures(16))
    assert set(history.epochs[0]) == {
        "loss", "bound", "kl", "log_likelihood_m0", "log_likelihood_m1", "valid_loss",
    }  # fmt: skip
    axes = history.plot()
    assert len(axes.lines) == 2 and list(axes.lines[0].get_ydata()) == history.column("loss")


@pytest.mark.parametrize("options", [{}, {"rho": "learned"}])
def test_a_run_in_two_parts_is_the_run_in_one(tmp_path: Path, options: dict) -> None:
    whole = run(None, **options)
    run(tmp_path, replace(CONFIG, epochs=2), **options)
    parts = run(tmp_path, **options)
    assert_identical(whole, parts)


def test_every_epoch_sees_every_sample_in_an_order_of_its_own() -> None:
    orders = [training._epoch_order(100, seed, epoch) for seed in (0, 1) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(100))
    assert len({tuple(order.tolist()) for order in orders}) == 6


def test_a_run_stopped_inside_an_epoch_goes_on_where_it_was(tmp_path: Path, monkeypatch) -> None:
    class Stop(Exception):
        pass

    class Clock:  # every look at it is two seconds later: callbacks and checkpoints at every step
        now = 0.0

        def monotonic(self) -> float:
            self.now += 2.0
            return self.now

        def process_time(self) -> float:
            return self.now  # the same hand, looked at without moving it

    calls = []

    def stop_at_the_third(progress) -> None:
        calls.append(progress.step)
        if len(calls) == 3:
            raise Stop

    whole = run(None)
    saved = []
    with monkeypatch.context() as patch:
        patch.setattr(training, "time", Clock())
        for _ in range(2):
            calls.clear()
            with pytest.raises(Stop):
                fit(make(), pictures(), CONFIG, valid=pictures(16), folder=tmp_path,
                    callback=stop_at_the_third)  # fmt: skip
            saved.append(load_checkpoint(tmp_path / "last.pt"))
    assert [part["step"] for part in saved] == [2, 4]  # inside the first epoch of six steps
    first, second = (part["history"]["processor_seconds"] for part in saved)
    assert second >= 1.5 * first > 0  # the time of both parts
    assert_identical(whole, run(tmp_path))


def test_best_is_the_epoch_with_the_lowest_held_out_loss(tmp_path: Path) -> None:
    kept = {}

    def keep(progress) -> None:
        if progress.step == 0:
            kept[len(progress.history.epochs)] = {
                key: value.clone() for key, value in progress.model.state_dict().items()
            }

    model = make()
    # A rate so large that the loss goes up and down.
    config = replace(CONFIG, epochs=8, learning_rate=0.03)
    history = fit(model, pictures(), config, valid=pictures(16), folder=tmp_path, callback=keep)
    losses = history.column("valid_loss")
    best = losses.index(min(losses)) + 1
    stored = load_model(tmp_path / "best.pt").state_dict()
    assert all(torch.equal(value, stored[key]) for key, value in kept[best].items())


def test_writing_checkpoints_is_no_time_of_training(tmp_path: Path, monkeypatch) -> None:
    clock = [0.0]
    save = training.save_checkpoint

    def slow(*args, **state):
        clock[0] += 100.0
        return save(*args, **state)

    monkeypatch.setattr(training, "save_checkpoint", slow)
    for name in ("monotonic", "process_time"):
        monkeypatch.setattr(training.time, name, lambda: clock[0])
    config = replace(CONFIG, epochs=2)
    history = fit(make(), pictures(), config, folder=tmp_path, keep_best=False)
    assert clock[0] == 200.0 and history.seconds == history.processor_seconds == 0.0
    assert not (tmp_path / "best.pt").exists()


# --- killed -------------------------------------------------------------------------------------


def _train_in(folder: str) -> None:
    torch.set_num_threads(1)
    run(Path(folder), replace(CONFIG, epochs=40))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("as_user")
def test_killed_twenty_times_at_random_moments_it_is_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Imported once, in the server that the processes are forked from.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo"])
    dice = random.Random(7)
    kills, inside_a_run = 0, 0
    while True:
        process = context.Process(target=_train_in, args=(str(tmp_path),))
        process.start()
        last = tmp_path / "last.pt"
        before = last.stat().st_mtime_ns if last.exists() else 0
        waited = time.monotonic()
        while (  # until this process has written once, so that every kill hits a run at work
            process.is_alive()
            and (last.stat().st_mtime_ns if last.exists() else 0) == before
            and time.monotonic() - waited < 60
        ):
            time.sleep(0.002)
        process.join(timeout=dice.uniform(0.0, 0.12) if kills < 20 else None)
        if not process.is_alive():
            assert process.exitcode == 0
            break
        process.kill()
        process.join()
        kills += 1
        saved = load_checkpoint(last)  # never half a file
        inside_a_run += saved["step"] != 0
    assert kills == 20 and inside_a_run > 5
    whole = run(None, replace(CONFIG, epochs=40))
    assert_identical(whole, load_model(tmp_path / "last.pt"))
    assert len(load_checkpoint(tmp_path / "last.pt")["history"]["epochs"]) == 40


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom mmvae_core.files import replacing\n"
        "with replacing(sys.argv[1]) as partial:\n"
        "    partial.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".partial") and left.read_text() == "half"
    other = tmp_path / "a.txt.0123abcd.1@another-machine.partial"  # it may be alive there
    other.write_text("half")
    with replacing(path) as mine:
        mine.write_text("whole")
        assert {file.name for file in tmp_path.iterdir()} == {mine.name, other.name}
    assert {file.name for file in tmp_path.iterdir()} == {path.name, other.name}
    assert path.read_text() == "whole"


def test_a_killed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    path = save_checkpoint(tmp_path / "last.pt", model, mark=1)

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, model, mark=2)
    assert load_checkpoint(path)["mark"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


# --- refused ------------------------------------------------------------------------------------


class Payload:
    def __reduce__(self):
        return os.system, ("touch stolen",)


def test_loading_a_file_never_runs_code_from_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, write in {
        "torch.pt": lambda path: torch.save({"format": 1, "model": Payload()}, path),
        "pickle.pt": lambda path: path.write_bytes(pickle.dumps(Payload())),
    }.items():
        write(tmp_path / name)
        with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "stolen").exists()


def test_a_bad_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "none.pt")
    path = save_checkpoint(tmp_path / "last.pt", make())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="damaged or something else"):
        load_checkpoint(path)
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="must be a checkpoint of format"):
        load_checkpoint(path)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(ValueError, match="belongs to another model, with another recipe"):
        run(tmp_path, name="mopoe")
    with pytest.raises(ValueError, match=r"another beta \(there \[1.0\], here \[2.0\]\)"):
        run(tmp_path, replace(CONFIG, beta=2.0))
    with pytest.raises(ValueError, match="already has 4 epochs, more than the 3"):
        run(tmp_path, replace(CONFIG, epochs=3))


def other_pixel(data: MultimodalDataset) -> MultimodalDataset:
    view = data.x[1].clone()
    view[-1, 0, -1, -1] ^= 1
    return replace(data, x=(data.x[0], view))


def hidden(data: MultimodalDataset) -> MultimodalDataset:
    present = data.present.clone()
    present[3, 1] = False
    return replace(data, present=present)


def relabelled(data: MultimodalDataset) -> MultimodalDataset:
    return replace(data, label=1 - data.label)


def started_otherwise(model: MultimodalVAE) -> MultimodalVAE:
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    return model


@pytest.mark.parametrize(
    ("change", "valid", "start", "says"),
    [
        (other_pixel, None, None, "another run: the data differ"),
        (relabelled, None, None, "another run: the data differ"),
        (hidden, None, None, "the mask of the data, the data differ"),
        (lambda data: data.subset(slice(0, 40)), None, None, "the data differ"),
        (None, other_pixel, None, "another run: the held-out data differ"),
        (None, hidden, None, "the mask of the held-out data, the held-out data differ"),
        (None, lambda _: None, None, "the held-out data differ"),
        (None, None, started_otherwise, "another run: the starting weights differ"),
    ],
)
def test_a_folder_of_a_run_on_something_else_is_refused(
    tmp_path: Path, change: Any, valid: Any, start: Any, says: str
) -> None:
    run(tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    data, held_out, model = pictures(), pictures(16), make()
    data, held_out, model = (
        value if do is None else do(value)
        for do, value in ((change, data), (valid, held_out), (start, model))
    )
    more = replace(CONFIG, epochs=5)
    with pytest.raises(ValueError, match=rf"{says}.*choose another folder"):
        fit(model, data, more, valid=held_out, folder=tmp_path)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_checkpoint_from_before_fingerprints_still_knows_how_many_samples(tmp_path: Path) -> None:
    model = run(tmp_path)
    state = load_checkpoint(tmp_path / "last.pt")
    kept = {k: v for k, v in state.items() if k not in ("origin", "format", "spec", "model")}
    save_checkpoint(tmp_path / "last.pt", model, **kept, num_samples=48)
    with pytest.raises(ValueError, match="another run: the number of samples differ"):
        fit(make(), pictures(40), CONFIG, folder=tmp_path)
    assert_identical(model, run(tmp_path))


def test_what_an_absent_view_holds_makes_no_other_run(tmp_path: Path) -> None:
    data = hidden(pictures())
    x = data.x[1].clone()
    x[3] ^= 255
    fit(make(), data, CONFIG, folder=tmp_path)
    fit(make(), replace(data, x=(data.x[0], x)), replace(CONFIG, epochs=5), folder=tmp_path)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("read_back", [False, True])
def test_a_model_that_was_stopped_goes_on_in_the_same_session(
    tmp_path: Path, read_back: bool
) -> None:
    """Its weights are neither those it started from nor those of the checkpoint."""
    model, config = make(), replace(CONFIG, checkpoint_seconds=1e9)

    def stop(progress: training.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    go = partial(fit, valid=pictures(16), folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        go(model, pictures(), config, callback=stop)
    model = load_model(tmp_path / "last.pt") if read_back else model
    go(model, pictures(), config)
    assert_identical(model, run(None))
    go(model, pictures(), replace(config, epochs=6))
    assert_identical(model, run(None, replace(CONFIG, epochs=6)))


def test_a_good_checkpoint_is_never_called_damaged(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "best.pt", make())
    for device in ("cuda:99", "gpu", ""):
        with pytest.raises(ValueError, match="device must be one that torch can use here"):
            load_model(path, device)
    for place in (tmp_path, ""):
        with pytest.raises(ValueError, match=r"must be a plain file|must be a path"):
            load_model(place)
    path.rename(tmp_path / "last.pt")
    with pytest.raises(ValueError, match="holds a model and not the state of its training"):
        run(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path,
) -> None:
    run(tmp_path)
    good = load_checkpoint(tmp_path / "last.pt")["model"]
    broken = make()
    broken.decoders[0].register_forward_hook(lambda module, inputs, output: output * torch.nan)
    with pytest.raises(FloatingPointError, match="diverged in epoch 5"):
        fit(broken, pictures(), replace(CONFIG, epochs=5), valid=pictures(16), folder=tmp_path)
    kept = load_checkpoint(tmp_path / "last.pt")["model"]
    assert all(torch.equal(good[key], kept[key]) for key in good)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TrainConfig(epochs=0), "epochs must be a whole number, at least 1; got 0"),
        (lambda: TrainConfig(epochs=1.5), "epochs must be a whole number, at least 1; got 1.5"),
        (
            lambda: fit(make(), pictures(), CONFIG, valid=pictures().modalities([0])),
            r"are m0 \[1, 4, 4\], m1 \[1, 4, 4\]; those of the data are m0 \[1, 4, 4\]\.",
        ),
        (
            lambda: fit(make(), replace(pictures(), names=("m1", "m0")), CONFIG),
            r"modalities are m0 .*, m1 .*; those of the data are m1 .*, m0 ",
        ),
        (lambda: TrainConfig(beta=-1.0), "beta must be a finite number, above 0; got -1"),
        (lambda: TrainConfig(learning_rate=float("nan")), "learning_rate must be"),
        (lambda: TrainConfig(warmup_epochs=-1), "warmup_epochs must be a finite number"),
        (lambda: fit(make(), pictures(4), CONFIG), "batch_size is 8 but there are 4 samples"),
        (
            lambda: fit(make(), pictures().modalities([0]), CONFIG),
            r"are m0 \[1, 4, 4\], m1 \[1, 4, 4\]; those of the data are m0 \[1, 4, 4\]\.",
        ),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_bad_input_says_what_was_expected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_configuration_is_kept_with_the_checkpoint(tmp_path: Path) -> None:
    run(tmp_path)
    assert json.loads(load_checkpoint(tmp_path / "last.pt")["config"]) == asdict(CONFIG)
