r"""A world with an answer, for rules that are learned: notebook 05 up to its pictures.

One latent number and M noisy readings of it,

.. math:: z \sim N(0, 1), \qquad x_m = z + \sqrt{v_m}\, n_m, \qquad
          n \sim N(0, (1-c) I + c\, 1 1^T),

every reading with a variance :math:`v_m` of its own, drawn anew for every sample. An expert sees
one reading and answers exactly, :math:`p(z|x_m) = N(\mu_m, \sigma_m^2)` with
:math:`\mu_m = x_m/(1+v_m)` and :math:`\sigma_m^2 = v_m/(1+v_m)`. So a rule is given the pairs
:math:`(\mu_m, \sigma_m)`, and the best it can answer is known: undo the prior in each expert, join
the readings as CoDE with correlation c, and count the prior once (:meth:`NoisyReadings.posterior`).
With c = 0 this is the product of experts with the prior counted once; with c > 0 it is none of the
library's rules.

A rule q is trained on pairs of experts and truth, to make :math:`E \log q(z | S)` large. What it
lacks is a divergence,

.. math:: E \log p(z|x_S) - E \log q(z|S) = E\, \mathrm{KL}(p(z|x_S) \,\|\, q(\cdot|S)) \ge 0,

in nats, and is computed in closed form (:func:`excess_nats`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor, nn
from torch.distributions import Normal

from mmvae_core.aggregation import Aggregate, Gaussians, code
from mmvae_core.files import digest_of, regular
from mmvae_core.learned import LearnedCode, SelfAttention, SumPooling

__all__ = ["MAX_EXPERTS", "NEW_RULES", "STORED", "Array", "NoisyReadings", "Number", "Pair",
           "exact_loss", "excess_nats", "fit", "load_rules", "plane", "save_rules",
           "trained_worlds"]  # fmt: skip

Array = NDArray[np.float64]
Number: TypeAlias = float | int
Pair: TypeAlias = tuple[Number, Number]

MAX_EXPERTS = 5  # what the rules are trained on: sets of one to five
VARIANCES = (0.25, 4.0)  # of the noise of a reading, in training

NEW_RULES: dict[str, Callable[[], nn.Module]] = {
    "learned_rho": lambda: LearnedCode(MAX_EXPERTS),
    "sum_pooling": lambda: SumPooling(1, 64, bounded=True),
    "self_attention": lambda: SelfAttention(1, 32, heads=4, layers=2, bounded=True),
}
"""The rules of the notebook that are trained, each as it is before training."""

STORED: dict[str, tuple[float, str]] = {
    "independent noises": (0.0, "05_rules_c0.safetensors"),
    "correlated noises": (0.6, "05_rules_c6.safetensors"),
}
"""The worlds of the notebook: correlation of the noises, and where its rules are kept."""

_PAIR = torch.ones(1, 2, dtype=torch.bool)


@dataclass(frozen=True)
class NoisyReadings:
    """A latent number, noisy readings of it, and an exact expert on each.

    Args:
        noise_correlation: c, the correlation of the noises of two readings, in [0, 1).
        variances: the range that the noise variances come from, uniform in their logarithm.

    Raises:
        ValueError: a correlation or a range that is none.

    >>> world = NoisyReadings(noise_correlation=0.0)
    >>> loc, scale = torch.zeros(2, 1), torch.full((2, 1), 0.5).sqrt()  # two experts, v = 1
    >>> _, std = world.posterior(loc, scale, torch.tensor([[True, True]]))
    >>> round(std.item() ** 2, 4)
    0.3333
    """

    noise_correlation: Number = 0.0
    variances: Pair = VARIANCES

    def __post_init__(self) -> None:
        if not 0 <= self.noise_correlation < 1:
            raise ValueError(f"noise_correlation must lie in [0, 1); got {self.noise_correlation}")
        low, high = self.variances
        if not 0 < low <= high < math.inf:
            raise ValueError(f"variances must be a range of positive numbers; got {low}, {high}")

    @property
    def scales(self) -> tuple[float, float]:
        """The range of the experts' standard deviations."""
        low, high = (math.sqrt(v / (1 + v)) for v in self.variances)
        return low, high

    def sample(
        self, num_experts: int, count: int, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "B 1"], Float[Tensor, "M B 1"], Float[Tensor, "M B 1"]]:
        """``count`` latents, and what ``num_experts`` experts say of each: z, loc, scale."""
        c, (low, high) = self.noise_correlation, (math.log(v) for v in self.variances)
        z = torch.randn(count, 1, generator=generator)
        share = torch.rand(num_experts, count, 1, generator=generator)
        v = torch.exp(low + (high - low) * share)
        own = torch.randn(num_experts, count, 1, generator=generator)
        common = torch.randn(count, 1, generator=generator)
        x = z + v.sqrt() * (math.sqrt(1 - c) * own + math.sqrt(c) * common)
        return z, x / (1 + v), (v / (1 + v)).sqrt()

    def posterior(
        self,
        loc: Float[Tensor, "M *shape"],
        scale: Float[Tensor, "M *shape"],
        cond: Bool[Tensor, "K M *batch"],
    ) -> Gaussians:
        r"""The exact answer p(z|x_S), as a rule: it knows c, and that experts share a prior.

        With readings :math:`x_m = \mu_m/(1-\sigma_m^2)`, :math:`v_m = \sigma_m^2/(1-\sigma_m^2)`
        joined by CoDE at correlation c into N(B/A, 1/A),

        .. math:: p(z|x_S) = N\big(B/(1 + A),\; 1/(1 + A)\big).

        Raises:
            ValueError: as :func:`mmvae_core.aggregation.code`, and for scales not below 1.
        """
        if not (scale < 1).all():
            raise ValueError(
                "an exact expert under the prior N(0, 1) has a scale below 1; "
                f"got {scale.max().item():.4g}"
            )
        left = 1 - scale.square()  # what a reading takes away from the prior's variance
        mean, std = code(loc / left, scale / left.sqrt(), cond, rho=float(self.noise_correlation))
        precision = std.square().reciprocal()
        return mean * precision / (1 + precision), (1 + precision).rsqrt()

    def statement_covariance(self, sigma: Pair) -> Array:
        r"""Covariance of what two experts of these scales say, (μ₁, μ₂), over the samples.

        :math:`\mathrm{Var}\,\mu_i = 1 - \sigma_i^2` and
        :math:`\mathrm{Cov} = (1-\sigma_1^2)(1-\sigma_2^2)(1 + c\sqrt{v_1 v_2})`.
        """
        left = 1 - np.square(np.asarray(sigma, dtype=float))
        v = 1 / left - 1
        cov = left[0] * left[1] * (1 + self.noise_correlation * math.sqrt(v[0] * v[1]))
        return np.array([[left[0], cov], [cov, left[1]]])


# --- training -------------------------------------------------------------------------------------


def fit(
    rule: nn.Module,
    world: NoisyReadings,
    *,
    steps: int = 2000,
    batch_size: int = 512,
    learning_rate: Number = 3e-3,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train ``rule`` to name the truth: maximise E log q(z|S), S of one to five experts.

    Every sample has a subset of its own, its size drawn uniformly: one row of masks ``[1, M, B]``.
    The rule is changed in place.

    Args:
        steps, batch_size, learning_rate: of Adam; the rate rises and falls in one cycle.
        seed: of samples and subsets. (What the rule starts from is the caller's.)
        progress: called every 100 steps with the step and the mean loss since the last call.

    Returns:
        The losses, −log q(z|S) in nats, averaged over every 100 steps.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(rule.parameters(), lr=float(learning_rate), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, float(learning_rate), total_steps=steps, pct_start=0.1
    )
    losses, total = [], 0.0
    for step in range(1, steps + 1):
        z, loc, scale = world.sample(MAX_EXPERTS, batch_size, generator)
        size = torch.randint(1, MAX_EXPERTS + 1, (batch_size,), generator=generator)
        place = torch.rand(MAX_EXPERTS, batch_size, generator=generator).argsort(0).argsort(0)
        mean, std = rule(loc, scale, (place < size)[None])
        loss = -Normal(mean, std, validate_args=False).log_prob(z).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            losses.append(total / 100)
            total = 0.0
            if progress is not None:
                progress(step, losses[-1])
    return losses


def save_rules(rules: Mapping[str, nn.Module], path: str | Path) -> None:
    """Write the parameters of trained rules, each under its name and a dot."""
    tensors = {
        f"{name}.{key}": value.detach().float().contiguous()
        for name, rule in rules.items()
        for key, value in rule.state_dict().items()
    }
    save_file(tensors, str(path), metadata={"sha256": digest_of(tensors)})


def load_rules(path: str | Path) -> dict[str, nn.Module]:
    """The rules that :func:`save_rules` wrote, in float64, as they were after training.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is damaged or holds other rules.
    """
    path = regular(path)
    rules = {}
    try:
        with safe_open(path, framework="pt") as file:
            noted = (file.metadata() or {}).get("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if noted is not None and noted != digest_of(tensors):
            raise ValueError("it does not hold what was written to it")
        for name, new in NEW_RULES.items():
            rule = new()
            prefix = f"{name}."
            rule.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
            rules[name] = rule.double().eval().requires_grad_(False)
    except Exception as error:  # safetensors raises of several kinds
        raise ValueError(
            f"{path} must hold the trained rules {', '.join(NEW_RULES)}, and does not "
            f"({str(error)[:200]}). Copy it again from where it came, or make it anew with "
            "figures/make_05_learned_rules.py"
        ) from error
    return rules


def trained_worlds(
    folder: str | Path,
) -> dict[str, tuple[NoisyReadings, dict[str, nn.Module]]]:
    """Both worlds of the notebook with the rules that were trained in each, by the world's name.

    Args:
        folder: where ``figures/make_05_learned_rules.py`` has put its files.
    """
    return {
        name: (NoisyReadings(correlation), load_rules(Path(folder) / file))
        for name, (correlation, file) in STORED.items()
    }


# --- judging --------------------------------------------------------------------------------------


def excess_nats(
    rule: Aggregate,
    world: NoisyReadings,
    num_experts: int,
    *,
    draws: int = 4000,
    seed: int = 12345,
) -> tuple[float, float]:
    """How much a rule loses against the exact answer, E KL(p(z|x_S)‖q), with its standard error.

    Args:
        rule: in any precision; it is given float64 where it has no parameters.
        world: where the experts come from. It need not be the world the rule was trained in.
        num_experts: all of them are in the set.
        draws: samples; the same ones for every rule, given world, number and ``seed``.

    Returns:
        Nats, never negative; 0 for the exact answer.
    """
    _, loc, scale = world.sample(num_experts, draws, torch.Generator().manual_seed(seed))
    loc, scale = loc.double(), scale.double()
    every = torch.ones(1, num_experts, dtype=torch.bool)
    exact = Normal(*world.posterior(loc, scale, every))
    with torch.no_grad():
        mean, std = in_its_precision(rule, loc, scale, every)
    kl = torch.distributions.kl_divergence(exact, Normal(mean, std)).flatten()
    return kl.mean().item(), (kl.std() / math.sqrt(draws)).item()


def exact_loss(world: NoisyReadings, *, draws: int = 20_000, seed: int = 12345) -> float:
    r"""What the loss of :func:`fit` is for the exact answer: the floor, in nats.

    The posterior's entropy :math:`E\,\tfrac12\log(2\pi e\,\sigma^2)`, its mean over samples and
    over the sizes of the set.
    """
    _, _, scale = world.sample(MAX_EXPERTS, draws, torch.Generator().manual_seed(seed))
    scale = scale.double()
    sizes = torch.arange(MAX_EXPERTS) < torch.arange(1, MAX_EXPERTS + 1)[:, None]
    _, std = world.posterior(torch.zeros_like(scale), scale, sizes)
    return (std.log().mean() + 0.5 * math.log(2 * math.pi * math.e)).item()


def plane(
    rule: Aggregate, sigma: Pair, mu_1: Array, mu_2: Array
) -> tuple[Float[Tensor, "G_2 G_1"], Float[Tensor, "G_2 G_1"]]:
    """Mean and standard deviation of a rule for every pair (μ₁, μ₂), rows by μ₂."""
    pairs = np.stack([part.ravel() for part in np.meshgrid(mu_1, mu_2)])  # (2, G)
    loc = torch.from_numpy(pairs)[..., None]
    scale = torch.tensor(sigma, dtype=loc.dtype)[:, None, None].expand_as(loc)
    with torch.inference_mode():
        mean, std = in_its_precision(rule, loc, scale, _PAIR)
    shape = len(mu_2), len(mu_1)
    return mean.view(shape), std.view(shape)


def in_its_precision(rule: Aggregate, loc: Tensor, scale: Tensor, cond: Tensor) -> Gaussians:
    """Call a rule in the precision of its parameters, and answer in float64."""
    parameter = next(iter(rule.parameters()), loc) if isinstance(rule, nn.Module) else loc
    mean, std = rule(loc.to(parameter.dtype), scale.to(parameter.dtype), cond)
    return mean.double(), std.double()
