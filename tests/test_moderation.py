"""Comments that are held back, closed, refused."""

import re

import pytest
from conftest import PASSWORD, Person


@pytest.fixture
def moderated(request, make_app):
    """A blog with that moderation, its owner, and ann, who wrote a post."""
    app = make_app(MODERATION=request.param)
    owner = Person(app, "olga").sign_up()
    ann = Person(app, "ann").sign_up()
    return app, owner, ann, ann.write()


def shown(person, post):
    """The comments that the person reads under the post."""
    return re.findall(r"<p>((?:Spam|Fine|Link)[^<]*)", person.get(post).text)


def waiting(owner):
    return re.findall(r'action="(/owner/moderation/\d+)"', owner.get("/owner/moderation").text)


@pytest.mark.parametrize("moderated", ["first", "all"], indirect=True)
def test_a_comment_waits_unseen_by_all_but_its_writer_and_who_approves(moderated):
    app, owner, _, post = moderated
    bob, eve, nobody = Person(app, "bob").sign_up(), Person(app, "eve").sign_up(), Person(app)
    answer = bob.send("/posts/1/comments", body="Spam")
    assert answer.status_code == 303
    page = bob.get(post).text
    assert "waits for approval" in page
    assert shown(bob, post) == ["Spam"]
    assert shown(eve, post) == shown(nobody, post) == []
    assert "0 comments" in nobody.get("/").text
    assert "Spam" not in nobody.get("/posts/1/feed.xml").text
    assert eve.get("/comments/1/edit").status_code == 404
    assert "Moderation (1)" in owner.get("/").text
    assert owner.send(waiting(owner)[0], action="approve").location == "/owner/moderation"
    assert shown(nobody, post) == ["Spam"]
    assert "1 comment" in nobody.get("/").text
    assert "Moderation</a>" in owner.get("/").text


@pytest.mark.parametrize(
    ("moderated", "second"),
    [("first", ["Fine", "Fine 2"]), ("all", ["Fine"])],
    indirect=["moderated"],
)
def test_whom_one_approval_is_enough(moderated, second):
    app, owner, _, post = moderated
    bob = Person(app, "bob").sign_up()
    bob.comment(post, "Fine")
    owner.send(waiting(owner)[0], action="approve")
    bob.comment(post, "Fine 2")
    assert shown(Person(app), post) == second


@pytest.mark.parametrize("moderated", ["first", "all"], indirect=True)
def test_the_owner_and_the_author_need_not_wait(moderated):
    app, owner, ann, post = moderated
    owner.comment(post, "Fine")
    ann.comment(post, "Fine, too")
    assert shown(Person(app), post) == ["Fine", "Fine, too"]


@pytest.mark.parametrize(("moderated", "seen"), [("none", 2), ("first", 1)], indirect=["moderated"])
def test_many_links_wait_where_anything_does(moderated, seen):
    app, owner, _, post = moderated
    bob = Person(app, "bob").sign_up()
    bob.comment(post, "Fine")
    [owner.send(path, action="approve") for path in waiting(owner)]
    bob.comment(post, "Link https://a.example https://b.example https://c.example")
    assert len(shown(Person(app), post)) == seen


@pytest.mark.parametrize("moderated", ["first"], indirect=True)
def test_links_that_come_with_an_edit_wait_too(moderated):
    app, owner, _, post = moderated
    bob = Person(app, "bob").sign_up()
    bob.comment(post, "Fine")
    owner.send(waiting(owner)[0], action="approve")
    links = "Link https://a.example https://b.example https://c.example"
    assert bob.send("/comments/1/edit", body=links).status_code == 303
    assert shown(Person(app), post) == []


@pytest.mark.parametrize("moderated", ["all"], indirect=True)
def test_the_author_of_the_post_approves_and_others_do_not(moderated):
    app, _, ann, post = moderated
    bob, eve = Person(app, "bob").sign_up(), Person(app, "eve").sign_up()
    bob.comment(post, "Fine")
    assert 'action="/comments/1/approve"' in ann.get(post).text
    assert eve.send("/comments/1/approve").status_code == 404
    assert bob.send("/comments/1/approve").status_code == 403
    assert ann.send("/comments/1/approve").status_code == 303
    assert shown(Person(app), post) == ["Fine"]


@pytest.mark.parametrize("moderated", ["all"], indirect=True)
def test_the_owner_deletes_and_bans_and_gets_to_the_next(moderated):
    app, owner, _, post = moderated
    bob, eve = Person(app, "bob").sign_up(), Person(app, "eve").sign_up()
    bob.comment(post, "Spam 1")
    eve.comment(post, "Spam 2")
    eve.comment(post, "Spam 3")
    assert len(waiting(owner)) == 3
    owner.send(waiting(owner)[0], action="delete")
    assert len(waiting(owner)) == 2
    owner.send(waiting(owner)[0], action="ban")
    assert waiting(owner) == []
    assert "No comment waits." in owner.get("/owner/moderation").text
    assert eve.get("/drafts").status_code == 303
    assert owner.send("/owner/moderation/9", action="approve").status_code == 303


def test_a_post_can_take_no_more_comments(ann, bob, nobody, caplog):
    post = ann.write()
    bob.comment(post, "Early")
    ann.send("/posts/1/edit", title="A title", body="x", comments_closed="y")
    late = bob.send("/posts/1/comments", body="Too late")
    assert late.status_code == 403
    assert "This post takes no more comments." in late.text
    assert "Too late" in late.text
    page = bob.get(post).text
    assert "Early" in page
    assert 'name="body"' not in page
    assert "Log in to comment" not in nobody.get(post).text
    assert "checked" in ann.get("/posts/1/edit").text
    assert "Refused (Comments on the post are closed), by bob: 'Too late'" in caplog.text


def test_what_fills_in_the_hidden_field_is_refused_with_a_sentence(ann, bob, nobody, caplog):
    post = ann.write()
    answer = bob.send("/posts/1/comments", body="My words", website="http://spam.example")
    assert answer.status_code == 422
    assert "Please send it again." in answer.text
    assert "My words" in answer.text
    assert "spam.example" not in answer.text
    assert "No comments yet" in nobody.get(post).text
    fields = {"username": "automaton", "password": "long enough 1", "confirm": "long enough 1"}
    assert nobody.send("/signup", **fields, website="x").status_code == 422
    assert "My words" in caplog.text
    assert "automaton" in caplog.text


def test_nobody_meets_the_hidden_field(bob, ann):
    page = bob.get(ann.write()).text
    assert re.search(r'<div hidden><label>Leave this empty <input name="website"', page)


@pytest.mark.parametrize("moderated", ["first"], indirect=True)
def test_a_comment_on_ones_own_post_is_no_approval(moderated):
    app, _, _, post = moderated
    bob = Person(app, "bob").sign_up()
    bob.comment(bob.write("Bob's"), "Fine")
    bob.comment(post, "Spam")
    assert shown(Person(app), post) == []


@pytest.mark.parametrize("moderated", ["all"], indirect=True)
def test_what_waits_by_the_banned_is_approved_by_nobody(moderated):
    app, owner, ann, post = moderated
    Person(app, "bob").sign_up().comment(post, "Spam")
    owner.send("/owner/people/bob/ban")
    assert ann.send("/comments/1/approve").status_code == 404
    assert waiting(owner) == shown(Person(app), post) == []


@pytest.mark.parametrize("moderated", ["all"], indirect=True)
def test_what_waits_goes_with_the_account(moderated):
    app, owner, _, post = moderated
    bob = Person(app, "bob").sign_up()
    bob.comment(post, "Spam")
    bob.send("/account/delete", current=PASSWORD)
    assert shown(owner, post) == []


def test_closing_the_comments_is_a_change_to_notice(ann):
    ann.write()
    page = ann.get("/posts/1/edit").text
    version = re.search(r'name="version"[^>]* value="(\w+)"', page)[1]
    fields = {"title": "A title", "body": "x", "version": version}
    assert ann.send("/posts/1/edit", **fields, comments_closed="y").status_code == 303
    assert ann.send("/posts/1/edit", **fields).status_code == 409


def test_without_a_token_nothing_is_written_down(nobody, caplog):
    nobody.send("/signup", username="automaton", website="x", csrf_token="")
    assert "automaton" not in caplog.text


@pytest.mark.parametrize("moderated", ["all"], indirect=True)
@pytest.mark.parametrize("path", ["/owner/moderation/1", "/comments/1/approve"])
def test_only_what_was_read_is_approved(moderated, path):
    app, owner, _, post = moderated
    bob = Person(app, "bob").sign_up()
    bob.comment(post, "Fine")
    page = owner.get("/owner/moderation").text
    version = re.search(r'name="version" value="([^"]+)"', page)[1]
    assert f'value="{version}"' in owner.get(post).text
    bob.send("/comments/1/edit", body="Spam")
    owner.send(path, action="approve", version=version)
    assert "Read it again." in owner.get("/owner/moderation").text
    assert shown(Person(app), post) == []
    version = re.search(r'name="version" value="([^"]+)"', owner.get(post).text)[1]
    owner.send(path, action="approve", version=version)
    assert shown(Person(app), post) == ["Spam"]


@pytest.mark.parametrize("moderated", ["all"], indirect=True)
@pytest.mark.parametrize("path", ["/comments/1/approve", "/owner/moderation/1"])
def test_what_was_approved_of_the_banned_is_shown_when_they_are_back(moderated, path):
    app, owner, _, post = moderated
    Person(app, "bob").sign_up().comment(post, "Fine")
    owner.send(path, action="approve")
    owner.send("/owner/people/bob/ban")
    assert shown(Person(app), post) == []
    owner.send("/owner/people/bob/unban")
    assert shown(Person(app), post) == ["Fine"]


@pytest.mark.parametrize("moderated", ["all"], indirect=True)
def test_a_page_with_a_comment_that_waits_is_stored_by_no_browser(moderated):
    app, owner, ann, post = moderated
    bob = Person(app, "bob").sign_up()
    bob.comment(post, "Spam")
    headers = [person.get(post).headers["Cache-Control"] for person in (bob, ann, owner)]
    assert headers == ["private, no-store"] * 3
    assert Person(app).get(post).headers["Cache-Control"] == "no-cache"
