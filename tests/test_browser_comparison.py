"""Notebook 07 in a real browser: the reader predicts, chooses, presses a mark, and sees samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest

from mmvae_core.comparison import Results, trade_off
from mmvae_core.explore.comparison import read_samples
from mmvae_core.figures.comparison import MODELS

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

FIGURES = Path(__file__).resolve().parents[1] / "figures"
NOTEBOOK, CSS = "07_comparison.ipynb", "explore-comparison"

# Where on the screen the first mark of a trace is.
_PLACE = """
([css, name]) => {
  const gd = document.querySelector(css);
  const trace = gd._fullData.find(t => t.name === name);
  const frame = gd.getBoundingClientRect();
  const {xaxis, yaxis} = gd._fullLayout;
  return [frame.x + xaxis._offset + xaxis.l2p(trace.x[0]),
          frame.y + yaxis._offset + yaxis.l2p(trace.y[0])];
}
"""


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser.lab() as lab, browser.notebook(lab, f"notebooks/{NOTEBOOK}") as page:
        yield page


def assert_page_draws(page: Any, results: Results, x: str, y: str, **wanted: Any) -> None:
    marks = trade_off(results.select(**wanted), x, y)
    seen = browser.settled(page, CSS)
    for recipe in MODELS:
        own = [mark for mark in marks if mark.recipe == recipe]
        np.testing.assert_allclose(seen[recipe]["x"], [mark.x.mean for mark in own], atol=1e-9)
        np.testing.assert_allclose(seen[recipe]["y"], [mark.y.mean for mark in own], atol=1e-9)
        assert len(seen[f"runs of {recipe}"]["x"]) == sum(len(mark.points) for mark in own)


def test_the_reader_predicts_chooses_and_sees_samples(page: Any) -> None:
    results = Results.read(FIGURES / "07_comparison.parquet")
    assert browser.problems(page) == []
    assert page.locator(f".{CSS}").count() == 0  # not before the prediction
    card = page.locator(".prediction", has_text="highest joint log-likelihood")
    card.get_by_label("first there too", exact=True).check()
    card.get_by_role("button", name="Commit, then show me").click()
    page.wait_for_selector(f".{CSS} .js-plotly-plot .main-svg")
    usual = {"beta": 1.0, "rho": [None, 0.4]}
    coherence, nats = "conditional_coherence", "log_likelihood"
    assert_page_draws(page, results, nats, coherence, data="polymnist", **usual)
    explorer = page.locator(f".{CSS}")
    explorer.get_by_label("data", exact=True).select_option("digits")
    page.wait_for_timeout(800)  # milliseconds: an answer of the kernel
    assert_page_draws(page, results, nats, coherence, data="digits", **usual)
    explorer.get_by_label("across", exact=True).select_option("linear accuracy")
    explorer.get_by_role("button", name="MVAE", exact=True).click()
    page.wait_for_timeout(800)
    rest = [name for name in MODELS if name != "mvae"]
    assert_page_draws(
        page, results, "linear_accuracy", coherence, data="digits", recipe=rest, **usual
    )
    if "digits/mopoe" in read_samples(FIGURES / "07_samples.npz"):
        explorer.get_by_label("samples of", exact=True).select_option("MoPoE")
        picture = explorer.get_by_role("img", name="what MoPoE generates from each view")
        picture.wait_for()
        assert picture.evaluate("image => image.naturalWidth") > 100
    assert browser.problems(page) == []
    explorer.screenshot(path=browser.artefacts() / "07_comparison.png")


def test_a_pressed_mark_brings_its_samples(page: Any) -> None:
    sheets = read_samples(FIGURES / "07_samples.npz")  # of vae, which no other mark is near
    if not sheets:
        pytest.skip("no samples are stored: python figures/make_07_comparison.py --samples")
    explorer = page.locator(f".{CSS}")
    explorer.scroll_into_view_if_needed()
    # No other mark is near that of the VAEs, whose coherence is a guess.
    across, up = page.evaluate(_PLACE, [f".{CSS} .js-plotly-plot", "vae"])
    page.mouse.move(across - 30, up - 30)
    page.mouse.move(across, up, steps=5)
    page.wait_for_timeout(300)  # milliseconds: plotly looks for what is near, then clicks count
    page.mouse.click(across, up)
    explorer.get_by_role("img", name="what VAE generates from each view").wait_for()
    assert browser.problems(page) == []
