"""docs/hosting.md: each of its commands is run, heading by heading, in a copy of the project."""

import ast
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml
from conftest import QUICK_HASH, Person, close, execute, free_port, missing
from PIL import Image
from test_new_field import ROOT, SOURCES
from test_other_servers import APACHE, LINES, check_program

from app import create_app
from core.database import db
from extras.pictures import Picture

TEXT = (ROOT / "docs" / "hosting.md").read_text()
BLOCK = re.compile(r"^(#+ .+)$|^```(.*)\n([\s\S]*?)^```$", re.MULTILINE)
FAULTS = TEXT.partition("## When something is wrong")[2].partition("\n## ")[0]
# What a test cannot do to the machine that it runs on. The files in deploy/ have their own tests.
SYSTEM = {"apt-get", "docker", "git", "heroku", "ln", "printf", "sed", "systemctl"}
SERVES = re.compile(r"\b(make run|flask serve|gunicorn|waitress|uwsgi|apache2)\b")
SECONDS_MAX = 300  # for the commands of a heading, on a busy machine
# What the commands in the environment of the copy do, which pip writes elsewhere.
SCRIPTS = {
    "flask": "from flask.cli import main as run",
    "gunicorn": "from gunicorn.app.wsgiapp import run",
    "waitress-serve": "from waitress.runner import run",
}
# Tells make that the environment of the copy is whole.
MARK = """
from core import environment
environment.MARK.write_text("".join(environment.purpose(["requirements.txt"])))
"""
# Bash that starts a server, adds its home page to a file, and stops it.
SERVED = """
set -euo pipefail
served() {
  setsid bash -c "$1" & server=$!
  until (: < "/dev/tcp/127.0.0.1/$BLOG_PORT") 2>/dev/null; do sleep 0.2; kill -0 $server; done
  .venv/bin/python -c "$BLOG_GET" healthz
  .venv/bin/python -c "$BLOG_GET" >> "$BLOG_PAGES"
  kill -- -$server
  # Now and then, Granian waits for ever when its whole process group gets a signal.
  (sleep 10; kill -KILL -- -$server 2>/dev/null) & wait $server || true
}
"""
GET = """
import os, sys, urllib.request
path = "/".join(sys.argv[1:])
url = f"http://127.0.0.1:{os.environ['BLOG_PORT']}/{path}"
print(urllib.request.urlopen(url).read())
"""


def read_blocks():
    """The blocks of the page: the heading above, the words of the info string, and the code."""
    heading, blocks = "", []
    for title, info, code in BLOCK.findall(TEXT):
        heading = title.lstrip("# ") or heading
        blocks += [(heading, info.split(), code)] * bool(code)
    return blocks


def read_texts():
    """All texts in the blog's code, one a line, without what they are filled with."""
    folders = [ROOT, ROOT / "core", ROOT / "extras"]
    modules = [path.read_text() for folder in folders for path in folder.glob("*.py")]
    nodes = [node for module in modules for node in ast.walk(ast.parse(module))]
    return "\n".join(str(node.value) for node in nodes if isinstance(node, ast.Constant))


CODE = read_texts()
BLOCKS = read_blocks()
IS_FILE = re.compile(r"[\w/]+\.\w+")  # the second word of an info string
RUN = [block for block in BLOCKS if block[1][1:] != ["system"]]
HEADINGS = list(dict.fromkeys(heading for heading, _, _ in RUN))
SQLITE, POSTGRESQL = "sqlite:///blog.db", "postgresql://blog:password@127.0.0.1/blog"
MOVE = "From SQLite to PostgreSQL, and home again"
BEFORE = {"PostgreSQL": POSTGRESQL}  # where the blog is before the commands, if not on SQLite


def lines_of(heading):
    """What is run for the heading: its commands, then the scripts that it has."""
    blocks = [(info, code) for title, info, code in RUN if title == heading]
    commands = [line for info, code in blocks if info == ["sh"] for line in code.splitlines()]
    scripts = [f".venv/bin/python {info[1]}" for info, _ in blocks if info[0] == "python"]
    return [*commands, *scripts]


def interpreter():
    """The system's Python, which is the one in uWSGI, if it is as new as this one."""
    is_same = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    found = [path for path in ("/usr/bin/python3", sys.executable) if Path(path).exists()]
    return next(path for path in found if subprocess.call([path, "-c", is_same]) == 0)


@pytest.fixture
def project(tmp_path):
    """A clone of the project, with an environment of its own that has what this one has."""
    shutil.which("git") or missing("git", "apt-get install git")
    upstream, clone = tmp_path / "upstream", tmp_path / "blog"
    shutil.copytree(ROOT, upstream, ignore=SOURCES)
    git = ["git", "-C", upstream, "-c", "user.name=x", "-c", "user.email=x@blog.example"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "everything"], check=True)
    subprocess.run([*git, "tag", re.search("git checkout (.*)", TEXT)[1]], check=True)
    subprocess.run(["git", "clone", "-q", upstream, clone], check=True)
    subprocess.run([interpreter(), "-m", "venv", "--without-pip", clone / ".venv"], check=True)
    (packages,) = clone.glob(".venv/lib/*/site-packages")
    (packages / "tested.pth").write_text(sysconfig.get_path("purelib"))
    for name, code in SCRIPTS.items():
        script = clone / ".venv" / "bin" / name
        script.write_text(f"#!{clone}/.venv/bin/python\n{code}\nrun()\n")
        script.chmod(0o700)
    subprocess.run(["python3", "-c", MARK], cwd=clone, check=True)
    shutil.which("uwsgi") or missing("uWSGI", "apt-get install uwsgi uwsgi-plugin-python3")
    return clone


@pytest.fixture
def databases(postgresql):
    """A function that puts this test's own databases on PostgreSQL in the place of the page's."""
    url = re.compile(r"postgresql://blog(?::password)?@127\.0\.0\.1/(\w+)")
    execute(postgresql, "CREATE DATABASE blog")
    yield lambda text: url.sub(lambda match: postgresql.format(match[1]), text)
    for name in set(url.findall(TEXT)):
        execute(postgresql, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def open_blog(project, url):
    """The blog of the project, with its database at that URL."""
    return create_app(str(project / "instance"), DATABASE_URL=url, PASSWORD_HASH=QUICK_HASH)


def fill(project, url):
    """Write a post, a draft and a picture into the blog."""
    app = open_blog(project, url)
    Person(app, "olga").sign_up()
    abcxyz = Person(app, "abcxyz").sign_up()
    abcxyz.comment(abcxyz.write("Written before"))
    abcxyz.send("/posts/new", title="Unfinished", body="x", action="draft")
    picture = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(picture, "PNG")
    picture.seek(0)
    fields = {"title": "With a picture", "body": "x", "action": "picture", "alt": "Red"}
    assert abcxyz.send("/posts/new", picture=(picture, "red.png"), **fields).status_code == 200
    close(app)


def run_page(heading, project, databases):
    """Run the heading's commands in the project; the home page of each server among them."""
    files = {
        info[1]: code
        for title, info, code in RUN
        if title == heading and IS_FILE.fullmatch(info[-1])
    }
    return run(lines_of(heading), files, project, databases)


def run(lines, files, project, databases):
    """Run the lines in the project, with these files; the home page of each server among them."""
    port = str(free_port())

    def real(text):
        text = databases(text).replace("8000", port).replace("/opt/blog", str(project))
        text = text.replace("/etc/blog.env", os.devnull)
        return text.replace("uwsgi --", "uwsgi --plugin python3 --")  # Debian has it in two parts

    for name, code in files.items():
        (project / name).write_text(real(code))
    lines = [real(line) for line in lines]
    lines = [f"served {shlex.quote(x)}" if SERVES.search(x) else x for x in lines]
    pages = project / "pages"
    pages.touch()
    own = {"BLOG_PORT": port, "BLOG_PAGES": str(pages), "BLOG_GET": GET}
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = ["bash", "-c", "\n".join([SERVED, *lines])]
    subprocess.run(command, cwd=project, env=environment | own, check=True, timeout=SECONDS_MAX)
    return pages.read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("heading", [heading for heading in HEADINGS if heading != MOVE])
def test_the_commands_of_the_page_do_what_they_say(heading, project, databases):
    fill(project, databases(BEFORE.get(heading, SQLITE)))
    (project / "folder-of-markdown").mkdir()
    (project / "folder-of-markdown" / "other.md").write_text("---\ntitle: Other\n---\nx")
    pages = run_page(heading, project, databases)
    assert [page for page in pages if "Written before" not in page] == []
    assert len(pages) == sum(bool(SERVES.search(line)) for line in lines_of(heading))


@pytest.mark.slow
def test_apache_serves_the_blog_by_the_lines_of_the_page(project, databases):
    check_program("mod_wsgi")
    fill(project, SQLITE)
    apache = APACHE.format(folder="/opt/blog", port=8000)
    files = {"apache2.conf": "\n".join([apache, *re.findall("`(WSGI[^`]+)`", TEXT)])}
    (page,) = run([LINES["mod_wsgi"].format(folder="/opt/blog")], files, project, databases)
    assert "Written before" in page


@pytest.mark.parametrize("sentence", re.findall(r"^\|[^|]*\| `([^`]+)` \|", FAULTS, re.MULTILINE))
def test_the_sentences_of_the_page_are_the_blogs(sentence):
    pieces = [piece.strip() for piece in re.split("…|(?<=[.:]) ", sentence)]
    assert max(map(len, pieces)) > 10
    assert [piece for piece in pieces if piece.strip("().: ") and piece not in CODE] == []


def test_what_the_page_leaves_to_the_system_needs_the_system():
    blocks = [code for _, info, code in BLOCKS if info[1:] == ["system"]]
    lines = [line for code in blocks for line in code.replace("\\\n", "").splitlines()]
    assert {shlex.split(line)[0] for line in lines} <= SYSTEM


def test_the_containers_of_the_page_are_in_the_compose_files():
    files = [yaml.safe_load(path.read_text()) for path in (ROOT / "deploy").glob("compose*.yaml")]
    services = {name for file in files for name in file["services"]}
    words = r"docker compose .*?(?:exec|run|cp)(?: -T| --rm)* ([\w-]+)"
    assert {*re.findall(words, TEXT)} == {"blog", "database"}
    assert {"blog", "blog-1", "blog-2", "database"} <= services


def test_no_command_of_the_page_shows_a_password():
    lines = [line for _, _, code in BLOCKS for line in code.splitlines()]
    told = [line for line in lines if ":password@" in line or "$BLOG_DATABASE_URL" in line]
    assert [line for line in told if not line.startswith("export ")] == []


def test_every_block_of_the_page_is_run_or_for_the_system():
    infos = [info for _, info, _ in BLOCKS]
    rest = [info for info in infos if info not in (["sh"], ["sh", "system"])]
    assert [info for info in rest if len(info) != 2 or not IS_FILE.fullmatch(info[1])] == []


@pytest.mark.slow
def test_a_blog_moves_to_postgresql_and_home_with_all_that_is_in_it(project, databases):
    fill(project, SQLITE)
    pages = run_page(MOVE, project, databases)
    assert ["Written before" in page for page in pages] == [True, True]
    there, home = project.glob("blog-*.zip")
    assert there.read_bytes() == home.read_bytes()
    app = open_blog(project, SQLITE)
    abcxyz = Person(app, "abcxyz")
    assert abcxyz.log_in().status_code == 303
    assert "Unfinished" in abcxyz.get("/drafts").text
    assert abcxyz.get("/posts/1/written-before").status_code == 200
    with app.app_context():
        assert len(db.session.scalars(sa.select(Picture.name)).all()) == 1
    close(app)
