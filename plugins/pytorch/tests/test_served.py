# SPDX-License-Identifier: BUSL-1.1
"""The plugin in a real daemon: another process, shared memory between."""

import os
import select
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from mlos_core.client import connect
from mlos_core.errors import InvalidInput, LoadFailed

torch = pytest.importorskip("torch", reason="torch is not installed")
plugin = pytest.importorskip("mlos_plugin_pytorch")


@pytest.fixture(scope="module")
def client():
    """A client of a daemon of its own, which ends with the tests of this file."""
    with tempfile.TemporaryDirectory(prefix="mlos-test-") as name:
        folder = Path(name)
        environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith("MLOS_")},
            "MLOS_RUN_DIR": str(folder / "run"),
            "MLOS_STATE_DIR": str(folder / "state"),
            "MLOS_HTTP": "false",
            "NOTIFY_SOCKET": str(folder / "notify"),
        }
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(environ["NOTIFY_SOCKET"])
            daemon = subprocess.Popen(
                [sys.executable, "-P", "-m", "mlos_core.cli.mlosd"],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                assert select.select([notify], [], [], 60)[0], "the daemon did not start"
                with connect(folder / "run" / "mlosd.sock") as connected:
                    yield connected
            finally:
                daemon.terminate()
                daemon.wait(60)


def register(client, name, path, **options):
    said = {"plugin": "pytorch", "options": options}
    return client.call("register", name=name, path=str(path), timeout=90.0, **said)


def test_the_example_is_served(client, tmp_path):
    package = plugin.PyTorchPlugin().example(tmp_path)
    register(client, "example", package.path)
    model = client.model("example")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for _ in range(3):
        outputs = model.infer({"x": x})
        assert outputs["double"].tolist() == (2 * x).tolist()
        assert outputs["total"].tolist() == [3, 12]
    with pytest.raises(InvalidInput, match=r"float32\[\?, 3\]"):
        model.infer({"x": x.astype(np.float64)})


def test_an_exported_program_answers_with_the_bits_of_torch(client, export):
    layers = torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 8)
    module = torch.nn.Sequential(*layers).eval()
    dynamic = ({0: torch.export.Dim("batch")},)
    path = export(module, torch.zeros(2, 64), dynamic_shapes=dynamic)
    register(client, "exported", path)
    model = client.model("exported")
    for seed in range(4):
        x = np.random.default_rng(seed).standard_normal((1 + seed, 64)).astype(np.float32)
        with torch.inference_mode():
            want = module(torch.from_numpy(x)).numpy()
        assert model.infer({"input": x})["output"].tobytes() == want.tobytes()


def test_a_pickle_is_refused_through_the_daemon_too(client, tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "m.pt")
    with pytest.raises(LoadFailed, match="is a pickle"):
        register(client, "pickled", tmp_path / "m.pt")
