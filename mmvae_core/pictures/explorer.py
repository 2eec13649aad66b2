"""An explorer: controls, one picture that follows them, words and a table.

A subclass says what its controls are and what a state, its picture, its table and its words are;
``CONTRIBUTING.md`` shows one. Slider, state, picture, painter: nothing else lies between a key
press and the frame that answers it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, ClassVar

import ipywidgets as widgets

from mmvae_core.pictures.controls import Choice, ErrorLine, Range, Switch, preset_buttons
from mmvae_core.pictures.page import Canvas, Table
from mmvae_core.pictures.paper import png
from mmvae_core.pictures.picture import WIDTH, Picture

__all__ = ["Explorer"]


class Explorer:
    """Controls and the picture of the state they stand for.

    A subclass declares :attr:`controls` (and :attr:`presets`, if any) and defines :meth:`state` and
    :meth:`picture`; :meth:`table` and :meth:`words` where it has them. The last value of a
    notebook's cell shows it live, and as a static picture where widgets cannot run.

    Args:
        values: where controls start, by name, other than declared.

    Attributes:
        inputs: the widgets of the controls, by name.
        canvas: the picture on the page.
        error: the line that shows an exception of the last update, empty while all is well.
        now: the state that is drawn.
        widget: what is displayed.
    """

    controls: ClassVar[Mapping[str, Range | Choice | Switch]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    columns: ClassVar[int] = 3  # of sliders, at most

    def __init__(self, **values: Any) -> None:
        self._known(values, self.controls)
        self.inputs = {n: c.widget(values.get(n)) for n, c in self.controls.items()}
        self._held = False
        self.error = ErrorLine()
        self.now = self.state(**self.values())
        self.canvas = self._canvas()
        for control in self.inputs.values():
            control.observe(self._moved, "value")
        self.widget = widgets.VBox([*self._above(), self._board(), self.error, self.canvas])
        self.widget.add_class("mmvae-explorer")
        self.widget.add_class(type(self).__name__)

    def state(self, *args: Any, **values: Any) -> Any:
        """The numbers for these values of the controls."""
        raise NotImplementedError

    def picture(self, state: Any) -> Picture:
        """What is drawn of a state."""
        raise NotImplementedError

    def table(self, state: Any) -> Table | None:
        """Header, rows and the rows' colours of the table below the picture."""
        return None

    def words(self, state: Any) -> str:
        """One or two sentences that say what the picture shows; HTML allowed."""
        return ""

    def values(self) -> dict[str, Any]:
        """Where the controls are, by name."""
        return {name: control.value for name, control in self.inputs.items()}

    def set(self, **values: Any) -> None:
        """Move several controls at once and draw once; all of them, or none.

        Raises:
            ValueError: there is no control of that name.
            TraitError: a control cannot take its value.
        """
        self._known(values, self.inputs)
        before, self._held = self.values(), True
        try:
            for name, value in values.items():
                self.inputs[name].value = value
        except Exception:
            for name in values:
                self.inputs[name].value = before[name]
            raise
        finally:
            self._held = False
        self._moved()

    @staticmethod
    def _known(names: Mapping[str, Any], there: Mapping[str, Any]) -> None:
        if unknown := set(names) - set(there):
            raise ValueError(f"no control {sorted(unknown)}; there are {sorted(there)}")

    def _canvas(self) -> Any:
        """What paints: anything with ``picture`` and ``show`` that is a widget."""
        return Canvas(*self._shown())

    def _moved(self, _: Any = None) -> None:
        if self._held:
            return
        with self.error.guard():
            before, self.now = self.now, self.state(**self.values())
            try:
                self.canvas.show(*self._shown())
            except Exception:
                self.now = before
                raise

    def _shown(self) -> tuple[Picture, str, Table | None]:
        return self.picture(self.now), self.words(self.now), self.table(self.now)

    def _above(self) -> list[widgets.Widget]:
        """What stands above the sliders."""
        choices = [self.inputs[n] for n, c in self.controls.items() if not isinstance(c, Range)]
        buttons = [preset_buttons(self.presets, lambda values: self.set(**values))]
        row = [*(buttons if self.presets else []), *choices]
        layout = widgets.Layout(flex_flow="row wrap", grid_gap="2px 18px")
        return [widgets.HBox(row, layout=layout)] if row else []

    def _board(self) -> widgets.Widget:
        sliders = [self.inputs[n] for n, c in self.controls.items() if isinstance(c, Range)]
        least = (WIDTH - 30 * self.columns) // self.columns
        columns = f"repeat(auto-fit, minmax(min({least}px, 100%), 1fr))"
        return widgets.GridBox(sliders, layout=widgets.Layout(
            grid_template_columns=columns, grid_gap="0px 30px", max_width=f"{WIDTH}px",
            padding="0 8px",
        ))  # fmt: skip

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = self.widget._repr_mimebundle_(**kwargs)
        bundle["image/png"] = base64.b64encode(png(self.canvas.picture)).decode("ascii")
        bundle["text/plain"] = self.canvas.picture.alt
        return bundle
