"""Accidents of those who begin, in copies of the project with environments of their own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import Person, close, missing
from test_server import ROOT, Place, answers, ask, free_port

pytestmark = pytest.mark.slow
DEBIAN_PIP = "pip==23.0.1"  # that of Debian 12
SMALL = "pygments\n"  # a package in pure Python, where any will do
NOT_COPIED = [".*_cache", ".git", ".hypothesis", ".venv", "__pycache__", "instance", "node_modules"]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """A folder with all packages, for sets-up that need no network."""
    folder = tmp_path_factory.mktemp("wheels")
    words = ["download", "--quiet", "-d", folder, "-r", "requirements.txt", "-c", "constraints.txt"]
    subprocess.run([sys.executable, "-m", "pip", *words, DEBIAN_PIP], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def environment(wheels):
    """The variables for Make: none of the Make or the Python that runs this."""
    names = ["PATH", "HOME", "LANG"]
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    return {name: os.environ[name] for name in names if name in os.environ} | pip


@pytest.fixture
def project(tmp_path):
    """A copy of the project, in which one small package is all that is installed."""
    return copy_project(tmp_path / "blog", SMALL)


@pytest.fixture(scope="session")
def small_project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("small") / "blog", SMALL)


@pytest.fixture
def ready(small_project, environment):
    """Such a copy that is set up."""
    assert set_up(small_project, environment)[0] == 0
    return small_project


@pytest.fixture(scope="session")
def two_at_once(tmp_path_factory, environment):
    """The folder of a blog that two have started at the same time, and what each was told."""
    # With blanks and letters beyond ASCII.
    folder = copy_project(tmp_path_factory.mktemp("home") / "Größe & Ähnliches" / "my blog")
    port = str(free_port())
    both = [start(folder, environment, BLOG_PORT=port) for _ in range(2)]
    try:
        wait(lambda: any(process.poll() is not None for process in both))
        late, first = sorted(both, key=lambda process: process.poll() is None)
        wait(lambda: answers(int(port)))
    finally:
        texts = {process: stop(process) for process in both}
    return folder, [texts[first], texts[late]]


@pytest.fixture
def blog(two_at_once):
    """The folder of a blog that is set up."""
    return two_at_once[0]


def copy_project(folder, requirements=None):
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
    if requirements:
        (folder / "requirements.txt").write_text(requirements)
    return folder


def start(folder, environment, **more):
    """`make run` in that folder."""
    return subprocess.Popen(
        ["make", "run", f"PYTHON={sys.executable}"],
        cwd=folder,
        env=environment | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def stop(process):
    """End `make run` and all that it started; what it has said."""
    with suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGTERM)
    try:
        return process.communicate(timeout=10)[0]
    except subprocess.TimeoutExpired:
        # Now and then, Granian waits for ever when its whole process group gets a signal.
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]


@contextmanager
def made(folder, environment, **more):
    """The port of the blog that `make run` serves in that folder."""
    port = free_port()
    process = start(folder, environment, BLOG_PORT=str(port), **more)
    try:
        wait(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None, process.communicate()[0]
        yield port
    finally:
        stop(process)


def wait(until, seconds=240):
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def set_up(folder, environment, python=(sys.executable,)):
    """The exit status of setting up, with which `make run` begins, and what it says."""
    words = [*python, "-m", "core.environment", "requirements.txt"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(words, cwd=folder, env=environment, **options)
    return done.returncode, done.stdout


def is_set_up(folder):
    """Whether Python, pip and the small package run, and by their own scripts."""
    commands = [["python", "-m", "pip"], ["pip", "--version"], ["pygmentize", "-V"]]
    paths = [[folder / ".venv/bin" / name, *words] for name, *words in commands]
    return not any(subprocess.run(path, stdout=subprocess.DEVNULL).returncode for path in paths)


def test_of_two_that_start_at_once_one_serves_and_one_says_that_the_port_is_taken(two_at_once):
    _, (first, late) = two_at_once
    assert "The blog is at" in first
    assert "is taken" in late
    assert (first + late).count("Installing") == 1
    assert "Traceback" not in first + late


def test_a_folder_that_was_moved_gets_an_environment_of_its_own(ready, environment, tmp_path):
    new = ready.rename(tmp_path / "Pat's new folder")
    assert set_up(new, environment)[0] == 0
    assert is_set_up(new)
    new.rename(ready)


def test_a_copied_folder_serves_with_its_own_environment(blog, environment, tmp_path):
    copy = tmp_path / "Kopie für mich"
    subprocess.run(["cp", "-a", blog, copy], check=True)
    # A machine's name, as shells set it, is not where the blog listens.
    with made(copy, environment, HOST="no-such-host.invalid") as port:
        assert ask(port, "GET", "/").status == 200
    assert str(copy) in (copy / ".venv/bin/flask").read_text()
    subprocess.run([copy / ".venv/bin/flask", "routes"], cwd=copy, env=environment, check=True)
    assert set_up(copy, environment) == (0, "")


@pytest.mark.parametrize(
    ("kill", "moment"),
    [
        (os.killpg, "**/site-packages/pip/_internal"),
        (os.kill, "bin/pip"),  # what Make started lives on
    ],
)
def test_a_set_up_that_was_killed_is_begun_anew(project, environment, kill, moment):
    process = start(project, environment)
    wait(lambda: any((project / ".venv").glob(moment)))
    kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert set_up(project, environment)[0] == 0
    assert is_set_up(project)


def test_an_environment_whose_python_is_gone_is_made_anew(ready, environment):
    (ready / ".venv/bin/python").unlink()
    (ready / ".venv/bin/python").symlink_to("/usr/bin/python3.1")
    assert set_up(ready, environment)[0] == 0
    assert is_set_up(ready)


def test_an_environment_of_another_minor_version_is_made_anew(ready, environment):
    (folder,) = (ready / ".venv/lib").glob("python3.*")
    folder.rename(ready / ".venv/lib/python3.1")
    mark = ready / ".venv/made-for"
    mark.write_text(mark.read_text().replace(folder.name.removeprefix("python"), "3.1", 1))
    assert set_up(ready, environment)[0] == 0
    assert is_set_up(ready)


def test_settings_of_pip_and_python_keep_no_package_out(ready, environment, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(site_packages(ready), elsewhere)
    shutil.rmtree(ready / ".venv")
    names = ("PIP_PREFIX", "PIP_TARGET", "PYTHONPATH")
    settings = dict.fromkeys(names, str(elsewhere)) | {"PIP_USER": "1"}
    assert set_up(ready, environment | settings)[0] == 0
    assert (site_packages(ready) / "pygments").is_dir()


def test_a_folder_with_a_colon_in_its_name_is_refused_in_a_sentence(environment, tmp_path):
    status, output = set_up(copy_project(tmp_path / "a:b", SMALL), environment)
    assert status == 1
    assert "a:b has a colon in its name: rename that folder.\n" in output
    assert "Traceback" not in output


def site_packages(folder):
    """Where an environment has its packages."""
    return next((folder / ".venv/lib").iterdir()) / "site-packages"


def test_what_one_has_installed_oneself_stays_when_the_versions_change(ready, environment):
    pip = [ready / ".venv/bin/pip", "install", "--quiet", "blinker"]
    subprocess.run(pip, env=environment, check=True)
    with (ready / "constraints.txt").open("a") as file:
        file.write("# another version\n")
    assert set_up(ready, environment)[0] == 0
    assert set_up(ready, environment) == (0, "")
    assert is_set_up(ready)
    subprocess.run([ready / ".venv/bin/python", "-c", "import blinker"], check=True)


@pytest.fixture
def shared_project():
    """A copy of the project where each user of the machine finds it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield copy_project(Path(folder) / "blog", SMALL)


def test_a_user_after_root_is_told_to_take_the_folder_over(shared_project, environment):
    os.geteuid() == 0 or missing("root", "run the tests as root, in a container")
    (shared_project / ".venv/bin").mkdir(parents=True)
    nobody = ["runuser", "-u", "nobody", "--", "/usr/bin/python3"]
    status, text = set_up(shared_project, environment, nobody)
    assert status == 1
    assert re.search(r"You may not write /tmp/.*/\.venv.*\. If root .*: sudo chown -R .*\n$", text)
    assert "Traceback" not in text


def test_the_locale_c_keeps_letters_beyond_ascii(blog, environment, tmp_path):
    text = "---\ntitle: Grüße, Σίσυφος\ndate: 2023-10-13\n---\n東京\n"
    (tmp_path / "Grüße.md").write_text(text, "utf-8")
    instance = str(tmp_path / "Über uns")
    variables = environment | {"LC_ALL": "C", "LANG": "C", "BLOG_INSTANCE": instance}
    flask = blog / ".venv/bin/flask"
    subprocess.run([flask, "demo"], cwd=blog, env=variables, check=True)
    words = [flask, "import", tmp_path / "Grüße.md", "--author", "alice"]
    subprocess.run(words, cwd=blog, env=variables, check=True)
    with made(blog, variables) as port:
        visitor = Person(Place(f"http://127.0.0.1:{port}"))
        assert "Grüße, Σίσυφος" in visitor.get(f"/search?q={quote('Σίσυφος')}").text


@contextmanager
def disk(folder, size):
    """A disk of that size at the folder."""
    os.geteuid() == 0 or missing("root", "run the tests as root, in a container that may mount")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        missing("mount", "run the tests in a container that may mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("room", ["1k"])
def test_a_set_up_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    tmp_path, environment, room
):
    with disk(tmp_path / "disk", "64m"):
        project = copy_project(tmp_path / "disk" / "blog", SMALL)
        used = sum(path.stat().st_blocks * 512 for path in project.rglob("*"))
        subprocess.run(["mount", "-o", f"remount,size={used}", tmp_path / "disk"], check=True)
        status, text = set_up(project, environment)
        assert status == 1
        assert "No space left on device" in text.splitlines()[-1]
        assert "Traceback" not in text
        subprocess.run(["mount", "-o", "remount,size=64m", tmp_path / "disk"], check=True)
        assert set_up(project, environment)[0] == 0
        assert is_set_up(project)


def test_a_blog_whose_disk_is_full_can_be_read_and_goes_on_when_there_is_room(make_app, tmp_path):
    with disk(tmp_path / "disk", "4m"):
        app = make_app(DATABASE_URL=f"sqlite:///{tmp_path}/disk/blog.db")
        owner = Person(app, "olga").sign_up()
        path = owner.write("Before", "Some words.")
        with (tmp_path / "disk/else").open("wb") as file, suppress(OSError):
            file.write(b"x" * 4_194_304)
        text = "Words that are not lost. " * 400
        answer = owner.send("/posts/new", title="Lost?", body=text, action="publish")
        assert answer.status_code == 503
        assert "Words that are not lost." in answer.text
        assert owner.get(path).status_code == 200
        (tmp_path / "disk/else").unlink()
        assert text.strip() in owner.get(owner.write("Kept", text)).text
        close(app)


def test_pip_of_debian_12_takes_the_tested_versions(wheels, environment, tmp_path):
    (pip,) = wheels.glob("pip-23*.whl")
    words = ["install", "--dry-run", "--ignore-installed", "--quiet"]
    words += ["-r", ROOT / "requirements.txt", "-c", ROOT / "constraints.txt"]
    subprocess.run([sys.executable, pip / "pip", *words], env=environment, check=True)


@pytest.mark.parametrize(
    "way",
    [
        {"PIP_INDEX_URL": "http://127.0.0.1:1/simple"},
        {"PIP_INDEX_URL": "http://nowhere.invalid/simple", "HTTP_PROXY": "http://127.0.0.1:1"},
    ],
)
def test_without_a_network_one_sentence_says_what_to_do(project, way):
    environment = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1"}
    status, text = set_up(project, environment | way)
    assert status == 1
    begins, sentence = text.splitlines()
    assert begins.startswith("Installing")
    assert re.fullmatch(r"The packages could not .* online\? .* HTTPS_PROXY=.*", sentence)
