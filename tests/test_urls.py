"""Addresses: slashes at the end, hosts, and a blog that lives under a path."""

import io
import re

import pytest
import sqlalchemy as sa
from conftest import PASSWORD, Person, close, crawl, fill
from PIL import Image
from test_safety import SAMPLES, path_of
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.wrappers import Response

from app import create_app
from core.database import db
from core.rendering import markdown
from extras.pictures import Picture
from models import Comment

# Slashes at the end ---------------------------------------------------------------------------


@pytest.fixture
def post(app, ann):
    """A post of ann's with a comment of hers, and a picture."""
    with app.app_context():
        db.session.add(Picture(name=SAMPLES["name"], author_id=2, webp=b"RIFF"))
        db.session.commit()
    path = ann.write(tags="kafka")
    ann.comment(path)
    return path


@pytest.fixture
def pages(app):
    """A path for every address that can be read, but those that end in a slash themselves."""
    paths = [path_of(rule) for rule in app.url_map.iter_rules() if "GET" in rule.methods]
    return [path for path in paths if not path.endswith("/")]


@pytest.mark.parametrize("name", ["nobody", "ann", "owner"])
def test_every_address_with_a_slash_leads_to_that_without(request, post, pages, name):
    person = request.getfixturevalue(name)
    found = {path for path in pages if person.get(path).status_code != 404}
    answers = {path: person.get(f"{path}/?a=b%20c&d") for path in pages}
    redirected = {path for path in pages if answers[path].status_code == 308}
    assert redirected == found
    assert {answers[path].location for path in found} == {f"{path}?a=b%20c&d" for path in found}
    assert {answers[path].status_code for path in set(pages) - found} == {404}


@pytest.mark.parametrize(
    "path", ["/nothing/", "/users/x/", "/posts/9/x/", "/owner/people/", "/tags/none/", "/%2F/x/"]
)
def test_what_is_not_there_is_not_there_with_a_slash(ann, post, path):
    answer = ann.get(path)
    assert answer.status_code == 404
    assert "<h1>" in answer.text


@pytest.mark.parametrize("path", ["/tags/", "/tags//", "/tags///"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_all_slashes_at_the_end_go_at_once(nobody, post, method, path):
    answer = nobody.client.open(path, method=method)
    assert (answer.status_code, answer.location, answer.text) == (308, "/tags", "")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert "Content-Security-Policy" in answer.headers
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/posts/1/", "/posts/1//"])
def test_a_post_is_found_by_its_number(nobody, post, path):
    answer = nobody.client.get(path, follow_redirects=True)
    assert answer.request.path == post


def test_a_page_of_ones_own_may_end_in_a_slash(app, nobody):
    app.add_url_rule("/likes/", view_func=lambda: "Likes")
    assert nobody.get("/likes/").text == "Likes"
    assert nobody.client.get("/likes", follow_redirects=True).text == "Likes"


def test_a_form_is_not_sent_on(ann):
    assert ann.send("/login/", username="x").status_code == 404


def test_a_message_waits_for_its_page(ann, post):
    ann.write()
    location = ann.get("/tags/").location
    assert "Your post is published." in ann.get(location).text


@pytest.mark.parametrize(
    "path", ["//tags/", "///tags//", "//evil.example/", "/\\tags/", "/\\evil.example/", "//"]
)
def test_no_slash_leads_to_another_host(nobody, post, path):
    answer = nobody.client.get("/", environ_overrides={"PATH_INFO": path})
    assert re.fullmatch(r"None|/tags", str(answer.location))


@pytest.mark.parametrize("tag", ["c#", "ü", "a?b", "50%", "ac/dc"])
def test_an_address_stays_quoted(ann, nobody, tag):
    ann.write(tags=tag)
    page = nobody.get("/tags").text
    path = re.search('href="(/tags/[^"]+)"', page)[1]
    assert nobody.get(f"{path}/").location == path


# Hosts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://blog.example", "https://Blog.EXAMPLE.:443/"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("blog.example", 200),
        ("BLOG.Example", 200),
        ("blog.example.", 200),
        ("Blog.example.:8000", 200),
        ("evil.example", 400),
        ("blog.example.evil.example", 400),
        ("evil.blog.example", 400),
        ("blog.example..", 400),
        ("[::1]", 400),
        (".", 400),
        ("", 400),
    ],
)
def test_hosts_are_compared_as_names_of_hosts_are(make_app, url, host, status):
    client = make_app(URL=url).test_client()
    client.get("/", base_url="https://blog.example")
    answers = [client.get(path, headers={"Host": host}) for path in ("/", "/", "/nothing/")]
    assert [answer.status_code for answer in answers[:2]] == [status] * 2
    assert answers[2].status_code in (404, 400)


@pytest.mark.parametrize(
    ("url", "host", "status"),
    [
        ("http://[::1]:8000", "[::1]:8000", 200),
        ("http://[::1]:8000", "[::1]", 200),
        ("http://[2001:DB8::1]", "[2001:db8::1]", 200),
        ("http://[::1]:8000", "[::2]:8000", 400),
        ("http://[::1]:8000", "localhost:8000", 400),
        ("https://bücher.example", "xn--bcher-kva.example", 200),
    ],
)
def test_an_address_or_a_name_of_other_letters_is_a_host(make_app, url, host, status):
    client = make_app(URL=url).test_client()
    answer = client.get("/feed.xml", headers={"Host": host})
    assert answer.status_code == status


def test_links_have_the_host_as_browsers_send_it(make_app):
    client = make_app(URL="http://Blog.example.:8000/").test_client()
    text = client.get("/sitemap.xml", headers={"Host": "blog.example"}).text
    assert "<loc>http://blog.example:8000/</loc>" in text


@pytest.mark.parametrize("url", [None, "https://blog.example", "http://[::1]:8000/blog"])
@pytest.mark.parametrize(
    "host", ["10.0.0.7:8000", "my_service:8000", "evil example", "a..b", "256.256.256.256", ""]
)
def test_the_health_page_answers_by_any_name(make_app, url, host):
    client = make_app(URL=url).test_client()
    answer = client.get("/healthz", headers={"Host": host})
    assert (answer.status_code, answer.text) == (200, "ok\n")


# Under a path ---------------------------------------------------------------------------------

URL = "http://localhost/blog"


def stripping(app):
    """A proxy that takes the path off."""
    return DispatcherMiddleware(
        Response("Elsewhere", 404),
        {"/blog": lambda environ, start: app(environ | {"SCRIPT_NAME": ""}, start)},
    )


def passing(app):
    """A proxy that leaves the path as it is."""

    def pass_on(environ, start):
        path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
        return app(environ | {"SCRIPT_NAME": "", "PATH_INFO": path}, start)

    return DispatcherMiddleware(Response("Elsewhere", 404), {"/blog": pass_on})


def mounting(app):
    """Another application that has the blog at a path."""
    return DispatcherMiddleware(Response("Elsewhere", 404), {"/blog": app})


@pytest.fixture(
    params=[(stripping, URL), (passing, f"{URL}/"), (mounting, URL), (mounting, None)],
    ids=["stripping", "passing", "mounted", "mounted-without-url"],
)
def visit(request, make_app):
    """A function that makes a person who visits the blog through what stands in front."""
    front, url = request.param
    app = make_app(URL=url, RATE_LIMITS="off", SIGNUP="open")

    def come(name=None):
        person = Person(app, name, "/blog")
        person.client = Client(front(app), Response)
        return person

    return come


def picture():
    file = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(file, "PNG")
    return io.BytesIO(file.getvalue()), "red.png"


def picture_in_text(person):
    """The Markdown of a picture, as the form of a post inserts it."""
    page = person.send("/posts/new", action="picture", picture=picture(), description="Red").text
    return re.search(r"!\[Red\]\([^)]+\)", page)[0]


def test_every_link_stays_below_the_path(visit):
    owner, ann = visit("olga").sign_up(), visit("ann").sign_up()
    fill(owner, ann)
    ann.write("Third", f"{picture_in_text(ann)} and [a tag](/tags/garden)")
    crawled = [crawl(person) for person in (visit(), ann, owner)]
    assert [dead for _, dead in crawled] == [[], [], []]
    paths = set.union(*[seen for seen, _ in crawled])
    assert {path for path in paths if not f"{path}/".startswith("/blog/")} == set()
    assert len(paths) > 30


def test_every_form_and_redirect_stays_below_the_path(visit):
    owner = visit("olga").sign_up()
    post = owner.write()
    answers = [
        owner.send("/posts/1/comments", body="x"),
        owner.send("/comments/1/edit", body="y"),
        owner.get("/comments/1"),
        owner.get("/posts/1/wrong"),
        owner.get("/posts/1"),
        owner.get("/tags/"),
        owner.send("/account", about="x", display_name=""),
        owner.send("/comments/1/delete"),
        owner.send("/logout"),
        owner.get("/drafts"),
        owner.log_in(),
    ]
    assert post.startswith("/blog/posts/1/")
    assert [answer.location for answer in answers if not answer.location.startswith("/blog/")] == []
    pages = [
        owner.get(path).text for path in ("/", post, "/account", "/owner/people", "/posts/new")
    ]
    actions = re.findall('action="([^"]*)"', "".join(pages))
    assert {action for action in actions if not action.startswith("/blog/")} == set()


def test_log_in_leads_back_below_the_path(visit):
    visit("olga").sign_up()
    person = visit("olga")
    asked = person.get("/drafts?a=b").location
    assert asked == "/blog/login?next=/blog/drafts?a%3Db"
    fields = {"username": "olga", "password": PASSWORD}
    assert person.send(asked, **fields).location == "/blog/drafts?a=b"


@pytest.mark.parametrize(
    "path",
    [
        *("/other", "/blogs", "//evil.example/blog/", "/\\evil.example"),
        *("/blog/../x", "/blog/%2e%2E/x", "/blog/a/.%2e/%2e./x", "/blog/.."),
    ],
)
def test_log_in_leads_out_of_the_blog_nowhere(visit, path):
    visit("olga").sign_up()
    person = visit("olga")
    fields = {"username": "olga", "password": PASSWORD}
    assert person.send(f"/login?next={path}", **fields).location == "/blog/"


def test_the_cookie_is_for_the_path(visit):
    assert "Path=/blog;" in f"{visit().get('/login').headers['Set-Cookie']};"


def test_two_blogs_on_one_host_do_not_log_each_other_out(app, tmp_path):
    """Nothing tells them where they live, so both cookies are for every path."""
    other = create_app(str(tmp_path / "other"), SECRET_KEY="another key")
    apart = {
        "/a": lambda environ, start: app(environ | {"SCRIPT_NAME": ""}, start),
        "/b": lambda environ, start: other(environ | {"SCRIPT_NAME": ""}, start),
    }
    people = here, there = Person(app, "olga", "/a"), Person(other, "olga", "/b")
    here.client = there.client = Client(DispatcherMiddleware(app, apart), Response)
    here.sign_up(), there.sign_up()
    assert [person.get("/drafts").status_code for person in people] == [200, 200]
    there.send("/logout")
    assert [person.get("/drafts").status_code for person in people] == [200, 303]
    close(other)


def test_whole_urls_have_the_path_once(visit):
    owner = visit("olga").sign_up()
    post = owner.write("T", f"[x](/tags) {picture_in_text(owner)}", tags="garden")
    owner.comment(post)
    paths = [
        *("/feed.xml", "/feed.json", "/tags/garden/feed.xml", "/users/olga/feed.xml"),
        *("/posts/1/feed.xml", "/sitemap.xml", "/robots.txt", post),
    ]
    text = "".join(visit().get(path).text for path in paths)
    urls = re.findall(r'http://localhost[^"&<\s\\]*', text)
    assert len(urls) > 20
    assert {url for url in urls if not re.match("http://localhost/blog/(?!blog)", url)} == set()
    paths = {url.removeprefix("http://localhost") for url in urls}
    assert {path for path in paths if visit().get(path).status_code >= 400} == set()
    assert "Disallow: /blog/login" in text


def test_the_owners_links_have_the_path(visit):
    owner, _ = visit("olga").sign_up(), visit("ann").sign_up()
    pages = [owner.send("/owner/people", may="post"), owner.send("/owner/people/ann/reset")]
    links = re.findall(r"http://localhost(/blog/[^\s<\"]+)", "".join(page.text for page in pages))
    assert len(links) >= 2
    assert {visit().get(link).status_code for link in links} == {200}


def test_a_text_survives_a_move(visit, make_app):
    owner = visit("olga").sign_up()
    text = picture_in_text(owner)
    assert "(/pictures/" in text
    owner.write("T", text)
    moved = Person(make_app(URL="http://localhost"))
    path = re.search('<img [^>]*src="(/pictures/[^"]+)"', moved.get("/posts/1/t").text)[1]
    assert moved.get(path).mimetype == "image/webp"


def test_the_errors_of_the_blog_lead_home(visit):
    answer = visit().get("/nothing")
    assert answer.status_code == 404
    assert '<a href="/blog/">Go to the home page</a>' in answer.text


@pytest.mark.parametrize("path", ["/blog", "/blog/", "/blog?a=b"])
def test_the_home_page_is_found_with_or_without_its_slash(visit, path):
    answer = visit().client.get(path, follow_redirects=True)
    assert answer.status_code == 200
    assert "No posts yet" in answer.text or "<h1" in answer.text


@pytest.mark.parametrize("proxies", [0, 1])
@pytest.mark.parametrize(
    ("path", "status"),
    [("/blog/tags", 200), ("/tags", 200), ("/blogs", 404), ("/blogtags", 404), ("/blo/tags", 404)],
)
def test_only_whole_segments_are_the_path(make_app, proxies, path, status):
    client = make_app(URL=URL, PROXIES=proxies).test_client()
    answer = client.get(path, headers={"X-Forwarded-Prefix": "/evil"})
    assert answer.status_code == status
    assert "evil" not in answer.text
    assert "/blog/static/style.css?v=" in answer.text


@pytest.mark.parametrize(
    ("mounted", "path"),
    [("/a", "/tags"), ("/a/b", "/tags"), ("/a/b/c", "/tags"), ("/a", "/b/tags")],
)
def test_the_setting_goes_over_what_the_server_says(make_app, mounted, path):
    client = make_app(URL="http://localhost/a/b").test_client()
    environ = {"SCRIPT_NAME": mounted, "PATH_INFO": path}
    answer = client.get("/", environ_overrides=environ)
    assert answer.status_code == 200
    assert 'href="/a/b/feed.xml"' in answer.text


@pytest.mark.parametrize(
    "url",
    [
        *("https://blog.example/?a=b", "https://blog.example/#a", "https://blog.example/a b"),
        *("http://[::1", "http://a..b", "http://blog.example:99999", "ftp://blog.example"),
        *("https://blog.example/ü", "https://blog.example//a", "https:///a", 5),
    ],
)
def test_a_url_that_is_none_is_named(make_app, url):
    with pytest.raises(ValueError, match="BLOG_URL is a whole address"):
        make_app(URL=url)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[a](/b)", 'href="/blog/b"'),
        ("![a](/pictures/b)", 'src="/blog/pictures/b"'),
        ("[a](/blog/b)", 'href="/blog/b"'),
        ("[a](/blogs)", 'href="/blog/blogs"'),
        ("[a](//b)", 'href="//b"'),
        ("[a](b)", 'href="b"'),
        ("[a](#b)", 'href="#b"'),
        ("[a](https://b/c)", 'href="https://b/c"'),
    ],
)
def test_links_in_texts_begin_where_the_blog_lives(text, shown):
    assert shown in markdown(text, root="/blog")


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["invite"], r"https://blog\.example/a/signup\?invitation=\S+\n"),
        (["reset-link", "olga"], r"https://blog\.example/a/password/\S+\n"),
    ],
)
def test_printed_links_have_the_path(make_app, words, pattern):
    app = make_app(URL="https://blog.example/a/")
    Person(make_app(), "olga").sign_up()
    assert re.fullmatch(pattern, app.test_cli_runner().invoke(args=words).output)


# Comments -------------------------------------------------------------------------------------


@pytest.fixture
def crowded(app, ann, bob):
    """A post of ann's with one comment of bob's below a thousand others."""
    post = ann.write()
    bob.comment(post, "The first of all")
    with app.app_context(), db.session.begin():
        rows = [{"post_id": 1, "author_id": 2, "body": "x"}] * 1001
        db.session.execute(sa.insert(Comment), rows)
    return post


def shows(person, location):
    """Whether the page at that location has what its fragment names."""
    answer = person.client.get(location, follow_redirects=True)
    return f'id="{location.partition("#")[2]}"' in answer.text


def test_after_editing_the_comment_is_on_the_page(bob, crowded):
    answer = bob.send("/comments/1/edit", body="Better")
    assert answer.location == f"{crowded}?before=2#comment-1"
    assert shows(bob, answer.location)


def test_after_approving_the_comment_is_on_the_page(app, ann, bob, crowded):
    with app.app_context(), db.session.begin():
        db.session.get(Comment, 1).state = "pending"
    assert shows(ann, ann.send("/comments/1/approve").location)


def test_the_queue_links_to_the_page_of_a_comment(app, owner, crowded):
    with app.app_context(), db.session.begin():
        db.session.get(Comment, 1).state = "pending"
    assert 'href="/comments/1"' in owner.get("/owner/moderation").text
    assert shows(owner, owner.get("/comments/1").location)


def test_a_comment_that_was_sent_is_on_the_page(bob, crowded):
    assert shows(bob, bob.comment(crowded, "The last of all"))
