"""Task folders: what the loader reads, what it refuses, and which file a refusal names."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from support.hostile import NO_FILES, put
from support.tasks import CLOSED, make_task

from capvec.errors import UsageError
from capvec.task_records import Environment, Limits, Phase, Task, Verifier
from capvec.tasks.checksum import folder_checksum
from capvec.tasks.loader import bundled_sets, left_out_in_words, load_task, load_tasks, notes_in_words

pytestmark = pytest.mark.unit


def test_every_field_of_a_complete_task_arrives_in_the_record(tmp_path: Path) -> None:
    toml = """
        schema_version = "1.4"
        [metadata]
        difficulty = "easy"
        [metadata.capvec]
        cap_add = ["CAP_CHOWN", "setuid"]
        cap_reason = "the task hands a file to another user"
        pids = 64
        [agent]
        timeout_sec = 90
        [verifier]
        timeout_sec = 12.5
        env = { EXPECTED = "42" }
        [solution.env]
        TOKEN = "t"
        [environment]
        build_timeout_sec = 30.0
        cpus = 2
        memory_mb = 768
        network_mode = "public"
        env = { STAGE = "test" }
    """
    folder = make_task(tmp_path, toml=toml)
    assert load_task(folder, allow_network=True) == Task(
        name="greet",
        path=folder,
        instruction="Say hello.",
        checksum=folder_checksum(folder),
        environment=Environment(
            build_timeout_s=30.0,
            limits=Limits(cpus=2.0, memory_mb=768, pids=64, network=True, cap_add=("CHOWN", "SETUID")),
            env={"STAGE": "test"},
        ),
        agent=Phase(timeout_s=90.0),
        verifier=Verifier(timeout_s=12.5, env={"EXPECTED": "42"}),
        solution_env={"TOKEN": "t"},
        metadata={
            "difficulty": "easy",
            "capvec": {
                "cap_add": ["CAP_CHOWN", "setuid"],
                "cap_reason": "the task hands a file to another user",
                "pids": 64,
            },
        },
    )


def test_an_empty_task_toml_has_harbors_network_and_timeouts(tmp_path: Path) -> None:
    task = load_task(make_task(tmp_path, toml=""), allow_network=True)
    assert task.environment.limits == Limits(cpus=1.0, memory_mb=2048, pids=1024, network=True, cap_add=())
    assert (task.environment.build_timeout_s, task.verifier.timeout_s) == (600.0, 600.0)  # Harbor's, in seconds


@pytest.mark.parametrize(
    ("toml", "phase"),
    [
        ("", "environment"),
        ('[environment]\nnetwork_mode = "public"', "environment"),
        ("[environment]\nallow_internet = true", "environment"),
        (f'{CLOSED}[agent]\nnetwork_mode = "public"', "agent"),
        (f'{CLOSED}[verifier]\nnetwork_mode = "public"', "verifier"),
        (f"{CLOSED}[verifier.environment]\ncpus = 1", "verifier"),
    ],
)
def test_a_task_that_reaches_the_public_network_needs_the_option(tmp_path: Path, toml: str, phase: str) -> None:
    folder = make_task(tmp_path, toml=toml)
    with pytest.raises(UsageError, match=f"{phase} reaches the public network.* expected --allow-network"):
        load_task(folder)


def test_tasks_that_cannot_run_are_left_out_with_the_reason_on_request(tmp_path: Path) -> None:
    make_task(tmp_path, "closed")
    make_task(tmp_path, "open", toml="")
    make_task(tmp_path, "windows", toml=f'{CLOSED}os = "windows"')
    with pytest.raises(UsageError, match="2 of 3 tasks cannot be used; --skip-unsupported leaves them out"):
        load_tasks(str(tmp_path))
    loaded = load_tasks(str(tmp_path), skip=True)
    assert [task.name for task in loaded.tasks] == ["closed"]
    assert {name: why.split("; expected")[0].split(": ")[1] for name, why in loaded.left_out.items()} == {
        "open": "environment reaches the public network, as it does in Harbor where network_mode is not set",
        "windows": "environment.os = 'windows'",
    }
    count, *reasons = left_out_in_words(loaded.left_out)
    assert count.startswith("2 tasks left out")
    assert [reason.split(":")[0] for reason in reasons] == ["open", "windows"]


def test_tasks_none_of_which_can_run_are_an_error_even_then(tmp_path: Path) -> None:
    make_task(tmp_path, toml="")
    with pytest.raises(UsageError, match="1 of 1 tasks cannot be used:"):
        load_tasks(str(tmp_path), skip=True)


@pytest.mark.parametrize(
    "what",
    ['artifacts = [{ source = "/a", service = "db" }]', '[[steps.verifier.collect]]\ncommand = "true"\nservice = "db"'],
)
def test_a_service_that_no_file_describes_is_refused(tmp_path: Path, what: str) -> None:
    folder = make_task(tmp_path, toml=f'{CLOSED}[[steps]]\nname = "a"\n[[steps]]\nname = "b"\n{what}\n')
    for name in "ab":
        (folder / "steps" / name).mkdir(parents=True)
        (folder / "steps" / name / "instruction.md").write_text("Do it.\n")
    key = what.partition(" ")[0].strip("[]").partition("\n")[0].removeprefix("steps.").removesuffix("]]")
    with pytest.raises(UsageError, match=rf"task\.toml: {key}: there is no service 'db', since environment/ has no"):
        load_task(folder)
    (folder / "environment" / "docker-compose.yaml").write_text("services: {db: {image: x}}\n")
    load_task(folder)


def test_a_loaded_task_survives_json(tmp_path: Path) -> None:
    task = load_task(
        make_task(tmp_path, toml=f"{CLOSED}[metadata]\ncreated = 2026-03-01\nweights = [0.5, {{ at = 10:30:00 }}]\n")
    )
    assert task.metadata == {"created": "2026-03-01", "weights": [0.5, {"at": "10:30:00"}]}
    assert Task.from_json(task.to_json()) == task


def test_a_note_that_several_tasks_have_is_one_line_that_counts_them(tmp_path: Path) -> None:
    noted = f"{CLOSED}colour = 1\n"
    for name, toml in {"a": noted, "b": CLOSED, "c": f"{noted}speed = 2", "d": noted}.items():
        make_task(tmp_path, name, toml=toml)
    colour, speed = notes_in_words(load_tasks(str(tmp_path)).tasks)
    assert colour.startswith("task a and 2 more: environment.colour ")
    assert speed.startswith("task c: environment.speed ")


def test_a_ready_image_needs_no_dockerfile(tmp_path: Path) -> None:
    folder = make_task(tmp_path, toml=f'{CLOSED}docker_image = "debian:bookworm-slim"\n')
    (folder / "environment" / "Dockerfile").unlink()
    assert load_task(folder).environment.image == "debian:bookworm-slim"


def test_a_task_without_a_solution_loads(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    shutil.rmtree(folder / "solution")
    assert load_task(folder).name == "greet"


@pytest.mark.parametrize("missing", ["task.toml", "instruction.md", "tests/test.sh", "environment/Dockerfile"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    folder = make_task(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(UsageError) as caught:
        load_task(folder)
    assert str(caught.value).startswith(f"{folder / missing}: no such file; expected ")


def test_an_empty_instruction_is_refused(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    (folder / "instruction.md").write_text(" \n")
    with pytest.raises(UsageError, match=r"instruction\.md: empty"):
        load_task(folder)


def test_text_that_is_not_utf8_is_refused_by_file_and_byte(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    (folder / "instruction.md").write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match=r"instruction\.md: byte 3 is not UTF-8"):
        load_task(folder)


@pytest.mark.parametrize("phase", ["agent", "verifier"])
def test_a_phase_with_a_network_of_its_own_may_have_services(tmp_path: Path, phase: str) -> None:
    folder = make_task(tmp_path, toml=f'{CLOSED}[{phase}]\nnetwork_mode = "public"\n')
    (folder / "environment" / "docker-compose.yaml").write_text("services: {}\n")
    load_task(folder, allow_network=True)
    with pytest.raises(UsageError, match=f"{phase} reaches the public network"):
        load_task(folder)


@pytest.mark.parametrize("name", ["two words", "caf\u00e9", "-flag", "a+b"])
def test_a_folder_whose_name_cannot_be_a_task_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{name!r} cannot be")):
        load_task(make_task(tmp_path, name))


def test_the_bundled_sets_have_the_sizes_of_the_contract() -> None:
    assert len(load_tasks("sprint").tasks) == 5
    assert len(load_tasks("multi").tasks) == 6
    assert {task.name for task in load_tasks("sprint,multi").tasks} < {task.name for task in load_tasks("full").tasks}


def test_a_set_keeps_its_order() -> None:
    assert tuple(task.name for task in load_tasks("multi").tasks) == bundled_sets()["multi"]


def test_every_bundled_task_says_family_and_difficulty_and_closes_the_network() -> None:
    for task in load_tasks("full").tasks:
        assert {"family", "category"} <= set(task.metadata)
        assert task.metadata["difficulty"] in {"easy", "medium", "hard"}
        assert not task.environment.limits.network
        assert (task.path / "solution" / "solve.sh").stat().st_mode & 0o100


def test_no_bundled_task_gives_a_note() -> None:
    assert notes_in_words(load_tasks("full").tasks) == ()


def test_names_and_paths_mix_in_a_comma_list_and_each_task_comes_once(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    names = [task.name for task in load_tasks(f"append-line-2, {folder},sprint,{tmp_path}").tasks]
    assert names[:2] == ["append-line-2", "greet"]
    assert sorted(names) == sorted(("greet", *bundled_sets()["sprint"]))


def test_a_folder_of_tasks_loads_in_the_order_of_names_and_skips_what_is_no_task(tmp_path: Path) -> None:
    for name in ("b", "a"):
        make_task(tmp_path, name)
    (tmp_path / "README.md").write_text("tasks\n")
    (tmp_path / "shared-notes").mkdir()
    make_task(tmp_path, ".hidden")
    assert [task.name for task in load_tasks(str(tmp_path)).tasks] == ["a", "b"]


def test_one_task_folder_loads_even_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_task(tmp_path)
    monkeypatch.chdir(folder)
    (task,) = load_tasks(".").tasks
    assert (task.name, task.path) == ("greet", folder)


def test_a_path_with_a_comma_is_a_path(tmp_path: Path) -> None:
    odd = tmp_path / "a,b"
    make_task(odd)
    assert [task.name for task in load_tasks(str(odd)).tasks] == ["greet"]


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UsageError) as caught:
        load_tasks("multy")
    message = str(caught.value)
    assert message.startswith("--tasks: ")
    assert "'multy' (did you mean multi?)" in message
    assert "multi, sprint, full" in message
    assert not any(name in message for name in bundled_sets()["full"])
    with pytest.raises(UsageError, match=r"'append-lin-2' \(did you mean append-line-2"):
        load_tasks("append-lin-2")
    with pytest.raises(UsageError, match="'/nonexistent'; expected") as caught:
        load_tasks("/nonexistent")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["", "multi,,sprint"])
def test_an_empty_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="named ''"):
        load_tasks(text)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no task in .*task\.toml"):
        load_tasks(str(tmp_path))


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    file = make_task(tmp_path) / "task.toml"
    with pytest.raises(UsageError, match="is a file; expected"):
        load_tasks(str(file))


def test_all_broken_tasks_of_a_folder_are_named_at_once(tmp_path: Path) -> None:
    make_task(tmp_path, "good")
    make_task(tmp_path, "bad-number", toml="[agent]\ntimeout_sec = -1")
    (make_task(tmp_path, "lost-settings") / "task.toml").unlink()
    with pytest.raises(UsageError) as caught:
        load_tasks(str(tmp_path))
    head, first, second = str(caught.value).splitlines()
    assert head.startswith("2 of 3 tasks ")
    assert first.startswith("  bad-number: ")
    assert "agent.timeout_sec = -1; expected" in first
    assert second.startswith("  lost-settings: ")
    assert "task.toml" in second


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    one, two = make_task(tmp_path / "x"), make_task(tmp_path / "y")
    with pytest.raises(UsageError) as caught:
        load_tasks(f"{one},{two}")
    assert str(caught.value).startswith(f"two tasks are named 'greet': {one} and {two}")


READY = """
[environment]
network_mode = "no-network"
docker_image = "registry.example/ready:1"
"""


def test_a_ready_image_gives_way_to_the_dockerfile_where_that_is_asked_for_and_there(tmp_path: Path) -> None:
    make_task(tmp_path, "both", toml=READY)
    shutil.rmtree(make_task(tmp_path, "image-only", toml=READY) / "environment")
    ready = {task.name: task.environment.image for task in load_tasks(str(tmp_path)).tasks}
    assert ready == {"both": "registry.example/ready:1", "image-only": "registry.example/ready:1"}
    forced = {task.name: task.environment.image for task in load_tasks(str(tmp_path), force_build=True).tasks}
    assert forced == {"both": None, "image-only": "registry.example/ready:1"}


# ------------------------------------------------------------------------------------------------ files that are none


@pytest.mark.parametrize("kind", [kind for kind in NO_FILES if kind != "folder"])
@pytest.mark.parametrize(
    "part", ["task.toml", "instruction.md", "environment/Dockerfile", "tests/test.sh", "solution/solve.sh", "notes"]
)
def test_a_part_of_a_task_that_is_no_file_is_refused_by_name_before_anything_is_opened(tmp_path, part, kind):
    folder = make_task(tmp_path)
    put(folder / part, kind)
    with pytest.raises(UsageError, match=f"{part}: ") as refusal:
        load_tasks(str(folder))
    assert "a task folder holds folders, regular files and links that stay inside it" in str(refusal.value)


@pytest.mark.parametrize("target", ["/", "/etc/passwd", "../../", "/proc/self"])
@pytest.mark.parametrize("part", ["tests", "environment/data", "instruction.md"])
def test_a_link_out_of_a_task_is_refused_with_its_end(tmp_path, part, target):
    folder = make_task(tmp_path)
    path = folder / part
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    with pytest.raises(UsageError, match=rf"{part}: leads out of the folder, to /.*links that stay inside it"):
        load_task(folder)


def test_links_inside_a_task_are_kept(tmp_path):
    folder = make_task(tmp_path)
    (folder / "tests" / "again.sh").symlink_to("test.sh")
    (folder / "environment" / "shared").symlink_to("../tests")
    (folder / "environment" / "later").symlink_to("made-by-the-build")
    assert load_task(folder).checksum


def test_a_task_that_is_too_large_is_refused_without_being_read(tmp_path):
    folder = make_task(tmp_path)
    with (folder / "environment" / "disk.img").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(UsageError, match="its files have 4096 GiB; expected at most 4 GiB"):
        load_task(folder)
    (folder / "environment" / "disk.img").unlink()
    with (folder / "task.toml").open("wb") as file:
        file.truncate(1 << 21)
    with pytest.raises(UsageError, match=r"task\.toml: has 2 MiB; expected at most 1 MiB"):
        load_task(folder)


def test_a_name_with_escapes_is_shown_without_them(tmp_path):
    folder = make_task(tmp_path)
    name = b"bad\n\x1b[31m\xff"
    os.mkfifo(os.fsencode(folder) + b"/" + name)
    with pytest.raises(UsageError) as refusal:
        load_task(folder)
    assert str(refusal.value).isprintable()
    assert r"bad\n\x1b[31m\udcff: is a fifo" in str(refusal.value)


@pytest.mark.parametrize(
    "line",
    [
        "[agent]\ntimeout_sec = 9223372036854775807",
        "[agent]\ntimeout_sec = 1e300",
        "[environment]\nmemory_mb = 9223372036854775807",
        '[environment]\nmemory = "1' + "0" * 400 + 'G"',
        '[environment]\nmemory = "999999999999G"',
        "[environment]\ncpus = 1e40",
        "[metadata.capvec]\npids = 9223372036854775807",
        "[agent]\nuser = 9223372036854775807",
        "[verifier]\ntimeout_sec = " + "9" * 5000,
        "[metadata]\nx = " + "[" * 100_000,
    ],
)
def test_huge_numbers_and_nesting_in_the_settings_are_refused_in_one_line(tmp_path, line):
    folder = make_task(tmp_path, toml=line)
    with pytest.raises(UsageError, match=r"task\.toml") as refusal:
        load_task(folder)
    assert len(str(refusal.value)) < 500 + len(str(folder))
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("place", ["tests", "tests/data", "solution", "steps/one/tests", "steps/one/solution/a/b"])
def test_a_file_that_says_what_is_not_copied_is_refused(tmp_path: Path, place: str) -> None:
    folder = make_task(tmp_path)
    (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / ".harborignore").write_text("*\n")  # without effect there, in Harbor too
    load_task(folder)
    (folder / place / ".harborignore").write_text("draft.sh\n")
    with pytest.raises(UsageError, match=rf"{place}/\.harborignore: not supported.*remove it"):
        load_task(folder)
