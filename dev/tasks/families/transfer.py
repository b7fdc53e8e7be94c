"""Task families that the agent is never trained on, each close to a trained one.

They need the same commands on another kind of file, or two of them in a row. Solving one is therefore a sign of
generalisation and not of memory.
"""

from __future__ import annotations

import json
from random import Random

from dev.tasks.families.base import Instance, Wrong, family
from dev.tasks.families.pools import (
    CITIES,
    FOLDERS,
    HOSTS,
    PEOPLE,
    PHRASES,
    csv_table,
    csv_text,
    log_lines,
    names,
    some,
    text,
    words,
)


@family("drop-rows", category="tables", split="held-out", difficulty="medium")
def drop_rows(rng: Random) -> Instance:
    (source,), (out,) = names(rng, 1, ".csv"), names(rng, 1)
    header, rows = csv_table(rng, rng.randint(5, 8))
    value = rng.choice(rows)[1]
    kept = [row for row in (header, *rows) if row[1] != value]
    return Instance(
        f"Write all rows of /app/{source} that do not contain {value} to /app/{out}.",
        files={source: csv_text(header, rows)},
        checks=(f"holds {out}",),
        expected={out: text([",".join(row) for row in kept])},
        solution=(f"grep -v '{value}' /app/{source} > /app/{out}",),
        looks=(f"head -n 3 /app/{source}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"grep '{value}' /app/{source} > /app/{out}", "only the rows with it"),
            Wrong(f"cut -d, -f2 /app/{source} > /app/{out}", "the column, not the rows"),
        ),
    )


@family("sort-names", category="text", split="held-out", difficulty="easy")
def sort_names(rng: Random) -> Instance:
    (source,), (out,) = names(rng, 1, ".lst"), names(rng, 1)
    people = some(rng, PEOPLE, 4, 7)
    while people == sorted(people):
        rng.shuffle(people)
    return Instance(
        f"Sort the names in /app/{source} alphabetically and write the result to /app/{out}.",
        files={source: text(people)},
        checks=(f"holds {out}",),
        expected={out: text(sorted(people))},
        solution=(f"sort /app/{source} > /app/{out}",),
        looks=(f"head -n 3 /app/{source}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"sort -r /app/{source} > /app/{out}", "backwards"),
            Wrong(f"cp /app/{source} /app/{out}", "not sorted"),
        ),
    )


@family("count-errors", category="logs", split="held-out", difficulty="medium")
def count_errors(rng: Random) -> Instance:
    (source,), (out,) = names(rng, 1, ".log"), names(rng, 1)
    lines = log_lines(rng, rng.randint(8, 14))
    level = rng.choice(lines).split()[1]
    return Instance(
        f"Count the lines of the log /app/{source} that contain {level} and write only the number to /app/{out}.",
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: f"{sum(line.split()[1] == level for line in lines)}\n"},
        solution=(f"grep -c '{level}' /app/{source} > /app/{out}",),
        looks=(f"head -n 3 /app/{source}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"wc -l /app/{source} > /app/{out}", "all lines, and the file's name"),
            Wrong(f"grep '{level}' /app/{source} > /app/{out}", "the lines, not their number"),
        ),
    )


@family("replace-json", category="json", split="held-out", difficulty="medium")
def replace_json(rng: Random) -> Instance:
    (target,) = names(rng, 1, ".json")
    old, new, other = rng.sample(HOSTS, 3)
    record = {"host": old, "mirror": f"{old}:{rng.randint(1000, 9999)}", "city": rng.choice(CITIES), "backup": other}
    before = json.dumps(record, indent=2) + "\n"
    return Instance(
        f"In the JSON file /app/{target}, change every {old} to {new}.",
        files={target: before},
        unchanged=(),
        checks=(f"same {target}",),
        expected={target: before.replace(old, new)},
        solution=(f"sed -i 's/{old}/{new}/g' /app/{target}",),
        looks=(f"cat /app/{target}",),
        confirms=(f"cat /app/{target}",),
        wrong=(
            Wrong(f'sed -i \'s/"{old}"/"{new}"/\' /app/{target}', "only where it stands alone"),
            Wrong(f"sed 's/{old}/{new}/g' /app/{target}", "printed, not changed"),
        ),
    )


@family("copy-mode", category="multi-step", split="held-out", difficulty="hard")
def copy_mode(rng: Random) -> Instance:
    source, target = names(rng, 2, ".sh")
    mode = rng.choice(("755", "600", "444", "640"))
    script = text(["#!/bin/sh", f"echo {rng.choice(words(rng))}"])
    return Instance(
        f"Copy /app/{source} to /app/{target} and change the permissions of /app/{target} to mode {mode}.",
        files={source: script},
        setup=("chmod 644 *.sh",),
        checks=(f"same {target}", f"mode {target} {mode}", f"mode {source} 644"),
        expected={target: script},
        solution=(f"cp /app/{source} /app/{target}", f"chmod {mode} /app/{target}"),
        confirms=(f"stat -c %a /app/{target}",),
        wrong=(
            Wrong(f"cp /app/{source} /app/{target}", "copied only"),
            Wrong(f"cp /app/{source} /app/{target}; chmod {mode} /app/{source}", "the mode of the other file"),
        ),
    )


@family("copy-into", category="multi-step", split="held-out", difficulty="hard")
def copy_into(rng: Random) -> Instance:
    name, other = names(rng, 2)
    folder = rng.choice(FOLDERS)
    content = text(some(rng, PHRASES, 1, 3))
    return Instance(
        f"Create the directory /app/{folder} and copy the file /app/{name} into it.",
        files={name: content, other: text(some(rng, words(rng), 2, 3))},
        checks=(f"same {folder}/{name}",),
        expected={f"{folder}/{name}": content},
        solution=(f"mkdir -p /app/{folder}", f"cp /app/{name} /app/{folder}/"),
        confirms=(f"ls /app/{folder}",),
        wrong=(
            Wrong(f"mkdir -p /app/{folder} && mv /app/{name} /app/{folder}/", "moved, not copied"),
            Wrong(f"cp /app/{name} /app/{folder}", "a file of that name, for want of the directory"),
        ),
    )


@family("delete-nested", category="files", split="held-out", difficulty="medium")
def delete_nested(rng: Random) -> Instance:
    outer, inner = rng.sample(FOLDERS, 2)
    suffix = rng.choice((".tmp", ".bak", ".old"))
    where = f"{outer}/{inner}"
    doomed = [f"{where}/{name}" for name in names(rng, rng.randint(2, 3), suffix)]
    kept = [f"{where}/{name}" for name in names(rng, 1)] + [f"{outer}/{name}" for name in names(rng, 1, suffix)]
    return Instance(
        f"Delete all files ending in {suffix} in /app/{where}. Keep everything else.",
        files={name: text([rng.choice(PHRASES)]) for name in [*doomed, *kept]},
        unchanged=tuple(kept),
        checks=tuple(f"gone {name}" for name in doomed),
        solution=(f"rm /app/{where}/*{suffix}",),
        looks=(f"ls /app/{where}",),
        confirms=(f"ls /app/{where}",),
        wrong=(
            Wrong(f"rm -r /app/{where}", "the directory"),
            Wrong(f"find /app -name '*{suffix}' -delete", "elsewhere too"),
        ),
    )


@family("rename-file", category="files", split="held-out", difficulty="easy")
def rename_file(rng: Random) -> Instance:
    old, new, other = names(rng, 3)
    content = text(some(rng, PHRASES, 1, 3))
    return Instance(
        f"Rename /app/{old} to /app/{new}.",
        files={old: content, other: text(some(rng, words(rng), 2, 3))},
        unchanged=(other,),
        checks=(f"same {new}", f"gone {old}"),
        expected={new: content},
        solution=(f"mv /app/{old} /app/{new}",),
        looks=("ls /app",),
        confirms=("ls /app",),
        wrong=(
            Wrong(f"cp /app/{old} /app/{new}", "copied: the old name is still there"),
            Wrong(f"mv /app/{new} /app/{old}", "the wrong way round"),
        ),
    )


@family("write-nested", category="files", split="held-out", difficulty="easy")
def write_nested(rng: Random) -> Instance:
    folder, (name, other) = rng.choice(FOLDERS), names(rng, 2)
    phrase = rng.choice(PHRASES)
    return Instance(
        f"Write the text '{phrase}' to the new file /app/{folder}/{name}.",
        files={f"{folder}/{other}": text(some(rng, words(rng), 2, 3))},
        checks=(f"holds {folder}/{name}",),
        expected={f"{folder}/{name}": f"{phrase}\n"},
        solution=(f"echo '{phrase}' > /app/{folder}/{name}",),
        looks=(f"ls /app/{folder}",),
        confirms=(f"cat /app/{folder}/{name}",),
        wrong=(
            Wrong(f"echo '{phrase}' > /app/{name}", "in another directory"),
            Wrong(f"touch /app/{folder}/{name}", "an empty file"),
        ),
    )
