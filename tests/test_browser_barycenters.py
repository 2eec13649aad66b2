"""Notebook 03 in a real browser: every slider by keyboard; the page draws what Python computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import browser
import numpy as np
import pytest

from mmvae_core import averages
from mmvae_core.figures.barycenters import barycenters_picture, paths_picture, zero_forcing_picture
from mmvae_core.figures.picture import Picture
from mmvae_core.figures.two_experts import number
from mmvae_core.geometry import BARYCENTERS

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

NOTEBOOK = "03_barycenters.ipynb"
EXPERTS = {
    f"{name}_{m}": f"{spoken} of expert {m}"
    for name, spoken in [("mu", "mean"), ("sigma", "standard deviation"), ("weight", "weight")]
    for m in (1, 2, 3)
}
BARYCENTERS_EXPLORER = browser.Explorer(
    NOTEBOOK, "explore-barycenters", EXPERTS | {"tilt": "tilt of the ellipses in degrees"}
)
PATHS_EXPLORER = browser.Explorer(
    NOTEBOOK,
    "explore-paths",
    {
        "t": "place on the way",
        "distance": "distance of the means",
        "std_1": "standard deviation of Gaussian 1",
        "std_2": "standard deviation of Gaussian 2",
    },
)
ZERO_FORCING_EXPLORER = browser.Explorer(
    NOTEBOOK,
    "explore-zero-forcing",
    {
        "separation": "separation of the modes",
        "weight": "weight of the right mode",
        "std_2": "standard deviation of the right mode",
    },
)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser.lab() as lab, browser.notebook(lab, f"notebooks/{NOTEBOOK}") as page:
        yield page


def three_experts(at: dict[str, float]) -> averages.BarycentersState:
    mu, sigma, weight = ([at[f"{n}_{m}"] for m in (1, 2, 3)] for n in ("mu", "sigma", "weight"))
    return averages.barycenters_state(mu, sigma, weight, at["tilt"])


def assert_page_draws(page: Any, css: str, picture: Picture) -> None:
    seen = browser.settled(page, css)
    for name, layer in picture.layers.items():
        np.testing.assert_allclose(seen[name]["x"], layer.x, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(seen[name]["y"], layer.y, atol=1e-9, err_msg=name)
    for panel, labels in picture.labels.items():
        assert seen[f"labels {panel}"]["text"] == [label.text for label in labels]


def sweep(page: Any, explorer: browser.Explorer, check: Any) -> None:
    """Every slider to its lower end, its upper end and back between, by keyboard alone."""
    at = {}
    for name, label in explorer.sliders.items():
        at[name] = browser.slider_value(browser.focus_slider(page, explorer.css, label))
    check(at)
    for name, label in explorer.sliders.items():
        handle = browser.focus_slider(page, explorer.css, label)
        seen = []
        for keys in (["Home"], ["End"], ["PageDown", "ArrowLeft"]):
            for key in keys:
                page.keyboard.press(key)
            browser.settled(page, explorer.css)
            at[name] = browser.slider_value(handle)
            seen.append(at[name])
            check(at)
        assert seen[0] < seen[2] < seen[1], (name, seen)
    assert browser.problems(page) == []


def reveal(page: Any, question: str, answer: str, css: str) -> None:
    """Answer a prediction as a reader does; the picture is not on the page before."""
    assert page.locator(f".{css}").count() == 0
    card = page.locator(".prediction", has_text=question)
    card.get_by_label(answer, exact=True).check()
    card.get_by_role("button", name="Commit, then show me").click()
    page.wait_for_selector(f".{css} .js-plotly-plot .main-svg")
    browser.settled(page, css)


def shoot(page: Any, css: str, name: str) -> None:
    """Take a picture of the whole explorer: of a page that is tall enough, for a moment."""
    page.set_viewport_size({"width": browser.VIEWPORT["width"], "height": 1400})
    page.locator(f".{css}").scroll_into_view_if_needed()
    page.wait_for_timeout(300)  # milliseconds: the page lays itself out again
    page.locator(f".{css}").screenshot(path=browser.artefacts() / f"03_{name}.png")
    page.set_viewport_size(browser.VIEWPORT)


def test_the_notebook_runs_without_an_error(page):
    assert browser.problems(page) == []


def test_barycenters_by_keyboard(page):
    css = BARYCENTERS_EXPLORER.css
    page.wait_for_selector(f".{css} .js-plotly-plot .main-svg")
    browser.settled(page, css)
    shoot(page, css, "barycenters")

    def check(at):
        state = three_experts(at)
        assert_page_draws(page, css, barycenters_picture(state))
        for row, q in zip(browser.readout(page, css)[1:], BARYCENTERS, strict=True):
            shown = [state.mean[q], state.std[q], *(state.cost[q][d] for d in BARYCENTERS)]
            assert row[1:] == [number(value, 3) for value in shown]

    sweep(page, BARYCENTERS_EXPLORER, check)
    page.get_by_role("button", name="Equally sure, far apart").click()
    browser.settled(page, css)
    shoot(page, css, "barycenters_far_apart")


def test_paths_behind_their_prediction(page):
    css = PATHS_EXPLORER.css
    reveal(page, "Both experts have σ = 1", "forward KL alone", css)
    assert page.get_by_text("You said: forward KL alone").count() == 1
    shoot(page, css, "paths")

    def check(at):
        state = averages.paths_state(**at)
        assert_page_draws(page, css, paths_picture(state))
        for row, q in zip(browser.readout(page, css)[1:], BARYCENTERS, strict=True):
            assert row[1:] == [number(state.mean[q], 3), number(state.std[q], 3)]

    sweep(page, PATHS_EXPLORER, check)
    handle = browser.focus_slider(page, css, "place on the way")
    page.keyboard.press("Home")
    browser.settled(page, css)
    page.locator(f".{css} .jupyter-widgets.widget-play button").first.click()
    page.wait_for_timeout(2500)  # milliseconds: the way takes 40 frames of 120
    first = browser.slider_value(handle)
    page.wait_for_timeout(1000)
    assert browser.slider_value(handle) > first or first == 1.0
    assert browser.problems(page) == []


def test_zero_forcing_behind_its_prediction(page):
    css = ZERO_FORCING_EXPLORER.css
    reveal(page, "start close together", "it widens first, then jumps", css)
    assert page.get_by_text("✓ As you said: it widens first, then jumps").count() == 1

    def check(at):
        state = averages.zero_forcing_state(**at)
        seen = browser.settled(page, css)
        # The search may stop at another last digit elsewhere; the curves are exact.
        for name, layer in zero_forcing_picture(state).layers.items():
            np.testing.assert_allclose(seen[name]["y"], layer.y, atol=1e-5, err_msg=name)
        for row, fit in zip(browser.readout(page, css)[1:], state.fit.values(), strict=True):
            np.testing.assert_allclose(
                [float(text.replace("−", "-")) for text in row[1:]], fit, atol=1.1e-3
            )

    shoot(page, css, "zero_forcing")
    sweep(page, ZERO_FORCING_EXPLORER, check)


def test_an_explorer_fits_the_page(page):
    for css in (BARYCENTERS_EXPLORER.css, PATHS_EXPLORER.css, ZERO_FORCING_EXPLORER.css):
        wide = page.evaluate(
            """css => { const e = document.querySelector(css);
                        const cell = e.closest('.jp-OutputArea-output');
                        return [e.scrollWidth, cell.clientWidth]; }""",
            f".{css}",
        )
        assert wide[0] <= wide[1], (css, wide)
