"""An address that is none of SSH is refused before `ssh` is started, wherever it comes from."""

from __future__ import annotations

import hashlib
import json

import pytest

from capvec.errors import UsageError
from capvec.sandbox.tunnel import tunnel_to

pytestmark = pytest.mark.unit

ODD = [
    "ssh://h:99999",
    "ssh://h:abc",
    "ssh://[::1",
    "ssh://",
    "ssh://:22",
    "ssh://h:0",
    "ssh://h:-1",
    "ssh://h:\x1b[2J",
]


@pytest.mark.parametrize("address", ODD)
def test_an_odd_address_is_refused_in_one_sentence(address):
    with (
        pytest.raises(UsageError, match=r"is no address of SSH \(.*\); expected one such as ssh://") as refused,
        tunnel_to(address),
    ):
        pass
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("address", ODD)
def test_the_same_in_a_context_is_refused_with_the_name_of_the_context(address, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"far").hexdigest()
    meta.mkdir(parents=True)
    endpoints = {"docker": {"Host": address, "SkipTLSVerify": False}}
    (meta / "meta.json").write_text(json.dumps({"Name": "far", "Metadata": {}, "Endpoints": endpoints}))
    with (
        pytest.raises(UsageError, match=r"^--docker-host far: ssh://.* is no address of SSH ") as refused,
        tunnel_to("far"),
    ):
        pass
    assert str(refused.value).isprintable()
