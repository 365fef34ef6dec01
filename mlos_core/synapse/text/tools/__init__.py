# SPDX-License-Identifier: BUSL-1.1
"""Tool calls: definitions into the prompt, calls out of the answer."""

from mlos_core.synapse.text.tools.parser import ToolCall, ToolParser

__all__ = ["ToolCall", "ToolParser"]
