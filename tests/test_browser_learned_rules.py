"""Notebook 05 in a real browser: sliders by keyboard, buttons by click, all as the state says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest

from mmvae_core.figures.learned_rules import learned_rules_picture
from mmvae_core.learned_rules import learned_rules_state, trained_worlds

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

WORLDS = trained_worlds(Path(__file__).resolve().parents[1] / "figures")
EXPLORER = browser.Explorer(
    "05_learned_aggregation.ipynb",
    "explore-learned-rules",
    {
        "mu_1": "mean of expert 1",
        "mu_2": "mean of expert 2",
        "sigma_1": "standard deviation of expert 1",
        "sigma_2": "standard deviation of expert 2",
    },
)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser.lab() as lab, browser.notebook(lab, f"notebooks/{EXPLORER.notebook}") as page:
        yield page


def assert_page_draws(page: Any, at: dict[str, float], world: str, shown: str) -> None:
    readings, rules = WORLDS[world]
    picture = learned_rules_picture(
        learned_rules_state(
            rules, readings, (at["mu_1"], at["mu_2"]), (at["sigma_1"], at["sigma_2"]), shown
        )
    )
    seen = browser.settled(page, EXPLORER.css)
    for name, layer in picture.layers.items():
        np.testing.assert_allclose(seen[name]["x"], layer.x, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(seen[name]["y"], layer.y, atol=1e-9, err_msg=name)
    for panel, labels in picture.labels.items():
        assert seen[f"labels {panel}"]["text"] == [label.text for label in labels]


def test_the_reader_answers_then_moves_everything(page: Any) -> None:
    assert browser.problems(page) == []
    assert page.locator(f".{EXPLORER.css}").count() == 0  # not before the prediction
    card = page.locator(".prediction", has_text="a quarrel that training never had")
    card.get_by_label("something else, and it is as sure as ever", exact=True).check()
    card.get_by_role("button", name="Commit, then show me").click()
    page.wait_for_selector(f".{EXPLORER.css} .js-plotly-plot .main-svg")
    at = {"mu_1": -3.0, "mu_2": 3.0, "sigma_1": 0.8, "sigma_2": 0.6}
    world, shown = "independent noises", "sum_pooling"
    assert_page_draws(page, at, world, shown)
    for name, label in EXPLORER.sliders.items():
        handle = browser.focus_slider(page, EXPLORER.css, label)
        for keys in (["Home"], ["End"], ["PageDown", "ArrowLeft"]):
            for key in keys:
                page.keyboard.press(key)
            browser.settled(page, EXPLORER.css)
            at[name] = browser.slider_value(handle)
            assert_page_draws(page, at, world, shown)
    world, shown = "correlated noises", "self_attention"
    page.get_by_role("button", name=world).click()
    page.get_by_role("button", name="SelfAttention").click()
    page.get_by_role("button", name="As in training").click()
    at = {"mu_1": -0.1, "mu_2": 0.8, "sigma_1": 0.8, "sigma_2": 0.6}
    page.wait_for_timeout(1000)  # milliseconds: three clicks, three answers of the kernel
    assert_page_draws(page, at, world, shown)
    assert browser.problems(page) == []
    page.locator(f".{EXPLORER.css}").screenshot(path=browser.artefacts() / "05_learned_rules.png")
