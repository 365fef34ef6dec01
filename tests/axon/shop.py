# SPDX-License-Identifier: BUSL-1.1
"""A source that has whatever a test puts into it, and notes what it is asked."""

import hashlib

import msgspec

from axon_client import manifest as manifests
from axon_client.adapters.base import RemoteFile, Resolved, Version
from axon_client.describe import complete
from axon_client.manifest import Dependencies, Format, Metadata, ModelFile, Spec
from axon_client.net import Downloaded
from axon_client.spec import PackageSpec, PathSpec, parse
from mlos_core.errors import NotFound


class Shop:
    """Packages by spec text, each with its files and what it depends on.

    Args:
        declares: whether it tells of dependencies before a package is fetched.
        lists: whether it tells of the files before that.
    """

    def __init__(self, declares=True, lists=True):
        self.packages = {}
        self.needs = {}
        self.asked = []
        self.fetched = []
        self.declares, self.lists = declares, lists
        self.choice = None
        self.more = {}

    def add(self, spec, files, needs=(), **resolved):
        """`resolved`: further fields of what resolving it gives."""
        self.packages[spec] = files
        self.needs[spec] = list(needs)
        self.more[spec] = resolved

    def choosing(self, choice):
        self.choice = choice
        return self

    def versions(self, spec):
        found = [parse(text) for text in self.packages]
        there = [Version(one.version) for one in found if one.title == spec.title]
        self.asked.append(f"versions of {spec.title}")
        if not there:
            raise NotFound(f"no {spec.title}")
        return there

    def resolve(self, spec):
        assert isinstance(spec, PackageSpec)
        self.asked.append(str(spec))
        files = self.packages[str(spec)]
        listed = tuple(self.remote(p, data) for p, data in files.items()) if self.lists else ()
        needs = tuple(self.needs[str(spec)]) if self.declares else ()
        return Resolved(spec, files=listed, dependencies=needs, **self.more[str(spec)])

    def remote(self, path, data):
        digest = hashlib.sha256(data).hexdigest()
        return RemoteFile(path, (f"shop:{digest}",), len(data), digest)

    def download(self, target, file, progress, options=None):
        """Takes the place of `net.download`."""
        for files in self.packages.values():
            for data in files.values():
                if file.urls == (f"shop:{hashlib.sha256(data).hexdigest()}",):
                    self.fetched.append(file.path)
                    target.write_bytes(data)
                    return Downloaded(len(data), file.sha256)
        raise AssertionError(file)

    def fetch(self, spec, found, stage, progress):
        assert not isinstance(spec, PathSpec)
        title = str(found.package)
        for path, data in self.packages[title].items():
            stage.obtain(self.remote(path, data), progress)
        return complete(
            self.manifest(title), stage.files, progress, stage.known,
            allow_pickle=stage.allow_pickle,
        )  # fmt: skip

    def published(self, title):
        """The exact bytes of a manifest that lists the files."""
        manifest = self.manifest(title)
        files = [self.remote(path, data) for path, data in self.packages[title].items()]
        listed = [ModelFile(file.path, file.size, file.sha256) for file in files]
        spec = msgspec.structs.replace(manifest.spec, format=Format(files=listed))
        return manifests.encode(msgspec.structs.replace(manifest, spec=spec))

    def manifest(self, title):
        package = parse(title)
        about = Metadata(package.name, package.namespace, package.version)
        return manifests.new(about, Spec(dependencies=Dependencies(models=self.needs[title])))
