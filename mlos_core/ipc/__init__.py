# SPDX-License-Identifier: BUSL-1.1
"""The channel from both ends, its headers, and the control socket's frames."""
