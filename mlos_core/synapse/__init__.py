# SPDX-License-Identifier: BUSL-1.1
"""Synapse: the LLM engine."""
