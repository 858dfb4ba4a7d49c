"""Who gets what: one line for each address, one column for each kind of person."""

import pytest
from conftest import Person

from app import create_app

EVERYBODY = "visitor member author owner banned".split()
# What GET answers to a visitor, a member, the author of the post, the owner, and somebody banned.
PAGES = {
    "/": "200 200 200 200 200",
    "/feed.xml": "200 200 200 200 200",
    "/feed.json": "200 200 200 200 200",
    "/users/ann": "200 200 200 200 200",
    "/users/ann/feed.xml": "200 200 200 200 200",
    "/tags": "200 200 200 200 200",
    "/tags/kafka": "200 200 200 200 200",
    "/tags/kafka/feed.xml": "200 200 200 200 200",
    "/search": "200 200 200 200 200",
    "/archive": "200 200 200 200 200",
    "/sitemap.xml": "200 200 200 200 200",
    "/sitemap-1.xml": "200 200 200 200 200",
    "/robots.txt": "200 200 200 200 200",
    "/healthz": "200 200 200 200 200",
    "/static/style.css": "200 200 200 200 200",
    "/pictures/none": "404 404 404 404 404",
    "/posts/1/": "301 301 301 301 301",
    "/posts/1": "301 301 301 301 301",
    "/posts/1/a-title": "200 200 200 200 200",
    "/posts/1/a-title.md": "200 200 200 200 200",
    "/posts/1/feed.xml": "200 200 200 200 200",
    "/posts/2/draft": "404 404 200 200 404",
    "/posts/2/draft.md": "404 404 200 200 404",
    "/posts/2/edit": "303 404 200 200 303",
    "/posts/new": "303 403 200 200 303",
    "/posts/1/edit": "303 403 200 200 303",
    "/posts/1/delete": "303 403 200 200 303",
    "/drafts": "303 200 200 200 303",
    "/comments/1": "303 303 303 303 303",
    "/comments/1/edit": "303 200 403 403 303",
    "/comments/1/delete": "303 200 200 200 303",
    "/signup": "200 200 200 200 200",
    "/login": "200 200 200 200 200",
    "/password/forged": "404 404 404 404 404",
    "/account": "303 200 200 200 303",
    "/account/password": "303 200 200 200 303",
    "/account/delete": "303 200 200 200 303",
    "/account/export": "303 200 200 200 303",
    "/privacy": "200 200 200 200 200",
    "/owner/people": "404 404 404 200 404",
    "/owner/people/bob": "404 404 404 200 404",
    "/owner/people/bob/remove": "404 404 404 200 404",
    "/owner/moderation": "404 404 404 200 404",
}
# What POST answers, in this order, with a valid token and no other field.
FORMS = {
    "/posts/new": "400 403 422 422 400",
    "/posts/1/edit": "400 403 422 422 400",
    "/posts/1/comments": "400 422 422 422 400",
    "/posts/2/comments": "400 404 404 404 400",
    "/comments/1/edit": "400 422 403 403 400",
    "/comments/1/approve": "400 403 303 303 400",
    "/signup": "422 422 422 422 422",
    "/login": "422 422 422 422 422",
    "/password/forged": "404 404 404 404 404",
    "/account": "400 303 303 303 400",
    "/account/password": "400 422 422 422 400",
    "/account/delete": "400 422 422 422 400",
    "/account/pictures": "400 303 303 303 400",
    "/owner/people": "404 404 404 200 404",
    "/owner/people/bob/role": "404 404 404 400 404",
    "/owner/people/bob/ban": "404 404 404 303 404",
    "/owner/people/bob/unban": "404 404 404 303 404",
    "/owner/people/bob/remove": "404 404 404 303 404",
    "/owner/people/bob/reset": "404 404 404 200 404",
    "/owner/moderation/1": "404 404 404 303 404",
    "/comments/1/delete": "400 303 303 404 400",
    "/posts/1/delete": "400 403 303 303 400",
    "/account/sessions": "400 303 303 303 400",
    "/logout": "303 400 400 400 303",
}


@pytest.fixture
def cast(app, owner, ann, bob, nobody):
    """One person of each kind; ann wrote two posts, one a draft, and bob a comment."""
    post = ann.write(tags="kafka")
    ann.send("/posts/new", title="Draft", body="Later", action="draft")
    owner.send("/owner/people/bob/role", role="member")
    bob.comment(post)
    banned = Person(app, "eve").sign_up()
    owner.send("/owner/people/eve/ban")
    return dict(zip(EVERYBODY, (nobody, bob, ann, owner, banned), strict=True))


def column(table, kind):
    """The path and the status for that kind of person, line by line."""
    return {path: int(row.split()[EVERYBODY.index(kind)]) for path, row in table.items()}


@pytest.mark.parametrize("kind", EVERYBODY)
def test_what_pages_answer(cast, kind):
    answers = {path: cast[kind].get(path).status_code for path in PAGES}
    assert answers == column(PAGES, kind)


@pytest.mark.parametrize("kind", EVERYBODY)
def test_what_forms_answer(cast, kind):
    answers = {path: cast[kind].send(path).status_code for path in FORMS}
    assert answers == column(FORMS, kind)


def test_no_address_is_left_out(tmp_path):
    adapter = create_app(str(tmp_path), SECRET_KEY="x").url_map.bind("localhost")
    rules = {(m, r.rule) for r in adapter.map.iter_rules() for m in r.methods & {"GET", "POST"}}
    asked = [("GET", path) for path in PAGES] + [("POST", path) for path in FORMS]
    met = {(m, adapter.match(path, method=m, return_rule=True)[0].rule) for m, path in asked}
    assert rules - met == set()


@pytest.mark.parametrize(
    ("path", "status"), [("/owner/people/ann/ban", 405), ("/owner/nothing", 404), ("/owner/", 404)]
)
def test_what_the_owner_has_is_nobody_elses_to_know(owner, ann, nobody, path, status):
    assert [person.get(path).status_code for person in (owner, ann, nobody)] == [status, 404, 404]
