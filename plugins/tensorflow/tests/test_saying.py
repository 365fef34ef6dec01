# SPDX-License-Identifier: BUSL-1.1
import pytest
from mlos_plugin_tensorflow.saying import first_line

GRAPH = """Graph execution error:

Detected at node Reshape defined at (most recent call last):
  File "serve.py", line 6, in <module>

  File "serve.py", line 5, in serve

Input to reshape is a tensor with 4 values, but the requested shape requires a multiple of 3
\t [[{{node Reshape}}]] [Op:__inference_f_9]"""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            GRAPH,
            "Input to reshape is a tensor with 4 values, but the requested shape requires "
            "a multiple of 3",
        ),
        (
            "{{function_node __inference_f}} indices[0,0] = 7 is not in [0, 3)\n [[{{node g}}]]",
            "indices[0,0] = 7 is not in [0, 3)",
        ),
        (
            ValueError(
                "Exception encountered when calling A.call().\n\n\x1b[1mno such size\x1b[0m\n"
            ),
            "no such size",
        ),
        (ValueError(), "ValueError"),
        ("", "no reason given"),
    ],
)
def test_of_many_lines_the_one_that_tells_is_kept(said, told):
    assert first_line(said) == told
