"""Tasks in which one has to look before one can act: notes, searches, scripts with a bug."""

from __future__ import annotations

from random import Random

from dev.tasks.families.base import Instance, Wrong, family
from dev.tasks.families.pools import FOLDERS, HOSTS, PHRASES, names, some, text, words


@family("follow-note", category="multi-step", split="trained", difficulty="medium")
def follow_note(rng: Random) -> Instance:
    note, first, second, third = names(rng, 4)
    target = rng.choice((first, second))
    word = rng.choice(words(rng))
    files = {name: text(some(rng, words(rng), 2, 3)) for name in (first, second)}
    line, command, checks, expected, wrong = rng.choice(
        (
            (
                f"delete {target}",
                f"rm /app/{target}",
                (f"gone {target}",),
                {},
                Wrong(f"rm /app/{note}", "deleted the note itself"),
            ),
            (
                f"write {word} to {third}",
                f"echo '{word}' > /app/{third}",
                (f"holds {third}",),
                {third: f"{word}\n"},
                Wrong(f"cp /app/{note} /app/{third}", "the note, not the word"),
            ),
            (
                f"copy {target} to {third}",
                f"cp /app/{target} /app/{third}",
                (f"same {third}",),
                {third: files[target]},
                Wrong(f"mv /app/{target} /app/{third}", "moved, not copied"),
            ),
        )
    )
    instruction = rng.choice(
        ("Do what the note /app/{0} says. All files are in /app.", "Read /app/{0} and follow its instruction, in /app.")
    ).format(note)
    kept = tuple(name for name in (note, first, second) if f"gone {name}" not in checks)
    return Instance(
        instruction,
        files={note: text([line]), **files},
        unchanged=kept,
        checks=checks,
        expected=expected,
        looks=(f"cat /app/{note}",),
        needs_look=True,
        solution=(command,),
        confirms=("ls /app",),
        wrong=(wrong, Wrong(f"cat /app/{note}", "read it and did nothing"), Wrong(f"sh /app/{note}", "not a script")),
    )


@family("find-file", category="search", split="trained", difficulty="hard")
def find_file(rng: Random) -> Instance:
    folders = rng.sample(FOLDERS, 3)
    inner = rng.sample(FOLDERS, 3)
    target, out, *others = names(rng, 5)
    where = f"{folders[0]}/{inner[0]}/{target}"
    files = {where: text([rng.choice(PHRASES)])}
    for folder, below, name in zip(folders[1:], inner[1:], others, strict=False):
        files[f"{folder}/{below}/{name}"] = text([rng.choice(PHRASES)])
    kind = rng.choice(("path", "copy"))
    look = f"find /app -name {target}"
    if kind == "path":
        instruction = rng.choice(
            (
                "Find the file {0} somewhere under /app and write its full path to /app/{1}.",
                "Where under /app is the file {0}? Write its full path to /app/{1}.",
            )
        ).format(target, out)
        solution = (f"{look} > /app/{out}",)
        checks, expected = (f"holds {out}",), {out: f"/app/{where}\n"}
        wrong = Wrong(f"ls /app > /app/{out}", "the names at the top")
    else:
        instruction = f"Find the file {target} somewhere under /app and copy it to /app/{out}."
        solution = (f"cp /app/{where} /app/{out}",)
        checks, expected = (f"same {out}",), {out: files[where]}
        wrong = Wrong(f"cp /app/{target} /app/{out}", "fails: it is not at the top")
    return Instance(
        instruction,
        files=files,
        checks=checks,
        expected=expected,
        looks=(look,),
        needs_look=kind == "copy",
        solution=solution,
        confirms=(f"cat /app/{out}",),
        wrong=(
            wrong,
            Wrong(f"echo '/app/{target}' > /app/{out}", "guessed"),
            Wrong(f"{look}", "printed, and did nothing with it"),
        ),
    )


@family("fix-script", category="scripts", split="trained", difficulty="hard")
def fix_script(rng: Random) -> Instance:
    (script,) = names(rng, 1, ".sh")
    (data,) = names(rng, 1, ".txt", avoid=[script.removesuffix(".sh")])
    lines = some(rng, words(rng), 4, 7)
    typo = data.removesuffix(".txt") + rng.choice((".text", ".tx", ".dat"))
    bad, good, wanted = rng.choice(
        (
            (f"wc -l < /app/{typo}", f"wc -l < /app/{data}", str(len(lines))),
            (f"head -n 1 /app/{typo}", f"head -n 1 /app/{data}", lines[0]),
            (f"tail -n 1 /app/{typo}", f"tail -n 1 /app/{data}", lines[-1]),
            (f"ehco {lines[0]}", f"echo {lines[0]}", lines[0]),
            (f"sotr /app/{data} | head -n 1", f"sort /app/{data} | head -n 1", sorted(lines)[0]),
        )
    )
    broken, fixed = next((old, new) for old, new in zip(bad.split(), good.split(), strict=True) if old != new)
    broken, fixed = broken.removeprefix("/app/"), fixed.removeprefix("/app/")
    instruction = rng.choice(
        (
            "The script /app/{0} fails. Find the mistake and fix it, so that `bash /app/{0}` works.",
            "Running `bash /app/{0}` gives an error. Repair the script.",
        )
    ).format(script)
    return Instance(
        instruction,
        files={script: text(["#!/bin/bash", bad]), data: text(lines)},
        unchanged=(data,),
        checks=(f"prints {script}",),
        expected={f"{script}.out": f"{wanted}\n"},
        looks=(f"bash /app/{script}", f"cat /app/{script}", "ls /app")
        if "/app" in broken or "." in broken
        else (
            f"bash /app/{script}",
            f"cat /app/{script}",
        ),
        needs_look=True,
        solution=(f"sed -i 's/{broken}/{fixed}/' /app/{script}",),
        confirms=(f"bash /app/{script}",),
        wrong=(
            Wrong(f"sed -i 's/{fixed}/{broken}/' /app/{script}", "the wrong way round"),
            Wrong(f"chmod +x /app/{script}", "it is the content that is wrong"),
            Wrong(f"bash /app/{script}", "ran it again"),
        ),
    )


# ------------------------------------------------------------------------------------------------ held out


@family("read-config", category="multi-step", split="held-out", difficulty="hard")
def read_config(rng: Random) -> Instance:
    (config,) = names(rng, 1, ".conf")
    out, first, second = names(rng, 3, avoid=[config.removesuffix(".conf")])
    chosen = rng.choice((first, second))
    files = {name: text(some(rng, PHRASES, 1, 2)) for name in (first, second)}
    lines = [f"host={rng.choice(HOSTS)}", f"file={chosen}", f"port={rng.randint(1000, 9999)}"]
    return Instance(
        f"The line 'file=' in /app/{config} names a file in /app. Copy that file to /app/{out}.",
        files={config: text(lines), **files},
        checks=(f"same {out}",),
        expected={out: files[chosen]},
        looks=(f"cat /app/{config}",),
        needs_look=True,
        solution=(f"cp /app/{chosen} /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"cp /app/{second if chosen == first else first} /app/{out}", "the other file"),
            Wrong(f"cp /app/{config} /app/{out}", "the configuration itself"),
        ),
    )
