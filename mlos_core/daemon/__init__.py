# SPDX-License-Identifier: BUSL-1.1
"""The daemon: control plane only. No request of the data plane passes through it."""
