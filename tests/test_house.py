"""The rules of the house that a program can check."""

import ast
import re
from pathlib import Path

import pytest

from app import BUILT_IN_EXTRAS

ROOT = Path(__file__).parents[1]
# A module imports only from further down this list; of extras, from those that plug in earlier.
CORE = ["serving", "errors", "urls", "security", "plugins", "pagination", "commands", "database"]
CORE += ["database_url"]
ORDER = [
    "wsgi",
    *("porting", *[path for path in reversed(BUILT_IN_EXTRAS) if path != "porting"]),
    *("app", "forms", "models", *[f"core.{name}" for name in CORE]),
    *("core.images", "core.rendering", "core.markdown_rules", "core.markdown_links"),
    *("core.config", "core.environment"),
]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
FOLDERS = [ROOT, ROOT / "core", ROOT / "extras"]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): [path]
    for folder in FOLDERS
    for path in sorted(folder.glob("*.py"))
    if path.stem != "__init__"
}
MODULES["porting"] = sorted((ROOT / "porting").glob("*.py"))
PATHS = [path for paths in MODULES.values() for path in paths]


def imports(module):
    """The modules of ours that a module imports when it runs: `from core import x` is core.x."""
    texts = [path.read_text().replace("if TYPE_CHECKING:", "if 0:") for path in MODULES[module]]
    texts = [re.sub(r"if 0:\n( .*\n|\n)+", "", text) for text in texts]
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [node.module for node in froms]
    names += [f"{node.module}.{alias.name}" for node in froms for alias in node.names]
    names += ["porting" for name in names if name.startswith("porting.")]
    return set(names) & set(MODULES) - {module}


def test_every_module_has_its_place():
    assert set(MODULES) == set(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_imports_run_downward(module):
    assert imports(module) <= set(ORDER[ORDER.index(module) + 1 :])


@pytest.mark.parametrize("module", [name for name in ORDER if not name.startswith("extras")])
def test_the_core_imports_no_extra(module):
    found = {name for name in imports(module) if name.startswith("extras")}
    assert module == "porting" or found == set()


@pytest.mark.parametrize("path", MODULES["porting"], ids=lambda path: path.stem)
def test_a_reader_of_files_asks_no_database(path):
    is_reader = path.stem.endswith("_reader")
    assert not (is_reader and re.search(r"\bdb\b|atomic|sqlalchemy", path.read_text()))


def test_rendering_knows_neither_flask_nor_the_database():
    names = ("rendering.py", "markdown_rules.py", "markdown_links.py")
    text = "".join((ROOT / "core" / name).read_text() for name in names)
    assert not re.search("import.*(flask|sqlalchemy)", text)


def test_only_rendering_makes_markup():
    others = [path for path in PATHS if path.stem != "rendering"]
    assert [path.name for path in others if "Markup(" in path.read_text()] == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_turns_escaping_off_or_runs_scripts(template):
    text = template.read_text()
    assert not re.search(r"\|\s*safe|autoescape|<script|<style|\son\w+=|\sstyle=|javascript:", text)


def test_the_style_sheet_is_small_and_without_force():
    text = (ROOT / "static" / "style.css").read_text()
    assert len(text) < 20_000
    assert not re.search(r"!important|^#", text, re.MULTILINE)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_public_has_a_docstring(path):
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.ClassDef)
    nodes = [node for node in tree.body if isinstance(node, kinds) and node.name[0] != "_"]
    assert ast.get_docstring(tree)
    assert [node.name for node in nodes if not ast.get_docstring(node)] == []
