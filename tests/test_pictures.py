"""Pictures as data: what both painters make of one description, where names go, what is sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from scipy.optimize import minimize
from traitlets import TraitError

from mmvae_core.pictures.controls import Choice, Range
from mmvae_core.pictures.explorer import Explorer
from mmvae_core.pictures.page import Canvas, symbol
from mmvae_core.pictures.paper import draw, png
from mmvae_core.pictures.picture import SIDES, WIDTH, Label, Layer, Panel, Picture
from mmvae_core.pictures.places import LETTER, around, best_labels, kept_apart
from mmvae_core.pictures.style import DASHES, STYLES, number

ROOT = Path(__file__).resolve().parents[1]
HEIGHT = 400


def rich() -> Picture:
    """One of everything a picture can hold."""
    panels = {
        "left": Panel((0.1, 0.5, 0.2, 0.9), "Left", (-1, 3), (4, 0), "x", "y", (1.0, {0: "none"})),
        "log": Panel((0.6, 0.95, 0.2, 0.9), "Right", (0.01, 100), (0.5, 500), log="xy"),
    }
    x = np.linspace(-1, 3, 9)
    layers = {
        "line": Layer("left", x, np.where(x == 1, np.nan, x**2 / 3), "#0072B2", "dash", 3.0),
        "area": Layer("left", x, 2 + np.sin(x), "#D55E00", width=0, fill=0.3, base=1.0),
        "shape": Layer("left", [0, 1, 1, np.nan, 2, 3, 3], [0, 0, 1, np.nan, 0, 0, 1], fill=0.2,
                       closed=True, dash="dot"),
        "marks": Layer("log", [0.1, 10, 1e4], [1, 100, 1], "#009E73", marker="D", size=12),
        "crosses": Layer("log", [1.0], [5.0], marker="x"),
        "image": Layer("left", [0, 1], [2, 3], image=np.zeros((4, 6, 3), np.uint8)),
    }  # fmt: skip
    labels = {"log": [Label(10, 100, side, side=side) for side in SIDES]}
    return Picture(HEIGHT, panels, layers, labels, "all there is", "Everything")


def pixels(picture: Picture, layer: Layer) -> np.ndarray:
    """Where a layer's points lie, from the lower left of the whole picture: worked out by hand."""
    panel = picture.panels[layer.panel]
    left, right, bottom, top = panel.box
    x, y, (low, high), (floor, ceiling) = layer.x, layer.y, panel.across, panel.up
    if panel.log:
        x, y, low, high, floor, ceiling = map(np.log, (x, y, low, high, floor, ceiling))
    across = left + (right - left) * (x - low) / (high - low)
    up = bottom + (top - bottom) * (y - floor) / (ceiling - floor)
    return np.stack([across * WIDTH, up * picture.height], axis=-1)


# Print -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["line", "marks", "crosses", "shape"])
def test_paper_shows_points_colours_and_dashes_as_described(name: str) -> None:
    picture = rich()
    figure, layer = draw(picture), picture.layers[name]
    ax = next(ax for ax in figure.axes if ax.get_label() == layer.panel)
    (line,) = [a for a in ax.get_children() if a.get_gid() == name and isinstance(a, Line2D)]
    wanted = pixels(picture, layer)
    seen = ax.transData.transform(line.get_xydata())
    shown = np.isfinite(seen).all(axis=1)
    outside = np.array([False, False, True]) if name == "marks" else np.isnan(layer.y)
    np.testing.assert_array_equal(~shown, outside)  # a mark beyond the axes is not drawn
    np.testing.assert_allclose(seen[shown], wanted[shown], atol=1e-6)
    assert to_hex(line.get_color()) == layer.color.lower()
    if layer.marker:
        assert line.get_marker() == layer.marker
        assert line.get_markersize() == pytest.approx(layer.size * 0.72)
    else:
        drawn = np.array(line._dash_pattern[1] or ()) / 0.72  # points of type, as painted
        np.testing.assert_allclose(drawn, DASHES[layer.dash])


def test_paper_fills_to_the_base_and_inside_a_closed_line() -> None:
    figure = draw(rich())
    ax = next(ax for ax in figure.axes if ax.get_label() == "left")
    (area,) = [a for a in ax.get_children() if a.get_gid() == "area"]
    assert isinstance(area, PolyCollection)
    assert area.get_paths()[0].contains_point((0.0, 1.5))  # 2 + sin(0) = 2, base 1
    assert not area.get_paths()[0].contains_point((0.0, 0.5))
    patches = [a for a in ax.get_children() if a.get_gid() == "shape"]
    (outline,) = [a.get_path() for a in patches if not isinstance(a, Line2D)]
    inside = [outline.contains_point(at) for at in ((0.7, 0.2), (2.7, 0.2), (1.5, 0.2))]
    assert inside == [True, True, False]  # two pieces, and nothing between them


def test_paper_has_the_ticks_titles_and_labels_of_the_description() -> None:
    picture = rich()
    figure = draw(picture)
    for ax in figure.axes:
        panel = picture.panels[ax.get_label()]
        texts = [[t.get_text() for t in axis.get_ticklabels()] for axis in (ax.xaxis, ax.yaxis)]
        assert texts == [[text for _, text in axis] for axis in panel.marks(HEIGHT)]
        assert ax.get_title(loc="left") == panel.title
        assert (ax.get_xlabel(), ax.get_ylabel()) == (panel.xlabel, panel.ylabel)
        labels = [text.get_text() for text in ax.texts]
        assert labels == [label.text for label in picture.labels.get(ax.get_label(), [])]
    assert png(picture)[:4] == b"\x89PNG"
    assert picture._repr_png_()[:4] == b"\x89PNG"
    assert repr(picture) == "all there is"


def test_ticks_stand_at_steps_names_and_powers_of_ten() -> None:
    left, log = rich().panels["left"], rich().panels["log"]
    assert left.marks(HEIGHT) == [[(-1.0, "−1"), (0.0, "0"), (1.0, "1"), (2.0, "2"), (3.0, "3")],
                                  [(0.0, "none")]]  # fmt: skip
    assert [text for _, text in log.marks(HEIGHT)[0]] == ["0.01", "0.1", "1", "10", "100"]
    assert Panel((0, 1, 0, 1), axes="").marks(HEIGHT) == [[], []]
    fine = Panel((0, 1, 0, 1), across=(0, 0.3), ticks=(0.1, None)).marks(HEIGHT)[0]
    assert [text for _, text in fine] == ["0", "0.1", "0.2", "0.3"]


LOG = {"p": Panel((0, 1, 0, 1), up=(1, 9), log="y")}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Layer("p", [1, 2], [1]), "equally many points"),
        (lambda: Layer("p", [1], [1], dash="wavy"), "dash must be one of"),
        (lambda: Label(0, 0, "a", side="up"), "side must be one of"),
        (lambda: Picture(100, {}, {"l": Layer("p", [0], [0])}), "no panel ['p']"),
        (lambda: Picture(9, LOG, {"l": Layer("p", [1], [1], fill=0.2)}), "must be positive; got 0"),
    ],
)
def test_nonsense_is_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        make()


# Page --------------------------------------------------------------------------------------------


def changed(picture: Picture, **layers: Layer) -> Picture:
    return Picture(picture.height, picture.panels, {**picture.layers, **layers}, picture.labels,
                   picture.alt, picture.name)  # fmt: skip


@pytest.fixture
def canvas(monkeypatch: pytest.MonkeyPatch) -> Canvas:
    """A canvas that keeps its messages in ``.messages``."""
    made = Canvas(rich(), "words", (("a", "b"), [("x", "1")], ("#123456",)))
    made.messages = []
    monkeypatch.setattr(made, "send", lambda *message: made.messages.append(message))
    return made


def test_a_page_that_opens_gets_the_whole_scene(canvas: Canvas) -> None:
    scene, picture = canvas.get_state()["scene"], rich()
    assert list(scene["layers"]) == list(picture.layers)
    assert (scene["name"], scene["alt"], scene["words"]) == ("Everything", "all there is", "words")
    numbers = np.frombuffer(scene["numbers"])
    wanted = np.concatenate([np.concatenate([one.x, one.y]) for one in picture.layers.values()])
    np.testing.assert_array_equal(numbers, wanted)
    assert scene["layers"]["marks"]["symbol"] == symbol("D")
    assert "<td>1</td>" in scene["table"]


def test_one_message_carries_what_is_new_and_nothing_else(canvas: Canvas) -> None:
    table = (("a", "b"), [("x", "1")], ("#123456",))
    canvas.show(rich(), "words", table)
    assert canvas.messages == []
    moved = Layer("log", [0.2, 20], [1, 100], "#009E73", marker="D", size=12)
    canvas.show(changed(rich(), marks=moved), "other words", table)
    ((message, (numbers,)),) = canvas.messages
    assert list(message["layers"]) == ["marks"]
    assert not message["panels"] and not message["labels"] and "table" not in message
    assert message["words"] == "other words"
    assert message["layers"]["marks"] == {"n": 2}  # it looks as before
    np.testing.assert_array_equal(np.frombuffer(numbers), [0.2, 20, 1, 100])


@pytest.mark.parametrize(
    "other",
    [
        changed(rich(), more=Layer("left", [0, 1], [0, 1])),
        replace(rich(), height=HEIGHT + 50),
        replace(rich(), panels={name: replace(panel, box=(0.1, 0.4, 0.2, 0.9))
                                for name, panel in rich().panels.items()}),
    ],
    ids=["layers", "height", "boxes"],
)  # fmt: skip
def test_another_layout_sends_the_whole_scene(canvas: Canvas, other: Picture) -> None:
    canvas.show(other)
    ((message, buffers),) = canvas.messages
    assert message["whole"] and list(message["layers"]) == list(other.layers) and len(buffers) == 1
    assert message["height"] == other.height


def test_the_painter_stays_small() -> None:
    lines = (ROOT / "mmvae_core" / "pictures" / "page.js").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 270


# Places ------------------------------------------------------------------------------------------


def test_kept_apart_is_the_nearest_arrangement() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        values = rng.uniform(0, 4, size=6)
        order = np.argsort(values)
        apart = {"type": "ineq", "fun": lambda p, o=order: np.diff(p[o]) - 0.7}
        best = minimize(lambda p, v=values: ((p - v) ** 2).sum(), np.argsort(order) * 1.0,
                        constraints=[apart], method="SLSQP", options={"ftol": 1e-12})  # fmt: skip
        np.testing.assert_allclose(kept_apart(values, 0.7), best.x, atol=1e-4)
    assert kept_apart([], 1.0) == []


def test_a_name_keeps_off_lines_and_names() -> None:
    panel = Panel((0.1, 0.9, 0.1, 0.9), across=(0, 10), up=(0, 10))
    line = Layer("p", [0, 5], [5.0, 5.0])
    first, second = (around(text, "#000000", 5, 5, "left") for text in ("first", "second"))
    one, two = best_labels(panel, HEIGHT, [line], [first, second])

    def box(label: Label) -> np.ndarray:
        size = np.array([LETTER[0] * len(label.text), LETTER[1]])
        corner = panel.placed(label.x, label.y, HEIGHT) + label.shift - size * label.anchor
        return np.array([corner, corner + size])

    assert one.side != "left"  # there it would lie on the line
    (a0, a1), (b0, b1) = box(one), box(two)
    assert (a1 <= b0).any() or (b1 <= a0).any()


# Styles ------------------------------------------------------------------------------------------


def test_recipes_differ_in_more_than_colour() -> None:
    names = list(STYLES)
    recipes = [STYLES[name] for name in names[names.index("vae") :]]
    looks = [(style.dash, style.marker) for style in recipes]
    colours = [(style.color, style.dash, style.marker) for style in recipes]
    assert len(set(colours)) == len(colours)
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("name", STYLES)
def test_a_name_can_be_read_on_white(name: str) -> None:
    """A contrast of 3.7 at least; WCAG asks 3 of large and 4.5 of small text."""
    channel = np.array([int(STYLES[name].text[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3.7


def test_numbers_have_a_real_minus() -> None:
    assert [number(-1.25, 2), number(-0.001, 2), number(3, 0)] == ["−1.25", "0.00", "3"]


# Explorers ---------------------------------------------------------------------------------------


class Root(Explorer):
    """A square root, which has no state below 0."""

    controls = {
        "x": Range("x", "the number", 4.0, -2, 9, 0.5),
        "sign": Choice("sign", {"plus": 1, "minus": -1}, 1),
    }
    presets = {"nine": {"x": 9.0, "sign": -1}}

    def state(self, x: float, sign: int) -> float:
        if x < 0:
            raise ValueError(f"x must not be negative; got {x}")
        return sign * x**0.5

    def picture(self, state: float) -> Picture:
        panel = Panel((0.1, 0.9, 0.1, 0.9), up=(-3, 3))
        return Picture(300, {"p": panel}, {"root": Layer("p", [0, 1], [state, state])}, name="root")

    def words(self, state: float) -> str:
        return f"the root is {number(state, 2)}"


def test_an_explorer_draws_the_state_of_its_controls() -> None:
    explorer = Root(x=9.0)
    assert (explorer.now, explorer.values()) == (3.0, {"x": 9.0, "sign": 1})
    drawn = []
    explorer.canvas.observe = None
    show = explorer.canvas.show
    explorer.canvas.show = lambda *args: (drawn.append(args), show(*args))  # type: ignore[method-assign]
    explorer.set(x=4.0, sign=-1)
    assert explorer.now == -2.0 and len(drawn) == 1  # two controls, drawn once
    explorer.inputs["x"].value = 1.0
    assert explorer.now == -1.0 and len(drawn) == 2
    np.testing.assert_array_equal(explorer.canvas.picture.layers["root"].y, [-1, -1])
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == "" and bundle["image/png"].startswith("iVBOR")


def test_an_exception_is_shown_and_clears_itself() -> None:
    explorer = Root()
    explorer.inputs["x"].value = -1.0
    assert "x must not be negative; got -1.0" in explorer.error.value
    assert explorer.now == 2.0  # what is still drawn
    explorer.inputs["x"].value = 9.0
    assert (explorer.error.value, explorer.now) == ("", 3.0)


@pytest.mark.parametrize("call", [lambda: Root(y=1), lambda: Root().set(y=1)])
def test_an_unknown_control_is_named(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"no control \['y'\]; there are \['sign', 'x'\]"):
        call()


def test_controls_that_are_set_move_all_or_none() -> None:
    explorer = Root()
    with pytest.raises(TraitError):
        explorer.set(x=9.0, sign=7)
    assert explorer.values() == {"x": 4.0, "sign": 1} and explorer.now == 2.0


def test_the_example_for_contributors_works() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    body = code[code.index("class ") :].strip().splitlines()
    assert len(body) <= 30
    space: dict[str, Any] = {}
    exec(compile(code, "CONTRIBUTING.md", "exec"), space)
    explorer = space["Floor"]()
    explorer.inputs["rho"].value = 0.5
    assert explorer.error.value == ""
    # The floor of equal experts: (1 + (m - 1) rho) / m at m = 20.
    assert explorer.now["code"][-1] == pytest.approx((1 + 19 * 0.5) / 20)
    assert "CoDE reports 0.53, PoE 0.05." in explorer.canvas.picture.alt
