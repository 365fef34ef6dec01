# SPDX-License-Identifier: BUSL-1.1
"""A project with real packages, on two machines."""

import pytest

from axon_client import cli
from axon_client.store import Store

pytestmark = pytest.mark.network


def test_real_packages_are_the_same_on_a_second_machine(tmp_path, home, monkeypatch):
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    (root / "axon.toml").write_text('[models]\n"pypi/magika" = "~1.0.1"\n')
    assert cli.run(["sync"]) == 0
    before = (root / "axon.lock").read_bytes()
    mine = [model.manifest.spec.format.files for model in Store(home).installed()]
    fresh = tmp_path / "another home"
    monkeypatch.setenv("AXON_HOME", str(fresh))
    assert cli.run(["sync", "--frozen"]) == 0
    store = Store(fresh)
    assert [model.manifest.spec.format.files for model in store.installed()] == mine
    assert not [problem for model in store.installed() for problem in store.verify(model)]
    (root / "axon.lock").unlink()
    assert cli.run(["lock"]) == 0
    assert (root / "axon.lock").read_bytes() == before
