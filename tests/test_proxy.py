"""A blog under a path behind nginx: a journey in a real browser, and what links say."""

import re
import shutil
import subprocess
import time
from urllib.request import urlopen

import pytest
from conftest import PASSWORD, missing
from playwright.sync_api import expect
from test_browser import add_picture, browser, chromium, comment, follow, sign_up  # noqa: F401
from test_server import answers, free_port, running

pytestmark = pytest.mark.slow
CONFIG = """
daemon off;
pid {folder}/pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 16m;
    location /blog/ {{
      proxy_pass http://127.0.0.1:{blog}{path};
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Prefix /wrong;
    }}
  }}
}}
"""


@pytest.fixture(params=["/", ""], ids=["stripping", "passing"])
def base(request, tmp_path):
    """The URL of a running blog behind nginx, which takes the path off or leaves it."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    program or missing("nginx", "apt-get install nginx-light")
    port, blog = free_port(), free_port()
    url = f"http://127.0.0.1:{port}/blog"
    config = tmp_path / "nginx.conf"
    config.write_text(CONFIG.format(folder=tmp_path, port=port, blog=blog, path=request.param))
    words = [program, "-p", tmp_path, "-c", config, "-e", "stderr"]
    settings = {"BLOG_URL": url, "BLOG_PROXIES": "1", "BLOG_PORT": str(blog)}
    with running(tmp_path, blog, **settings), subprocess.Popen(words) as nginx:
        deadline = time.monotonic() + 10
        while not answers(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield url
        nginx.terminate()


def test_a_journey_under_a_path(browser, base, tmp_path):  # noqa: F811
    """Sign up, post a picture, log out, log in to comment, follow the feed, log out."""
    page = browser.new_page()
    page.goto(base)
    expect(page).to_have_url(f"{base}/")
    sign_up(page, "ann")
    follow(page, "link", "New Post")
    page.get_by_label("Title").fill("My first post")
    page.get_by_label("Text").fill("Hello. See [all tags](/tags).")
    add_picture(page, tmp_path)
    expect(page.get_by_label("Text")).to_have_value(re.compile(r"\(/pictures/"))
    follow(page, "button", "Publish")
    post = f"{base}/posts/1/my-first-post"
    expect(page).to_have_url(post)
    expect(page.get_by_alt_text("A colour")).to_have_js_property("naturalWidth", 600)
    assert page.evaluate("getComputedStyle(document.body).margin") != "8px"  # the style is there
    follow(page, "button", "Log Out")
    page.goto(f"{post}/")
    expect(page).to_have_url(post)
    follow(page, "link", "Log in to comment")
    page.get_by_label("Username").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    follow(page, "button", "Log in")
    expect(page).to_have_url(f"{post}#write")
    comment(page, "Welcome!")
    expect(page).to_have_url(f"{post}#comment-1")
    assert {cookie["path"] for cookie in page.context.cookies()} == {"/blog"}
    follow(page, "link", "all tags")
    expect(page).to_have_url(f"{base}/tags")
    follow(page, "button", "Log Out")
    expect(page).to_have_url(f"{base}/")


def test_a_feed_under_a_path_leads_to_the_blog(browser, base):  # noqa: F811
    page = browser.new_page()
    page.goto(base)
    sign_up(page, "ann")
    follow(page, "link", "New Post")
    page.get_by_label("Title").fill("My first post")
    page.get_by_label("Text").fill("Hello. See [all tags](/tags).")
    follow(page, "button", "Publish")
    with urlopen(f"{base}/feed.xml") as answer:
        feed = answer.read().decode()
    urls = re.findall(r'http://127[^"&<\s]*', feed)
    assert f"{base}/tags" in urls
    assert [url for url in urls if not url.startswith(f"{base}/")] == []
    assert {urlopen(url).status for url in urls} == {200}
