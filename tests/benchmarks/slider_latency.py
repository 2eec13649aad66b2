"""How long a slider takes: state and picture in the kernel, and from key press to painted frame.

    python tests/benchmarks/slider_latency.py [--presses 40] [--kernel-only] [--only TwoExperts]

Every explorer of the course stands in one page twice: as it is, and with the same picture painted
by plotly's FigureWidget, traces and labels updated in place. Both get the same keys in the same
run. ``Bare``, whose picture is one point, is what Jupyter itself needs: to the kernel, back, and a
frame. Nothing else should use the machine. Writes ``figures/slider_latency.json``: medians and 95th
percentiles in milliseconds, by explorer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "notebooks"), str(Path(__file__).parent)]

# Milliseconds from a key press to the end of the frame in which the picture is painted. Our painter
# speaks inside that frame, plotly before it; a message is delivered once the frame is made.
WATCH = """
place => {
  let pressed = null;
  place.latencies = [];
  place.addEventListener('keydown', () => { pressed = performance.now(); }, true);
  const framed = () => {
    if (pressed === null) return;
    const start = pressed, { port1, port2 } = new MessageChannel();
    pressed = null;
    port1.onmessage = () => place.latencies.push(performance.now() - start);
    port2.postMessage(null);
  };
  place.querySelector('.mmvae-picture')?.addEventListener('painted', framed);
  place.querySelector('.js-plotly-plot')?.on(
    'plotly_afterplot', () => requestAnimationFrame(framed));
}
"""


def kernel(kind: Any, presses: int) -> list[float]:
    """State and picture for every place of every control, milliseconds."""
    explorer = kind.example() if hasattr(kind, "example") else kind()
    start, ms = explorer.values(), []
    for name, control in explorer.controls.items():
        ends = getattr(control, "min", None), getattr(control, "max", None)
        for value in () if ends[0] is None else np.linspace(*ends, presses):
            steps = round((value - control.min) / control.step)
            at = start | {name: min(control.max, round(control.min + steps * control.step, 10))}
            begin = time.perf_counter()
            explorer.picture(explorer.state(**at))
            ms.append(1e3 * (time.perf_counter() - begin))
    return ms


def page(kinds: list[Any], presses: int) -> dict[str, dict[str, list[float]]]:
    """Latencies of both painters, by explorer."""
    from browser import lab, notebook, problems

    cells = ["import sys\nsys.path[:0] = " + repr(sys.path[:3]) + "\nfrom plotly_twin import twin"]
    for kind in kinds:
        make = f"{kind.__name__}{'.example' if hasattr(kind, 'example') else ''}()"
        cells += [f"from {kind.__module__} import {kind.__name__}\n{make}",
                  f"twin({make}, 'plotly-{kind.__name__}')"]  # fmt: skip
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    found: dict[str, dict[str, list[float]]] = {}
    with lab() as server:
        nbformat.write(book, server.root / "latency.ipynb")
        with notebook(server, "latency.ipynb") as shown:
            for kind in kinds:
                found[kind.__name__] = {}
                for painter, name in (
                    ("svg", kind.__name__),
                    ("plotly", f"plotly-{kind.__name__}"),
                ):
                    place = shown.locator(f".{name}")
                    place.locator("svg").first.wait_for()
                    place.scroll_into_view_if_needed()
                    place.evaluate(WATCH)
                    found[kind.__name__][painter] = one(shown, place, presses)
            assert problems(shown) == [], problems(shown)
    return found


def one(shown: Any, place: Any, presses: int) -> list[float]:
    """Every slider from its lower end upward, a key at a time."""
    ms: list[float] = []
    for slider in place.get_by_role("slider").all():
        slider.focus()
        shown.keyboard.press("Home")
        before = -1.0
        for _ in range(presses + 1):
            place.evaluate("place => { place.latencies = []; }")
            if float(slider.input_value()) == before:
                break  # at its upper end
            before = float(slider.input_value())
            shown.keyboard.press("ArrowRight")
            try:
                shown.wait_for_function(
                    "place => place.latencies.length > 0", arg=place.element_handle(), timeout=2000
                )
            except Exception:  # this step changes nothing in the picture
                continue
            ms += place.evaluate("place => place.latencies")
    return ms


def summary(ms: list[float]) -> dict[str, float]:
    if not ms:
        return {"steps": 0}  # no step of a slider changes the picture
    return {"median_ms": round(float(np.median(ms)), 2),
            "p95_ms": round(float(np.percentile(ms, 95)), 2), "steps": len(ms)}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presses", type=int, default=20)
    parser.add_argument("--kernel-only", action="store_true")
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    from plotly_twin import Bare
    from test_browser import EXPLORERS

    chosen = [k for k in [Bare, *EXPLORERS] if not options.only or k.__name__ in options.only]
    table: dict[str, dict[str, Any]] = {
        kind.__name__: {"kernel": summary(kernel(kind, 60))} for kind in chosen
    }
    if not options.kernel_only:
        for name, painters in page(chosen, options.presses).items():
            table[name] |= {painter: summary(ms) for painter, ms in painters.items()}
            if painters["svg"] and painters["plotly"]:
                ratio = np.median(painters["plotly"]) / np.median(painters["svg"])
                table[name]["plotly_over_svg"] = round(float(ratio), 2)
    for name, row in table.items():
        print(name, json.dumps(row))
    if not options.kernel_only and not options.only:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(),
                   "machine": platform.machine(), "load": os.getloadavg()[0]}  # fmt: skip
        file = ROOT / "figures" / "slider_latency.json"
        file.write_text(json.dumps({"machine": machine, "explorers": table}, indent=1) + "\n")
