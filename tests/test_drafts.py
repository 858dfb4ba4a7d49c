"""Drafts, scheduled posts, previews, and two people who edit one post."""

import re
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from conftest import Person

from core.database import db
from models import Post

SECRET = "Not yet for readers"
SOON = "2999-01-01T12:00"


def draft(person, action="draft", **fields):
    """Save a post of that text; its path."""
    fields = {"title": SECRET, "body": f"{SECRET}.", "action": action} | fields
    answer = person.send("/posts/new", **fields)
    assert answer.status_code == 303, answer.text
    return answer.location


def in_days(days):
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M")


def version(page):
    return re.search(r'name="version"[^>]* value="(\w+)"', page.text)[1]


def age(app, title, days):
    """Publish the post of that title that many days earlier."""
    with app.app_context():
        post = db.session.scalar(sa.select(Post).where(Post.title == title))
        post.published_at -= timedelta(days=days)
        db.session.commit()


@pytest.fixture(params=["draft", "scheduled"])
def hidden(request, ann):
    """The path of a post of ann's that is not published, between two that are."""
    ann.write("Before", tags="shared")
    options = {"draft": {}, "scheduled": {"action": "publish", "publish_at": in_days(2)}}
    path = draft(ann, **options[request.param], tags="shared, concealed")
    ann.write("After", tags="shared")
    return path


LISTS = [
    *("/", "/users/ann", "/drafts", "/tags", "/tags/shared", "/archive", "/archive?year=2026"),
    *("/search?q=not+yet", "/search?q=readers", "/search?q=concealed", "/posts/1/", "/posts/3/"),
    *("/feed.xml", "/feed.json", "/users/ann/feed.xml", "/tags/shared/feed.xml"),
    *("/posts/1/feed.xml", "/sitemap.xml", "/sitemap-1.xml", "/account"),
]


def test_no_list_shows_others_what_is_not_published(bob, nobody, hidden):
    pages = [person.get(path, follow_redirects=True) for path in LISTS for person in (bob, nobody)]
    assert {page.status_code for page in pages} == {200}
    leak = re.compile("not.yet.for.readers|posts/2/|tags/concealed", re.IGNORECASE)
    assert [page.request.path for page in pages if leak.search(page.text)] == []


def test_nobody_else_sees_what_is_not_published(app, ann, bob, nobody, hidden):
    own = [hidden, f"{hidden}.md", "/posts/2/", "/posts/2/edit", "/posts/2/delete"]
    own += ["/posts/2/feed.xml", "/tags/concealed", "/tags/concealed/feed.xml"]
    assert {bob.get(path).status_code for path in own} == {404}
    assert {nobody.get(path).status_code for path in own} == {404, 303}
    assert bob.send("/posts/2/comments", body="x").status_code == 404
    assert bob.send("/posts/2/edit", title="x", body="y").status_code == 404
    assert bob.send("/posts/2/delete").status_code == 404


@pytest.mark.parametrize("who", ["ann", "owner"])
def test_its_author_and_the_owner_read_and_edit_it(request, hidden, who):
    somebody = request.getfixturevalue(who)
    assert SECRET in somebody.get(hidden).text
    assert SECRET in somebody.get(f"{hidden}.md").text
    assert SECRET in somebody.get("/posts/2/edit").text
    assert SECRET not in somebody.get("/").text
    assert 'name="body"' not in somebody.get(hidden).text


def test_drafts_lists_ones_own(ann, owner, hidden):
    assert SECRET in ann.get("/drafts").text
    assert SECRET not in owner.get("/drafts").text


def test_a_draft_is_published(ann, nobody):
    path = draft(ann)
    assert "Draft by" in re.sub(r"\s+", " ", ann.get(path).text)
    ann.send("/posts/1/edit", title=SECRET, body="Now.", action="publish")
    page = nobody.get(path).text
    assert f"{datetime.now(UTC):%Y %B %d}</time>" in page
    assert "updated on" not in page


def test_the_first_button_of_the_form_is_what_enter_presses(ann):
    page = ann.get("/posts/new").text.partition("<main")[2]
    first = re.search("<button[^>]*>", page)[0]
    assert 'value="save"' in first
    assert 'tabindex="-1"' in first


@pytest.mark.parametrize("publish_at", ["", SOON])
def test_enter_in_a_new_post_or_a_draft_saves_a_draft(ann, nobody, publish_at):
    fields = {"title": "Half", "body": "x", "action": "save", "publish_at": publish_at}
    path = ann.send("/posts/new", **fields).location
    assert "Your draft is saved." in ann.get(path).text
    assert ann.send("/posts/1/edit", **fields | {"title": "More"}).status_code == 303
    assert "More" in ann.get("/drafts").text
    assert nobody.get("/posts/1/more").status_code == 404


@pytest.mark.parametrize("publish_at", ["", SOON])
def test_enter_keeps_a_scheduled_post_scheduled(ann, nobody, publish_at):
    fields = {"title": "Plan", "body": "x"}
    ann.send("/posts/new", **fields, action="publish", publish_at=SOON)
    fields |= {"title": "Changed", "action": "save", "publish_at": publish_at}
    path = ann.send("/posts/1/edit", **fields).location
    page = ann.get(path).text
    assert "Your post is scheduled." in page
    assert "To be published" in page
    assert nobody.get(path).status_code == 404


def test_a_time_that_is_not_sent_is_none(ann, nobody):
    ann.send("/posts/new", title="Plan", body="x", action="publish", publish_at=SOON)
    assert ann.send("/posts/1/edit", title="Now", body="x").status_code == 303
    assert "Now" in nobody.get("/").text


def test_enter_saves_a_public_post(ann, nobody):
    ann.write("Before")
    path = ann.send("/posts/1/edit", title="After", body="x", action="save").location
    assert "Your changes are saved." in ann.get(path).text
    assert "After" in nobody.get("/").text


def test_a_scheduled_post_appears_by_itself(app, ann, nobody):
    path = draft(ann, action="publish", publish_at=in_days(2))
    assert "To be published on" in re.sub(r"\s+", " ", ann.get(path).text)
    assert in_days(2)[:10] in ann.get("/posts/1/edit").text
    age(app, SECRET, days=3)
    assert SECRET in nobody.get("/").text
    assert nobody.get(path).status_code == 200


def test_a_published_post_is_unpublished_and_keeps_its_comments(ann, bob, nobody):
    path = ann.write(SECRET)
    bob.comment(path, "Still here.")
    ann.send("/posts/1/edit", title=SECRET, body="x", action="draft")
    assert nobody.get(path).status_code == 404
    assert bob.get("/comments/1/edit").status_code == 404
    ann.send("/posts/1/edit", title=SECRET, body="x", action="publish")
    assert "Still here." in nobody.get(path).text


def test_saving_a_published_post_keeps_its_date(app, ann, nobody):
    path = ann.write("Old")
    age(app, "Old", days=40)
    before = re.search('<time datetime="[^"]+">', nobody.get(path).text)[0]
    ann.send("/posts/1/edit", title="Old", body="Changed.", action="publish", publish_at="")
    assert before in nobody.get(path).text


def test_the_time_is_in_the_zone_of_the_blog(make_app):
    app = make_app(TIMEZONE="America/New_York")
    olga = Person(app, "olga").sign_up()
    draft(olga, action="publish", publish_at="2031-01-02T03:04")
    with app.app_context():
        at = db.session.get(Post, 1).published_at
    assert at == datetime(2031, 1, 2, 8, 4, tzinfo=UTC)
    assert 'value="2031-01-02T03:04"' in olga.get("/posts/1/edit").text


@pytest.mark.parametrize(
    "at",
    [
        *("tomorrow", "2031-13-01T00:00", "9999-12-31T23:59", "0001-01-01T00:00", "2031-01-01"),
        "2031-03-30T02:30",
    ],
)
def test_a_time_that_cannot_be_is_refused_and_comes_back(make_app, at):
    olga = Person(make_app(TIMEZONE="Europe/Berlin"), "olga").sign_up()
    answer = olga.send("/posts/new", title="x", body="My text", publish_at=at)
    assert answer.status_code == 422
    assert "My text" in answer.text
    assert at in answer.text
    assert 'aria-invalid="true"' in answer.text


def test_an_hour_that_comes_twice_is_taken(make_app):
    olga = Person(make_app(TIMEZONE="Europe/Berlin"), "olga").sign_up()
    assert draft(olga, action="publish", publish_at="2031-10-26T02:30")


def test_a_preview_saves_nothing_and_loses_nothing(app, ann):
    fields = {"title": "Mine", "body": "*Nice*", "publish_at": in_days(1), "action": "preview"}
    page = ann.send("/posts/new", **fields)
    assert page.status_code == 200
    assert "<em>Nice</em>" in page.text
    assert 'value="Mine"' in page.text
    assert "*Nice*</textarea>" in page.text
    assert fields["publish_at"] in page.text
    with app.app_context():
        assert not db.session.scalar(sa.select(sa.func.count(Post.id)))


def test_an_edit_is_previewed(ann, nobody):
    path = ann.write("Before", "Old text.")
    page = ann.send("/posts/1/edit", title="After", body="**New**", action="preview")
    assert "<strong>New</strong>" in page.text
    assert "Old text." in nobody.get(path).text
    assert ann.send("/posts/1/edit", title="x", body=" ", action="preview").status_code == 422


@pytest.mark.parametrize("action", ["publish", "draft"])
def test_a_second_editor_sees_both_texts_and_decides(ann, owner, nobody, action):
    path = ann.write("Shared", "First.")
    form = ann.get("/posts/1/edit")
    preview = {"title": "Shared", "body": "Ann's.", "version": version(form), "action": "preview"}
    previewed = ann.send("/posts/1/edit", **preview)
    owner.send("/posts/1/edit", title="Shared", body="Olga's.", version=version(form))
    mine = {"title": "Shared", "body": "Ann's.", "action": action}
    page = ann.send("/posts/1/edit", **mine, version=version(previewed))
    assert page.status_code == 409
    assert "Ann&#39;s.</textarea>" in page.text
    assert "Olga&#39;s.</pre>" in page.text
    assert "Olga&#39;s." in nobody.get(path).text
    assert ann.send("/posts/1/edit", **mine, version=version(page)).status_code == 303
    assert "Ann" in ann.get(path).text


def test_markdown_is_served_as_typed(ann, nobody):
    path = ann.write("My post", "*As* typed.\n\n- é")
    answer = nobody.get(f"{path}.md")
    assert answer.text == "*As* typed.\n\n- é"
    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert nobody.get("/posts/1/other.md").location == f"{path}.md"
    assert nobody.get("/posts/9/x.md").status_code == 404


def test_a_post_leads_to_its_neighbours(ann, nobody):
    paths = [ann.write(title) for title in ("One", "Two", "Three")]
    links = [re.findall(r'dir="auto">(← .+?|.+? →)</a>', nobody.get(path).text) for path in paths]
    assert links == [["Two →"], ["← One", "Three →"], ["← Two"]]


def test_a_conflict_shows_all_that_was_saved_meanwhile(ann, owner):
    ann.write()
    old = version(ann.get("/posts/1/edit"))
    owner.send("/posts/1/edit", title="A title", body="Theirs", tags="theirs", action="draft")
    page = ann.send("/posts/1/edit", title="A title", body="Mine", version=old)
    assert page.status_code == 409
    meanwhile = page.text.partition("What was saved meanwhile")[2]
    assert "Tags: theirs" in meanwhile
    assert "Draft" in meanwhile
    assert "Theirs" in meanwhile


def field(page, name):
    """The `<input>` of that name."""
    return re.search(rf'<input [^>]*name="{name}"[^>]*>', page.text)[0]


@pytest.mark.parametrize("action", ["draft", "save"])
def test_a_draft_keeps_the_date_it_was_given(ann, action):
    path = draft(ann, action=action, publish_at=SOON)
    assert f'value="{SOON}"' in field(ann.get("/posts/1/edit"), "publish_at")
    for page in (ann.get("/drafts").text, ann.get(path).text):
        assert "Draft, dated <time" in page
        assert "2999 January 01" in page


def test_a_scheduled_post_becomes_a_draft_and_back_with_its_date(ann, nobody):
    path = draft(ann, action="publish", publish_at=SOON)
    ann.send("/posts/1/edit", title="Plan", body="x", action="draft", publish_at=SOON)
    assert "Draft, dated" in ann.get(path, follow_redirects=True).text
    ann.send("/posts/1/edit", title="Plan", body="x", action="publish", publish_at=SOON)
    page = ann.get(path, follow_redirects=True).text
    assert "To be published on" in page
    assert "2999 January 01" in page
    assert nobody.get(path).status_code == 404


def test_a_draft_forgets_a_date_that_is_emptied(ann):
    draft(ann, publish_at=SOON)
    ann.send("/posts/1/edit", title="x", body="x", action="draft", publish_at="")
    assert "dated" not in ann.get("/drafts").text


def test_an_unpublished_post_offers_its_old_date(app, ann, nobody):
    ann.write("Newer")
    ann.write("Old", publish_at="2023-10-13T12:00")
    fields = {"title": "Old", "body": "x"}
    ann.send("/posts/2/edit", **fields, action="draft", publish_at="")
    form = ann.get("/posts/2/edit")
    assert 'value="2023-10-13T12:00"' in field(form, "publish_at")
    assert "With this past date, it is published among the older posts." in form.text
    ann.send("/posts/2/edit", **fields, action="publish", publish_at="2023-10-13T12:00")
    assert "2023 October 13" in nobody.get("/posts/2/old").text


def test_an_unpublished_post_is_published_as_new_without_a_date(app, ann, nobody):
    ann.write("Old", publish_at="2023-10-13T12:00")
    ann.send("/posts/1/edit", title="Old", body="x", action="draft", publish_at="")
    ann.send("/posts/1/edit", title="Old", body="x", action="publish", publish_at="")
    assert f"{datetime.now(UTC):%Y %B %d}</time>" in nobody.get("/posts/1/old").text


@pytest.mark.parametrize("typed", ["tomorrow", "2031-02-30T10:00", "99999-01-01T00:00"])
def test_a_time_that_is_none_comes_back_as_typed(ann, typed):
    page = ann.send("/posts/new", title="x", body="My text", publish_at=typed)
    assert page.status_code == 422
    assert "Write it like 2031-12-24T18:30." in page.text
    assert f'value="{typed}"' in field(page, "publish_at")
    assert 'type="text"' in field(page, "publish_at")


def test_a_time_can_be_typed_into_the_field_for_text(ann):
    ann.send("/posts/new", title="x", body="x", publish_at="tomorrow")
    assert draft(ann, action="publish", publish_at="2023-10-13T12:00")
    assert 'type="datetime-local"' in field(ann.get("/posts/1/edit"), "publish_at")
