"""Folders and zips of Markdown files, as other blogs have them."""

import json
import os
import re
import zipfile
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
import sqlalchemy as sa
from conftest import Person
from PIL import Image
from test_porting import BERLIN, exported, imported, members, posts, refused, zipped
from test_porting import blog as blog  # a fixture
from test_porting import empty as empty

from core.database import Metadata, db
from core.pagination import NEVER
from extras.pictures import Picture
from models import Post, User
from porting import markdown_reader, own_post
from porting.files import Files, in_folder
from porting.front_matter import iso_date
from porting.records import TEXT_MAX, Report, no_progress

DAY = datetime(2024, 3, 1, tzinfo=UTC)
DATED = "---\ntitle: One\ndate: 2024-03-01\n---\n\n"
MODIFIED = datetime(2023, 5, 6, 7, 8, 9, tzinfo=UTC)
ID = "0b7e8a6e-5a0c-4f0e-9d57-0123456789ab"


def site(folder, files):
    """A folder with these files, by their paths."""
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.utime(path, (MODIFIED.timestamp(), MODIFIED.timestamp()))
    return folder


def png(size=(30, 20)):
    file = BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    return file.getvalue()


def only_post(app):
    (post,) = posts(app).values()
    return post


def run(app, *words):
    return app.test_cli_runner().invoke(args=["import", *map(str, words)])


# Front matter -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "date: 2024-03-01",
        "Date: 2024-03-01",
        "pubDate: 'Mar 01 2024'",
        "publishDate: 2024-03-01",
        "published_date: 2024-03-01T00:00:00+00:00",
        "datePublished: Fri Mar 01 2024 00:00:00 GMT+0000 (Coordinated Universal Time)",
        "published: 2024-03-01",
        "published_at: 2024-03-01T00:00:00.000Z",
        "created: 2024-03-01",
        "created_at: 2024/3/1",
        "date: ''\ncreated: 2024-03-01",
        "created: 2020-01-01\ndate: 2024-03-01",
        "published: true\ncreated: 2024-03-01",
    ],
)
def test_a_date_is_known_by_every_name_in_use(app, owner, tmp_path, line):
    report = imported(app, site(tmp_path / "site", {"a.md": f"---\n{line}\n---\nText."}))
    assert (report.skipped, only_post(app).published_at) == ([], DAY)


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2024-03-01", "2024-03-01"),
        ("2024/3/1 9:05", "2024-03-01T09:05:00"),
        ("2024-03-01 09:00:00 +0100", "2024-03-01T09:00:00+0100"),
        ("2024-03-01 09:00:00 UTC", "2024-03-01T09:00:00Z"),
        ("2024-03-01T09:00:00.123Z", "2024-03-01T09:00:00.123Z"),
        ("March 1, 2024", "2024-03-01"),
        ("March 1st, 2024 9:30 PM", "2024-03-01T21:30:00"),
        ("Mar. 1 2024 12:00 am", "2024-03-01T00:00:00"),
        ("1 March 2024", "2024-03-01"),
        ("Fri, 01 Mar 2024 09:00:00 +0000", "2024-03-01T09:00:00+0000"),
        ("Fri, 01 Mar 2024 09:00:00 GMT", "2024-03-01T09:00:00Z"),
        ("1 Foo 2024", "1 Foo 2024"),
        ("yesterday", "yesterday"),
        ("9" * 200, "9" * 200),
    ],
)
def test_a_date_is_read_in_the_usual_formats(text, iso):
    assert iso_date(text) == iso


def test_posts_without_a_date_are_drafts_and_counted(app, owner, tmp_path):
    files = {f"{n}.md": f"---\ntitle: Post {n}\n---\nText {n}." for n in range(4)}
    report = imported(app, site(tmp_path / "site", files))
    assert {post.published_at for post in posts(app).values()} == {NEVER}
    assert report.sentences() == [
        "Added: 4 posts.",
        "Changed: 4 posts (now drafts: they have no date).",
    ]
    assert report.is_complete


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# A *heading*\n\nText.", {"title": "A heading", "body": "Text."}),
        ("A heading\n=========\n\nText.", {"title": "A heading", "body": "Text."}),
        ("Text.", {"title": "a note", "body": "Text."}),
        ("---\nText.\n---\n\nMore.", {"title": "a note", "body": "---\nText.\n---\n\nMore."}),
    ],
)
def test_without_front_matter_the_heading_is_the_title(app, owner, tmp_path, text, expected):
    report = imported(app, site(tmp_path / "site", {"a-note.md": text}))
    post = only_post(app)
    assert report.skipped == []
    assert {name: getattr(post, name) for name in expected} == expected
    assert post.published_at == MODIFIED
    words = "posts (now with the time of their file: no front matter)"
    assert report.changed == {words: 1}


@pytest.mark.parametrize(
    "text",
    [
        "title: One\ndate: 2024-03-01\n---\nText.",
        "title: One\ndate: 2024-03-01\ntags:\n- a\n  - b\n---\n\nText.",
        "\ufeff---\ntitle: One\ndate: 2024-03-01\n---\nText.",
        '+++\ntitle = "One"\ndate = 2024-03-01\n+++\n\nText.',
        '{\n"title": "One",\n"date": "2024-03-01"\n}\n\nText.',
    ],
)
def test_front_matter_is_read_in_every_form(app, owner, tmp_path, text):
    report = imported(app, site(tmp_path / "site", {"a.md": text}))
    post = only_post(app)
    assert report.skipped == []
    assert (post.title, post.body, post.published_at) == ("One", "Text.", DAY)


def test_the_name_of_a_file_dates_a_post_with_empty_front_matter(app, owner, tmp_path):
    imported(app, site(tmp_path / "site", {"2024-03-01-one.md": "---\n---\n\nText.\n"}))
    post = only_post(app)
    assert (post.title, post.body, post.published_at) == ("one", "Text.\n", DAY)


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("title: Notes: part 2", "Notes: part 2"),
        ("title: It's: so", "It's: so"),
        ("title: @home", "@home"),
        ("title: *Stars* above", "*Stars* above"),
        ('title: "A" and: B', '"A" and: B'),
    ],
)
def test_a_title_with_signs_of_yaml_is_taken(app, owner, tmp_path, line, title):
    text = f"---\n{line}\ndate: 2024-03-01\ntags: [a, b]\n---\nText."
    assert imported(app, site(tmp_path / "site", {"a.md": text})).skipped == []
    assert (only_post(app).title, only_post(app).tags) == (title, ["a", "b"])


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("---\ncategory: tea\ntag: green\n---\nText.", ["green", "tea"]),
        ("---\ncategory: black tea\ntags: a, b c\n---\nText.", ["a", "b c", "black tea"]),
        ('+++\ntitle = "A"\n[taxonomies]\ntags = ["tea", "green"]\n+++\nText.', ["tea", "green"]),
        ("---\nTags:\n- name: tea\n- green\n---\nText.", ["tea", "green"]),
    ],
)
def test_tags_are_known_by_every_name_in_use(app, owner, tmp_path, text, tags):
    imported(app, site(tmp_path / "site", {"2024-03-01-a.md": text}))
    assert only_post(app).tags == tags


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("draft: true", ""),
        ("draft: yes", ""),
        ("published: false", ""),
        ("publish: false", ""),
        ("status: draft", ""),
        ("hidden: true", "1 hidden posts (now drafts)"),
        ("private: true", "1 hidden posts (now drafts)"),
        ("visibility: private", "1 hidden posts (now drafts)"),
        ("password: tea", "1 hidden posts (now drafts)"),
        ("expiryDate: 2024-03-02", "1 hidden posts (now drafts)"),
        ("is_page: true", "1 pages (now drafts)"),
        ("layout: page", "1 pages (now drafts)"),
    ],
)
def test_what_nobody_could_see_is_a_draft_with_its_date(app, owner, tmp_path, line, words):
    text = f"---\ntitle: One\ndate: 2024-03-01\n{line}\n---\nText."
    report = imported(app, site(tmp_path / "site", {"a.md": text}))
    post = only_post(app)
    assert (post.published_at, post.publish_at) == (NEVER, DAY)
    assert post.is_page == ("page" in line)
    assert report.sentences()[1:] == [f"Changed: {words}."] * bool(words)


def test_a_post_that_hugo_publishes_later_is_scheduled(app, owner, tmp_path):
    text = "---\ndate: 2024-03-01\npublishDate: 2999-01-01\n---\nText."
    imported(app, site(tmp_path / "site", {"a.md": text}))
    assert only_post(app).is_scheduled


@pytest.mark.parametrize(
    ("lines", "name", "left_out"),
    [
        ("author: ann", "ann", {}),
        ("author:\n  name: ann", "ann", {}),
        ("authors: [ann, bob]", "ann", {"further authors (a post has one)": 1}),
        ("description: What it says.", "olga", {"summaries": 1}),
    ],
)
def test_who_wrote_it_and_what_is_left_out(app, owner, ann, tmp_path, lines, name, left_out):
    text = f"---\ntitle: One\ndate: 2024-03-01\n{lines}\n---\nText."
    report = imported(app, site(tmp_path / "site", {"a.md": text}))
    assert only_post(app).author.username == name
    assert +report.left_out == left_out


@pytest.mark.parametrize(
    "text", ["---\ntitle: One\n\nNo end.", '+++\ntitle = "One"\n\nNo end.', "---\n- a\n---\nText."]
)
def test_front_matter_that_is_none_publishes_nothing(app, owner, tmp_path, text):
    report = imported(app, site(tmp_path / "site", {"a.md": text}))
    assert report.skipped[0].startswith("a.md: its front matter has no ")
    assert posts(app) == {}


def test_what_is_too_large_is_refused_and_not_cut(app, owner, tmp_path):
    report = imported(app, site(tmp_path / "site", {"a.md": DATED + "a" * TEXT_MAX}))
    assert report.skipped == ["a.md: it has more than 1,048,576 bytes."]


def test_an_old_letter_is_taken(app, owner, tmp_path):
    text = "---\ntitle: One\ndate: 1955-03-01\n---\nText."
    assert imported(app, site(tmp_path / "site", {"a.md": text})).skipped == []
    assert only_post(app).published_at == datetime(1955, 3, 1, tzinfo=UTC)


# The same again -----------------------------------------------------------------------------------


def test_two_posts_of_one_title_without_date_are_two(app, owner, tmp_path):
    first = site(tmp_path / "first", {"about.md": "---\ntitle: About\n---\n\nThe first text.\n"})
    second = site(tmp_path / "second", {"about.md": "---\ntitle: About\n---\n\nAnother text.\n"})
    assert imported(app, first).added == {"posts": 1}
    assert imported(app, second).added == {"posts": 1}
    assert imported(app, first).known == {"posts": 1}
    assert imported(app, second).known == {"posts": 1}


def test_texts_of_one_day_without_titles_are_all_taken(app, owner, tmp_path):
    note = "---\ntitle: ''\ndate: 2024-03-01\n---\n\nNote {}.\n"
    folder = site(tmp_path / "site", {"b.md": note.format("B")})
    assert imported(app, folder).added == {"posts": 1}
    (folder / "a.md").write_text(note.format("A"))
    (folder / "c.md").write_text(note.format("C"))
    report = imported(app, folder)
    assert (report.added["posts"], report.known["posts"]) == (2, 1)
    with app.app_context():
        bodies = db.session.scalars(sa.select(Post.body).order_by(Post.body)).all()
    assert bodies == ["Note A.\n", "Note B.\n", "Note C.\n"]


def test_a_draft_without_date_is_known_also_when_its_author_changed_it(app, owner, tmp_path):
    folder = site(tmp_path / "site", {"a.md": "---\ntitle: About\n---\n\nText.\n"})
    imported(app, folder)
    owner.send("/posts/1/edit", title="About", body="Better.", action="draft")
    assert imported(app, folder).known == {"posts": 1}


def test_a_draft_that_an_earlier_release_imported_is_known(app, owner, tmp_path):
    folder = site(tmp_path / "site", {"a.md": "---\ntitle: About\n---\n\nText.\n"})
    imported(app, folder)
    with app.app_context():
        db.session.execute(sa.update(Post).values(created_at=datetime(1970, 1, 1, tzinfo=UTC)))
        db.session.commit()
    assert imported(app, folder).known == {"posts": 1}


def test_a_file_is_known_also_when_its_time_has_changed(app, owner, tmp_path):
    folder = site(tmp_path / "site", {"a.md": "# About\n\nText.\n"})
    imported(app, folder)
    os.utime(folder / "a.md")
    assert imported(app, folder).known == {"posts": 1}


# Other files --------------------------------------------------------------------------------------


def test_files_of_other_kinds_are_counted_by_their_endings(app, owner, tmp_path):
    names = ["a.mdx", "b.html", "c.txt", "d.rst", "e.txt", "style.css", ".git/x.txt"]
    report = imported(app, site(tmp_path / "site", dict.fromkeys(names, DATED)))
    assert report.sentences() == [
        "Left out: 1 files ending in .mdx, 1 files ending in .html, 2 files ending in .txt,"
        " 1 files ending in .rst."
    ]
    assert not report.is_complete


def test_a_text_above_a_list_is_counted(app, owner, tmp_path):
    report = imported(app, site(tmp_path / "site", {"_index.md": f"{DATED}All my posts."}))
    assert +report.left_out == {"texts above lists (in _index.md)": 1}


def test_a_link_to_a_file_elsewhere_is_not_followed(app, owner, tmp_path):
    (tmp_path / "secret.md").write_text(DATED + "Secret.")
    (tmp_path / "secret.png").write_bytes(png())
    folder = site(tmp_path / "site", {"a.md": DATED + "![x](b.png)"})
    (folder / "b.md").symlink_to(tmp_path / "secret.md")
    (folder / "b.png").symlink_to(tmp_path / "secret.png")
    report = imported(app, folder)
    assert only_post(app).body == "![x](b.png)"
    assert report.left_out["links to files outside of the folder"] == 2


def test_a_single_file_is_imported(app, owner, tmp_path):
    path = site(tmp_path / "site", {"a.md": f"{DATED}Text.", "b.md": DATED}) / "a.md"
    assert imported(app, path).added == {"posts": 1}


def test_pictures_beside_the_text_are_taken(app, owner, tmp_path):
    text = f"{DATED}![A cup](cup.png)\n\n![](/images/pot.png) `![](cup.png)`\n\n![Gone](gone.png)"
    files = {"tea/index.md": text, "tea/cup.png": png(), "static/images/pot.png": png((40, 10))}
    folder = site(tmp_path / "site", files)
    report = imported(app, folder)
    assert report.added == {"posts": 1, "pictures": 2}
    assert +report.left_out == {"pictures (not among the files)": 1}
    assert "-30x20.webp" in only_post(app).body
    assert "-40x10.webp" in only_post(app).body
    assert "`![](cup.png)`" in only_post(app).body
    with app.app_context():
        names = db.session.scalars(sa.select(Picture.name)).all()
    nobody = Person(app)
    assert {nobody.get(f"/pictures/{name}").status_code for name in names} == {200}
    assert all(f"/pictures/{name}" in nobody.get("/posts/1/one").text for name in names)
    again = imported(app, folder)
    assert again.known == {"posts": 1, "pictures": 2}


def test_a_picture_that_is_none_is_counted(app, owner, tmp_path):
    files = {"a.md": f"{DATED}![A cup](cup.svg) ![](cup.svg)", "cup.svg": "<svg/>"}
    report = imported(app, site(tmp_path / "site", files))
    assert +report.left_out == {"pictures (cannot be taken)": 1}
    assert report.details[-1].startswith("cup.svg: This ")


@pytest.mark.parametrize(
    "lines",
    ["image: cup.png", "cover:\n  image: cup.png\n  alt: Tea", "featured_image: /tea/cup.png"],
)
def test_the_picture_of_a_post_stands_above_its_text(app, owner, tmp_path, lines):
    text = f"---\ntitle: One\ndate: 2024-03-01\n{lines}\n---\nText."
    files = {"tea/a.md": text, "tea/cup.png": png()}
    report = imported(app, site(tmp_path / "site", files))
    assert report.added["pictures"] == 1
    assert only_post(app).body.startswith("![")
    assert only_post(app).body.endswith("-30x20.webp)\n\nText.")


def test_other_files_that_a_text_links_to_are_counted(app, owner, tmp_path):
    files = {"a.md": f"{DATED}[Song](song.mp3)", "song.mp3": "la"}
    report = imported(app, site(tmp_path / "site", files))
    assert +report.left_out == {"linked files (no pictures)": 1}


# What only other programs understand --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("First.\n\n<!--more-->\n\nRest.", "First.\n\nRest."),
        ("First. <!-- more -->Rest.", "First. Rest."),
        (
            '{{< figure src="https://x.example/a.jpg" title="A cup" >}}',
            "![A cup](https://x.example/a.jpg)",
        ),
        (
            '{{< figure src="https://x.example/a b.jpg" alt="[Cup]" caption="Tea" />}}',
            "![\\[Cup\\]](https://x.example/a%20b.jpg)\n\n*Tea*",
        ),
        ("{{< youtube abc123 >}}", "[Video on YouTube](https://www.youtube.com/watch?v=abc123)"),
        ('{{< youtube id="abc" >}}', "[Video on YouTube](https://www.youtube.com/watch?v=abc)"),
        ('{{< gist ann 12 "a.py" >}}', "[Code on GitHub](https://gist.github.com/ann/12)"),
        ('{{< tweet user="ann" id="12" >}}', "[Post on X](https://x.com/ann/status/12)"),
        ("{{< highlight go >}}\nx := 1\n{{< /highlight >}}", "```go\nx := 1\n```"),
        ("{{< highlight md >}}\n```\n{{< /highlight >}}", "````md\n```\n````"),
        ("{% highlight ruby %}\nputs 1\n{% endhighlight %}\n", "```ruby\nputs 1\n```\n"),
        ("{% codeblock lang:js %}\nx\n{% endcodeblock %}", "```js\nx\n```"),
        ("`{{</* note */>}}` and {{%/* x */%}}", "`{{< note >}}` and {{% x %}}"),
        ("`{% raw %}{{ x }}{% endraw %}`", "`{{ x }}`"),
        ("{% raw %}`{{ x }}` {{ y }}{% endraw %}", "`{{ x }}` {{ y }}"),
        ("`{% raw %}` and `{% endraw %}`", "`{% raw %}` and `{% endraw %}`"),
        ("Liquid has {% raw %}.", "Liquid has {% raw %}."),
        ("```\n{{< youtube abc >}}\n```", "```\n{{< youtube abc >}}\n```"),
        ("A `{{< note >}}` and ``{% x `%}``.", "A `{{< note >}}` and ``{% x `%}``."),
        ("[a]({{ site.baseurl }}/b)", "[a](/b)"),
        ('[a]({{ "/b" | relative_url }})', "[a](/b)"),
        ("A{% comment %}hidden{% endcomment %}B", "AB"),
        (
            "<img src='https://x.example/a.png' alt=\"A &amp; B\">",
            "![A & B](https://x.example/a.png)",
        ),
    ],
)
def test_tags_of_other_programs_become_markdown(app, owner, tmp_path, text, body):
    report = imported(app, site(tmp_path / "site", {"a.md": DATED + text}))
    assert only_post(app).body == body
    assert report.sentences() == ["Added: 1 posts."]


@pytest.mark.parametrize(
    ("text", "body", "change"),
    [
        ("A note.\n{: .notice}\n\nB", "A note.\n\nB", "marks of style like {: .x} (dropped)"),
        ("* toc\n{:toc}\n\nB", "\nB", "marks of style like {: .x} (dropped)"),
        ("## A {#a}\n\nB", "## A\n\nB", "marks of style like {: .x} (dropped)"),
        ("{{< note >}}A{{< /note >}}", "{{< note >}}A{{< /note >}}", "tags “note” (now text)"),
        ("{% include a.html x=1 %}", "{% include a.html x=1 %}", "tags “include” (now text)"),
        ("{{ page.title }}", "{{ page.title }}", "tags {{ }} (now text)"),
        ("{{< highlight go >}}", "{{< highlight go >}}", "tags “highlight” (now text)"),
        (
            "[N]({% post_url 2024-03-02-b %})",
            "[N](2024-03-02-b)",
            "links (to files that are missing)",
        ),
        ("[[Note]] [[ -f x ]]", "[[Note]] [[ -f x ]]", "wiki links (now text)"),
        (
            "![a](http://x.example/a.png)",
            "![a](https://x.example/a.png)",
            "picture addresses (http to https)",
        ),
        (
            "![a][r]\n\n[r]: http://x.example/a.png",
            "![a][r]\n\n[r]: https://x.example/a.png",
            "picture addresses (http to https)",
        ),
        (
            "<img src=http://x.example/a.png alt=A />",
            "![A](https://x.example/a.png)",
            "picture addresses (http to https)",
        ),
        (
            "A <b>c</b> <https://x.example>",
            "A <b>c</b> <https://x.example>",
            "tags of HTML (now text)",
        ),
    ],
)
def test_what_becomes_text_or_is_dropped_is_counted(app, owner, tmp_path, text, body, change):
    report = imported(app, site(tmp_path / "site", {"a.md": DATED + text}))
    assert only_post(app).body == body
    assert report.changed == {change: 1}


@pytest.mark.parametrize(
    "link",
    [
        "[B](../b.md)",
        "[B](/posts/b.md)",
        '[B]({{< ref "b.md" >}})',
        '[B]({{< relref "/posts/b" >}})',
        "[B]({% link posts/b.md %})",
        "[B]({% post_url b %})",
        "[[b|B]]",
        "[B]\n\n[B]: ../b.md",
    ],
)
def test_links_to_other_files_name_the_posts_in_them(tmp_path, link):
    """Where the posts are in this blog, the writer knows."""
    files = {"posts/sub/a.md": f"{DATED}{link}", "posts/b.md": f"{DATED}Text."}
    report = Report()
    found = Files(in_folder(site(tmp_path / "site", files), report))
    target, source = markdown_reader.records(found, "ann", report, no_progress)
    assert re.fullmatch(r"\[B\](\(|\n\n\[B\]: )/posts/b\.md\)?", source.fields["body"])
    assert target.addresses[0] == "/posts/b.md"
    assert report.changed == {}


@pytest.mark.parametrize(
    ("name", "lines", "addresses"),
    [
        ("content/posts/a.md", "", ["/posts/a"]),
        ("posts/a/index.md", "", ["/posts/a"]),
        ("_posts/2024-03-01-a.md", "", ["/2024/03/01/a", "/2024/03/01/a.html"]),
        ("a.md", "slug: b\naliases: [/c/, d]", ["/b", "/c", "/d"]),
        ("a.md", "permalink: /:year/:title/", ["/a"]),
        ("a.md", "url: https://old.example/a/", ["https://old.example/a/"]),
    ],
)
def test_a_post_brings_the_addresses_that_it_had(tmp_path, name, lines, addresses):
    text = f"---\ntitle: One\n{lines}\n---\nText."
    found = Files(in_folder(site(tmp_path / "site", {name: text}), Report()))
    (record,) = markdown_reader.records(found, "ann", Report(), no_progress)
    assert record.addresses[0] == f"/{name}"
    assert set(addresses) <= set(record.addresses)
    assert not any(":year" in address for address in record.addresses)


@pytest.mark.parametrize(
    "text",
    [
        "{{<" * 300_000,
        "{% raw %}" * 100_000,
        "`{% raw %}` " * 80_000 + "{% endraw %}",
        "```\n" + "{% raw %}" * 100_000 + "\n```\n{% endraw %}",
        "{{< highlight x >}}" * 50_000,
        "`a``b```c" * 100_000,
        "[[" * 500_000,
        "![" * 500_000,
        "<img " * 200_000,
        "{{ " + " " * 900_000 + "}}",
        "# " + "a " * 400_000 + "b",
        "- x\n" * 250_000,
    ],
)
def test_a_hostile_text_takes_no_longer_than_another(app, owner, tmp_path, text):
    folder = site(tmp_path / "site", {"a.md": text})
    started = datetime.now(UTC)
    imported(app, folder)
    assert datetime.now(UTC) - started < timedelta(seconds=20)


# Zips and JSON ------------------------------------------------------------------------------------


def zip_of(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_zip_of_markdown_is_read_like_a_folder(app, owner, tmp_path):
    member = zipfile.ZipInfo("vault/note.md", (2023, 5, 6, 7, 8, 10))
    files = {
        "content/a.md": f"{DATED}![](cup.png)",
        "content/cup.png": png(),
        member: "# N\n\nText.",
    }
    path = zip_of(tmp_path / "site.zip", files | {"__MACOSX/content/._a.md": "x"})
    report = imported(app, path, zone=BERLIN)
    assert report.added == {"posts": 2, "pictures": 1}
    assert posts(app)["N"].published_at == datetime(2023, 5, 6, 5, 8, 10, tzinfo=UTC)
    assert imported(app, path, zone=BERLIN).added == {}


@pytest.mark.parametrize("name", ["../a.md", "/a.md", "b/..\\..\\a.md"])
def test_a_zip_of_markdown_is_checked_like_an_export(app, owner, tmp_path, name):
    path = zip_of(tmp_path / "site.zip", {name: DATED, "b.md": DATED})
    assert "leads out of it" in refused(app, path)


def test_a_zip_of_neither_kind_is_named_as_such(app, owner, tmp_path):
    path = zip_of(tmp_path / "site.zip", {"a.txt": "Text."})
    assert refused(app, path).startswith("This zip is none that flask import reads. It reads ")


@pytest.mark.parametrize("text", ['{"a": 1}', "[]", '\ufeff\n {"version": 1, "items": []}'])
def test_json_that_no_reader_knows_is_named_as_such(app, owner, tmp_path, text):
    path = tmp_path / "blog.json"
    path.write_text(text)
    sentence = refused(app, path)
    assert "flask import does not read JSON of this kind; it reads " in sentence
    assert "damaged" not in sentence


# The command --------------------------------------------------------------------------------------


def test_places_are_named_with_verbose_only(app, owner, tmp_path):
    folder = site(tmp_path / "site", {"a.md": "---\ntitle: A\n---\nText.", "b.txt": "B"})
    brief, verbose = run(app, folder), run(app, folder, "--verbose")
    assert "a.md" not in brief.output
    assert "a.md: posts (now drafts: they have no date)." in verbose.output
    assert "b.txt: files ending in .txt: left out." in verbose.output
    assert (brief.exit_code, verbose.exit_code) == (1, 1)


def test_the_first_import_asks_whose_the_blog_becomes(app, tmp_path):
    folder = site(tmp_path / "site", {"a.md": f"{DATED}Text."})
    result = run(app, folder)
    assert result.exit_code == 1
    assert "Sign up first, or name the owner: flask import --owner NAME FILE." in result.output
    with app.app_context():
        assert not User.any_exists()


def test_the_first_import_makes_the_owner_that_it_is_told(app, tmp_path):
    folder = site(tmp_path / "site", {"a.md": f"{DATED}Text."})
    result = run(app, folder, "--owner", "olga")
    assert result.exit_code == 0
    assert "This blog is olga's now." in result.output
    assert "flask reset-link olga gives the account a password." in result.output
    assert only_post(app).author.username == "olga"
    with app.app_context():
        assert db.session.scalar(User.named("olga")).is_owner
    again = run(app, folder, "--owner", "olga")
    assert (again.exit_code, "now" in again.output) == (0, False)


def test_nobody_becomes_the_owner_by_a_file_that_is_none(app, tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("<rss><channel><item></item></channel></rss>")
    assert run(app, path, "--owner", "olga").exit_code == 1
    assert run(app, site(tmp_path / "site", {}), "--owner", "olga").exit_code == 0
    with app.app_context():
        assert not User.any_exists()


def test_the_first_import_says_whose_the_blog_became(app, tmp_path):
    folder = site(tmp_path / "site", {"a.md": "---\nauthor: ann\ndate: 2024-03-01\n---\nText."})
    assert "This blog is ann's now." in run(app, folder).output


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("bob", "This blog is olga's: leave --owner out."), ("x", "This blog is olga's")],
)
def test_a_blog_has_its_owner_already(app, owner, tmp_path, name, sentence):
    folder = site(tmp_path / "site", {"a.md": f"{DATED}Text."})
    assert sentence in run(app, folder, "--owner", name).output
    assert posts(app) == {}


@pytest.mark.parametrize("name", ["a b", "x", "admin", "deleted-1"])
def test_an_owner_has_the_name_of_a_user(app, tmp_path, name):
    folder = site(tmp_path / "site", {"a.md": f"{DATED}Text."})
    assert f"“{name}” is no username." in run(app, folder, "--owner", name).output


def test_an_export_brings_its_owner(blog, empty, tmp_path):
    path = exported(blog, tmp_path / "blog.zip")
    assert "leave --owner out" in run(empty, path, "--owner", "eve").output
    result = run(empty, path)
    assert "This blog is olga's now." in result.output
    assert "reset-link" not in result.output


def test_an_export_of_one_user_makes_a_blog_of_theirs(blog, empty, tmp_path):
    result = run(empty, exported(blog, tmp_path / "ann.zip", "ann"))
    assert "This blog is ann's now." in result.output
    assert "flask reset-link ann gives the account a password." in result.output


# Exports ------------------------------------------------------------------------------------------


def set_blog_id(app, id):
    with app.app_context():
        db.session.merge(Metadata(name="blog id", value=id))
        db.session.commit()


def blog_id(app):
    with app.app_context():
        row = db.session.get(Metadata, "blog id")
        return row and row.value


def test_an_export_carries_the_id_of_the_blog(blog, empty, tmp_path):
    set_blog_id(blog, ID)
    path = exported(blog, tmp_path / "blog.zip")
    assert json.loads(members(path)["blog.json"]) == {"id": ID}
    imported(empty, path)
    assert blog_id(empty) == ID
    assert "blog.json" not in members(exported(blog, tmp_path / "ann.zip", "ann"))


def test_a_blog_in_use_keeps_its_id(blog, empty, tmp_path):
    set_blog_id(blog, ID)
    Person(empty, "eve").sign_up()
    before = blog_id(empty)
    imported(empty, exported(blog, tmp_path / "blog.zip"))
    assert blog_id(empty) == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id": 5}', '{"id": "x"}'])
def test_an_export_whose_blog_has_no_id_is_refused(app, tmp_path, content):
    path = zipped(tmp_path / "bad.zip", {"blog.json": content})
    assert "blog.json has no id" in refused(app, path)


@pytest.mark.parametrize("body", ["{{< a >}}", "{\u2060{< a", "{{\u2060{% {{{<", "{{ a }} {% b %}"])
def test_what_is_escaped_for_hugo_comes_back(body):
    escaped = own_post.escape(body)
    assert not re.search("{{[<%]", escaped)
    fields = {own_post.ESCAPED: "true"} if escaped != body else {}
    assert own_post.parse(fields, escaped)["body"] == body


def test_an_unpacked_export_comes_in_as_it_is(app, owner, tmp_path):
    body = "Hugo wants `{{< note >}}` and `{{</* x */>}}`, <!--more--> {% raw %} {: .x}"
    owner.write("One", body)
    owner.write("Two", "Later", publish_at="2999-01-01T00:00")
    owner.send("/posts/new", title="Three", body="Draft", action="draft")
    before = {title: (post.body, post.published_at) for title, post in posts(app).items()}
    path = exported(app, tmp_path / "blog.zip")
    with app.app_context():
        db.session.execute(sa.delete(Post))
        db.session.commit()
    zipfile.ZipFile(path).extractall(tmp_path / "site")
    report = imported(app, tmp_path / "site")
    assert (report.skipped, report.changed, +report.left_out) == ([], {}, {})
    after = {title: (post.body, post.published_at) for title, post in posts(app).items()}
    assert after == before
