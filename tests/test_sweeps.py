"""Sweeps: what a run is, the table, and that nothing is lost, repeated or damaged."""

from __future__ import annotations

import errno
import functools
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
import torch
from distributed import Client, LocalCluster
from filelock import FileLock
from PIL import Image

from mmvae_core import sweeps
from mmvae_core.metrics.report import Settings
from mmvae_core.sweeps import Run, grid
from mmvae_core.sweeps.sweep import _outcome
from mmvae_core.sweeps.table import path_of, read_run, write_run
from mmvae_core.sweeps.work import as_text, folder_of

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "draws": 2, "generated": 8, "probe_latents": 40, "imputation_samples": 4, "imputation_draws": 2
}  # fmt: skip
QUICK = Settings(likelihood_samples=4, **SMALL)
TINY = Run(
    "code_vae",
    modalities=2,
    data_options={"train_size": 96, "test_size": 16, "image_size": 10},
    model={"networks": "dense", "latent_dim": 2, "scale": "bounded"},
    training={"epochs": 2, "batch_size": 32},
)


# ---------------------------------------------------------------- configurations


def test_a_run_is_known_by_what_it_does_and_not_by_the_order_of_its_options():
    one = Run(model={"latent_dim": 3, "scale": "bounded"})
    same = Run(model={"scale": "bounded", "latent_dim": 3})
    assert one.key == same.key == Run.from_json(one.to_json()).key
    others = [
        Run(model={"latent_dim": 3}), Run(seed=1), Run(recipe="mopoe"), Run(modalities=2),
        Run(options={"rho": 0.6}), Run(training={"epochs": 3}), Run(data_options={"seed": 1}),
    ]  # fmt: skip
    assert len({run.key for run in [one, *others]}) == 8


def test_to_name_a_default_makes_no_other_run():
    named = Run(
        options={"rho": 0.4, "weights": "learned"}, training={"beta": 1.0, "epochs": 10},
        model={"latent_dim": 20, "scale": "exponential"}, data_options={"image_size": 16},
    )  # fmt: skip
    assert named.key == Run().key
    complete = named.complete
    assert (complete["options"]["rho"], complete["training"]["beta"]) == (0.4, 1.0)
    assert (complete["model"]["scale"], complete["data_options"]["image_size"]) == (
        "exponential", 16,
    )  # fmt: skip
    assert Run(training={"beta": 2}).key == Run(training={"beta": 2.0}).key != Run().key


def test_a_grid_is_every_combination_once_with_each_name_in_its_place():
    runs = grid(
        TINY, recipe=["code_vae"], rho=[0.0, 0.6], beta=[1.0, 2.5, 5.0], scale=["bounded"],
        train_size=[64], modalities=[2, 3], seed=range(2),
    )  # fmt: skip
    assert len({run.key for run in runs}) == len(runs) == 24
    last = runs[-1]
    assert (last.options, last.modalities, last.seed) == ({"rho": 0.6}, 3, 1)
    assert last.training == {"epochs": 2, "batch_size": 32, "beta": 5.0}
    assert last.data_options["train_size"] == 64 and last.model["scale"] == "bounded"
    assert [run.seed for run in runs[:4]] == [0, 1, 0, 1]  # the last axis is the fastest


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Run("cofe"), "no recipe is called 'cofe'"),
        (lambda: Run(options={"alpha": 1}), "no option alpha"),
        (lambda: Run(options={"rho": 2.0}), "rho"),
        (lambda: Run(data="cifar"), "digits.*got 'cifar'"),
        (lambda: Run(model={"latent": 3}), "model has no option latent; it has latent_dim"),
        (lambda: Run(training={"epoch": 3}), "training has no option epoch; it has epochs"),
        (lambda: Run(training={"epochs": 0}), "at least 1; got 0"),
        (lambda: Run(data_options={"bogus": 1}), "data_options has no option bogus; it has image"),
        (lambda: grid(Run(data="noisy_copy", modalities=2), nois=[0.1]), "is called 'nois'"),
        (lambda: Run(seed=0.5), "seed must be a whole number"),
        (lambda: Run(model={"modality_weights": torch.ones(3)}), "plain data"),
        (lambda: grid(gamma=[1]), "nothing of a run is called 'gamma'.*entropy_scale"),
        (lambda: grid(root=["/data"]), "nothing of a run is called 'root'"),
    ],
)
def test_what_no_run_can_be_is_refused_before_anything_is_trained(as_user, make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---------------------------------------------------------------- the table


def test_the_table_gives_back_what_was_written_with_a_column_for_every_option(tmp_path):
    fixed = Run("code_vae", options={"rho": 0.4}, training={"beta": 2.5})
    learned = Run("code_vae", options={"rho": "learned"}, seed=7)
    for run, value in ((fixed, 0.5), (learned, 0.75)):
        row = {"status": "finished", "metric": "linear_accuracy", "given": "m0", "value": value}
        write_run(tmp_path, run, [row, {**row, "given": "m1"}])
    write_run(tmp_path, Run("mopoe"), [{"status": "failed", "error": "it broke"}])
    whole = sweeps.read(tmp_path)
    assert len(whole) == 5 and set(whole["status"]) == {"finished", "failed"}
    kept = sweeps.combine(tmp_path, tmp_path / "kept.parquet", [fixed.key, learned.key])
    frame = sweeps.read(kept).set_index(["key", "given"])
    assert len(frame) == 4
    assert frame.loc[(fixed.key, "m1"), ["rho", "beta", "value"]].tolist() == [0.4, 2.5, 0.5]
    assert frame.loc[(learned.key, "m0"), ["rho", "beta", "seed"]].tolist() == ["learned", 1.0, 7]
    assert "alpha" not in frame and whole.loc[whole.recipe == "mopoe", "rho"].tolist() == [None]
    assert whole.loc[whole.recipe == "mopoe", "error"].tolist() == ["it broke"]


def test_the_seed_of_the_data_is_not_taken_for_that_of_the_run(tmp_path):
    for run in (Run(seed=3), Run(seed=4, data_options={"seed": 1})):
        write_run(tmp_path, run, [{"status": "finished"}])
    frame = sweeps.read(tmp_path).sort_values("seed")
    assert frame[["seed", "data_seed"]].to_numpy().tolist() == [[3, 0], [4, 1]]


def test_what_is_kept_stays_when_another_folder_is_added(tmp_path):
    row = {"status": "finished", "metric": "bound", "value": 1.0}
    first, second, unwanted = Run(seed=0), Run(seed=1), Run(seed=2)
    write_run(tmp_path / "a", first, [row])
    write_run(tmp_path / "a", unwanted, [row])
    write_run(tmp_path / "b", first, [{**row, "value": 2.0}])
    write_run(tmp_path / "b", second, [row, {**row, "metric": "kl"}])
    kept = sweeps.combine(tmp_path / "a", tmp_path / "kept.parquet")
    sweeps.combine(tmp_path / "b", kept, [first.key, second.key])
    frame = sweeps.read(kept)
    assert sorted(zip(frame["seed"], frame["metric"], frame["value"], strict=True)) == [
        (0, "bound", 2.0), (1, "bound", 1.0), (1, "kl", 1.0),
    ]  # fmt: skip


def test_a_missing_table_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"sweep\(runs, folder\) makes them"):
        sweeps.read(tmp_path)


# ---------------------------------------------------------------- one run


def test_a_run_is_trained_once_and_measured_anew_for_other_settings(tmp_path):
    assert sweeps.execute(TINY, tmp_path, settings=QUICK) == "finished"
    first = read_run(tmp_path, TINY.key)
    model = folder_of(tmp_path, TINY) / "model.pt"
    written = model.stat().st_mtime_ns
    assert sweeps.execute(TINY, tmp_path, settings=QUICK) == "known"
    assert sweeps.remaining([TINY, TINY], tmp_path, settings=QUICK) == []
    more = Settings(likelihood_samples=8, **SMALL)
    assert sweeps.remaining([TINY, TINY], tmp_path, settings=more) == [TINY]
    assert sweeps.execute(TINY, tmp_path, settings=more) == "finished"
    assert model.stat().st_mtime_ns == written
    second = read_run(tmp_path, TINY.key)
    samples = [
        {row["count"] for row in rows if row["metric"] == "log_likelihood"}
        for rows in (first, second)
    ]
    assert samples == [{4}, {8}]
    assert first[0]["made_with"] == second[0]["made_with"]  # of the training
    assert json.loads(first[0]["made_with"])["torch"] == torch.__version__


def test_a_run_that_diverges_is_written_down_and_tried_again_only_on_request(tmp_path):
    broken = TINY.with_values(learning_rate=1e12)
    assert sweeps.execute(broken, tmp_path, settings=QUICK) == "failed"
    (row,) = read_run(tmp_path, broken.key)
    assert row["status"] == "failed" and row["metric"] is None
    assert "FloatingPointError" in row["error"] and "diverged" in row["error"]
    assert sweeps.execute(broken, tmp_path, settings=QUICK) == "known"
    assert sweeps.remaining([broken], tmp_path, retry_failed=True) == [broken]


def test_a_run_whose_files_were_missing_is_tried_again(tmp_path):
    run = Run(data="polymnist", modalities=2)
    outcome = sweeps.execute(run, tmp_path, data_root=str(tmp_path / "nowhere"), settings=QUICK)
    assert outcome == "interrupted"
    assert "FileNotFoundError" in read_run(tmp_path, run.key)[0]["error"]
    assert sweeps.remaining([run], tmp_path, settings=QUICK) == [run]


def test_a_failed_measurement_leaves_the_numbers_that_are_there(tmp_path, monkeypatch):
    sweeps.execute(TINY, tmp_path, settings=QUICK)
    before = read_run(tmp_path, TINY.key)

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr("mmvae_core.metrics.measure", no_memory)
    more = Settings(likelihood_samples=8, **SMALL)
    assert sweeps.execute(TINY, tmp_path, settings=more) == "interrupted"
    assert repr(read_run(tmp_path, TINY.key)) == repr(before)  # NaN is not equal to itself
    assert "none left" in (folder_of(tmp_path, TINY) / "log.txt").read_text()
    assert sweeps.remaining([TINY], tmp_path, settings=more) == [TINY]


@pytest.mark.parametrize("held", [True, False])
def test_a_lost_worker_is_noted_unless_another_sweep_has_it(tmp_path, as_user, held):
    class Lost:
        status = "error"

        def exception(self) -> Exception:
            return RuntimeError("the worker is gone")

    place = folder_of(tmp_path, TINY)
    place.mkdir(parents=True)
    with FileLock(place / "lock") if held else nullcontext():
        assert _outcome(Lost(), TINY, tmp_path) == ("busy" if held else "failed")
    rows = read_run(tmp_path, TINY.key)
    assert rows is None if held else "is gone" in rows[0]["error"]
    assert sweeps.remaining([TINY], tmp_path, settings=QUICK) == [TINY]


PICTURES = TINY.with_values(
    data="polymnist", batch_size=4, train_size=12, test_size=12, image_size=14
)


def archive(root: Path, shade: int) -> str:
    """A data root with PolyMNIST's archive, unpacked: 12 digits, in colours of their own."""
    for n, split, m in itertools.product(range(12), ("train", "test"), range(2)):
        path = root / "MMNIST" / split / f"m{m}" / f"{n}.{n % 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (28, 28), (20 * n, shade, 40 * m)).save(path)
    return str(root)


@pytest.mark.parametrize("settings", [QUICK, Settings(likelihood_samples=8, **SMALL)])
def test_other_data_are_refused_in_a_folder_that_has_results(tmp_path, settings):
    first, same, other = (
        archive(tmp_path / name, shade) for name, shade in (("a", 9), ("b", 9), ("c", 10))
    )
    folder = tmp_path / "sweep"
    go = functools.partial(sweeps.execute, PICTURES, folder)
    assert go(data_root=first, settings=QUICK) == "finished"
    before = path_of(folder, PICTURES.key).stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"holds results on polymnist from .*a, .* other data"):
        go(data_root=other, settings=settings)
    with pytest.raises(ValueError, match="Choose another folder"):
        sweeps.sweep([PICTURES], folder, data_root=other, settings=settings, workers=1,
                     show_progress=False)  # fmt: skip
    assert path_of(folder, PICTURES.key).stat().st_mtime_ns == before
    assert go(data_root=same, settings=QUICK) == "known"  # the same pictures, elsewhere


@pytest.mark.parametrize("name", ["last.pt", "model.pt", "training.json"])
@pytest.mark.parametrize("content", [b"", b'{"steps": 1', b"PK\x03\x04 and no more"])
def test_a_damaged_checkpoint_is_set_aside_and_its_run_goes_on(tmp_path, name, content):
    sweeps.execute(TINY, tmp_path, settings=QUICK)
    wanted = numbers(tmp_path, [TINY])
    place = folder_of(tmp_path, TINY)
    path_of(tmp_path, TINY.key).unlink()
    if name == "last.pt":
        (place / "model.pt").unlink()
    (place / name).write_bytes(content)
    with pytest.warns(UserWarning, match=name):
        assert sweeps.execute(TINY, tmp_path, settings=QUICK) == "finished"
    pd.testing.assert_frame_equal(numbers(tmp_path, [TINY]), wanted, check_exact=True)


def test_a_folder_that_cannot_be_written_to_is_told_apart_from_a_run_that_failed(
    tmp_path, monkeypatch
):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mmvae_core.checkpoints.torch.save", full)
        assert sweeps.execute(TINY, tmp_path, settings=QUICK) == "interrupted"
        patch.setattr("mmvae_core.sweeps.work.write_run", full)
        with pytest.warns(UserWarning, match="Not noted: .*No space left"):
            assert sweeps.execute(TINY, tmp_path, settings=QUICK) == "interrupted"
    assert read_run(tmp_path, TINY.key)[0]["status"] == "interrupted"
    assert sweeps.execute(TINY, tmp_path, settings=QUICK) == "finished"


def test_a_run_that_another_process_holds_is_left_to_it(tmp_path):
    place = folder_of(tmp_path, TINY)
    place.mkdir(parents=True)
    with FileLock(place / "lock"):
        assert sweeps.execute(TINY, tmp_path, settings=QUICK) == "busy"
    assert read_run(tmp_path, TINY.key) is None


def test_a_kept_model_is_the_one_that_was_measured(tmp_path):
    sweeps.execute(TINY, tmp_path, settings=QUICK)
    model = sweeps.load_run(tmp_path, TINY)
    _, test, _ = sweeps.load_data(TINY, tmp_path)
    trace = model.posterior(
        test.batch(torch.arange(16)), torch.tensor([[True, True]])
    ).stddev.square()
    (row,) = (
        row for row in read_run(tmp_path, TINY.key)
        if row["metric"] == "posterior_trace" and row["given"] == "m0+m1"
    )  # fmt: skip
    assert trace.sum(-1).mean().item() == pytest.approx(row["value"], rel=1e-5)
    sweeps.execute(TINY.with_values(seed=1), tmp_path, settings=QUICK, keep_models=False)
    with pytest.raises(FileNotFoundError):
        sweeps.load_run(tmp_path, TINY.with_values(seed=1))


# ---------------------------------------------------------------- many, on Dask

SCRIPT = """
import json, sys
from mmvae_core.metrics.report import Settings
from mmvae_core.sweeps import Run, sweep
if __name__ == "__main__":
    folder, workers, settings, *runs = sys.argv[1:]
    runs = [Run.from_json(run) for run in runs]
    sweep(runs, folder, workers=int(workers), threads=1, device="cpu", show_progress=False,
          settings=Settings(**json.loads(settings)))
"""
LONG = {"epochs": 12, "batch_size": 32, "checkpoint_seconds": 0.0}  # a checkpoint every step


def start(tmp_path: Path, folder: Path, runs: list[Run], workers: int = 1) -> subprocess.Popen:
    """A sweep in a process group of its own."""
    script = tmp_path / "one_sweep.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, script, folder, str(workers), as_text(QUICK)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *(run.to_json() for run in runs)], start_new_session=True, env=environment
    )


def numbers(folder: Path, runs: list[Run]) -> pd.DataFrame:
    """All that must not depend on how the sweep went."""
    frame = sweeps.read(folder, [run.key for run in runs])
    columns = ["key", "status", "metric", "given", "generated", "value", "stderr", "count"]
    return frame[columns].sort_values(columns[:5]).reset_index(drop=True)


@pytest.mark.slow
def test_a_killed_sweep_goes_on_without_loss_and_repeats_nothing(tmp_path):
    runs = [TINY.with_values(**LONG, seed=seed) for seed in (0, 1)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for run in runs:
        assert sweeps.execute(run, whole, settings=QUICK, threads=1) == "finished"

    killed = start(tmp_path, broken, runs)
    half = folder_of(broken, runs[1]) / "last.pt"
    deadline = time.monotonic() + 200
    while not half.exists():  # the first run is finished, the second one is under way
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert read_run(broken, runs[1].key) is None and half.exists()
    at_kill = torch.load(half, weights_only=True)
    assert (at_kill["epoch"], at_kill["step"]) < (12, 0)
    first = path_of(broken, runs[0].key).stat().st_mtime_ns

    assert start(tmp_path, broken, runs).wait(200) == 0
    trained = [(folder_of(broken, run) / "log.txt").read_text() for run in runs]
    assert [text.count("begins the training") for text in trained] == [1, 1]
    assert [text.count("goes on with the training") for text in trained] == [0, 1]
    assert path_of(broken, runs[0].key).stat().st_mtime_ns == first
    pd.testing.assert_frame_equal(numbers(broken, runs), numbers(whole, runs), check_exact=True)


@pytest.mark.slow
def test_two_sweeps_in_one_folder_share_the_work_and_a_failure_stops_neither(tmp_path):
    runs = [TINY.with_values(seed=seed) for seed in range(3)]
    broken = TINY.with_values(learning_rate=1e12)
    order = [broken, *runs]
    both = [start(tmp_path, tmp_path / "sweep", some) for some in (order, order[::-1])]
    assert [process.wait(250) for process in both] == [0, 0]
    frame = sweeps.read(tmp_path / "sweep")
    status = frame.groupby("key")["status"].agg(lambda values: values.unique().item())
    assert status.to_dict() == {run.key: "finished" for run in runs} | {broken.key: "failed"}
    assert not frame.duplicated(["key", "metric", "given", "generated"]).any()
    logs = [(folder_of(tmp_path / "sweep", run) / "log.txt").read_text() for run in runs]
    assert [text.count("begins the training") for text in logs] == [1, 1, 1]
    assert [text.count("measured") for text in logs] == [1, 1, 1]
    assert not list((tmp_path / "sweep").rglob("*.partial"))


@pytest.mark.slow
def test_a_scheduler_without_workers_says_so_and_goes_on_when_one_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["mmvae_core.sweeps.sweep"], "PATIENCE", 0.1)
    cluster = LocalCluster(n_workers=0, threads_per_worker=1, processes=False,
                           dashboard_address=None)  # fmt: skip
    address = cluster.scheduler_address
    show = warnings.showwarning

    def scale(message, *rest, **more) -> None:
        if "no workers" in str(message):
            cluster.scale(1)
        show(message, *rest, **more)

    with cluster, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        recorded = warnings.showwarning
        show = recorded
        monkeypatch.setattr(warnings, "showwarning", scale)
        frame = sweeps.sweep(
            [TINY], tmp_path, client=address, settings=QUICK, threads=1, show_progress=False
        )
    told = [str(warning.message) for warning in said]
    assert any(f"{address} has no workers, and 1 runs wait" in words for words in told)
    assert frame["status"].unique().tolist() == ["finished"]


@pytest.mark.slow
def test_a_scheduler_that_runs_already_is_used_and_left_running(tmp_path):
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    )
    with cluster, Client(cluster) as client:
        frame = sweeps.sweep(
            [TINY], tmp_path, client=cluster.scheduler_address, settings=QUICK, threads=1,
            show_progress=False,
        )  # fmt: skip
        assert client.submit(sum, [1, 2]).result() == 3
    assert frame["status"].unique().tolist() == ["finished"]
    assert multiprocessing.active_children() == []
