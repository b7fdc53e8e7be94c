"""What of an agent's archive a verifier gets."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capvec.sandbox.artifacts import artifacts_of, clean, given_way, is_reserved, reserved_in
from capvec.sandbox.base import Budget
from capvec.task_records import Artifact, TaskStep

pytestmark = pytest.mark.unit
PLACE = Artifact("/app/out", exclude=("*.log", "cache/deep"))


def archive(*members):
    """An archive of `(name, type, link, mode, content)`, as Docker gives one of `/app/out`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as opened:
        for name, kind, link, mode, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode, member.uid, member.size = kind, link, mode, 1000, len(content)
            opened.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def cleaned(*members, budget=None, place=PLACE):
    data = archive(*members)
    return clean((data[at : at + 100] for at in range(0, len(data), 100)), place, budget or Budget())


def copied(*members, **settings):
    """Name → member of what is copied; None where the artifact is left out."""
    found = cleaned(*members, **settings)
    if found is None:
        return None
    with found, tarfile.open(fileobj=found) as opened:
        return {member.name: member for member in opened}


def file(name, content=b"", mode=0o644):
    return (name, tarfile.REGTYPE, "", mode, content)


def link(name, aim, kind=tarfile.SYMTYPE):
    return (name, kind, aim, 0o777, b"")


def leads_to_itself(member):
    return member.issym() and member.name.endswith(f"/{member.linkname}")


def test_files_keep_their_place_and_lose_their_owner_and_their_privileges():
    folder = ("out", tarfile.DIRTYPE, "", 0o4700, b"")
    found = copied(folder, file("out/run", b"x", 0o6711), file("out/sub/plain", mode=0))
    assert {name: (one.mode, one.uid) for name, one in found.items()} == {
        "app/out": (0o700, 0),
        "app/out/run": (0o711, 0),
        "app/out/sub/plain": (0o400, 0),
    }


@pytest.mark.parametrize(
    ("aim", "kept"),
    [
        ("run", "run"),
        ("../out/run", "run"),
        ("sub/../run", "run"),
        ("/app/out/run", "/app/out/run"),
        ("//app/out", "/app/out"),
    ],
)
def test_links_within_the_artifact_are_kept_and_go_down_only(aim, kept):
    assert copied(link("out/in", aim))["app/out/in"].linkname == kept


def test_a_link_goes_up_from_its_own_folder():
    assert copied(link("out/sub/in", "../x/../run"))["app/out/sub/in"].linkname == "../run"


@pytest.mark.parametrize("aim", ["/etc/passwd", "../../etc", "..", "/app/outer", "sub/../../x"])
def test_links_out_of_the_artifact_lead_to_themselves(aim):
    assert leads_to_itself(copied(link("out/in", aim))["app/out/in"])


def test_hard_links_name_the_new_place():
    found = copied(file("out/a"), link("out/b", "out/a", tarfile.LNKTYPE))
    assert found["app/out/b"].linkname == "app/out/a"


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_special_files_and_hard_links_to_them_are_seen_and_lead_to_themselves(kind):
    found = copied(("out/p", kind, "", 0o644, b""), link("out/q", "out/p", tarfile.LNKTYPE))
    assert set(found) == {"app/out/p", "app/out/q"}
    assert all(map(leads_to_itself, found.values()))


def hard(name, aim):
    return link(name, aim, tarfile.LNKTYPE)


def test_the_first_hard_link_to_what_is_left_out_has_its_content_and_others_lead_there():
    others = [file("out/x.log", b"other"), file("out/c"), file("out/y.log", b"more")]
    found = cleaned(
        file("out/a.log", b"held"),
        *others,
        *(hard(f"out/{name}", "out/a.log") for name in "bde"),
        hard("out/f", "out/y.log"),
    )
    with found, tarfile.open(fileobj=found) as opened:
        content = {member.name[8:]: opened.extractfile(member).read() for member in opened}
    assert content == {"b": b"held", "c": b"", "d": b"held", "e": b"held", "f": b"more"}


def test_what_is_left_out_counts_only_where_a_link_brings_it_back():
    members = [file("out/a.log", b"12345"), file("out/b", b"1")]
    assert copied(*members, budget=Budget(bytes_left=5)) is not None
    assert copied(*members, hard("out/c", "out/a.log"), budget=Budget(bytes_left=5)) is None


WORDS = st.sampled_from(["..", "..", ".", "a", "b", "tests", "expected"])
AIMS = st.builds(
    lambda start, words: start + "/".join(words),
    st.sampled_from(["", "", "ROOT/", "ROOT/a/", "ROOT/a/b/"]),
    st.lists(WORDS, min_size=1, max_size=6),
)
TREES = st.recursive(AIMS, lambda inner: st.dictionaries(st.sampled_from("abd"), inner, max_size=3), max_leaves=12)
"""Text is where a link leads, a dictionary is a folder."""


def listed(tree, name, root):
    """The members of a tree, as Docker lists them."""
    if isinstance(tree, str):
        return [link(name, tree.replace("ROOT", root))]
    below = (member for part, inner in tree.items() for member in listed(inner, f"{name}/{part}", root))
    return [(name, tarfile.DIRTYPE, "", 0o755, b""), *below]


def unpack(found):
    """As Docker unpacks at `/`: what is in the way of a member gives way, unless both are folders."""
    with found, tarfile.open(fileobj=found) as opened:
        for member in opened:
            path = Path("/", member.name)
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir() and not member.isdir():
                shutil.rmtree(path)
            opened.extract(member, "/", filter="fully_trusted")


@given(st.dictionaries(st.sampled_from("abd"), TREES), st.dictionaries(st.sampled_from("abd"), TREES), st.booleans())
@example({"d": ".", "answer": "d/../tests/expected"}, {}, True)
@example({"d": "ROOT", "answer": "d/../tests/expected"}, {}, True)
@example({"a": {"b": {}}, "l": "a/b/../../../tests"}, {"b": "."}, True)
@example({"a": {"b": {"l": "../../tests"}}}, {"b": ".."}, False)
def test_no_link_leads_out_of_the_artifacts_whatever_lies_beside_it(whole, part, inner_last):
    """Two artifacts, one in the other, that the agent may have changed between their copies."""
    with tempfile.TemporaryDirectory() as made:
        root = os.path.realpath(made) + "/app"
        places = [(Artifact(root), listed(whole, "app", root)), (Artifact(f"{root}/a"), listed(part, "a", root))]
        for place, members in places if inner_last else reversed(places):
            unpack(cleaned(*members, place=place))
        for folder, folders, files in os.walk(root):
            for name in (*folders, *files):
                assert f"{os.path.realpath(os.path.join(folder, name))}/".startswith(f"{root}/")


@pytest.mark.parametrize(
    ("source", "inside", "whole"),
    [
        ("/logs", ("/logs/verifier",), False),
        ("/logs/verifier/", ("/logs/verifier",), True),
        ("//tests/data", ("/tests",), True),
        ("/testsuite", (), False),
        ("/app/tests", (), False),
    ],
)
def test_the_places_of_the_verifier_are_known(source, inside, whole):
    assert (reserved_in(Artifact(source)), is_reserved(Artifact(source))) == (inside, whole)


def test_nothing_of_the_agents_comes_where_the_verifier_writes():
    place, reward = Artifact("/logs"), file("logs/verifier/reward.json", b"{}")
    found = copied(
        reward, hard("logs/agent/kept", "logs/verifier/reward.json"), link("logs/verifier", "agent"), place=place
    )
    assert [(name, member.isreg()) for name, member in found.items()] == [("logs/agent/kept", True)]


def test_excluded_names_are_left_out_with_what_is_below_them():
    found = copied(file("out/a.log"), file("out/x.log/in"), file("out/cache/deep/in"), file("out/cache/kept"))
    assert set(found) == {"app/out/cache/kept"}


@pytest.mark.parametrize("budget", [Budget(bytes_left=9), Budget(files_left=1)])
def test_an_artifact_beyond_the_budget_is_left_out_as_a_whole(budget):
    assert copied(file("out/a", b"12345"), file("out/b", b"12345"), budget=budget) is None


@given(st.lists(st.sampled_from(["..", ".", "a", "b", "etc"]), min_size=1, max_size=5))
def test_no_name_leads_out_of_the_artifact(parts):
    for name in copied(file("/".join(["out", *parts]))):
        assert name == "app/out" or name.startswith("app/out/")
        assert ".." not in name.split("/")


def test_what_every_task_publishes_comes_first_and_once():
    step = TaskStep("", "x", artifacts=(Artifact("/a"),))
    assert [one.source for one in artifacts_of(step)] == ["/logs/artifacts", "/a"]
    assert artifacts_of(TaskStep("", "x", artifacts=(Artifact("/logs/artifacts/"),))) == (Artifact("/logs/artifacts/"),)


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        (Artifact("/out"), Artifact("/out", service="db"), True),
        (Artifact("/out", service="db"), Artifact("/out/sub", service="web"), True),
        (Artifact("/out/sub"), Artifact("/out", service="db"), True),
        (Artifact("/out"), Artifact("/outer", service="db"), False),
        (Artifact("/out"), Artifact("/out", service="db", destination="db"), False),
        (Artifact("/x", destination="out"), Artifact("/out", service="db"), True),
        (Artifact("/out"), Artifact("/out/sub"), False),  # of one service: the same files
        (Artifact("/logs/artifacts/"), Artifact("/logs/artifacts/db", service="db"), True),
    ],
)
def test_of_two_services_artifacts_in_one_place_the_first_is_kept_and_main_is_first(first, second, overlap):
    expected = {second: first} if overlap else {}
    assert given_way(TaskStep("", "x", artifacts=(first, second))) == expected
    if first.service == "main" != second.service:
        assert given_way(TaskStep("", "x", artifacts=(second, first))) == expected


def test_what_a_service_publishes_is_not_what_the_agent_does():
    step = TaskStep("", "x", artifacts=(Artifact("/logs/artifacts", service="db"),))
    assert artifacts_of(step)[0] == Artifact("/logs/artifacts")
    assert given_way(step) == {step.artifacts[0]: Artifact("/logs/artifacts")}
