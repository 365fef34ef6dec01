# SPDX-License-Identifier: BUSL-1.1
"""Processes that die at every point of every change to a store.

`python tests/axon/crash_points.py [--every N]` does it at length; the tests do a little of it.

For each operation a process is forked that counts the lines of the store's code it comes to,
and at the chosen one is killed by itself, as by `kill -9`. Between two lines lies at most one
change to the file system. Then the store must be sound, the same operation done again must
end as if nothing had happened, and nothing that came over the network and was verified may
be asked for a second time.
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from unittest import mock

import axon_client
from axon_client import manifest as manifests
from axon_client import net
from axon_client.adapters.base import RemoteFile
from axon_client.manifest import ExecutionFile, Format, Metadata, Spec
from axon_client.net import Downloaded
from axon_client.spec import PackageSpec
from axon_client.store import Store, disk

ROOT = Path(axon_client.__file__).parent
CODE = tuple(str(ROOT / name) for name in ("store", "lock.py", "seals.py", "hashing.py"))
ENDED, KILLED = 0, -signal.SIGKILL


def blob(name, size=1000):
    """Bytes that are the same for the same name."""
    return random.Random(name).randbytes(size)


class Origin:
    """Where files come from: it notes each file that somebody fetched whole."""

    def __init__(self, log):
        self.log = log

    def file(self, path, name):
        data = blob(name)
        return RemoteFile(path, (f"http://origin/{name}",), len(data), sha256_of(data))

    def download(self, target, file, progress, options=None):
        """Takes the place of `net.download`: a file of one part, which comes whole."""
        name = file.urls[0].rpartition("/")[2]
        data = blob(name)
        with self.log.open("a") as log:
            log.write(f"{name}\n")
        target.write_bytes(data)
        return Downloaded(len(data), sha256_of(data))

    def fetched(self):
        return sorted(self.log.read_text().splitlines()) if self.log.exists() else []


def sha256_of(data):
    return hashlib.sha256(data).hexdigest()


def put(store, origin, package, files, replace=False):
    """Install a package whose files, by path, have the contents of a name."""
    if is_there(store, package, files):
        return
    with store.stage(distrust=replace) as stage:
        listed = [stage.obtain(origin.file(path, name)) for path, name in files.items()]
        (stage.scratch / "own").write_bytes(blob(f"own {package}"))
        listed.append(stage.adopt("own.bin", stage.scratch / "own"))
        stage.fetch(origin.file("archive.whl", f"archive {package}".replace("/", " ")))
        store.commit(stage, describe(package, listed), replace=replace)


def is_there(store, package, files):
    """What an installer asks first."""
    model = store.at(PackageSpec(*package.split("/")))
    listed = {f.path: f.sha256 for f in model.manifest.spec.format.files} if model else {}
    return all(listed.get(path) == sha256_of(blob(name)) for path, name in files.items())


def describe(package, listed):
    namespace, name, version = package.split("/")
    format = Format("onnx", "onnx", files=sorted(listed, key=lambda file: file.path),
                    execution_files=[ExecutionFile(listed[0].path, "onnx", "main")])  # fmt: skip
    return manifests.new(Metadata(name, namespace, version), Spec(format=format))


def prepare(store, origin):
    """What every operation begins with: two models that share a file."""
    put(store, origin, "t/first/1", {"a.onnx": "shared", "b.json": "first"})
    put(store, origin, "t/second/1", {"a.onnx": "shared", "sub/c.json": "second"})


def _install(store, origin):
    put(store, origin, "t/third/1", {"a.onnx": "shared", "d.json": "third"})


def _replace(store, origin):
    put(store, origin, "t/second/1", {"a.onnx": "new", "sub/c.json": "second"}, replace=True)


def _step_aside(store, origin):
    """As `replace`, where the file system cannot exchange two folders."""
    with mock.patch.object(disk, "exchange", return_value=False):
        _replace(store, origin)


def _uninstall(store, origin):
    for model in store.installed():
        if model.spec.name == "second":
            store.uninstall(model)


def _gc(store, origin):
    store.gc(everything=True)


OPERATIONS = {
    "install": _install,
    "replace": _replace,
    "step aside": _step_aside,
    "uninstall": _uninstall,
    "gc": _gc,
}
AFTERWARDS = {
    "install": ["t/first@1", "t/second@1", "t/third@1"],
    "replace": ["t/first@1", "t/second@1"],
    "step aside": ["t/first@1", "t/second@1"],
    "uninstall": ["t/first@1"],
    "gc": ["t/first@1", "t/second@1"],
}


def copy_with_links(source, target):
    """Copy a tree in which files have several names; so they have in the copy."""
    first = {}
    for folder, _, names in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir()
        for name in names:
            inode = Path(folder, name).lstat().st_ino
            if inode in first:
                (there / name).hardlink_to(first[inode])
            else:
                shutil.copy2(Path(folder, name), there / name, follow_symlinks=False)
                first[inode] = there / name


class Killer:
    """Kills this process at the line number `at` of the store's code; counts them if None."""

    def __init__(self, at):
        self.at = at
        self.count = 0

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(CODE):
            return None
        if event == "line":
            self.count += 1
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def in_child(work):
    """Run `work` in a forked process; what it returned, or the signal that ended it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.close(reader)
            os.write(writer, str(work()).encode())
            os._exit(0)
        os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, text


def traced(operation, home, origin, at):
    """Do an operation until the line `at`; gives how many there were."""
    killer = Killer(at)
    store = Store(home, layers=())
    sys.settrace(killer)
    try:
        OPERATIONS[operation](store, origin)
    finally:
        sys.settrace(None)
    return killer.count


class Rig:
    """A prepared store, put in place anew for every death.

    Args:
        links: whether the file system has hard links.
    """

    def __init__(self, folder, links=True):
        self.ready = folder / "ready"
        self.home = folder / "home"
        self.origin = Origin(folder / "log")
        if not links:
            disk.hard_link = lambda source, at: False
        net.download = self.origin.download
        os.fsync = lambda descriptor: None  # a killed process loses nothing that was written
        prepare(Store(self.home, layers=()), self.origin)
        copy_with_links(self.home, self.ready)

    def fresh(self):
        """Put the prepared store in place, links and all."""
        shutil.rmtree(self.home)
        copy_with_links(self.ready, self.home)
        self.origin.log.unlink(missing_ok=True)

    def lines(self, operation):
        """How many lines the operation comes to."""
        self.fresh()
        status, text = in_child(lambda: traced(operation, self.home, self.origin, None))
        assert status == ENDED, f"{operation} fails without being killed"
        return int(text)

    def die(self, operation, at):
        """Kill an operation at a line, and see that nothing is the worse for it."""
        self.fresh()
        status, _ = in_child(lambda: traced(operation, self.home, self.origin, at))
        assert status == KILLED, f"{operation} was not killed at {at}: {status}"
        where = f"{operation} killed at line {at}"
        store = Store(self.home, layers=())
        if operation == "step aside":
            store.gc()  # whoever comes next puts back what had stepped aside
        check_sound(store, operation, where)
        OPERATIONS[operation](store, self.origin)
        check_sound(store, operation, where + ", then done again")
        names = [str(model.spec) for model in store.installed()]
        assert names == AFTERWARDS[operation], where
        fetched = self.origin.fetched()
        assert len(fetched) == len(set(fetched)), f"{where}: fetched {fetched}"
        check_tidy(store, where)


def check_sound(store, operation, where):
    """No model is damaged, and none is half there or gone that was not to go."""
    models = store.installed()
    for model in models:
        assert store.verify(model) == [], where
    names = {str(model.spec) for model in models}
    before = {"t/first@1", "t/second@1"}
    after = set(AFTERWARDS[operation])
    assert before & after <= names <= before | after, f"{where}: {names}"


def check_tidy(store, where):
    """After a collection there is what the models need, and nothing else."""
    store.gc(everything=True)
    needed = {file.sha256 for m in store.installed() for file in m.manifest.spec.format.files}
    assert {path.name for path in store.blobs.iterdir()} == needed, where
    for name in ("staging", "partial", "leases"):
        folder = store.home / name
        left = [path.name for path in folder.iterdir()] if folder.exists() else []
        assert left == [], f"{where}: {name} has {left}"
    for model in store.installed():
        assert store.verify(model) == [], where


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="kill at every N-th line")
    parser.add_argument("--no-links", action="store_true", help="as if there were no hard links")
    parser.add_argument("--operation", choices=sorted(OPERATIONS), action="append")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), links=not options.no_links)
        for operation in options.operation or OPERATIONS:
            total = rig.lines(operation)
            points = range(1, total + 1, options.every)
            for at in points:
                rig.die(operation, at)
            print(f"{operation}: killed at {len(points)} of {total} lines; sound each time")


if __name__ == "__main__":
    main()
