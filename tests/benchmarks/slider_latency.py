"""How long a slider takes: the step in the kernel, and from key press to painted frame.

    python tests/benchmarks/slider_latency.py [--presses 60] [--kernel-only]

Runs alone: nothing else should use the machine. Prints median and 95th percentile in
milliseconds. The kernel's time is a step of ``TwoExperts`` with all its traces, without the
transport; the browser's is everything: key, message, kernel, message, plotly, frame.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Resolves with the milliseconds between the key press and the frame after plotly has drawn.
WATCH = """
css => {
  const gd = document.querySelector(css + ' .js-plotly-plot');
  let pressed = null;
  window.latencies = [];
  document.addEventListener('keydown', () => { pressed = performance.now(); }, true);
  gd.on('plotly_afterplot', () => {
    if (pressed === null) return;
    const start = pressed;
    pressed = null;
    // The next animation frame paints what was drawn; the one after it, the paint is over.
    requestAnimationFrame(() => requestAnimationFrame(
      () => window.latencies.push(performance.now() - start)));
  });
}
"""


def summary(name: str, ms: list[float]) -> None:
    median, p95 = np.median(ms), np.percentile(ms, 95)
    print(f"{name:32} median {median:7.1f} ms   p95 {p95:7.1f} ms   ({len(ms)} steps)")


def kernel(presses: int) -> None:
    from mmvae_core.explore.two_experts import TwoExperts

    explorer = TwoExperts()
    everything: list[float] = []
    for name, slider in explorer.sliders.items():
        ms = []
        for value in np.linspace(slider.min, slider.max, presses):
            start = time.perf_counter()
            slider.value = float(value)
            ms.append(1e3 * (time.perf_counter() - start))
        summary(f"kernel step, {name}", ms)
        everything += ms
    summary("kernel step, all sliders", everything)


def paint(presses: int) -> None:
    from browser import focus_slider, lab, notebook
    from test_browser import TWO_EXPERTS

    with lab() as server, notebook(server, f"notebooks/{TWO_EXPERTS.notebook}") as page:
        quiz = page.locator(".prediction")
        quiz.get_by_role("radio").last.check()
        quiz.get_by_role("button", name="Commit, then show me").click()
        quiz.locator(".js-plotly-plot").wait_for()
        css = f"prediction .{TWO_EXPERTS.css}"
        page.wait_for_timeout(1000)
        page.evaluate(WATCH, f".{css}")
        everything: list[float] = []
        for name, says in TWO_EXPERTS.sliders.items():
            ms = one_slider(page, css, says, presses, focus_slider)
            summary(f"key to painted frame, {name}", ms)
            everything += ms
        summary("key to painted frame, all", everything)


def one_slider(page: Any, css: str, says: str, presses: int, focus_slider: Any) -> list[float]:
    focus_slider(page, css, says)
    page.keyboard.press("Home")
    page.wait_for_timeout(500)
    page.evaluate("() => { window.latencies = []; }")
    for done in range(1, presses + 1):
        page.keyboard.press("ArrowRight")
        page.wait_for_function("n => window.latencies.length >= n", arg=done, polling=5)
    return page.evaluate("() => window.latencies")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presses", type=int, default=60)
    parser.add_argument("--kernel-only", action="store_true")
    options = parser.parse_args()
    kernel(options.presses)
    if not options.kernel_only:
        paint(options.presses)
