"""What is stored stays readable: the keys of the course's runs, and older checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from models import noisy_pictures

from mmvae_core import recipes
from mmvae_core.model import MultimodalVAE
from mmvae_core.sweeps import Run
from mmvae_core.training import TrainConfig, fit, load_model

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("recipe", "modalities", "data", "seed")
GROUPS = ("options", "data_options", "model", "training")


def test_the_stored_runs_keep_their_keys() -> None:
    """Every run of the kept table, made again from its stored configuration, has its old key."""
    table = pq.read_table(ROOT / "figures" / "07_comparison.parquet")
    runs = table.group_by(["key", *PARTS, *GROUPS]).aggregate([]).to_pylist()
    assert len(runs) == len({row["key"] for row in runs}) > 200
    for row in runs:
        groups = {group: json.loads(row[group]) for group in GROUPS}
        run = Run(**{part: row[part] for part in PARTS}, **groups)
        assert run.key == row["key"], row
        # Filled in, the configuration is what was stored, up to options that came later.
        for group, stored in groups.items():
            assert stored.items() <= json.loads(json.dumps(run.complete[group])).items()


# --- checkpoints --------------------------------------------------------------------------------

OLD = Path(__file__).parent / "references" / "checkpoint_format_2.pt"  # one epoch of the run below


DATA = noisy_pictures(24, shape=(1, 2, 2))


def model() -> MultimodalVAE:
    torch.manual_seed(0)
    return MultimodalVAE(recipes.code_vae(3, entropy_scale=5.0), [(1, 2, 2)] * 3, 2,
                         networks="linear", modality_weights=[1.0, 2.0, 0.5])  # fmt: skip


def test_a_run_from_an_old_checkpoint_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    """The learned mixture, its running mean and their optimiser state are found where they were."""
    whole, resumed = model(), model()
    config = TrainConfig(epochs=2, batch_size=8, learning_rate=0.05, subset_samples=2)
    fit(whole, DATA, config, show_progress=False)
    shutil.copy(OLD, tmp_path / "last.pt")
    history = fit(resumed, DATA, config, folder=tmp_path, show_progress=False)
    assert len(history.epochs) == 2
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[key], value)


def test_the_model_of_an_old_checkpoint_is_the_one_that_was_stored() -> None:
    saved, loaded = torch.load(OLD, weights_only=True), load_model(OLD)
    assert saved["format"] == 2
    torch.testing.assert_close(loaded.mixture, saved["model"]["mixture_logits"].softmax(0))
    assert loaded.mixture.max() - loaded.mixture.min() > 1e-3  # away from where it started


@pytest.mark.parametrize("number", [1, 99, None])
def test_a_format_that_cannot_be_read_is_refused(number: int | None, tmp_path: Path) -> None:
    content = torch.load(OLD, weights_only=True) | {"format": number}
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"must be a checkpoint of format 2 to"):
        load_model(tmp_path / "last.pt")
