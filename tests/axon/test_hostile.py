# SPDX-License-Identifier: BUSL-1.1
"""Every archive and manifest of the corpus is refused, for its own reason, and leaves nothing."""

import contextlib
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from axon_client import manifest as manifests
from axon_client import pack
from axon_client.archive import extract_tar, open_tar, open_zip
from axon_client.cli import run
from axon_client.errors import IntegrityError
from axon_client.oci import artifact
from axon_client.store import Store
from axon_client.unpacking import Limits
from mlos_core.errors import InvalidInput, Unsupported

from .hostile import Case, artifacts, corpus, tars, yamls, zips

CORPUS = corpus()
MEMORY, WRITTEN, SECONDS = 1 << 30, 16 << 20, 60
REFUSED = {IntegrityError.exit_code, InvalidInput.exit_code}


def ignore(count):
    pass


def open_case(case, path, target):
    limits = Limits(**case.limits)
    if case.suffix == ".axon":
        pack.unpack(path, target, limits=limits)
    elif case.suffix == ".whl":
        with open_zip(path, limits) as archive:
            for name in archive.entries:
                archive.unpack(name, target / name, ignore)
    elif case.suffix == ".yaml":
        manifests.load(path)
    else:
        artifact.parse(path.read_bytes(), path.name)


def refused(case, folder):
    """The refusal's text; fails if there is none, or if something was written elsewhere."""
    canary = folder / "canary"
    canary.write_text("alive")
    path = folder / f"evil{case.suffix}"
    path.write_bytes(case.make(str(canary)))
    inside = folder / "inside" / "deep"
    inside.mkdir(parents=True)
    with pytest.raises((IntegrityError, InvalidInput, Unsupported)) as caught:
        open_case(case, path, inside / "target")
    target = inside / "target"
    elsewhere = {p for p in folder.rglob("*") if not p.is_relative_to(target)}
    assert elsewhere == {canary, path, inside, inside.parent}
    assert canary.read_text() == "alive"
    return str(caught.value)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_it_is_refused_for_its_own_reason_and_writes_nothing_elsewhere(case, tmp_path):
    said = refused(case, tmp_path)
    assert re.search(case.reason, said), said
    assert len(said) < 3000
    assert said.isprintable()


TARS = [case for case in CORPUS if case.suffix == ".axon" and case.name.startswith("tar ")]


@pytest.mark.parametrize("case", TARS, ids=lambda case: case.name)
def test_every_other_way_to_read_a_tar_refuses_it_too(case, tmp_path):
    """Layers of artifacts are extracted; of source archives, which may have links, some is read."""
    path = tmp_path / "evil.tar"
    path.write_bytes(case.make(str(tmp_path / "canary")))
    limits = Limits(**case.limits)
    with pytest.raises(IntegrityError):
        extract_tar(path, tmp_path / "out", ignore, limits)
    with pytest.raises(IntegrityError), open_tar(path, limits, links="refuse"):
        pass
    assert not (tmp_path / "canary").exists()


def test_the_corpus_has_hundreds_of_distinct_cases():
    assert len(CORPUS) >= 200
    assert len({case.name for case in CORPUS}) == len(CORPUS)
    small = [case for case in CORPUS if "bomb" not in case.name]
    made = {(case.suffix, case.make("/canary"), *case.limits) for case in small}
    assert len(made) == len(small)


SOUND = {
    ".axon": (
        tars.tar(tars.pax(path="d/a"), tars.A, tars.gnu_name(b"n" * 130), tars.B),
        tars.zipped(tars.pax(path="d/a"), tars.A, tars.B),
        tars.zstd(tars.tar(tars.A)),
    ),
    ".whl": (zips.archive(zips.Entry("a", b"a" * 99), zips.Entry("d/", b"")), zips.zip64()),
    ".yaml": (yamls.GOOD.encode(),),
    ".json": (json.dumps(artifacts.GOOD).encode(),),
}


def spoil(chance, data):
    """Change, drop or repeat some bytes."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, count = chance.randrange(len(data)), chance.randint(1, 12)
        other = chance.randrange(len(data))
        piece = chance.choice([b"", b"\0", b"\xff", data[other : other + count]])
        data[at : at + chance.choice([0, len(piece), count])] = piece
        data = data or bytearray(b"-")
    return bytes(data)


@pytest.mark.parametrize("suffix", SOUND)
def test_what_is_spoilt_anywhere_is_read_or_refused_and_nothing_else(suffix, tmp_path):
    chance = random.Random(suffix)
    path = tmp_path / f"spoilt{suffix}"
    for number in range(400):
        path.write_bytes(spoil(chance, chance.choice(SOUND[suffix])))
        with contextlib.suppress(IntegrityError, InvalidInput, Unsupported):
            if suffix == ".axon":
                extract_tar(path, tmp_path / str(number), ignore)
            else:
                open_case(Case("spoilt", bytes, "", suffix), path, tmp_path / str(number))


def test_the_whole_corpus_is_refused_in_bounded_memory_time_and_space(tmp_path):
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1])\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({WRITTEN}, {WRITTEN}))\n"
        f"resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))\n"
        "from pathlib import Path\n"
        "from tests.axon import test_hostile as t\n"
        "for name in sorted(Path(sys.argv[2]).iterdir()):\n"
        "    case = t.CORPUS[int(name.stem)]\n"
        "    try:\n"
        "        t.open_case(case, name, Path(sys.argv[3]) / name.stem)\n"
        "    except (t.IntegrityError, t.InvalidInput, t.Unsupported):\n"
        "        continue\n"
        "    sys.exit(f'{case.name} was not refused')\n"
    )
    made = tmp_path / "made"
    made.mkdir()
    for number, case in enumerate(CORPUS):
        (made / f"{number}{case.suffix}").write_bytes(case.make("/nonexistent/canary"))
    root = str(Path(__file__).parent.parent.parent)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, root, str(made), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


BY_HAND = [case for case in CORPUS if case.suffix != ".json" and not case.limits]


@pytest.mark.parametrize("case", BY_HAND, ids=lambda case: case.name)
def test_installing_it_leaves_the_store_as_it_was(case, home, tmp_path, capsys, files_of):
    """The same by the command, whose errors are no tracebacks; layers come by oci/."""
    path = tmp_path / f"evil{case.suffix}"
    path.write_bytes(case.make(str(tmp_path / "canary")))
    if case.suffix == ".yaml":
        folder = tmp_path / "evil"
        folder.mkdir()
        path = path.rename(folder / "manifest.yaml").parent
    before = files_of(tmp_path)
    assert run(["install", str(path)]) in REFUSED
    assert capsys.readouterr().err.startswith("error: ")
    assert not [f for f in files_of(tmp_path) if f.startswith("axon home/blobs")]
    assert [f for f in files_of(tmp_path) if not f.startswith("axon home/")] == before
    assert not Store(home).installed()
