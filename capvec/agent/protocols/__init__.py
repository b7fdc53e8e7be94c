"""Agent protocols: how a model writes commands and says that it is done."""

from __future__ import annotations

from capvec.agent.protocols.base import OBSERVATION_CHARS, AgentProtocol
from capvec.agent.protocols.bash_block import BASH_BLOCK
from capvec.agent.protocols.terminus_json import TERMINUS_JSON
from capvec.agent.protocols.tool_call import TOOL_CALL
from capvec.errors import UsageError

__all__ = ["OBSERVATION_CHARS", "PROTOCOLS", "AgentProtocol", "get_protocol"]

PROTOCOLS = {protocol.name: protocol for protocol in (BASH_BLOCK, TERMINUS_JSON, TOOL_CALL)}


def get_protocol(name: str) -> AgentProtocol:
    """The protocol of that name.

    Raises:
        UsageError: no protocol has that name; the message lists the names.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"no agent protocol is called {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
