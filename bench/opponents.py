"""What the blog is measured beside: the least that the server, and Flask on it, can do."""

import os
from pathlib import Path

from flask import Flask


def bare():
    """A WSGI function that answers with the pages as they lie in memory."""
    kept = pages()

    def application(environ, start_response):
        """Answer with the page of that path."""
        body = kept[environ["PATH_INFO"]]
        headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response("200 OK", headers)
        return [body]

    return application


def flask():
    """Flask with nothing but the pages, and a short greeting at the root."""
    app = Flask("hello", static_folder=None)
    app.add_url_rule("/", "hello", lambda: "Hello, World!")
    for path, body in pages().items():
        app.add_url_rule(path, path, lambda body=body: body)
    return app


def pages():
    """The bytes of the blog's pages by their paths here: /home and /post."""
    folder = Path(os.environ["BENCH_FOLDER"], "pages")
    return {f"/{file.name}": file.read_bytes() for file in folder.iterdir()}


def blog():
    """The blog, without the settings and the data of `instance/`."""
    from app import create_app  # only here: the others carry nothing of ours

    return create_app(os.environ["BENCH_FOLDER"])
