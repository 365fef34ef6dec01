# SPDX-License-Identifier: BUSL-1.1
import numpy as np
import onnx
from mlos_plugin_onnx import OnnxPlugin


def test_the_example_is_a_valid_model_and_answers(tmp_path, arena):
    package = OnnxPlugin().example(tmp_path)
    onnx.checker.check_model(package.path, full_check=True)
    model = OnnxPlugin().load(package, "cpu", {})
    assert model.signature.describe() == "x: float32[?, 3] -> y: float32[?, 3]"
    assert model.signature.batched
    x = np.array([[0, 1, -2], [np.nan, np.inf, 0.5]], np.float32)
    np.testing.assert_array_equal(model.infer({"x": x}, arena)["y"], 2 * x + 1)
    model.close()
