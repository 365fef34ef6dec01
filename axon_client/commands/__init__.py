# SPDX-License-Identifier: BUSL-1.1
"""The commands of `axon`, each imported when it is called; see `axon_client.cli`."""
