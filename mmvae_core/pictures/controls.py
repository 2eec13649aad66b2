"""What a reader moves: sliders, choices, presets; and the line that shows an exception.

* :class:`Range`, :class:`Choice` and :class:`Switch` declare the controls of an explorer.
* :class:`Slider`: a labelled slider that a keyboard and a screen reader can use.
* :func:`preset_buttons`: buttons that move many controls at once.
* :class:`ErrorLine`: an exception in a callback is shown in the widget, never swallowed.
"""

from __future__ import annotations

import html
import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from mmvae_core.pictures.style import INK

__all__ = ["Choice", "ErrorLine", "Range", "Slider", "Switch", "preset_buttons"]

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Range:
    """A control that is a slider: ``Range("ρ", "correlation of the errors", 0.6, -0.9, 0.9)``."""

    label: str
    spoken: str
    value: float | int
    min: float | int
    max: float | int
    step: float | int = 0.01
    decimals: int = 2
    color: str = INK

    def widget(self, value: Any = None) -> Slider:
        """The slider, at ``value`` or where it is declared to start."""
        options = {
            name: getattr(self, name) for name in ("min", "max", "step", "decimals", "color")
        }
        return Slider(self.label, self.spoken, self.value if value is None else value, **options)


@dataclass(frozen=True)
class Choice:
    """A control that is a row of buttons, one of which is chosen."""

    label: str
    options: Sequence[Any] | Mapping[str, Any]  # values, or values by their texts
    value: Any

    def widget(self, value: Any = None) -> widgets.ToggleButtons:
        """The buttons, with ``value`` chosen or what is declared."""
        pairs = self.options.items() if isinstance(self.options, Mapping) else self.options
        return widgets.ToggleButtons(
            options=list(pairs), value=self.value if value is None else value,
            description=self.label, tooltips=[self.label] * len(self.options),
            style={"button_width": "auto", "description_width": "initial"},
            layout=widgets.Layout(width="auto"),
        )  # fmt: skip


@dataclass(frozen=True)
class Switch:
    """A control that is a button, pressed or not."""

    label: str
    spoken: str
    value: bool

    def widget(self, value: Any = None) -> widgets.ToggleButton:
        """The button, at ``value`` or as it is declared."""
        return widgets.ToggleButton(
            value=self.value if value is None else value, description=self.label,
            tooltip=self.spoken, layout=widgets.Layout(width="auto"),
        )  # fmt: skip


class Slider(anywidget.AnyWidget):
    """A slider with a visible label, an accessible name and steps on the keyboard.

    Arrow keys move by ``step``, PageUp and PageDown by ten steps, Home and End to the ends. A
    value set from Python is kept exactly, also between two steps (the square root of 3, say);
    only what the reader moves lands on a step.

    Args:
        label: a short symbol, shown on the left (``"μ₁"``).
        spoken: what it means, for screen readers and as a tooltip (``"mean of expert 1"``).
        value, min, max, step: as of any slider; a value outside is drawn to the nearest end.
        decimals: how many are shown.
        color: of the bar, as CSS.

    >>> s = Slider("ρ", "correlation of the errors", 0.6, min=-0.95, max=0.95, step=0.01)
    >>> s.value = 3
    >>> s.value
    0.95
    """

    _esm = _HERE / "slider.js"
    _css = _HERE / "slider.css"
    value = traitlets.Float(0.0).tag(sync=True, echo_update=False)  # the page knows what it sent
    min = traitlets.Float(0.0).tag(sync=True)
    max = traitlets.Float(1.0).tag(sync=True)
    step = traitlets.Float(0.1).tag(sync=True)
    decimals = traitlets.Int(2).tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)
    spoken = traitlets.Unicode("").tag(sync=True)
    color = traitlets.Unicode(INK).tag(sync=True)

    def __init__(self, label: str, spoken: str, value: float | int, **options: Any) -> None:
        # The ends first: a value is checked against them.
        super().__init__(label=label, spoken=spoken, **options)
        self.value = value

    @traitlets.validate("value")
    def _inside(self, proposal: dict[str, Any]) -> float:
        value = float(proposal["value"])
        if not math.isfinite(value):
            raise traitlets.TraitError(f"{self.label} must be a finite number; got {value}")
        return min(max(value, self.min), self.max)


def preset_buttons(
    presets: Mapping[str, Mapping[str, float | int]],
    apply: Callable[[Mapping[str, float | int]], None],
) -> widgets.HBox:
    """One button for each preset; a click hands the preset's values to ``apply``.

    ``apply`` should set all controls and redraw once, as ``Explorer.set`` does.
    """
    buttons = []
    for name, values in presets.items():
        button = widgets.Button(description=name, layout=widgets.Layout(width="auto"))
        button.on_click(lambda _, values=values: apply(values))
        buttons.append(button)
    return widgets.HBox(buttons, layout=widgets.Layout(flex_flow="row wrap"))


class ErrorLine(widgets.HTML):
    """A line, empty while all is well, that shows an exception of a callback to the reader.

    >>> line = ErrorLine()
    >>> with line.guard():
    ...     raise ValueError("rho must lie in (-1, 1); got 2")
    >>> "rho must lie in (-1, 1); got 2" in line.value
    True
    >>> with line.guard():
    ...     pass
    >>> line.value
    ''
    """

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Run a block; show its exception here instead of raising it, clear the line if none."""
        try:
            yield
        except Exception as error:
            self.last = error
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = html.escape(f"{type(error).__name__}: {error}")
            where = html.escape(f"{last.filename.rsplit('/', 1)[-1]}, line {last.lineno}")
            self.value = (
                '<div role="alert" style="background:#fff4ec;border-left:4px solid #D55E00;'
                f'padding:6px 10px;color:{INK};line-height:1.4"><b>This picture could not be '
                f"updated.</b> {text} <small>({where})</small></div>"
            )
        else:
            self.last = None
            if self.value:
                self.value = ""

    last: Exception | None = None
