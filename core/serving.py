"""`flask serve`, `flask reindex`, and /healthz for monitors."""

import os
import socket
import subprocess
import sys

import click
import sqlalchemy as sa
from flask import Blueprint, Response, current_app, request

from core.database import db
from core.plugins import Blog, current_blog
from core.security import skip_cache
from core.urls import HEALTH

BACKLOG = 8  # requests that wait, as a multiple of the threads; browsers open six connections
PREFIX = "X-Forwarded-Prefix"  # ignored; sent back, so that `flask doctor` sees what arrived
STOP_SECONDS_MAX = 3  # that requests in flight get when the server stops

pages = Blueprint("serving", __name__, cli_group=None)


def init_app(app: Blog) -> None:
    """Register the page and the command."""
    app.register_blueprint(pages)


@pages.get(HEALTH, endpoint="health")
def show_health() -> Response:
    """200 if the database answers, else 503."""
    db.session.execute(sa.select(1))
    skip_cache()
    answer = Response("ok\n", mimetype="text/plain", headers={"Cache-Control": "no-store"})
    if PREFIX in request.headers:
        answer.headers[PREFIX] = request.headers[PREFIX]
    return answer


@pages.cli.command("reindex")
def reindex() -> None:
    """Rebuild what extras make from posts, such as the search index."""
    for name, extra in current_blog().extras.items():
        if hasattr(extra, "rebuild"):
            extra.rebuild()
            click.echo(f"Rebuilt: {name}.")


@pages.cli.command("serve")
@click.option("--host", help="The address to listen at; BLOG_HOST, 127.0.0.1.")
@click.option("--port", type=click.IntRange(1, 65535), help="BLOG_PORT, PORT, 8000.")
def serve(host: str | None, port: int | None) -> None:
    """Serve the blog with Granian until Ctrl-C."""
    config = current_app.config
    host, port = host or config["HOST"], port or config["PORT"]
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = f"{place} is taken or not of this machine ({error.strerror})"
        raise click.ClickException(f"{reason}. Try another: flask serve --port 8080") from error
    click.echo(f"The blog is at http://{place}: Ctrl-C stops it.")
    threads = config["THREADS"]
    words = [sys.executable, "-m", "granian", "--interface", "wsgi", "--factory"]
    words += ["--blocking-threads", str(threads), "--backpressure", str(threads * BACKLOG)]
    words += ["--workers-kill-timeout", str(STOP_SECONDS_MAX)]
    words += ["--host", host, "--port", str(port), "app:create_app"]
    db.engine.dispose()
    if os.name == "posix":
        sys.stdout.flush()
        os.chdir(current_app.root_path)
        os.execv(sys.executable, words)
    click.get_current_context().exit(subprocess.call(words, cwd=current_app.root_path))
