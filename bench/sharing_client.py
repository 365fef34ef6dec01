# SPDX-License-Identifier: BUSL-1.1
"""One of the processes of `sharing.py`. It imports as little as it needs: its memory is measured.

    sharing_client.py KIND CASE WHERE THREADS QUESTIONS ANSWERS.npy SEED

KIND is `alone` (WHERE is the model file) or `shared` (WHERE is the daemon's socket), QUESTIONS
a folder with an array for each input. It says `ready`, waits for a line `BEGIN END`, in ns of
the monotonic clock, and asks one question after the other. At a second line it says when
the calls in between began and ended, how many answers were not bit for bit those of
ANSWERS, and by how much.
"""

import json
import select
import sys
import time
from pathlib import Path

import numpy as np

SPARE = 64 << 10


def mapped(file):
    """The array in a file, whose memory all processes share."""
    return np.asarray(np.load(file, mmap_mode="r"))


def alone(file, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [session.get_outputs()[0].name]
    return lambda inputs: session.run(names, inputs)[0]


def shared(socket, case, arrays, expected):
    from mlos_core.client import connect

    # Room for one question and its answer.
    asked, told = sum(array[0].nbytes for array in arrays.values()), expected[0].nbytes
    room = {"request_bytes": asked + SPARE, "reply_bytes": told + SPARE}
    model = connect(socket).model(case, **room)
    name = model.signature.outputs[0].name
    return lambda inputs: model.infer(inputs)[name]


def loop(ask, arrays, expected, number, begin, end):
    """Ask until told to stop; the calls that overlap the window, and what was not the same."""
    calls, differ, worst = [], 0, 0.0
    while not (time.monotonic_ns() > end and select.select([sys.stdin], [], [], 0)[0]):
        number = (number + 1) % len(expected)
        inputs = {name: array[number] for name, array in arrays.items()}
        sent = time.monotonic_ns()
        answer = ask(inputs)
        done = time.monotonic_ns()
        if done > begin and sent < end:
            calls.append((sent, done))
        if not np.array_equal(answer, expected[number]):
            differ += 1
            worst = max(worst, float(np.abs(answer - expected[number]).max()))
        del answer
    return {"calls": calls, "differ": differ, "worst": worst}


def main():
    kind, case, where, threads, questions, answers, seed = sys.argv[1:]
    arrays = {file.stem: mapped(file) for file in Path(questions).iterdir()}
    expected = mapped(answers)
    own = kind == "alone"
    ask = alone(where, int(threads)) if own else shared(where, case, arrays, expected)
    ask({name: array[0] for name, array in arrays.items()})
    print("ready", flush=True)
    begin, end = map(int, sys.stdin.readline().split())
    print(json.dumps(loop(ask, arrays, expected, int(seed), begin, end)), flush=True)


if __name__ == "__main__":
    main()
