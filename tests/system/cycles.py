# SPDX-License-Identifier: BUSL-1.1
"""Models are loaded and unloaded again and again, every third one in vain: nothing is left.

`python tests/system/cycles.py --cycles 100 --json FILE` does it at length; the tests do a
little of it. Before and after, the memory of the daemon, its plugin hosts and its workers (PSS
summed), their descriptors and threads, shared memory and files are the same. And with the
plugin's host kept warm, a load takes hardly longer than the framework itself takes to load
the model in a process that has imported it.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE)]

import traces  # noqa: E402
from plugin_versions import Distribution  # noqa: E402
from swaps import conftest, machine  # noqa: E402

from mlos_core.errors import MlosError  # noqa: E402

SETTINGS = {
    "MLOS_LOG_LEVEL": "info",
    "MLOS_RESTART_LIMIT": "2",
    "MLOS_LOAD_TIMEOUT": "60",
    "MLOS_WARM_PLUGINS": "storm",
    "PYTHONDONTWRITEBYTECODE": "1",
}
FAILURES = (
    {"load": "raise"},
    {"load": "exit"},
    {"warmup": "raise"},
    {"load": "kill"},
    {"warmup": "shapes"},
    {"warmup": "segfault"},
)
BALLAST = 8 << 20


def cycle(client, plugin, number):
    """One load and one unload, the third in vain; whether it was to succeed."""
    if number % 3 == 2:
        faults = FAILURES[number // 3 % len(FAILURES)]
        path = plugin.model(100 + number, ballast=BALLAST, **faults)
        try:
            client.call("register", name=f"broken-{number}", path=path)
        except MlosError:
            return False
        finally:
            plugin.forget_model(100 + number)
        raise AssertionError(f"{faults} was served")
    if number % 3 == 0:
        client.call("load_model", name="m")
        ask(client, "m")
        client.call("unload_model", name="m")
    else:
        client.call("register", name="other", path=plugin.model(2, ballast=BALLAST))
        ask(client, "other")
        client.call("unregister", name="other")
    return True


def ask(client, name):
    with client.model(name) as model, model.infer({"x": [[1.0] * 8]}) as result:
        assert result["y"].shape == (1, 8)


def settled(daemon, client, seconds=30.0):
    """A snapshot, once every worker has ended and every channel is closed."""
    end = time.monotonic() + seconds
    while True:
        status = client.call("status")  # a connection of its own would be seen as well
        if not status["workers"] and not status["channels"]:
            found = traces.snapshot(daemon.folder / "run", daemon.folder)
            if all(name_is_of_a_host_or_daemon(n) for n in found["processes"].values()):
                return found
        assert time.monotonic() < end, f"{status}: workers do not end"
        time.sleep(0.05)


def name_is_of_a_host_or_daemon(name):
    return name == "mlosd" or name.startswith(("mlos-host", "mlos-template", "python"))


def differences(before, after):
    """What is there that was not there before, but for memory."""
    found = []
    for key in ("processes", "threads", "segments", "names", "files"):
        if after[key] != before[key]:
            found.append(f"{key}: {before[key]} became {after[key]}")
    for pid, was in before["descriptors"].items():
        if (now := after["descriptors"].get(pid, [])) != was:
            found.append(f"descriptors of {before['processes'][pid]}: {was} became {now}")
    return found


def run(daemon, plugin_folder, cycles, settling=3):
    """`settling` cycles, a look, `cycles` more, and a look again: the row."""
    plugin = Distribution(plugin_folder, daemon.folder)
    plugin.install(1)
    daemon.start(**SETTINGS)
    looks, failing = [], 0
    with daemon.connect() as client:
        client.call("register", name="m", path=plugin.model(1, ballast=BALLAST), load="demand")
        client.call("load_model", name="m")
        client.call("unload_model", name="m")
        looks.append(settled(daemon, client))
        for number in range(settling):
            cycle(client, plugin, number)
        looks.append(settled(daemon, client))
        began = time.monotonic()
        for number in range(cycles):
            failing += not cycle(client, plugin, number)
        seconds = time.monotonic() - began
        looks.append(settled(daemon, client))
    _, before, after = looks
    sums = [sum(look["pss"].values()) for look in looks]
    return {
        "cycles": cycles,
        "failing": failing,
        "seconds": round(seconds, 1),
        "pss": {"first": sums[0], "before": sums[1], "after": sums[2]},
        "growth_percent": round(100 * (sums[2] / sums[1] - 1), 3),
        "growth_percent_from_first": round(100 * (sums[2] / sums[0] - 1), 3),
        "pss_by_process": {
            name: [before["pss"].get(pid), after["pss"].get(pid)]
            for pid, name in after["processes"].items()
        },
        "shared_memory_used": [look["shared_memory"] for look in looks],
        "machine_available": [look["available"] for look in looks],
        "left": differences(before, after),
    }


# --- how long a load takes ----------------------------------------------------------------

IN_PROCESS = {
    "onnx": """
import numpy as np, onnxruntime, sys, time
began = time.perf_counter()
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(time.perf_counter() - began)
KINDS = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
fed = {i.name: np.zeros([d if isinstance(d, int) else 1 for d in i.shape], KINDS[i.type])
       for i in session.get_inputs()}
session.run(None, fed)
print(time.perf_counter() - began)
""",
    "pytorch": """
import sys, time, torch
began = time.perf_counter()
module = torch.jit.load(sys.argv[1]).eval()
print(time.perf_counter() - began)
width = next(module.parameters()).shape[-1]
with torch.inference_mode():
    module(torch.zeros(1, width))
print(time.perf_counter() - began)
""",
}


def in_process(plugin, path):
    """Seconds that the framework takes in a process that has just imported it: to load, and
    until it has answered once, which is what a model is warmed with here."""
    command = [sys.executable, "-P", "-c", IN_PROCESS[plugin], path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    loaded, answered = map(float, done.stdout.split())
    return loaded, answered


def loads(daemon, models, times):
    """For each of `models` (plugin, path, options): seconds of a load here and there, in turn."""
    rows = []
    plugins = ",".join(sorted({plugin for plugin, _, _ in models}))
    daemon.start(MLOS_LOG_LEVEL="info", MLOS_WARM_PLUGINS=plugins)
    with daemon.connect() as client:
        for plugin, path, options in models:
            entry = {"path": path, "plugin": plugin, "options": options, "load": "demand"}
            client.call("register", name="m", **entry)
            ours, theirs, warmed = [], [], []
            for _ in range(times):
                began = time.perf_counter()
                client.call("load_model", name="m")
                ours.append(time.perf_counter() - began)
                client.call("unload_model", name="m")
                loaded, answered = in_process(plugin, path)
                theirs.append(loaded)
                warmed.append(answered)
            client.call("unregister", name="m")
            rows.append(
                {
                    "plugin": plugin,
                    "model": Path(path).name,
                    "megabytes": round(Path(path).stat().st_size / 1e6, 1),
                    "load_ms": _ms(ours),
                    "in_process_ms": _ms(theirs),
                    "in_process_warmed_ms": _ms(warmed),
                    "ratio": _ratio(ours, theirs),
                    "ratio_warmed": _ratio(ours, warmed),
                }
            )
    return rows


def _ratio(ours, theirs):
    return round(statistics.median(ours) / statistics.median(theirs), 3)


def _ms(seconds):
    ordered = sorted(seconds)
    return {
        "median": round(1e3 * statistics.median(ordered), 1),
        "all": [round(1e3 * s, 1) for s in ordered],
    }


def save_layers(path, layers=12, width=1024):
    """An ONNX file of matrices one behind the other: 4 MB each at a width of 1024."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    weights, nodes, name = [], [], "x"
    for number in range(layers):
        matrix = rng.standard_normal((width, width), np.float32) / width**0.5
        weights.append(numpy_helper.from_array(matrix, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{number}"], [f"m{number}"]))
        name = "y" if number == layers - 1 else f"r{number}"
        nodes.append(helper.make_node("Relu", [f"m{number}"], [name]))
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", float32, ["batch", width])],
        [helper.make_tensor_value_info("y", float32, ["batch", width])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    path.write_bytes(model.SerializeToString())
    return str(path)


# --- at length ----------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--loads", type=int, default=15)
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="PLUGIN=PATH[=OPTIONS]",
        help="one more model whose load is timed; its options in JSON",
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    row = {"machine": machine()}
    folder = Path(tempfile.mkdtemp(prefix="mlos-cycles-"))
    plugins = folder / "plugins"
    plugins.mkdir()
    path = os.pathsep.join(filter(None, (str(plugins), os.environ.get("PYTHONPATH"))))
    make = conftest().Daemon
    names = traces.names()
    try:
        daemon = make(folder / "cycles", {"PYTHONPATH": path})
        daemon.folder.mkdir()
        try:
            row["cycles"] = run(daemon, plugins, args.cycles)
        finally:
            assert daemon.clean_up(), "a process is left"
        models = [("onnx", save_layers(folder / "layers.onnx"), {})]
        for given in args.model:
            plugin, path, options = (*given.split("=", 2), "{}")[:3]
            models.append((plugin, path, json.loads(options)))
        daemon = make(folder / "loads", {})
        daemon.folder.mkdir()
        try:
            row["loads"] = loads(daemon, models, args.loads)
        finally:
            assert daemon.clean_up(), "a process is left"
    finally:
        shutil.rmtree(folder)
    row["shared_memory_left"] = sorted(set(traces.names()) - set(names))
    print(json.dumps(row, indent=1))
    print(summary(row))
    if args.json:
        args.json.write_text(json.dumps(row, indent=1) + "\n")
    assert not row["cycles"]["left"], row["cycles"]["left"]


def summary(row):
    cycles = row["cycles"]
    ratios = [f"{load['ratio']} ({load['ratio_warmed']})" for load in row["loads"]]
    return (
        f"{cycles['cycles']} cycles, {cycles['failing']} of them failing: memory "
        f"{cycles['growth_percent']:+} %, {len(cycles['left'])} things left; a load takes "
        f"{', '.join(ratios)} times what it takes the framework (and to answer once)"
    )


if __name__ == "__main__":
    main()
