"""What of an agent's archive a verifier gets."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.records import Artifact, TaskStep
from capvec.sandbox.artifacts import artifacts_of, clean, given_way
from capvec.sandbox.base import Budget

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


def copied(*members, budget=None):
    """Name → member of what is copied; None where the artifact is left out."""
    data = archive(*members)
    cleaned = clean((data[at : at + 100] for at in range(0, len(data), 100)), PLACE, budget or Budget())
    if cleaned is None:
        return None
    with cleaned, tarfile.open(fileobj=cleaned) as opened:
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


@pytest.mark.parametrize("aim", ["run", "../out/run", "sub/../run", "/app/out/run"])
def test_links_within_the_artifact_are_kept(aim):
    assert copied(link("out/in", aim))["app/out/in"].linkname == aim


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


def test_a_hard_link_to_what_is_left_out_leads_to_itself():
    found = copied(file("out/a.log"), link("out/b", "out/a.log", tarfile.LNKTYPE))
    assert leads_to_itself(found["app/out/b"])


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
