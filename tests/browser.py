"""A notebook in a real browser: JupyterLab on a free local port, Chromium driven by Playwright.

The tests of the explorers use three things from here:

* :func:`chromium` finds the browser, :func:`lab` starts JupyterLab on copies of notebooks, and
  :func:`notebook` opens one of them in a page of its own and runs all cells;
* :class:`Explorer` says where an interactive picture lives in a notebook and which sliders it has;
* :func:`drawn`, :func:`readout`, :func:`focus_slider` and :func:`problems` look at the page as a
  reader would: the arrays that plotly has drawn, the text of the readout, errors in any output.

Nothing here knows what a particular notebook shows.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "Explorer",
    "Lab",
    "artefacts",
    "chromium",
    "drawn",
    "focus_slider",
    "lab",
    "notebook",
    "problems",
    "readout",
    "settled",
    "slider_value",
]

ROOT = Path(__file__).resolve().parents[1]
VIEWPORT = {"width": 1280, "height": 1100}  # pixels; the width of a projector, an explorer high
START_S = 90.0  # seconds JupyterLab may take to answer
RUN_S = 240.0  # seconds a notebook may take from the first cell to the last

# Chromium in a container: no sandbox as root, and nothing that talks to the network by itself.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

SETTINGS = {
    # The default, "full", takes cells that are scrolled away out of the page.
    "notebook-extension/tracker": {"windowingMode": "defer"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@dataclass(frozen=True)
class Explorer:
    """Where an interactive picture is, and what moves it.

    Args:
        notebook: file name inside ``notebooks/``.
        css: class of the widget that holds picture, sliders and readout.
        sliders: the ``aria-label`` of every slider, by the name its value has in Python.
    """

    notebook: str
    css: str
    sliders: dict[str, str]


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: its address with the token, and the folder it serves."""

    url: str
    token: str
    root: Path


def chromium() -> str | None:
    """The path of a Chromium or Chrome, ``CHROMIUM`` first; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def artefacts() -> Path:
    """The folder for screenshots: ``MMVAE_ARTEFACTS``, or ``build/artefacts``."""
    folder = Path(os.environ.get("MMVAE_ARTEFACTS", ROOT / "build" / "artefacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def lab(folder: Path | None = None) -> Iterator[Lab]:
    """Run JupyterLab on a copy of ``notebooks/`` and ``figures/``, so that nothing is saved back.

    Settings, workspaces and configuration are fresh; no token is left anywhere.

    Args:
        folder: serve this folder as it is, instead of the copy.
    """
    with tempfile.TemporaryDirectory(prefix="mmvae-lab-") as name:
        home = Path(name)
        root = folder or home / "course"
        if folder is None:
            for part in ("notebooks", "figures"):
                if (ROOT / part).is_dir():
                    shutil.copytree(ROOT / part, root / part)
        for plugin, chosen in SETTINGS.items():
            file = home / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(chosen))
        token = os.urandom(16).hex()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        env = dict(
            os.environ,
            JUPYTER_TOKEN=token,
            JUPYTER_CONFIG_DIR=str(home / "config"),
            JUPYTER_RUNTIME_DIR=str(home / "runtime"),
            JUPYTERLAB_SETTINGS_DIR=str(home / "settings"),
            JUPYTERLAB_WORKSPACES_DIR=str(home / "workspaces"),
            PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        )
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1"]
        command += [f"--port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}"]
        command += ["--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
        command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
        command += ["--LabApp.extension_manager=readonly"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-root")
        log = home / "lab.log"
        with log.open("wb") as sink:
            server = subprocess.Popen(command, env=env, stdout=sink, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            _await(url, server, log)
            yield Lab(url, token, root)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _await(url: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab stopped:\n{log.read_text(errors='replace')[-3000:]}")
        try:
            urllib.request.urlopen(f"{url}/api", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"no answer in {START_S} s:\n{log.read_text(errors='replace')[-3000:]}")


@contextmanager
def notebook(lab: Lab, path: str, *, run: bool = True) -> Iterator[Any]:
    """Open ``path`` (inside the lab's folder) in a fresh browser and run all its cells.

    Yields:
        Playwright's page. Its attribute ``console`` holds the errors the page has logged.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            page = browser.new_context(viewport=VIEWPORT).new_page()
            page.console = []
            page.on("pageerror", lambda error: page.console.append(str(error)))
            page.goto(f"{lab.url}/lab/tree/{path}?token={lab.token}&reset")
            page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=START_S * 1000)
            page.wait_for_function(
                """() => { const panel = window.jupyterapp?.shell.currentWidget;
                           return panel?.sessionContext?.session?.kernel?.status === 'idle'; }""",
                timeout=START_S * 1000,
            )
            page.evaluate(_LISTEN)
            # The file browser would take a third of the picture's width.
            page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
            if run:
                page.set_default_timeout(RUN_S * 1000)
                page.evaluate(
                    "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
                    ".then(() => null)"
                )
                page.wait_for_function(
                    "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
                    ".status === 'idle'"
                )
                page.set_default_timeout(30_000)
            yield page
        finally:
            browser.close()


# An exception in a widget's callback or message handler belongs to no cell: JupyterLab hides it in
# its log. The kernel announces it all the same.
_LISTEN = """
() => {
  window.kernelErrors = [];
  window.jupyterapp.shell.currentWidget.sessionContext.iopubMessage.connect((_, message) => {
    if (message.header.msg_type === 'error')
      window.kernelErrors.push(message.content.ename + ': ' + message.content.evalue);
  });
}
"""

# Plotly keeps what it was sent in gd.data: plain arrays, typed arrays, or {dtype, bdata}.
_DRAWN = """
css => {
  const kinds = {f8: Float64Array, f4: Float32Array, i4: Int32Array, u4: Uint32Array,
                 i2: Int16Array, u2: Uint16Array, i1: Int8Array, u1: Uint8Array};
  const plain = v => {
    if (v && v.bdata !== undefined) {
      const bytes = Uint8Array.from(atob(v.bdata), c => c.charCodeAt(0));
      v = new kinds[v.dtype](bytes.buffer);
    }
    return v === undefined || v === null ? null : Array.from(v);
  };
  const gd = document.querySelector(css + ' .js-plotly-plot');
  return {
    traces: gd.data.map(t => ({name: t.name, x: plain(t.x), y: plain(t.y),
                               visible: t.visible === undefined ? true : t.visible,
                               text: t.text === undefined ? null : [].concat(t.text)})),
    annotations: (gd.layout.annotations || []).map(a => ({name: a.name, text: a.text, x: a.x,
                                                          y: a.y, visible: a.visible !== false})),
    shapes: (gd.layout.shapes || []).map(s => ({name: s.name, x0: s.x0, x1: s.x1,
                                                y0: s.y0, y1: s.y1})),
  };
}
"""


def drawn(page: Any, css: str) -> dict[str, dict[str, Any]]:
    """What plotly has drawn in the explorer of class ``css``: every trace by its name.

    Returns:
        ``name -> {"x": array, "y": array, "visible": ..., "text": ...}``; under ``"annotations"``
        and ``"shapes"`` the layout's, by their names.
    """
    seen = page.evaluate(_DRAWN, f".{css}")
    result: dict[str, dict[str, Any]] = {}
    for trace in seen["traces"]:
        result[trace["name"]] = dict(trace, x=_array(trace["x"]), y=_array(trace["y"]))
    result["annotations"] = {a["name"]: a for a in seen["annotations"]}
    result["shapes"] = {s["name"]: s for s in seen["shapes"]}
    return result


def _array(values: list[float | None] | None) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values or []], dtype=float)


def readout(page: Any, css: str) -> list[list[str]]:
    """The rows of the explorer's HTML table, cell by cell, as text."""
    return page.evaluate(
        """css => [...document.querySelectorAll(css + ' table tr')].map(
                   row => [...row.cells].map(cell => cell.innerText.trim()))""",
        f".{css}",
    )


def focus_slider(page: Any, css: str, label: str) -> Any:
    """Put the keyboard on the slider that a screen reader calls ``label``; return its locator."""
    handle = page.locator(f".{css}").get_by_role("slider", name=label, exact=True)
    handle.focus()
    return handle


def slider_value(handle: Any) -> float:
    """The value a slider shows to the page (and to a screen reader)."""
    return float(
        handle.evaluate("e => e.getAttribute('aria-valuenow') ?? e.value")  # div or input
    )


def settled(page: Any, css: str, *, timeout_s: float = 10.0) -> dict[str, dict[str, Any]]:
    """Wait until kernel and picture have nothing left to do, then return :func:`drawn`."""
    end = time.monotonic() + timeout_s
    before = ""
    while time.monotonic() < end:
        page.wait_for_timeout(60)  # milliseconds: two to three frames
        state = page.evaluate(_DRAWN, f".{css}")
        idle = page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status"
        )
        now = json.dumps(state) + json.dumps(readout(page, css))
        if now == before and idle == "idle":
            return drawn(page, css)
        before = now
    raise AssertionError(f"the picture was still changing after {timeout_s} s")


def problems(page: Any) -> list[str]:
    """Every error: in cells, in Output widgets, in callbacks, in the page itself."""
    cells = page.evaluate(
        """() => {
          const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];
          return cells.filter(c => c.type === 'code').flatMap(c => c.outputs.toJSON())
            .filter(o => o.output_type === 'error' || (o.output_type === 'stream'
                    && o.name === 'stderr'))
            .map(o => o.ename ? o.ename + ': ' + o.evalue : [].concat(o.text).join(''));
        }"""
    )
    selector = (
        '[data-mime-type="application/vnd.jupyter.error"], '
        '[data-mime-type="application/vnd.jupyter.stderr"], '
        ".jupyter-widgets-error-widget, [role=alert]:not(:empty)"
    )
    shown = page.locator(f".jp-Notebook :is({selector})").all_inner_texts()
    hidden = page.evaluate("() => window.kernelErrors")
    return cells + [text for text in shown if text.strip()] + hidden + page.console
