"""Many runs: configurations and seeds, trained and measured on one machine or many.

:func:`sweep` carries out a list of :class:`Run` on Dask's workers, one process a GPU or a core, and
keeps the results as one tidy table. It needs the extra packages of ``mmvae-core[evaluation]``.

>>> runs = grid(Run("code_vae"), rho=[0.0, 0.6], seed=range(3))
>>> len(runs), runs[-1].label
(6, 'code_vae rho=0.6')
"""

from mmvae_core.sweeps.configuration import Run, grid
from mmvae_core.sweeps.sweep import remaining, sweep
from mmvae_core.sweeps.table import combine, read
from mmvae_core.sweeps.work import execute, load_data, load_run

__all__ = [
    "Run",
    "combine",
    "execute",
    "grid",
    "load_data",
    "load_run",
    "read",
    "remaining",
    "sweep",
]
