"""Signing up, logging in and out."""

import re
import threading
import time
from datetime import timedelta
from urllib.parse import urljoin, urlsplit

import pytest
import sqlalchemy as sa
from conftest import COOKIE, PASSWORD, Person
from hypothesis import example, given
from hypothesis import strategies as st

from core import security
from core.database import db, now
from models import Session, User

GOOD = {"username": "carol", "password": PASSWORD, "confirm": PASSWORD}


def roles(app):
    with app.app_context():
        return [user.role for user in db.session.scalars(sa.select(User).order_by(User.id))]


def at_once(count, call):
    """The results of that many calls at the same time."""
    results, barrier = [], threading.Barrier(count)

    def run():
        barrier.wait()
        results.append(call())

    threads = [threading.Thread(target=run) for _ in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return results


def test_who_signs_up_is_logged_in(app, nobody):
    answer = nobody.send("/signup", **GOOD)
    assert (answer.status_code, answer.location) == (303, "/")
    assert "carol" in nobody.get("/").text


def test_the_first_account_is_the_owner(app, ann):
    assert roles(app) == ["owner", "author"]


def test_a_new_account_may_only_comment_where_the_blog_says_so(make_app):
    app = make_app(NEW_ACCOUNTS_MAY="comment")
    Person(app, "olga").sign_up()
    carol = Person(app, "carol").sign_up()
    assert roles(app) == ["owner", "member"]
    assert "New Post" not in carol.get("/").text
    assert carol.get("/posts/new").status_code == 403
    assert carol.send("/posts/new", title="x", body="y").status_code == 403


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"username": ""}, "Choose a username."),
        ({"username": "c"}, "It has 1 characters; it can have 2 to 30."),
        ({"username": "c" * 31}, "It has 31 characters"),
        ({"username": "ca rol"}, "Use only letters"),
        ({"username": "cärol"}, "Use only letters"),
        ({"username": "carol\u202e"}, "Use only letters"),
        ({"username": "Admin"}, "This name is reserved."),
        ({"password": "short", "confirm": "short"}, "It has 5 characters"),
        ({"password": "x" * 129, "confirm": "x" * 129}, "It has 129 characters"),
        ({"password": "x" * 1_000_000}, "It has 1,000,000 characters"),
        ({"password": "iloveyou", "confirm": "iloveyou"}, "Many people use this password."),
        ({"username": "caroline", "password": "Caroline"}, "must differ from the username"),
        ({"confirm": "correct horse 8"}, "The two passwords differ."),
        ({"confirm": ""}, "The two passwords differ."),
        ({"username": "ANN"}, "This name is taken."),
    ],
)
def test_a_refused_sign_up_says_why(ann, nobody, fields, message):
    answer = nobody.send("/signup", **GOOD | fields)
    assert answer.status_code == 422
    assert message in answer.text
    assert PASSWORD not in answer.text


@pytest.mark.parametrize(
    "password", ["        ", "пароль-пароль", "🐎🔋📎🍏🐎🔋📎🍏", "a\tb\x00c\nd\x7fef"]
)
def test_a_password_may_hold_any_character(app, nobody, password):
    assert nobody.send("/signup", **GOOD | {"password": password, "confirm": password}).location
    assert Person(app, "carol").log_in(password=password).status_code == 303


def test_a_username_is_shown_as_typed_and_found_in_any_case(app, owner):
    Person(app, "CaRoL").sign_up()
    again = Person(app, "cArOl")
    assert again.log_in().status_code == 303
    assert "CaRoL" in again.get("/").text


def test_of_ten_sign_ups_for_one_name_at_once_one_wins(app, owner):
    def sign_up():
        return Person(app).send("/signup", **GOOD).status_code

    assert sorted(at_once(10, sign_up)) == [303] + [422] * 9
    assert len(roles(app)) == 2


def test_of_two_first_sign_ups_at_once_one_is_the_owner(app):
    names = iter(["carol", "dave"])
    at_once(2, lambda: Person(app, next(names)).sign_up())
    assert sorted(roles(app)) == ["author", "owner"]


def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(app, ann):
    wrong_name = Person(app, "annn").log_in()
    wrong_password = Person(app, "ann").log_in(password="wrong")
    assert wrong_name.status_code == wrong_password.status_code == 422
    sentence = "This username and password do not belong together."
    assert sentence in wrong_name.text
    assert sentence in wrong_password.text


def test_an_unknown_name_costs_a_hash_too(app, monkeypatch):
    hashed = []
    check = security.check_password_hash
    monkeypatch.setattr(
        security, "check_password_hash", lambda *pair: hashed.append(pair[0]) or check(*pair)
    )
    Person(app, "carol").log_in()
    assert hashed[0].startswith(app.config["PASSWORD_HASH"])


@pytest.mark.parametrize("path", ["/posts/new", "/posts/1/caf%C3%A9?a=b%20c#write"])
def test_logging_in_leads_back(app, ann, path):
    again = Person(app, "ann")
    answer = again.client.post(
        "/login",
        query_string={"next": path},
        data={"username": "ann", "password": PASSWORD, "csrf_token": again.token()},
    )
    assert answer.location == path


@pytest.mark.parametrize(
    "path",
    [
        *("//evil.example", "////evil.example", "/\\evil.example", "/\t/evil.example", "/\n/e"),
        *("https://evil.example", "javascript:alert(1)", "evil.example", "\\\\evil.example"),
        *("/ /evil.example", "%2f%2fevil.example", "", "/é"),
    ],
)
def test_logging_in_never_leads_elsewhere(path):
    assert security.safe_path(path) is None


@given(st.text(alphabet="/\\\t\n .:@?#%evil\u202e", max_size=12).map("/".__add__) | st.text())
@example("/.//evil")
def test_any_next_stays_on_this_site(path):
    safe = security.safe_path(path)
    assert safe in (path, None)
    # Browsers drop tabs and line ends, and read \\ as /.
    as_read = re.sub(r"[\t\r\n]", "", path).replace("\\", "/")
    assert safe is None or urlsplit(urljoin("http://here/", as_read)).netloc == "here"


def test_logging_in_from_a_page_that_needs_it_leads_back_there(nobody):
    assert nobody.get("/posts/new?a=é").location == "/login?next=/posts/new?a%3D%25C3%25A9"


def test_the_cookie_ends_with_the_browser_or_in_thirty_days(app, ann):
    short = Person(app, "ann").log_in().headers["Set-Cookie"]
    long = Person(app, "ann").log_in(remember="y").headers["Set-Cookie"]
    assert "Expires" not in short
    assert "Expires" in long
    assert "HttpOnly" in short
    assert "SameSite=Lax" in short


def test_the_cookie_is_secure_exactly_over_https(app, ann):
    assert "Secure" not in Person(app, "ann").log_in().headers["Set-Cookie"]
    over_https = app.test_client()
    page = over_https.get("/login", base_url="https://localhost")
    assert "Secure" in page.headers["Set-Cookie"]
    assert "max-age" in page.headers["Strict-Transport-Security"]
    assert "Strict-Transport-Security" not in ann.get("/").headers


def test_a_copied_cookie_is_worthless_after_logging_out(app, ann):
    elsewhere = Person(app, "ann")
    elsewhere.log_in()
    cookie = ann.client.get_cookie(COOKIE).value
    assert ann.send("/logout").location == "/"
    thief = app.test_client()
    thief.set_cookie(COOKIE, cookie)
    assert "Log In" in thief.get("/").text
    assert "Log Out" in elsewhere.get("/").text


@pytest.mark.parametrize(("keep", "hours"), [("", 24), ("y", 24 * 30)])
def test_a_session_ends_by_itself(app, ann, keep, hours):
    again = Person(app, "ann")
    again.log_in(remember=keep)
    with app.app_context():
        newest = db.session.scalars(sa.select(Session).order_by(Session.created_at.desc())).first()
        left = newest.ends_at - now()
        assert timedelta(hours=hours - 1) < left <= timedelta(hours=hours)
        newest.ends_at = now()
        db.session.commit()
    assert "Log In" in again.get("/").text
    assert again.log_in().status_code == 303
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(Session.id))) == 3


def test_logging_in_again_ends_the_session_before(app, ann):
    ann.log_in()
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(Session.id))) == 2


def test_a_get_does_not_log_out(ann):
    assert ann.get("/logout").status_code == 405
    assert "Log Out" in ann.get("/").text


def test_a_log_out_without_its_token_says_what_to_do(ann):
    answer = ann.send("/logout", csrf_token="")
    assert answer.status_code == 400
    assert "Nothing has changed" in answer.text


def test_the_third_hash_at_a_time_waits_and_gives_up_in_time(app, ann, monkeypatch):
    monkeypatch.setattr(security, "QUEUE_SECONDS_MAX", 0.2)
    bob = Person(app, "ann")
    token = bob.token()
    with security.hashing, security.hashing:
        began = time.monotonic()
        answer = bob.log_in(csrf_token=token)
        assert time.monotonic() - began >= 0.2
        assert ann.get("/").status_code == 200
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    assert bob.log_in().status_code == 303


def test_a_crowd_at_the_door_leaves_threads_for_readers(make_app, monkeypatch):
    monkeypatch.setattr(security, "QUEUE_SECONDS_MAX", 1)
    app = make_app(RATE_LIMITS="off")
    Person(app, "ann").sign_up()
    crowd = [Person(app, "ann") for _ in range(security.QUEUE_MAX + 4)]
    tokens = [person.token() for person in crowd]
    pairs = iter(list(zip(crowd, tokens, strict=True)))

    def log_in():
        person, token = next(pairs)
        began = time.monotonic()
        answer = person.log_in(csrf_token=token)
        return answer.status_code == 503 and time.monotonic() - began < 0.9

    with security.hashing, security.hashing:
        turned_away_at_once = at_once(len(crowd), log_in)
    assert sum(turned_away_at_once) == 4


def test_writers_do_not_wait_for_a_hash(app, ann):
    """While a log-in waits for its turn to hash, it holds no lock."""
    post = ann.write()
    token = (late := Person(app, "ann")).token()
    with security.hashing, security.hashing:
        waiting = threading.Thread(target=late.log_in, kwargs={"csrf_token": token})
        waiting.start()
        time.sleep(0.2)
        ann.comment(post)
        assert waiting.is_alive()
    waiting.join()


def test_who_signs_up_first_reads_that_the_blog_will_be_theirs(app, nobody):
    sentence = "This is the first account: it will own the blog."
    assert sentence in nobody.get("/signup").text
    Person(app, "olga").sign_up()
    assert sentence not in nobody.get("/signup").text
