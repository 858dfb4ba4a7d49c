"""The rules of the house that a program can check."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A module imports only from further down this list.
ORDER = ["app", "owner", "cli", "doctor", "archive", "wordpress", "forms", "rate_limits"]
ORDER += ["security", "search", "models", "pictures", "rendering", "cache", "database", "config"]
# What security and forms share is in models; config is read by the factory alone.
TEMPLATES = sorted((ROOT / "templates").glob("*.html"))


def imports(module):
    tree = ast.parse((ROOT / f"{module}.py").read_text())
    nodes = list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names} & {path.stem for path in ROOT.glob("*.py")}


def test_every_module_has_its_place():
    assert {path.stem for path in ROOT.glob("*.py")} == set(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_imports_run_downward(module):
    assert imports(module) <= set(ORDER[ORDER.index(module) + 1 :])


def test_rendering_knows_neither_flask_nor_the_database():
    assert not re.search("flask|sqlalchemy", (ROOT / "rendering.py").read_text())


@pytest.mark.parametrize("module", sorted(set(ORDER) - {"rendering"}))
def test_only_rendering_makes_markup(module):
    assert "Markup(" not in (ROOT / f"{module}.py").read_text()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_turns_escaping_off_or_runs_scripts(template):
    text = template.read_text()
    assert not re.search(r"\|\s*safe|autoescape|<script|<style|\son\w+=|\sstyle=|javascript:", text)


def test_the_style_sheet_is_small_and_without_force():
    text = (ROOT / "static" / "style.css").read_text()
    assert len(text) < 20_000
    assert not re.search(r"!important|^#", text, re.MULTILINE)


@pytest.mark.parametrize("module", ORDER)
def test_everything_public_has_a_docstring(module):
    tree = ast.parse((ROOT / f"{module}.py").read_text())
    assert ast.get_docstring(tree)
    kinds = (ast.FunctionDef, ast.ClassDef)
    public = [node for node in tree.body if isinstance(node, kinds) and node.name[0] != "_"]
    assert [node.name for node in public if not ast.get_docstring(node)] == []
