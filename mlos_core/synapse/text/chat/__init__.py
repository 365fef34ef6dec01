# SPDX-License-Identifier: BUSL-1.1
"""Chat messages to a prompt, through the model's own template."""
