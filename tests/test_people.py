"""Roles, invitations, links for a new password, bans: what the owner does with accounts."""

import io
import re
import zipfile
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import sqlalchemy as sa
from conftest import PASSWORD, Person, on_both, on_postgresql

import app as app_module
from core import security
from core.database import db, now
from extras import account, cache
from models import Post, Session, User

NEW = "another horse 9"


def link(answer):
    """The path of the link that a page shows."""
    assert answer.status_code == 200, answer.text
    return re.search(r"http://localhost(/[^<]+)", answer.text)[1]


def act(owner, action, name, **fields):
    return owner.send(f"/owner/people/{name}/{action}", **fields)


def sign_up(person, path="/signup"):
    fields = {"username": person.name, "password": PASSWORD, "confirm": PASSWORD}
    fields["csrf_token"] = person.token()
    person.known_token = ""
    return person.client.post(path, data=fields)


def log_in(app, name, password=PASSWORD):
    return Person(app, name).log_in(password=password).status_code


def test_the_owner_finds_everybody(owner, ann, bob):
    page = owner.get("/owner/people").text
    assert re.findall(r'href="/owner/people/(\w+)"', page) == ["bob", "ann", "olga"]


@pytest.mark.parametrize(("role", "status"), [("member", 403), ("author", 200), ("owner", 200)])
def test_a_role_says_what_one_may_do(owner, ann, role, status):
    assert act(owner, "role", "ann", role=role).status_code == 303
    assert ann.get("/posts/new").status_code == status
    assert (ann.get("/owner/people").status_code == 200) == (role == "owner")


def test_a_role_that_does_not_exist_is_refused(owner, ann):
    answer = act(owner, "role", "ann", role="king")
    assert answer.status_code == 400
    assert "There is no such role." in answer.text


def test_the_last_owner_stays(app, owner, ann):
    answer = act(owner, "role", "olga", role="author")
    assert answer.status_code == 403
    assert "only owner" in answer.text
    leaving = owner.send("/account/delete", current=PASSWORD)
    assert leaving.status_code == 403
    assert act(owner, "ban", "olga").status_code == 403
    act(owner, "role", "ann", role="owner")
    assert act(owner, "role", "olga", role="author").status_code == 303
    assert owner.get("/owner/people").status_code == 404


@pytest.mark.parametrize("mode", ["invite", "closed"])
def test_where_sign_up_is_not_open_the_first_account_is_made_all_the_same(make_app, mode):
    app = make_app(SIGNUP=mode)
    Person(app, "olga").sign_up()
    stranger = Person(app, "eve")
    assert stranger.get("/signup").status_code == 403
    assert sign_up(stranger).status_code == 403
    assert "Sign Up" not in stranger.get("/").text


def test_an_invitation_works_once(make_app):
    app = make_app(SIGNUP="invite")
    owner = Person(app, "olga").sign_up()
    path = link(owner.send("/owner/people", may="comment"))
    assert sign_up(Person(app, "ann"), path).status_code == 303
    again = sign_up(Person(app, "bob"), path)
    assert again.status_code == 403
    assert "an invitation, which works once" in again.text
    assert log_in(app, "bob") == 422
    assert Person(app, "ann").log_in().status_code == 303


def test_an_invitation_says_what_the_account_may(make_app):
    app = make_app(SIGNUP="invite")
    owner = Person(app, "olga").sign_up()
    sign_up(ann := Person(app, "ann"), link(owner.send("/owner/people", may="comment")))
    sign_up(bob := Person(app, "bob"), link(owner.send("/owner/people", may="post")))
    assert ann.get("/posts/new").status_code == 403
    assert bob.get("/posts/new").status_code == 200


@pytest.mark.parametrize("token", ["", "forged", "e30.x", "é"])
def test_a_forged_invitation_is_none(make_app, token):
    app = make_app(SIGNUP="invite")
    Person(app, "olga").sign_up()
    answer = Person(app, "eve").get(f"/signup?invitation={token}")
    assert answer.status_code == 403
    assert "needs an invitation" in answer.text


def test_a_used_invitation_to_an_open_blog_is_as_good_as_none(make_app):
    app = make_app(NEW_ACCOUNTS_MAY="comment")
    owner = Person(app, "olga").sign_up()
    path = link(owner.send("/owner/people", may="post"))
    people = [Person(app, "ann"), Person(app, "bob")]
    assert [sign_up(person, path).status_code for person in people] == [303, 303]
    assert [person.get("/posts/new").status_code for person in people] == [200, 403]


def test_an_invitation_ends(make_app, monkeypatch):
    app = make_app(SIGNUP="invite")
    owner = Person(app, "olga").sign_up()
    path = link(owner.send("/owner/people"))
    later = datetime.now(UTC) + timedelta(days=8)
    monkeypatch.setattr(security, "now", lambda: later)
    assert Person(app, "ann").get(path).status_code == 403


def test_an_invitation_does_not_open_what_is_closed(make_app):
    app = make_app(SIGNUP="closed")
    owner = Person(app, "olga").sign_up()
    path = link(owner.send("/owner/people"))
    assert sign_up(Person(app, "ann"), path).status_code == 403


def test_a_reset_link_sets_a_password_once_and_ends_every_session(app, owner, ann, nobody):
    path = link(act(owner, "reset", "ann"))
    assert nobody.send(path, password=NEW, confirm="x").status_code == 422
    assert nobody.send(path, password="ann", confirm="ann").status_code == 422
    assert nobody.send(path, password=NEW, confirm=NEW).location == "/login"
    assert ann.get("/drafts").status_code == 303
    assert log_in(app, "ann") == 422
    assert log_in(app, "ann", NEW) == 303
    again = nobody.send(path, password=PASSWORD, confirm=PASSWORD)
    assert again.status_code == 404
    assert "has been used, or its time is over" in again.text


def test_a_reset_link_ends(owner, ann, nobody, monkeypatch):
    path = link(act(owner, "reset", "ann"))
    later = datetime.now(UTC) + timedelta(minutes=61)
    monkeypatch.setattr(security, "now", lambda: later)
    assert nobody.get(path).status_code == 404


def test_a_link_of_one_kind_is_none_of_the_other(make_app):
    app = make_app(SIGNUP="invite")
    owner = Person(app, "olga").sign_up()
    token = link(owner.send("/owner/people")).partition("invitation=")[2]
    assert owner.get(f"/password/{token}").status_code == 404


def test_a_ban_puts_out_and_hides_and_its_end_brings_back(app, owner, ann, bob, nobody):
    post = bob.write("Spam", tags="spam")
    own = ann.write()
    bob.comment(own, "Buy this")
    assert act(owner, "ban", "bob").status_code == 303
    assert bob.get("/drafts").status_code == 303
    assert log_in(app, "bob") == 422
    assert nobody.get(post).status_code == 404
    listed = [nobody.get(path).text for path in ("/", "/tags", "/archive", "/feed.xml", own)]
    assert "Spam" not in "".join(listed)
    assert "Buy this" not in "".join(listed)
    assert "0 comments" in nobody.get("/users/ann").text
    assert act(owner, "unban", "bob").status_code == 303
    assert log_in(app, "bob") == 303
    assert nobody.get(post).status_code == 200
    assert "Buy this" in nobody.get(own).text
    assert "Spam" in nobody.get("/tags/spam").text


LISTS = "/ /feed.xml /feed.json /archive /tags /sitemap.xml /search?q=zebra /posts/1/of-ann "
LISTS += "/posts/1/feed.xml /users/ann"


@on_both
def test_a_ban_hides_on_every_list_what_it_brings_back(owner, ann, bob, nobody):
    ann.write("Of ann", tags="shared")
    bob.write("Zebra", "A zebra", tags="zebra, shared")
    bob.comment("/posts/1/of-ann", "Zebra!")
    own = ("/posts/2/zebra", "/posts/2/feed.xml", "/tags/zebra", "/tags/zebra/feed.xml")

    def shown():
        lists = [path for path in LISTS.split() if "zebra" in nobody.get(path).text.lower()]
        return lists, [path for path in own if nobody.get(path).status_code == 200]

    before = shown()
    assert len(before[0]) == len(LISTS.split()) - 1  # of ann's own posts
    assert before[1] == list(own)
    assert "1 comment" in nobody.get("/users/ann").text
    assert "shared</a> 2" in nobody.get("/tags").text
    act(owner, "ban", "bob")
    assert shown() == (["/search?q=zebra"], [])  # which repeats the word
    assert "0 comments" in nobody.get("/users/ann").text
    assert "shared</a> 1" in nobody.get("/tags").text
    act(owner, "unban", "bob")
    assert shown() == before


@on_both
def test_what_the_banned_have_scheduled_does_not_appear(app, owner, bob, nobody):
    bob.write("Zebra", publish_at="2999-01-01T00:00")
    act(owner, "ban", "bob")
    with app.app_context():
        assert db.session.scalar(cache.next_due()) is None
        db.session.execute(sa.update(Post).values(published_at=now()))
        db.session.commit()
    assert "Zebra" not in nobody.get("/").text
    assert nobody.get("/posts/1/zebra").status_code == 404


def test_a_draft_stays_a_draft_through_a_ban(owner, bob, nobody):
    path = bob.send("/posts/new", title="x", body="y", action="draft").location
    act(owner, "ban", "bob")
    act(owner, "unban", "bob")
    assert nobody.get(path).status_code == 404


def test_everything_of_an_account_is_removed_after_a_question(owner, ann, bob, nobody):
    post, own = bob.write("Spam"), ann.write()
    bob.comment(own, "Buy this")
    ann.comment(post, "No")
    assert "Remove everything?" in owner.get("/owner/people/bob/remove").text
    assert nobody.get(post).status_code == 200
    assert act(owner, "remove", "bob").status_code == 303
    assert nobody.get(post).status_code == 404
    assert "Buy this" not in nobody.get(own).text
    assert bob.get("/drafts").status_code == 200


def test_one_changes_ones_password(app, ann):
    other = Person(app, "ann")
    other.log_in()
    wrong = ann.send("/account/password", current="x", password=NEW, confirm=NEW)
    assert wrong.status_code == 422
    assert "This is not your password." in wrong.text
    answer = ann.send("/account/password", current=PASSWORD, password=NEW, confirm=NEW)
    assert answer.status_code == 303
    assert ann.get("/drafts").status_code == 200
    assert other.get("/drafts").status_code == 303
    assert log_in(app, "ann", NEW) == 303


def test_one_signs_out_everywhere(app, ann):
    other = Person(app, "ann")
    other.log_in()
    assert ann.send("/account/sessions").status_code == 303
    assert ann.get("/drafts").status_code == 303
    assert other.get("/drafts").status_code == 303
    with app.app_context():
        ids = db.session.scalars(db.select(Session.user_id)).all()
        assert db.session.scalar(User.named("ann")).id not in ids


@pytest.mark.parametrize(
    ("fields", "words"), [({}, "deleted account"), ({"comments": "y"}, "No comments yet")]
)
def test_one_deletes_ones_account(app, ann, bob, nobody, fields, words):
    post = ann.write()
    own = bob.write("Mine")
    bob.comment(post, "A comment.")
    assert bob.send("/account/delete", current="x", **fields).status_code == 422
    assert bob.send("/account/delete", current=PASSWORD, **fields).status_code == 303
    assert bob.get("/drafts").status_code == 303
    assert nobody.get(own).status_code == 404
    assert words in nobody.get(post).text
    assert "bob" not in nobody.get(post).text
    assert nobody.get("/users/bob").status_code == 404
    assert log_in(app, "bob") == 422
    assert Person(app, "bob").sign_up()


def test_one_downloads_what_is_ones_own(ann, bob):
    ann.comment(ann.write("Mine"), "My comment")
    bob.write("Not mine")
    answer = ann.get("/account/export")
    assert answer.mimetype == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        text = "".join(archive.read(name).decode() for name in archive.namelist())
    assert "Mine" in text
    assert "My comment" in text
    assert "Not mine" not in text
    assert "scrypt" not in text


def test_no_error_page_and_no_ledger_holds_a_password(app, owner, ann):
    secret = "hidden horse 7"
    fields = {"current": secret, "password": secret, "confirm": secret}
    pages = [ann.send("/account/password", **fields, csrf_token="")]
    pages += [ann.send("/account/delete", current=secret) for _ in range(31)]
    assert pages[-1].status_code == 429
    assert secret not in "".join(page.text for page in pages)
    assert secret not in owner.get("/owner/moderation").text


def test_nobody_takes_the_name_of_a_deleted_account(app, owner, ann):
    eve = Person(app, "deleted-2")
    assert sign_up(eve).status_code == 422
    assert ann.send("/account/delete", current=PASSWORD).status_code == 303


def test_an_invitation_stays_used_when_its_account_is_deleted(make_app):
    app = make_app(SIGNUP="invite")
    owner = Person(app, "olga").sign_up()
    path = link(owner.send("/owner/people"))
    sign_up(ann := Person(app, "ann"), path)
    assert ann.send("/account/delete", current=PASSWORD, comments="y").status_code == 303
    assert sign_up(Person(app, "eve"), path).status_code == 403


def test_a_deleted_account_is_beyond_the_owner(owner, ann, bob, nobody):
    ann.comment(bob.write())
    ann.send("/account/delete", current=PASSWORD)
    name = re.search("deleted-[0-9a-f-]+", owner.get("/owner/people").text)[0]
    answers = [act(owner, action, name) for action in ("unban", "reset", "role", "ban")]
    assert {answer.status_code for answer in answers} == {404}
    assert nobody.get(f"/users/{name}").status_code == 404


def test_who_may_not_post_any_more_publishes_nothing(owner, ann):
    path = ann.send("/posts/new", title="x", body="y", action="draft").location
    act(owner, "role", "ann", role="member")
    answer = ann.send("/posts/1/edit", title="x", body="My words")
    assert answer.status_code == 403
    assert "My words" in answer.text
    assert owner.get(path).status_code == 200


def test_a_banned_author_shows_nothing(owner, ann, nobody):
    ann.send("/account", display_name="Cheap watches", about="https://spam.example")
    ann.write()
    act(owner, "ban", "ann")
    assert nobody.get("/users/ann").status_code == 404
    edit = owner.send("/posts/1/edit", title="x", body="y")
    assert edit.status_code == 403
    assert "Lift the ban" in edit.text
    act(owner, "unban", "ann")
    assert "Cheap watches" in nobody.get("/users/ann").text
    act(owner, "remove", "ann")
    assert "Cheap watches" not in nobody.get("/users/ann").text


def test_a_password_that_was_changed_meanwhile_is_none(app, ann, monkeypatch):
    def check(stored, password):
        with app.app_context():
            db.session.scalar(User.named("ann")).password_hash = "changed"
            db.session.commit()
        return True

    monkeypatch.setattr(security, "check_password_hash", check)
    assert log_in(app, "ann") == 422


@pytest.mark.parametrize("number", [2**31, 10**20])
def test_large_numbers_lead_nowhere(owner, number):
    assert owner.get(f"/owner/people?before={number}").status_code == 200
    assert owner.send(f"/owner/moderation/{number}").status_code == 404


def test_who_is_late_with_an_invitation_reads_that_it_was_used(make_app, monkeypatch):
    app = make_app(SIGNUP="invite")
    path = link(Person(app, "olga").sign_up().send("/owner/people"))
    sign_up(Person(app, "ann"), path)
    claims = app_module.security.verify
    monkeypatch.setattr(app_module, "read_invitation", lambda token: claims("invitation", token))
    answer = sign_up(Person(app, "bob"), path)
    assert answer.status_code == 403
    assert "an invitation, which works once" in answer.text


@on_postgresql
@pytest.mark.parametrize("path", ["/posts/new", "/posts/1/edit", "/posts/2/comments"])
def test_what_is_saved_at_the_moment_of_a_ban_is_not_shown(owner, ann, nobody, database_url, path):
    ann.send("/posts/new", title="Draft", body="x", action="draft")
    owner.write("Of the owner")
    with psycopg.connect(database_url) as other:
        other.execute("UPDATE users SET banned_at = now() WHERE username = 'ann'")
        assert ann.send(path, title="Late", body="Typed text.").status_code == 303
    pages = [nobody.get(page).text for page in ("/", "/posts/2/of-the-owner", "/feed.xml")]
    assert "Typed text." not in "".join(pages)
    act(owner, "unban", "ann")
    pages = [nobody.get(page).text for page in ("/", "/posts/2/of-the-owner", "/feed.xml")]
    assert "Typed text." in "".join(pages)


def test_a_password_that_is_set_meanwhile_is_not_overwritten(app, ann, monkeypatch):
    hash_password = security.hash_password

    def reset_meanwhile(password):
        hashed = hash_password(password)
        with db.engine.begin() as other:
            other.execute(sa.update(User).values(password_hash="set by a reset link"))
        return hashed

    monkeypatch.setattr(account, "hash_password", reset_meanwhile)
    fields = {"current": PASSWORD, "password": NEW, "confirm": NEW}
    answer = ann.send("/account/password", **fields)
    assert answer.status_code == 422
    assert "not your password any more" in answer.text
    with app.app_context():
        assert set(db.session.scalars(sa.select(User.password_hash))) == {"set by a reset link"}


def test_an_invitation_that_is_over_says_so_where_none_is_needed(nobody):
    answer = nobody.get("/signup?invitation=forged")
    assert answer.status_code == 200
    assert "This invitation has been used, or its time is over." in answer.text
    assert "invitation" not in nobody.get("/signup").text
