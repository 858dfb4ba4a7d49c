"""Markdown to safe HTML, excerpts and slugs."""

import html
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import missing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core import rendering
from core.markdown_rules import COLOURED_MAX, parser
from core.rendering import EXCERPT_MAX, SLUG_MAX, excerpt, markdown, slug

ROOT = Path(__file__).parent.parent

PIECES = [
    *(
        "# ",
        "> ",
        "- [x] ",
        "1. ",
        "    ",
        "```python\n",
        "```",
        "~~",
        "**",
        "_",
        "`",
        "|",
        "|-|\n",
    ),
    *(
        "[a](",
        "![a](",
        "<",
        ">",
        "&amp;",
        "<script>",
        "[^1]",
        "[^1]: ",
        "<!--",
        "-->",
        "https://[",
        "「",
        "- [ ] ",
        "https://é.example/",
        "://",
    ),
    *(
        "\n",
        "\n\n",
        "\\",
        "é",
        "🎉",
        "a",
        "javascript:",
        '"',
        ")",
        "]",
        "\t",
        "---",
        "http://[",
        "@",
    ),
]
texts = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**a** _b_", "<strong>a</strong> <em>b</em>"),
        ("# A", '<h2 id="a">A</h2>'),
        ("### A\n\n##### B", '<h2 id="a">A</h2>\n<h3 id="b">B</h3>'),
        ("# 1\n## 2\n### 3\n#### 4\n##### 5\n###### 6", '<h6 id="5">5</h6>\n<h6 id="6">6</h6>'),
        ("~~a~~", "<s>a</s>"),
        ("|a|\n|-:|\n|1|", '<td class="right">1</td>'),
        ("- [x] a", 'checked="checked" disabled="disabled" type="checkbox"'),
        ("a[^1]\n\n[^1]: b", '<sup class="footnote-ref">'),
        ("```python\nimport x\n```", '<span class="kn">import</span>'),
        ("```nonsense\n<b>\n```", "&lt;b&gt;"),
        ("https://example.org", 'href="https://example.org" rel="nofollow ugc noopener"'),
        ("[a](/posts/1/)", 'href="/posts/1/" rel="nofollow ugc noopener"'),
        ("![a](https://example.org/a.png)", 'src="https://example.org/a.png" alt="a"'),
        ("<b>a</b>", "&lt;b&gt;a&lt;/b&gt;"),
    ],
)
def test_markdown_is_rendered(text, expected):
    assert expected in markdown(text)


@pytest.mark.parametrize(
    "text",
    [
        *("![a](data:image/png;,)", "![a](feed:x)", "![a]()", "![a](https://[)", "[a](http://[)"),
        *(
            "[a](https://example.org:99999)",
            "[a](javascript:alert(1))",
            "<javascript:alert(1)>",
            "[a](data:text/html,x)",
        ),
        *("[a](feed:x)", "[a](vbscript:x)", "app.py", "<img src=x onerror=y>"),
    ],
)
def test_markdown_loads_and_links_to_nothing_risky(text):
    assert not re.search(r"<a [^>]*href|<img [^>]*src", markdown(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One.\n\n<!--more-->\n\nTwo.", "<p>One.</p>\n<p>Two.</p>\n"),
        ("One <!-- secret --> two.", "<p>One  two.</p>\n"),
        ("<!-- a -->\n**One**", "<p><strong>One</strong></p>\n"),
        ("<!-- a --> **One**", "<p> <strong>One</strong></p>\n"),
        ("<!-- over\n\nsome\n\nlines -->\n\nOne", "<p>One</p>\n"),
        ("<!-- a\n\nb --> <i>One", "<p>&lt;i&gt;One</p>\n"),
        ("- One\n  <!-- a -->", '<ul>\n<li dir="auto">One</li>\n</ul>\n'),
        ("`<!-- a -->`", "<p><code>&lt;!-- a --&gt;</code></p>\n"),
        ("    <!-- a -->", "&lt;!-- a --&gt;"),
        ("```\n<!-- a -->\n```", "&lt;!-- a --&gt;"),
        ("<!-- One", "<p>&lt;!-- One</p>\n"),
        ("\\<!-- One -->", "<p>&lt;!-- One --&gt;</p>\n"),
        ("<b>One</b>", "<p>&lt;b&gt;One&lt;/b&gt;</p>\n"),
        ("One <!-- a\n\nb --> two.", "<p>One</p>\n<p>two.</p>\n"),
        ("One <!-- a\n\n- b\n\nc --> two <!-- d\n\ne -->", "<p>One</p>\n<p>two</p>\n"),
        ("One <!-- a\n\n- b", "<p>One &lt;!-- a</p>"),
        ("`<!--` One\n\n`-->`", "<p><code>&lt;!--</code> One</p>\n<p><code>--&gt;</code></p>\n"),
        ("> One <!-- a\n\nb -->", "<p>One &lt;!-- a</p>\n</blockquote>\n<p>b --&gt;</p>\n"),
        ("One <!--> two <!---> three", "<p>One  two  three</p>\n"),
        ("One<!--- a --->", "<p>One</p>\n"),
        ("<!-->\nOne", "<p>One</p>\n"),
        ("<?php a ?>", "<p>&lt;?php a ?&gt;</p>\n"),
        ("<![CDATA[a]]>", "<p>&lt;![CDATA[a]]&gt;</p>\n"),
    ],
)
@pytest.mark.parametrize("small", [False, True])
def test_comments_of_html_are_shown_in_code_alone(text, expected, small):
    assert expected in markdown(text, small=small)


def test_a_comment_of_html_is_in_no_excerpt():
    assert (
        excerpt("One <!-- secret\n\nwords --> two.\n\n<!--more-->\n\nThree.") == "One two. Three."
    )
    assert excerpt("One.\n\n<!-- secret\n\nwords -->\n\nTwo.") == "One. Two."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Call](tel:+49123)", 'href="tel:+49123"'),
        ("[Here](geo:1,2)", 'href="geo:1,2"'),
        ("[News](feed:x)", "<p>News (feed:x)</p>"),
        ("<gopher:x>", "<p>gopher:x</p>"),
        ("a [](https://example.org) b", "<p>a  b</p>"),
        ("[![a](/b.png)](https://example.org)", '<a href="https://example.org"'),
        ("# \n\nOne", "<p>One</p>\n"),
        ("# [](x)\n\nOne", "<p>One</p>\n"),
    ],
)
def test_no_link_or_heading_is_dead(text, expected):
    shown = markdown(text)
    assert expected in shown
    assert not re.search(r"<a [^>]*></a>|<h2></h2>|<a rel", shown)


@pytest.mark.parametrize("text", ["a <!-- b ^[secret]\n\nc -->", "![a <!-- secret -->](/b.png)"])
def test_no_note_or_description_shows_a_comment_of_html(text):
    assert "secret" not in markdown(text)


@pytest.mark.parametrize("text", ["[](/a)", "[ ](/a)", "# [&nbsp;](/a)", "# <!-- a -->", "![]()"])
def test_what_is_empty_leaves_nothing_behind(text):
    assert markdown(text) == ""


PICTURE = "/pictures/0123456789abcdef0123456789abcdef-30x40.webp"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("![a *b*](http://example.org/a.png)", '<a href="http://example.org/a.png" rel'),
        ("![a *b*](http://example.org/a.png)", ">a b</a>"),
        ("![](http://example.org/a.png)", ">http://example.org/a.png</a>"),
        ('![a](//example.org/a.png "b")', '<a title="b" href="//example.org/a.png"'),
        ("![a](a.png)", '<a href="a.png"'),
        (
            "[![a](http://example.org/a.png)](/b)",
            '<p><a href="/b" rel="nofollow ugc noopener">a</a>',
        ),
        ("[![a](http://example.org/a.png)](feed:b)", "<p>a (feed:b)</p>"),
        ("![a](foo:b)", "<p>a (foo:b)</p>"),
        ("![](foo:b)", "<p>foo:b</p>"),
        ("![a](data:image/png;base64,AAAA)", "<p>a</p>"),
    ],
)
def test_a_picture_that_would_not_load_is_a_link_with_its_description(text, expected):
    shown = markdown(text)
    assert expected in shown
    assert "<img" not in shown


@given(texts)
@example("![a](https://[)")
@example("![a](https://example.org:99999)")
@settings(max_examples=100, deadline=None)
def test_no_picture_or_link_is_without_address(text):
    assert not re.search("<img (?![^>]*src=)|<a (?![^>]*href=)", markdown(text))


@pytest.mark.parametrize("mark", "。、，！？；：」』）】》〉”")
def test_a_bare_address_ends_before_full_width_punctuation(mark):
    shown = markdown(f"見て https://example.org/a{mark}次は（https://example.org/b）{mark}終わり")
    assert re.findall('href="(.*?)"', shown) == ["https://example.org/a", "https://example.org/b"]
    assert f">https://example.org/a</a>{mark}次は" in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**「引用」**は", "<strong>「引用」</strong>は"),
        ("これは**「引用」**です", "これは<strong>「引用」</strong>です"),
        ("**テスト。**テスト", "<strong>テスト。</strong>テスト"),
        ("*「引用」*は", "<em>「引用」</em>は"),
        ("~~「引用」~~は", "<s>「引用」</s>は"),
        ("**이 용어(This term)**를", "<strong>이 용어(This term)</strong>를"),
        ("这是**“引用”**的", "这是<strong>“引用”</strong>的"),
        ("** 「引用」**は", "** 「引用」**は"),
        ('a**"b"**c', 'a**"b"**c'),
        ('🎉**"b"**🎉', '🎉<strong>"b"</strong>🎉'),
        ("日本_語_", "日本_語_"),
    ],
)
def test_words_are_bold_beside_cjk_punctuation(text, expected):
    assert markdown(text) == f"<p>{expected}</p>\n"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("# The first bridge", ["the-first-bridge"]),
        ("The *first* `bridge`\nof all\n===", ["the-first-bridge-of-all"]),
        ("# A\n# A\n# A 2\n# A", ["a", "a-2", "a-2-2", "a-3"]),
        ("# 日本 語\n# 🎉", ["日本-語"]),
        ("# Comment\n# Comment 2\n# Comment", [f"section-comment{n}" for n in ("", "-2", "-3")]),
        ("# fn1\n# Title error", ["section-fn1", "section-title-error"]),
        ("# ![A bridge](/a.png)", ["a-bridge"]),
    ],
)
def test_a_heading_has_an_id_of_its_words(text, ids):
    assert re.findall(r'<h\d id="(.*?)"', markdown(text)) == ids


def test_no_heading_has_an_id_that_the_page_uses(ann):
    text = "a[^1] b[^1]\n\n[^1]: c"
    page = ann.comment(ann.write(body=text))
    paths = [page, "/posts/new", "/account"]
    refused = ann.send("/posts/new", title="", body="", tags="../x").text
    used = re.findall(r' id="(.*?)"', "".join(ann.get(path).text for path in paths) + refused)
    body = "".join(f"# {id}\n" for id in used) + text
    shown = ann.get(ann.comment(ann.write(body=body))).text
    preview = ann.send("/posts/new", title="a", body=body, action="preview").text
    assert len(re.findall(" id=", shown)) == len(set(re.findall(' id="(.*?)"', shown)))
    assert len(re.findall(" id=", preview)) == len(set(re.findall(' id="(.*?)"', preview)))


def test_footnotes_have_names_that_can_be_said():
    shown = markdown("a[^1] b[^1]\n\n[^1]: c")
    assert shown.count('aria-label="Footnote 1" rel="nofollow ugc noopener">[1]</a>') == 2
    assert re.findall(r'href="(#fnref.*?)" aria-label="(.*?)"', shown) == [
        ("#fnref1", "Back to the text"),
        ("#fnref1:1", "Back to the text, reference 2"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "- [x] a **b**",
            '<label><input checked="checked" disabled="disabled" type="checkbox"> a <',
        ),
        ("1. [ ] a", '<label><input disabled="disabled" type="checkbox"> a</label></li>'),
        ("- \\[ ] a", '<li dir="auto">[ ] a</li>'),
        ("- [ ]a", '<li dir="auto">[ ]a</li>'),
        ("- [x] a\n\n[x]: /b", '<li dir="auto"><a href="/b"'),
    ],
)
def test_a_task_is_a_checkbox_labelled_with_its_words(text, expected):
    assert expected in markdown(text)


def test_an_excerpt_of_tasks_is_their_words():
    assert excerpt("- [x] One\n- [ ] Two") == "One Two"


@pytest.mark.parametrize("tag", ["li", "blockquote", "table"])
def test_what_has_two_sides_follows_its_own_first_letter(tag):
    shown = markdown("a\n\n- b\n\n> c\n\n|d|\n|-|\n|e|")
    assert re.search(f'<{tag}[^>]* dir="auto"', shown)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/", "/blog/"),
        ("/posts/1/x", "/blog/posts/1/x"),
        ("/blogger", "/blog/blogger"),
        ("/blog", "/blog"),
        ("/blog/posts/1/x", "/blog/posts/1/x"),
        ("/blog?tag=a", "/blog?tag=a"),
        ("//example.org/", "//example.org/"),
        ("https://example.org/", "https://example.org/"),
        ("#a", "#a"),
        ("a", "a"),
    ],
)
def test_addresses_of_the_blog_are_below_its_path(url, expected):
    assert f'href="{expected}"' in markdown(f"[a]({url})", root="/blog")
    assert f'href="{url}"' in markdown(f"[a]({url})")


def test_pictures_of_the_blog_are_below_its_path():
    expected = f'src="/blog{PICTURE}" width="30" height="40"'
    assert expected in markdown(f"![a]({PICTURE})", root="/blog")
    assert expected in markdown(f"![a](/blog{PICTURE})", root="/blog")
    base = "https://example.org/blog/posts/1/x"
    assert f'src="https://example.org/blog{PICTURE}"' in markdown(
        f"![a]({PICTURE})", base=base, root="/blog"
    )


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("### A\n\n# B\n\n### C", "223"),
        ("# A\n\n### B\n\n## C\n\n# D", "2332"),
        ("## A\n\n#### B\n\n### C\n\n#### D", "2334"),
    ],
)
def test_headings_skip_no_level_whatever_their_order(text, levels):
    assert "".join(re.findall("<h([1-6])", markdown(text))) == levels


def test_an_excerpt_leaves_headings_out():
    assert excerpt("# The footbridge\n\nThe first bridge is old.") == "The first bridge is old."


def test_a_comment_keeps_its_lines():
    assert markdown("a\nb", small=True) == "<p>a<br>\nb</p>\n"


def test_a_long_block_of_code_goes_without_colours():
    code = "y = 2\n" * (COLOURED_MAX // 6 + 1)
    assert "<span" not in markdown(f"```python\n{code}```")
    assert "y = 2" in markdown(f"```python\n{code}```")


@given(texts, st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_text_becomes_safe_html(text, small):
    rendered = markdown(text, small=small)
    assert "<script" not in rendered
    assert not re.search(
        r'<[^>]*\s(on\w+|style)=|(href|src)="\s*(javascript|data|vbscript):', rendered
    )


@pytest.mark.parametrize(
    "piece",
    [
        *("> ", "- ", "[", "*", "`", "![", "<", "|a", "a\n", "&", "\\", "(", "[^1]", "**「"),
        *("<!--", "-->", "- <!--\n", "a <!-- b\n\n", "a <!-- b\n\n--> "),
        *("- [ ] a\n", "# a\n", "![](http://x)", "https://example.org/a、"),
    ],
)
def test_hostile_text_is_rendered_and_stays_in_bounds(piece):
    text = piece * (50_000 // len(piece))
    assert len(markdown(text)) < 20 * len(text)


@pytest.mark.slow
def test_marks_for_emphasis_are_those_of_commonmark():
    path = ROOT / "node_modules/commonmark-spec/spec.txt"
    if not path.exists():
        missing("CommonMark's examples", "apt-get install npm, then make test-slow")
    section = re.search(r"^## Emphasis and strong emphasis$[\s\S]*?^## ", path.read_text(), re.M)[0]
    examples = re.findall(r"^`{32} example\n([\s\S]*?)^\.\n([\s\S]*?)^`{32}$", section, re.M)
    # The others have HTML, which is text here.
    examples = {text: page for text, page in examples if "<" not in text}
    assert len(examples) == 127
    assert {text: parser(False, slug).render(text) for text in examples} == examples


@pytest.mark.parametrize("piece", ["> <!--\n", "- <!--\n", "  <!--\n", "<!--\n\n", "<!--a "])
def test_comments_that_end_elsewhere_take_no_longer_than_words(piece):
    """Where each was looked for to the end of the text, the first took five minutes."""
    text = f"- x\n{piece * (50_000 // len(piece))}\n\n-->\n\nlast"
    assert "last" in markdown(text)


@given(texts)
@example("a " * 400)
@example("a" * 400)
@example("<b> &lt; &amp;amp;")
@settings(max_examples=150, deadline=None)
def test_an_excerpt_is_short_plain_text_from_the_beginning(text):
    short = excerpt(text)
    assert len(short) <= EXCERPT_MAX + 2
    assert "\n" not in short
    words = html.unescape(re.sub("<[^>]*>", " ", markdown(text)))
    assert set(short.removesuffix(" …")) <= set(words) | {" "}


def test_an_excerpt_leaves_out_notes_and_code_and_tables():
    assert excerpt("One[^1] two.\n\n[^1]: A note.\n```\nx\n```\n\n|a|\n|-|\n|b|") == "One two."


@pytest.mark.parametrize("reference", ["[a]", "![a]"])
def test_references_do_not_multiply_what_they_refer_to(reference):
    text = "[a]: https://" + "x" * 20_000 + "\n\n" + reference * 7000
    assert len(markdown(text)) < 20 * len(text)
    assert markdown(f"{reference}\n\n[a]: https://example.org").count("https://") == 1


def test_a_comment_has_no_table_to_blow_up():
    assert "<table" not in markdown("|a|\n|-|\n|b|", small=True)


def test_an_excerpt_is_cut_between_words():
    assert excerpt("word, " * 100) == "word, " * 48 + "word, word …"


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Hello, World!", "hello-world"),
        ("Crème Brûlée", "creme-brulee"),
        ("हिन्दी में", "हिन्दी-में"),
        ("日本 語", "日本-語"),
        ("a_b/c.d?e#f%g", "a-b-c-d-e-f-g"),
        ("Мёд и чай", "мёд-и-чай"),
        ("Σίσυφος", "σίσυφος"),
        ("Straße", "strasse"),
        ("🎉", ""),
        ("--", ""),
        ("x" * 200, "x" * SLUG_MAX),
    ],
)
def test_a_slug_is_made_of_the_words(title, expected):
    assert slug(title) == expected


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_a_slug_fits_into_a_path(title):
    made = slug(title)
    assert len(made) <= SLUG_MAX
    assert not re.search(r"[\s/?#%.\\&<>\"']|^-|-$|--", made)
    assert unquote(made) == made


@pytest.mark.slow
def test_what_is_kept_is_bounded_in_size():
    texts = [f"[a]: /{n}\n" + "x" * 50_000 for n in range(300)]
    [rendering.markdown(text) for text in texts]
    kept = rendering.markdown.cache
    assert len(kept) < 200
    assert kept.currsize <= kept.maxsize == rendering.RENDERED_MAX
