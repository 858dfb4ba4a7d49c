"""Extras: the blog without any, without each of them, and what BLOG_EXTRAS refuses."""

import re
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import sqlalchemy as sa
from conftest import PASSWORD, Person, crawl, fill, on_both

from app import BUILT_IN_EXTRAS
from core.config import SettingError
from core.database import db
from core.pagination import NEVER
from extras import limits
from extras.pictures import Picture
from models import Post

NAMES = [path.rpartition(".")[2] for path in BUILT_IN_EXTRAS]


def words(page):
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", "", page.text.partition("<body>")[2]))


def forms_without_view(app, person, paths):
    """The actions of forms on these pages that no view takes."""
    adapter = app.url_map.bind("localhost")
    pages = [person.get(path).text for path in paths]
    actions = {action for page in pages for action in re.findall(r'action="(/[^"]*)"', page)}
    return {
        action
        for action in actions
        if not adapter.test(action, "POST") and not adapter.test(action, "GET")
    }


def fill_blog(app):
    """An owner, and an author with posts of each kind and comments."""
    owner, ann = Person(app, "olga").sign_up(), Person(app, "ann").sign_up()
    fill(owner, ann)
    return owner, ann


def test_the_blog_without_extras_is_the_page_of_the_client(make_app):
    app = make_app(EXTRAS="")
    people = [Person(app, name).sign_up() for name in ("abcxyz", "myname", "someone")]
    path = people[0].write("Test blog", "This is a test blog.")
    [person.comment(path, f"Comment of {person.name}") for person in people]
    page = words(Person(app).get(path))
    parts = [
        *("Home", "Log In", "Sign Up", "Cool Blog Name", "Test blog", "Published on "),
        *("by abcxyz", "This is a test blog.", "3 comments"),
        *("by abcxyz", "Comment of abcxyz", "by myname", "by someone"),
    ]
    assert re.search(".*".join(map(re.escape, parts)), page)
    assert not re.search("Search|Tags|Archive|Feed|Privacy|Account", page)


def test_without_extras_one_can_do_everything_that_the_three_files_hold(make_app):
    app = make_app(EXTRAS="")
    owner, ann = fill_blog(app)
    assert owner.send("/posts/2/edit", title="Changed", body="x").status_code == 303
    assert ann.send("/comments/1/edit", body="Better").status_code == 303
    assert "Better" in Person(app).get("/posts/1/first").text
    assert ann.get("/drafts").status_code == 200
    assert owner.send("/comments/1/delete").status_code == 303
    assert owner.send("/posts/2/delete").status_code == 303
    ann.send("/logout")
    assert ann.log_in(password="wrong").status_code == 422
    assert ann.log_in(password=PASSWORD).status_code == 303
    assert Person(app).get("/posts/2/changed").status_code == 404


@on_both
def test_the_tables_are_the_same_without_extras(make_app, database_url):
    make_app(EXTRAS="")
    url = database_url.replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(url)
    names = set(sa.inspect(engine).get_table_names())
    engine.dispose()
    assert {"users", "posts", "comments", "tags", "pictures"} <= names


@pytest.mark.parametrize("extras", ["", *[f"all,-{name}" for name in NAMES]])
def test_no_link_is_dead_and_no_form_without_a_view(make_app, extras):
    app = make_app(EXTRAS=extras, RATE_LIMITS="off")
    owner, ann = fill_blog(app)
    people = [Person(app), ann, owner]
    assert [crawl(person)[1] for person in people] == [[], [], []]
    paths = ["/", "/posts/1/first", "/posts/2/second", "/account", "/posts/new", "/login"]
    assert [forms_without_view(app, person, paths) for person in people] == [set()] * 3


@pytest.mark.parametrize(
    ("extras", "names"),
    [
        ("", []),
        ("all", NAMES),
        ("all,-tags", [name for name in NAMES if name != "tags"]),
        ("search, tags", ["tags", "search"]),
        ("tags,tags", ["tags"]),
    ],
)
def test_the_setting_chooses_extras(make_app, extras, names):
    assert list(make_app(EXTRAS=extras).extras) == names


def test_an_extra_of_ones_own_plugs_in_before_what_wraps_all(make_app, monkeypatch):
    own = ModuleType("extras.own")
    own.__spec__ = ModuleSpec("extras.own", None)
    own.init_app = lambda app: app.add_url_rule("/own", "own", lambda: "Mine")
    monkeypatch.setitem(sys.modules, "extras.own", own)
    monkeypatch.setitem(limits.POLICIES, "own", limits.Policy("sign-up", {"GET"}))
    client = make_app(EXTRAS="all,own", PROXIES=1, CACHE_MAX=0).test_client()
    answers = [client.get("/own", headers={"X-Forwarded-For": "192.0.2.1"}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"EXTRAS": "all,lieks"}, "BLOG_EXTRAS names 'lieks', and there is no such extra."),
        ({"EXTRAS": "all,-lieks"}, "BLOG_EXTRAS names 'lieks', and there is no such extra."),
        ({"EXTRAS": "../app"}, "BLOG_EXTRAS names '../app', and there is no such extra."),
        ({"EXTRAS": "os.path"}, "BLOG_EXTRAS names 'os.path', and there is no such extra."),
        (
            {"EXTRAS": "all,-moderation", "MODERATION": "first"},
            "BLOG_MODERATION=first needs the extra 'moderation'.",
        ),
        ({"EXTRAS": "", "MODERATION": "all"}, "BLOG_MODERATION=all needs the extra 'moderation'."),
        ({"EXTRAS": "tags", "SIGNUP": "invite"}, "BLOG_SIGNUP=invite needs the extra 'people'."),
    ],
)
def test_a_choice_that_cannot_work_is_refused_at_start(make_app, settings, sentence):
    with pytest.raises(SettingError, match=re.escape(sentence)):
        make_app(**settings)


def test_an_extra_that_needs_one_that_is_off_is_refused(make_app, monkeypatch):
    monkeypatch.setattr("extras.feeds.NEEDS", ("tags",), raising=False)
    with pytest.raises(SettingError, match="The extra 'feeds' needs 'tags'"):
        make_app(EXTRAS="feeds")


def test_pending_comments_stay_hidden_without_moderation(make_app):
    app = make_app(MODERATION="all")
    owner, ann = Person(app, "olga").sign_up(), Person(app, "ann").sign_up()
    path = owner.write()
    ann.comment(path, "Unread words")
    bare = make_app(EXTRAS="all,-moderation")
    assert "Unread words" not in Person(bare).get(path).text
    assert "Approve" not in Person(bare).get(path).text


@on_both
def test_an_extra_that_was_off_catches_up(make_app):
    ann = Person(make_app(EXTRAS="all,-tags,-search"), "ann").sign_up()
    ann.write("Found", "A zebra.")
    with ann.app.app_context():
        db.session.scalar(sa.select(Post)).tags = ["stripes"]
        db.session.commit()
    nobody = Person(make_app())
    assert "Found" in nobody.get("/search?q=zebra").text
    assert "Found" in nobody.get("/tags/stripes").text


def test_a_command_with_other_extras_hides_no_gap(make_app):
    ann = Person(make_app(EXTRAS="all,-search"), "ann").sign_up()
    make_app()  # as by `flask doctor` in a shell without the setting
    ann.write("Late", "A wombat.")
    assert "Late" in Person(make_app()).get("/search?q=wombat").text


@pytest.mark.parametrize("action", ["/account/delete", "/owner/people/ann/remove"])
def test_pictures_go_with_their_user_also_where_pictures_are_off(make_app, action):
    app = make_app(EXTRAS="all,-pictures")
    owner, ann = Person(app, "olga").sign_up(), Person(app, "ann").sign_up()
    name = f"{'a' * 32}-20x10.webp"
    with app.app_context():
        db.session.add(Picture(name=name, author_id=2, webp=b"RIFF"))
        db.session.commit()
    assert Person(make_app()).get(f"/pictures/{name}").status_code == 200
    who = {"/account/delete": ann}.get(action, owner)
    assert who.send(action, current=PASSWORD).status_code == 303
    assert Person(make_app()).get(f"/pictures/{name}").status_code == 404


def test_a_draft_keeps_its_tags_where_tags_are_off(make_app):
    app = make_app()
    ann = Person(app, "ann").sign_up()
    ann.send("/posts/new", title="T", body="x", tags="garden", action="draft")
    bare = Person(make_app(EXTRAS=""), "ann")
    bare.log_in()
    assert bare.send("/posts/1/edit", title="T", body="y", action="draft").status_code == 303
    with app.app_context():
        post = db.session.scalar(sa.select(Post))
        assert (post.tags, post.body, post.published_at) == (["garden"], "y", NEVER)
