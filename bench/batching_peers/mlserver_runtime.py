# SPDX-License-Identifier: BUSL-1.1
"""An ONNX model in MLServer, as its users write it: a custom runtime. Runs in a venv of its own."""

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Onnx(MLModel):
    """One session per worker; MLServer joins requests along dimension 0."""

    async def load(self):
        given = self.settings.parameters.extra
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = given["threads"]
        spin = "1" if given["spin"] else "0"
        options.add_session_config_entry("session.intra_op.allow_spinning", spin)
        self.session = ort.InferenceSession(
            given["file"], options, providers=["CPUExecutionProvider"]
        )
        self.output = self.session.get_outputs()[0].name
        return True

    async def predict(self, payload):
        batch = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        (rows,) = self.session.run([self.output], batch)
        output = NumpyCodec.encode_output(self.output, rows)
        return InferenceResponse(model_name=self.name, outputs=[output])
