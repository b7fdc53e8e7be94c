"""`task.toml`: what is read, what is refused, and which key a refusal names."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capvec.errors import UsageError
from capvec.task_records import Artifact, Collect, Environment, Healthcheck, Limits, Phase
from capvec.tasks.config import parse_settings

pytestmark = pytest.mark.unit


def refusal(toml: str, **host_env: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_settings(toml, file="task.toml", host_env=host_env)
    return str(caught.value)


def test_the_older_spellings_mean_the_same_as_the_new_ones() -> None:
    older = parse_settings(
        'version = "1.0"\n[environment]\nmemory = "4G"\nstorage = "10G"\nallow_internet = true\n', file="task.toml"
    )
    newer = parse_settings(
        'schema_version = "1.4"\n[environment]\nmemory_mb = 4096\nstorage_mb = 10240\nnetwork_mode = "public"\n',
        file="task.toml",
    )
    assert older == newer
    assert newer.environment.limits == Limits(memory_mb=4096, network=True, storage_mb=10240)


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [("1G", 1024), ("1.5g", 1536), ("512M", 512), (" 64m ", 64), ("2048K", 2)],  # 1G = 1024 MB, as in Harbor
)
def test_memory_sizes_are_counted_in_binary_units(text: str, megabytes: int) -> None:
    assert parse_settings(f'[environment]\nmemory = "{text}"', file="t").environment.limits.memory_mb == megabytes


def test_the_network_is_public_unless_the_task_closes_it_as_in_harbor() -> None:
    def network(toml: str) -> bool:
        return parse_settings(toml, file="t").environment.limits.network

    assert network("")
    assert network("[environment]\nallow_internet = true")
    assert not network("[environment]\nallow_internet = false")
    assert not network('[environment]\nnetwork_mode = "no-network"\nallow_internet = true')  # the newer key wins


def test_keys_without_effect_are_ignored_and_listed() -> None:
    toml = """
        speed = "high"
        [task]
        name = "org/greet"
        [environment]
        network_mode = "no-network"
        colour = "blue"
        [verifier]
        retries = 3
    """
    assert [note.split()[0] for note in parse_settings(toml, file="t").notes] == [
        "speed",
        "environment.colour",
        "verifier.retries",
    ]


def test_templates_in_an_environment_are_filled_from_the_host() -> None:
    toml = '[verifier.env]\nKEY = "${SECRET}"\nMODE = "${MODE:-fast}"\nURL = "${URL:-}"\nPLAIN = "${SECRET}/b"\n'
    settings = parse_settings(toml, file="t", host_env={"SECRET": "s3"})
    # Harbor resolves a value only where the whole of it is one template.
    assert settings.verifier.env == {"KEY": "s3", "MODE": "fast", "URL": "", "PLAIN": "${SECRET}/b"}


@pytest.mark.parametrize("default", ["{}", '{"a": {"b": 1}}', "}", "a}b", "${OTHER}", "{", ":-", " x "])
def test_a_templates_default_ends_at_the_last_brace(default: str) -> None:
    toml = f"[environment]\nenv = {{ A = '${{A:-{default}}}' }}\n"
    assert parse_settings(toml, file="t", host_env={}).environment.env == {"A": default}
    assert parse_settings(toml, file="t", host_env={"A": "mine"}).environment.env == {"A": "mine"}


def test_an_unset_host_variable_is_named() -> None:
    message = refusal('[solution.env]\nKEY = "${SECRET}"')
    assert message.startswith("task.toml: solution.env.KEY = '${SECRET}'; expected the variable SECRET")


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ('[environment]\ncpus = "two"', "environment.cpus = 'two'"),
        ("[environment]\ncpus = true", "environment.cpus = True"),
        ("[environment]\nmemory_mb = -1", "environment.memory_mb = -1"),
        ("[environment]\nmemory_mb = 0.5", "environment.memory_mb = 0.5"),
        ('[environment]\nmemory = "4X"', "environment.memory = '4X'"),
        ('[environment]\nmemory = "1K"', "environment.memory = '1K'"),
        ("[environment]\nmemory = 4", "environment.memory = 4"),
        ('[environment]\nmemory = "4G"\nmemory_mb = 512', "environment.memory = '4G'; expected 512 MB"),
        ("[environment]\nallow_internet = 1", "environment.allow_internet = 1"),
        ('[environment]\nnetwork_mode = "open"', "environment.network_mode = 'open'"),
        ('[environment]\nnetwork_mode = "allowlist"', "environment.network_mode = 'allowlist'"),
        ("[environment]\nbuild_timeout_sec = 0", "environment.build_timeout_sec = 0"),
        ("[agent]\ntimeout_sec = -5.0", "agent.timeout_sec = -5.0"),
        ("[agent]\ntimeout_sec = inf", "agent.timeout_sec = inf"),
        ("[verifier]\ntimeout_sec = nan", "verifier.timeout_sec = nan"),
        ("[verifier.env]\nN = 3", "verifier.env.N = 3"),
        ('[verifier.env]\n"A-B" = "x"', "verifier.env.A-B = 'x'"),
        ("verifier = 3", "verifier = 3"),
        ("version = 1.0", "version = 1.0"),
        ('version = "2.0"', "version = '2.0'"),
        ("[metadata.capvec]\npids = 0", "metadata.capvec.pids = 0"),
        ('[metadata.capvec]\ncap_add = "CHOWN"', "metadata.capvec.cap_add = 'CHOWN'"),
        ('[metadata.capvec]\ncap_add = ["CHOWN"]', "metadata.capvec.cap_reason is not set"),
        ("[metadata.capvec]\npid = 5", "metadata.capvec.pid = 5; expected one of cap_add, cap_reason, pids"),
    ],
)
def test_a_wrong_value_is_named_with_file_key_and_expectation(toml: str, named: str) -> None:
    message = refusal(toml)
    assert message.startswith(f"task.toml: {named}")
    assert "; expected " in message


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ('[environment]\nos = "windows"', "environment.os"),
        ("[environment]\ngpus = 1", "environment.gpus"),
        ('[environment]\ngpu_types = ["H100"]', "environment.gpu_types"),
        ('[environment.tpu]\ntype = "v6e"\ntopology = "2x4"', "environment.tpu"),
        ('[[environment.mcp_servers]]\nname = "m"\nurl = "http://m"', "environment.mcp_servers"),
        ('[environment]\nallowed_hosts = ["example.com"]', "environment.allowed_hosts"),
        ('[agent]\nallowed_hosts = ["example.com"]', "agent.allowed_hosts"),
        ('[verifier.environment]\nos = "windows"', "verifier.environment.os"),
        ("[verifier.environment]\ngpus = 1", "verifier.environment.gpus"),
        ('[[steps]]\nname = "a"\n[steps.verifier]\nallowed_hosts = ["a.b"]', "steps[0].verifier.allowed_hosts"),
    ],
)
def test_a_feature_of_harbor_that_capvec_lacks_is_refused_and_never_dropped(toml: str, key: str) -> None:
    assert refusal(toml).startswith(f"task.toml: {key} = ")


def test_phases_containers_and_steps_are_read_in_capvecs_units() -> None:
    toml = """
        artifacts = ["/app/out", { source = "/var/log", exclude = ["*.tmp"], service = "db", destination = "logs" }]
        multi_step_reward_strategy = "final"
        [environment]
        workdir = "/srv"
        skills_dir = "/skills"
        healthcheck = { command = "curl localhost", retries = 2, start_period_sec = 1 }
        [agent]
        user = 1000
        network_mode = "no-network"
        [verifier]
        user = "root"
        [verifier.environment]
        docker_image = "judge"
        memory_mb = 64
        network_mode = "no-network"
        [[verifier.collect]]
        command = "dump > /tmp/db"
        service = "db"
        [[steps]]
        name = "one"
        min_reward = 0.5
        agent = { timeout_sec = 5 }
        [[steps]]
        name = "two"
        min_reward = { speed = 2 }
        verifier = { environment_mode = "shared", timeout_sec = 3 }
    """
    read = parse_settings(toml, file="t")
    assert read.artifacts == (Artifact("/app/out"), Artifact("/var/log", ("*.tmp",), "db", "logs"))
    assert (read.environment.workdir, read.skills_dir, read.step_reward) == ("/srv", "/skills", "final")
    assert read.environment.healthcheck == Healthcheck("curl localhost", retries=2, start_period_s=1.0)
    assert read.agent == Phase(user="1000", network=False)
    assert (read.verifier.user, read.verifier.collect) == ("root", (Collect("dump > /tmp/db", "db"),))
    assert read.verifier.environment == Environment(image="judge", limits=Limits(memory_mb=64))
    one, two = read.steps
    assert (one.agent, one.min_reward) == (replace(read.agent, timeout_s=5.0), {"reward": 0.5})
    assert (two.min_reward, two.verifier.mode, two.verifier.timeout_s) == ({"speed": 2.0}, "shared", 3.0)
    assert read.notes == ()


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("artifacts = 3", "artifacts = 3"),
        ("artifacts = [3]", "artifacts = [3]"),
        ('artifacts = ["/a/../b"]', "artifacts[0].source = '/a/../b'"),
        ('artifacts = ["/"]', "artifacts[0].source = '/'"),
        ('artifacts = ["."]', "artifacts[0].source = '.'"),
        ('artifacts = ["//"]', "artifacts[0].source = '//'"),
        ('artifacts = [{ source = "a", service = "db" }]', "artifacts[0].source = 'a'"),
        ('[environment]\nworkdir = "app"', "environment.workdir = 'app'"),
        ("[environment.healthcheck]\nretries = 1", "environment.healthcheck.command is not set"),
        ("[agent]\nuser = true", "agent.user = True"),
        ("[agent]\nuser = -1", "agent.user = -1"),
        ('[verifier]\nenvironment_mode = "own"', "verifier.environment_mode = 'own'"),
        (
            '[verifier]\nenvironment_mode = "shared"\n[verifier.environment]\ncpus = 1',
            "verifier.environment_mode = 'shared'",
        ),
        ("[[verifier.collect]]\ntimeout_sec = 1", "verifier.collect[0].command is not set"),
        ('[[steps]]\nname = "../up"', "steps[0].name = '../up'"),
        ('[[steps]]\nname = "a"\n[[steps]]\nname = "A"', "steps[1].name = 'A'"),
        ('[[steps]]\nname = "a"\nmin_reward = "high"', "steps[0].min_reward = 'high'"),
        ('multi_step_reward_strategy = "best"', "multi_step_reward_strategy = 'best'"),
    ],
)
def test_a_wrong_value_of_a_phase_or_a_step_is_named(toml: str, named: str) -> None:
    assert refusal(toml).startswith(f"task.toml: {named}; expected ")


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


@given(seconds=st.one_of(st.integers(-5, 5), st.floats(allow_nan=True, allow_infinity=True, width=32)))
@example(2_000_000).via("the largest")
@example(2_000_001).via("more than a socket's timeout holds")
def test_a_timeout_is_taken_exactly_when_it_is_positive_and_a_clock_can_hold_it(seconds: float) -> None:
    toml = f"[agent]\ntimeout_sec = {str(seconds) if isinstance(seconds, int) else format_float(seconds)}"
    if 0 < seconds <= 2_000_000:
        assert parse_settings(toml, file="t").agent.timeout_s == seconds
    else:
        assert "agent.timeout_sec" in refusal(toml)


def format_float(value: float) -> str:
    """TOML wants a digit after the point and knows `inf` and `nan`."""
    text = repr(value)
    return text if "." in text or "inf" in text or "nan" in text or "e" in text else text + ".0"


# Any value under a key that the loader reads gives settings or a message that names the key.
values = st.sampled_from(["0", "-1", "1.5", "true", "inf", '""', '"x"', "[]", "[1]", "{}", "{ a = 1 }", "2026-03-01"])
tables = (
    "version",
    "steps",
    "artifacts",
    "multi_step_reward_strategy",
    "agent",
    "agent.user",
    "verifier.collect",
    "agent.timeout_sec",
    "verifier.env",
    "metadata",
    "metadata.capvec",
)
settings = (
    "workdir",
    "healthcheck",
    "skills_dir",
    "cpus",
    "memory",
    "storage_mb",
    "os",
    "gpus",
    "network_mode",
    "mcp_servers",
)
keys = st.sampled_from([*tables, *(f"environment.{key}" for key in settings)])


@given(key=keys, value=values)
def test_any_value_under_a_known_key_is_read_or_refused_by_name(key: str, value: str) -> None:
    refused = None
    try:
        parse_settings(f"{key} = {value}", file="task.toml", host_env={})
    except UsageError as error:
        refused = str(error)
    assert refused is None or refused.startswith(f"task.toml: {key}")
