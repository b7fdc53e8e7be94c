"""Files and folders: making, copying, moving, deleting, renaming, permissions, links, archives."""

from __future__ import annotations

from random import Random

from dev.tasks.families.base import Instance, Wrong, family
from dev.tasks.families.pools import FOLDERS, NOUNS, PHRASES, log_lines, names, place, some, text, words


@family("make-folders", category="files", split="trained", difficulty="easy")
def make_folders(rng: Random) -> Instance:
    outer, inner, other = rng.sample(FOLDERS, 3)
    (kept,) = names(rng, 1)
    instruction = rng.choice(
        (
            "Create the directory /app/{0}/{1}.",
            "Make a folder {1} inside a new folder /app/{0}.",
            "Create the nested directories /app/{0}/{1}.",
        )
    ).format(outer, inner)
    return Instance(
        instruction,
        files={kept: text(some(rng, words(rng), 2, 4))},
        checks=(f"folder {outer}/{inner}",),
        solution=(f"mkdir -p /app/{outer}/{inner}",),
        confirms=(f"ls /app/{outer}",),
        wrong=(
            Wrong(f"mkdir /app/{outer}/{inner}", "fails: the outer one does not exist"),
            Wrong(f"mkdir /app/{outer} /app/{inner}", "side by side"),
            Wrong(f"mkdir -p /app/{other}/{inner}", "in another folder"),
        ),
    )


@family("copy-file", category="files", split="trained", difficulty="easy")
def copy_file(rng: Random) -> Instance:
    name, other = names(rng, 2, rng.choice((".txt", ".conf", ".md", ".csv")))
    stem, _, suffix = name.rpartition(".")
    source = place(rng, name)
    if rng.random() < 0.5:
        target = f"{stem}.bak"
        instruction = rng.choice(("Copy /app/{0} to /app/{1}.", "Make a backup of /app/{0} as /app/{1}."))
        setup: tuple[str, ...] = ()
    else:
        folder = rng.choice([folder for folder in FOLDERS if not source.startswith(folder)])
        target, setup = f"{folder}/{stem}.{suffix}", (f"mkdir {folder}",)
        instruction = rng.choice(("Copy /app/{0} to /app/{1}.", "Put a copy of /app/{0} at /app/{1}."))
    content = text(some(rng, PHRASES, 1, 3))
    return Instance(
        instruction.format(source, target),
        files={source: content, other: text(some(rng, words(rng), 2, 3))},
        setup=setup,
        checks=(f"same {target}",),
        expected={target: content},
        solution=(f"cp /app/{source} /app/{target}",),
        confirms=(f"cat /app/{target}",),
        wrong=(
            Wrong(f"mv /app/{source} /app/{target}", "the original is gone"),
            Wrong(f"cp /app/{other} /app/{target}", "the other file"),
            Wrong(f"touch /app/{target}", "an empty file"),
        ),
    )


@family("delete-pattern", category="files", split="trained", difficulty="easy")
def delete_pattern(rng: Random) -> Instance:
    suffix, keep = rng.sample((".tmp", ".bak", ".old", ".log", ".cache"), 2)
    folder = rng.choice(("", f"{rng.choice(FOLDERS)}/"))
    doomed = [f"{folder}{name}" for name in names(rng, rng.randint(2, 4), suffix)]
    kept = [f"{folder}{name}" for name in names(rng, 2, rng.choice((keep, ".txt")))]
    where = f"/app/{folder}".rstrip("/")
    instruction = rng.choice(
        (
            "Delete all files ending in {1} in {0}. Keep everything else.",
            "Remove every {1} file from {0} and leave the other files alone.",
        )
    ).format(where, suffix)
    return Instance(
        instruction,
        files={name: text([rng.choice(PHRASES)]) for name in [*doomed, *kept]},
        unchanged=tuple(kept),
        checks=tuple(f"gone {name}" for name in doomed),
        solution=(f"rm {where}/*{suffix}",),
        looks=(f"ls {where}",),
        confirms=(f"ls {where}",),
        wrong=(
            Wrong(f"rm /app/{doomed[0]}", "one of several"),
            Wrong(f"rm {where}/*", "everything"),
            Wrong(f"rm *{keep if kept[0].endswith(keep) else '.txt'}", "the wrong ones, or none"),
        ),
    )


@family("rename-suffix", category="files", split="trained", difficulty="hard")
def rename_suffix(rng: Random) -> Instance:
    old, new = rng.sample((".txt", ".md", ".dat", ".csv", ".log"), 2)
    folder = rng.choice(FOLDERS)
    stems = [name.removesuffix(".x") for name in names(rng, rng.randint(2, 4), ".x")]
    files = {f"{folder}/{stem}{old}": text([rng.choice(PHRASES), stem]) for stem in stems}
    instruction = rng.choice(
        (
            "Rename every {1} file in /app/{0} so that it ends in {2} instead.",
            "In /app/{0}, change the extension of all {1} files to {2}.",
        )
    ).format(folder, old, new)
    return Instance(
        instruction,
        files=files,
        unchanged=(),
        checks=(*(f"same {folder}/{stem}{new}" for stem in stems), *(f"gone {name}" for name in files)),
        expected={name.removesuffix(old) + new: content for name, content in files.items()},
        solution=(f'cd /app/{folder} && for f in *{old}; do mv "$f" "${{f%{old}}}{new}"; done',),
        looks=(f"ls /app/{folder}",),
        confirms=(f"ls /app/{folder}",),
        wrong=(
            Wrong(f"mv /app/{folder}/{stems[0]}{old} /app/{folder}/{stems[0]}{new}", "one of several"),
            Wrong(f"mv /app/{folder}/*{old} /app/{folder}/*{new}", "fails: mv does not rename like that"),
            Wrong(
                f'cd /app/{folder} && for f in *{old}; do cp "$f" "${{f%{old}}}{new}"; done',
                "the old ones are still there",
            ),
        ),
    )


@family("set-mode", category="permissions", split="trained", difficulty="easy")
def set_mode(rng: Random) -> Instance:
    target, other = names(rng, 2, ".sh")
    mode, how, wrong = rng.choice(
        (
            ("755", "executable for everyone (mode 755)", "644"),
            ("600", "readable and writable by its owner only (mode 600)", "666"),
            ("444", "read-only for everyone (mode 444)", "400"),
            ("640", "mode 640", "604"),
        )
    )
    instruction = rng.choice(("Make /app/{0} {1}.", "Change the permissions of /app/{0}: make it {1}.")).format(
        target, how if rng.random() < 0.7 or mode == "640" else f"mode {mode}"
    )
    script = text(["#!/bin/sh", f"echo {rng.choice(words(rng))}"])
    return Instance(
        instruction,
        files={target: script, other: script},
        setup=("chmod 644 *.sh",),  # independent of the umask of the checkout
        checks=(f"mode {target} {mode}", f"mode {other} 644"),
        solution=(f"chmod {mode} /app/{target}",),
        confirms=(f"stat -c %a /app/{target}",),
        wrong=(
            Wrong(f"chmod {mode} /app/{other}", "the other file"),
            Wrong(f"chmod {wrong} /app/{target}", "another mode"),
            Wrong(f"chmod {mode} /app/*.sh", "both files"),
        ),
    )


@family("pack-folder", category="archives", split="trained", difficulty="medium")
def pack_folder(rng: Random) -> Instance:
    folder = rng.choice(FOLDERS)
    (stem,) = names(rng, 1, "")
    files = {f"{folder}/{name}": text(log_lines(rng, 3)) for name in names(rng, rng.randint(2, 3))}
    instruction = rng.choice(
        (
            "Pack the directory /app/{0} into the compressed archive /app/{1}.tar.gz.",
            "Create a gzipped tar archive /app/{1}.tar.gz of the folder /app/{0}.",
        )
    ).format(folder, stem)
    return Instance(
        instruction,
        files=files,
        checks=(f"archive {stem}.tar.gz {folder}",),
        solution=(f"tar -czf /app/{stem}.tar.gz -C /app {folder}",),
        confirms=(f"tar -tzf /app/{stem}.tar.gz",),
        wrong=(
            Wrong(f"tar -cf /app/{stem}.tar.gz -C /app {folder}", "not compressed"),
            Wrong(f"tar -czf /app/{folder}.tgz -C /app {folder}", "another name"),
            Wrong(f"gzip -r /app/{folder}", "each file by itself"),
        ),
    )


# ------------------------------------------------------------------------------------------------ held out


@family("move-files", category="files", split="held-out", difficulty="medium")
def move_files(rng: Random) -> Instance:
    suffix = rng.choice((".log", ".txt", ".csv"))
    folder = rng.choice(FOLDERS)
    moved = {name: text([rng.choice(PHRASES)]) for name in names(rng, rng.randint(2, 3), suffix)}
    kept = {name: text([rng.choice(PHRASES)]) for name in names(rng, 1, ".md")}
    return Instance(
        f"Create the directory /app/{folder} and move all {suffix} files from /app into it.",
        files={**moved, **kept},
        unchanged=tuple(kept),
        checks=(*(f"same {folder}/{name}" for name in moved), *(f"gone {name}" for name in moved)),
        expected={f"{folder}/{name}": content for name, content in moved.items()},
        solution=(f"mkdir -p /app/{folder}", f"mv /app/*{suffix} /app/{folder}/"),
        looks=("ls /app",),
        confirms=(f"ls /app/{folder}",),
        wrong=(
            Wrong(f"mkdir -p /app/{folder}; cp /app/*{suffix} /app/{folder}/", "copied, not moved"),
            Wrong(f"mkdir -p /app/{folder}; mv /app/* /app/{folder}/", "all files"),
        ),
    )


@family("count-files", category="search", split="held-out", difficulty="medium")
def count_files(rng: Random) -> Instance:
    folder = rng.choice(FOLDERS)
    (out,) = names(rng, 1)
    count = rng.randint(4, 9)
    files = {
        f"{folder}/{name}": text([rng.choice(PHRASES)]) for name in names(rng, count, rng.choice((".txt", ".log")))
    }
    return Instance(
        f"Count the files in the directory /app/{folder} and write only the number to /app/{out}.",
        files=files,
        checks=(f"holds {out}",),
        expected={out: f"{count}\n"},
        solution=(f"ls /app/{folder} | wc -l > /app/{out}",),
        looks=(f"ls /app/{folder}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"ls /app/{folder} > /app/{out}", "the names, not their number"),
            Wrong(f"cat /app/{folder}/* | wc -c > /app/{out}", "bytes"),
        ),
    )


@family("unpack-archive", category="archives", split="held-out", difficulty="medium")
def unpack_archive(rng: Random) -> Instance:
    stem, folder = rng.choice(NOUNS), rng.choice(FOLDERS)
    files = {f"{folder}/{name}": text(some(rng, words(rng), 2, 4)) for name in names(rng, rng.randint(2, 3))}
    return Instance(
        f"Unpack the archive /app/{stem}.tar.gz into /app. It holds the directory {folder}.",
        files=files,
        setup=(f"tar -czf {stem}.tar.gz {folder}", f"rm -r {folder}"),
        checks=(),
        solution=(f"tar -xzf /app/{stem}.tar.gz -C /app",),
        confirms=(f"ls /app/{folder}",),
        wrong=(
            Wrong(f"tar -tzf /app/{stem}.tar.gz", "listed, not unpacked"),
            Wrong(f"mkdir -p /app/{folder}; tar -xzf /app/{stem}.tar.gz -C /app/{folder}", "one folder too deep"),
        ),
    )


@family("make-link", category="files", split="held-out", difficulty="medium")
def make_link(rng: Random) -> Instance:
    name, _ = names(rng, 2, rng.choice((".txt", ".conf")))
    source = place(rng, name)
    link = f"current{'.' + name.rpartition('.')[2]}"
    return Instance(
        f"Create a symbolic link /app/{link} that points to /app/{source}.",
        files={source: text(some(rng, PHRASES, 1, 3))},
        checks=(f"link {link} {source}",),
        solution=(f"ln -s /app/{source} /app/{link}",),
        confirms=(f"cat /app/{link}",),
        wrong=(
            Wrong(f"cp /app/{source} /app/{link}", "a copy"),
            Wrong(f"ln /app/{source} /app/{link}", "a hard link"),
            Wrong(f"ln -s /app/{link} /app/{source}", "fails: the wrong way round"),
        ),
    )
