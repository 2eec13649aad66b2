"""Run notebooks in place and keep what a reader without a kernel can see.

    python notebooks/store.py [NAME ...]     # all notebooks by default

Outputs stay as text and static pictures; widgets, their state and time stamps do not, so that a
stored notebook is small and changes only where its numbers do.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
WIDGETS = ("application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json")


def kept(output: nbformat.NotebookNode) -> bool:
    """Take widgets out of an output, and say whether what is left tells a reader anything."""
    if output.output_type == "stream":
        return output.name == "stdout"  # progress bars and warnings are for whoever runs it
    data = output.get("data", {})
    had_widget = any(data.pop(kind, None) is not None for kind in WIDGETS)
    text = data.get("text/plain", "")
    says_nothing = re.fullmatch(r"\w+\(.*\)", text, flags=re.DOTALL) or "%|" in text  # a bar
    return not had_widget or "image/png" in data or not says_nothing


def store(path: Path) -> None:
    """Execute the notebook at ``path`` and write it back."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(HERE)}},
    )
    client.execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if kept(output)]
    nbformat.write(notebook, path)


if __name__ == "__main__":
    names = sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.ipynb"))
    for name in tqdm(names, unit="notebook"):
        store(HERE / f"{name.removesuffix('.ipynb')}.ipynb")
