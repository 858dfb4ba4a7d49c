"""How often something can be tried."""

import logging
import re
import shutil
import socket
import subprocess
import threading
import time

import pytest
import sqlalchemy as sa
from conftest import PASSWORD, Person, free_port, missing, on_both

from core import security
from core.config import SettingError
from core.database import db
from extras import limits
from models import Post


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
    answers = [owner.get(f"/search?q={n}", headers=headers) for n in range(61)]
    assert statuses(answers) == [200] * 60 + [429]
    assert owner.get("/search?q=60").status_code == 200


@pytest.mark.parametrize(
    ("path", "most"), [("/posts/new", 20), ("/posts/1/comments", 20)], ids=["posts", "comments"]
)
def test_an_account_writes_so_much_and_no_more(ann, bob, path, most):
    ann.write()
    forms = [{"title": "T", "body": f"Number {n}", "submission": f"{n}"} for n in range(most + 1)]
    answers = [bob.send(path, **form) for form in forms]
    assert statuses(answers) == [303] * most + [429]
    assert f"Number {most}" in answers[-1].text
    assert "That is too often." in answers[-1].text
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 3601
    assert bob.send(path, **forms[0]).location == answers[0].location


def test_the_loopback_is_no_address(app):
    people = [Person(app, f"name-{n}").sign_up() for n in range(7)]
    assert statuses([person.get("/search?q=x") for person in people * 10]) == [200] * 70


def test_limits_can_be_off(make_app):
    app = make_app(RATE_LIMITS="off", PROXIES=1)
    answers = [try_to_log_in(app) for _ in range(12)]
    assert statuses(answers) == [422] * 12


def test_of_forty_log_ins_at_once_ten_are_checked(near, monkeypatch):
    app, _ = near
    checked, answers = [], []
    check = security.check_password_hash
    monkeypatch.setattr(
        security, "check_password_hash", lambda *words: checked.append(check(*words))
    )
    people = [Person(app, "olga") for _ in range(40)]
    tokens = [person.token() for person in people]

    def log_in(person, token):
        fields = {"username": "olga", "password": "wrong", "csrf_token": token}
        headers = {"X-Forwarded-For": "192.0.2.1"}
        answers.append(person.client.post("/login", data=fields, headers=headers))

    pairs = zip(people, tokens, strict=True)
    threads = [threading.Thread(target=log_in, args=pair) for pair in pairs]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(statuses(answers)) == [422] * 10 + [429] * 30
    assert checked == [False] * 10


def test_what_is_not_saved_is_neither_counted_nor_refused(ann, bob):
    """Previews, drafts, pictures and refused forms, before the limit is reached and after it."""
    post = ann.write()

    def unsaved():
        return [
            *(bob.send("/posts/new", title="T", body="x", action="preview") for _ in range(22)),
            *(bob.send("/posts/new", title="T", body="") for _ in range(22)),
            *(bob.send("/posts/new", title="T", body="x", action="draft") for _ in range(3)),
            bob.send("/posts/new", title="T", body="x", action="picture"),
            *(bob.send("/posts/1/comments", body="") for _ in range(22)),
        ]

    expected = [200] * 22 + [422] * 22 + [303] * 3 + [422] + [422] * 22
    assert statuses(unsaved()) == expected
    assert len({bob.write(body=f"Number {n}") for n in range(20)}) == 20
    assert len({bob.comment(post, f"Number {n}") for n in range(20)}) == 20
    assert bob.send("/posts/new", title="T", body="One more").status_code == 429
    assert bob.send("/posts/1/comments", body="One more").status_code == 429
    assert statuses(unsaved()) == expected


def test_a_draft_counts_when_it_is_published(ann):
    drafts = [ann.send("/posts/new", title="T", body=f"{n}", action="draft") for n in range(21)]
    ids = [draft.location.split("/")[2] for draft in drafts]
    fields = {"title": "T", "body": "x", "action": "publish"}
    answers = [ann.send(f"/posts/{id}/edit", **fields) for id in ids]
    assert statuses(answers) == [303] * 20 + [429]
    edit = ann.send(f"/posts/{ids[0]}/edit", title="Edited", body="x", action="publish")
    assert edit.status_code == 303


@on_both
def test_a_search_answers_while_somebody_writes(app, near):
    _, owner = near
    with app.app_context(), db.engine.connect().execution_options(writes=True) as other:
        other.execute(sa.update(Post).values(title="Not yet committed."))
        other.execute(sa.text("DELETE FROM search"))
        assert owner.get("/search?q=x").status_code == 200


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
def test_nothing_that_a_client_sends_changes_its_address(make_app, proxies, forwarded, expected):
    app = make_app(PROXIES=proxies)
    seen = []
    app.before_request(lambda: seen.append(limits.client_ip()))
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
    assert statuses([try_to_log_in(app) for _ in range(11)]) == [422] * 10 + [429]


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


def test_a_refused_name_is_no_account(near):
    app, _ = near
    answers = [sign_up(app, "olga") for _ in range(7)]
    assert statuses(answers) == [422] * 7
    assert "This name is taken." in answers[-1].text


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


# Refused texts in the log -------------------------------------------------------------------------


def test_a_refused_text_is_one_line_in_the_log(near, caplog):
    _, owner = near
    path = owner.write(comments_closed="y")
    owner.send(
        f"/posts/{path.split('/')[2]}/comments", body="Too late\n\nWARNING forged" + "x" * 99
    )
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("Refused (Comments on the post are closed), by olga: 'Too late\\n")
    assert "\n" not in line
    assert len(line) < 160


def test_no_password_is_in_the_log(near, caplog):
    app, _ = near
    caplog.set_level(logging.DEBUG)
    [try_to_log_in(app, password="secret words") for _ in range(12)]
    fields = {"username": "automaton", "password": "secret words", "confirm": "secret words"}
    Person(app).send("/signup", **fields, website="x")
    assert "Refused (Too often)" in caplog.text
    assert "automaton" in caplog.text
    assert "secret" not in caplog.text


# Redis --------------------------------------------------------------------------------------------


@pytest.fixture
def redis(tmp_path):
    """A function that starts a Redis server, always at the same port, and its URL."""
    program = shutil.which("redis-server") or missing("Redis", "apt-get install redis-server")
    port, processes = free_port(), []

    def start():
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", tmp_path]
        process = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
        processes.append(process)
        deadline = time.monotonic() + 10
        while not answers(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        return process

    yield start, f"redis://127.0.0.1:{port}"
    for process in processes:
        process.terminate()
        process.wait(10)


def answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_several_servers_count_together_in_redis(make_app, redis):
    start, url = redis
    start()
    apps = [make_app(PROXIES=1, LIMITS_STORAGE=url) for _ in range(2)]
    Person(apps[0], "olga").sign_up()
    assert statuses([try_to_log_in(app, password=PASSWORD) for app in apps * 6]) == [303] * 12
    assert statuses([try_to_log_in(app) for app in apps * 6]) == [422] * 10 + [429] * 2


def test_without_redis_limits_are_counted_in_memory(make_app, redis, caplog):
    start, url = redis
    process = start()
    app = make_app(PROXIES=1, LIMITS_STORAGE=url)
    owner = Person(app, "olga").sign_up()
    post = owner.write()
    assert try_to_log_in(app).status_code == 422
    process.terminate()
    process.wait(10)
    assert statuses([try_to_log_in(app) for _ in range(11)]) == [422] * 10 + [429]
    assert owner.comment(post)
    assert owner.get("/search?q=x", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 200
    lines = [record.getMessage() for record in caplog.records if "Refused" not in record.msg]
    assert len(lines) == 1
    assert re.search("storage", lines[0])


def test_a_blog_starts_without_its_redis(make_app, redis):
    _, url = redis
    app = make_app(PROXIES=1, LIMITS_STORAGE=url)
    assert Person(app, "olga").sign_up().write()
    assert statuses([try_to_log_in(app) for _ in range(11)]) == [422] * 10 + [429]


@pytest.mark.parametrize("storage", ["nonsense", "carrier://pigeon", "redis://127.0.0.1:x"])
def test_a_storage_that_there_is_not_is_said_at_start(make_app, storage):
    with pytest.raises(SettingError, match="BLOG_LIMITS_STORAGE is no storage; try redis://"):
        make_app(LIMITS_STORAGE=storage)
