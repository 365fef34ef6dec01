# SPDX-License-Identifier: BUSL-1.1
"""The reference plugin of MLOS Core."""

from mlos_plugin_echo.plugin import EchoPlugin

__all__ = ["EchoPlugin"]
