"""A :class:`~mmvae_core.pictures.picture.Picture` painted on a notebook's page, as SVG.

The widget keeps what the page has and sends, in one message with one binary buffer, only the parts
that are new. The page paints at most once a frame, and always the newest state: what comes while a
frame is being made is merged. ``page.js`` is the painter.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline
from PIL import Image

from mmvae_core.pictures.picture import WIDTH, Label, Layer, Picture
from mmvae_core.pictures.style import DASHES, FONT, LETTER

__all__ = ["Canvas", "Table", "table_html"]

Table = tuple[Sequence[str], Sequence[Sequence[str]], Sequence[str]]
"""Header; rows of texts, the first of each its name; and the colour of each row."""
_HERE = Path(__file__).parent
_OPEN = "x+"  # markers that are strokes
_COMMANDS = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C",
             Outline.CLOSEPOLY: "Z"}  # fmt: skip


class Canvas(anywidget.AnyWidget):
    """A picture on the page, with words and a table below it; :meth:`show` replaces them.

    >>> from mmvae_core.pictures.picture import Layer, Panel
    >>> panels = {"p": Panel((0.1, 0.9, 0.2, 0.9))}
    >>> canvas = Canvas(Picture(200, panels, {"line": Layer("p", [0, 1], [0, 1])}, name="a line"))
    >>> canvas.show(Picture(200, panels, {"line": Layer("p", [0, 1], [1, 0])}, name="a line"))
    >>> canvas.sent  # of which parts the last message told
    ['layers line']
    """

    _esm = _HERE / "page.js"
    _css = (_HERE / "page.css").read_text(encoding="utf-8").replace("FONT", FONT)
    # The whole scene, made when a page asks for it: news travels in messages of its own.
    scene = traitlets.Any(None).tag(sync=True, to_json=lambda _, canvas: canvas._scene())

    def __init__(self, picture: Picture, words: str = "", table: Table | None = None) -> None:
        self.picture, self.sent = picture, list[str]()
        self._texts = self._told(words, table)
        self._known = _parts(picture)
        super().__init__()

    def show(self, picture: Picture, words: str = "", table: Table | None = None) -> None:
        """Put another picture on the page: one message with what differs, none if nothing does."""
        parts, texts = _parts(picture), self._told(words, table, picture)
        old, old_texts = self._known, self._texts
        self.picture, self._known, self._texts = picture, parts, texts
        if list(parts) != list(old) or parts["layout",] != old["layout",]:
            self.sent = ["whole"]
            scene = self._scene()
            self.send(scene, [scene.pop("numbers")])
            return
        news = {key: parts[key] for key in _differs(parts, old)}
        changed = {key: text for key, text in texts.items() if text != old_texts[key]}
        self.sent = [" ".join(key) for key in news] + list(changed)
        if self.sent:
            message, numbers = _message(news, old)
            self.send(message | changed, [numbers])

    def _told(self, words: str, table: Table | None, picture: Picture | None = None) -> dict:
        picture = picture or self.picture
        return {"name": picture.name, "alt": picture.alt, "words": words,
                "table": table_html(*table) if table else "", "rooms": _rooms(picture)}  # fmt: skip

    def _scene(self) -> dict[str, Any]:
        message, numbers = _message(self._known)
        size = {"width": WIDTH, "height": self.picture.height, "letter": LETTER}
        return message | self._texts | size | {"whole": True, "numbers": numbers}


def _differs(parts: dict, old: dict) -> list:
    return [key for key, part in parts.items() if part != old.get(key)]


def _parts(picture: Picture) -> dict[tuple[str, ...], Any]:
    """Every part of a picture as plain values that can be compared, the numbers as bytes."""
    boxes = [panel.box for panel in picture.panels.values()]
    parts: dict[tuple[str, ...], Any] = {("layout",): (picture.height, boxes)}
    for name, panel in picture.panels.items():
        parts["panels", name] = (panel, tuple(map(tuple, panel.marks(picture.height))))
    for name, layer in picture.layers.items():
        numbers = np.concatenate([layer.x, layer.y]).astype("<f8", copy=False)  # as page.js reads
        parts["layers", name] = (_look(layer), numbers.tobytes())
    for name, labels in picture.labels.items():
        parts["labels", name] = tuple(labels)
    return parts


def _rooms(picture: Picture) -> dict[str, dict[str, Any]]:
    """What each panel needs where panels stand below each other: its host, and pixels around it.

    The host is the panel itself or, for one without axes (names of rows), the one whose left side
    it stands on.
    """
    rooms = {}
    for name, panel in picture.panels.items():
        _, right, bottom, top = panel.box
        hosts = [
            other
            for other, there in picture.panels.items()
            if not panel.axes and there.axes and -0.01 < there.box[0] - right < 0.03
            and min(top, there.box[3]) - max(bottom, there.box[2]) > (top - bottom) / 2
        ]  # fmt: skip
        ticks = max((len(text) for _, text in panel.marks(picture.height)[1]), default=0)
        before = [(18.0 if panel.ylabel else 0.0) + (14.0 + 9.5 * ticks if ticks else 8.0)]
        after, below = [12.0], [42.0 if panel.xlabel else 24.0 if "x" in panel.axes else 4.0]
        if labels := picture.labels.get(name, ()):
            x, y = np.transpose([(one.x, one.y) for one in labels])
            at = panel.placed(x, y, picture.height)
            x, y = np.transpose(at + [one.shift for one in labels])
            wide = np.array([LETTER * one.size * len(one.text) + 8 for one in labels])
            share = np.array([one.anchor[0] for one in labels])
            before.append(float((share * wide - x).max()))
            after.append(float((x + (1 - share) * wide).max() - (right - panel.box[0]) * WIDTH))
            below.append(float(18 - y.min()))
        rooms[name] = {"host": (hosts or [name])[0], "before": min(max(before), 125.0),
                       "after": min(max(after), 90.0), "below": max(below)}  # fmt: skip
    return rooms


def _look(layer: Layer) -> tuple:
    plain = tuple(getattr(layer, name) for name in _LOOK)
    return (*plain, None if layer.image is None else _data_url(layer.image))


_PANEL = ("box", "title", "across", "up", "xlabel", "ylabel", "log", "axes")
_LOOK = [f.name for f in fields(Layer) if f.name not in ("x", "y", "image")]


def _message(
    parts: dict[tuple[str, ...], Any], old: dict[tuple[str, ...], Any] | None = None
) -> tuple[dict[str, Any], bytes]:
    """What the page is told of ``parts``: only numbers of a layer that looks as in ``old``."""
    message: dict[str, Any] = {"panels": {}, "layers": {}, "labels": {}}
    numbers = []
    for key, part in parts.items():
        if key[0] == "panels":
            panel, marks = part
            plain = {name: getattr(panel, name) for name in _PANEL}
            message["panels"][key[1]] = plain | {"marks": marks}
        elif key[0] == "layers":
            look, points = part
            same = old is not None and key in old and old[key][0] == look
            message["layers"][key[1]] = {"n": len(points) // 16} | (
                {} if same else _layer_message(look)
            )
            numbers.append(points)
        elif key[0] == "labels":
            message["labels"][key[1]] = [_label_message(label) for label in part]
    return message, b"".join(numbers)


def _layer_message(look: tuple) -> dict[str, Any]:
    plain = dict(zip([*_LOOK, "image"], look, strict=True))
    plain["pattern"] = " ".join(map(str, DASHES[plain.pop("dash")])) or "none"
    if plain["marker"]:
        plain["symbol"], plain["open"] = symbol(plain["marker"]), plain["marker"] in _OPEN
    return plain


def _label_message(label: Label) -> dict[str, Any]:
    names = ("x", "y", "text", "color", "anchor", "shift", "size", "bold", "halo")
    return {name: getattr(label, name) for name in names}


@lru_cache
def symbol(marker: str) -> str:
    """The outline of one of Matplotlib's markers, one unit large, in SVG's words.

    >>> symbol("s")
    'M-0.5,-0.5L0.5,-0.5L0.5,0.5L-0.5,0.5Z'
    """
    style = MarkerStyle(marker)
    outline = style.get_path().transformed(style.get_transform())
    words = []
    for points, code in outline.iter_segments(curves=True, simplify=False):
        if code == Outline.CLOSEPOLY:
            words.append("Z")
            continue
        pairs = np.round(points, 4).reshape(-1, 2)
        words.append(_COMMANDS[code] + " ".join(f"{x + 0.0:g},{y + 0.0:g}" for x, y in pairs))
    return "".join(words)


def _data_url(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def table_html(header: Iterable[str], rows: Iterable[Sequence[str]], colors: Iterable[str]) -> str:
    """An HTML table of numbers: first column the names with a coloured bar, the rest aligned."""
    head = "".join(f'<th scope="col">{text}</th>' for text in header)
    body = "".join(
        f'<tr><th scope="row" style="--color:{html.escape(color)}">{name}</th>'
        + "".join(f"<td>{text}</td>" for text in cells)
        + "</tr>"
        for (name, *cells), color in zip(rows, colors, strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
