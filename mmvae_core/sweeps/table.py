"""Results on disk: one small Parquet file a run, which together are one tidy table.

A row is one measured number of one run. The parameters of the run stand in every row, the
options, defaults included, as text in JSON, so that all files have the same columns whatever was
varied; :func:`read` spreads the options over columns of their own. A run that failed has a single
row without a number and with its error.

A file is written beside its place and takes it in one step, and no two processes write the same
file at the same time (:mod:`mmvae_core.sweeps.work`), so a reader finds it whole or not at all. It
carries a digest of its rows. A file that is damaged all the same costs its own run and no other: a
warning names it, and the run counts as not measured.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmvae_core.arguments import arguments
from mmvae_core.files import check_form, regular, replacing
from mmvae_core.sweeps.configuration import Run

__all__ = ["combine", "read", "read_run", "write_run"]

FOLDER = "table"
# Without these a row says nothing; files of older versions may lack others.
NEEDED = ("key", "status", "recipe", "modalities", "data", "seed")
AGAIN = "Delete it, or copy it again from where it came"
DIGEST = b"sha256"  # of the rows, in a file's metadata
GROUPS = ("options", "data_options", "model", "training")
SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # of the run
        ("status", pa.string()),  # "finished" or "failed"
        ("error", pa.string()),
        ("recipe", pa.string()),
        ("modalities", pa.int16()),
        ("data", pa.string()),
        ("seed", pa.int64()),
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
        ("peak_device_bytes", pa.int64()),  # of the training, on a GPU
        ("device", pa.string()),
        ("settings", pa.string()),  # of the evaluation, JSON
        ("made_with", pa.string()),  # of the training: commit, packages, hardware, JSON
        ("measured_by", pa.string()),  # the commit
    ]
)


def path_of(folder: str | Path, key: str) -> Path:
    """Where the rows of the run with this key are."""
    return Path(folder) / FOLDER / f"{key}.parquet"


@arguments
def write_run(folder: str | Path, run: Run, rows: Iterable[dict[str, Any]]) -> Path:
    """Write the rows of a run, in place of what was there."""
    common = {
        "key": run.key, "recipe": run.recipe, "modalities": run.modalities, "data": run.data,
        "seed": run.seed,
        **{name: json.dumps(run.complete[name], sort_keys=True) for name in GROUPS},
    }  # fmt: skip
    table = pa.Table.from_pylist([{**common, **row} for row in rows], SCHEMA)
    return _write(table, path_of(folder, run.key))


@arguments
def read_run(folder: str | Path, key: str) -> list[dict[str, Any]] | None:
    """The rows of one run; None where there are none, or where their file is damaged."""
    path = path_of(folder, key)
    if not path.exists():
        return None
    try:
        return _read_own(path).to_pylist()
    except (OSError, ValueError) as error:
        warnings.warn(f"{error}. Until then its run counts as not measured", stacklevel=2)
        return None


def _write(table: pa.Table, path: Path, **options: Any) -> Path:
    table = table.replace_schema_metadata({DIGEST: _digest(table)})
    if path.is_dir():  # no file can take its name
        path.replace(path.with_name(f"{path.name}.damaged"))
    with replacing(path) as partial:
        pq.write_table(table, partial, **options)
    return path


def _read(path: Path) -> pa.Table:
    """A table as it was written; ``ValueError`` with the file's name where it is not."""
    path = regular(path)
    try:
        there = pq.read_schema(path)
        if lacking := [name for name in (*NEEDED, *GROUPS, "value") if name not in there.names]:
            raise ValueError(f"it has no column {', '.join(lacking)}")
        table = pq.read_table(path, schema=SCHEMA)
        if lacking := [name for name in (*NEEDED, *GROUPS) if table[name].null_count]:
            raise ValueError(f"some rows have no {', '.join(lacking)}")
        for name in GROUPS:
            for text in table[name].unique().to_pylist():
                check_form(json.loads(text), {}, name)
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must be a table of results, and cannot be read ({str(error)[:200]}). {AGAIN}"
        ) from error
    noted = (there.metadata or {}).get(DIGEST)
    if not len(table) and noted is None:
        raise ValueError(f"{path} must be a table of results, and has no rows. {AGAIN}")
    if noted is not None and noted != _digest(table):
        raise ValueError(
            f"{path} must be a table of results, and does not hold what was written to it: its "
            f"digest is another. {AGAIN}"
        )
    return table


def _read_own(path: Path) -> pa.Table:
    """The table of one run; ``ValueError`` where it is not of the run that its name says."""
    table = _read(path)
    keys = table["key"].unique().to_pylist()
    if keys != [path.stem]:
        raise ValueError(
            f"{path} must be the table of results of the run {path.stem}, and is that of "
            f"{' and '.join(keys[:3]) or 'none'}. {AGAIN}"
        )
    return table


def _digest(table: pa.Table) -> bytes:
    rows = pd.util.hash_pandas_object(table.to_pandas(), index=False)
    return hashlib.sha256(rows.to_numpy().tobytes()).hexdigest().encode()


@arguments
def read(source: str | Path, keys: Iterable[str] | None = None) -> pd.DataFrame:
    """The table: of a sweep's folder, or of one file that :func:`combine` made.

    Args:
        keys: of the runs that are wanted; all by default.

    Returns:
        A row a number. Beside the columns of the files it has one for every option of any of the
        runs (``rho``, ``beta``, ``scale``, ...; ``data_seed`` for that of the data), None where a
        run has no such option.

    Raises:
        FileNotFoundError: there is no table.
        ValueError: the file is damaged. In a folder a damaged file costs a warning.
    """
    source = Path(source).expanduser()
    of_a_sweep = not source.exists() or (source.is_dir() and source.suffix != ".parquet")
    table = _folder_table(source) if of_a_sweep else _read(source)
    frame = table.to_pandas()
    if keys is not None:
        frame = frame[frame["key"].isin(list(keys))].reset_index(drop=True)
    for group in GROUPS:
        codes, texts = pd.factorize(frame[group])
        parsed = [json.loads(text) for text in texts]
        for name in sorted({name for options in parsed for name in options}):
            values = pd.Series([options.get(name) for options in parsed], dtype=object)
            column = values.take(codes).reset_index(drop=True)
            frame["data_seed" if name == "seed" else name] = column
    return frame


@arguments
def combine(source: str | Path, target: str | Path, keys: Iterable[str] | None = None) -> Path:
    """The table of a sweep's folder as one compressed Parquet file, to keep or to pass on.

    Runs that the file holds already and the folder does not have stay in it. With ``keys`` no
    others are kept.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    tables = [_folder_table(source)]
    if target.exists():
        before = _read(target)
        here = set(tables[0]["key"].to_pylist())
        tables.append(before.filter([key not in here for key in before["key"].to_pylist()]))
    table = pa.concat_tables(tables)
    if keys is not None:
        table = table.filter(pc.is_in(table["key"], pa.array(list(keys), pa.string())))
    order = [(name, "ascending") for name in ("data", "recipe", "modalities", "options", "key")]
    table = table.append_column("row", pa.array(range(len(table))))  # a run's rows keep their order
    table = table.sort_by([*order, ("row", "ascending")]).drop_columns("row")
    return _write(table, target, compression="zstd")


def _folder_table(folder: Path) -> pa.Table:
    files = sorted((folder / FOLDER).glob("*.parquet"))
    if not files:
        raise FileNotFoundError(
            f"{folder} must hold the table of a sweep, and has no results: no files in "
            f"{folder / FOLDER}. mmvae_core.sweeps.sweep(runs, folder) makes them"
        )
    tables = []
    for file in files:
        try:
            tables.append(_read_own(file))
        except (OSError, ValueError) as error:
            warnings.warn(f"{error}. Its run is left out", stacklevel=3)
    if not tables:
        raise ValueError(
            f"none of the {len(files)} files in {folder / FOLDER} can be read; there must be one. "
            "Delete them and sweep again"
        )
    return pa.concat_tables(tables)
