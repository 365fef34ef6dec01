# SPDX-License-Identifier: BUSL-1.1
"""Language models in MLOS Core, on the project's own engine."""

from mlos_plugin_synapse.plugin import SynapsePlugin

__all__ = ["SynapsePlugin"]
