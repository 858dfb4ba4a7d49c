"""Pages from memory: they are never stale, and hold nothing of anybody's own."""

import gzip
import multiprocessing
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta

import hypothesis.strategies as st
import psycopg
import pytest
import sqlalchemy as sa
from conftest import COOKIE, PASSWORD, Person, close, execute, on_both, on_postgresql
from flask import before_render_template, request, request_started, template_rendered
from flask_login import current_user
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import models
from core import security
from core.database import db, now
from extras import cache
from models import Post

MANY = 8  # who ask at once
GZIP = {"Accept-Encoding": "gzip"}
PATHS = (
    "/ /posts/1/a-title /posts/1/a-title.md /posts/1/feed.xml /users/ann /users/ann/feed.xml "
    "/tags /tags/x /tags/x/feed.xml /archive /search?q=some /feed.xml /feed.json /sitemap.xml "
    "/robots.txt /privacy"
).split()


@pytest.fixture
def asked(app):
    """The paths of the requests that the cache passed on to the app."""
    paths = []

    def note(_app):
        paths.append(request.path)

    with request_started.connected_to(note, app):
        yield paths


@pytest.fixture
def sql(database_url):
    """A function that commits a statement past the app."""
    engine = sa.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))

    def execute(statement, **values):
        with engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    yield execute
    engine.dispose()


def at_once(ask, number=MANY):
    """The answers to so many who ask at once."""
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask())) for _ in range(number)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return answers


def all_in_one_place(monkeypatch):
    """A function that returns only when MANY have called it; no other wait ends earlier."""
    monkeypatch.setattr(cache, "WAIT_MAX", 60)
    barrier = threading.Barrier(MANY, timeout=20)
    return lambda *_, **__: barrier.wait()


# What is kept -------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_is_made_once_for_all_visitors(app, ann, asked, method):
    ann.write(tags="x")
    asked.clear()
    first, second = (
        [Person(app).client.open(path, method=method, buffered=True) for path in PATHS]
        for _ in range(2)
    )
    assert asked == [path.partition("?")[0] for path in PATHS]
    assert {answer.status_code for answer in first + second} == {200}
    assert [answer.data for answer in first] == [answer.data for answer in second]
    assert [answer.headers for answer in first] == [answer.headers for answer in second]


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Basic eDp5"}, {"Range": "bytes=0-1"}],
    ids=lambda headers: next(iter(headers)),
)
def test_what_may_be_personal_or_partial_is_not_from_memory(app, asked, headers):
    client = app.test_client(use_cookies=False)
    client.get("/static/style.css", buffered=True)
    [client.get("/static/style.css", headers=headers, buffered=True) for _ in range(2)]
    assert len(asked) == 3


def test_a_page_is_made_for_each_session_cookie(app, asked):
    client, cookies = app.test_client(use_cookies=False), [f"{COOKIE}=x", f"{COOKIE}=y"]
    for cookie in cookies * 2:
        client.get("/static/style.css", headers={"Cookie": cookie}, buffered=True)
    assert len(asked) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"base_url": "https://localhost"},
        {"base_url": "http://localhost:8000"},
        {"base_url": "http://blog.example"},
        {"base_url": "http://localhost/below"},
        {"path": "/robots.txt/"},
        {"path": "/ROBOTS.TXT"},
        {"query_string": ""},
        {"query_string": "a=B"},
        {"query_string": "a=%62"},
        {"method": "POST"},
    ],
    ids=str,
)
def test_another_address_is_another_page(nobody, asked, other):
    page = {"path": "/robots.txt", "query_string": "a=b"}
    nobody.client.open(**page)
    nobody.client.open(**page | other)
    assert len(asked) == 2


@pytest.mark.parametrize("path", ["/login", "/nothing", "/healthz", "/account", "/posts/1/x"])
def test_only_pages_that_are_for_all_are_kept(app, ann, asked, path):
    ann.write()
    asked.clear()
    answers = [Person(app).get(path) for _ in range(3)]
    assert len(asked) == 3
    assert {"ETag" in answer.headers for answer in answers} == {False}


def skipped():
    security.skip_cache()
    return "text"


@pytest.mark.parametrize(
    "view", [skipped, lambda: ("text", {"Set-Cookie": "a=b"})], ids=["flag", "cookie"]
)
def test_a_page_can_say_that_it_is_not_to_be_kept(app, nobody, asked, view):
    app.view_functions["privacy.show"] = view
    assert [nobody.get("/privacy").text for _ in range(2)] == ["text"] * 2
    assert len(asked) == 2


def test_a_pages_own_headers_are_there_from_memory_too(app, nobody, asked):
    own = {"Cache-Control": "public, max-age=60", "X-Own": "x"}
    app.view_functions["privacy.show"] = lambda: ("text", own)
    answers = [nobody.get("/privacy") for _ in range(2)]
    assert [answer.headers.get("X-Own") for answer in answers] == ["x", "x"]
    assert [answer.headers["Cache-Control"] for answer in answers] == [own["Cache-Control"]] * 2
    assert len(asked) == 1


@pytest.mark.parametrize("setting", [{"DEBUG": True}, {"CACHE_MAX": 0}], ids=str)
def test_there_may_be_no_cache(make_app, setting):
    app = make_app(**setting)
    assert "page_cache" not in app.extensions
    assert "ETag" not in Person(app).get("/").headers


def test_a_failure_is_not_kept(app, nobody, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(app.view_functions, "privacy.show", lambda: 1 / 0)
        assert [nobody.get("/privacy").status_code for _ in range(2)] == [500, 500]
    assert nobody.get("/privacy").status_code == 200
    assert "ETag" in nobody.get("/privacy").headers


@pytest.mark.parametrize(("length", "times"), [(1_000_000, 1), (1_060_000, 2)])
def test_a_page_of_up_to_one_mebibyte_is_kept(ann, sql, nobody, asked, length, times):
    path = ann.write() + ".md"
    sql("UPDATE posts SET body = :body", body="x" * length)
    asked.clear()
    answers = [nobody.get(path) for _ in range(2)]
    assert [len(answer.data) for answer in answers] == [length] * 2
    assert len(asked) == times


@pytest.fixture
def small_app(make_app):
    return make_app(CACHE_MAX=30_000)


def test_what_was_not_used_for_longest_goes_first(small_app):
    client, paths = small_app.test_client(), []
    with request_started.connected_to(lambda app: paths.append("asked"), small_app):
        [client.get(f"/robots.txt?{part}") for n in range(30) for part in ("used", n)]
        assert len(paths) == 31
        client.get("/robots.txt?29")
        assert len(paths) == 31
        client.get("/robots.txt?0")
        assert len(paths) == 32


@pytest.mark.parametrize("length", [1, 3_000, 50_000])
def test_memory_is_bounded_whatever_the_addresses_are(small_app, length):
    client, entries = small_app.test_client(), small_app.extensions["page_cache"].entries
    for number in range(20):
        assert client.get(f"/robots.txt?{number:0{length}}").status_code == 200
        assert entries.currsize <= 30_000
    keys = sum(len(str(key)) for key in entries)
    assert keys <= 30_000


# Never stale --------------------------------------------------------------------------------------


@on_both
def test_what_is_written_shows_at_once(make_app, app, nobody, ann):
    assert "News" not in nobody.get("/").text
    ann.write("News")
    assert "News" in nobody.get("/").text
    other = make_app(CACHE_MAX=0)
    eve = Person(other, "eve").sign_up()
    eve.write("Other news")
    assert "Other news" in nobody.get("/").text


@on_both
def test_a_write_while_a_page_is_made_shows_on_the_next(app, ann, sql, nobody):
    ann.write("Before")

    def write(*_, **__):
        sql("UPDATE posts SET title = 'After'")

    with template_rendered.connected_to(write, app):
        assert "Before" in nobody.get("/").text
    assert "After" in nobody.get("/").text


@on_both
def test_a_scheduled_post_appears_at_its_moment(app, ann, nobody):
    path = ann.write("Soon")
    with app.app_context():
        at = now() + timedelta(seconds=1)
        db.session.execute(sa.update(Post).values(published_at=at))
        db.session.commit()
    assert "Soon" not in nobody.get("/").text
    assert nobody.get(path).status_code == 404
    time.sleep(max(0, (at - now()).total_seconds()))
    assert "Soon" in nobody.get("/").text
    assert nobody.get(path).status_code == 200


# For a reader who is logged in --------------------------------------------------------------------

MESSAGE = 'role="status"'


@pytest.fixture
def rendered(app):
    """The names of the templates that were rendered."""
    names = []

    def note(_app, template, **_context):
        names.append(template.name)

    with template_rendered.connected_to(note, app):
        yield names


@pytest.mark.parametrize("path", ["/", "/posts/1/a-title", "/account", "/drafts", "/search?q=some"])
def test_a_reader_is_shown_the_same_page_again(ann, rendered, path):
    ann.write()
    ann.get("/")
    rendered.clear()
    first, second = ann.get(path), ann.get(path)
    assert len(rendered) == 1
    assert (first.status_code, first.data, first.headers) == (200, second.data, second.headers)
    assert first.headers["Cache-Control"] in ("private, no-cache", "private, no-store")
    assert ann.client.head(path).headers["Content-Length"] == first.headers["Content-Length"]


def test_a_visitor_who_has_seen_a_form_is_shown_the_same_page_again(ann, nobody, rendered):
    path = ann.write()
    nobody.get("/login")
    rendered.clear()
    first, second = nobody.get(path), nobody.get(path)
    assert rendered == ["posts/show.html"]
    assert first.data == second.data
    assert "csrf_token" not in first.text


@on_both
def test_what_is_written_shows_at_once_to_readers_too(app, ann, sql):
    path = ann.write("Before")
    bob = Person(app, "bob").sign_up()
    [person.get(path) for person in (ann, bob) for _ in range(2)]
    bob.comment(path, "Said by bob")
    assert "Said by bob" in ann.get(path).text
    sql("UPDATE posts SET title = 'After', body = 'Changed'")
    assert [person.get("/").text.count("Changed") for person in (ann, bob)] == [1, 1]


@on_both
def test_a_page_of_what_was_read_before_a_write_is_not_kept_for_after_it(app, ann, sql):
    ann.write("Before")
    writes = iter(["UPDATE posts SET title = 'After'"])

    def view():
        post = db.session.scalar(sa.select(Post))
        [sql(statement) for statement in writes]
        return post.title

    app.view_functions["privacy.show"] = view
    ann.get("/")
    assert ann.get("/privacy").text == "Before"
    assert ann.get("/privacy").text == "After"


def test_two_browsers_of_one_person_have_pages_of_their_own(app, ann):
    other = Person(app, "ann")
    other.log_in()
    pages = [person.get("/").text for person in (ann, other) for _ in range(3)]
    tokens = [re.search('name="csrf_token" value="([^"]+)"', page)[1] for page in pages]
    assert not set(tokens[:3]) & set(tokens[3:])


def test_the_token_of_a_page_that_was_shown_before_is_good(ann):
    path = ann.write()
    [ann.get(path) for _ in range(2)]
    token = re.search('name="csrf_token" value="([^"]+)"', ann.get(path).text)[1]
    assert ann.send(f"/posts/{path.split('/')[2]}/comments", body="Hi", csrf_token=token).location


def test_a_message_is_shown_once(ann):
    path = ann.write()
    ann.get(path)
    ann.send("/account", display_name="Ann", about="")
    assert [ann.get(path).text.count(MESSAGE) for _ in range(3)] == [1, 0, 0]
    ann.send("/account", display_name="Ann", about="")  # which changes nothing in the database
    assert [ann.get(path).text.count(MESSAGE) for _ in range(3)] == [1, 0, 0]


@on_both
def test_who_has_logged_out_sees_none_of_the_pages_shown_before(app, ann):
    path = ann.write()
    [ann.get(path) for _ in range(2)]
    client, cookie = app.test_client(), ann.client.get_cookie(COOKIE).value
    client.set_cookie(COOKIE, cookie)
    assert "Log Out" in client.get(path).text
    ann.send("/logout")
    assert not re.search(PERSONAL, ann.get(path).text)
    assert "Log Out" not in client.get(path).text


def test_a_session_that_is_over_shows_nothing_more(app, ann, monkeypatch):
    path = ann.write()
    [ann.get(path) for _ in range(2)]
    later = now() + timedelta(days=2)
    monkeypatch.setattr("app.now", lambda: later)
    monkeypatch.setattr("extras.cache.time", later.timestamp)
    assert "Log Out" not in ann.get(path).text


def test_a_page_ends_with_its_session(app, ann, monkeypatch):
    path, at = ann.write(), now() + timedelta(seconds=1)
    ann.get("/")  # with the message
    with app.app_context():
        db.session.execute(sa.update(models.Session).values(ends_at=at))
        db.session.commit()
    assert "Log Out" in ann.get(path).text
    time.sleep(max(0, (at - now()).total_seconds()))
    assert "Log Out" not in ann.get(path).text


@pytest.mark.parametrize(("seconds", "status"), [(-1, 200), (0, 403)])
def test_the_link_to_edit_a_comment_is_there_for_its_time(app, ann, monkeypatch, seconds, status):
    path = ann.write()
    ann.comment(path, "Hi")
    written = now().replace(second=0, microsecond=0)
    with app.app_context():
        db.session.execute(sa.update(models.Comment).values(created_at=written))
        db.session.commit()
    assert "Edit comment" in ann.get(path).text
    later = written + timedelta(minutes=models.COMMENT_EDIT_MINUTES, seconds=seconds)
    monkeypatch.setattr("models.now", lambda: later)
    monkeypatch.setattr("extras.cache.time", later.timestamp)
    assert ("Edit comment" in ann.get(path).text) == (status == 200)
    assert ann.get("/comments/1/edit").status_code == status


def test_the_form_to_edit_a_comment_ends_with_its_time(app, ann, monkeypatch):
    ann.comment(ann.write(), "Hi")
    assert [ann.get("/comments/1/edit").status_code for _ in range(3)] == [200] * 3
    later = now() + timedelta(minutes=models.COMMENT_EDIT_MINUTES)
    monkeypatch.setattr("models.now", lambda: later)
    monkeypatch.setattr("extras.cache.time", later.timestamp)
    assert ann.get("/comments/1/edit").status_code == 403


def test_the_page_of_a_link_ends_with_it(app, owner, ann, nobody, monkeypatch):
    page = owner.send("/owner/people/ann/reset").text
    path = re.search("/password/[^<]+", page)[0].strip()
    assert [nobody.get(path).status_code for _ in range(3)] == [200] * 3
    later = now() + timedelta(minutes=61)
    monkeypatch.setattr("core.security.now", lambda: later)
    monkeypatch.setattr("extras.cache.time", later.timestamp)
    assert nobody.get(path).status_code == 404


def test_a_page_for_once_is_not_kept_for_its_reader_either(ann, rendered):
    ann.write()
    path = "/search?q=some&before=9999999999999999-1"
    ann.get("/")
    rendered.clear()
    assert [ann.get(path).status_code for _ in range(2)] == [200, 200]
    assert len(rendered) == 2


# Conditional and compressed -----------------------------------------------------------------------


@pytest.fixture
def page(ann, nobody):
    """A page's path, and the ETags of it as it is and compressed."""
    path = ann.write(body="word " * 500)
    answers = [nobody.get(path), *(nobody.get(path, headers=GZIP) for _ in range(2))]
    etags = [answer.headers["ETag"] for answer in answers]
    assert etags[0] != etags[2]
    return path, etags[0], etags[2]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "known", ["{0}", "{1}", "W/{0}", "W/{1}", '"x", {0}', '"x",{1} , "y"', "*"], ids=str
)
def test_a_page_that_the_client_has_is_not_sent_again(nobody, page, known, method):
    path, *etags = page
    headers = GZIP | {"If-None-Match": known.format(*etags)}
    full = nobody.get(path, headers=GZIP).headers
    answer = nobody.client.open(path, method=method, headers=headers)
    assert (answer.status_code, answer.data) == (304, b"")
    of_body = {"Content-Type", "Content-Length", "Content-Encoding"}
    assert set(answer.headers.keys()) == set(full.keys()) - of_body
    assert {"ETag", "Vary", "Cache-Control", "Content-Security-Policy"} <= set(full.keys())
    assert answer.headers["ETag"] in etags


@pytest.mark.parametrize("known", ['"x"', "x", "", "W/", '"*"', '"-gzip"'])
def test_another_page_than_the_client_has_is_sent(nobody, page, known):
    answer = nobody.get(page[0], headers={"If-None-Match": known})
    assert answer.status_code == 200
    assert "word word" in answer.text


def test_a_client_that_cannot_unzip_gets_what_it_can_read(nobody, page):
    path, etag, zipped = page
    answer = nobody.get(path, headers={"If-None-Match": zipped})
    assert (answer.status_code, answer.headers["ETag"]) == (200, etag)


def test_a_compressed_page_is_known_again_though_another_one_has_changed(nobody, page, sql):
    sql("UPDATE users SET about = 'x' WHERE username = 'olga'")
    headers = GZIP | {"If-None-Match": page[2]}
    assert nobody.get(page[0], headers=headers).status_code == 304


def test_the_conditions_of_the_first_visitor_are_no_others(nobody, asked):
    tomorrow = "Fri, 01 Jan 2100 00:00:00 GMT"
    first = nobody.get("/static/style.css", headers={"If-Modified-Since": tomorrow})
    second = nobody.get("/static/style.css")
    assert (first.status_code, second.status_code, len(asked)) == (200, 200, 1)
    assert len(second.data) > 1000
    assert not {"Date", "Last-Modified"} & set(second.headers.keys())


def test_a_page_is_compressed_once_from_its_second_use_on(ann, app, monkeypatch):
    path, compress, times = ann.write(body="word " * 500), gzip.compress, []
    monkeypatch.setattr(gzip, "compress", lambda *_, **__: times.append(1) or compress(*_, **__))
    answers = [Person(app).get(path, headers=GZIP) for _ in range(4)]
    encodings = [answer.headers.get("Content-Encoding") for answer in answers]
    assert (encodings, len(times)) == ([None, "gzip", "gzip", "gzip"], 1)
    assert {gzip.decompress(answer.data) for answer in answers[1:]} == {answers[0].data}
    assert {answer.headers["Vary"] for answer in answers} == {"Cookie, Accept-Encoding"}
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-cache"}
    assert [int(answer.headers["Content-Length"]) for answer in answers] == [
        len(answer.data) for answer in answers
    ]


@pytest.mark.parametrize(
    "accepted",
    [
        "",
        "identity",
        "br",
        "gzip;q=0",
        "br, gzip ; q=0.00, x",
        "gzip;q=0,deflate",
        "GZIP;Q=0",
        "gzip;Q=0",
    ],
)
def test_a_client_that_takes_no_gzip_gets_none(nobody, page, accepted):
    answer = nobody.get(page[0], headers={"Accept-Encoding": accepted})
    assert "Content-Encoding" not in answer.headers
    assert "word word" in answer.text


@pytest.mark.parametrize("accepted", ["gzip", "br, gzip", "gzip;q=0.5", "gzip; q=1.0, *;q=0"])
def test_a_client_that_takes_gzip_gets_it(nobody, page, accepted):
    answer = nobody.get(page[0], headers={"Accept-Encoding": accepted})
    assert answer.headers["Content-Encoding"] == "gzip"


def test_a_picture_or_a_tiny_page_is_not_compressed(app, nobody):
    [nobody.get("/robots.txt", headers=GZIP) for _ in range(2)]
    answer = nobody.get("/robots.txt", headers=GZIP)
    assert "Content-Encoding" not in answer.headers
    assert "Accept-Encoding" not in answer.headers.get("Vary", "")


@pytest.mark.parametrize("headers", [{}, GZIP], ids=str)
@pytest.mark.parametrize("path", ["/privacy", "/login", "/nothing", "/healthz"])
def test_head_has_the_headers_of_get_and_no_body(app, path, headers):
    asks = [(method, Person(app).client) for method in ("HEAD", "GET", "HEAD", "GET")]
    answers = [client.open(path, method=method, headers=headers) for method, client in asks]
    names = ["Content-Type", "Content-Length", "ETag", "Vary", "Cache-Control", "Content-Encoding"]
    head, get = ([answer.headers.get(name) for name in names] for answer in answers[2:])
    assert (answers[0].data, answers[2].data) == (b"", b"")
    assert head == get
    assert len(answers[1].data) == int(answers[1].headers["Content-Length"]) > 0


# Many at once -------------------------------------------------------------------------------------


@on_both
def test_one_makes_a_page_and_the_others_wait(app, ann, monkeypatch):
    monkeypatch.setattr(cache, "WAIT_MAX", 60)
    ann.write("News")
    renders = []

    def render(*_, **__):
        renders.append(1)
        time.sleep(0.3)

    with before_render_template.connected_to(render, app):
        answers = at_once(lambda: Person(app).get("/").text)
    assert len(renders) == 1
    assert len(set(answers)) == 1
    assert "News" in answers[0]


@on_both
def test_a_write_meanwhile_does_not_set_all_who_wait_to_work(app, ann, sql, monkeypatch):
    monkeypatch.setattr(cache, "WAIT_MAX", 60)
    ann.write("News")
    renders = []

    def render(*_, template, **__):
        renders.append(template.name)
        time.sleep(0.5)
        [Person(app).get("/robots.txt") for _ in writes]

    writes = (sql("UPDATE users SET about = 'x'") for _ in range(1))
    with before_render_template.connected_to(render, app):
        answers = at_once(lambda: Person(app).get("/").text)
    assert sorted(renders) == ["feeds/robots.txt", "posts/list.html"]
    assert len(set(answers)) == 1


def test_different_pages_do_not_wait_for_each_other(app, owner, monkeypatch):
    together, numbers = all_in_one_place(monkeypatch), iter(range(MANY))
    with before_render_template.connected_to(together, app):
        answers = at_once(lambda: Person(app).get(f"/privacy?{next(numbers)}").status_code)
    assert answers == [200] * MANY


def test_who_waits_for_a_failure_asks_again(app, owner, monkeypatch):
    monkeypatch.setattr(cache, "WAIT_MAX", 60)
    renders = []

    def fail(*_, **__):
        renders.append(1)
        time.sleep(0.3)
        raise SystemExit

    def ask():
        with suppress(SystemExit):
            Person(app).get("/privacy")

    begin = time.monotonic()
    with before_render_template.connected_to(fail, app):
        at_once(ask)
    assert len(renders) == MANY
    assert time.monotonic() - begin < 30
    assert Person(app).get("/privacy").status_code == 200


def test_a_client_that_is_gone_holds_nobody_up(app, nobody):
    def gone(*_):
        raise OSError("the client is gone")

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.url_scheme": "http"}
    environ |= {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "HTTP_HOST": "localhost"}
    with pytest.raises(OSError, match="gone"):
        app.wsgi_app(environ, gone)
    assert nobody.get("/").status_code == 200


# When the counter fails ---------------------------------------------------------------------------


@on_postgresql
def test_without_its_connection_a_page_is_made_and_the_next_kept_again(
    nobody, owner, postgresql, asked
):
    nobody.get("/")
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'test'"
    execute(postgresql, others)
    asked.clear()
    assert [nobody.get("/").status_code for _ in range(3)] == [200] * 3
    assert len(asked) == 2


def test_a_date_that_is_none_spoils_only_the_pages_that_show_it(nobody, owner, sql):
    owner.write()
    sql("UPDATE posts SET published_at = 'tomorrow'")
    assert nobody.get("/privacy").status_code == 200


@on_both
def test_where_the_version_cannot_be_read_pages_are_made(app, owner, monkeypatch):
    monkeypatch.setitem(cache.VERSIONS, db_name(app), "SELECT nonsense")
    begin = time.monotonic()
    answers = at_once(lambda: Person(app).get("/"))
    assert [answer.status_code for answer in answers] == [200] * MANY
    assert not any("ETag" in answer.headers for answer in answers)
    assert time.monotonic() - begin < 20


def db_name(app):
    with app.app_context():
        return db.engine.dialect.name


def test_a_standby_that_tells_no_version_caches_nothing(app, owner, monkeypatch):
    monkeypatch.setitem(cache.VERSIONS, db_name(app), "SELECT NULL")
    answers = [Person(app).get("/") for _ in range(2)]
    assert [("ETag" in answer.headers, answer.status_code) for answer in answers] == [
        (False, 200)
    ] * 2


def test_a_database_behind_a_link_is_kept_in_memory_too(app, make_app, tmp_path):
    close(app)
    (tmp_path / "link.db").symlink_to(tmp_path / "blog.db")
    linked = make_app(DATABASE_URL=f"sqlite:///{tmp_path / 'link.db'}")
    assert "ETag" in Person(linked).get("/").headers


@pytest.mark.slow
@on_postgresql
def test_a_check_that_hangs_holds_nobody_up_for_long(app, owner, monkeypatch):
    monkeypatch.setattr(cache, "WAIT_MAX", 0.1)
    monkeypatch.setitem(cache.VERSIONS, "postgresql", "SELECT pg_sleep(5)::text")
    late = threading.Thread(target=lambda: Person(app).get("/privacy"))
    late.start()
    time.sleep(0.2)
    begin = time.monotonic()
    assert at_once(lambda: Person(app).get("/").status_code) == [200] * MANY
    assert time.monotonic() - begin < 4
    late.join()


@on_postgresql
def test_the_connection_for_the_version_is_in_no_transaction(nobody, app, postgresql):
    nobody.get("/")
    query = (
        "SELECT state FROM pg_stat_activity WHERE datname = 'test' AND query LIKE '%recovery()%' "
        "AND query NOT LIKE '%activity%'"
    )
    with app.app_context():
        assert db.session.scalars(sa.text(query)).all() == ["idle"]


@on_postgresql
def test_the_connection_for_the_version_ends_with_the_apps(nobody, app, postgresql):
    nobody.get("/")
    close(app)
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'test'"
    with psycopg.connect(postgresql.format("postgres")) as connection:
        assert connection.execute(query).fetchone() == (0,)
    assert nobody.get("/").status_code == 200


# On Python 3.12 and later.
@pytest.mark.slow
@on_both
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_and_its_parent_see_each_others_writes(app, ann, nobody, asked):
    nobody.get("/")
    processes = multiprocessing.get_context("fork")
    here, there = processes.Pipe()

    def live():
        there.recv()
        there.send(nobody.get("/").text)
        ann.write("From the child")
        there.send(nobody.get("/").text)

    process = processes.Process(target=live)
    process.start()
    ann.write("From the parent")
    here.send("go on")
    assert here.poll(20)
    assert "From the parent" in here.recv()
    assert here.poll(20)
    assert "From the child" in here.recv()
    process.join(20)
    assert process.exitcode == 0
    assert "From the child" in nobody.get("/").text
    asked.clear()
    assert "From the child" in nobody.get("/").text
    assert asked == []


@pytest.mark.slow
@on_both
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_shares_no_connection_though_nobody_has_asked_yet(make_app):
    app = make_app()
    with app.app_context():
        db.session.scalar(sa.select(1))
        pool = db.engine.pool
    assert pool.checkedin() > 0
    processes = multiprocessing.get_context("fork")
    here, there = processes.Pipe()

    def live():
        status = Person(app).get("/").status_code
        with app.app_context():
            there.send((status, db.engine.pool is pool))

    process = processes.Process(target=live)
    process.start()
    assert here.poll(20)
    assert here.recv() == (200, False)
    process.join(20)
    assert process.exitcode == 0
    assert Person(app).get("/").status_code == 200


def in_a_child(act):
    """What `act` gives in a forked process."""
    processes = multiprocessing.get_context("fork")
    here, there = processes.Pipe()
    process = processes.Process(target=lambda: there.send(act()))
    process.start()
    assert here.poll(20)
    answer = here.recv()
    process.join(20)
    return answer


@pytest.mark.slow
@on_postgresql
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_that_is_sent_a_form_first_has_connections_of_its_own(app, ann):
    def backends():
        used = set()

        def note(connection, *_):
            used.add(connection.info.backend_pid)

        with app.app_context():
            engine = db.engine
        sa.event.listen(engine, "checkout", note)
        ann.send("/account", display_name="Ann", about="")
        sa.event.remove(engine, "checkout", note)
        return used

    ann.token()
    assert not in_a_child(backends) & backends()


# Nothing of anybody's own -------------------------------------------------------------------------

PERSONAL = 'Log Out|csrf_token|role="status"|>Drafts<|>Account<'


def test_nobody_gets_a_page_of_somebody(app, ann, nobody):
    ann.write(tags="x")
    assert re.search(PERSONAL, ann.get("/nothing").text)
    ann.write("Again")  # with a message that waits for its page
    [ann.get(path) for path in PATHS]
    answers = [nobody.get(path) for path in PATHS * 2]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-cache"}
    assert not re.search(PERSONAL, "".join(answer.text for answer in answers))


def test_two_visitors_have_different_tokens(app, owner):
    assert Person(app).token() != Person(app).token()


@pytest.mark.parametrize(
    "form",
    [
        "{1} ={0}",
        "{1}\t={0}",
        '"{1}"={0}',
        "{2}={0}",
        "x={0},{0}",
        '{1}="{0}"',
        "{1}={0}; {1}=x",
        "x{1}={0}",
        "a;{1}={0}",
    ],
)
def test_no_odd_cookie_makes_somebodys_page_everybodys(app, ann, nobody, form):
    def view():
        return str(current_user.is_authenticated), {"Cache-Control": "public"}

    app.view_functions["privacy.show"] = view
    cookie = ann.client.get_cookie(COOKIE).value
    client, headers = (
        app.test_client(use_cookies=False),
        {"Cookie": form.format(cookie, COOKIE, COOKIE.title())},
    )
    [client.get(path, headers=headers) for path in ("/", "/privacy")]
    assert not re.search(PERSONAL, nobody.get("/").text)
    assert nobody.get("/").headers["Cache-Control"] == "no-cache"
    assert nobody.get("/privacy").text == "False"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "LOCALHOST.evil.example"},
        {"X-Forwarded-Host": "evil.example"},
        {"X-Forwarded-Proto": "evil"},
        {"X-Forwarded-Prefix": "/evil"},
        {"X-Forwarded-Port": "666"},
        {"Forwarded": "host=evil.example"},
        {"X-Original-URL": "/evil"},
    ],
    ids=str,
)
@pytest.mark.parametrize("proxies", [0, 1])
def test_no_header_poisons_a_page_for_others(make_app, headers, proxies):
    app = make_app(PROXIES=proxies)
    Person(app, "olga").sign_up().write()
    paths = ["/feed.xml", "/feed.json", "/sitemap.xml", "/robots.txt"]
    [Person(app).get(path, headers=headers) for path in paths]
    text = "".join(Person(app).get(path).text for path in paths)
    assert not re.search("evil|:666", text)
    assert text.count("http://localhost/") >= len(paths)


def test_a_page_for_https_is_not_one_for_http(make_app):
    app = make_app(PROXIES=1)
    schemes = ["https", "http", "https", "http"]
    answers = [Person(app).get("/", headers={"X-Forwarded-Proto": name}) for name in schemes]
    assert ["Strict-Transport-Security" in answer.headers for answer in answers] == [
        name == "https" for name in schemes
    ]


@pytest.mark.parametrize(
    "path", ["/%00", "/%0d%0aSet-Cookie:x", "/%ff", "//", "/./", "/posts/%EF%BC%91"]
)
def test_an_odd_path_is_the_same_with_and_without_memory(make_app, app, path):
    bare = make_app(CACHE_MAX=0)
    answers = [Person(app).get(path), Person(app).get(path), Person(bare).get(path)]
    assert len({(answer.status_code, answer.data) for answer in answers}) == 1


# Whatever happens ---------------------------------------------------------------------------------

CHILD = """
import sys, sqlalchemy as sa
engine = sa.create_engine(sys.argv[1])
for line in sys.stdin:
    with engine.begin() as connection:
        connection.execute(sa.text(line))
    print("done", flush=True)
engine.dispose()
"""
STATEMENTS = [
    "UPDATE posts SET title = 'By SQL ' || id WHERE id % 2 = 0",
    "UPDATE posts SET body = body || ' and words of SQL'",
    "UPDATE posts SET published_at = '9999-12-31 00:00:00+00:00' WHERE id % 3 = 0",
    "UPDATE posts SET comments_closed = true",
    "UPDATE comments SET state = 'pending' WHERE id % 2 = 0",
    "UPDATE comments SET state = 'shown'",
    "UPDATE users SET display_name = 'By SQL ' || id",
    "DELETE FROM comments WHERE id % 2 = 1",
    "DELETE FROM posts WHERE id % 4 = 1",
    "DELETE FROM sessions",
]
TABLES = "comments posts pictures sessions users".split()
RANDOM = re.compile('name="(csrf_token|submission)"[^>]* value="[^"]+"')
WORDS = st.sampled_from(["kafka", "rain", "some", "Grüße"])


@pytest.fixture
def sql_elsewhere(database_url):
    """A function that commits a statement in another process."""
    url = database_url.replace("postgresql:", "postgresql+psycopg:")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CHILD, url], **pipes) as process:

        def execute(statement):
            process.stdin.write(f"{statement}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

        yield execute
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.mark.slow
@on_both
def test_whatever_happens_visitors_see_what_is_in_the_database(make_app, sql, sql_elsewhere):
    """After every step, each page from memory is the one that an app without memory makes."""
    app = make_app(RATE_LIMITS="off", MODERATION="first")
    bare = make_app(RATE_LIMITS="off", MODERATION="first", CACHE_MAX=0)

    class Blog(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            [sql(f"DELETE FROM {table}") for table in TABLES]
            self.people = {name: Person(app, name).sign_up() for name in ("olga", "ann", "bob")}
            self.posts = [self.people["ann"].write("First", tags="rain")]

        @rule(word=WORDS)
        def write(self, word):
            fields = {"title": word, "body": f"About {word}", "tags": word, "action": "publish"}
            answer = self.people["ann"].send("/posts/new", **fields)
            self.posts.append(answer.location or self.posts[-1])

        @rule(number=st.integers(0, 9), word=WORDS, action=st.sampled_from(["publish", "draft"]))
        def edit(self, number, word, action):
            fields = {"title": f"Now {word}", "body": word, "tags": word, "action": action}
            self.people["olga"].send(f"/posts/{self.id(number)}/edit", **fields)

        @rule(number=st.integers(0, 9), word=WORDS)
        def comment(self, number, word):
            self.people["bob"].send(f"/posts/{self.id(number)}/comments", body=f"I say {word}")

        @rule(number=st.integers(0, 9))
        def delete(self, number):
            self.people["ann"].send(f"/posts/{self.id(number)}/delete")

        @rule(name=st.sampled_from(["ann", "bob"]), act=st.sampled_from(["ban", "unban"]))
        def judge(self, name, act):
            self.people["olga"].send(f"/owner/people/{name}/{act}")

        @rule(id=st.integers(1, 9), decision=st.sampled_from(["approve", "delete"]))
        def moderate(self, id, decision):
            self.people["olga"].send(f"/comments/{id}/{decision}")

        @rule(name=st.sampled_from(["olga", "ann", "bob"]))
        def log_out_and_in(self, name):
            self.people[name].send("/logout")
            self.people[name].log_in()

        @rule(word=WORDS, name=st.sampled_from(["ann", "bob"]))
        def rename(self, word, name):
            self.people[name].send("/account", display_name=f"{name} {word}", about=word)

        @rule(number=st.integers(0, 99))
        def sign_up(self, number):
            fields = {"username": f"new-{number}", "password": PASSWORD, "confirm": PASSWORD}
            Person(app).send("/signup", **fields)

        @rule(statement=st.sampled_from(STATEMENTS))
        def write_past_the_app(self, statement):
            sql(statement)

        @rule(statement=st.sampled_from(STATEMENTS))
        def write_in_another_process(self, statement):
            sql_elsewhere(statement)

        @rule()
        def schedule(self):
            at = now() + timedelta(seconds=0.3)
            with app.app_context():
                db.session.execute(sa.update(Post).values(published_at=at))
                db.session.commit()
            [Person(app).get(path) for path in self.paths()]
            time.sleep(max(0, (at - now()).total_seconds()))

        def id(self, number):
            return self.posts[number % len(self.posts)].split("/")[2]

        def paths(self):
            last, edited = self.posts[-1], f"/posts/{self.id(0)}/now-kafka"
            own = [last, f"{last}.md", edited, f"/posts/{self.id(-1)}/feed.xml", "/users/bob"]
            return [*PATHS, *own, "/tags/kafka", "/?before=9999999999999999-1", "/nothing"]

        @invariant()
        def pages_are_as_in_the_database(self):
            names = ["Content-Type", "Cache-Control", "Location"]

            def seen(app, path, **how):
                answer = Person(app).get(path, **how)
                body = gzip.decompress(answer.data) if answer.content_encoding else answer.data
                return path, answer.status_code, body, *map(answer.headers.get, names)

            found = [seen(app, path, headers=GZIP) for path in self.paths()]
            assert found == [seen(bare, path) for path in self.paths()]
            assert found == [seen(app, path, headers=GZIP) for path in self.paths()]

        @invariant()
        def readers_see_what_is_in_the_database(self):
            for person in self.people.values():
                person.get("/")  # with the messages and a token
                same = bare.test_client()
                same.set_cookie(COOKIE, person.client.get_cookie(COOKIE).value)
                for path in [*self.paths(), "/account", "/drafts", "/owner/moderation"]:
                    answers = [person.get(path), person.get(path), same.get(path)]
                    pages = {(page.status_code, RANDOM.sub("", page.text)) for page in answers}
                    assert len(pages) == 1

    steps = settings(max_examples=6, stateful_step_count=10, deadline=None, database=None)
    run_state_machine_as_test(Blog, settings=settings(steps, suppress_health_check=HealthCheck))
