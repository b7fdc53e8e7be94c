#!/bin/bash
# Checks the result and not the route. Writes 1 (solved) or 0 to /logs/verifier/reward.txt, however it ends.
# /app is a copy of the agent's, in a container that the agent never had access to.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
reward=0
[ -d /logs/verifier ] || { rm -rf /logs; mkdir -p /logs/verifier; }
rm -rf /logs/verifier/reward.txt /logs/verifier/reward.json
trap 'echo "$reward" > /logs/verifier/reward.txt' EXIT

expected="$(cd "$(dirname "$0")" && pwd)/expected"

fail() {
  echo "unsolved: $*"
  exit 0
}

# place PATH: the folder that holds it is the one of that name, and no link leads there.
place() {
  holder="$(dirname "/app/$1")"
  [ "$(readlink -m "$holder")" = "$holder" ] || fail "$holder leads elsewhere"
}

regular() {
  place "$1"
  [ -f "/app/$1" ] && [ ! -L "/app/$1" ] || fail "/app/$1 is missing or not a regular file"
}

# The text of a file, without white space at its start, at the ends of lines and at its end. Bounded, so that an
# endless file is a wrong answer and not a verifier that runs out of memory.
text() {
  head -c 65536 "$1" | tr -d '\000' | sed -e '1s/^[[:space:]]*//' -e 's/[[:space:]]*$//'
}

# same FILE: exactly the bytes of its twin in tests/expected.
same() {
  regular "$1"
  cmp -s "/app/$1" "$expected/$1" || fail "/app/$1 is not as it should be"
}

# holds FILE: the text of its twin in tests/expected, whatever the white space at the ends of lines.
holds() {
  regular "$1"
  [ "$(text "/app/$1")" = "$(text "$expected/$1")" ] || fail "/app/$1 does not hold the right text"
}

# gone FILE: nothing of that name.
gone() {
  place "$1"
  [ ! -e "/app/$1" ] && [ ! -L "/app/$1" ] || fail "/app/$1 is still there"
}

# folder PATH: a real directory.
folder() {
  place "$1"
  [ -d "/app/$1" ] && [ ! -L "/app/$1" ] || fail "/app/$1 is not a directory"
}

# mode FILE OCTAL: a regular file with exactly these permissions.
mode() {
  regular "$1"
  [ "$(stat -c %a "/app/$1")" = "$2" ] || fail "/app/$1 does not have mode $2"
}

# link NAME TARGET: a symbolic link that leads to the file TARGET.
link() {
  place "$1"
  [ -L "/app/$1" ] && [ "$(readlink -f "/app/$1")" = "/app/$2" ] || fail "/app/$1 is no link to /app/$2"
}

# archive FILE FOLDER: a gzipped tar archive that holds the folder's files, at any depth.
archive() {
  regular "$1"
  unpacked="$(mktemp -d)"
  gzip -dc "/app/$1" 2> /dev/null | head -c 16777216 | tar -x -C "$unpacked" --no-same-owner 2> /dev/null ||
    fail "/app/$1 cannot be unpacked"
  found=
  while IFS= read -r -d '' inside; do
    diff -r --no-dereference "$inside" "$expected/$2" > /dev/null 2>&1 && found="$inside"
  done < <(find "$unpacked" -type d -print0)
  [ -n "$found" ] || fail "/app/$1 does not hold the files of $2"
}

# prints SCRIPT: it is there, and printed what tests/expected/SCRIPT.out holds. It ran where the agent was.
prints() {
  regular "$1"
  output=/logs/artifacts/output
  [ -f "$output" ] && [ ! -L "$output" ] || fail "the output of $1 is missing"
  [ "$(text "$output")" = "$(text "$expected/$1.out")" ] || fail "bash /app/$1 does not print the right text"
}

same table.log
holds data.txt

reward=1
echo solved
