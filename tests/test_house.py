"""The rules of the house that a program can check."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A module imports only from further down this list.
ORDER = ["app", "owner", "cli", "doctor", "porting", "forms", "rate_limits"]
ORDER += ["security", "search", "models", "pictures", "rendering", "cache", "database", "config"]
# What security and forms share is in models; config is read by the factory alone.
TEMPLATES = sorted((ROOT / "templates").glob("*.html"))


SOURCES = {path.stem: [path] for path in ROOT.glob("*.py")}
SOURCES["porting"] = sorted((ROOT / "porting").glob("*.py"))


def trees(module):
    return [ast.parse(path.read_text()) for path in SOURCES[module]]


def imports(module):
    nodes = [node for tree in trees(module) for node in ast.walk(tree)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names} & set(SOURCES) - {module}


def test_every_module_has_its_place():
    assert set(SOURCES) == set(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_imports_run_downward(module):
    assert imports(module) <= set(ORDER[ORDER.index(module) + 1 :])


@pytest.mark.parametrize("path", SOURCES["porting"], ids=lambda path: path.stem)
def test_a_reader_of_files_asks_no_database(path):
    is_reader = path.stem.endswith("_reader")
    assert not (is_reader and re.search(r"\bdb\b|atomic|sqlalchemy", path.read_text()))


def test_rendering_knows_neither_flask_nor_the_database():
    assert not re.search("flask|sqlalchemy", (ROOT / "rendering.py").read_text())


@pytest.mark.parametrize("module", sorted(set(ORDER) - {"rendering"}))
def test_only_rendering_makes_markup(module):
    assert "Markup(" not in "".join(path.read_text() for path in SOURCES[module])


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
    assert all(ast.get_docstring(tree) for tree in trees(module))
    kinds = (ast.FunctionDef, ast.ClassDef)
    nodes = [node for tree in trees(module) for node in tree.body]
    public = [node for node in nodes if isinstance(node, kinds) and node.name[0] != "_"]
    assert [node.name for node in public if not ast.get_docstring(node)] == []
