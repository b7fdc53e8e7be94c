"""Signs, in what a program printed, that its own tools failed.

A sign proves nothing, since a verifier also prints what the agent's programs print. `capvec.run.control` decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from capvec.records import CommandResult
from capvec.serial import Record
from capvec.text import one_line

NETWORK, PERMISSION, PROGRAM, TESTS, SPACE, SIGNAL = (
    "the network cannot be reached",
    "an operation is not permitted",
    "a program is missing",
    "no test ran",
    "the disk is full",
    "a signal ended it",
)

_TOOL = (
    r"(?:\S*/bin/)?(?:pytest|py\.test|tox|nox|nose2|coverage|uvx?|pip3?|pipx|poetry|python3?|npm|npx|yarn|pnpm|node|jest|"
    r"mocha|vitest|bats|prove|perl|ruby|rspec|bundle|phpunit|ctest|curl|wget|jq|bc|apt|apt-get|apk|sudo|expect|timeout|"
    r"diff|cmp|xxd|file|unzip)"
)
"""Programs that verifiers bring or expect. Any other that is missing may be what the agent was to make."""
_QUOTE = "[`'\"‘’]?"
_NAMED_TOOL = rf"{_QUOTE}{_TOOL}{_QUOTE}"
_OUTSIDE = r"(?!localhost|127\.|0\.0\.0\.0)[\w-]+(?:\.[\w-]+)+"
"""A host that is no service of the task: its name has a dot."""

_PATTERNS = {
    NETWORK: (
        r"Temporary failure (?:resolving|in name resolution)",
        r"[Cc]ould not resolve (?:host|'|\")",
        r"Name or service not known",
        r"(?:Network is unreachable|No route to host)",
        r"Failed to establish a new connection(?!.*(?:localhost|127\.0\.0\.1|refused))",
        r"Failed to fetch:? [`'\"]?https?:",
        r"unable to (?:access|resolve host)",
        r"dns error",
        r"getaddrinfo (?:ENOTFOUND|EAI_AGAIN)",
        r"Unable to locate package",
        r"No matching distribution found|\(from versions: none\)",
        r"(?:HTTP error|status server error|server error|returned error:) \(?(?:429|50[0-4])",
        # curl, wget
        rf"^curl: \(\d+\) Failed to connect to {_OUTSIDE} ",
        rf"^curl: \(\d+\) .*(?:to|from) {_OUTSIDE}[: ].*(?:timed? ?out|reset|closed)",
        r"^curl: \(18\) transfer closed|^curl: \(35\) (?!.*(?:localhost|127\.0\.0\.1))",
        r"^curl: \((?:28|56)\) (?!.*(?:localhost|127\.0\.0\.1)).*(?:timed out|timeout|[Cc]onnection (?:was )?reset)",
        r"^wget: (?:download timed out|bad address)",
        rf"^Connecting to {_OUTSIDE}.* failed: Connection timed out",
        r"^failed: Connection timed out",
        # pip and others on urllib3, requests, urllib
        rf"HTTPS?ConnectionPool\(host='{_OUTSIDE}', port=\d+\): (?:Max retries|Read timed out)",
        rf"(?:ConnectTimeout|ReadTimeout|ConnectionError|SSLError)(?:Error)?: HTTPS?ConnectionPool\(host='{_OUTSIDE}'",
        rf"(?:429 Client|50[0-4] Server) Error: .* for url: https?://{_OUTSIDE}",
        r"urlopen error (?:\[Errno (?:-\d|101|104|110|113)\]|timed out|_ssl\.c)",
        r"urllib\.error\.HTTPError: HTTP Error (?:429|50[0-4])",
        r"error sending request for url \(https?://(?!localhost|127\.)",
        # services that judge by a model, and clients of theirs
        r"\b(?:anthropic|openai|litellm|google\.genai|groq|mistralai)(?:\.\w+)*\.(?:\w*(?:Error|Timeout)|Timeout)\b",
        r"\boverloaded_error\b|\bAPI(?:Connection|Timeout)Error\b",
        r"Error code: (?:401|403|408|409|429|5\d\d)\b",
        r"\b(?:40[138]|429|5\d\d) (?:UNAVAILABLE|RESOURCE_EXHAUSTED|UNAUTHENTICATED|PERMISSION_DENIED|INTERNAL)\b",
        r"The api_key client option must be set|Could not resolve authentication method",
        r"httpx?(?:core)?\.(?:Connect|Read|Write|Pool)(?:Timeout|Error)",
        r"\bUnknownHostException\b|Could not GET 'https?:|CondaHTTPError|[Cc]ouldn't connect to 'https?://huggingface",
        # apt, apk
        r"The repository '.*' does not have a Release file|Could not get lock /var/lib/",
        r"^(?:[WE]: )?(?:Failed to fetch|Unable to fetch some archives)",
        rf"(?:Could not|Unable to) connect to {_OUTSIDE}:",
        r"^E: Package '.*' has no installation candidate",
        r"^(?:ERROR|WARNING): (?:fetching|opening) https?://.*(?:temporary error|network error|DNS)",
        # npm, yarn, pnpm
        r"^npm (?:ERR!|error) (?:code|errno) (?:E?ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ECONNRESET|ENETUNREACH|E429|E50\d)",
        r"^npm (?:ERR!|error) network ",
        r"connect (?:ETIMEDOUT|ENETUNREACH|EHOSTUNREACH) (?!127\.)",
        r"trouble with your network connection|ESOCKETTIMEDOUT|ERR_PNPM_META_FETCH_FAIL",
        # Go
        rf"dial tcp: lookup {_OUTSIDE}.*: (?:no such host|i/o timeout|server misbehaving|Temporary failure)",
        r"dial tcp (?!127\.|\[::1\])[\d.:\[\]a-f]+: (?:i/o timeout|connect: (?:connection timed out|no route))",
        r"net/http: TLS handshake timeout",
        # cargo, git
        r"failed to download from [`'\"]?https?:|failed to get `[^`]+` as a dependency of",
        r"spurious network error",
        r"(?:fatal: unable to connect to|ssh: Could not resolve hostname|RPC failed; (?:curl|HTTP))",
        # gem, Maven
        r"Could not (?:fetch specs from|reach host|transfer artifact .* from)",
    ),
    PERMISSION: (
        r"(?:setgroups|setegid|seteuid|setresuid|setresgid) .*failed",
        r"\b(?:chown|chgrp|mount|su|sudo|install|tar|cp|mv|mkdir|mknod)\b.*Operation not permitted",
        r"PermissionError: \[Errno 1\]",
        r"dpkg: error",
        r"E: Sub-process .* (?:returned|received)",
    ),
    PROGRAM: (
        r"^/tests/\S+: line \d+: .*: (?:command not found|No such file or directory|Permission denied)",
        r"^/tests/\S+: \d+: .*: (?:not found|Permission denied)",  # dash
        r"^/tests/\S+: .*: bad interpreter",
        r"^bash: (?:line \d+: )?/tests/\S+: (?:cannot execute|.*bad interpreter)",
        r"^(?:/usr/bin/)?env: .*: No such file or directory",
        r"^env: can't execute ",  # BusyBox
        r"can't open file '/tests/",
        # A shell, a script or a wrapper that is to run another program.
        rf"^(?:\S+\.sh|(?:/\S+/)?(?:sh|bash|dash|ash|zsh)): (?:(?:line )?\d+: )?{_NAMED_TOOL}: "
        r"(?:command not found|not found|No such file or directory|Permission denied)",
        rf"^(?:\S*/)?(?:timeout|xargs|nice|nohup|setsid|stdbuf|make|find|time|exec|chroot|unshare|sudo|strace|busybox)\b.*"
        rf": {_NAMED_TOOL}: (?:command not found|No such file or directory|Permission denied)",
        rf"^(?:\S*/)?(?:timeout|nice|nohup|setsid|stdbuf|time|chroot|unshare): (?:failed to (?:run|execute)|cannot run|"
        rf"can't execute)(?: command)? {_NAMED_TOOL}(?::|$)",
        rf"^(?:\S*/)?(?:xargs|make|sudo|find): {_NAMED_TOOL}: ",
        rf"FileNotFoundError: \[Errno 2\] No such file or directory: '{_TOOL}'$",
        rf"\bspawn {_TOOL} ENOENT",
        # Modules of Python, Perl, Ruby and Node that no agent was to make.
        r"No module named '?(?:pytest\w*|unittest2?|nose2?|tox|uv|pip|xdist|hypothesis)\b",
        r"^Can't locate \S+\.pm in @INC .*\(@INC[^:]*:(?: /(?:etc|usr)/\S+)+\) at /tests/",
        r"cannot load such file -- (?:rspec|minitest|test/unit|bundler|rake|rack/test|capybara)\b",
        r"(?:can't find gem|Could not find (?:gem )?')(?: ?)(?:rspec|minitest|bundler|rake)\b",
        r"Cannot find (?:module|package) '(?:jest|mocha|chai|vitest|ava|supertest|jsdom|@(?:jest|playwright)/\S*)'",
        r"Cannot find package '[\w@][^']*' imported from /tests/",
        r"Executable doesn't exist at ",  # Playwright
    ),
    TESTS: (r"^=*\s*no tests (?:ran|collected)", r"^collected 0 items", r"^Ran 0 tests"),
    SPACE: (r"No space left on device", r"Disk quota exceeded"),
    SIGNAL: (r"^/tests/\S+: line \d+: +\d+ (?:Killed|Segmentation fault|Aborted|Bus error|Illegal instruction)",),
}
_NODE = re.compile(
    r"^.*Cannot find module '(?![./])[^']+'\n(?:Require stack:\n)(?:- (?!/tests/).*\n)*- /tests/.*", re.MULTILINE
)
"""A package that a file of the tests asks for, which looks for it above itself and not where an agent works."""
_ENDS = {126: PROGRAM, 127: PROGRAM, 5: TESTS}
"""Exit codes of a shell that cannot run a program, and of pytest without a test."""


@dataclass(frozen=True)
class Symptom(Record):
    """One sign that a tool failed."""

    kind: str
    """One of the constants above."""
    line: str
    """What tells of it."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.line})"


@cache
def _signs() -> dict[str, re.Pattern[str]]:
    """Compiled where one is looked for, since that takes longer than the imports of this module."""
    return {kind: re.compile("|".join(patterns)) for kind, patterns in _PATTERNS.items()}


def symptoms(ran: CommandResult) -> tuple[Symptom, ...]:
    """The signs that tools of a program failed, one of each kind."""
    found: dict[str, str] = {}
    if package := _NODE.search(ran.output):
        found[PROGRAM] = one_line(package[0].splitlines()[0])
    for line in ran.output.splitlines():
        for kind, sign in _signs().items():
            if kind not in found and sign.search(line):
                found[kind] = one_line(line)
    if ran.exit_code is not None:
        ended = _ENDS.get(ran.exit_code) or (SIGNAL if ran.exit_code > 128 else None)
        if ended is not None:
            found.setdefault(ended, f"exit code {ran.exit_code}")
    return tuple(Symptom(kind, line) for kind, line in found.items())
