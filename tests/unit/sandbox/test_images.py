"""The tag of an image that is built tells folders apart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.sandbox.images import image_tag
from capvec.task_records import Environment, Task

pytestmark = pytest.mark.unit

NAMES = st.text("ab 0", min_size=1, max_size=3).map(lambda name: f"n{name}")
LINKS = st.dictionaries(NAMES, NAMES, min_size=1, max_size=3)


def tag(folder, links):
    """The tag of a task whose environment holds these links: name → target."""
    (folder / "environment").mkdir(parents=True)
    for name, target in links.items():
        (folder / "environment" / name).symlink_to(target)
    return image_tag(Task("t", folder, "", "0"), Environment())


def test_a_space_in_a_name_or_a_target_is_no_end_of_it(tmp_path):
    assert tag(tmp_path / "one", {"a": "b c"}) != tag(tmp_path / "two", {"a b": "c"})


@settings(max_examples=100, deadline=None)
@given(LINKS, LINKS)
def test_folders_with_other_links_have_other_tags_and_those_with_the_same_the_same(tmp_path_factory, one, other):
    folder = tmp_path_factory.mktemp("links")
    assert (tag(folder / "one", one) == tag(folder / "two", other)) == (one == other)


def test_a_name_that_is_no_text_has_a_tag_too(tmp_path):
    assert tag(tmp_path / "one", {"a\udcff": "b\udcfe"}) != tag(tmp_path / "two", {"a\udcfe": "b\udcff"})
