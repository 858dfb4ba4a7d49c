"""What a person or a program should not send: an answer in 4xx, and no text lost."""

import io
import sqlite3

import pytest
import sqlalchemy as sa
from conftest import COOKIE, Person, execute, on_postgresql

import app as app_module
from core.database import db
from models import Comment, Post, Session

LONG_TEXT = "Typed with care.\n" * 100
PARTS = b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\ny\r\n" * 2000 + b"--b--\r\n"
FILES = b"".join(
    b"--b\r\nContent-Disposition: form-data; name=%s; filename=x\r\n\r\ny\r\n" % name
    for name in (b"username", b"password", b"confirm", b"title", b"body", b"csrf_token")
)
FORM_OF_PARTS = "multipart/form-data; boundary=b"
FORMS = [
    ("/posts/new", {"title": "My title", "body": LONG_TEXT}),
    ("/posts/1/edit", {"title": "My title", "body": LONG_TEXT}),
    ("/posts/1/comments", {"body": LONG_TEXT}),
    ("/comments/1/edit", {"body": LONG_TEXT}),
]


@pytest.fixture
def post(ann):
    """A post of ann's with a comment of hers."""
    path = ann.write()
    ann.comment(path)
    return path


def assert_kept(answer, fields):
    assert all(text in answer.text.replace("\r\n", "\n") for text in fields.values())
    assert all(f'name="{name}"' in answer.text for name in fields)


@pytest.mark.parametrize("token", ["", "wrong"])
@pytest.mark.parametrize(("path", "fields"), FORMS)
def test_a_text_sent_without_its_token_comes_back(app, ann, post, path, fields, token):
    answer = ann.send(path, csrf_token=token, **fields)
    assert answer.status_code == 400
    assert "Nothing is saved yet" in answer.text
    assert_kept(answer, fields)
    assert ann.send(path, **fields).status_code == 303


@pytest.mark.parametrize(("path", "fields"), FORMS)
def test_a_text_sent_after_the_session_has_ended_comes_back(app, ann, post, path, fields):
    token = ann.token()
    with app.app_context():
        db.session.execute(sa.delete(Session))
        db.session.commit()
    answer = ann.send(path, csrf_token=token, **fields)
    assert answer.status_code == 400
    assert "You are not logged in any more" in answer.text
    assert 'target="_blank">Log in' in answer.text
    assert_kept(answer, fields)
    ann.log_in()
    assert ann.send(path, **fields).status_code == 303


def test_the_username_comes_back_and_the_password_does_not(nobody):
    fields = {"username": "carol", "password": "do not show", "confirm": "do not show"}
    answer = nobody.send("/signup", csrf_token="", **fields)
    assert answer.status_code == 400
    assert 'value="carol"' in answer.text
    assert "do not show" not in answer.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"title": "x" * 201}, "It has 201 characters; it can have 1 to 200."),
        ({"body": ""}, "Write something."),
        ({"body": "\n\n"}, "Write something."),
        ({"body": "x" * 50_001}, "It has 50,001 characters; it can have 1 to 50,000."),
        ({"body": "a\ufffdb"}, "Some characters were damaged"),
    ],
)
def test_a_refused_post_says_why_and_comes_back(ann, fields, message):
    typed = {"title": "My title", "body": "My text"} | fields
    answer = ann.send("/posts/new", **typed)
    assert answer.status_code == 422
    assert message in answer.text
    assert typed["title"].strip("\u200b") in answer.text
    assert typed["body"] in answer.text
    assert 'aria-invalid="true"' in answer.text


def test_line_ends_are_counted_once(ann):
    assert ann.write("x", "é\r\n" * 25_000)


def test_control_characters_are_taken_out(app, ann):
    ann.write("A\x00\x1bB\nC", "a\x00\x0b\x7f\x9fb\tc\rd")
    with app.app_context():
        post = db.session.get(Post, 1)
        assert (post.title, post.body) == ("AB C", "ab\tc\nd")


@pytest.mark.parametrize(
    "path",
    [
        *("/posts/99999999999999999999/x", "/posts/2147483648/x", "/posts/-1/x", "/posts/0/x"),
        *(
            "/posts/٣/x",
            "/posts/1%00/x",
            "/posts/1/x%00",
            "/posts/1/%ff%fe",
            "/users/%00",
            "/users/é",
        ),
        *("/users/a%0ab", "/static/%00", "/static/../config.py", "/%ff", "/users/" + "a" * 5000),
        *(
            "/comments/99999999999999999999/edit",
            "/posts/1/x/y",
            "/posts/new%0a",
        ),
    ],
)
def test_an_odd_address_is_a_404(ann, post, path):
    assert ann.get(path).status_code == 404


# Nobody reads the files of such a form, so they are closed only when they are forgotten.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "request_options",
    [
        {"data": b"\xff\xfe=%ff", "content_type": "application/x-www-form-urlencoded"},
        {
            "data": "&".join(f"f{n}=x" for n in range(5000)),
            "content_type": "application/x-www-form-urlencoded",
        },
        {"json": {"title": "x", "body": "y"}},
        {"data": b"{", "content_type": "application/json"},
        {"json": {"username": 5, "title": "\ud800", "body": None, "csrf_token": 5}},
        {"json": [1]},
        {"data": FILES, "content_type": "multipart/form-data; boundary=b"},
        {
            "data": b"--b\r\nContent-Disposition: form-data; name=title\r\n\r\nx",
            "content_type": "multipart/form-data; boundary=b",
        },
        {"data": b"x", "content_type": "multipart/form-data"},
        {"data": PARTS, "content_type": "multipart/form-data; boundary=b"},
        {"data": {"title": "x" * 1_100_000}},
        {"data": b"x", "content_type": "\x00/\xff"},
        {},
    ],
    ids=[
        "bytes",
        "fields",
        "json",
        "broken-json",
        "odd-json",
        "json-list",
        "files",
        "truncated",
        "no-boundary",
        "parts",
        "large",
        "type",
        "empty",
    ],
)
def test_an_odd_body_is_refused_everywhere(ann, post, request_options):
    paths = ("/posts/new", "/posts/1/comments", "/login", "/signup", "/logout", "/", "/x")
    answers = {ann.client.post(path, **request_options).status_code // 100 for path in paths}
    assert answers == {4}


@pytest.mark.parametrize("path", ["/", "/posts/new", "/posts/1/edit", "/login", "/account"])
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", FORM_OF_PARTS])
def test_no_page_reads_what_comes_with_a_get(ann, post, path, content_type):
    body = io.BytesIO(b"x" * 100)
    answer = ann.get(path, input_stream=body, content_length=100, content_type=content_type)
    assert answer.status_code in (200, 413)
    assert body.tell() == 0


def test_5000_fields_beside_good_ones_are_refused(ann):
    extra = {f"f{number}": "x" for number in range(5000)}
    assert ann.send("/posts/new", title="x", body="y", **extra).status_code == 413


def test_a_multipart_form_is_taken(ann):
    fields = {"title": "x", "body": "y" * 50_000, "csrf_token": ann.token()}
    answer = ann.client.post("/posts/new", data=fields, content_type="multipart/form-data")
    assert answer.status_code == 303


@pytest.mark.parametrize("size", [1_048_577, 3_000_000])
def test_a_large_body_without_a_length_is_refused_whole(ann, size):
    start = f"csrf_token={ann.token()}&title=x&body=".encode()
    answer = ann.client.post(
        "/posts/new",
        input_stream=io.BytesIO(start + b"x" * (size - len(start))),
        content_type="application/x-www-form-urlencoded",
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )
    assert answer.status_code == 413
    assert "your browser still has the text" in answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/"),
        ("DELETE", "/posts/1/delete"),
        ("GET", "/posts/1/comments/"),
        ("POST", "/"),
        ("PATCH", "/login"),
        ("BREW", "/"),
    ],
)
def test_a_wrong_method_is_refused(ann, post, method, path):
    answer = ann.client.open(path, method=method)
    assert answer.status_code in (404, 405)
    assert "<h1>" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil example"},
        {"Host": '"><b>'},
        {"Cookie": f"{COOKIE}=é"},
        {"Cookie": f"{COOKIE}=x.y.z; a"},
        {"Cookie": r'remember_token="a|\303\251"'},
        {"Host": "a..b"},
        {"Host": "."},
        {"Host": "a" * 300},
        {"Content-Length": "x"},
        {"Content-Length": "-1"},
    ],
)
def test_odd_headers_are_no_fault_of_ours(nobody, headers):
    assert nobody.get("/", headers=headers).status_code < 500


def assert_unavailable(answer):
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert_kept(answer, {"body": LONG_TEXT})


def broken(*_arguments, **_options):
    raise RuntimeError("a detail")


def test_a_fault_inside_is_a_500_in_the_blogs_style(app, ann, post, monkeypatch, caplog):
    """Nothing is saved, the trace is in the log, the text on the page."""
    monkeypatch.setattr(app_module, "post_url", broken)
    answer = ann.send("/posts/new", title="Unlucky", body=LONG_TEXT)
    assert answer.status_code == 500
    assert "Something went wrong inside the blog" in answer.text
    assert_kept(answer, {"title": "Unlucky", "body": LONG_TEXT})
    assert "a detail" not in answer.text
    assert "a detail" in caplog.text


def test_what_a_fault_interrupts_is_rolled_back(app, ann, post, monkeypatch):
    monkeypatch.setattr("extras.limits._count", broken)  # the last step before the commit
    assert ann.send("/posts/1/comments", body="Half done").status_code == 500
    monkeypatch.undo()
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(Comment.id))) == 1


def test_a_column_without_its_migration_is_a_fault_not_a_busy_database(app, ann, post, caplog):
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE users DROP COLUMN about"))
    answer = ann.get(post)
    assert answer.status_code == 500
    assert "Something went wrong inside the blog" in answer.text
    assert "no such column" in caplog.text


def test_a_locked_database_is_a_503_and_works_again(app, ann, post, tmp_path, monkeypatch):
    with app.app_context():
        db.engine.dispose()
    monkeypatch.setattr("core.database.BUSY_MAX", 100)
    token = ann.token()
    lock = sqlite3.connect(tmp_path / "blog.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    answer = ann.send("/posts/1/comments", body=LONG_TEXT, csrf_token=token)
    assert ann.get("/").status_code == 200
    lock.close()
    assert_unavailable(answer)
    assert ann.comment(post)


def test_a_database_that_is_away_is_a_503_and_works_again(app, ann, post, tmp_path):
    with app.app_context():
        db.engine.dispose()
    file, away = tmp_path / "blog.db", tmp_path / "away"
    file.rename(away)
    file.mkdir()
    answers = [ann.get("/"), ann.get("/nowhere"), ann.send("/logout", csrf_token="")]
    answers += [Person(app).get("/healthz"), ann.send("/nowhere", csrf_token="", body="x")]
    assert [answer.status_code for answer in answers] == [503] * 5
    assert all("Retry-After" in answer.headers for answer in answers)
    file.rmdir()
    away.rename(file)
    assert ann.get(post).status_code == 200


@on_postgresql
def test_a_database_server_that_refuses_is_a_503_and_works_again(app, ann, post, postgresql):
    token = ann.token()
    execute(postgresql, "ALTER DATABASE test ALLOW_CONNECTIONS false")
    execute(
        postgresql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'test'"
    )
    answer = ann.send("/posts/1/comments", body=LONG_TEXT, csrf_token=token)
    execute(postgresql, "ALTER DATABASE test ALLOW_CONNECTIONS true")
    assert_unavailable(answer)
    assert ann.comment(post)


@on_postgresql
def test_a_read_only_database_server_is_a_503(app, ann, post, postgresql):
    token = ann.token()
    execute(postgresql, "ALTER DATABASE test SET default_transaction_read_only = on")
    with app.app_context():
        db.engine.dispose()
    assert ann.get(post).status_code == 200
    assert ann.send("/posts/1/comments", body=LONG_TEXT, csrf_token=token).status_code == 503


@pytest.mark.parametrize("path", ["/login", "/signup", "/posts/new"])
def test_stacked_accents_are_refused_at_once(ann, path):
    """Bringing them into their order takes Python half a minute."""
    marks = "a" + "\u0316\u0301" * 15_000
    fields = {"username": "x", "password": marks, "confirm": marks, "title": "x", "tags": marks}
    assert ann.send(path, **fields).status_code == 422
