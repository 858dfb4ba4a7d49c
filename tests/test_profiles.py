"""What people tell about themselves."""

import json
import re

import pytest

from core.database import Base


def save(person, display_name="", about=""):
    return person.send("/account", display_name=display_name, about=about)


def words(page):
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", "", page.text))


@pytest.mark.parametrize("name", ["Ann Lee", "安妮", "آن", "Ann 🎉", "A\u0301", "x" * 50])
def test_a_display_name_is_shown_with_the_username_beside_it(ann, bob, nobody, name):
    post = ann.write()
    ann.comment(post)
    assert save(ann, name).status_code == 303
    page = words(nobody.get(post))
    assert page.count(f" by {name} (ann)") == 2
    assert f"Posts by {name}" in words(nobody.get("/users/ann"))
    assert f"by {name} (ann)" in words(nobody.get("/"))
    feed = nobody.get("/feed.xml").text
    assert f"<name>{name} (ann)</name>" in feed
    item = json.loads(nobody.get("/feed.json").text)["items"][0]
    assert item["authors"][0]["name"] == f"{name} (ann)"
    assert save(ann).status_code == 303
    assert "by ann Title" not in words(nobody.get(post))
    assert " by ann" in words(nobody.get(post))


@pytest.mark.parametrize(
    "name",
    [
        *("a\x00b", "a\nb", "\u202egnirts", "a\u2066b", "\u200b", "a\x85", "\u200f", "x" * 51),
        *("\u3164", "a\xadb"),
    ],
)
def test_a_name_that_disturbs_is_refused_and_comes_back(ann, nobody, name):
    ann.write()
    answer = save(ann, name, "My text")
    assert answer.status_code == 422
    assert "My text" in answer.text
    assert "by ann" in words(nobody.get("/"))


@pytest.mark.parametrize("name", ["olga", "OLGA", "admin", "Owner"])
def test_nobody_takes_the_name_of_somebody_else(ann, name):
    answer = save(ann, name)
    assert answer.status_code == 422
    assert "This is the name of somebody else." in answer.text


def test_ones_own_username_is_a_good_display_name(ann):
    assert save(ann, "Ann").status_code == 303


@pytest.mark.parametrize("name", ["   ", "\u00a0", "\u200d"])
def test_a_name_that_nobody_sees_is_none(ann, nobody, name):
    ann.write()
    assert save(ann, name).status_code == 303
    assert "by ann" in words(nobody.get("/"))


def test_the_about_text_is_markdown_on_the_page_of_ones_posts(ann, nobody):
    assert save(ann, about="I *write*. <b>Not</b> ![x](https://e.example/x.png)").status_code == 303
    page = nobody.get("/users/ann").text
    assert "I <em>write</em>. &lt;b&gt;" in page
    assert "<img" not in page
    assert "There are no posts here yet." in page
    assert "I *write*." in ann.get("/account").text
    answer = save(ann, about="x" * 501)
    assert answer.status_code == 422
    assert "It has 501 characters; it can have 0 to 500." in answer.text
    assert "x" * 501 in answer.text


def test_the_account_page_is_for_those_who_have_one(nobody):
    assert nobody.get("/account").location == "/login?next=/account"
    assert nobody.send("/account/pictures", picture="x").status_code == 400


def test_the_privacy_page_names_every_column(nobody):
    page = words(nobody.get("/privacy"))
    columns = {c.name.replace("_", " ") for t in Base.metadata.sorted_tables for c in t.columns}
    assert {column for column in columns if column not in page} == set()
