"""The blog in a real browser, with scripts allowed and without, and before the checkers."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import PASSWORD, Person, missing
from PIL import Image
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parent.parent
# The browser's own calls home fail slowly on a machine without a way out.
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
EARLY = "1955-04-18T12:00"
# What a text can hold, and what others get wrong.
EVERYTHING = """
### The first bridge\n# Content\n###### Content\n# \nText <!-- secret -->, a note[^1] and again[^1].

|a|\n|:-:|\n|b|

- [ ] a task with *words*\n- [x] another\n\n1. שלום\n2. > سلام

```python\nx\n```

<!-- over

several --> lines. [Nothing]( ) [](https://x.example/) [call](tel:+123) [odd](foo:bar) ![](/x)
![A picture](http://x.example/a.png) [![In a link](http://x.example/b.png)](https://x.example/)

これは**「引用」**です。https://example.org/a。次

[^1]: A note with `code`.
"""
VIEWS = [(320, "light"), (768, "dark"), (1280, "light"), (320, "dark")]  # pixels wide, scheme


@pytest.fixture(scope="session")
def chromium():
    """The path of the browser's program."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    return path or missing("Chromium", "apt-get install chromium")


@pytest.fixture
def browser(chromium):
    """A running browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def base(app, serve):
    """The address of a running blog."""
    return serve(app)


def follow(page, role, name, **options):
    """Click it, and wait for the page to which it leads."""
    with page.expect_navigation():
        page.get_by_role(role, name=name, **options).click()


def sign_up(page, name):
    follow(page, "link", "Sign Up")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    follow(page, "button", "Sign up")


def write(page, title, text):
    follow(page, "link", "New Post")
    page.get_by_label("Title").fill(title)
    page.get_by_label("Text").fill(text)
    follow(page, "button", "Publish")


def comment(page, text):
    page.get_by_label("Your comment").fill(text)
    follow(page, "button", "Comment")


def add_picture(page, folder):
    """Add a picture in the post's form."""
    Image.new("RGB", (600, 400), "teal").save(folder / "picture.png")
    page.get_by_label("Picture", exact=True).set_input_files(folder / "picture.png")
    page.get_by_label("What it shows").fill("A colour")
    follow(page, "button", "Add picture")


def check(page):
    """No accessibility fault in either scheme, and no sideways scrolling at any width."""
    for width, scheme in VIEWS:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, page.url
        results = Axe().run(page)
        assert results.violations_count == 0, f"{page.url} {results.generate_report()}"


def pass_by(page):
    """Axe is a script itself, so it does not run where there are none."""


@pytest.mark.parametrize(
    ("scripts", "check"),
    [
        pytest.param(True, check, marks=pytest.mark.slow, id="scripts"),
        pytest.param(False, pass_by, id="no-scripts"),
    ],
)
def test_a_journey(browser, base, scripts, check):
    """Sign up, post, log out, sign up, comment, log out, read."""
    page = browser.new_context(java_script_enabled=scripts).new_page()
    page.goto(base)
    check(page)
    sign_up(page, "ann")
    check(page)
    write(page, "My first post", "Hello **world**")
    check(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("My first post")
    follow(page, "button", "Log Out")
    page.goto(page.url + "posts/1/my-first-post")
    follow(page, "link", "Log in to comment")
    check(page)
    follow(page, "link", "Sign up here.")
    page.get_by_label("Username").fill("bob")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    follow(page, "button", "Sign up")
    expect(page).to_have_url(f"{base}/posts/1/my-first-post#write")
    comment(page, "Welcome!\nAnd good luck.")
    expect(page).to_have_url(f"{base}/posts/1/my-first-post#comment-1")
    follow(page, "button", "Log Out")
    check(page)
    follow(page, "link", "My first post", exact=True)
    check(page)
    expect(page.get_by_role("article").first).to_contain_text("Hello world")
    expect(page.locator(".comments")).to_contain_text("Commented on")
    expect(page.locator(".comments")).to_contain_text("And good luck.")


@pytest.mark.slow
def test_axe_finds_nothing_on_any_page(app, browser, base, tmp_path):
    app.test_cli_runner().invoke(args=["demo"])
    page = browser.new_page()
    for path in (
        "/",
        "/posts/2/what-a-post-can-hold",
        "/posts/4/",
        "/posts/5/",
        "/posts/8/",
        "/posts/9/",
        "/posts/10/",
        "/login",
        "/x",
    ):
        page.goto(base + path)
        check(page)
    page.goto(base)
    sign_up(page, "admin")
    check(page)
    sign_up(page, "ann")
    write(page, "x", " ")
    check(page)
    write(page, "Mine", "Some text.")
    comment(page, "A comment.")
    check(page)
    own = ("/posts/11/edit", "/posts/11/delete", "/comments/23/edit", "/comments/23/delete")
    for path in (
        *own,
        "/posts/1/edit",
        "/users/ann",
        "/drafts",
        "/archive",
        "/tags",
        "/tags/walking",
        "/search",
        "/search?q=walk",
    ):
        page.goto(base + path)
        check(page)
    page.goto(f"{base}/posts/11/edit")
    follow(page, "button", "Preview")
    check(page)
    page.goto(f"{base}/posts/new")
    add_picture(page, tmp_path)
    check(page)
    page.goto(f"{base}/account")
    check(page)
    page.goto(f"{base}/posts/new")
    page.get_by_text("How to write Markdown").click()
    check(page)
    page.context.clear_cookies()
    page.get_by_label("Title").fill("Kept")
    page.get_by_label("Text").fill("Kept, too.")
    follow(page, "button", "Publish")
    check(page)


@pytest.mark.slow
def test_axe_finds_nothing_on_the_owners_pages(make_app, serve, browser):
    app = make_app(MODERATION="all")
    ann, bob = Person(app, "ann").sign_up(), Person(app, "bob").sign_up()
    bob.comment(ann.write(), "It waits.")
    bob.send("/posts/1/comments", body="Refused.", website="x")
    page = browser.new_page()
    page.goto(f"{serve(app)}/login")
    page.get_by_label("Username").fill("ann")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    follow(page, "button", "Log in")
    for name in ("People", "bob", "Remove everything by this account", "Moderation (1)"):
        follow(page, "link", name, exact=True)
        check(page)
    follow(page, "button", "Approve")
    expect(page.get_by_text("No comment waits.")).to_be_visible()
    for name in ("Account", "Change your password", "Privacy"):
        follow(page, "link", name, exact=True)
        check(page)


@pytest.mark.slow
def test_a_picture_comes_before_the_words(browser, base, tmp_path):
    page = browser.new_page()
    page.goto(base)
    sign_up(page, "ann")
    follow(page, "link", "New Post")
    add_picture(page, tmp_path)
    page.get_by_label("Title").fill("With a picture")
    follow(page, "button", "Publish")
    picture = page.get_by_role("img", name="A colour")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 600
    page.get_by_label("Search").fill("pictu")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2)).to_have_text("With a picture")


@pytest.mark.slow
@pytest.mark.parametrize("label", ["Title", "Tags", "What it shows"])
def test_enter_in_a_field_saves_a_draft(browser, base, label):
    page = browser.new_page()
    page.goto(base)
    sign_up(page, "ann")
    follow(page, "link", "New Post")
    page.get_by_label("Title").fill("Half")
    page.get_by_label("Text", exact=True).fill("Some text.")
    page.get_by_label("Title").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Title")).to_be_focused()
    page.get_by_label(label).focus()
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.get_by_text("Your draft is saved.")).to_be_visible()
    page.goto(base)
    expect(page.get_by_text("There are no posts here yet.")).to_be_visible()


@pytest.mark.slow
def test_a_long_name_widens_no_page(browser, base):
    page = browser.new_page()
    page.goto(base)
    sign_up(page, "W" * 30)
    follow(page, "link", "Account")
    page.get_by_label("Display name").fill("M" * 50)
    follow(page, "button", "Save")
    check(page)
    write(page, "A post", "Some text.")
    comment(page, "A comment.")
    check(page)


def test_everything_works_by_keyboard(browser, base):
    page = browser.new_page()
    page.goto(base)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.goto(f"{base}/signup")
    page.get_by_label("Username").focus()
    for text in ("ann", PASSWORD, PASSWORD):
        page.keyboard.type(text)
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="New Post")).to_be_visible()


@pytest.fixture
def read_pages(app, owner, ann, nobody):
    """A function that reads every kind of page; name to HTML."""

    def read():
        post = ann.write("A *title*", EVERYTHING, tags="kafka, AC/DC")
        ann.comment(post, "> a\n\n`b` <!-- c --> ![d](http://x.example/d.png)")
        untitled = ann.write("", "A heron.\n\n### Waits\n\n# Content")
        ann.send("/posts/new", title="", body="# Comments", action="draft", publish_at=EARLY)
        paths = ["/", post, "/users/ann", "/login?next=/", "/signup", "/nowhere"]
        paths += ["/archive", "/tags", "/tags/ac/dc", "/search", "/search?q=title", untitled]
        own = [
            "/posts/new",
            "/account",
            "/account/password",
            "/account/delete",
            "/privacy",
            "/drafts",
            "/posts/1/edit",
            "/posts/1/delete",
            "/posts/3/edit",
            "/comments/1/edit",
            "/comments/1/delete",
        ]
        pages = {f"nobody {path}": nobody.get(path).text for path in paths}
        pages |= {f"ann {path}": ann.get(path).text for path in [*paths, *own]}
        at = ("/owner/people", "/owner/people/ann", "/owner/people/ann/remove", "/owner/moderation")
        pages |= {f"owner {path}": owner.get(path).text for path in at}
        pages["link"] = owner.send("/owner/people/ann/reset").text
        stale = {"title": "x", "body": "y", "version": "z"}
        pages["stale"] = ann.send("/posts/1/edit", **stale).text
        pages["preview"] = ann.send("/posts/1/edit", **stale, action="preview").text
        refused = {"title": "x" * 201, "body": "", "publish_at": "tomorrow", "tags": "../login"}
        pages["refused"] = ann.send("/posts/new", **refused).text
        pages["kept"] = nobody.send("/posts/new", title="x", body="y").text
        return pages

    return read


@pytest.mark.slow
def test_the_nu_html_checker_finds_nothing(read_pages, tmp_path):
    java = shutil.which("java") or missing("Java", "apt-get install default-jre-headless")
    jars = list(ROOT.glob("node_modules/vnu-jar/**/vnu.jar")) or missing(
        "The Nu HTML checker", "apt-get install npm, then make test"
    )
    names = {}
    for number, (name, text) in enumerate(read_pages().items()):
        names[f"{number}.html"] = name
        (tmp_path / f"{number}.html").write_text(text)
    files = [tmp_path / name for name in names]
    command = [java, "-jar", jars[0], "--format", "json", "--stdout", *files]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    messages = json.loads(result.stdout)["messages"]
    assert [(names[m["url"].rpartition("/")[2]], m["message"]) for m in messages] == []


@pytest.mark.slow
def test_lighthouse_gives_full_marks(app, base, chromium, tmp_path):
    lighthouse = ROOT / "node_modules" / ".bin" / "lighthouse"
    if not lighthouse.exists():
        missing("Lighthouse", "apt-get install npm, then make test")
    app.test_cli_runner().invoke(args=["demo"])
    for path in ("/posts/2/what-a-post-can-hold",):
        command = [
            *(lighthouse, base + path, "--quiet", "--output=json", f"--output-path={tmp_path}/r"),
            "--only-categories=accessibility,best-practices,seo",
            f"--chrome-flags=--headless=new {' '.join(FLAGS)}",
        ]
        environment = os.environ | {"CHROME_PATH": chromium}
        subprocess.run(command, env=environment, check=True, timeout=120, capture_output=True)
        report = json.loads((tmp_path / "r").read_text())
        categories = report["categories"]
        scores = {name: category["score"] for name, category in categories.items()}
        assert scores == {"accessibility": 1, "best-practices": 1, "seo": 1}, path
