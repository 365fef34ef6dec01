# SPDX-License-Identifier: BUSL-1.1
"""The commands `mlosd` and `mlosctl`. Nothing imports this package."""
