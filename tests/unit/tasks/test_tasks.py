"""The task loader: what it reads, what it refuses, and what it says when it refuses."""

from __future__ import annotations

import re
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.errors import UsageError
from capvec.plan.options import parse_options
from capvec.records import Limits, Task
from capvec.run import session
from capvec.studies.sweep import SweepStudy
from capvec.tasks.checksum import folder_checksum
from capvec.tasks.config import parse_settings
from capvec.tasks.loader import bundled_sets, load_task, load_tasks, notes_in_words, task_notes

pytestmark = pytest.mark.unit


def make_task(parent: Path, name: str = "greet", toml: str = 'schema_version = "1.4"\n') -> Path:
    """A complete task folder."""
    folder = parent / name
    for part in ("environment", "tests", "solution"):
        (folder / part).mkdir(parents=True)
    (folder / "task.toml").write_text(toml)
    (folder / "instruction.md").write_text("Say hello.\n")
    (folder / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\nWORKDIR /app\n")
    (folder / "tests" / "test.sh").write_text("echo 1 > /logs/verifier/reward.txt\n")
    (folder / "solution" / "solve.sh").write_text("true\n")
    return folder


def refusal(toml: str, **host_env: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_settings(toml, file="task.toml", host_env=host_env)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ what is read


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
    assert load_task(folder) == Task(
        name="greet",
        path=folder,
        instruction="Say hello.",
        checksum=folder_checksum(folder),
        limits=Limits(cpus=2.0, memory_mb=768, pids=64, network=True, cap_add=("CHOWN", "SETUID")),
        image=None,
        build_timeout_s=30.0,
        agent_timeout_s=90.0,
        verifier_timeout_s=12.5,
        env={"STAGE": "test"},
        verifier_env={"EXPECTED": "42"},
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


def test_an_empty_task_toml_gives_a_hardened_sandbox_and_harbors_timeouts(tmp_path: Path) -> None:
    task = load_task(make_task(tmp_path, toml=""))
    assert task.limits == Limits(cpus=1.0, memory_mb=512, pids=128, network=False, cap_add=())
    assert (task.build_timeout_s, task.verifier_timeout_s) == (600.0, 600.0)  # Harbor's defaults, in seconds


def test_a_loaded_task_survives_json(tmp_path: Path) -> None:
    task = load_task(make_task(tmp_path, toml="[metadata]\ncreated = 2026-03-01\nweights = [0.5, { at = 10:30:00 }]\n"))
    assert task.metadata == {"created": "2026-03-01", "weights": [0.5, {"at": "10:30:00"}]}
    assert Task.from_json(task.to_json()) == task


def test_the_older_spellings_mean_the_same_as_the_new_ones() -> None:
    older = parse_settings(
        'version = "1.0"\n[environment]\nmemory = "4G"\nstorage = "10G"\nallow_internet = true\n', file="task.toml"
    )
    newer = parse_settings(
        'schema_version = "1.4"\n[environment]\nmemory_mb = 4096\nstorage_mb = 10240\nnetwork_mode = "public"\n',
        file="task.toml",
    )
    assert older == newer
    assert newer.limits == Limits(memory_mb=4096, network=True)


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [("1G", 1024), ("1.5g", 1536), ("512M", 512), (" 64m ", 64), ("2048K", 2)],  # 1G = 1024 MB, as in Harbor
)
def test_memory_sizes_are_counted_in_binary_units(text: str, megabytes: int) -> None:
    assert parse_settings(f'[environment]\nmemory = "{text}"', file="t").limits.memory_mb == megabytes


def test_the_network_is_closed_unless_the_task_opens_it_and_the_difference_from_harbor_is_noted() -> None:
    unset = parse_settings("", file="t")
    assert not unset.limits.network
    assert unset.notes == (
        "environment.network_mode is not set: the sandbox has no network (Harbor's default is public)",
    )
    closed = parse_settings('[environment]\nnetwork_mode = "no-network"\nallow_internet = true', file="t")
    assert not closed.limits.network  # the newer key wins, as in Harbor
    assert closed.notes == ()
    assert not parse_settings("[environment]\nallow_internet = false", file="t").limits.network


def test_keys_without_effect_are_ignored_and_listed(tmp_path: Path) -> None:
    toml = """
        artifacts = ["/app/out"]
        speed = "high"
        [task]
        name = "org/greet"
        [environment]
        network_mode = "no-network"
        storage_mb = 10240
        colour = "blue"
        [verifier]
        retries = 3
    """
    folder = make_task(tmp_path, toml=toml)
    assert load_task(folder).name == "greet"
    assert task_notes(folder) == (
        "environment.storage_mb is not enforced: Docker's default storage driver has no quota",
        "artifacts has no effect in capvec",
        "speed has no effect in capvec",
        "task has no effect in capvec",
        "environment.colour has no effect in capvec",
        "verifier.retries has no effect in capvec",
    )


def test_a_note_that_several_tasks_have_is_one_line_that_counts_them(tmp_path: Path) -> None:
    plain, closed = "", '[environment]\nnetwork_mode = "no-network"\n'
    for name, toml in {"a": plain, "b": closed, "c": plain + 'speed = "high"', "d": plain}.items():
        make_task(tmp_path, name, toml=toml)
    network = "environment.network_mode is not set: the sandbox has no network (Harbor's default is public)"
    assert notes_in_words(load_tasks(str(tmp_path))) == (
        f"task a and 2 more: {network}",
        "task c: speed has no effect in capvec",
    )


def test_a_session_says_what_task_files_ask_for_in_vain_before_it_starts_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = '[environment]\nnetwork_mode = "no-network"\nstorage = "10G"\n"colour\\u001b[2J" = "blue"\n'
    folder = make_task(tmp_path, toml=toml)
    said: list[str] = []
    study = SweepStudy(parse_options({"tasks": str(folder), "model": "no such model"}))
    monkeypatch.setattr(session, "check_docker", lambda: None)
    monkeypatch.setattr(session, "reap", lambda: 0)
    with closing(session.StudySession(study, tmp_path, said.append)) as asked, pytest.raises(UsageError, match="model"):
        asked.prepare()
    assert said == [
        "task greet: environment.storage_mb is not enforced: Docker's default storage driver has no quota",
        "task greet: environment.colour has no effect in capvec",  # nothing that a terminal would act on
    ]


def test_templates_in_an_environment_are_filled_from_the_host() -> None:
    toml = '[verifier.env]\nKEY = "${SECRET}"\nMODE = "${MODE:-fast}"\nURL = "${URL:-}"\nPLAIN = "${SECRET}/b"\n'
    settings = parse_settings(toml, file="t", host_env={"SECRET": "s3"})
    # Harbor resolves a value only where the whole of it is one template.
    assert settings.verifier_env == {"KEY": "s3", "MODE": "fast", "URL": "", "PLAIN": "${SECRET}/b"}


def test_an_unset_host_variable_is_named() -> None:
    message = refusal('[solution.env]\nKEY = "${SECRET}"')
    assert message == (
        "task.toml: solution.env.KEY = '${SECRET}'; expected the variable SECRET set on this machine: export it first"
    )


def test_a_ready_image_needs_no_dockerfile(tmp_path: Path) -> None:
    folder = make_task(tmp_path, toml='[environment]\ndocker_image = "debian:bookworm-slim"\n')
    (folder / "environment" / "Dockerfile").unlink()
    assert load_task(folder).image == "debian:bookworm-slim"


def test_a_task_without_a_solution_loads(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    shutil.rmtree(folder / "solution")
    assert load_task(folder).name == "greet"


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ('[environment]\ncpus = "two"', "environment.cpus = 'two'; expected a number above 0"),
        ("[environment]\ncpus = true", "environment.cpus = True; expected a number above 0"),
        ("[environment]\nmemory_mb = -1", "environment.memory_mb = -1; expected a whole number of at least 1"),
        ("[environment]\nmemory_mb = 0.5", "environment.memory_mb = 0.5; expected a whole number of at least 1"),
        ('[environment]\nmemory = "4X"', "environment.memory = '4X'; expected a size of at least 1 MB"),
        ('[environment]\nmemory = "1K"', "environment.memory = '1K'; expected a size of at least 1 MB"),
        ("[environment]\nmemory = 4", "environment.memory = 4; expected a non-empty string"),
        ('[environment]\nmemory = "4G"\nmemory_mb = 512', "environment.memory = '4G'; expected 512 MB as memory_mb"),
        ("[environment]\nallow_internet = 1", "environment.allow_internet = 1; expected true or false"),
        ('[environment]\nnetwork_mode = "open"', "environment.network_mode = 'open'; expected \"public\" or"),
        ('[environment]\nnetwork_mode = "allowlist"', "environment.network_mode = 'allowlist'; expected"),
        ("[environment]\nbuild_timeout_sec = 0", "environment.build_timeout_sec = 0; expected a number above 0"),
        ("[agent]\ntimeout_sec = -5.0", "agent.timeout_sec = -5.0; expected a number above 0"),
        ("[agent]\ntimeout_sec = inf", "agent.timeout_sec = inf; expected a number above 0"),
        ("[verifier]\ntimeout_sec = nan", "verifier.timeout_sec = nan; expected a number above 0"),
        ("[verifier.env]\nN = 3", "verifier.env.N = 3; expected a string"),
        ('[verifier.env]\n"A-B" = "x"', "verifier.env.A-B = 'x'; expected a name of letters"),
        ("verifier = 3", "verifier = 3; expected a table"),
        ("version = 1.0", "version = 1.0; expected a non-empty string"),
        ('version = "2.0"', "version = '2.0'; expected a Harbor task schema that capvec reads"),
        ("[metadata.capvec]\npids = 0", "metadata.capvec.pids = 0; expected a whole number of at least 1"),
        ('[metadata.capvec]\ncap_add = "CHOWN"', "metadata.capvec.cap_add = 'CHOWN'; expected a list of"),
        ('[metadata.capvec]\ncap_add = ["CHOWN"]', "metadata.capvec.cap_reason is not set; expected a sentence"),
        ("[metadata.capvec]\npid = 5", "metadata.capvec.pid = 5; expected one of cap_add, cap_reason, pids"),
    ],
)
def test_a_wrong_value_is_named_with_file_key_and_expectation(toml: str, named: str) -> None:
    assert refusal(toml).startswith(f"task.toml: {named}")


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ('[[steps]]\nname = "one"', "steps"),
        ('multi_step_reward_strategy = "mean"', "multi_step_reward_strategy"),
        ('[environment]\nos = "windows"', "environment.os"),
        ("[environment]\ngpus = 1", "environment.gpus"),
        ('[environment]\ngpu_types = ["H100"]', "environment.gpu_types"),
        ('[environment.tpu]\ntype = "v6e"\ntopology = "2x4"', "environment.tpu"),
        ('[[environment.mcp_servers]]\nname = "m"\nurl = "http://m"', "environment.mcp_servers"),
        ('[environment]\nskills_dir = "/skills"', "environment.skills_dir"),
        ('[environment.healthcheck]\ncommand = "true"', "environment.healthcheck"),
        ('[environment]\nworkdir = "/srv"', "environment.workdir"),
        ('[environment]\nallowed_hosts = ["example.com"]', "environment.allowed_hosts"),
        ('[agent]\nuser = "nobody"', "agent.user"),
        ("[verifier]\nuser = 0", "verifier.user"),
        ('[verifier]\nenvironment_mode = "separate"', "verifier.environment_mode"),
        ("[verifier.environment]\ncpus = 1", "verifier.environment"),
        ('[[verifier.collect]]\ncommand = "dump"', "verifier.collect"),
        ('[verifier]\nnetwork_mode = "public"', "verifier.network_mode"),
    ],
)
def test_a_feature_of_harbor_that_capvec_lacks_is_refused_and_never_dropped(toml: str, key: str) -> None:
    assert refusal(toml).startswith(f"task.toml: {key} = ")


def test_harbors_defaults_written_out_are_not_refused() -> None:
    toml = """
        [environment]
        os = "Linux"
        gpus = 0
        mcp_servers = []
        allowed_hosts = []
        network_mode = "no-network"
        [verifier]
        environment_mode = "shared"
        network_mode = "no-network"
        env = {}
    """
    assert parse_settings(toml, file="t").notes == ()


def test_invalid_toml_is_named_with_file_and_line() -> None:
    message = refusal('schema_version = "1.4"\n[agent\ntimeout_sec = 5\n')
    assert re.fullmatch(r"task\.toml, line 2, column \d+: not valid TOML: .+", message)


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


def test_a_compose_environment_is_refused(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    (folder / "environment" / "docker-compose.yaml").write_text("services: {}\n")
    with pytest.raises(UsageError, match=r"docker-compose\.yaml: compose environments are not supported"):
        load_task(folder)


@pytest.mark.parametrize("name", ["two words", "caf\u00e9", "-flag", "a+b"])
def test_a_folder_whose_name_cannot_be_a_task_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{name!r} cannot be a task's name")):
        load_task(make_task(tmp_path, name))


# ------------------------------------------------------------------------------------------------ several tasks


def test_the_bundled_sets_have_the_sizes_of_the_contract() -> None:
    assert len(load_tasks("sprint")) == 5
    assert len(load_tasks("multi")) == 6
    assert {task.name for task in load_tasks("sprint,multi")} < {task.name for task in load_tasks("full")}


def test_a_set_keeps_its_order() -> None:
    assert tuple(task.name for task in load_tasks("multi")) == bundled_sets()["multi"]


def test_every_bundled_task_says_family_and_difficulty_and_closes_the_network() -> None:
    for task in load_tasks("full"):
        assert {"family", "category"} <= set(task.metadata)
        assert task.metadata["difficulty"] in {"easy", "medium", "hard"}
        assert not task.limits.network
        assert (task.path / "solution" / "solve.sh").stat().st_mode & 0o100


def test_no_bundled_task_gives_a_note() -> None:
    assert notes_in_words(load_tasks("full")) == ()


def test_names_and_paths_mix_in_a_comma_list_and_each_task_comes_once(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    names = [task.name for task in load_tasks(f"append-line-2, {folder},sprint,{tmp_path}")]
    assert names[:2] == ["append-line-2", "greet"]
    assert sorted(names) == sorted(("greet", *bundled_sets()["sprint"]))


def test_a_folder_of_tasks_loads_in_the_order_of_names_and_skips_what_is_no_task(tmp_path: Path) -> None:
    for name in ("b", "a"):
        make_task(tmp_path, name)
    (tmp_path / "README.md").write_text("tasks\n")
    (tmp_path / "shared-notes").mkdir()
    make_task(tmp_path, ".hidden")
    assert [task.name for task in load_tasks(str(tmp_path))] == ["a", "b"]


def test_one_task_folder_loads_even_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_task(tmp_path)
    monkeypatch.chdir(folder)
    (task,) = load_tasks(".")
    assert (task.name, task.path) == ("greet", folder)


def test_a_path_with_a_comma_is_a_path(tmp_path: Path) -> None:
    odd = tmp_path / "a,b"
    make_task(odd)
    assert [task.name for task in load_tasks(str(odd))] == ["greet"]


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UsageError) as caught:
        load_tasks("multy")
    message = str(caught.value)
    assert message.startswith(
        "no tasks named 'multy', and no such folder (did you mean multi?); expected one of the sets multi, sprint, full"
    )
    assert not any(name in message for name in bundled_sets()["full"])
    with pytest.raises(UsageError, match=r"'append-lin-2', and no such folder \(did you mean append-line-2"):
        load_tasks("append-lin-2")
    with pytest.raises(UsageError, match="'/nonexistent', and no such folder; expected one of the sets") as caught:
        load_tasks("/nonexistent")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["", "multi,,sprint"])
def test_an_empty_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no tasks named ''"):
        load_tasks(text)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no task in .*; expected it to hold task\.toml"):
        load_tasks(str(tmp_path))


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    file = make_task(tmp_path) / "task.toml"
    with pytest.raises(UsageError, match="is a file; expected a task folder"):
        load_tasks(str(file))


def test_all_broken_tasks_of_a_folder_are_named_at_once(tmp_path: Path) -> None:
    make_task(tmp_path, "good")
    make_task(tmp_path, "bad-number", toml="[agent]\ntimeout_sec = -1")
    (make_task(tmp_path, "lost-settings") / "task.toml").unlink()
    with pytest.raises(UsageError) as caught:
        load_tasks(str(tmp_path))
    head, first, second = str(caught.value).splitlines()
    assert head == "2 of 3 tasks cannot be used:"
    assert first.startswith("  bad-number: ")
    assert first.endswith("agent.timeout_sec = -1; expected a number above 0")
    assert second.startswith("  lost-settings: ")
    assert "no such file" in second


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    one, two = make_task(tmp_path / "x"), make_task(tmp_path / "y")
    with pytest.raises(UsageError) as caught:
        load_tasks(f"{one},{two}")
    assert str(caught.value).startswith(f"two tasks are named 'greet': {one} and {two}")


# ------------------------------------------------------------------------------------------------ checksum


def write_tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


trees = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=2).map("/".join).map(lambda name: name + ".f"),
    st.binary(max_size=6),
    max_size=4,
)


@given(one=trees, two=trees)
def test_two_folders_have_one_checksum_exactly_when_their_files_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, bytes], two: dict[str, bytes]
) -> None:
    first = write_tree(tmp_path_factory.mktemp("one"), one)
    second = write_tree(tmp_path_factory.mktemp("two"), dict(reversed(two.items())))
    assert (folder_checksum(first) == folder_checksum(second)) == (one == two)


def test_the_checksum_keeps_names_and_contents_apart(tmp_path: Path) -> None:
    # Joined without lengths, both would read "abc".
    assert folder_checksum(write_tree(tmp_path / "x", {"a": b"bc"})) != folder_checksum(
        write_tree(tmp_path / "y", {"ab": b"c"})
    )


def test_the_checksum_sees_the_executable_bit_and_where_a_link_points(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    seen = {folder_checksum(folder)}
    (folder / "solution" / "solve.sh").chmod(0o755)
    seen.add(folder_checksum(folder))
    link = folder / "environment" / "data"
    for target in ("missing", ".", ".."):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        seen.add(folder_checksum(folder))
    assert len(seen) == 5


def test_the_checksum_does_not_see_what_tools_leave_behind(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    before = folder_checksum(folder)
    write_tree(folder / "tests", {"__pycache__/test_state.cpython-311.pyc": b"x", ".DS_Store": b"y"})
    assert folder_checksum(folder) == before


def test_the_checksum_does_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "renamed")
    assert folder_checksum(copy) == folder_checksum(folder)


# ------------------------------------------------------------------------------------------------ relations


@given(seconds=st.one_of(st.integers(-5, 5), st.floats(allow_nan=True, allow_infinity=True, width=32)))
def test_a_timeout_is_taken_exactly_when_it_is_finite_and_positive(seconds: float) -> None:
    toml = f"[agent]\ntimeout_sec = {str(seconds) if isinstance(seconds, int) else format_float(seconds)}"
    if 0 < seconds < float("inf"):
        assert parse_settings(toml, file="t").agent_timeout_s == seconds
    else:
        assert "agent.timeout_sec" in refusal(toml)


def format_float(value: float) -> str:
    """TOML wants a digit after the point and knows `inf` and `nan`."""
    text = repr(value)
    return text if "." in text or "inf" in text or "nan" in text or "e" in text else text + ".0"


# Whatever stands under a key that the loader reads, what comes back is a record or a message that names the key.
values = st.sampled_from(["0", "-1", "1.5", "true", "inf", '""', '"x"', "[]", "[1]", "{}", "{ a = 1 }", "2026-03-01"])
tables = ("version", "steps", "agent", "agent.timeout_sec", "verifier.env", "metadata", "metadata.capvec")
settings = ("cpus", "memory", "storage_mb", "os", "gpus", "network_mode", "mcp_servers")
keys = st.sampled_from([*tables, *(f"environment.{key}" for key in settings)])


@given(key=keys, value=values)
def test_any_value_under_a_known_key_is_read_or_refused_by_name(key: str, value: str) -> None:
    refused = None
    try:
        parse_settings(f"{key} = {value}", file="task.toml", host_env={})
    except UsageError as error:
        refused = str(error)
    assert refused is None or refused.startswith(f"task.toml: {key}")
