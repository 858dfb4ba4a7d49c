"""What a WordPress export holds, as this blog shows it."""

import pytest
from test_porting import imported, item, posts, tag, wordpress

OLD = "https://old.example"


def post(title, link, body):
    """An item that was at that path of the old blog."""
    return item(title, tag("link", f"{OLD}{link}"), content__encoded=body)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (f'<a href="{OLD}/second/">it</a>', "[it](/posts/2/second)"),
        (f'<a href="{OLD}/second">it</a>', "[it](/posts/2/second)"),
        ('<a href="http://www.old.example/second/#end">it</a>', "[it](/posts/2/second#end)"),
        (f'<a href="{OLD}/%73econd/">it</a>', "[it](/posts/2/second)"),
        (f'<a href="{OLD}/third/">it</a>', f"[it]({OLD}/third/)"),
        (f'<a href="{OLD}/second/?page=2">it</a>', f"[it]({OLD}/second/?page=2)"),
        (f'<a href="{OLD}/second/">{OLD}/second/</a>', f"[{OLD}/second/](/posts/2/second)"),
    ],
)
def test_a_link_to_another_imported_post_leads_to_the_new_one(
    app, owner, tmp_path, words, expected
):
    items = [post("First", "/first/", f"<p>See {words}.</p>"), post("Second", "/second/", "x")]
    path = wordpress(tmp_path / "wp.xml", *items)
    imported(app, path)
    found = posts(app)
    assert found["First"].body == f"See {expected}."
    assert found["First"].updated_at is None
    assert imported(app, path).changed == {}
