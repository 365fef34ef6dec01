# SPDX-License-Identifier: BUSL-1.1
"""Templates of plugin hosts: what is on disk is what is forked, and a killed one is replaced."""

import os
import signal
import subprocess
import sys
import sysconfig
import time

import numpy as np
import pytest
import traces

from mlos_core.errors import PluginBroken
from mlos_core.worker.template import Freshness

X = {"x": np.arange(4, dtype=np.float32)}


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("a = 1")
    return path


def fresh(module, began_ns=None, folders=()):
    began_ns = time.time_ns() if began_ns is None else began_ns
    return Freshness(began_ns, [str(module), "/nowhere/frozen.py"], [str(f) for f in folders])


def test_what_nobody_changed_is_fresh(module, tmp_path):
    (tmp_path / "a.pth").write_text("/somewhere")
    freshness = fresh(module, folders=[tmp_path, tmp_path / "none"])
    (tmp_path / "other.py").write_text("")
    assert freshness.hold()


@pytest.mark.parametrize("same_times", [False, True])
def test_a_module_that_was_replaced_is_stale(module, same_times):
    freshness = fresh(module)
    before = module.stat()
    other = module.with_suffix(".new")
    other.write_text("a = 2")
    if same_times:  # as installers do
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(module)
    assert not freshness.hold()


def test_a_module_that_is_gone_is_stale(module):
    freshness = fresh(module)
    module.unlink()
    assert not freshness.hold()


@pytest.mark.parametrize("there", [False, True])
def test_a_path_file_that_is_new_or_gone_is_stale(module, tmp_path, there):
    file = tmp_path / "editable.pth"
    if there:
        file.touch()
    freshness = fresh(module, folders=[tmp_path])
    file.unlink() if there else file.touch()
    assert not freshness.hold()


def test_a_module_that_changed_while_the_process_started_is_stale(module):
    changed = module.stat().st_ctime_ns
    assert not fresh(module, began_ns=changed - 1).hold()
    assert fresh(module, began_ns=changed + 1).hold()


def test_files_from_the_future_do_not_make_it_stale_for_ever(module, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 2_000)
    assert fresh(module, began_ns=1_000).hold()


# --- the real ones ------------------------------------------------------------------------


def templates(daemon):
    pids = traces.processes(daemon.folder / "run")
    return {pid for pid in pids if traces.name_of(pid) == "mlos-template"}


def test_hosts_are_forked_from_one_template(daemon, echo_file, make_plugin):
    daemon.call("register", name="a", path=echo_file())
    daemon.call("register", name="b", path=make_plugin("other"))
    (template,) = templates(daemon)
    children = {
        pid
        for pid in traces.processes(daemon.folder / "run")
        if traces.name_of(pid).startswith("mlos-host") and parent(pid) == template
    }
    assert len(children) == 2


def parent(pid):
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return int(file.read().rpartition(")")[2].split()[1])


def test_a_killed_template_takes_nobody_along_and_is_replaced(daemon, echo_file, make_plugin):
    daemon.call("register", name="a", path=echo_file())
    (old,) = templates(daemon)
    os.kill(old, signal.SIGKILL)
    daemon.journal.wait("template_ended")
    with daemon.connect() as client:
        model = client.model("a")
        np.testing.assert_array_equal(model.infer(X)["x"], X["x"])
        worker = client.call("model", name="a")["workers"][0]["pid"]
        os.kill(worker, signal.SIGKILL)  # its successor comes from the host that there is
        np.testing.assert_array_equal(model.infer(X)["x"], X["x"])
        client.call("register", name="b", path=make_plugin("other"))
        (new,) = templates(daemon)
        assert new != old
        client.call("unregister", name="a")  # how the orphaned host ends nobody sees
        assert daemon.journal.wait("host_ended")["status"] == "a status that nobody saw"


def test_a_template_that_hangs_is_replaced(daemons, echo_file, make_plugin):
    daemon = daemons(MLOS_LOAD_TIMEOUT="3").start()
    daemon.call("register", name="a", path=echo_file())
    (old,) = templates(daemon)
    os.kill(old, signal.SIGSTOP)
    path = make_plugin("other")
    with pytest.raises(PluginBroken, match="did not fork within 3 s"):
        daemon.call("register", name="b", path=path, plugin="other")
    daemon.journal.wait("template_ended", pid=old)
    assert daemon.call("register", name="b", path=path, plugin="other")["state"] == "ready"
    with daemon.connect() as client:
        np.testing.assert_array_equal(client.model("a").infer(X)["x"], X["x"])


@pytest.fixture
def venv(tmp_path):
    """A virtual environment that sees the packages of this one, and its site folder."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    own = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    lines = [f"import site; site.addsitedir({path!r})" for path in own]
    (site / "packages.pth").write_text("\n".join(lines))
    return folder, site


def test_what_is_installed_anew_is_hosted_by_a_new_template(daemon, echo_file, venv):
    folder, site = venv
    daemon.call("register", name="a", path=echo_file(), python=str(folder))
    (old,) = templates(daemon)
    (site / "more.pth").write_text(str(folder))
    daemon.call("swap_plugin", name="echo", python=str(folder))
    daemon.journal.wait("template_ended", pid=old)
    (new,) = templates(daemon)
    assert new != old
    daemon.call("unregister", name="a")
    daemon.journal.wait("template_ended", pid=new)
    assert not templates(daemon)
