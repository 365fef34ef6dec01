# SPDX-License-Identifier: BUSL-1.1
"""The worker's side: plugin host, worker process, batch loop and engine loop."""
