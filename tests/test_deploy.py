"""The files in deploy/: compose files and the service, which no test here starts."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from conftest import missing

from core import config

DEPLOY = Path(__file__).parent.parent / "deploy"
COMPOSE_FILES = sorted(DEPLOY.glob("compose*.yaml"))
EXPOSURE_MAX = 2.0  # of 10, as systemd-analyze counts
CONNECTIONS_MAX = 97  # that PostgreSQL takes as it comes
compose_files = pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)


def services(path):
    return yaml.safe_load(path.read_text())["services"]


@compose_files
def test_a_compose_file_is_one_by_its_schema(path):
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    result = subprocess.run([*words, path], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
def test_each_variable_is_a_setting(path):
    names = set(re.findall(r"\bBLOG_(\w+)", path.read_text()))
    assert [name for name in names if not hasattr(config, name)] == []


@compose_files
def test_no_secret_is_in_a_compose_file(path):
    """Whoever starts it says what is secret, or it does not start."""
    lines = re.findall(r"^ *\w*(?:PASSWORD|SECRET|KEY)\w*:.*", path.read_text(), re.MULTILINE)
    assert [line for line in lines if not re.search(r": \$\{\w+:\?[A-Z].*\.\}$", line)] == []
    assert re.findall(r"://[^/\s]*:[^/\s]*@", path.read_text()) == []


@compose_files
def test_every_service_is_started_again_and_has_few_rights(path):
    names = ["restart", "read_only", "cap_drop", "security_opt"]
    rights = [[service[name] for name in names] for service in services(path).values()]
    expected = ["unless-stopped", True, ["ALL"], ["no-new-privileges:true"]]
    assert rights == [expected] * len(rights)


@compose_files
def test_a_volume_is_where_the_image_has_it(path):
    blogs = [service for service in services(path).values() if service["image"] == "blog"]
    assert [blog["volumes"] for blog in blogs] == [["data:/data"]] * len(blogs)
    assert "VOLUME /data" in (DEPLOY / "Containerfile").read_text()


def test_the_large_file_fits_its_parts_together():
    """Caddy asks the blogs that are there, and they leave PostgreSQL connections."""
    parts = services(DEPLOY / "compose.large.yaml")
    blogs = [name for name, service in parts.items() if service["image"] == "blog"]
    assert parts["caddy"]["environment"]["UPSTREAMS"].split() == [f"{name}:8000" for name in blogs]
    assert set(parts["caddy"]["depends_on"]) == set(blogs)
    settings = parts["blog-1"]["environment"]
    assert len(blogs) * (settings["BLOG_THREADS"] + 1) <= CONNECTIONS_MAX
    urls = settings["BLOG_DATABASE_URL"], settings["BLOG_LIMITS_STORAGE"]
    assert {urlsplit(url).hostname for url in urls} == {"database", "redis"} <= parts.keys()
    placeholders = set(re.findall(r"\{\$(\w+)", (DEPLOY / "Caddyfile").read_text()))
    assert placeholders == {"SITE", "UPSTREAMS"} <= parts["caddy"]["environment"].keys()


@pytest.fixture
def service(tmp_path):
    """The unit, but that the command is a program that is there."""
    shutil.which("systemd-analyze") or missing("systemd-analyze", "apt-get install systemd")
    text = (DEPLOY / "blog.service").read_text()
    assert text.count("ExecStart=/opt/blog/.venv/bin/python -m flask serve\n") == 1
    path = tmp_path / "blog.service"
    path.write_text(text.replace("/opt/blog/.venv/bin/python", sys.executable))
    return path


def test_systemd_takes_the_service_without_a_warning(service):
    result = subprocess.run(["systemd-analyze", "verify", service], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_service_has_few_rights(service):
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", service]
    result = subprocess.run(words, capture_output=True, text=True)
    assert float(re.search(r"exposure level.*: ([\d.]+)", result.stdout)[1]) <= EXPOSURE_MAX


def test_the_service_keeps_its_data_where_it_may_write(service):
    lines = service.read_text().splitlines()
    assert "StateDirectory=blog" in lines
    assert "Environment=BLOG_INSTANCE=%S/blog TMPDIR=%T" in lines
