"""What counts as a sign that a verifier's tools failed, and what does not."""

from __future__ import annotations

import pytest

from capvec.records import CommandResult
from capvec.sandbox.symptoms import NETWORK, PERMISSION, PROGRAM, SIGNAL, SPACE, TESTS, symptoms

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (NETWORK, "W: Failed to fetch http://mirror.example.org/debian/dists/bookworm/InRelease  Temporary failure"),
        (NETWORK, "  Temporary failure resolving 'mirror.example.org'"),
        (NETWORK, "curl: (6) Could not resolve host: astral.sh"),
        (NETWORK, "error: Failed to fetch: `https://packages.example.org/simple/pytest/`"),
        (NETWORK, "wget: unable to resolve host address ‘example.org’"),
        (NETWORK, "fatal: unable to access 'https://github.com/x/y.git/': Could not resolve host: github.com"),
        (NETWORK, "ERROR: No matching distribution found for pytest"),
        (NETWORK, "npm error code EAI_AGAIN: getaddrinfo EAI_AGAIN registry.example.org"),
        (NETWORK, "curl: (22) The requested URL returned error: 503"),
        (NETWORK, "curl: (28) Failed to connect to astral.example.org port 443 after 134000 ms: Couldn't connect"),
        (NETWORK, "curl: (35) OpenSSL SSL_connect: Connection reset by peer in connection to astral.example.org:443"),
        (NETWORK, "curl: (56) Recv failure: Connection reset by peer"),
        (NETWORK, "wget: download timed out"),
        (NETWORK, "Connecting to example.org (example.org)|192.0.2.1|:443... failed: Connection timed out."),
        (NETWORK, "urllib3: HTTPSConnectionPool(host='hub.example.org', port=443): Max retries exceeded with url: /"),
        (NETWORK, "OSError: HTTPSConnectionPool(host='files.example.org', port=443): Read timed out."),
        (NETWORK, "requests.exceptions.ConnectTimeout: HTTPSConnectionPool(host='hub.example.org', port=443)"),
        (NETWORK, "HTTPError: 429 Client Error: Too Many Requests for url: https://hub.example.org/api"),
        (NETWORK, "urllib.error.URLError: <urlopen error [Errno 110] Connection timed out>"),
        (NETWORK, "urllib.error.HTTPError: HTTP Error 503: Service Unavailable"),
        (NETWORK, "E: Unable to fetch some archives, maybe run apt-get update"),
        (NETWORK, "   Could not connect to mirror.example.org:80 (192.0.2.1), connection timed out"),
        (NETWORK, "E: Package 'jq' has no installation candidate"),
        (NETWORK, "ERROR: Could not find a version that satisfies the requirement pytest (from versions: none)"),
        (NETWORK, "npm ERR! code ETIMEDOUT"),
        (NETWORK, "npm error code ECONNRESET"),
        (NETWORK, 'go: Get "https://proxy.example.org/x": dial tcp: lookup proxy.example.org: no such host'),
        (NETWORK, 'go: Get "https://proxy.example.org/": dial tcp 192.0.2.1:443: i/o timeout'),
        (NETWORK, "error: failed to download from `https://static.example.org/crates/serde`"),
        (NETWORK, "warning: spurious network error (3 tries remaining): [28] Timeout was reached"),
        (NETWORK, "Could not fetch specs from https://index.example.org/"),
        (NETWORK, "anthropic.InternalServerError: Error code: 529 - {'type': 'error', 'error': 'overloaded_error'}"),
        (NETWORK, "openai.APIConnectionError: Connection error."),
        (NETWORK, "openai.RateLimitError: Error code: 429 - {'error': 'insufficient_quota'}"),
        (NETWORK, "openai.OpenAIError: The api_key client option must be set"),
        (NETWORK, "litellm.exceptions.Timeout: Request timed out"),
        (NETWORK, "google.genai.errors.ServerError: 503 UNAVAILABLE"),
        (NETWORK, "httpx.ConnectTimeout: timed out"),
        (NETWORK, "httpcore.ReadTimeout: The read operation timed out"),
        (NETWORK, "curl: (35) error:0A000126:SSL routines::unexpected eof while reading"),
        (NETWORK, "curl: (18) transfer closed with 120 bytes remaining to read"),
        (NETWORK, "error: failed to get `serde` as a dependency of package `app`"),
        (NETWORK, "> Could not GET 'https://repo.example.org/x.pom'"),
        (NETWORK, "java.net.UnknownHostException: repo.example.org"),
        (NETWORK, "OSError: We couldn't connect to 'https://huggingface.example' to load this file"),
        (NETWORK, "CondaHTTPError: HTTP 000 CONNECTION FAILED for url"),
        (NETWORK, "E: The repository 'http://deb.example.org stable' does not have a Release file."),
        (NETWORK, "E: Could not get lock /var/lib/dpkg/lock-frontend."),
        (PERMISSION, "E: setgroups 65534 failed - setgroups (1: Operation not permitted)"),
        (PERMISSION, "chown: changing ownership of '/app/x': Operation not permitted"),
        (PERMISSION, "PermissionError: [Errno 1] Operation not permitted: '/app/x'"),
        (PROGRAM, "/tests/test.sh: line 7: uvx: command not found"),
        (PROGRAM, "/tests/test.sh: 7: uvx: not found"),
        (PROGRAM, "/tests/test.sh: /usr/bin/python3: bad interpreter: No such file or directory"),
        (PROGRAM, "bash: line 1: /tests/test.sh: cannot execute: required file not found"),
        (PROGRAM, "bash: line 1: /tests/test.sh: /bin/bash^M: bad interpreter: No such file or directory"),
        (PROGRAM, "bash: /tests/test.sh: cannot execute: required file not found"),
        (PROGRAM, "/usr/bin/env: 'python3': No such file or directory"),
        (PROGRAM, "/usr/bin/env: ‘bash\\r’: No such file or directory"),
        (PROGRAM, "env: can't execute 'python3': No such file or directory"),
        (PROGRAM, "/usr/bin/python3: No module named pytest"),
        (PROGRAM, "python3: can't open file '/tests/check.py': [Errno 2] No such file or directory"),
        (PROGRAM, "./run_tests.sh: line 3: pytest: command not found"),
        (PROGRAM, "sh: 1: pytest: not found"),
        (PROGRAM, "/bin/sh: pytest: not found"),
        (PROGRAM, "bash: line 1: /usr/local/bin/uvx: No such file or directory"),
        (PROGRAM, "timeout: failed to run command 'pytest': No such file or directory"),
        (PROGRAM, "timeout: failed to run command ‘pytest’: No such file or directory"),
        (PROGRAM, "timeout: can't execute 'pytest': No such file or directory"),
        (PROGRAM, "xargs: pytest: No such file or directory"),
        (PROGRAM, "nohup: failed to run command 'npx': No such file or directory"),
        (PROGRAM, "make: pytest: No such file or directory"),
        (PROGRAM, "sudo: pytest: command not found"),
        (PROGRAM, "E  FileNotFoundError: [Errno 2] No such file or directory: 'node'"),
        (PROGRAM, "Error: spawn npx ENOENT"),
        (PROGRAM, "ModuleNotFoundError: No module named 'pytest_json_ctrf'"),
        (
            PROGRAM,
            "Can't locate JSON.pm in @INC (you may need to install the JSON module) (@INC contains: /etc/perl "
            "/usr/local/lib/x86_64-linux-gnu/perl/5.36.0 /usr/share/perl5) at /tests/check.pl line 1.",
        ),
        (PROGRAM, "kernel_require.rb:85:in `require': cannot load such file -- rspec (LoadError)"),
        (PROGRAM, "Error: Cannot find module 'jest'"),
        (PROGRAM, "Error: Cannot find module 'lodash'\nRequire stack:\n- /tests/lib/a.js\n- /tests/check.js"),
        (PROGRAM, "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'lodash' imported from /tests/check.mjs"),
        (PROGRAM, "Error: BrowserType.launch: Executable doesn't exist at /root/.cache/ms-playwright/chrome"),
        (TESTS, "collected 0 items"),
        (TESTS, "no tests collected in 0.01s"),
        (TESTS, "========= no tests ran in 0.01s ========="),
        (TESTS, "Ran 0 tests in 0.000s"),
        (SPACE, "OSError: [Errno 28] No space left on device"),
        (SIGNAL, "/tests/test.sh: line 3:    12 Killed                  python3 /tests/check.py"),
    ],
)
def test_a_tool_that_failed_is_seen_in_what_it_printed(kind: str, line: str) -> None:
    found = symptoms(CommandResult(f"first\n{line}\nlast\n", 0))
    assert kind in [symptom.kind for symptom in found]
    assert line.splitlines()[0].rsplit(maxsplit=1)[-1] in str(found[0])


@pytest.mark.parametrize(("code", "kind"), [(127, PROGRAM), (126, PROGRAM), (5, TESTS), (137, SIGNAL), (139, SIGNAL)])
def test_an_exit_code_tells_too(code: int, kind: str) -> None:
    (found,) = symptoms(CommandResult("", code))
    assert (found.kind, found.line) == (kind, f"exit code {code}")


@pytest.mark.parametrize(
    "output",
    [
        "E       FileNotFoundError: [Errno 2] No such file or directory: '/app/out.txt'\n1 failed in 0.02s",
        "collected 3 items\nF.F\n2 failed, 1 passed",
        "bash: /app/run.sh: No such file or directory",
        "bash: line 1: /app/run.sh: cannot execute: required file not found",
        "ConnectionRefusedError: [Errno 111] Connection refused",
        "ModuleNotFoundError: No module named 'solution'",
        "AssertionError: expected 200, got 500",
        "curl: (7) Failed to connect to localhost port 8080 after 0 ms: Couldn't connect to server",
        "curl: (7) Failed to connect to 127.0.0.1 port 8080 after 0 ms: Couldn't connect to server",
        "curl: (7) Failed to connect to web port 80 after 0 ms: Couldn't connect to server",
        "curl: (28) Failed to connect to localhost port 8080 after 5000 ms: Timeout was reached",
        "requests: HTTPConnectionPool(host='localhost', port=8080): Max retries exceeded with url: / (Caused by "
        "NewConnectionError('<HTTPConnection>: Failed to establish a new connection: [Errno 111] Connection refused'))",
        "HTTPError: 503 Server Error: Service Unavailable for url: http://127.0.0.1:8080/",
        "urllib.error.URLError: <urlopen error [Errno 111] Connection refused>",
        "connect ECONNREFUSED 127.0.0.1:3000",
        'Get "http://127.0.0.1:8080/": dial tcp 127.0.0.1:8080: i/o timeout',
        "./run.sh: line 3: greet: command not found",
        "sh: 1: greet: not found",
        "bash: line 1: ./greet: No such file or directory",
        "timeout: failed to run command './greet': No such file or directory",
        "timeout: failed to run command '/app/greet': No such file or directory",
        "xargs: greet: No such file or directory",
        "make: *** No rule to make target 'test'.  Stop.",
        "python3: can't open file '/app/solve.py': [Errno 2] No such file or directory",
        "Can't locate Shape.pm in @INC (you may need to install the Shape module) (@INC contains: /app/lib /etc/perl "
        "/usr/share/perl5) at /tests/check.pl line 1.",
        "Can't locate Shape.pm in @INC (you may need to install the Shape module) (@INC contains: /etc/perl "
        "/usr/share/perl5) at /app/main.pl line 1.",
        "in `require': cannot load such file -- /app/lib/shape (LoadError)",
        "Error: Cannot find module './shape'\nRequire stack:\n- /tests/check.js",
        "Error: Cannot find module '/app/index.js'\nRequire stack:\n- /tests/check.js",
        "Error: Cannot find module 'lodash'\nRequire stack:\n- /app/index.js",
        "FileNotFoundError: [Errno 2] No such file or directory: '/app/pytest'",
    ],
)
def test_a_test_that_fails_on_a_wrong_answer_is_no_sign(output: str) -> None:
    assert symptoms(CommandResult(output, 1)) == ()


def test_of_each_kind_the_first_line_is_kept() -> None:
    found = symptoms(CommandResult("curl: (6) Could not resolve host: a\ncurl: (6) Could not resolve host: b\n", 0))
    assert [symptom.line for symptom in found] == ["curl: (6) Could not resolve host: a"]
