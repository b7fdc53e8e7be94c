"""What a Dockerfile needs of its builder, read from its text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.sandbox.dockerfile import buildkit_features, syntax, without_syntax

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("line", "feature"),
    [
        ("RUN <<EOF", "a heredoc"),
        ("RUN python3 <<-'PY'", "a heredoc"),
        ('COPY --chown=1 <<"EOF" /x', "a heredoc"),
        ("onbuild run <<EOF", "a heredoc"),
        ("RUN --mount=type=cache,target=/x true", "RUN --mount"),
        ("run --network=none true", "RUN --network"),
        ("COPY --chmod=755 a b", "COPY --chmod"),
        ("ADD --checksum=sha256:0 https://x y", "ADD --checksum"),
        ("COPY --link a b", "COPY --link"),
        ("COPY --from=x --exclude=*.md a b", "COPY --exclude"),
        ("ARG TARGETARCH", "ARG TARGETARCH"),
        ("  arg BUILDPLATFORM", "ARG BUILDPLATFORM"),
    ],
)
def test_what_only_buildkit_has_is_named(line, feature):
    assert buildkit_features(f"FROM a\n{line}\nRUN true\n") == (feature,)


@pytest.mark.parametrize(
    "line",
    [
        "RUN cat <<< 'a here-string is the shell's own'",
        "# RUN --mount=type=cache",
        "RUN echo 1 << 2",
        "COPY --from=x a b",
        "ARG TARGETARCH=amd64",  # a value of its own
        "ARG ARCH",
        "RUN chmod --reference=a b",
    ],
)
def test_what_every_builder_has_is_not(line):
    assert buildkit_features(f"FROM a\n{line}\n") == ()


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("# syntax=docker/dockerfile:1\nFROM a\n", "docker/dockerfile:1"),
        ("\ufeff# escape=`\n#Syntax = docker/dockerfile:1.7-labs\r\nFROM a\n", "docker/dockerfile:1.7-labs"),
        ("\n# syntax=docker/dockerfile:1\nFROM a\n", None),  # no directive: it comes after another line
        ("# a comment\n# syntax=docker/dockerfile:1\nFROM a\n", None),
        ("FROM a\n# syntax=docker/dockerfile:1\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_the_frontend_is_named_by_a_directive_at_the_start(text, image):
    assert syntax(text) == image


def test_only_dockers_own_frontend_is_replaced_by_the_one_inside_docker():
    assert without_syntax("# syntax=example.org/other:1\nFROM a\n") is None
    assert without_syntax("# syntax=docker/dockerfile-not:1\nFROM a\n") is None
    assert without_syntax("FROM a\n") is None


@given(st.sampled_from(["docker/dockerfile:1", "docker/dockerfile", "docker.io/docker/dockerfile:1.4"]), st.text())
def test_without_the_directive_the_dockerfile_is_what_it_was(image, rest):
    plain = without_syntax(f"# syntax={image}\n{rest}")
    assert plain == f"#\n{rest}"
    assert syntax(plain) is None
