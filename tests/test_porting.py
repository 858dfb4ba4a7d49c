"""The blog to a file and from one."""

import json
import os
import zipfile
from datetime import UTC, datetime, timedelta
from io import BytesIO
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from conftest import Person, execute, on_both
from PIL import Image

from core.database import db
from core.pagination import NEVER
from extras.pictures import Picture
from extras.tags import Tag
from models import Comment, Post, User
from porting import exporter, importer

BERLIN = ZoneInfo("Europe/Berlin")
WXR = "http://wordpress.org/export/1.2/"
HEAD = f"""<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:wp="{WXR}" xmlns:excerpt="{WXR}excerpt/"
  xmlns:content="http://purl.org/rss/1.0/modules/content/"
  xmlns:dc="http://purl.org/dc/elements/1.1/">
<channel><title>Old blog</title><wp:wxr_version>1.2</wp:wxr_version>
<wp:author><wp:author_id>7</wp:author_id><wp:author_login><![CDATA[jo.smith]]></wp:author_login>
<wp:author_display_name><![CDATA[Jo Smith]]></wp:author_display_name></wp:author>
"""
TAIL = "</channel></rss>"
STATES = ["publish", "future", "draft", "pending", "private", "trash"]


@pytest.fixture
def blog(app, ann, bob):
    """A blog with rows of every kind, and with characters that are easily lost."""
    file = BytesIO()
    Image.new("RGB", (30, 20)).save(file, "WEBP")
    with app.app_context():
        author, reader = [db.session.scalar(User.named(name)) for name in ("ann", "bob")]
        author.display_name, reader.about = "Ann: “Ä” #1", "- one\n- two"
        picture = Picture.of(author.id, file.getvalue(), (30, 20))
        at = datetime(2023, 10, 13, 12, 30, 59, 123456, UTC)
        fields = [
            {"title": "'Quoted': \"yes\" & no", "tags": ["zebra", "how to", "ß"]},
            {"title": "Gone"},
            {"title": "---", "body": "\n\n    code\n---\n  end \n\n", "comments_closed": True},
            {"title": "1984", "published_at": NEVER, "updated_at": at},
            {"title": "edit", "published_at": datetime(9999, 6, 1, tzinfo=UTC), "created_at": at},
            {"title": "Häuser 🏠 true", "body": f"![a](/pictures/{picture.name})"},
            {"title": "x" * 200, "author": reader, "published_at": at},
        ]
        first, gone, second, *_ = posts = [
            Post(**{"author": author, "body": "Text."} | one) for one in fields
        ]
        comments = [
            Comment(author=reader, post=first, body="Hi\n\u2028", created_at=at),
            Comment(author=author, post=first, body="Ä", state="pending"),
            Comment(author=reader, post=second, body="Ok", updated_at=at),
        ]
        db.session.add_all([picture, *comments])
        Post.save(*posts)
        Post.delete_where(Post.id == gone.id)
        reader.ban()
        db.session.commit()
    return app


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request, make_app, tmp_path):
    """An empty blog beside this one."""
    if request.param == "sqlite":
        yield make_app(DATABASE_URL=f"sqlite:///{tmp_path / 'other.db'}")
        return
    server = request.getfixturevalue("postgresql")
    template = request.getfixturevalue("postgresql_template")
    execute(server, f"CREATE DATABASE other TEMPLATE {template}")
    yield make_app(DATABASE_URL=server.format("other"))
    execute(server, "DROP DATABASE other WITH (FORCE)")


def rows(app):
    """Every row of every table that an export keeps."""
    tables = [model.__table__ for model in (User, Post, Tag, Comment, Picture)]
    with app.app_context():
        return {
            table.name: sorted(map(repr, db.session.execute(sa.select(table)))) for table in tables
        }


def exported(app, path, name=None):
    with app.app_context(), path.open("wb") as file:
        exporter.export(file, name and db.session.scalar(User.named(name)).id)
    return path


def imported(app, path, **options):
    with app.app_context():
        return importer.load(path, **{"zone": UTC} | options)


def refused(app, path):
    """The sentence with which the whole is refused; the blog stays as it was."""
    before = rows(app)
    with app.app_context():
        with pytest.raises(ValueError, match=r"^[A-Z].*\.$") as error:
            importer.load(path, UTC)
        db.session.rollback()
    assert rows(app) == before
    return str(error.value)


def members(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def zipped(path, changes):
    """A zip of ours with these members instead of its own."""
    contents = {"accounts.jsonl": "", "comments.jsonl": "", "pictures.jsonl": ""} | changes
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return path


def tag(name, text):
    return f"<{name}><![CDATA[{text}]]></{name}>"


def item(title="A title", comments="", **fields):
    """An item of a WordPress export."""
    values = {
        "dc:creator": "jo.smith",
        "content:encoded": "<p>Some <b>text</b>.</p>",
        "excerpt:encoded": "An excerpt.",
        "wp:post_date": "2020-05-17 14:30:00",
        "wp:post_date_gmt": "2020-05-17 12:30:00",
        "wp:status": "publish",
        "wp:post_type": "post",
    } | {name.replace("__", ":"): value for name, value in fields.items()}
    inner = "".join(tag(name, value) for name, value in values.items())
    return f"<item>{tag('title', title)}{inner}{comments}</item>"


def answer(**fields):
    """A comment of a WordPress export."""
    values = {
        "author": "Kim",
        "date_gmt": "2020-05-18 08:00:00",
        "content": "Nice & <em>short</em>.\nSecond line",
        "approved": "1",
        "type": "comment",
        "user_id": "0",
    } | fields
    inner = "".join(tag(f"wp:comment_{name}", value) for name, value in values.items())
    return f"<wp:comment>{inner}</wp:comment>"


def wordpress(path, *items):
    path.write_text(HEAD + "".join(items) + TAIL, encoding="utf-8")
    return path


def posts(app):
    """The posts by their titles, each with its author's name."""
    with app.app_context():
        return {post.title: post for post in db.session.scalars(sa.select(Post))}


@on_both
def test_an_export_makes_the_same_blog_elsewhere(blog, empty, tmp_path):
    summary = imported(empty, exported(blog, tmp_path / "blog.zip"))
    assert summary.skipped == []
    before = rows(blog)
    numbers = {"users": 3, "posts": 6, "tags": 3, "comments": 3, "pictures": 1}
    assert {name: len(found) for name, found in before.items()} == numbers
    assert rows(empty) == before


def test_an_export_of_the_same_blog_has_the_same_bytes(blog, empty, tmp_path):
    first = exported(blog, tmp_path / "first.zip")
    imported(empty, first)
    second = exported(empty, tmp_path / "second.zip")
    assert members(second) == members(first)
    assert second.read_bytes() == first.read_bytes()


def test_links_stay_and_new_posts_get_new_ids(blog, empty, tmp_path):
    imported(empty, exported(blog, tmp_path / "blog.zip"))
    ann = Person(empty, "ann")
    assert ann.log_in().status_code == 303
    assert ann.get("/posts/6/hauser-true").status_code == 200
    assert ann.comment(ann.write("New")).startswith("/posts/8/new#comment-4")


@on_both
def test_importing_twice_doubles_nothing(blog, empty, tmp_path):
    path = exported(blog, tmp_path / "blog.zip")
    imported(empty, path)
    before = rows(empty)
    summary = imported(empty, path)
    assert not +summary.added
    assert summary.known == {"accounts": 3, "posts": 6, "comments": 3, "pictures": 1}
    assert rows(empty) == before


def test_importing_into_the_same_blog_adds_nothing(blog, tmp_path):
    before = rows(blog)
    summary = imported(blog, exported(blog, tmp_path / "blog.zip"))
    assert not +summary.added
    assert rows(blog) == before


@on_both
def test_a_blog_in_use_keeps_its_accounts_and_its_owner(blog, empty, tmp_path):
    Person(empty, "Ann").sign_up().write("Hers")
    summary = imported(empty, exported(blog, tmp_path / "blog.zip"))
    assert summary.known == {"accounts": 1}
    with empty.app_context():
        people = {user.username: user for user in db.session.scalars(sa.select(User))}
        comments = db.session.scalars(sa.select(Comment).order_by(Comment.id)).all()
        places = [(comment.post.title, comment.author.username) for comment in comments]
    assert {name: user.role for name, user in people.items()} == {
        "Ann": "owner",
        "olga": "author",
        "bob": "author",
    }
    assert people["Ann"].display_name == ""
    names = {title: post.author.username for title, post in posts(empty).items()}
    assert names == dict.fromkeys(names, "Ann") | {"x" * 200: "bob"}
    assert len(posts(empty)) == 7
    title = "'Quoted': \"yes\" & no"
    assert places == [(title, "bob"), (title, "Ann"), ("---", "bob")]


def test_what_a_ban_elsewhere_hid_is_shown_where_there_is_none(blog, empty, tmp_path):
    Person(empty, "bob").sign_up()
    imported(empty, exported(blog, tmp_path / "blog.zip"))
    post = posts(empty)["x" * 200]
    assert post.published_at == datetime(2023, 10, 13, 12, 30, 59, 123456, UTC)
    assert post.is_published
    with empty.app_context():
        states = db.session.scalars(sa.select(Comment.state).order_by(Comment.id)).all()
    assert states == ["shown", "pending", "shown"]


def test_a_person_gets_what_is_theirs_and_no_password(blog, tmp_path):
    contents = members(exported(blog, tmp_path / "bob.zip", "bob"))
    lines = {"accounts.jsonl", "comments.jsonl", "pictures.jsonl"}
    assert set(contents) - lines == {f"posts/7-{'x' * 60}.md"}
    assert contents["pictures.jsonl"] == b""
    account = json.loads(contents["accounts.jsonl"])
    assert account["about"] == "- one\n- two"
    assert "password_hash" not in account
    assert contents["comments.jsonl"].count(b'"author": "bob"') == 2
    assert contents["comments.jsonl"].count(b"\n") == 2


def test_a_post_is_a_file_for_people(blog, tmp_path):
    contents = members(exported(blog, tmp_path / "ann.zip", "ann"))
    text = contents["posts/4-1984.md"].decode()
    start = "---\ntitle: '1984'\nslug: '1984'\nauthor: ann\nstate: draft\n"
    assert text.startswith(start)
    assert text.endswith("---\n\nText.")
    assert "date:" not in text
    assert "state: scheduled\ndate: 9999-06-01" in contents["posts/5-edit-post.md"].decode()


def test_progress_is_shown(blog, tmp_path):
    seen = []

    def progress(things, label, length):
        things = list(things)
        seen.append((label, length, len(things)))
        return things

    path = tmp_path / "blog.zip"
    with blog.app_context():
        with path.open("wb") as file:
            exporter.export(file, progress=progress)
        importer.load(path, UTC, progress=progress)
    numbers = {"accounts": 3, "posts": 6, "comments": 3, "pictures": 1}
    assert {label: length for label, length, _ in seen if label in numbers} == numbers
    assert all(length == count for _, length, count in seen)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"../evil.md": "x"}, "'../evil.md' leads out of it"),
        ({"posts/..\\..\\evil.md": "x"}, "leads out of it"),
        ({"/etc/passwd": "x"}, "'/etc/passwd' leads out of it"),
    ],
)
def test_a_zip_made_to_harm_is_refused(app, tmp_path, changes, sentence):
    assert sentence in refused(app, zipped(tmp_path / "bad.zip", changes))


def test_a_zip_with_links_is_refused(app, tmp_path):
    link = zipfile.ZipInfo("posts/1-link.md")
    link.external_attr = 0o120777 << 16
    assert "is a link" in refused(app, zipped(tmp_path / "bad.zip", {link: "/etc/passwd"}))


def test_ten_gigabytes_of_zeros_are_refused(app, tmp_path):
    path = zipped(tmp_path / "zeros.zip", {"posts/1-zeros.md": "0"})
    content = path.read_bytes()
    place = content.rindex(b"PK\1\2", 0, content.rindex(b"posts/1-zeros.md"))
    path.write_bytes(content[: place + 24] + b"\xf0\xff\xff\xff" + content[place + 28 :])
    assert "more than 2 GiB" in refused(app, path)


def test_a_line_without_end_is_skipped(app, tmp_path):
    path = zipped(tmp_path / "long.zip", {"comments.jsonl": "0" * 2**21})
    assert [line[:22] for line in imported(app, path).skipped] == [
        "comments.jsonl, line 1",
        "comments.jsonl, line 2",
    ]


def test_a_size_that_lies_is_found_out(app, tmp_path):
    path = zipped(tmp_path / "lie.zip", {"posts/1-zeros.md": "0" * 10_000_000})
    content = path.read_bytes()
    place = content.rindex(b"PK\1\2", 0, content.rindex(b"posts/1-zeros.md"))
    path.write_bytes(content[: place + 24] + b"\x09\0\0\0" + content[place + 28 :])
    assert "damaged" in refused(app, path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_zip_is_refused(blog, tmp_path, part):
    path = exported(blog, tmp_path / "blog.zip")
    os.truncate(path, int(path.stat().st_size * part))
    assert "This file is damaged" in refused(blog, path)


def test_a_flipped_bit_is_found(blog, empty, tmp_path):
    path = exported(blog, tmp_path / "blog.zip")
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    assert "This file is damaged" in refused(empty, path)


def test_a_zip_from_elsewhere_is_refused(app, tmp_path):
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "Hello")
    assert "flask export" in refused(app, path)


@on_both
def test_what_the_database_refuses_is_named_and_skipped(app, tmp_path):
    used = ACCOUNT | {"invitation": "used once"}
    lines = [json.dumps(used | {"username": name}) for name in ("ann", "eve")]
    summary = imported(app, zipped(tmp_path / "bad.zip", {"accounts.jsonl": "\n".join(lines)}))
    assert len(summary.skipped) == 1
    assert summary.skipped[0].startswith("accounts.jsonl, line 2: the database refuses it: ")
    assert summary.added == {"accounts": 1}


@on_both
def test_what_the_database_refuses_spoils_no_others(app, tmp_path):
    files = {f"posts/{n}-a.md": POST.format(f"title: '{n}'\nid: {max(n, 2)}") for n in range(1, 5)}
    files["accounts.jsonl"] = json.dumps(ACCOUNT)
    summary = imported(app, zipped(tmp_path / "bad.zip", files))
    assert [line[:39] for line in summary.skipped] == ["posts/2-a.md: the database refuses it: "]
    assert summary.added["posts"] == 3


ACCOUNT = {"username": "ann", "role": "author", "created_at": "2023-10-13T12:00:00Z"}
POST = (
    "---\ntitle: A\nauthor: ann\ndate: 2023-10-13\ncreated_at: 2023-10-13\nid: 1\n{}\n---\n\nText."
)
COMMENT = {"post_id": 1, "author": "ann", "body": "Hi", "created_at": "2023-10-13T12:00:00Z"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"username": "a b"}, "“a b” is no username"),
        ({"username": ["x"]}, "its username cannot be read: ['x']"),
        ({"username": "x" * 31}, "its username has 31 characters; it can have 30"),
        ({"about": "x" * 900_001}, "its about has 900,001 bytes; it can have 900,000"),
        ({"role": "king"}, "“king” is no role"),
        ({"created_at": "yesterday"}, "its created_at cannot be read: yesterday"),
        ({"created_at": "1969-12-31T12:00:00Z"}, "its created_at cannot be read"),
        ({"created_at": None}, "it has no created_at"),
        ({"id": 2**31}, "its id cannot be read: 2147483648"),
        ({"id": -5}, "its id cannot be read: -5"),
    ],
)
def test_a_bad_account_is_named_and_skipped(app, tmp_path, changes, sentence):
    lines = [json.dumps(ACCOUNT | changes), "[]", "{", json.dumps(ACCOUNT | {"username": "bob"})]
    path = zipped(tmp_path / "bad.zip", {"accounts.jsonl": "\n".join(lines)})
    summary = imported(app, path)
    assert len(summary.skipped) == 3
    skipped = sorted(summary.skipped)
    assert skipped[0].startswith(f"accounts.jsonl, line 1: {sentence}")
    assert skipped[1] == "accounts.jsonl, line 2: it is no JSON object."
    assert summary.added == {"accounts": 1}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("No front matter.", "it has no front matter"),
        (POST.format("author: eve"), "its author “eve” has no account"),
        (POST.format("body: x")[:-5], "it has no body"),
        (POST.format("title: [a]"), "its title cannot be read: ['a']"),
        (POST.format(f"title: {'x' * 2001}"), "its title has 2,001 characters; it can have 2,000"),
        (POST.format("") + "ä" * 450_000, "its body has 900,005 bytes; it can have 900,000"),
        (POST.format("date: 2023-13-45"), "its published_at cannot be read: 2023-13-45"),
        (POST.format("x: &x [a, a]\ny: [*x, *x]"), "its front matter has aliases"),
        (POST.format(f"x: {'[' * 5000}{']' * 5000}"), "its front matter is longer than 10,000"),
        (
            POST.format(f"x: {'[' * 4000}{']' * 4000}"),
            "its front matter has more than 200 brackets",
        ),
        (POST.format(f"x:\n{'- ' * 4000}a"), "it is nested too deeply"),
        (POST.format("x: {"), "while parsing"),
        ("---\n- a\n---\n", "its front matter has no names"),
        ("+++\na = \n+++\n", "Invalid value"),
        (b"---\ntitle: \xff\n---\n", "'utf-8' codec can't decode"),
        (POST.format("") + " " * 2**20, "posts/1-a.md has more than 1,048,576 bytes"),
    ],
)
def test_a_bad_post_is_named_and_skipped(app, tmp_path, text, sentence):
    accounts, comments = json.dumps(ACCOUNT), json.dumps(COMMENT)
    files = {"accounts.jsonl": accounts, "comments.jsonl": comments, "posts/1-a.md": text}
    summary = imported(app, zipped(tmp_path / "bad.zip", files))
    assert summary.skipped[0].startswith(f"posts/1-a.md: {sentence}")
    assert summary.skipped[1:] == ["comments.jsonl, line 1: its post is not in this file."]
    assert summary.added == {"accounts": 1}
    assert summary.sentences()[-1] == "Skipped: 2 bad records."


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "../x.webp"}, "“../x.webp” is no picture's name"),
        ({"name": f"{'a' * 32}-9x9.webp"}, f"pictures/{'a' * 32}-9x9.webp is missing"),
        ({"name": f"{'b' * 32}-9x9.webp"}, f"{'b' * 32}-9x9.webp is no WebP"),
        ({"author": "eve"}, "its author “eve” has no account"),
    ],
)
def test_a_bad_picture_is_named_and_skipped(app, tmp_path, changes, sentence):
    file = BytesIO()
    Image.new("RGB", (30, 20)).save(file, "WEBP")
    good = {"name": f"{'d' * 32}-30x20.webp", "author": "ann", "created_at": "2023-10-13"}
    contents = {
        "accounts.jsonl": json.dumps(ACCOUNT),
        "pictures.jsonl": "\n".join([json.dumps(good | changes), json.dumps(good)]),
        f"pictures/{'b' * 32}-9x9.webp": b"GIF89a",
        f"pictures/{'d' * 32}-30x20.webp": file.getvalue(),
    }
    summary = imported(app, zipped(tmp_path / "bad.zip", contents))
    assert summary.skipped == [f"pictures.jsonl, line 1: {sentence}."]
    assert summary.added == {"accounts": 1, "pictures": 1}


@pytest.mark.parametrize("prefix", [b"", b"PK", b"\0" * 50, b"<rss><channel></channel></rss>"])
def test_a_file_of_another_kind_is_refused(app, tmp_path, prefix):
    path = tmp_path / "file"
    path.write_bytes(prefix)
    sentence = refused(app, path)
    assert sentence.startswith("This ")
    assert sentence.endswith(".")


def test_a_wordpress_export_comes_in(app, owner, tmp_path):
    pages = [item(f"Page {n}", wp__post_type="page") for n in range(2)]
    items = [item(f"Post {n}", wp__status=STATES[n % 6]) for n in range(60)]
    url = {"wp__attachment_url": "https://old.example/a.jpg"}
    picture = item("Image", wp__post_type="attachment", wp__status="inherit", **url)
    menu = item("Menu", wp__post_type="nav_menu_item")
    summary = imported(app, wordpress(tmp_path / "wp.xml", *items, *pages, picture, menu))
    assert summary.skipped == []
    assert summary.added == {"accounts": 1, "posts": 52}
    left_out = {"excerpts": 52, "in state trash": 10, "of type nav_menu_item": 1}
    assert +summary.left_out == left_out
    place = "item 63 (“Image”)"
    assert summary.not_fetched == [f"{place}: https://old.example/a.jpg was not fetched."]
    at, found = datetime(2020, 5, 17, 12, 30, tzinfo=UTC), posts(app)
    assert {post.author.full_name for post in found.values()} == {"Jo Smith (jo-smith)"}
    assert {post.body for post in found.values()} == {"Some **text**."}
    assert {post.created_at for post in found.values()} == {at}
    times = [found[f"Post {n}"].published_at for n in range(5)]
    assert times == [at, at, NEVER, NEVER, NEVER]
    assert summary.sentences() == [
        *summary.not_fetched,
        "Added: 1 accounts, 52 posts.",
        "Changed: 10 pending posts (now drafts), 10 private posts (now drafts), "
        "2 pages (now drafts).",
        "Left out: 52 excerpts, 10 in state trash, 1 of type nav_menu_item.",
        "Not fetched: 1 attachments.",
    ]


@on_both
def test_wordpress_twice_doubles_nothing(app, owner, tmp_path):
    comments = answer() + answer(author="olga") + answer(author="木") + answer(user_id="7")
    items = [item(f"Post {n}", comments) for n in range(3)]
    path = wordpress(tmp_path / "wp.xml", *items, item("Other", dc__creator="Zoë"))
    first = imported(app, path)
    assert first.added == {"accounts": 5, "posts": 4, "comments": 12}
    before = rows(app)
    second = imported(app, path)
    assert not +second.added
    assert second.known == {"posts": 4, "comments": 12}
    assert rows(app) == before


def test_nobody_becomes_somebody_by_a_comment(app, ann, tmp_path):
    comments = answer(author="ann") + answer(author="Olga") + answer(author="admin")
    imported(app, wordpress(tmp_path / "wp.xml", item("Post", comments)))
    with app.app_context():
        authors = [one.author for one in db.session.scalars(sa.select(Comment))]
    assert {author.role for author in authors} == {"member"}
    assert {author.password_hash for author in authors} == {"!"}
    assert not {author.name.lower() for author in authors} & {"ann", "olga", "admin"}


def test_a_commenter_does_not_become_an_author_of_the_same_file(app, owner, tmp_path):
    comments = answer(author="jo-smith")
    imported(app, wordpress(tmp_path / "wp.xml", item("Post", comments)))
    with app.app_context():
        author = db.session.scalar(sa.select(Comment)).author
    assert posts(app)["Post"].author.username == "jo-smith"
    assert (author.role, author.username == "jo-smith") == ("member", False)


def test_comments_that_were_waiting_in_an_earlier_release_are_pending(app, owner, tmp_path):
    post = owner.write()
    owner.comment(post, "Of an earlier release")
    path = tmp_path / "new.zip"
    with app.app_context(), path.open("wb") as file:
        exporter.export(file)
    old = {name: text.replace(b'"shown"', b'"waiting"') for name, text in members(path).items()}
    with app.app_context():
        db.session.execute(sa.delete(Comment))
        db.session.commit()
    imported(app, zipped(tmp_path / "old.zip", old))
    with app.app_context():
        assert db.session.scalar(sa.select(Comment)).state == "pending"


def test_the_first_of_an_empty_blog_is_its_owner(app, tmp_path):
    imported(app, wordpress(tmp_path / "wp.xml", item("Post", answer())))
    with app.app_context():
        users = db.session.scalars(sa.select(User).order_by(User.id)).all()
    assert [(user.username, user.role) for user in users] == [
        ("jo-smith", "owner"),
        ("Kim", "member"),
    ]


def test_an_author_of_this_blog_gets_the_posts_of_their_name(app, ann, tmp_path):
    imported(app, wordpress(tmp_path / "wp.xml", item("Post", dc__creator="Ann")))
    assert posts(app)["Post"].author.username == "ann"


def test_wordpress_comments_come_in_by_their_state(app, owner, tmp_path):
    kinds = [{}, {"approved": "0"}, {"approved": "spam"}, {"approved": "trash"}]
    kinds += [{"type": "pingback"}, {"type": ""}, {"date_gmt": "soon"}, {"author": ""}]
    kinds += [{"content": "x" * 5001}, {"content": "<div>" * 900}, {"user_id": "7"}]
    comments = "".join(answer(**{"author": f"N{n}"} | kind) for n, kind in enumerate(kinds))
    path = wordpress(
        tmp_path / "wp.xml", item("Post", comments), item("X", answer(), wp__status="")
    )
    summary = imported(app, path)
    assert set(summary.skipped) == {
        "item 1 (“Post”), comment 7: its created_at cannot be read: soonZ.",
        "item 1 (“Post”), comment 10: it is nested too deeply.",
    }
    assert summary.added["comments"] == 6
    left_out = {"comments (spam)": 1, "comments (trash)": 1, "comments (pingback)": 1}
    left_out |= {"in state ": 1, "comments (without a post)": 1, "excerpts": 1}
    assert +summary.left_out == left_out
    with app.app_context():
        found = db.session.scalars(sa.select(Comment).order_by(Comment.id)).all()
        assert [comment.state for comment in found] == ["shown", "pending", *["shown"] * 4]
        names = [comment.author.name for comment in found]
        assert names == ["N0", "N1", "N5", names[3], "N8", "Jo Smith"]
        assert names[3].startswith("Anonymous-")
        assert found[0].body == "Nice & *short*.  \nSecond line"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"wp__post_date_gmt": "2020-99-99 00:00:00"}, "cannot be read: 2020-99-99"),
        ({"wp__post_date_gmt": "", "wp__post_date": ""}, "it has no date"),
        ({"wp__post_date_gmt": "", "wp__post_date": "0000-00-00"}, "it has no date"),
        ({"dc__creator": "", "title": "A"}, "it names no author"),
        ({"title": "x" * 2001}, "its title has 2,001 characters; it can have 2,000"),
        ({"content__encoded": "<!-- nothing -->"}, "it has no body"),
        ({"content__encoded": "x" * 1_000_001}, "its text has more than 1,000,000 characters"),
    ],
)
def test_a_bad_wordpress_post_is_named_and_skipped(app, tmp_path, fields, sentence):
    summary = imported(app, wordpress(tmp_path / "wp.xml", item(**fields), item("Good")))
    assert sentence in summary.skipped[0]
    assert len(summary.skipped) == 1
    assert set(posts(app)) == {"Good"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"title": "Tom &#038; <Jerry>"}, {"title": "Tom & <Jerry>"}),
        ({"title": "", "wp__post_name": "a-name"}, {"title": ""}),
        ({"wp__comment_status": "closed"}, {"comments_closed": True}),
        ({"wp__post_password": "secret"}, {"published_at": NEVER}),
        (
            {"wp__post_date_gmt": "0000-00-00 00:00:00", "wp__status": "draft"},
            {"created_at": datetime(2020, 5, 17, 12, 30, tzinfo=UTC), "published_at": NEVER},
        ),
        ({"content__encoded": "One\nline\r\n\r\nTwo"}, {"body": "One  \nline\n\nTwo"}),
        (
            {"content__encoded": "<ul>\n<li>a</li>\n\n<li>b</li>\n</ul>\n<pre>x\n\ny</pre>"},
            {"body": "- a\n- b\n\n```\nx\n\ny\n```"},
        ),
        (
            {"content__encoded": "<!-- wp:paragraph -->\n<p>a</p>\n\n<h2>b</h2><script>c</script>"},
            {"body": "a\n\n## b"},
        ),
        (
            {"comments": '<category domain="post_tag">R&amp;amp;D/Ops, x</category>'},
            {"tags": ["r&d/ops x"]},
        ),
        ({"comments": "<category domain='post_format'>Aside</category>"}, {"tags": []}),
        ({"content__encoded": "a\u0000b".replace("\0", "\x7f")}, {"body": "ab"}),
    ],
)
def test_wordpress_becomes_ours(app, owner, tmp_path, fields, expected):
    path = wordpress(tmp_path / "wp.xml", item(**fields))
    summary = imported(app, path, zone=BERLIN)
    assert summary.skipped == []
    (post,) = posts(app).values()
    assert {name: getattr(post, name) for name in expected} == expected


def test_a_doctype_is_refused(app, tmp_path):
    path = tmp_path / "wp.xml"
    path.write_text(HEAD.replace("<rss", "<!DOCTYPE rss [<!ENTITY a 'b'>]><rss") + TAIL)
    assert "DOCTYPE" in refused(app, path)


def test_a_truncated_wordpress_export_is_refused(app, owner, tmp_path):
    path = wordpress(tmp_path / "wp.xml", *[item(f"Post {n}") for n in range(2000)])
    os.truncate(path, path.stat().st_size - 9)
    assert "no whole XML" in refused(app, path)


@on_both
def test_many_comments_come_in(app, owner, tmp_path):
    comments = "".join(answer(content=f"Number {n}", author=f"N{n % 50}") for n in range(2500))
    summary = imported(app, wordpress(tmp_path / "wp.xml", item("Post", comments)))
    assert summary.added == {"accounts": 51, "posts": 1, "comments": 2500}


HUGO = """+++
title = "From Hugo"
date = 2023-10-13T12:00:00+02:00
lastmod = 2023-10-14
draft = false
tags = ["One", "#two", "One"]
categories = ["Three"]
authors = ["ann"]
+++

Text.
"""
JEKYLL = "---\ntitle:  From Jekyll\ndate:   2023-10-13 12:00:00 +0200\ntags: one two\n---\nText.\n"
AT = datetime(2023, 10, 13, 10, tzinfo=UTC)
DAY = datetime(2023, 10, 12, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "content/posts/one.md",
            HUGO,
            {
                "title": "From Hugo",
                "body": "Text.\n",
                "tags": ["one", "two", "three"],
                "published_at": AT,
                "created_at": AT,
                "updated_at": DAY + timedelta(days=1),
            },
        ),
        ("a.md", HUGO.replace("draft = false", "draft = true"), {"published_at": NEVER}),
        ("posts/a-bundle/index.md", "---\ndate: 2023-10-13\n---\nText.", {"title": "a bundle"}),
        (
            "_posts/2023-10-01-x.markdown",
            JEKYLL,
            {"title": "From Jekyll", "tags": ["one", "two"], "published_at": AT},
        ),
        (
            "_posts/2023-10-13-its-name.md",
            "---\ncategories: news\ntags: one, two words\n---\nText.",
            {"title": "its name", "published_at": DAY, "tags": ["one", "two words", "news"]},
        ),
        ("_drafts/idea.md", JEKYLL, {"published_at": NEVER, "created_at": AT}),
        ("idea.md", "---\ntitle: Idea\n---\nText.", {"published_at": NEVER, "publish_at": None}),
        ("a.md", JEKYLL.replace("---\nT", "published: false\n---\nT"), {"published_at": NEVER}),
        ("a.md", JEKYLL.replace("\n", "\r\n"), {"body": "Text.\n", "published_at": AT}),
        ("a.md", JEKYLL.replace("+0200", "Z"), {"published_at": AT + timedelta(hours=2)}),
        ("a.md", JEKYLL.replace(":00 +0200", ""), {"published_at": AT}),
    ],
)
def test_a_markdown_file_of_hugo_or_jekyll_comes_in(app, ann, tmp_path, name, text, expected):
    path = tmp_path / "site" / name
    path.parent.mkdir(parents=True)
    path.write_text(text, newline="")
    first = imported(app, tmp_path / "site", zone=BERLIN, author="ann")
    assert first.skipped == []
    (post,) = posts(app).values()
    assert {field: getattr(post, field) for field in expected} == expected
    assert post.author.username == "ann"
    assert imported(app, tmp_path / "site", zone=BERLIN, author="ann").known == {"posts": 1}


def test_lists_and_other_files_of_a_folder_are_no_posts(app, owner, tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "_index.md").write_text("---\ntitle: Posts\n---\n")
    (folder / "style.css").write_text("p {}")
    (folder / "readme.md").write_text("# Hello")
    summary = imported(app, folder)
    assert summary.skipped == ["readme.md: it has no body."]
    assert summary.sentences() == [*summary.skipped, "Skipped: 1 bad records."]


def test_posts_without_an_author_are_the_owners(app, owner, ann, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a.md").write_text(JEKYLL)
    imported(app, tmp_path / "site")
    assert posts(app)["From Jekyll"].author.username == "olga"


def test_tags_that_are_none_are_left_out_and_counted(app, owner, tmp_path):
    (tmp_path / "site").mkdir()
    tags = ["...", "x" * 41, *(f"tag {n}" for n in range(12))]
    text = f"---\ntitle: A\ndate: 2023-10-13\ntags: {json.dumps(tags)}\n---\nText."
    (tmp_path / "site" / "a.md").write_text(text)
    summary = imported(app, tmp_path / "site")
    assert posts(app)["A"].tags == [f"tag {n}" for n in range(10)]
    assert summary.left_out == {"tags": 4}


def test_two_posts_of_one_time_and_title_are_both_taken(app, owner, tmp_path):
    folder = tmp_path / "site"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text(JEKYLL)
    (folder / "sub" / "b.md").write_text(f"{JEKYLL}And more.\n")
    assert imported(app, folder).added == {"posts": 2}
    assert imported(app, folder).added == {}


def test_front_matter_in_json_is_read(app, owner, tmp_path):
    (tmp_path / "site").mkdir()
    front = {"title": "From Hugo", "date": "2023-10-13T12:00:00Z", "draft": False, "tags": ["x"]}
    text = f"{json.dumps(front, indent=2)}\n\nText.\n"
    (tmp_path / "site" / "a.md").write_text(text)
    assert imported(app, tmp_path / "site").added == {"posts": 1}
    page = Person(app).get("/posts/1/from-hugo").text
    assert "<p>Text.</p>" in page
    assert "/tags/x" in page


def test_half_a_character_spoils_no_import(app, tmp_path):
    record = json.dumps(COMMENT | {"body": "Half \ud83d a smile"})
    files = {"accounts.jsonl": json.dumps(ACCOUNT), "posts/1-a.md": POST.format("")}
    path = zipped(tmp_path / "half.zip", files | {"comments.jsonl": record})
    summary = imported(app, path)
    assert (summary.added["comments"], summary.skipped) == (1, [])


# While others write, and again -------------------------------------------------------------------


def import_command(app, path):
    return app.test_cli_runner().invoke(args=["import", str(path)])


def large(path, posts=250):
    """A zip of ours with so many posts, each with a comment."""
    files = {
        f"posts/{n}-a.md": POST.replace("id: 1", f"id: {n}").format(f"title: 'No {n}'")
        for n in range(1, posts + 1)
    }
    comments = [COMMENT | {"id": n, "post_id": n, "body": f"{n}"} for n in range(1, posts + 1)]
    accounts = [ACCOUNT | {"id": 1, "username": "olga", "role": "owner"}, ACCOUNT | {"id": 2}]
    files["accounts.jsonl"] = "\n".join(map(json.dumps, accounts))
    files["comments.jsonl"] = "\n".join(map(json.dumps, comments))
    return zipped(path, files)


@on_both
def test_what_is_written_meanwhile_disturbs_nothing(app, empty, tmp_path):
    """A visitor signs up, writes and comments after each hundred records."""
    path, written = large(tmp_path / "large.zip"), []

    def progress(things, label, _length):
        for number, thing in enumerate(things):
            yield thing
            if label in ("posts", "comments") and number % 100 == 99:
                eve = Person(empty, f"eve-{label}-{number}").sign_up()
                eve.write("Meanwhile", f"{number}")
                written.append(eve.comment("/posts/1/no-1", f"Meanwhile {label} {number}"))

    with empty.app_context():
        report = importer.load(path, UTC, progress=progress)
    assert report.skipped == []
    assert report.added == {"accounts": 2, "posts": 250, "comments": 250}
    assert len(set(written)) == 4
    with empty.app_context():
        titles = dict(db.session.execute(sa.select(Post.id, Post.title)).all())
        roles = dict(db.session.execute(sa.select(User.username, User.role)).all())
    assert [titles[n] for n in range(1, 251)] == [f"No {n}" for n in range(1, 251)]
    assert (roles.pop("olga"), set(roles.values())) == ("owner", {"author"})


@on_both
def test_an_import_that_was_killed_is_repeated_to_its_end(app, make_app, empty, tmp_path):
    path = large(tmp_path / "large.zip")

    def progress(things, label, _length):
        for number, thing in enumerate(things):
            assert (label, number) != ("comments", 120), "as if it were killed"
            yield thing

    with empty.app_context(), pytest.raises(AssertionError):
        importer.load(path, UTC, progress=progress)
    Person(empty, "eve").sign_up().comment("/posts/1/no-1", "Meanwhile")
    report = imported(empty, path)
    assert report.known == {"accounts": 2, "posts": 250, "comments": 50}
    assert report.added == {"comments": 200}
    with empty.app_context():
        comments = dict(db.session.execute(sa.select(Comment.id, Comment.body)).all())
        owner = db.session.scalar(sa.select(User.username).where(User.role == "owner"))
    assert [comments.pop(n) for n in range(1, 251)] == [str(n) for n in range(1, 251)]
    assert list(comments.values()) == ["Meanwhile"]
    assert owner == "olga"
    assert not +imported(empty, path).added


def test_two_alike_are_both_there_after_a_repeat(app, owner, tmp_path):
    folder = tmp_path / "site"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text(JEKYLL)
    assert imported(app, folder).added == {"posts": 1}
    (folder / "sub" / "b.md").write_text(f"{JEKYLL}And more.\n")
    report = imported(app, folder)
    assert (report.added, report.known) == ({"posts": 1}, {"posts": 1})


def test_what_was_left_out_is_counted_last_and_the_status_is_1(app, owner, tmp_path):
    path = large(tmp_path / "large.zip", 3)
    whole = import_command(app, path)
    assert whole.exit_code == 0
    assert "Added: 1 accounts, 3 posts, 3 comments." in whole.output
    bad = zipped(tmp_path / "bad.zip", {"accounts.jsonl": "[]"})
    part = import_command(app, bad)
    assert part.exit_code == 1
    assert part.output.splitlines()[-2:] == [
        "accounts.jsonl, line 1: it is no JSON object.",
        "Skipped: 1 bad records.",
    ]


def test_an_export_of_the_release_before_comes_in(app, tmp_path):
    """It made drafts of what banned people had published, and banned deleted accounts."""
    banned = ACCOUNT | {"username": "eve", "banned_at": "2023-10-13T12:00:00Z"}
    gone = banned | {"username": "deleted-9-abcdef"}
    front = "author: eve\nstate: draft\ndate: ''\nwithheld_at: 2023-10-13 12:00:00+00:00"
    comment = COMMENT | {"author": "eve", "state": "banned"}
    left = COMMENT | {"author": "deleted-9-abcdef", "body": "Of who has left"}
    files = {
        "accounts.jsonl": "\n".join(map(json.dumps, [ACCOUNT, banned, gone])),
        "posts/1-a.md": POST.format(""),
        "posts/2-b.md": POST.replace("id: 1", "id: 2").format(front),
        "comments.jsonl": "\n".join(map(json.dumps, [comment, left])),
    }
    assert imported(app, zipped(tmp_path / "old.zip", files)).skipped == []
    nobody = Person(app)
    assert nobody.get("/").text.count("<article") == 1
    assert "Of who has left" in nobody.get("/posts/1/a").text
    assert "Hi" not in nobody.get("/posts/1/a").text
    with app.app_context():
        db.session.execute(sa.update(User).values(banned_at=None))
        db.session.commit()
    assert nobody.get("/").text.count("<article") == 2
    assert "Hi" in nobody.get("/posts/1/a").text


def test_a_form_is_not_exported(app, ann, tmp_path):
    ann.write(submission="a-form-of-anns")
    ann.send("/posts/1/edit", title="A title", body="x")
    contents = b"".join(members(exported(app, tmp_path / "blog.zip")).values())
    assert b"a-form-of-anns" not in contents
    assert b"edited_at" not in contents
