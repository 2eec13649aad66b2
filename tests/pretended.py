"""An accelerator that is not there, for machines without one.

Tensors on the device ``pretended`` keep their values in CPU memory and yet behave, for all code
above torch's dispatcher, as those of a GPU do: they refuse to meet CPU tensors, generators of
another device and NumPy, and each time the host has to wait for one of their values is counted.
What it cannot show: memory, speed, and kernels that a real device lacks or computes differently.

Registering a device changes the whole process. So this file runs as a program of its own
(``python tests/pretended.py``): it trains and measures every method once on the CPU and once on the
pretended device and prints what happened as JSON, for tests/test_accelerator.py to judge.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration as registration
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "pretended"
DEVICE = f"{NAME}:0"
MOVES = ("_to_copy", "copy_")  # the ops that may see two devices
WAITS = (  # as on CUDA; and any copy to the CPU
    "_local_scalar_dense", "nonzero", "equal", "masked_select", "unique_dim", "_unique2",
    "_linalg_check_errors",
)  # fmt: skip

waits: list[str] = []  # of the host, by op
library = torch.library.Library("aten", "IMPL")


class Backend(registration._DummyBackendModule):
    """The module ``torch.pretended``, as far as torch asks it for anything."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def get_rng_state(self, device: Any) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any) -> None:
        torch.set_rng_state(state)


class PlacedGenerator(torch.Generator):
    """A CPU generator that remembers for which device it was asked."""

    def __new__(cls, device: torch.device | str = "cpu") -> PlacedGenerator:
        self = super().__new__(cls, "cpu")
        self.place = torch.device(device).type
        return self


class Pretended(torch.Tensor):
    """A tensor of the pretended device around the one that has its values."""

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> Pretended:
        self = torch.Tensor._make_wrapper_subclass(
            cls, values.size(), strides=values.stride(), storage_offset=values.storage_offset(),
            dtype=values.dtype, device=torch.device(DEVICE),
        )  # fmt: skip
        self.values = values
        return self

    def __repr__(self) -> str:
        return f"Pretended({self.values})"

    def tolist(self) -> Any:
        waits.append("tolist")
        return self.values.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


class Generators(TorchFunctionMode):
    """Inside, a generator serves its own device alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        generator = (kwargs or {}).get("generator")
        if generator is not None and generator.place != result.device.type:
            raise RuntimeError(f"{func} got a generator of another device: {generator.place}")
        return result


class Wall(TorchDispatchMode):
    """Inside, new tensors can be made on the device, and what crosses over is checked."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


def unwrapped(value: Any, there: list[Any], here: list[Any]) -> Any:
    """An argument as the CPU takes it; its tensors are listed by where they are.

    (torch's pytree does that at ten times the cost, which was most of this program's time.)
    """
    if isinstance(value, Pretended):
        there.append(value)
        return value.values
    if isinstance(value, torch.Tensor):
        here.append(value)
    elif isinstance(value, (list, tuple)):
        return [unwrapped(part, there, here) for part in value]
    return value


def wrapped(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(wrapped(part) for part in value)
    return Pretended(value) if isinstance(value, torch.Tensor) else value


def dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One op, computed on the CPU, with the rules of two devices."""
    name = func.overloadpacket.__name__
    there: list[Pretended] = []
    here: list[torch.Tensor] = []
    inner = unwrapped(args, there, here)
    options = {key: unwrapped(value, there, here) for key, value in kwargs.items()}
    here = [leaf for leaf in here if leaf.ndim]  # a single number may come from the CPU
    if there and here and name not in MOVES:
        raise RuntimeError(f"{func} got tensors of two devices: {NAME} and cpu")
    wanted = kwargs.get("device")
    away = bool(there) if wanted is None else torch.device(wanted).type == NAME
    by_mask = name.startswith("index") and any(leaf.dtype == torch.bool for leaf in there[1:])
    if there and (name in WAITS or by_mask or not away):
        waits.append(name)
    if away and here and not kwargs.get("non_blocking"):  # torch copies, and waits for the copy
        waits.append(f"{name} to the device")
    if wanted is not None:
        options["device"] = "cpu"
    result = func(*inner, **options)
    if not away:
        return result
    if func._schema.is_mutable:  # in place: the tensor itself
        return args[0] if isinstance(result, torch.Tensor) else result
    return wrapped(result)


def register() -> None:
    """Make torch know the device, and the two ops that it calls beneath the dispatcher."""
    registration._setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
    torch.Generator = PlacedGenerator  # type: ignore[misc]

    def empty_strided(size: Any, stride: Any, dtype: Any = None, **_: Any) -> Pretended:
        return Pretended(torch.empty_strided(size, stride, dtype=dtype))

    def copy_from(source: torch.Tensor, to: Pretended, non_blocking: bool = False) -> Pretended:
        waits.append("new data to the device")
        to.values.copy_(source.values if isinstance(source, Pretended) else source)
        return to

    library.impl("empty_strided", empty_strided, "PrivateUse1")
    library.impl("_copy_from", copy_from, "PrivateUse1")


def rules() -> dict[str, str]:
    """What the device answers to code that forgets where its tensors are."""
    there = torch.ones(3, device=DEVICE)
    mistakes = {
        "two devices": lambda: there + torch.ones(3),
        "a generator of the CPU": lambda: torch.randn(
            3, device=DEVICE, generator=torch.Generator()
        ),
        "a generator of the device": lambda: torch.randn(3, generator=torch.Generator(DEVICE)),
        "NumPy": lambda: there.numpy(),
    }
    answers = {}
    for name, mistake in mistakes.items():
        try:
            mistake()
            answers[name] = "nothing"
        except (RuntimeError, TypeError) as error:
            answers[name] = str(error)
    waits.clear()
    there.sum().item(), there.cpu(), there.nonzero(), there.tolist(), there * torch.tensor(2.0)
    answers["waits"] = " ".join(waits)
    return answers


def observed(device: str) -> dict[str, dict[str, Any]]:
    """What training every variant of every recipe comes to there, and all numbers of some."""
    from models import (
        IDS,
        MEASURED,
        SAMPLED,
        VARIANTS,
    )  # after register: modules take torch's generator by name

    from mmvae_core import data, metrics, recipes, training
    from mmvae_core.model import MultimodalVAE
    from mmvae_core.training import TrainConfig, fit

    training.time.monotonic = lambda: 0.0  # what fit does once a second does not come by chance

    samples = data.load("digits", None, 3, train_size=64, test_size=32)
    gaps = data.hide_at_random(samples[0], 0.3, seed=0).to(device)
    train, test = (part.to(device) for part in samples)
    judges = metrics.train_classifiers(train, epochs=1)
    few_samples = metrics.Settings(
        draws=4, likelihood_samples=16, generated=40, probe_latents=60, imputation_samples=20,
        imputation_draws=3,
    )  # fmt: skip
    found: dict[str, dict[str, Any]] = {name: {} for name in ("runs", "waits", "gaps", "measured")}

    ends: list[int] = []  # of the steps: how often the host had waited by then
    register_optimizer_step_post_hook(lambda *_: ends.append(len(waits)))

    def trained(name: str, options: Any, samples: Any = train, **training: Any) -> Any:
        torch.manual_seed(0)
        model = MultimodalVAE(
            recipes.build(name, 3, **options), train.shapes, 4, names=train.names,
            networks="dense", scale="bounded",
        ).to(device)  # fmt: skip
        config = TrainConfig(epochs=1, batch_size=32, **training)  # two steps
        valid = None if samples.complete else test
        ends.clear()
        history = fit(model, samples, config, valid=valid, show_progress=False)
        first, second = ends
        return model, history.epochs[-1], waits[first:second]

    def run(label: str, name: str, options: Any, **training: Any) -> Any:
        model, found["runs"][label], found["waits"][label] = trained(name, options, **training)
        return model

    for label, (name, options) in zip(IDS, VARIANTS, strict=True):
        model = run(label, name, options)
        found["gaps"][label] = trained(name, options, gaps)[1]
        if label in MEASURED:
            rows = metrics.measure(model, train, test, judges, few_samples)
            found["measured"][label] = [("/".join(row[:3]), row.value) for row in rows]
    for weights in SAMPLED:
        run(f"sampled subsets, {weights}", "code_vae", {"weights": weights}, subset_samples=2)
    return found


def main() -> None:
    """On the CPU as it is, and on the device, behind its walls."""
    register()
    torch.set_num_threads(1)
    here = observed("cpu")
    with Wall(), Generators():
        print(json.dumps({"rules": rules(), "here": here, "there": observed(DEVICE)}))


if __name__ == "__main__":
    main()
