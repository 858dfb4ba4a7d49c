"""Sweeps over every address: who is refused, and what every answer carries."""

import re

import pytest
from conftest import Person
from werkzeug.routing import Rule

from app import create_app
from core.database import db
from core.security import PRIVATE
from extras.pictures import Picture

SAMPLES = {
    "name": "x",
    "token": "x",
    "id": 1,
    "slug": "a-title",
    "username": "ann",
    "filename": "style.css",
    "part": 1,
    "kind": "xml",
    "tag": "kafka",
}
HEADERS = [
    "Content-Security-Policy",
    "Cross-Origin-Opener-Policy",
    "Referrer-Policy",
    "X-Content-Type-Options",
]
FIELDS = {"title": "x", "body": "y", "username": "carol", "password": "correct horse 9"}


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    """Every rule of the URL map."""
    app = create_app(str(tmp_path_factory.mktemp("rules")), SECRET_KEY="x")
    return list(app.url_map.iter_rules())


@pytest.fixture(scope="module")
def pages(rules):
    """A path for every address that can be read."""
    return [path_of(rule) for rule in rules if "GET" in rule.methods]


@pytest.fixture(scope="module")
def actions(rules):
    """A path for every address that takes a form, but that of a link that is over."""
    paths = [path_of(rule) for rule in rules if "POST" in rule.methods]
    return [path for path in paths if path != "/password/x"]


@pytest.fixture
def post(app, ann):
    """A post of ann's with a comment of hers, and a picture."""
    with app.app_context():
        db.session.add(Picture(name=SAMPLES["name"], author_id=2, webp=b"RIFF"))
        db.session.commit()
    path = ann.write(tags="kafka")
    ann.comment(path)
    return path


def path_of(rule: Rule) -> str:
    return re.sub(r"<(?:[^:>]+:)?(\w+)>", lambda match: str(SAMPLES[match[1]]), rule.rule)


def statuses(person, paths, **fields):
    return {path: person.send(path, **fields).status_code for path in paths}


def test_every_form_refuses_a_missing_token(owner, ann, post, actions):
    by_owner, by_ann = (statuses(p, actions, csrf_token="", **FIELDS) for p in (owner, ann))
    assert {path for path in actions if 400 not in (by_owner[path], by_ann[path])} == set()
    assert set(by_owner.values()) | set(by_ann.values()) == {400, 403, 404}
    assert owner.get(post).status_code == 200


def test_no_page_is_a_fault_for_anybody(nobody, owner, ann, bob, post, pages):
    everybody = (nobody, owner, ann, bob)
    answers = {person.get(path).status_code for person in everybody for path in pages}
    assert answers <= {200, 301, 303, 403, 404}


def test_every_answer_carries_the_headers(nobody, ann, post, pages, actions):
    answers = [person.get(path) for person in (nobody, ann) for path in [*pages, "/nowhere"]]
    answers += [ann.send(path, csrf_token="") for path in actions]
    lacking = [
        answer.request.path for answer in answers if not all(h in answer.headers for h in HEADERS)
    ]
    assert not lacking


def test_no_page_loads_from_elsewhere_or_runs_scripts(ann, nobody, post, pages):
    answers = [person.get(path) for person in (nobody, ann) for path in pages]
    texts = [answer.text for answer in answers if answer.mimetype == "text/html"]
    assert not re.findall(
        r"<script|<style| style=| on\w+=|<[^>]+ (?:src|href)=\"(?:https?:)?//", "".join(texts)
    )


def test_no_browser_stores_what_others_may_not_see(app, owner, ann, post, rules):
    private = [rule for rule in rules if hasattr(app.view_functions[rule.endpoint], PRIVATE)]
    paths = [path_of(rule) for rule in private]
    posted = [path_of(rule) for rule in private if "POST" in rule.methods]
    answers = [person.get(path) for person in (ann, owner) for path in paths]
    answers += [ann.send(path, csrf_token="") for path in posted]
    assert len(paths) > 8
    assert {answer.headers["Cache-Control"] for answer in answers} == {"private, no-store"}


def test_only_pages_for_one_person_are_private(nobody, ann, post):
    assert nobody.get(post).headers["Cache-Control"] == "no-cache"
    assert "Set-Cookie" not in nobody.get(post).headers
    assert ann.get(post).headers["Cache-Control"] == "private, no-cache"
    assert nobody.get("/login").headers["Cache-Control"] == "private, no-cache"
    assert "Cookie" in nobody.get("/").headers["Vary"]


def test_a_page_for_visitors_holds_nothing_personal(nobody, post):
    assert not re.search('csrf|method="post"', nobody.get(post).text + nobody.get("/").text)


def test_the_page_after_a_flash_is_private_once(ann):
    ann.write()
    assert "Your post is published." in ann.get("/").text
    assert "Your post is published." not in ann.get("/").text


def test_a_forged_host_reaches_no_link(app, ann, nobody, post):
    forged = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
    }
    pages = [
        nobody.get(path, headers=forged)
        for path in ("/", post, "/login", "/users/ann", "/posts/1/")
    ]
    assert "evil.example" not in "".join(page.text + str(page.headers) for page in pages)
    assert "Strict-Transport-Security" not in pages[0].headers


def test_other_hosts_are_refused_where_the_url_is_set(make_app):
    client = make_app(URL="https://blog.example/").test_client()
    assert client.get("/", base_url="http://blog.example:8000").status_code == 200
    assert client.get("/", base_url="http://evil.example").status_code == 400


def test_a_declared_proxy_is_believed(make_app):
    client = make_app(PROXIES=1).test_client()
    answer = client.get("/login", headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in answer.headers["Set-Cookie"]
    assert "Strict-Transport-Security" in answer.headers


def test_the_health_page_is_plain(app):
    answer = Person(app).get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")
