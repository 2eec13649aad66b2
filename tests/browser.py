"""A notebook in a real browser: JupyterLab on a free local port, Chromium driven by Playwright.

* :func:`chromium` finds the browser, :func:`lab` starts JupyterLab on copies of notebooks, and
  :func:`notebook` opens one of them in a page of its own and runs all cells;
* :func:`painted` reads what the SVG painter has put on the page, :func:`expected` says what a
  picture should look like there, :func:`follows` waits until both agree;
* :func:`problems` collects errors: of cells, of outputs, of callbacks, of the page.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_core.pictures.picture import WIDTH, Picture
from mmvae_core.pictures.style import DASHES

__all__ = ["Lab", "artefacts", "chromium", "expected", "follows", "lab", "notebook", "painted",
           "problems"]  # fmt: skip

ROOT = Path(__file__).resolve().parents[1]
VIEWPORT = {"width": 1280, "height": 720}  # pixels, of a projector
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
class Lab:
    """A running JupyterLab: its address with the token, the folder it serves, and a browser.

    ``idle`` are pages in which JupyterLab is there and no notebook is open.
    """

    url: str
    token: str
    root: Path
    browser: Any
    idle: list[Any] = field(default_factory=list)


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
            PYTHONPATH=os.pathsep.join(
                filter(None, [str(ROOT), str(ROOT / "notebooks"), os.environ.get("PYTHONPATH")])
            ),
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
            from playwright.sync_api import sync_playwright

            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
                try:
                    yield Lab(url, token, root, browser)
                finally:
                    browser.close()
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
def notebook(lab: Lab, path: str) -> Iterator[Any]:
    """Open ``path`` (inside the lab's folder), alone on its page, and run all its cells.

    Yields:
        Playwright's page. Its attribute ``console`` holds the errors the page has logged.
    """
    page = lab.idle.pop() if lab.idle else _fresh(lab)
    page.console.clear()
    page.set_default_timeout(RUN_S * 1000)
    try:
        page.evaluate(_OPEN, path)
        page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
            ".status === 'idle'"
        )
        page.set_default_timeout(30_000)
        yield page
        page.evaluate(_CLOSE)
    except BaseException:
        page.context.close()
        raise
    lab.idle.append(page)


def _fresh(lab: Lab) -> Any:
    """JupyterLab in a page of its own. The file browser would take a third of its width."""
    page = lab.browser.new_context(viewport=VIEWPORT).new_page()
    page.console = []
    page.on("pageerror", lambda error: page.console.append(str(error)))
    page.goto(f"{lab.url}/lab?token={lab.token}&reset")
    page.wait_for_function("() => window.jupyterapp?.restored", timeout=START_S * 1000)
    page.evaluate(
        "() => window.jupyterapp.restored.then(() => window.jupyterapp.shell.collapseLeft())"
    )
    return page


# An exception in a widget's callback or message handler belongs to no cell: JupyterLab hides it in
# its log. The kernel announces it all the same.
_OPEN = """
async path => {
  const { commands, shell } = window.jupyterapp;
  const panel = await commands.execute('docmanager:open', { path, factory: 'Notebook' });
  const { sessionContext: session } = panel;
  await panel.context.ready;
  await session.ready;
  window.kernelErrors = [];
  session.iopubMessage.connect((_, message) => {
    if (message.header.msg_type === 'error')
      window.kernelErrors.push(message.content.ename + ': ' + message.content.evalue);
  });
  await commands.execute('notebook:run-all-cells');
  shell.activateById(panel.id);
}
"""

_CLOSE = """
async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.sessionContext.shutdown();
  panel.context.model.dirty = false;   // nothing is to be kept
  panel.close();
}
"""

_PAINTED = """
picture => {
  const corner = /[ML](-?[\\d.]+),(-?[\\d.]+)/g;
  const points = path => [...(path?.getAttribute('d') ?? '').matchAll(corner)]
    .map(([, x, y]) => [Number(x), Number(y)]);
  const places = marks => marks.map(mark => mark.getAttribute('transform')
    .match(/translate\\((\\S+) (\\S+)\\)/).slice(1).map(Number));
  const texts = group => [...group.querySelectorAll('text')].map(t => t.textContent);
  const all = kind => Object.fromEntries([...picture.querySelectorAll(`g.${kind}`)].map(
    group => [group.dataset.name, group]));
  const map = (groups, of) => Object.fromEntries(
    Object.entries(groups).map(([name, group]) => [name, of(group)]));
  return JSON.stringify({   // Playwright takes a second over ten thousand numbers, one by one
    stamp: Number(picture.dataset.painted),
    name: picture.querySelector('svg > title').textContent,
    alt: picture.querySelector('svg > desc').textContent,
    words: picture.querySelector('p').innerText,
    table: [...picture.querySelectorAll('tr')].map(
      row => [...row.cells].map(cell => cell.innerText.trim())),
    layers: map(all('layers'), group => {
      const marks = [...group.querySelectorAll('.mark, .open')];
      const image = group.querySelector('image');
      const clip = group.getAttribute('clip-path')?.match(/#([^)]+)/)[1];
      const box = clip && document.getElementById(clip).firstChild;   // of whichever comes first
      const line = group.querySelector('path[fill=none]'), area = group.querySelector(
        'path:not([fill=none]):not(.mark):not(.open)');
      return { line: points(line), area: points(area), marks: places(marks),
               color: (line ?? area ?? marks[0])?.getAttribute(line ? 'stroke' : 'fill') ?? null,
               dash: line?.getAttribute('stroke-dasharray') ?? null,
               clip: box ? ['x', 'y', 'width', 'height'].map(a => +box.getAttribute(a)) : null,
               image: image?.getAttribute('href') ?? null };
    }),
    labels: map(all('labels'), texts),
    panels: map(all('panels'), texts),
  });
}
"""

_PROBLEMS = """
() => {
  const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];
  const outputs = cells.filter(c => c.type === 'code').flatMap(
    ({ outputs: all }) => Array.from({ length: all.length }, (_, i) => all.get(i)));
  const bad = outputs.filter(o => ['error', 'stream'].includes(o.type)).map(o => o.toJSON())
    .filter(o => o.output_type === 'error' || o.name === 'stderr')
    .map(o => o.ename ? o.ename + ': ' + o.evalue : [].concat(o.text).join(''));
  const shown = [...document.querySelectorAll(`.jp-Notebook :is(
      [data-mime-type="application/vnd.jupyter.error"],
      [data-mime-type="application/vnd.jupyter.stderr"],
      .jupyter-widgets-error-widget, [role=alert]:not(:empty))`)].map(place => place.innerText);
  return [...bad, ...shown.filter(text => text.trim()), ...window.kernelErrors];
}
"""


def painted(picture: Any) -> dict[str, Any]:
    """What the page shows of a picture, read from its SVG; pixels of the picture.

    Args:
        picture: locator of the element ``.mmvae-picture``.
    """
    return json.loads(picture.evaluate(_PAINTED))


def expected(picture: Picture) -> dict[str, Any]:
    """What :func:`painted` has to return for a picture, worked out from its description."""
    layers = {}
    for name, layer in picture.layers.items():
        panel = picture.panels[layer.panel]
        left, right, bottom, top = panel.box
        size = np.array([(right - left) * WIDTH, (top - bottom) * picture.height])
        at = panel.placed(layer.x, layer.y, picture.height)
        inside = ((at >= -0.01) & (at <= size + 0.01)).all(axis=1)
        at = np.array([left * WIDTH, (1 - bottom) * picture.height]) + at * [1, -1]
        known, is_line = np.isfinite(at).all(axis=1), not layer.marker and layer.image is None
        dash = " ".join(map(str, DASHES[layer.dash])) or "none"
        shown = (is_line and (layer.width or layer.fill)) or (layer.marker and inside.any())
        layers[name] = {
            "line": at[known] if is_line and layer.width else [],
            "area": at[known] if is_line and layer.fill and layer.closed else None,
            "marks": at[known & inside] if layer.marker else [],
            "color": layer.color if shown else None,
            "dash": dash if is_line and layer.width else None,
            "clip": [[left * WIDTH, (1 - top) * picture.height], size] if is_line else None,
        }
    return {
        "name": picture.name,
        "alt": picture.alt,
        "layers": layers,
        "labels": {n: [label.text for label in labels] for n, labels in picture.labels.items()},
        "panels": {
            name: [*(text for axis in panel.marks(picture.height) for _, text in axis),
                   panel.title, panel.xlabel, panel.ylabel]
            for name, panel in picture.panels.items()
        },
    }  # fmt: skip


def difference(seen: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first thing in which the page differs from the description; empty where nothing does."""
    for key in ("name", "alt", "labels", "panels"):
        if seen[key] != wanted[key]:
            return f"{key}: painted {seen[key]!r}, described {wanted[key]!r}"
    if list(seen["layers"]) != list(wanted["layers"]):
        return f"layers: painted {list(seen['layers'])}, described {list(wanted['layers'])}"
    for name, layer in wanted["layers"].items():
        for key, value in layer.items():
            there = seen["layers"][name][key]
            if key in ("color", "dash"):
                same = there == value
            else:  # an area above a base line has corners of its own
                seen_at, at = (np.reshape([] if v is None else v, (-1, 2)) for v in (there, value))
                same = value is None or (
                    seen_at.shape == at.shape and np.allclose(seen_at, at, rtol=0, atol=0.0101)
                )
            if not same:
                return f"layer {name!r}, {key}: painted {there!r}, described {value!r}"
    return ""


def follows(picture: Any, describe: Callable[[], Picture], timeout_s: float = 30.0) -> dict:
    """Wait until the page shows what ``describe()`` returns; return what is painted.

    ``describe`` is asked again whenever the page has painted, for a control may still be moving.
    """
    end = time.monotonic() + timeout_s
    while True:
        seen = painted(picture)
        gap = difference(seen, expected(describe()))
        if not gap:
            return seen
        left = 1000 * (end - time.monotonic())
        if left <= 0:
            raise AssertionError(f"the page does not show the state of its controls: {gap}")
        picture.evaluate(
            """(picture, [stamp, most]) => new Promise(resolve => {
                 const done = () => { clearTimeout(late); resolve(); };
                 const late = setTimeout(done, most);
                 picture.addEventListener('painted', done, { once: true });
                 if (Number(picture.dataset.painted) !== stamp) done();
               })""",
            [seen["stamp"], min(left, 3000)],
        )


def problems(page: Any) -> list[str]:
    """Every error: in cells, in Output widgets, in callbacks, in the page itself."""
    return page.evaluate(_PROBLEMS) + page.console
