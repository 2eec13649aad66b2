"""Keep what pytest-benchmark measured: medians, ratios in one run, and the machine.

python tests/benchmarks/keep.py build/benchmark.json figures/benchmarks.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mmvae_core.metrics import provenance, write_json

# Each group's time is also told as a ratio to the one that it is judged against.
REFERENCES = {
    "aggregate 31 subsets, forward and backward": "poe",
    "a training step, M=5 B=256 D=512": "bare networks",
}


def main(source: str, target: str) -> None:
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for row in json.loads(Path(source).read_text(encoding="utf-8"))["benchmarks"]:
        stats = row["stats"]
        groups.setdefault(row["group"], {})[row["param"]] = {
            "median_ms": 1e3 * stats["median"],
            "min_ms": 1e3 * stats["min"],
            "rounds": stats["rounds"],
        }
    for group, rows in groups.items():
        reference = rows[REFERENCES[group]]["median_ms"]
        for row in rows.values():
            row[f"ratio_to_{REFERENCES[group].replace(' ', '_')}"] = row["median_ms"] / reference
    write_json(target, {"groups": groups, "made_with": provenance()})


if __name__ == "__main__":
    main(*sys.argv[1:])
