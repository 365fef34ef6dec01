# SPDX-License-Identifier: BUSL-1.1
import math

import pytest

from mlos_core.errors import InvalidInput


@pytest.mark.parametrize(
    ("method", "params", "named"),
    [
        ("load_model", {"name": "m", "timeout": math.nan}, "timeout is nan"),
        ("load_model", {"name": "m", "timeout": -1.0}, "timeout below 0"),
        ("swap_model", {"name": "m", "timeout": "x"}, "timeout: Expected"),
        ("unload_model", {"name": 7}, "name: Expected"),
        ("route_model", {"name": "m", "weights": [1]}, "weights: Expected"),
        ("route_model", {"name": "m", "wieghts": {}}, "wieghts"),
        ("swap_plugin", {"name": "echo", "canary": 1e12}, "window"),
        ("swap_model", {"name": "m", "canary": 1.0, "max_error_rate": 2.0}, "error rate"),
    ],
)
def test_parameters_that_do_not_fit_are_named(daemon, echo_file, method, params, named):
    daemon.call("register", name="m", path=echo_file())
    with pytest.raises(InvalidInput, match=named):
        daemon.call(method, **params)
