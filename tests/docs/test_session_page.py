# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The page and the notebook about sessions run as they stand, and the page has all that a session can."""

import inspect
import json
import re
from pathlib import Path

import matplotlib
import pytest

from sam_bundles import Session

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "session.md").read_text(encoding="utf-8")


def run(parts: list[str], monkeypatch, tmp_path) -> dict:
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for number, part in enumerate(parts, start=1):
        exec(compile(part, f"part {number}", "exec"), names)
    return names


def test_the_page_runs(monkeypatch, tmp_path, capsys):
    names = run(re.findall(r"```python\n(.*?)```", PAGE, re.S), monkeypatch, tmp_path)
    assert names["mask"].any() and (tmp_path / "masks.json").is_file()
    assert "1 mm" not in capsys.readouterr().out


def test_the_page_has_every_method():
    public = {n for n, _ in inspect.getmembers(Session) if not n.startswith("_")}
    code = " ".join(re.findall(r"```python\n(.*?)```", PAGE, re.S))
    assert not {n for n in public if not re.search(rf"\b{n}\b", code)}


def test_the_notebook_runs_and_shows_its_pictures(monkeypatch, tmp_path):
    pytest.importorskip("nilearn", reason="the notebook's brain comes with nilearn")
    monkeypatch.setattr(matplotlib.pyplot, "show", lambda: None) if hasattr(matplotlib, "pyplot") else None
    matplotlib.use("Agg")
    cells = [c for c in json.loads((DOCS / "session.ipynb").read_text())["cells"] if c["cell_type"] == "code"]
    names = run(["".join(c["source"]) for c in cells], monkeypatch, tmp_path)
    assert names["session"].volume_ml("brain") > 1000
    pictures = [o for c in cells for o in c["outputs"] if "image/png" in o.get("data", {})]
    assert len(pictures) >= 3
