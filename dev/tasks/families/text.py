"""Text: writing, counting, replacing, sorting, choosing lines."""

from __future__ import annotations

from random import Random

from dev.tasks.families.base import Instance, Wrong, family
from dev.tasks.families.pools import HOSTS, PHRASES, log_lines, names, place, some, text, words


@family("write-text", category="files", split="trained", difficulty="easy")
def write_text(rng: Random) -> Instance:
    target, other = names(rng, 2)
    phrase = rng.choice(PHRASES)
    instruction = rng.choice(
        (
            "Create the file /app/{0} containing the text: {1}",
            "Write the line '{1}' to the new file /app/{0}.",
            "Make a file /app/{0} that holds exactly this text: {1}",
        )
    ).format(target, phrase)
    return Instance(
        instruction,
        files={other: text(some(rng, PHRASES, 1, 2))},
        checks=(f"holds {target}",),
        expected={target: phrase + "\n"},
        solution=(f"echo '{phrase}' > /app/{target}",),
        confirms=(f"cat /app/{target}",),
        wrong=(
            Wrong(f"echo '{' '.join(phrase.split()[:-1])}' > /app/{target}", "the last word is missing"),
            Wrong(f"echo '{phrase}' > /app/{other}", "overwrote the other file"),
            Wrong(f"touch /app/{target}", "an empty file"),
        ),
    )


@family("count-lines", category="text", split="trained", difficulty="easy")
def count_lines(rng: Random) -> Instance:
    source, out = names(rng, 2)
    source = place(rng, source)
    lines = [f"{rng.choice(words(rng))} {rng.randint(1, 99)}" for _ in range(rng.randint(5, 24))]
    instruction = rng.choice(
        (
            "Count the lines of /app/{0} and write only the number to /app/{1}.",
            "How many lines does /app/{0} have? Write the number to /app/{1}.",
            "Write the number of lines in /app/{0} to the file /app/{1}, nothing else.",
        )
    ).format(source, out)
    return Instance(
        instruction,
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: f"{len(lines)}\n"},
        solution=(f"wc -l < /app/{source} > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"wc -l /app/{source} > /app/{out}", "the file's name stands beside the number"),
            Wrong(f"wc -c < /app/{source} > /app/{out}", "bytes, not lines"),
            Wrong(f"wc -l < /app/{source}", "printed, not written"),
        ),
    )


@family("count-matches", category="text", split="trained", difficulty="medium")
def count_matches(rng: Random) -> Instance:
    source, out = names(rng, 2)
    pool = rng.sample(words(rng), 4)
    lines = [f"{rng.choice(pool)} {rng.randint(1, 99)}" for _ in range(rng.randint(8, 20))]
    word = lines[0].split()[0]
    count = sum(line.startswith(f"{word} ") for line in lines)
    instruction = rng.choice(
        (
            "Count the lines of /app/{0} that contain the word {2} and write only the number to /app/{1}.",
            "How many lines of /app/{0} contain {2}? Write the number to /app/{1}.",
        )
    ).format(source, out, word)
    return Instance(
        instruction,
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: f"{count}\n"},
        solution=(f"grep -c '{word}' /app/{source} > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"grep '{word}' /app/{source} > /app/{out}", "the lines, not their number"),
            Wrong(f"grep -vc '{word}' /app/{source} > /app/{out}", "the lines without the word")
            if 2 * count != len(lines)
            else Wrong(f"grep -c '{word}' /app/{source}", "printed, not written"),
            Wrong(f"wc -l < /app/{source} > /app/{out}", "every line"),
        ),
    )


@family("replace-word", category="text", split="trained", difficulty="medium")
def replace_word(rng: Random) -> Instance:
    (name,) = names(rng, 1, rng.choice((".conf", ".txt", ".ini", ".md")))
    target = place(rng, name)
    old, new = rng.sample(HOSTS, 2)
    keys = rng.sample(["host", "backup", "server", "primary", "mirror", "peer", "source"], 4)
    lines = [f"{keys[0]}={old}", f"{keys[1]}={old}:{rng.randint(1000, 9999)},{old}", f"{keys[2]}=none"]
    lines.append(f"{keys[3]}={rng.choice(HOSTS)}-{rng.randint(1, 9)}")
    rng.shuffle(lines)
    instruction = rng.choice(
        (
            "Replace every {1} with {2} in the file /app/{0}.",
            "In /app/{0}, change all occurrences of {1} to {2}.",
            "Edit /app/{0} so that each {1} becomes {2}.",
        )
    ).format(target, old, new)
    return Instance(
        instruction,
        files={target: text(lines)},
        unchanged=(),
        checks=(f"same {target}",),
        expected={target: text(lines).replace(old, new)},
        solution=(f"sed -i 's/{old}/{new}/g' /app/{target}",),
        confirms=(f"cat /app/{target}",),
        wrong=(
            Wrong(f"sed -i 's/{old}/{new}/' /app/{target}", "the first of each line only"),
            Wrong(f"sed 's/{old}/{new}/g' /app/{target}", "printed, not changed"),
            Wrong(f"sed -i 's/{new}/{old}/g' /app/{target}", "the wrong way round"),
        ),
    )


@family("sort-lines", category="text", split="trained", difficulty="medium")
def sort_lines(rng: Random) -> Instance:
    source, out = names(rng, 2)
    kind = rng.choice(("plain", "reverse", "numeric"))
    if kind == "numeric":
        lines = [str(number) for number in rng.sample(range(1, 400), rng.randint(6, 10))]
        lines[:2] = ["9", "100"]
        lines = list(dict.fromkeys(lines))
        wanted, flag, how = sorted(lines, key=int), "-n ", "numerically, smallest first,"
    else:
        lines = some(rng, [word.lower() for word in words(rng)], 6, 9)
        wanted, flag, how = sorted(lines), "", "alphabetically"
        if kind == "reverse":
            wanted, flag, how = wanted[::-1], "-r ", "in reverse alphabetical order"
    if lines in (wanted, wanted[::-1]):
        lines = [*lines[1:], lines[0]]
    instruction = rng.choice(
        (
            "Sort the lines of /app/{0} {2} and write the result to /app/{1}.",
            "Sort /app/{0} {2} into the file /app/{1}.",
        )
    ).format(source, out, how)
    other = {"plain": "-r ", "reverse": "", "numeric": ""}[kind]
    return Instance(
        instruction,
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: text(wanted)},
        solution=(f"sort {flag}/app/{source} > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"sort {other}/app/{source} > /app/{out}", "in another order"),
            Wrong(f"cp /app/{source} /app/{out}", "not sorted"),
            Wrong(f"sort {flag}/app/{source}", "printed, not written"),
        ),
    )


@family("grep-lines", category="logs", split="trained", difficulty="medium")
def grep_lines(rng: Random) -> Instance:
    (name,) = names(rng, 1, ".log")
    (out,) = names(rng, 1, avoid=[name.removesuffix(".log")])
    source = place(rng, name)
    levels = ("INFO", "WARN", "ERROR")
    lines = log_lines(rng, rng.randint(7, 14))
    lines[:3] = [line.replace(line.split()[1], level) for line, level in zip(lines, levels, strict=False)]
    level = rng.choice(levels)
    wanted = [line for line in lines if line.split()[1] == level]
    instruction = rng.choice(
        (
            "Write all lines of /app/{0} that contain {2} to /app/{1}.",
            "Copy the {2} lines of /app/{0} to the file /app/{1}.",
            "Save every line with {2} from /app/{0} in /app/{1}, in the same order.",
        )
    ).format(source, out, level)
    return Instance(
        instruction,
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: text(wanted)},
        solution=(f"grep '{level}' /app/{source} > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"grep -v '{level}' /app/{source} > /app/{out}", "all the other lines"),
            Wrong(f"grep '{level.lower()}' /app/{source} > /app/{out}", "in lower case, which matches nothing"),
            Wrong(f"grep '{level}' /app/{source}", "printed, not written"),
        ),
    )


@family("head-lines", category="text", split="trained", difficulty="easy")
def head_lines(rng: Random) -> Instance:
    source, out = names(rng, 2)
    lines = some(rng, words(rng), 8, 11)
    count = rng.randint(2, 5)
    instruction = rng.choice(
        (
            "Write the first {2} lines of /app/{0} to /app/{1}.",
            "Copy only the first {2} lines of /app/{0} into the file /app/{1}.",
        )
    ).format(source, out, count)
    return Instance(
        instruction,
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: text(lines[:count])},
        solution=(f"head -n {count} /app/{source} > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"head -n {count + 1} /app/{source} > /app/{out}", "one line too many"),
            Wrong(f"tail -n {count} /app/{source} > /app/{out}", "the last lines"),
            Wrong(f"head -n {count} /app/{source}", "printed, not written"),
        ),
    )


# ------------------------------------------------------------------------------------------------ held out


@family("append-line", category="files", split="held-out", difficulty="easy")
def append_line(rng: Random) -> Instance:
    (target,) = names(rng, 1)
    *before, phrase = rng.sample(PHRASES, rng.randint(3, 4))
    return Instance(
        f"Append the line '{phrase}' to the end of /app/{target}. Keep what is there.",
        files={target: text(before)},
        unchanged=(),
        checks=(f"holds {target}",),
        expected={target: text([*before, phrase])},
        solution=(f"echo '{phrase}' >> /app/{target}",),
        confirms=(f"cat /app/{target}",),
        wrong=(
            Wrong(f"echo '{phrase}' > /app/{target}", "what was there is gone"),
            Wrong(f"sed -i '1i {phrase}' /app/{target}", "at the beginning"),
        ),
    )


@family("delete-lines", category="text", split="held-out", difficulty="medium")
def delete_lines(rng: Random) -> Instance:
    (target,) = names(rng, 1)
    pool = rng.sample(words(rng), 4)
    word = pool[0]
    lines = [f"{rng.choice(pool[1:])} {rng.randint(1, 99)}" for _ in range(rng.randint(4, 7))]
    for _ in range(rng.randint(2, 3)):
        lines.insert(rng.randint(0, len(lines)), f"{word} {rng.randint(1, 99)}")
    kept = [line for line in lines if not line.startswith(word)]
    return Instance(
        f"Delete every line that contains {word} from /app/{target}. Keep the other lines.",
        files={target: text(lines)},
        unchanged=(),
        checks=(f"holds {target}",),
        expected={target: text(kept)},
        solution=(f"sed -i '/{word}/d' /app/{target}",),
        confirms=(f"cat /app/{target}",),
        wrong=(
            Wrong(f"sed -i 's/{word}//g' /app/{target}", "the word is gone, the lines are not"),
            Wrong(f"grep '{word}' /app/{target} > /app/x && mv /app/x /app/{target}", "kept the wrong lines"),
            Wrong(f"rm /app/{target}", "the whole file is gone"),
        ),
    )


@family("tail-lines", category="text", split="held-out", difficulty="easy")
def tail_lines(rng: Random) -> Instance:
    source, out = names(rng, 2)
    lines = some(rng, words(rng), 8, 11)
    count = rng.randint(2, 4)
    return Instance(
        f"Write the last {count} lines of /app/{source} to /app/{out}.",
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: text(lines[-count:])},
        solution=(f"tail -n {count} /app/{source} > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"head -n {count} /app/{source} > /app/{out}", "the first lines"),
            Wrong(f"tail -n 1 /app/{source} > /app/{out}", "one line only"),
        ),
    )


@family("unique-lines", category="text", split="held-out", difficulty="medium")
def unique_lines(rng: Random) -> Instance:
    source, out = names(rng, 2)
    pool = rng.sample([word.lower() for word in words(rng)], rng.randint(4, 5))
    lines = [*pool, *(rng.choice(pool) for _ in range(rng.randint(3, 6)))]
    rng.shuffle(lines)
    return Instance(
        f"Sort the lines of /app/{source} alphabetically and write each different line once to /app/{out}.",
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: text(sorted(pool))},
        solution=(f"sort -u /app/{source} > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"sort /app/{source} > /app/{out}", "with doubles"),
            Wrong(f"sort -ur /app/{source} > /app/{out}", "in reverse order"),
        ),
    )


@family("uppercase", category="text", split="held-out", difficulty="medium")
def uppercase(rng: Random) -> Instance:
    source, out = names(rng, 2)
    lines = some(rng, PHRASES, 2, 4)
    return Instance(
        f"Write the text of /app/{source} in upper case to /app/{out}.",
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: text(lines).upper()},
        solution=(f"tr 'a-z' 'A-Z' < /app/{source} > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"cp /app/{source} /app/{out}", "not in upper case"),
            Wrong(f"sed 's/^./\\U&/' /app/{source} > /app/{out}", "first letters only"),
        ),
    )
