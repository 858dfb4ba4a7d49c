"""What the core offers to extras: slots, form parts, signals, and the choice of BLOG_EXTRAS."""

import re
import sys
from collections import defaultdict
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, TextIO, cast

from blinker import Signal
from flask import Flask, current_app, request
from flask.logging import default_handler
from flask_login import current_user
from flask_wtf.csrf import generate_csrf
from markupsafe import Markup
from werkzeug.local import LocalProxy

from core import rendering
from core.config import SettingError
from core.database import Metadata, atomic, db
from core.pagination import IdConverter, current_path
from core.rendering import date, excerpt, pluralize

if TYPE_CHECKING:
    from forms import PostFormPart

MISSED = "extras that missed posts"  # the name of their names in Metadata
# The sender is the application. All but `post_form_sent` are sent inside of the transaction, by
# what saves or deletes the rows.
posts_saved = Signal("`posts` were added or changed; their ids are known")
posts_deleted = Signal("posts will be deleted; `ids` is a Select of their ids")
post_form_sent = Signal("the `form` of a post was sent; it is not validated yet")
post_published = Signal("a form publishes or schedules a `post`")
comment_saved = Signal("a form has added a `comment` (`is_new`), or changed its text")
user_texts_deleted = Signal("all that a `user` wrote will be deleted")


@LocalProxy
def log_stream() -> TextIO:
    """Where the log goes: during a request as the server says, else to stdout, as the server's."""
    return cast(TextIO, request.environ["wsgi.errors"]) if request else sys.stdout


class Blog(Flask):
    """The application, with what extras can add to."""

    def __init__(self, name: str, instance_path: str | None) -> None:
        super().__init__(name, instance_path=instance_path, instance_relative_config=True)
        default_handler.setStream(log_stream)
        # The extras that are switched on, by name, in the order in which they plug in.
        self.extras: dict[str, ModuleType] = {}
        # Templates that the core's templates include, by the name of the slot.
        self.slots: defaultdict[str, list[str]] = defaultdict(list)
        # Forms that are a part of the form of a post, by name.
        self.post_form_parts: dict[str, type[PostFormPart]] = {}
        # Bytes of a multipart form, by the endpoint of its view, where they may be more than
        # MAX_CONTENT_LENGTH.
        self.multipart_max: dict[str, int] = {}
        # Endpoints of views that show their form again, with what was typed and status 400, when
        # the CSRF token is missing or wrong.
        self.csrf_form_endpoints: set[str] = set()
        self.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
        self.url_map.converters["id"] = IdConverter
        for template_filter in (markdown, excerpt, date, pluralize):
            self.add_template_filter(template_filter)
        self.add_template_global(generate_csrf, "csrf_token")
        self.add_template_global(current_path)
        self.jinja_env.globals |= {"current_user": current_user, "slots": self.slots}


def markdown(text: str, small: bool = False, base: str = "") -> Markup:
    """The filter of templates: `rendering.markdown`, with links for where the blog lives."""
    return rendering.markdown(text, small, base, request.root_path)


def current_blog() -> Blog:
    """The application itself, not Flask's proxy of it: the sender of the blog's signals."""
    return cast(Blog, current_app._get_current_object())  # type: ignore[attr-defined]  # a proxy


def load_extras(chosen: str, known: list[str]) -> dict[str, ModuleType]:
    """The modules of the extras that BLOG_EXTRAS names, by name, in the order to plug in.

    `known` are the names of modules, which come in this order, then others; at the end those with
    PLUGS_IN_LAST. SettingError for a name that is unknown, or an extra that needs one that is off.
    """
    extras = {name: import_module(path) for name, path in _chosen_paths(chosen, known).items()}
    for name, extra in extras.items():
        for needed in getattr(extra, "NEEDS", ()):
            if needed not in extras:
                raise SettingError(f"The extra {name!r} needs {needed!r}: add it to BLOG_EXTRAS.")
    last = {name: extra for name, extra in extras.items() if hasattr(extra, "PLUGS_IN_LAST")}
    return {name: extra for name, extra in extras.items() if name not in last} | last


def _chosen_paths(chosen: str, known: list[str]) -> dict[str, str]:
    """The names of the modules, by the names of the extras."""
    paths = {path.rpartition(".")[2]: path for path in known}
    names = ", ".join(paths)
    words = [word.strip() for word in chosen.split(",") if word.strip()]
    on = set(paths) if "all" in words else set()
    for word in words:
        name = word.removeprefix("-")
        if name == "all":
            continue
        path = paths.setdefault(name, f"extras.{name}")
        if not re.fullmatch("[a-z_]+", name) or not find_spec(path):
            sentence = (
                f"BLOG_EXTRAS names {name!r}, and there is no such extra. There are: {names}."
            )
            raise SettingError(sentence)
        if word.startswith("-"):
            on.discard(name)
        else:
            on.add(name)
    return {name: path for name, path in paths.items() if name in on}


def rebuild_rows(app: Blog, known: list[str]) -> None:
    """Let extras that were off when posts were saved `rebuild()` the rows they make from posts.

    And note those that are off now, when posts are saved: a command with another BLOG_EXTRAS than
    the server's changes nothing in that.
    """
    off = {path.rpartition(".")[2] for path in known} - set(app.extras)
    with app.app_context():
        missed = _missed()
        for name in missed & set(app.extras):
            if hasattr(app.extras[name], "rebuild"):
                app.extras[name].rebuild()
        if missed & set(app.extras):
            with atomic():
                db.session.merge(Metadata(name=MISSED, value=" ".join(missed - set(app.extras))))

    def note(_sender: object, **_: object) -> None:
        if not off <= _missed():
            db.session.merge(Metadata(name=MISSED, value=" ".join(_missed() | off)))

    if off:
        posts_saved.connect(note, app, weak=False)
        posts_deleted.connect(note, app, weak=False)


def _missed() -> set[str]:
    """The names of the extras that were off when posts were saved."""
    noted = db.session.get(Metadata, MISSED)
    return set(noted.value.split()) if noted else set()
