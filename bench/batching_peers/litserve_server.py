# SPDX-License-Identifier: BUSL-1.1
"""LitServe with an ONNX model, as its users write it. Runs in a venv of its own.

litserve_server.py '{"file", "inputs": {name: dtype}, "port", "workers", ...}'
"""

import json
import sys

import litserve
import numpy as np
import onnxruntime as ort

GIVEN = json.loads(sys.argv[1])


class Onnx(litserve.LitAPI):
    """One session per worker; requests are rows."""

    def setup(self, device):
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = GIVEN["threads"]
        spin = "1" if GIVEN["spin"] else "0"
        options.add_session_config_entry("session.intra_op.allow_spinning", spin)
        self.session = ort.InferenceSession(
            GIVEN["file"], options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request):
        return {n: np.array(request[n], dtype) for n, dtype in GIVEN["inputs"].items()}

    def batch(self, inputs):
        return {name: np.stack([one[name] for one in inputs]) for name in GIVEN["inputs"]}

    def predict(self, batch):
        return self.session.run(None, batch)[0]

    def unbatch(self, output):
        return list(output)

    def encode_response(self, row):
        return {"output": row.tolist()}


if __name__ == "__main__":
    api = Onnx(max_batch_size=GIVEN["size"], batch_timeout=GIVEN["delay_us"] / 1e6)
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=GIVEN["workers"],
        fast_queue=GIVEN["fast_queue"],
        timeout=60,
    )
    server.run(
        host="127.0.0.1",
        port=GIVEN["port"],
        num_api_servers=GIVEN["front"],
        log_level="error",
        generate_client_file=False,
        pretty_logs=False,
    )
