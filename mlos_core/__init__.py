# SPDX-License-Identifier: BUSL-1.1
"""MLOS Core: models in other processes, called through shared memory.

Importing the package loads nothing else; see `mlos_core.client` for the client.
"""

__version__ = "0.1.0"
