# SPDX-License-Identifier: BUSL-1.1
"""One's own Python as a model of MLOS Core."""

from mlos_plugin_python.plugin import PythonPlugin

__all__ = ["PythonPlugin"]
