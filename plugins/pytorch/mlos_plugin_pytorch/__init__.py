# SPDX-License-Identifier: BUSL-1.1
"""PyTorch models in MLOS Core."""

from mlos_plugin_pytorch.plugin import PyTorchPlugin

__all__ = ["PyTorchPlugin"]
