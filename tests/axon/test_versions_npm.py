# SPDX-License-Identifier: BUSL-1.1
"""npm's own implementation as the judge: thousands of generated ranges, every answer compared."""

import json
import random
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from axon_client import versions
from axon_client.adapters.base import Version
from axon_client.resolver import allowed

PRE = ["", "", "", "", "-alpha", "-alpha.1", "-beta.2", "-rc.1", "-0", "-1.2", "-a-b", "-x", "-01"]
BUILD = ["", "", "", "", "", "", "+build", "+1.2", "+a-b"]
ODD = [
    "", " ", "*", "x", "latest", ">", "^", "~", "1.2.3.4", "1..2", ">>1", "1.2.3-", "- 1", "1 -2",
    "1-2", "1 - 2 - 3", "^^1", "~^1", "!1", "1|2", "== 1.0.0", "==1.0", "=>1", "> =1.2.3", "> = 1",
    "~ > 1", "~ >1.2.3", "^ =1", "v 1", "1.2.3*", ">=*", "*.1", "1.*.1", ">=0.0.0", ">=0.0.0-0",
    "0.0.0 - 1", "x - 2", "2 - x", "=1 - 2", "v1.2.3 - v2", "9007199254740991", "^9007199254740991",
    "01.2.3", "1.2.3-é",
]  # fmt: skip
SCRIPT = """
const semver = require(process.argv[1]);
const {ranges, known} = JSON.parse(require('fs').readFileSync(0));
const fits = ranges.map(range => semver.validRange(range) === null ? null :
  known.map((version, i) => semver.satisfies(version, range) ? i : -1).filter(i => i >= 0));
const order = known.map(one => known.map(other => semver.compare(one, other)));
console.log(JSON.stringify({fits, order, valid: known.map(one => semver.valid(one) !== null)}));
"""
PICK = """
const pick = require(process.argv[1]);
const cases = JSON.parse(require('fs').readFileSync(0));
console.log(JSON.stringify(cases.map(([versions, tags, wanted]) => {
  const entries = versions.map(version => [version, {name: 'm', version, _id: version}]);
  const all = {name: 'm', 'dist-tags': tags, versions: Object.fromEntries(entries)};
  try { return pick(all, wanted).version } catch (error) { return null }
})));
"""
KNOWN = [f"{a}.{b}.{c}" for a in (0, 1, 2, 10) for b in (0, 1, 2) for c in (0, 1, 3)]
KNOWN += [
    base + pre
    for base in ("0.0.0", "0.0.1", "0.1.0", "1.0.0", "1.2.3", "1.3.0", "2.0.0", "3.0.0", "10.0.0")
    for pre in ("-0", "-alpha", "-alpha.1", "-beta.2", "-rc.1", "-1", "-10", "-a-b", "-x+b")
]
KNOWN += ["1.2.3+b", "v1.2.3", "9007199254740991.0.0"]


@cache
def npm_module(name):
    """The folder of one of npm's own modules, or why it is not there."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        return None, "node and npm are not installed"
    for above in (Path(npm).resolve().parent.parent, Path("/usr/lib/node_modules/npm")):
        found = above / "node_modules" / name
        if (found / "package.json").is_file():
            return found, ""
    return None, f"npm has no {name} of its own here"


def judge(module, script, question):
    """What a script answers that gets one of npm's modules and a question."""
    folder, reason = npm_module(module)
    if folder is None:
        pytest.skip(reason)
    done = subprocess.run(
        ["node", "-e", script, str(folder)],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def ask(ranges):
    return judge("semver", SCRIPT, {"ranges": ranges, "known": KNOWN})


def make_ranges(seed, count):
    rng = random.Random(seed)

    def number():
        return rng.choice(["0", "0", "1", "1", "2", "3", "10"])

    def partial():
        size = rng.choice([1, 2, 2, 3, 3, 3, 3])
        parts = [rng.choice([*"xX*"]) if rng.random() < 0.2 else number() for _ in range(size)]
        text = ".".join(parts)
        if size == 3:
            text += rng.choice(PRE) + rng.choice(BUILD)
        return rng.choice([""] * 20 + ["v", "=", "=v"]) + text

    def simple():
        operator = rng.choice(["", "", "^", "^", "~", "~", ">=", ">", "<", "<=", "=", "~>"])
        return operator + rng.choice(["", "", "", "", " "]) + partial()

    def one():
        kind = rng.random()
        if kind < 0.12:
            return f"{partial()} - {partial()}"
        if kind < 0.2:
            return rng.choice(ODD)
        return rng.choice([" ", "  "]).join(simple() for _ in range(rng.choice([1, 1, 1, 2, 2, 3])))

    return [
        rng.choice(["||", " || "]).join(one() for _ in range(rng.choice([1, 1, 1, 1, 2, 3])))
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_ranges_have_exactly_the_versions_that_they_have_with_npm(seed):
    ranges = make_ranges(seed, 1200) + (ODD if seed == 0 else [])
    answers = ask(ranges)["fits"]
    assert sum(answer is not None for answer in answers) > len(ranges) // 2
    parsed = [versions.parse(one.removeprefix("v")) for one in KNOWN]
    for text, answer in zip(ranges, answers, strict=True):
        found = None
        if versions.is_range(text):
            wanted = versions.parse_range(text)
            found = [index for index, one in enumerate(parsed) if wanted.fits(one)]
        assert found == answer, text


def test_versions_are_in_npm_s_order():
    answers = ask([])
    assert all(answers["valid"])
    for one, row in zip(KNOWN, answers["order"], strict=True):
        assert [versions.compare(one, other) for other in KNOWN] == row, one


def make_packages(seed, count):
    """Versions, tags and a selector for each of many packages."""
    rng = random.Random(seed)

    def version():
        numbers = (rng.choice("0123"), rng.choice("012"), rng.choice("012"))
        return ".".join(numbers) + rng.choice(["", "", "", "-alpha.1", "-rc.1", "-rc.2"])

    for _ in range(count):
        there = sorted({version() for _ in range(rng.randint(1, 9))})
        tags = {tag: rng.choice(there) for tag in ("latest", "beta")[: rng.randint(1, 2)]}
        around = rng.choice(["", "^", "~", ">=", "<="]) + rng.choice(there)
        plain = ["", "*", "latest", "beta", "nope", "x", "1", "2.x", "^1 || ^3", "<2", "1 - 2"]
        yield there, tags, rng.choice([around, rng.choice(plain)])


def test_the_version_that_is_taken_is_the_one_that_npm_takes():
    packages = list(make_packages(3, 1500))
    chosen = judge("npm-pick-manifest", PICK, packages)
    assert sum(one is not None for one in chosen) > len(packages) // 2
    for (there, tags, wanted), answer in zip(packages, chosen, strict=True):
        offered = [Version(v, tags=tuple(t for t, of in tags.items() if of == v)) for v in there]
        found = [one.version for one in allowed(offered, wanted)]
        assert (found[0] if found else None) == answer, (there, tags, wanted)
