# SPDX-License-Identifier: BUSL-1.1
"""The plugin host as a real process, with the test as its daemon."""

import os
import signal
import textwrap

from mlos_core.ipc.messages import Exited, Fork, Forked, HostBroken, HostReady

from .daemon import DEFAULT, spec_of


def test_a_good_plugin_is_ready_and_says_what_it_is(start_host):
    host = start_host(DEFAULT)
    ready = host.receive()
    assert isinstance(ready, HostReady)
    plugin = ready.plugin
    assert (plugin.name, plugin.version, plugin.formats) == ("toy", "1.2.3", (".toy",))
    assert plugin.framework == "toys 7"


def test_a_plugin_that_does_not_import_is_broken_with_its_traceback(start_host):
    host = start_host("import a_module_that_is_not_there")
    broken = host.receive()
    assert isinstance(broken, HostBroken)
    assert "ModuleNotFoundError: No module named 'a_module_that_is_not_there'" in broken.reason
    assert "Traceback" in broken.traceback
    assert host.wait() != 0


def test_a_plugin_that_exits_at_its_import_is_broken(start_host):
    broken = start_host("raise SystemExit('no licence')").receive()
    assert "SystemExit: no licence" in broken.reason


def test_a_plugin_that_kills_its_process_closes_the_socket(start_host):
    host = start_host("import os; os._exit(7)")
    assert host.receive() is None
    assert host.wait() == 7


def test_a_plugin_of_another_interface_version_is_broken(start_host):
    broken = start_host(DEFAULT + "\nToy.smi_version = 99").receive()
    assert "version 99" in broken.reason


def test_a_class_that_is_no_plugin_is_broken(start_host):
    broken = start_host("class Toy: pass").receive()
    assert "no subclass of mlos_core.smi.Plugin" in broken.reason


def test_a_plugin_under_another_name_is_broken(start_host):
    broken = start_host(DEFAULT + "\nToy.name = 'train'").receive()
    assert "calls itself 'train'" in broken.reason


def test_a_plugin_that_lacks_a_method_is_broken(start_host):
    broken = start_host(DEFAULT + "\nclass Toy(Plugin): name = 'toy'").receive()
    assert "cannot be created" in broken.reason
    assert "load" in broken.reason


def test_a_plugin_that_starts_threads_at_its_import_is_broken(start_host):
    code = """
        import threading
        stop = threading.Event()
        threading.Thread(target=stop.wait, name="busy", daemon=True).start()
    """
    broken = start_host(DEFAULT + textwrap.dedent(code)).receive()
    assert "busy" in broken.reason


def test_an_unknown_plugin_is_broken_and_the_known_are_named(start_host):
    broken = start_host(DEFAULT, name="train").receive()
    assert "no plugin 'train'" in broken.reason
    assert "toy" in broken.reason


def test_the_host_ends_when_the_daemon_does(start_host):
    host = start_host(DEFAULT)
    host.receive()
    host.connection.close()
    assert host.wait() == 0


def test_a_forked_worker_comes_with_its_pidfd_and_its_death_is_told(start_host, daemon):
    host = start_host(DEFAULT)
    host.receive()
    host.send(Fork(spec_of(daemon, owner=5)))
    forked = host.receive()
    assert isinstance(forked, Forked)
    assert forked.owner == 5
    pidfd = host.fds.pop()
    worker = daemon.accept()
    assert worker.hello.pid == forked.pid == worker.connection.peer()[0]
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    assert host.receive() == Exited(5, forked.pid, -signal.SIGKILL)


def test_workers_are_sessions_of_their_own_with_names_of_their_own(start_host, daemon):
    host = start_host(DEFAULT)
    host.receive()
    pids = []
    for owner in (1, 2):
        host.send(Fork(spec_of(daemon, owner=owner)))
        pids.append(host.receive().pid)
        daemon.accept()
        os.close(host.fds.pop())
    assert [os.getsid(pid) for pid in pids] == pids
    with open(f"/proc/{pids[0]}/comm") as comm:  # noqa: PTH123
        assert comm.read().strip() == "mlos:m"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert {host.receive().pid for _ in pids} == set(pids)


def test_workers_outlive_their_host(start_host, daemon):
    host = start_host(DEFAULT)
    host.receive()
    host.send(Fork(spec_of(daemon)))
    pid = host.receive().pid
    os.close(host.fds.pop())
    worker = daemon.accept()
    host.connection.close()
    host.wait()
    worker.start()
    assert worker.until("ready").signature is not None
    os.kill(pid, signal.SIGKILL)
    worker.gone()


def test_each_worker_has_random_numbers_of_its_own(start_host, daemon):
    host = start_host(DEFAULT + "\nimport numpy.random; numpy.random.seed(1)")
    host.receive()
    numbers = set()
    for owner in (1, 2):
        host.send(Fork(spec_of(daemon, owner=owner)))
        host.receive()
        os.close(host.fds.pop())
        worker = daemon.accept()
        worker.start()
        numbers.add(worker.until("ready").signature.inputs[0].description)
        os.kill(worker.hello.pid, signal.SIGKILL)
        assert isinstance(host.receive(), Exited)
    assert len(numbers) == 2
