# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl demo`: from a registry to an answer, in one command."""
