"""Results on disk: one small Parquet file a run, which together are one tidy table.

A row is one measured number of one run. The parameters of the run stand in every row, the
options as text in JSON, so that all files have the same columns whatever was varied;
:func:`read` spreads the options over columns of their own. A run that failed has a single row
without a number and with its error.

A file is written beside its place and takes it in one step, and no two processes write the same
file at the same time (:mod:`mmvae_core.sweeps.work`), so a reader finds it whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mmvae_core.sweeps.configuration import Run

__all__ = ["combine", "read", "read_run", "write_run"]

FOLDER = "table"
GROUPS = ("options", "data_options", "model", "training")
SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # of the run
        ("status", pa.string()),  # "finished" or "failed"
        ("error", pa.string()),
        ("recipe", pa.string()),
        ("modalities", pa.int16()),
        ("data", pa.string()),
        ("seed", pa.int32()),
        ("options", pa.string()),  # JSON, like the three below
        ("data_options", pa.string()),
        ("model", pa.string()),
        ("training", pa.string()),
        ("metric", pa.string()),
        ("given", pa.string()),  # a subset, "prior", or nothing
        ("generated", pa.string()),  # a modality, or nothing
        ("value", pa.float64()),
        ("stderr", pa.float64()),
        ("count", pa.int64()),  # samples behind the value
        ("steps", pa.int64()),
        ("training_seconds", pa.float64()),
        ("processor_seconds", pa.float64()),  # of the training, on all cores together
        ("peak_device_bytes", pa.int64()),  # on a GPU
        ("settings", pa.string()),  # of the evaluation, JSON
        ("made_with", pa.string()),  # commit, packages, hardware, JSON
    ]
)


def path_of(folder: str | Path, key: str) -> Path:
    """Where the rows of the run with this key are."""
    return Path(folder) / FOLDER / f"{key}.parquet"


def write_run(folder: str | Path, run: Run, rows: Iterable[dict[str, Any]]) -> Path:
    """Write the rows of a run, in place of what was there."""
    common = {
        "key": run.key, "recipe": run.recipe, "modalities": run.modalities, "data": run.data,
        "seed": run.seed,
        **{name: json.dumps(dict(getattr(run, name)), sort_keys=True) for name in GROUPS},
    }  # fmt: skip
    path = path_of(folder, run.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        pq.write_table(pa.Table.from_pylist([{**common, **row} for row in rows], SCHEMA), partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_run(folder: str | Path, key: str) -> list[dict[str, Any]] | None:
    """The rows of one run; None where there are none."""
    path = path_of(folder, key)
    return pq.read_table(path).to_pylist() if path.exists() else None


def read(source: str | Path, keys: Iterable[str] | None = None) -> pd.DataFrame:
    """The table: of a sweep's folder, or of one file that :func:`combine` made.

    Args:
        keys: of the runs that are wanted; all by default.

    Returns:
        A row a number. Beside the columns of the files it has one for every option of any of the
        runs (``rho``, ``beta``, ``scale``, ...), with the default where a run does not set it and
        None where it has no such option.

    Raises:
        FileNotFoundError: there is no table.
    """
    source = Path(source)
    if source.is_file():
        table = pq.read_table(source)
    else:
        files = sorted((source / FOLDER).glob("*.parquet"))
        if not files:
            raise FileNotFoundError(
                f"{source} has no results: no files in {source / FOLDER}. "
                "mmvae_core.sweeps.sweep(runs, folder) makes them"
            )
        table = pa.concat_tables([pq.read_table(file) for file in files])
    frame = table.to_pandas()
    if keys is not None:
        frame = frame[frame["key"].isin(list(keys))].reset_index(drop=True)
    parameters = ["recipe", "modalities", "data", "seed", *GROUPS]
    runs = frame[["key", *parameters]].drop_duplicates("key")
    values = {
        row["key"]: Run(
            **{name: row[name] for name in ("recipe", "data")},
            modalities=int(row["modalities"]), seed=int(row["seed"]),
            **{group: json.loads(row[group]) for group in GROUPS},
        ).values
        for row in runs.to_dict("records")
    }  # fmt: skip
    for name in sorted({name for options in values.values() for name in options} - {"names"}):
        column = {key: options.get(name) for key, options in values.items()}
        frame[name] = pd.Series([column[key] for key in frame["key"]], dtype=object)
    return frame


def combine(source: str | Path, target: str | Path, keys: Iterable[str] | None = None) -> Path:
    """The table of a sweep's folder as one compressed Parquet file, to keep or to pass on."""
    columns = SCHEMA.names
    frame = read(source, keys)[columns].sort_values(
        ["recipe", "options", "modalities", "key"], kind="stable"
    )
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    table = pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False)
    pq.write_table(table, partial, compression="zstd")
    os.replace(partial, target)
    return target
