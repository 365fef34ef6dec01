# SPDX-License-Identifier: BUSL-1.1
"""Contestants and judge of `llm_accuracy.py`, each run as a process of its own."""
