"""The sweep: many runs, carried out by Dask's workers, here or on a cluster."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import dask
import pandas as pd
import torch
from distributed import Client, Future, LocalCluster, wait
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from mmvae_core.arguments import Count, arguments
from mmvae_core.checks import check_device
from mmvae_core.metrics.report import Settings
from mmvae_core.sweeps.configuration import Run
from mmvae_core.sweeps.table import read
from mmvae_core.sweeps.work import (
    OtherDataError,
    Outcome,
    as_text,
    check_data,
    execute,
    folder_of,
    is_done,
    write_failure,
)

__all__ = ["remaining", "sweep"]

# For the processes of a local cluster. Dask's own choice makes glibc give freed memory back soon; a
# training step asks for the same blocks again and again, and was 1.4 times slower for it.
ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": 2**32, "MALLOC_MMAP_THRESHOLD_": 2**32, "OMP_NUM_THREADS": 1
}  # fmt: skip
ASK_AGAIN = 5.0  # seconds until a run that another sweep holds is looked at again
PATIENCE = 10.0  # seconds without a result, before a scheduler is asked for its workers


@arguments
def remaining(
    runs: Iterable[Run],
    folder: str | Path,
    *,
    settings: Settings | None = None,
    inception: str | Path | None = None,
    retry_failed: bool = False,
) -> list[Run]:
    """The runs that there is something left to do of, each once, in their order."""
    wanted = as_text(Settings() if settings is None else settings, inception)
    once = {run.key: run for run in runs}
    return [run for run in once.values() if not is_done(folder, run, wanted, retry_failed)]


@arguments
def sweep(
    runs: Sequence[Run],
    folder: str | Path,
    *,
    client: Client | str | None = None,
    workers: Count | None = None,
    data_root: str | Path | None = None,
    device: str = "auto",
    threads: Count | None = None,
    settings: Settings | None = None,
    inception: str | Path | None = None,
    retry_failed: bool = False,
    keep_models: bool = True,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Train and measure every run that is not finished yet, and return the table of all.

    Interrupt it whenever you like and call it again: finished runs are not repeated, half-finished
    ones go on from their checkpoint. A run that fails is recorded with its error and does not stop
    the rest. Several sweeps may work in one folder at a time, also from several machines that
    share it (a file system with file locks); what one has begun the others wait for.

    Args:
        runs: what to do, in this order; :func:`mmvae_core.sweeps.grid` makes many at once.
        folder: for table, checkpoints and models. Workers on other machines must see it under
            the same path.
        client: a Dask client, or the address of a scheduler (``"tcp://host:8786"``), such as that
            of a ``dask_jobqueue.SLURMCluster`` or a ``dask_kubernetes`` cluster with one worker a
            GPU. By default a cluster on this machine, for as long as the sweep takes.
        workers: how many processes it has: one a GPU, or one a core where there is none.
        data_root: the folder of the data files, on the workers.
        device: ``"auto"`` (the worker's own GPU, or the processor) or a name for all.
        threads: of torch in each worker; the cores shared out evenly where not given.
        settings: of the evaluation. A run that was measured with others is measured again, and
            not trained again, where its model was kept.
        inception: an Inception network's file (:func:`mmvae_core.metrics.inception`), for FID.
        retry_failed: runs that diverged are tried again too, from their last good checkpoint;
            those that failed otherwise always are.
        keep_models: the trained models stay in the folder.
        show_progress: a bar, and the address of Dask's dashboard.

    Returns:
        The table, as :func:`mmvae_core.sweeps.read` gives it, of these runs. ``status`` is
        ``"finished"``, ``"failed"`` or, where the cause lay outside the run (a full disk, a worker
        that was killed), ``"interrupted"``.

    Raises:
        ValueError: the folder holds results on other data, or an argument is out of range.

    A script that calls this needs ``if __name__ == "__main__":`` around it, as everything that
    starts processes does.
    """
    if not runs:
        raise ValueError("runs must hold a run at least; mmvae_core.sweeps.grid makes them")
    if device != "auto":
        check_device(device)
    settings = Settings() if settings is None else settings
    folder = Path(folder).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    todo = remaining(
        runs, folder, settings=settings, inception=inception, retry_failed=retry_failed
    )
    root = None if data_root is None else str(Path(data_root).expanduser().resolve())
    given = {
        "folder": str(folder),
        "data_root": root,
        "device": device,
        "settings": settings,
        "inception": None if inception is None else str(Path(inception).expanduser().resolve()),
        "retry_failed": retry_failed,
        "keep_models": keep_models,
    }
    of_data = {(run.data, run.modalities, str(run.data_options)): run for run in runs}
    for run in of_data.values() if not todo else ():  # else the workers look
        check_data(run, folder, root)
    total = len({run.key for run in runs})
    with ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(total=total, initial=total - len(todo), unit="run", disable=not show_progress)
        )
        if todo:
            connected, local = _connected(stack, client, workers, device, len(todo))
            if show_progress and connected.dashboard_link:
                bar.write(f"Dask's dashboard: {connected.dashboard_link}")
            share = max(1, (os.cpu_count() or 1) // local) if local else None
            _carry_out(connected, todo, folder, bar, {**given, "threads": threads or share})
    table = read(folder, {run.key for run in runs})
    failed = table.loc[table["status"] != "finished", ["recipe", "key", "error"]]
    if len(failed):
        recipe, key, error = failed.iloc[0]
        warnings.warn(
            f"{len(failed)} of {total} runs failed or were interrupted; the first, {recipe} {key}: "
            f"{error.splitlines()[0]}. The column error of the table has all",
            stacklevel=2,
        )
    return table


def _connected(
    stack: ExitStack, client: Client | str | None, workers: int | None, device: str, runs: int
) -> tuple[Client, int]:
    """The client, and how many processes share this machine (0 where it is not known)."""
    if isinstance(client, Client):
        return client, 0
    if client is not None:
        try:
            return stack.enter_context(Client(client)), 0
        except (OSError, ValueError) as error:
            raise ValueError(
                "client must be a Dask client or the address of a scheduler that runs, such as "
                f"tcp://host:8786; got {client!r} ({error})"
            ) from error
    if workers is None:
        gpus = torch.cuda.device_count() if device != "cpu" else 0
        workers = gpus or os.cpu_count() or 1
    workers = min(workers, runs)
    with dask.config.set({"distributed.nanny.pre-spawn-environ": ENVIRONMENT}):
        cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True,
            memory_limit=0,  # a worker that pauses for want of memory would not go on again
            dashboard_address="127.0.0.1:0",
        )  # fmt: skip
    stack.enter_context(cluster)
    return stack.enter_context(Client(cluster)), workers


def _carry_out(
    client: Client, todo: list[Run], folder: Path, bar: tqdm, given: dict[str, Any]
) -> None:
    """Submit all runs and note what becomes of them; those that others hold come last."""
    pending: dict[Future, Run] = {}
    elsewhere = todo
    failed = 0
    try:
        while pending or elsewhere:
            if not pending:
                # Not pure: the same call does its work again when it is asked for again.
                pending = {
                    client.submit(execute, run, pure=False, **given): run for run in elsewhere
                }
                elsewhere = []
            for future in _some_done(client, list(pending)):
                run = pending.pop(future)
                outcome = _outcome(future, run, folder)
                if outcome == "busy":
                    elsewhere.append(run)
                else:
                    failed += outcome in ("failed", "interrupted")
                    bar.update()
                bar.set_postfix(failed=failed, elsewhere=len(elsewhere))
            if elsewhere and not pending:
                time.sleep(ASK_AGAIN)
    finally:
        client.cancel(list(pending))


def _some_done(client: Client, pending: list[Future]) -> set[Future]:
    """Those of ``pending`` that are done, as soon as one is; says so while nobody works on them."""
    told = False
    while True:
        with suppress(TimeoutError):
            return wait(pending, timeout=PATIENCE, return_when="FIRST_COMPLETED").done
        about = client.scheduler_info()
        if not told and not about["workers"]:
            address = about["address"]
            warnings.warn(
                f"the scheduler at {address} has no workers, and {len(pending)} runs wait for one: "
                f"start some with `dask worker {address}`, or leave client out",
                stacklevel=2,
            )
            told = True


def _outcome(future: Future, run: Run, folder: Path) -> Outcome:
    """What a worker says of its run; an error, where the worker itself was lost."""
    if future.status == "finished":
        return future.result()
    if isinstance(error := future.exception(), OtherDataError):
        raise error
    try:
        with FileLock(folder_of(folder, run) / "lock", timeout=0):
            return write_failure(folder, run, error)
    except Timeout:  # another sweep is at it
        return "busy"
