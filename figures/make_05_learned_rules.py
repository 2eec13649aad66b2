"""Train the learned rules of notebook 05 with three seeds in both worlds, and keep the numbers.

    python figures/make_05_learned_rules.py

writes figures/05_learned_rules.json (what every rule loses against the exact answer, in nats, by
the number of experts, with every seed) and figures/05_rules_c0.safetensors and 05_rules_c6: the
parameters of the first seed, which the notebook's pictures are drawn with. About ten minutes on one
core.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from course.noisy_readings import NEW_RULES, NoisyReadings, excess_nats, fit, save_rules
from tqdm import tqdm

from mmvae_core.aggregation import code_shared_prior, poe, poe_prior_once, wasserstein
from mmvae_core.metrics import provenance, write_json

HERE = Path(__file__).resolve().parent
SEEDS = (0, 1, 2)
STEPS = {"learned_rho": 500, "sum_pooling": 4000, "self_attention": 2500}
RATES = {"learned_rho": 0.3, "sum_pooling": 3e-3, "self_attention": 3e-3}
WORLDS = {"c0": 0.0, "c6": 0.6}
NUMBERS = (1, 2, 3, 4, 5, 7, 10)  # beyond 5 the rules have not been trained
FIXED = {"poe": poe, "poe_prior_once": poe_prior_once, "wasserstein": wasserstein,
         "code_shared_prior": code_shared_prior}  # fmt: skip


def judged(rule, world: NoisyReadings) -> dict[str, list[float]]:
    pairs = [excess_nats(rule, world, number) for number in NUMBERS]
    return {"nats": [p[0] for p in pairs], "standard_error": [p[1] for p in pairs]}


def main() -> None:
    torch.set_num_threads(1)
    results: dict[str, dict] = {}
    for key, correlation in WORLDS.items():
        world = NoisyReadings(noise_correlation=correlation)
        rows: dict[str, dict] = {name: judged(rule, world) for name, rule in FIXED.items()}
        for name, new in NEW_RULES.items():
            runs, seconds = [], []
            for seed in tqdm(SEEDS, desc=f"{key} {name}"):
                torch.manual_seed(seed)
                rule = new()
                start = time.perf_counter()
                fit(rule, world, steps=STEPS[name], learning_rate=RATES[name], seed=seed)
                seconds.append(time.perf_counter() - start)
                runs.append(rule)
            rows[name] = {
                "seeds": [judged(rule, world)["nats"] for rule in runs],
                "seconds": seconds,
                "parameters": sum(p.numel() for p in runs[0].parameters()),
            }
            if name == "learned_rho":
                rows[name]["rho"] = [rule.rho.item() for rule in runs]
            rows[name]["first"] = runs[0]
        first = {name: rows[name].pop("first") for name in NEW_RULES}
        save_rules(first, HERE / f"05_rules_{key}.safetensors")
        results[key] = {"noise_correlation": correlation, "excess": rows}
    write_json(
        HERE / "05_learned_rules.json",
        {"num_experts": list(NUMBERS), "worlds": results, "made_with": provenance()},
    )


if __name__ == "__main__":
    main()
