"""What a WordPress export holds, as this blog shows it."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from conftest import Person, on_both
from test_porting import HEAD, TAIL, answer, import_command, imported, item, posts, tag, wordpress
from werkzeug.test import encode_multipart

from core import rendering
from core.database import db
from core.pagination import NEVER
from models import Comment, User

OLD = "https://old.example"
AT = datetime(2020, 5, 17, 12, 30, tzinfo=UTC)


def post(title, link, body):
    """An item that was at that path of the old blog."""
    return item(title, tag("link", f"{OLD}{link}"), content__encoded=body)


def attachment(id, name, words="", **fields):
    """A picture that was uploaded to the old blog."""
    url = f"{OLD}/{name}"
    meta = field("_wp_attachment_image_alt", words)
    fields |= {"wp__post_type": "attachment", "wp__post_id": id, "wp__attachment_url": url}
    return item(name, meta, excerpt__encoded="", **fields)


def field(key, value):
    """A custom field of an item."""
    inner = tag("wp:meta_key", key) + tag("wp:meta_value", value)
    return f"<wp:postmeta>{inner}</wp:postmeta>"


def only(app, tmp_path, *more, **fields):
    """The one post of an export, and the report."""
    fields = {"excerpt__encoded": ""} | fields
    report = imported(app, wordpress(tmp_path / "wp.xml", item(**fields), *more))
    assert report.skipped == []
    return next(iter(posts(app).values())), report


def comments(app):
    """The comments in their order, with their authors."""
    with app.app_context():
        return db.session.scalars(sa.select(Comment).order_by(Comment.id)).all()


# Paragraphs and words -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One.\n\nTwo.\n\n<p>Three.</p>\n\nFour.", "One.\n\nTwo.\n\nThree.\n\nFour."),
        ("<p>One\ntwo</p>\n<h2>A\nhead</h2>", "One  \ntwo\n\n## A head"),
        ("<!-- wp:paragraph -->\n<p>One\ntwo</p>", "One\ntwo"),
        ("One<br>two<br /><br />three", "One  \ntwo\n\nthree"),
        ("One\n&nbsp;\n\n<p>&nbsp;</p>two", "One\n\ntwo"),
        ("One\n\n<!--more-->\n\ntwo", "One\n\ntwo"),
        ("A <center>B</center> C", "A\n\nB\n\nC"),
        ("Signed,\n- Joe\n\n1986. A year.", "Signed,  \n\\- Joe\n\n1986\\. A year."),
        ("#tea\n# tea\n&gt; tea\n~~~", "#tea  \n\\# tea  \n\\> tea  \n\\~\\~~"),
        ("a|b\n--|--\nx\n===", "a|b  \n\\--|--  \nx  \n\\==="),
        ("2 * 3, a_b, _a_, [a](b), [1]: x", "2 \\* 3, a_b, \\_a\\_, [a\\](b), [1\\]: x"),
        (
            "&lt;!-- a --&gt; &lt;i&gt; 1 < 2 `x` C:\\dir",
            "\\<!-- a --> \\<i> 1 < 2 \\`x\\` C:\\dir",
        ),
        ("R&amp;D, &amp;copy;, x^[1]", "R&D, \\&copy;, x\\^[1]"),
        ("Wow!<a href='https://b.example'>b</a>", "Wow\\![b](https://b.example)"),
        ("See https://b.example/_a_/c.", "See <https://b.example/_a_/c>."),
        ("See https://b.example/a_b.", "See https://b.example/a_b."),
        ("<b>Note:</b>text, <b>a</b><b>b</b>", "**Note**:text, **ab**"),
        ("<b>One\n\ntwo</b>", "**One**\n\n**two**"),
        ("10<sup>6</sup> H<sub>2</sub>O 1<sup>st</sup>", "10⁶ H₂O 1st"),
        ("<dl><dt>Tea</dt><dd>Hot</dd></dl>", "**Tea**\n\nHot"),
        ("<ol start='3'><li>a</li><li>- b</li></ol>", "3. a\n4. \\- b"),
        ("a<![if !vml]>b", "ab"),
    ],
)
def test_words_stay_what_they_are(app, owner, tmp_path, text, expected):
    found, _ = only(app, tmp_path, content__encoded=text)
    assert found.body == expected


@pytest.mark.parametrize(
    "text", ["- Joe", "1986. It", "# x", "a\n---", "> a", "**a**", "<!-- a -->"]
)
def test_escaped_words_are_shown_as_they_were(app, owner, tmp_path, text):
    found, _ = only(app, tmp_path, content__encoded=text.replace("<", "&lt;"))
    words = text.replace("\n", " ")
    assert rendering.plain_text(found.body) == words
    assert "<li>" not in rendering.markdown(found.body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[sourcecode language="python"]\nif x &lt; 1:\n    pass\n[/sourcecode]',
            "```python\nif x < 1:\n    pass\n```",
        ),
        ("[csharp]\nvar a = 1;\n\nvar b;\n[/csharp]", "```csharp\nvar a = 1;\n\nvar b;\n```"),
        ("[code lang=”js” firstline='2']a\nb[/code]", "```js\na\nb\n```"),
        ("Use [code]a < b[/code].", "Use `a < b`."),
        ("Typed:\n<code># one\n# two</code>\n\nEnd", "Typed:  \n\n```\n# one\n# two\n```\n\nEnd"),
        ('<pre class="brush: php; ruler: true">a\n\n\nb  \n</pre>', "```php\na\n\n\nb\n```"),
        ('<pre><code class="language-c">a\n</code></pre>', "```c\na\n```"),
        ("<pre>```\na\n```</pre>", "````\n```\na\n```\n````"),
        ("<pre>[gallery]</pre>", "```\n[gallery]\n```"),
        ("<b><code>a\n\nb</code></b>", "```\na\n\nb\n```"),
        ("[text] [[gallery]] [[Wiki]] [sic]", "[text] [gallery] [[Wiki]] [sic]"),
    ],
)
def test_code_is_code(app, owner, tmp_path, text, expected):
    found, _ = only(app, tmp_path, content__encoded=text)
    assert found.body == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<table><tr><th>a|b</th></tr><tr><td>c</td></tr></table>", "| a\\|b |\n| --- |\n| c |"),
        (
            "<table><caption>Teas</caption><tr><td>a<br>b</td><td>c</td></tr></table>",
            "Teas\n\n|  |  |\n| --- | --- |\n| a b | c |",
        ),
        (
            "<table><tr><td><table><tr><td>a</td><td>b</td></tr></table></td></tr></table>",
            "|  |\n| --- |\n| a, b |",
        ),
    ],
)
def test_a_table_is_a_table(app, owner, tmp_path, text, expected):
    found, _ = only(app, tmp_path, content__encoded=text)
    assert found.body == expected


@pytest.mark.parametrize(
    "text",
    [
        "<!-- wp:paragraph -->\n<p>x</p>\n<!-- /wp:paragraph -->\n" * 5_000,
        "<!-- a -->x" * 20_000,
        "<?php ?>x" * 20_000,
        "]:" * 100_000 + "(",
        "[embed]" * 20_000 + "[/embed]",
    ],
)
def test_a_hostile_post_takes_no_longer_than_another(app, owner, tmp_path, text):
    """Where time grew with the square of the length, each took minutes."""
    found, _ = only(app, tmp_path, content__encoded=f"{text} last")
    assert "last" in found.body


def test_unknown_shortcodes_are_left_as_text_and_named(app, owner, tmp_path):
    text = '[contact-form-7 id="1"] [sic] [box]a[/box]'
    found, report = only(app, tmp_path, content__encoded=text)
    assert found.body == text
    names = ["[contact-form-7]", "[box]"]
    assert report.changed == {f"shortcodes left as text ({name})": 1 for name in names}


# Pictures and media -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected", "changed"),
    [
        (
            '[caption id="a"]<img src="https://o.example/a.jpg" alt="A" /> Words[/caption]',
            "![A](https://o.example/a.jpg)\n\nWords",
            {},
        ),
        (
            '[caption caption="Old"]<a href="/b"><img src="https://o.example/a.jpg"></a>[/caption]',
            "[![](https://o.example/a.jpg)](/b)\n\nOld",
            {},
        ),
        (
            "<figure><img src='https://o.example/a.jpg'><figcaption>Words</figcaption></figure>",
            "![](https://o.example/a.jpg)\n\nWords",
            {},
        ),
        (
            '<img src="http://o.example/a.jpg" alt="A [b]">\n\n'
            '<img src="http://o.example/b (1).jpg">',
            "![A [b]](https://o.example/a.jpg)\n\n![](https://o.example/b%20%281%29.jpg)",
            {"picture addresses (http to https)": 2},
        ),
        ('<img alt="Words">', "Words", {}),
        (
            "[embed]https://v.example/?v=1&amp;t=2[/embed]\n[youtube=https://v.example/_3]",
            "<https://v.example/?v=1&t=2>\n\n<https://v.example/_3>",
            {"embedded media (now links)": 2},
        ),
        (
            "Look:\n\nhttps://v.example/1\n\nhttps://v.example/2",
            "Look:\n\nhttps://v.example/1\n\nhttps://v.example/2",
            {"embedded media (now links)": 2},
        ),
        (
            '<iframe src="//v.example/1"></iframe><audio src="https://o.example/a.mp3"></audio>',
            "[Content at v.example](https://v.example/1)\n\n[Sound: a.mp3](https://o.example/a.mp3)",
            {"embedded media (now links)": 2},
        ),
        (
            '<video><source src="https://o.example/a.mp4">Old browser</video>'
            '<object><param name="movie" value="https://o.example/p"></object>'
            '<iframe src="https://v.example/2" title="A film"></iframe>[video mp4="https://o/b.mp4"]',
            "[Video: a.mp4](https://o.example/a.mp4)\n\n[Content at o.example](https://o.example/p)"
            "\n\n[A film](https://v.example/2)\n\n[Video: b.mp4](https://o/b.mp4)",
            {"embedded media (now links)": 4},
        ),
        (
            "<a href='javascript:alert(1)'>a</a> <a href='mailto:a@b.example'>b</a>",
            "a [b](mailto:a@b.example)",
            {"links without a usable address (now words)": 1},
        ),
    ],
)
def test_pictures_and_media_are_kept(app, owner, tmp_path, text, expected, changed):
    link = tag("link", f"{OLD}/a/")
    found, report = only(app, tmp_path, comments=link, content__encoded=f"<p>A</p>{text}")
    assert found.body == f"A\n\n{expected}".replace("(/b)", f"({OLD}/b)")
    assert report.changed == changed
    assert "<img" not in rendering.markdown(found.body).replace('<img src="https://', "")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("A<script>b</script>", "HTML elements (script)"),
        ('A<img src="data:image/png;base64,AA">', "pictures inside of the text (data:)"),
        ('A <!-- wp:block {"ref":7} /-->', "blocks without text (block)"),
        ('A [gallery ids="5"]', "pictures of galleries (not in the file)"),
    ],
)
def test_what_cannot_be_shown_is_counted(app, owner, tmp_path, text, what):
    found, report = only(app, tmp_path, content__encoded=text)
    assert found.body == "A"
    assert +report.left_out == {what: 1}
    assert not report.is_complete
    assert report.details == [f"item 1 (“A title”): {what}: left out."]


def test_galleries_and_lead_pictures_come_from_the_file(app, owner, tmp_path):
    """Also where the pictures stand behind the post."""
    pictures = [attachment(5, "a.jpg", "A tree"), attachment(6, "b.jpg", wp__post_parent=3)]
    pictures.append(attachment(8, "tea.pdf", wp__post_parent=3))
    text = 'One [gallery ids="5,6,7"] two [gallery]'
    lead = field("_thumbnail_id", "5")
    fields = {"wp__post_id": 3, "content__encoded": text, "comments": lead}
    found, report = only(app, tmp_path, *pictures, **fields)
    tree = f"![A tree]({OLD}/a.jpg)"
    assert found.body == "\n\n".join(
        [tree, "One", tree, f"![]({OLD}/b.jpg)", "two", f"![]({OLD}/b.jpg)"]
    )
    assert +report.left_out == {"pictures of galleries (not in the file)": 1}


def test_a_lead_picture_that_is_not_in_the_file_is_counted(app, owner, tmp_path):
    _, report = only(app, tmp_path, comments=field("_thumbnail_id", "9"))
    assert +report.left_out == {"lead pictures (not in the file)": 1}


# Posts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"wp__status": "private"}, "private posts"),
        ({"wp__status": "pending"}, "pending posts"),
        ({"wp__post_password": "tea"}, "posts with a password"),
        ({"wp__post_type": "page"}, "pages"),
    ],
)
def test_what_others_could_not_see_becomes_a_draft_and_is_said(app, owner, tmp_path, fields, what):
    found, report = only(app, tmp_path, **fields)
    assert (found.published_at, found.publish_at) == (NEVER, AT)
    assert found.is_page == (what == "pages")
    assert report.changed == {f"{what} (now drafts)": 1}
    assert report.is_complete


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"title": "", "wp__post_name": ""}, {"title": ""}),
        ({"title": "The <em>best</em> tea"}, {"title": "The best tea"}),
        ({"title": "<Jerry> &lt;b&gt; &amp; Tom"}, {"title": "<Jerry> <b> & Tom"}),
        ({"title": "x" * 300}, {"title": "x" * 300}),
        ({"content__encoded": "x" * 60_000}, {"body": "x" * 60_000}),
        ({"wp__status": "\n publish \n", "wp__post_type": "\n  post\n"}, {"published_at": AT}),
        ({"wp__post_date_gmt": "1955-05-17 12:30:00"}, {"published_at": AT.replace(year=1955)}),
        (
            {
                "wp__post_date": "",
                "wp__post_date_gmt": "",
                "pubDate": "Sun, 17 May 2020 14:30 +0200",
            },
            {"published_at": AT},
        ),
    ],
)
def test_posts_come_in_as_they_are(app, owner, tmp_path, fields, expected):
    found, _ = only(app, tmp_path, **fields)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize("date", ["", "Mon, 30 Nov -0001 00:00:00 +0000", "soon"])
def test_a_post_without_a_date_is_named(app, owner, tmp_path, date):
    bad = item("A", wp__post_date="0000-00-00", wp__post_date_gmt="", pubDate=date)
    report = imported(app, wordpress(tmp_path / "wp.xml", bad))
    assert report.skipped == ["item 1 (“A”): it has no date."]


def test_what_a_post_cannot_have_is_counted(app, owner, tmp_path):
    more = field("_edit_last", "1") + field("mood", "calm")
    for domain, name in [("author", "second"), ("author", "jo.smith"), ("series", "Tea")]:
        more += f'<category domain="{domain}">{name}</category>'
    fields = {"excerpt__encoded": "Short", "wp__is_sticky": "1", "title": "<i>A</i>"}
    _, report = only(app, tmp_path, comments=more, **fields)
    assert +report.left_out == {
        "further authors": 1,
        "custom fields": 1,
        "excerpts": 1,
        "categories (series)": 1,
    }
    assert report.changed == {
        "titles (without their HTML)": 1,
        "sticky posts (now in their order)": 1,
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (f'<a href="{OLD}/second/">it</a>', "[it](/posts/2/second)"),
        ('<a href="/second">it</a>', "[it](/posts/2/second)"),
        ('<a href="http://www.old.example/second/#end">it</a>', "[it](/posts/2/second#end)"),
        (f'<a href="{OLD}/%73econd/" title="T">it</a>', '[it](/posts/2/second "T")'),
        (f'<a href="{OLD}/third/">it</a>', f"[it]({OLD}/third/)"),
        (f'<a href="{OLD}/">it</a>', f"[it]({OLD}/)"),
        (f'<a href="{OLD}/second/?page=2">it</a>', f"[it]({OLD}/second/?page=2)"),
        (f'<a href="{OLD}/second/">{OLD}/second/</a>', f"[{OLD}/second/](/posts/2/second)"),
        (f"<code>[it]({OLD}/second/)</code>", f"`[it]({OLD}/second/)`"),
    ],
)
def test_a_link_to_another_imported_post_leads_to_the_new_one(
    app, owner, tmp_path, words, expected
):
    items = [post("First", "/first/", f"<p>See {words}.</p>"), post("Second", "/second/", "x")]
    path = wordpress(tmp_path / "wp.xml", *items, post("Home", "/", "x"))
    imported(app, path)
    found = posts(app)
    assert found["First"].body == f"See {expected}."
    assert found["First"].updated_at is None
    assert imported(app, path).changed == {}


@on_both
def test_links_are_led_also_in_an_import_that_was_interrupted(app, owner, tmp_path):
    first = post("First", "/first/", f'<a href="{OLD}/second/">it</a>')
    path = tmp_path / "wp.xml"
    imported(app, wordpress(path, first))
    report = imported(app, wordpress(path, first, post("Second", "/second/", "x")))
    assert posts(app)["First"].body == "[it](/posts/2/second)"
    assert report.changed == {"links (to posts of this import)": 1}
    assert "First" in Person(app).get("/search?q=it").text


# Comments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'Look: <img src="https://o.example/a.jpg" alt="tree">',
            "Look: [tree](https://o.example/a.jpg)",
        ),
        ('<img src="https://o.example/a.jpg">', "[a.jpg](https://o.example/a.jpg)"),
        (
            '<a href="https://b.example"><img src="https://o.example/a.jpg" alt="A"></a>',
            "[A](https://b.example)",
        ),
        ("<h2>My view</h2>Is", "**My view**\n\nIs"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a, b  \nc"),
        ("One\ntwo\n\n# three", "One  \ntwo\n\n\\# three"),
        ("x" * 6_000, "x" * 6_000),
    ],
)
def test_comments_have_links_bold_and_plain_words(app, owner, tmp_path, text, expected):
    only(app, tmp_path, comments=answer(content=text))
    assert comments(app)[0].body == expected


def test_an_answer_says_whom_it_answers(app, owner, tmp_path):
    thread = answer(id="1", author="Ann *") + answer(id="2", author="Ben", parent="0")
    thread += answer(id="3", author="Cid", parent="1", content="Green.")
    thread += answer(id="4", author="Dot", parent="9", content="To spam.")
    _, report = only(app, tmp_path, comments=thread)
    bodies = [comment.body for comment in comments(app)]
    assert bodies[2:] == ["*In answer to Ann \\*:*\n\nGreen.", "To spam."]
    assert report.changed == {
        "answers (now with “In answer to”)": 1,
        "answers (to comments that are missing)": 1,
    }


def test_a_commenters_website_is_on_their_page(app, owner, tmp_path):
    sites = ["https://cid.example", "https://cid.example", "https://other.example", ""]
    thread = "".join(
        answer(author="Cid", author_url=site, content=f"{n}") for n, site in enumerate(sites)
    )
    _, report = only(app, tmp_path, comments=thread)
    assert 'href="https://cid.example"' in Person(app).get("/users/Cid").text
    assert +report.left_out == {"websites of commenters (second ones)": 1}


def test_comments_without_a_name_are_taken(app, owner, tmp_path):
    Person(app, "Anonymous-1").sign_up()
    _, report = only(app, tmp_path, comments=answer(author="") + answer(author="", content="B"))
    first, second = comments(app)
    assert first.author_id == second.author_id
    assert first.author.username.startswith("Anonymous-")
    assert first.author.role == "member"
    assert report.changed == {
        "comments without a name (now by Anonymous)": 2,
        "names (taken or reserved, now with a number)": 1,
    }


def test_long_names_are_shortened_and_counted(app, owner, tmp_path):
    _, report = only(app, tmp_path, comments=answer(author="x" * 60))
    assert comments(app)[0].author.display_name == "x" * 50
    assert report.changed == {"names (shortened)": 1}


def test_mail_addresses_are_not_kept_and_counted(app, owner, tmp_path):
    _, report = only(app, tmp_path, comments=answer(author_email="kim@old.example"))
    assert report.changed == {"mail addresses (not kept)": 1}
    assert report.is_complete


# XML ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "text", "after", "expected"),
    [
        (b"\n", b"Tea", b"", "Tea"),
        (b"\xef\xbb\xbf", b"Tea", b"", "Tea"),
        (b"<br />\n<b>Warning</b>: x in y.php\n", b"Tea", b"", "Tea"),
        (b"", b"T\x0be\x08a", b"", "Tea"),
        (b"", b"T\xe9a \x93x\x94", b"", "Téa “x”"),
        (b"", "Tée".encode(), b"<a>x & y &nbsp; &#11; &amp; &#233;</a>", "Tée"),
        (b"", b"a & b &nbsp; c", b"", "a & b \xa0 c"),
    ],
)
def test_xml_that_is_not_quite_xml_comes_in(app, owner, tmp_path, before, text, after, expected):
    whole = HEAD + item(content__encoded="HERE", title="A") + "AFTER" + TAIL
    content = before + whole.encode().replace(b"HERE", text).replace(b"AFTER", after)
    path = tmp_path / "wp.xml"
    path.write_bytes(content)
    report = imported(app, path)
    assert report.skipped == []
    assert posts(app)["A"].body == expected


def test_repairs_of_the_xml_are_counted(app, owner, tmp_path):
    path = wordpress(tmp_path / "wp.xml", item("A\x08 & \x0b"), "<a>&nbsp; & &#55357;</a>")
    assert imported(app, path).changed == {"errors of the XML (repaired)": 5}


@pytest.mark.parametrize("encoding", ["iso-8859-1", "windows-1252", "utf-16", "no-such", "zlib"])
def test_the_declared_encoding_counts(app, owner, tmp_path, encoding):
    text = (HEAD + item("Tea", content__encoded="Tée") + TAIL).replace("UTF-8", encoding)
    is_known = encoding not in ("no-such", "zlib")
    path = tmp_path / "wp.xml"
    path.write_bytes(text.encode(encoding if is_known else "utf-8"))
    imported(app, path)
    assert posts(app)["Tea"].body == "Tée"


def test_a_repair_at_the_edge_of_two_parts_changes_nothing(app, owner, tmp_path):
    """Each text of many is cut somewhere, in a mark of CDATA, a reference, a letter."""
    items = [item(f"T&T {n}", content__encoded=f"ä & ö {n}" * 300) for n in range(700)]
    path = wordpress(tmp_path / "wp.xml", *items)
    assert path.stat().st_size > 2 * 2**20
    report = imported(app, path)
    assert (report.added["posts"], report.changed) == (700, {})
    assert posts(app)["T&T 699"].body == "ä & ö 699" * 300


def test_the_import_says_what_it_changed(app, owner, tmp_path):
    path = wordpress(tmp_path / "wp.xml", item(excerpt__encoded="", wp__post_type="page"))
    result = import_command(app, path)
    assert result.exit_code == 0
    assert "Changed: 1 pages (now drafts)." in result.output
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(User.id))) == 2


@on_both
def test_the_longest_texts_come_in_and_can_be_saved(app, owner, tmp_path):
    words = " ".join(f"ä{n}" for n in range(100_000))
    body = words.encode()[:899_990].decode(errors="ignore")
    comment = answer(content=body, author="Kim")
    found, _ = only(
        app,
        tmp_path,
        title="木" * 2000,
        content__encoded=body,
        comments=comment,
        dc__creator="olga",
    )
    assert (len(found.title), found.body) == (2000, body)
    assert comments(app)[0].body == body
    fields = {"title": found.title, "body": body, "action": "save", "version": found.version}
    fields["csrf_token"] = owner.token()
    assert sent(owner, found, fields).status_code == 303
    assert sent(owner, found, fields | {"body": f"{body}!"}).status_code == 422
    assert "/posts/1/" in owner.get("/search?q=ä99").text


def sent(person, found, fields):
    """The answer to the form of a post, sent as browsers do."""
    boundary, content = encode_multipart(fields)
    type = f"multipart/form-data; boundary={boundary}"
    return person.client.post(f"/posts/{found.id}/edit", data=content, content_type=type)
