"""Further trained task families, each a variation of another: text, lines, archives, folders and settings."""

from __future__ import annotations

from random import Random

from dev.tasks.families.base import Instance, Wrong, family
from dev.tasks.families.pools import (
    CITIES,
    FOLDERS,
    HOSTS,
    NOUNS,
    PHRASES,
    csv_table,
    csv_text,
    log_lines,
    names,
    place,
    some,
    text,
    words,
)


@family("lowercase", category="text", split="trained", difficulty="medium")
def lowercase(rng: Random) -> Instance:
    source, out = names(rng, 2)
    lines = some(rng, [city.upper() if rng.random() < 0.5 else city for city in CITIES], 3, 5)
    instruction = rng.choice(
        (
            "Write the text of /app/{0} in lower case to /app/{1}.",
            "Convert /app/{0} to lower case and save the result as /app/{1}.",
        )
    ).format(source, out)
    return Instance(
        instruction,
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: text(lines).lower()},
        solution=(f"tr 'A-Z' 'a-z' < /app/{source} > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"cp /app/{source} /app/{out}", "not in lower case"),
            Wrong(f"tr 'a-z' 'A-Z' < /app/{source} > /app/{out}", "in upper case"),
        ),
    )


@family("skip-header", category="text", split="trained", difficulty="medium")
def skip_header(rng: Random) -> Instance:
    (source,), (out,) = names(rng, 1, rng.choice((".csv", ".txt"))), names(rng, 1)
    header, rows = csv_table(rng, rng.randint(3, 6))
    instruction = rng.choice(
        (
            "Write all lines of /app/{0} except the first to /app/{1}.",
            "Copy /app/{0} to /app/{1} without its first line.",
        )
    )
    if source == out:
        out = f"rest-{out}"
    return Instance(
        instruction.format(source, out),
        files={source: csv_text(header, rows)},
        checks=(f"holds {out}",),
        expected={out: text([",".join(row) for row in rows])},
        solution=(f"tail -n +2 /app/{source} > /app/{out}",),
        confirms=(f"head -n 2 /app/{out}",),
        wrong=(
            Wrong(f"head -n 1 /app/{source} > /app/{out}", "the first line alone"),
            Wrong(f"cp /app/{source} /app/{out}", "with the first line"),
        ),
    )


@family("append-count", category="text", split="trained", difficulty="medium")
def append_count(rng: Random) -> Instance:
    source, target = names(rng, 2)
    lines, before = some(rng, words(rng), 4, 9), some(rng, PHRASES, 1, 2)
    instruction = rng.choice(
        (
            "Count the lines of /app/{0} and append the number to the end of /app/{1}. Keep what is there.",
            "Add the number of lines in /app/{0} as a new last line of /app/{1}.",
        )
    ).format(source, target)
    return Instance(
        instruction,
        files={source: text(lines), target: text(before)},
        unchanged=(source,),
        checks=(f"holds {target}",),
        expected={target: text([*before, str(len(lines))])},
        solution=(f"wc -l < /app/{source} >> /app/{target}",),
        confirms=(f"tail -n 1 /app/{target}",),
        wrong=(
            Wrong(f"wc -l < /app/{source} > /app/{target}", "what was there is gone"),
            Wrong(f"wc -l /app/{source} >> /app/{target}", "with the file's name"),
        ),
    )


@family("drop-lines", category="text", split="trained", difficulty="medium")
def drop_lines(rng: Random) -> Instance:
    source, out = names(rng, 2)
    pool = rng.sample(words(rng), 4)
    lines = [f"{rng.choice(pool)} {rng.randint(1, 99)}" for _ in range(rng.randint(6, 10))]
    lines[:2] = [f"{pool[0]} {rng.randint(1, 99)}", f"{pool[1]} {rng.randint(1, 99)}"]
    kept = [line for line in lines if not line.startswith(f"{pool[0]} ")]
    instruction = rng.choice(
        (
            "Write all lines of /app/{0} that do not contain {2} to /app/{1}.",
            "Copy /app/{0} to /app/{1} without the lines that contain {2}.",
        )
    ).format(source, out, pool[0])
    return Instance(
        instruction,
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: text(kept)},
        solution=(f"grep -v '{pool[0]}' /app/{source} > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"grep '{pool[0]}' /app/{source} > /app/{out}", "only the lines with it"),
            Wrong(f"cp /app/{source} /app/{out}", "all lines"),
        ),
    )


@family("list-archive", category="archives", split="trained", difficulty="medium")
def list_archive(rng: Random) -> Instance:
    stem, folder = rng.choice(NOUNS), rng.choice(FOLDERS)
    (out,) = names(rng, 1, avoid=[stem])
    inside = sorted(names(rng, rng.randint(2, 3), ".log"))
    files = {f"{folder}/{name}": text(log_lines(rng, 2)) for name in inside}
    paths = " ".join(f"{folder}/{name}" for name in inside)
    instruction = rng.choice(
        (
            "Write the list of files in the archive /app/{0}.tar.gz to /app/{1}, without unpacking it.",
            "Save the table of contents of the archive /app/{0}.tar.gz in /app/{1}.",
        )
    ).format(stem, out)
    return Instance(
        instruction,
        files=files,
        unchanged=(),
        setup=(f"tar -czf {stem}.tar.gz {paths}", f"rm -r {folder}"),
        checks=(f"holds {out}", f"gone {folder}"),
        expected={out: text([f"{folder}/{name}" for name in inside])},
        solution=(f"tar -tzf /app/{stem}.tar.gz > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"tar -xzf /app/{stem}.tar.gz -C /app", "unpacked it"),
            Wrong(f"tar -tzf /app/{stem}.tar.gz", "printed, not written"),
        ),
    )


@family("move-file", category="files", split="trained", difficulty="easy")
def move_file(rng: Random) -> Instance:
    name, other = names(rng, 2, rng.choice((".txt", ".log", ".md")))
    folder = rng.choice(FOLDERS)
    content = text(some(rng, PHRASES, 1, 3))
    instruction = rng.choice(
        (
            "Create the directory /app/{1} and move the file /app/{0} into it.",
            "Move /app/{0} into a new directory /app/{1}.",
        )
    ).format(name, folder)
    return Instance(
        instruction,
        files={name: content, other: text(some(rng, words(rng), 2, 3))},
        unchanged=(other,),
        checks=(f"same {folder}/{name}", f"gone {name}"),
        expected={f"{folder}/{name}": content},
        solution=(f"mkdir -p /app/{folder}", f"mv /app/{name} /app/{folder}/"),
        confirms=(f"ls /app/{folder}",),
        wrong=(
            Wrong(f"mv /app/{name} /app/{folder}", "renamed: there is no such directory"),
            Wrong(f"mkdir -p /app/{folder} && cp /app/{name} /app/{folder}/", "copied, not moved"),
        ),
    )


@family("list-folder", category="search", split="trained", difficulty="easy")
def list_folder(rng: Random) -> Instance:
    folder = rng.choice(FOLDERS)
    (out,) = names(rng, 1)
    inside = names(rng, rng.randint(3, 5), rng.choice((".txt", ".csv", ".log")))
    instruction = rng.choice(
        (
            "Write the names of the files in the directory /app/{0} to /app/{1}, one per line.",
            "List the directory /app/{0} and save the list as /app/{1}.",
        )
    ).format(folder, out)
    return Instance(
        instruction,
        files={f"{folder}/{name}": text([rng.choice(PHRASES)]) for name in inside},
        checks=(f"holds {out}",),
        expected={out: text(sorted(inside))},
        solution=(f"ls /app/{folder} > /app/{out}",),
        looks=(f"ls /app/{folder} | head -n 1",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"ls /app/{folder}", "printed, not written"),
            Wrong(f"ls /app > /app/{out}", "another directory"),
        ),
    )


@family("merge-repeats", category="text", split="trained", difficulty="medium")
def merge_repeats(rng: Random) -> Instance:
    source, out = names(rng, 2)
    lines = [word for word in some(rng, words(rng), 4, 5) for _ in range(rng.randint(1, 3))]
    lines.insert(0, lines[0])
    instruction = rng.choice(
        (
            "In /app/{0}, equal lines follow each other. Write the file with each of them once to /app/{1}.",
            "Merge repeated neighbouring lines of /app/{0} into one and write the result to /app/{1}.",
        )
    ).format(source, out)
    return Instance(
        instruction,
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: text(list(dict.fromkeys(lines)))},
        solution=(f"uniq /app/{source} > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"uniq -c /app/{source} > /app/{out}", "with counts"),
            Wrong(f"cp /app/{source} /app/{out}", "with repeats"),
        ),
    )


@family("set-value", category="files", split="trained", difficulty="medium")
def set_value(rng: Random) -> Instance:
    (target,) = names(rng, 1, rng.choice((".conf", ".ini")))
    keys = rng.sample(["port", "retries", "timeout", "workers", "limit", "depth"], 3)
    values = rng.sample(range(2, 9000), 4)
    lines = [f"host={rng.choice(HOSTS)}", *(f"{key}={value}" for key, value in zip(keys, values, strict=False))]
    instruction = rng.choice(
        (
            "In the file /app/{0}, change the value of {1} from {2} to {3}.",
            "Set {1} to {3} in /app/{0}; it is {2} now.",
        )
    ).format(target, keys[0], values[0], values[3])
    return Instance(
        instruction,
        files={target: text(lines)},
        unchanged=(),
        checks=(f"same {target}",),
        expected={target: text(lines).replace(f"{keys[0]}={values[0]}\n", f"{keys[0]}={values[3]}\n")},
        solution=(f"sed -i 's/{keys[0]}={values[0]}/{keys[0]}={values[3]}/' /app/{target}",),
        looks=(f"cat /app/{target}",),
        confirms=(f"grep '{keys[0]}' /app/{target}",),
        wrong=(
            Wrong(f"echo '{keys[0]}={values[3]}' > /app/{target}", "the rest is gone"),
            Wrong(f"sed -i 's/{keys[1]}={values[1]}/{keys[1]}={values[3]}/' /app/{target}", "another key"),
        ),
    )


@family("first-match", category="logs", split="trained", difficulty="medium")
def first_match(rng: Random) -> Instance:
    (source,), (out,) = names(rng, 1, ".log"), names(rng, 1)
    source = place(rng, source)
    lines = log_lines(rng, rng.randint(7, 10))
    host = rng.choice(lines).split()[2]
    wanted = next(line for line in lines if host in line.split())
    instruction = rng.choice(
        (
            "Write the first line of /app/{0} that contains {2} to /app/{1}.",
            "Find the first line with {2} in /app/{0} and save it in /app/{1}.",
        )
    ).format(source, out, host)
    return Instance(
        instruction,
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: text([wanted])},
        solution=(f"grep '{host}' /app/{source} | head -n 1 > /app/{out}",),
        looks=(f"head -n 3 /app/{source}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"grep -v '{host}' /app/{source} | head -n 1 > /app/{out}", "the first line without it"),
            Wrong(f"grep '{host}' /app/{source} | head -n 1", "printed, not written"),
        ),
    )
