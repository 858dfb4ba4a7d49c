"""Markdown to safe HTML, excerpts and slugs."""

import html
import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core import rendering
from core.markdown_rules import COLOURED_MAX
from core.rendering import EXCERPT_MAX, SLUG_MAX, excerpt, markdown, slug

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
        ("# A", "<h2>A</h2>"),
        ("### A\n\n##### B", "<h2>A</h2>\n<h3>B</h3>"),
        ("# 1\n## 2\n### 3\n#### 4\n##### 5\n###### 6", "<h6>5</h6>\n<h6>6</h6>"),
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
        *("![a](http://example.org/a.png)", "![a](//example.org/a.png)", "![a](data:image/png;,)"),
        *("[a](javascript:alert(1))", "<javascript:alert(1)>", "[a](data:text/html,x)"),
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
        ("- One\n  <!-- a -->", "<ul>\n<li>One</li>\n</ul>\n"),
        ("`<!-- a -->`", "<p><code>&lt;!-- a --&gt;</code></p>\n"),
        ("    <!-- a -->", "&lt;!-- a --&gt;"),
        ("```\n<!-- a -->\n```", "&lt;!-- a --&gt;"),
        ("<!-- One", "<p>&lt;!-- One</p>\n"),
        ("\\<!-- One -->", "<p>&lt;!-- One --&gt;</p>\n"),
        ("<b>One</b>", "<p>&lt;b&gt;One&lt;/b&gt;</p>\n"),
    ],
)
@pytest.mark.parametrize("small", [False, True])
def test_comments_of_html_are_shown_in_code_alone(text, expected, small):
    assert expected in markdown(text, small=small)


def test_a_comment_of_html_is_in_no_excerpt():
    assert excerpt("One <!-- secret\n\nwords --> two.\n\n<!--more-->\n\nThree.") == (
        "One <!-- secret words --> two. Three."
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
    "piece", ["> ", "- ", "[", "*", "`", "![", "<", "|a", "a\n", "&", "\\", "(", "[^1]"]
)
def test_hostile_text_is_rendered_and_stays_in_bounds(piece):
    text = piece * (50_000 // len(piece))
    assert len(markdown(text)) < 20 * len(text)


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
