"""What generators of static sites make of an export."""

import shutil
import subprocess
import zipfile
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from conftest import missing
from test_porting import exported, imported, item, wordpress

from core.database import db
from models import Comment, Post, User

pytestmark = pytest.mark.slow
TEMPLATES = (
    "Hugo has `{{< note >}}`, {{% note %}} and {{<, Liquid {% raw %}, `{% if %}` and {{ page.x }}."
)


@pytest.fixture
def export(app, owner, bob, tmp_path):
    """The folder of an export, with three posts of one title, and secrets of every kind."""
    for number in range(3):
        owner.write("The same", f"Public {number}.")
    owner.write("", "Public 3.")
    owner.write("{{< tags >}} {% if %}", TEMPLATES)
    owner.send("/posts/new", title="Draft", body="SECRET", action="draft")
    owner.write("Scheduled", "SECRET", publish_at="2999-01-01T00:00")
    later = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M}"
    owner.send("/posts/new", title="Dated", body="SECRET", publish_at=later, action="draft")
    bob.write("Of who is banned", "SECRET")
    owner.comment("/posts/1/the-same", "SECRET")
    hidden = [item(state, wp__status=state) for state in ("private", "pending", "draft")]
    hidden.append(item("password", wp__post_password="tea"))
    imported(app, wordpress(tmp_path / "wp.xml", *hidden))
    with app.app_context():
        db.session.execute(sa.update(Post).where(Post.id > 9).values(body="SECRET"))
        db.session.execute(sa.update(Comment).values(state="pending"))
        db.session.scalar(User.named("bob")).ban()
        db.session.commit()
    with zipfile.ZipFile(exported(app, tmp_path / "blog.zip")) as archive:
        archive.extractall(tmp_path / "export")
    return tmp_path / "export"


def run(program, folder, *words):
    if not shutil.which(program):
        missing(program, f"apt-get install {program}")
    subprocess.run([program, *words], cwd=folder, check=True, capture_output=True)


def hugo(export, folder):
    """A site that shows whole texts in its pages, lists and feeds."""
    files = {
        "config.toml": 'title = "A site"\nbaseURL = "https://site.example/"\n',
        "layouts/_default/single.html": "{{ .Title }} {{ .Content }}",
        "layouts/_default/list.html": "{{ range .Pages }}{{ .Title }} {{ .Content }}{{ end }}",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    shutil.copytree(export / "posts", folder / "content" / "posts")
    run("hugo", folder)
    return folder / "public", "posts/*/index.html"


def jekyll_pages(export, folder):
    """The export as it is."""
    shutil.copytree(export, folder)
    run("jekyll", folder, "build")
    return folder / "_site", "posts/*.html"


def jekyll_posts(export, folder):
    """Posts, whose files have to be named by dates, and a list of them."""
    for path in (export / "posts").iterdir():
        (folder / "_posts").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "_posts" / f"2024-03-01-{path.name}")
    (folder / "index.html").write_text(
        "---\n---\n{% for p in site.posts %}{{ p.excerpt }}{% endfor %}"
    )
    run("jekyll", folder, "build")
    return folder / "_site", "*/*/*/*.html"


@pytest.mark.parametrize("generator", [hugo, jekyll_pages, jekyll_posts])
def test_a_site_made_of_an_export_shows_what_is_public(export, tmp_path, generator):
    site, pages = generator(export, tmp_path / "site")
    files = [path for path in site.rglob("*") if path.is_file()]
    assert [path for path in files if b"SECRET" in path.read_bytes()] == []
    assert [path for path in files if path.suffix == ".jsonl"] == []
    texts = [path.read_text() for path in site.glob(pages)]
    public = {text.partition("Public ")[2][:2] for text in texts if "Public" in text}
    assert (len(texts), public) == (5, {"0.", "1.", "2.", "3."})
    (templates,) = [text.replace("\u2060", "") for text in texts if "Liquid" in text]
    words = ["{{&lt; note &gt;}}", "{{% note %}}", "{% raw %}", "{% if %}", "{{ page.x }}"]
    assert [text for text in words if text not in templates] == []


def test_our_own_reader_takes_it_back(export, app):
    assert imported(app, export).added == {}
