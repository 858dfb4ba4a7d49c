"""The documents name only what exists."""

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TOUR = (ROOT / "docs" / "tour.md").read_text()
# app.show_post, models.Post.published, core.database.atomic
NAME = re.compile(
    r"\b((?:app|models|forms)|(?:core|extras|porting)\.\w+)\.([A-Za-z_]\w*(?:\.\w+)?)"
)
FILES = "py md html toml png css txt".split()
PATH = re.compile(rf"`((?:\w[\w.-]*/)*[\w.-]+\.(?:{'|'.join(FILES)})|(?:\w+/)+)`")
FRAGMENT = re.compile(r"\]\(((?!https?:)[^)#]*)#([^)]+)\)")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")
FRAGMENTS = [
    (document, *link)
    for document in [*DOCUMENTS, ROOT / "SECURITY.md"]
    for link in FRAGMENT.findall(document.read_text())
]
NOT_YET = {"extras/likes.py", "templates/likes/button.html", "templates/likes/count.html"}
NOT_YET |= {"migrations/versions/likes_1.py", "instance/config.toml", "instance/", "config.toml"}


def exists(module, name):
    return reduce(getattr, name.split("."), import_module(module)) is not None


def test_every_name_of_the_tour_exists():
    found = set(NAME.findall(re.sub(r"```python[\s\S]*?```", "", TOUR)))
    names = {pair for pair in found if pair[1] not in FILES}
    assert len(names) > 30
    assert [pair for pair in sorted(names) if not exists(*pair)] == []


def slug(heading):
    """The fragment by which a heading is linked."""
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")


@pytest.mark.parametrize(("document", "path", "fragment"), FRAGMENTS)
def test_every_heading_that_is_linked_exists(document, path, fragment):
    linked = document.parent / path if path else document
    headings = re.findall("^#+ (.+)$", linked.read_text(), re.MULTILINE)
    assert fragment in map(slug, headings)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(document):
    text = document.read_text()
    named = set(PATH.findall(text)) - NOT_YET
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    linked = set(LINK.findall(text))
    assert [path for path in sorted(linked) if not (document.parent / path).exists()] == []
