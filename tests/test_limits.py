"""How often something can be tried."""

import threading

import pytest
import sqlalchemy as sa
from conftest import PASSWORD, Person

import security
from database import db
from models import Attempt, Refusal


@pytest.fixture
def near(make_app):
    """A blog behind a proxy, so that visitors have addresses, and its owner."""
    app = make_app(PROXIES=1)
    return app, Person(app, "olga").sign_up()


def try_to_log_in(app, name="olga", address="192.0.2.1", password="wrong"):
    person = Person(app, name)
    fields = {"username": name, "password": password, "csrf_token": person.token()}
    return person.client.post("/login", data=fields, headers={"X-Forwarded-For": address})


def sign_up(app, name):
    person = Person(app, name)
    fields = {"username": name, "password": PASSWORD, "confirm": PASSWORD}
    fields["csrf_token"] = person.token()
    return person.client.post("/signup", data=fields, headers={"X-Forwarded-For": "192.0.2.1"})


def statuses(answers):
    return [answer.status_code for answer in answers]


def test_a_name_is_tried_ten_times_from_an_address(near):
    app, owner = near
    answers = [try_to_log_in(app) for _ in range(11)]
    assert statuses(answers) == [422] * 10 + [429]
    assert int(answers[-1].headers["Retry-After"]) > 800
    assert "try again in 15 min" in answers[-1].text
    assert 'name="password"' not in answers[-1].text
    assert ">\nolga</textarea>" in answers[-1].text
    assert try_to_log_in(app, password=PASSWORD).status_code == 429
    assert try_to_log_in(app, address="198.51.100.1", password=PASSWORD).status_code == 303
    assert owner.get("/drafts").status_code == 200


def test_a_name_is_tried_thirty_times_from_anywhere(near):
    app, _ = near
    answers = [try_to_log_in(app, address=f"192.0.2.{n}") for n in range(31)]
    assert statuses(answers) == [422] * 30 + [429]


def test_an_address_tries_fifty_names(near):
    app, _ = near
    answers = [try_to_log_in(app, name=f"name-{n}") for n in range(51)]
    assert statuses(answers) == [422] * 50 + [429]


@pytest.mark.parametrize(
    ("address", "status"), [("2001:db8::1:2", 429), ("2001:db8:0:1::1", 422), ("::1", 422)]
)
def test_an_ipv6_address_counts_as_its_network(near, address, status):
    app, _ = near
    [try_to_log_in(app, address="2001:db8::1") for _ in range(10)]
    assert try_to_log_in(app, address=address).status_code == status


def test_who_logs_in_is_not_counted(near):
    app, _ = near
    answers = [try_to_log_in(app, password=PASSWORD) for _ in range(12)]
    assert statuses(answers) == [303] * 12


def test_an_address_makes_five_accounts_an_hour(near):
    app, _ = near
    answers = [sign_up(app, f"new-{n}") for n in range(6)]
    assert statuses(answers) == [303] * 5 + [429]
    assert "new-5" in answers[-1].text


def test_an_address_searches_sixty_times_a_minute(near):
    _, owner = near
    headers = {"X-Forwarded-For": "192.0.2.1"}
    answers = [owner.get("/search?q=x", headers=headers) for _ in range(61)]
    assert statuses(answers) == [200] * 60 + [429]
    assert owner.get("/search?q=x").status_code == 200


@pytest.mark.parametrize(
    ("path", "most"), [("/posts/new", 20), ("/posts/1/comments", 20)], ids=["posts", "comments"]
)
def test_an_account_writes_so_much_and_no_more(ann, bob, path, most):
    ann.write()
    answers = [bob.send(path, title="T", body=f"Number {n}") for n in range(most + 1)]
    assert statuses(answers) == [303] * most + [429]
    assert f"Number {most}" in answers[-1].text
    assert "That is too often." in answers[-1].text
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 3601
    assert bob.send(path, title="T", body="Number 0").status_code == 303


def test_the_loopback_is_no_address(app):
    people = [Person(app, f"name-{n}").sign_up() for n in range(7)]
    assert statuses([person.get("/search?q=x") for person in people * 10]) == [200] * 70


def test_limits_can_be_off(make_app):
    app = make_app(RATE_LIMITS="off", PROXIES=1)
    answers = [try_to_log_in(app) for _ in range(12)]
    assert statuses(answers) == [422] * 12


def test_a_limit_holds_for_tries_at_once(near):
    app, _ = near
    answers = []

    def try_twice():
        answers.extend([try_to_log_in(app), try_to_log_in(app)])

    threads = [threading.Thread(target=try_twice) for _ in range(7)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(statuses(answers)) == [422] * 10 + [429] * 4


def test_the_tables_do_not_grow_without_bound(near, monkeypatch):
    app, owner = near
    monkeypatch.setattr(security, "REFUSALS_MAX", 3)
    [try_to_log_in(app) for _ in range(16)]
    with app.app_context():
        db.session.execute(sa.update(Attempt).values(ends_at=security.now()))
        db.session.commit()
    try_to_log_in(app, name="other")
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(Attempt.key))) == 3
        assert db.session.scalar(sa.select(sa.func.count(Refusal.id))) <= 4
        assert "olga" not in str(db.session.scalars(sa.select(Attempt.key)).all())
    assert "Too often" in owner.get("/owner/moderation").text


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, "192.0.2.9", ""),
        (1, "192.0.2.9", "192.0.2.9/32"),
        (1, "10.9.9.9, 192.0.2.9", "192.0.2.9/32"),
        (2, "10.9.9.9, 192.0.2.9, 198.51.100.1", "192.0.2.9/32"),
        (1, "::ffff:192.0.2.9", "192.0.2.9/32"),
        (1, "nonsense", "nonsense"),
        (1, "192.0.2.9:4711", "192.0.2.9/32"),
        (1, "[2001:db8::1]:443", "2001:db8::/64"),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_nothing_that_a_client_sends_changes_its_address(make_app, proxies, forwarded, expected):
    app = make_app(PROXIES=proxies)
    seen = []
    app.before_request(lambda: seen.append(security.address()))
    headers = {"X-Forwarded-For": forwarded, "X-Real-Ip": "1.1.1.1", "Forwarded": "for=1.1.1.1"}
    app.test_client().get("/healthz", headers=headers)
    assert seen == [expected]


def test_right_passwords_at_once_are_all_let_in(near):
    app, _ = near
    Person(app, "ann").sign_up()
    answers = []

    def log_in(name):
        answers.extend(try_to_log_in(app, name, password=PASSWORD) for _ in range(3))

    threads = [threading.Thread(target=log_in, args=[name]) for name in ("ann", "olga") * 3]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert statuses(answers) == [303] * 18
    with app.app_context():
        assert set(db.session.scalars(sa.select(Attempt.count))) == {0}


@pytest.mark.parametrize("text", ["a\x00b", "\ufffd", "\x0b"])
def test_what_is_refused_may_be_anything(near, text):
    app, owner = near
    [owner.get("/search?q=x", headers={"X-Forwarded-For": "192.0.2.1"}) for _ in range(60)]
    assert owner.get("/search", environ_overrides={"QUERY_STRING": "q=\xff"}).status_code == 404
    [try_to_log_in(app) for _ in range(10)]
    person = Person(app)
    fields = {"username": "olga", "password": "x", "other": text, "csrf_token": person.token()}
    headers = {"X-Forwarded-For": "192.0.2.1"}
    assert person.client.post("/login", data=fields, headers=headers).status_code == 429


def test_one_address_does_not_hide_what_others_were_refused(near):
    _, owner = near
    most, _ = security.LIMITS["refusal by address"]

    def trip(address, name):
        fields = {"username": name, "website": "x", "csrf_token": owner.token()}
        headers = {"X-Forwarded-For": address}
        return owner.client.post("/signup", data=fields, headers=headers).status_code

    assert [trip("192.0.2.1", f"flood-{n}") for n in range(most + 5)] == [422] * (most + 5)
    assert trip("198.51.100.1", "quiet") == 422
    ledger = owner.get("/owner/moderation").text
    assert ledger.count("flood-") == most
    assert "quiet" in ledger


def test_a_refused_name_is_no_account(near):
    app, _ = near
    answers = [sign_up(app, "olga") for _ in range(7)]
    assert statuses(answers) == [422] * 7
    assert "This name is taken." in answers[-1].text


def test_refusals_are_written_down_again_after_their_time(near):
    app, owner = near
    most, _ = security.LIMITS["refusal by address"]
    headers = {"X-Forwarded-For": "192.0.2.1"}

    def trip(number):
        fields = {"username": f"bot-{number}", "website": "x", "csrf_token": owner.token()}
        return owner.client.post("/signup", data=fields, headers=headers).status_code

    assert {trip(number) for number in range(most)} == {422}
    with app.app_context():
        db.session.execute(sa.update(Attempt).values(ends_at=security.now()))
        db.session.commit()
    trip("late")
    assert "bot-late" in owner.get("/owner/moderation").text


def test_a_strangers_tries_do_not_disturb_an_open_session(near):
    app, owner = near
    [try_to_log_in(app, address=f"192.0.2.{n}") for n in range(31)]
    fields = {"current": PASSWORD, "password": "another 1 word", "confirm": "another 1 word"}
    assert owner.send("/account/password", **fields).status_code == 303


def test_ones_own_password_is_tried_ten_times(owner):
    fields = {"current": "wrong", "password": "another 1 word", "confirm": "another 1 word"}
    answers = [owner.send("/account/password", **fields) for _ in range(11)]
    assert statuses(answers) == [422] * 10 + [429]


def test_words_that_are_sought_too_often_are_still_in_the_field(near):
    headers = {"X-Forwarded-For": "192.0.2.1"}
    client = Person(near[0]).client
    answers = [client.get(f"/search?q=rare+unicorn+{n}", headers=headers) for n in range(61)]
    assert statuses(answers) == [200] * 60 + [429]
    assert 'value="rare unicorn 60"' in answers[-1].text
