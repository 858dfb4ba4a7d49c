"""Back, in a real browser that keeps the pages it has left in its back-forward cache."""

import pytest
from conftest import COOKIE, PASSWORD
from playwright.sync_api import expect, sync_playwright
from test_browser import FLAGS, base, chromium, follow  # noqa: F401

pytestmark = pytest.mark.slow
PRIVATE = ["/posts/1/secret", "/posts/1/edit", "/posts/2/secret", "/drafts", "/account"]
PRIVATE += ["/account/delete", "/owner/people", "/owner/moderation", "/owner/people/ann"]


@pytest.fixture
def page(chromium, owner, ann, base):  # noqa: F811
    """A page of ann's, a second owner, who has a draft and a scheduled post."""
    owner.send("/owner/people/ann/role", role="owner")
    secret = {"title": "Secret", "body": "Nobody's business."}
    ann.send("/posts/new", **secret, action="draft")
    ann.send("/posts/new", **secret, publish_at="2999-01-01T00:00")
    cookie = ann.client.get_cookie(COOKIE).value
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=FLAGS,
            ignore_default_args=["--disable-back-forward-cache"],
        )
        context = browser.new_context(base_url=base)
        context.add_cookies([{"name": COOKIE, "value": cookie, "url": base}])
        page = context.new_page()
        page.goto("/")
        yield page
        browser.close()


def publish(page, title, text):
    page.goto("/posts/new")
    page.get_by_label("Title").fill(title)
    page.get_by_label("Text").fill(text)
    follow(page, "button", "Publish")


def log_out(page):
    follow(page, "button", "Log Out")


def log_out_everywhere(page):
    page.goto("/account")
    follow(page, "button", "Sign out everywhere")


def delete_account(page):
    page.goto("/account/delete")
    page.get_by_label("Current password").fill(PASSWORD)
    follow(page, "button", "Delete the account")


def go_back(page, pages):
    """Go back so many pages. One that was kept as it was left does not load again."""
    with page.expect_event("framenavigated"):
        page.evaluate(f"setTimeout(() => history.go(-{pages}))")


def test_a_public_page_comes_back_as_it_was_left(page):
    """So the browser keeps pages at all, which the other tests rely on."""
    page.goto("/archive")
    page.evaluate("window.isAsItWasLeft = true")
    follow(page, "link", "Privacy")
    go_back(page, 1)
    assert page.evaluate("window.isAsItWasLeft")


@pytest.mark.parametrize(
    ("path", "leave", "pages"),
    [
        *((path, log_out, 1) for path in PRIVATE),
        *((path, log_out_everywhere, 2) for path in PRIVATE[:2]),
        *((path, delete_account, 2) for path in PRIVATE[:2]),
    ],
)
def test_back_shows_nothing_private_after_one_has_left(page, base, path, leave, pages):  # noqa: F811
    page.goto(path)
    private = page.get_by_role("main").inner_text()
    leave(page)
    page.wait_for_url("/")
    go_back(page, pages)
    expect(page.get_by_role("link", name="Log In")).to_be_visible()
    assert page.get_by_role("main").inner_text() != private
    assert "Nobody's business." not in page.content()


@pytest.mark.parametrize("path", ["/posts/new", "/posts/1/edit"])
def test_back_gives_back_what_was_typed_while_the_session_lasts(page, path):
    page.goto(path)
    page.get_by_label("Text").fill("Half a thought")
    follow(page, "link", "Archive")
    go_back(page, 1)
    expect(page.get_by_label("Text")).to_have_value("Half a thought")


def test_back_and_a_correction_lead_to_the_one_post(page):
    publish(page, "Tpyo", "With a mistake.")
    go_back(page, 1)
    page.get_by_label("Title").fill("Typo")
    follow(page, "button", "Publish")
    expect(page.get_by_role("heading", level=1)).to_have_text("Typo")
    page.goto("/")
    expect(page.get_by_role("heading", level=2)).to_have_text(["Typo"])


def test_two_tabs_publish_two_posts(page):
    other = page.context.new_page()
    page.goto("/posts/new")
    other.goto("/posts/new")
    page.get_by_label("Title").fill("One")
    page.get_by_label("Text").fill("Text")
    other.get_by_label("Title").fill("Two")
    other.get_by_label("Text").fill("Text")
    follow(page, "button", "Publish")
    follow(other, "button", "Publish")
    page.goto("/")
    expect(page.get_by_role("heading", level=2)).to_have_text(["Two", "One"])
