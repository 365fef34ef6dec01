# SPDX-License-Identifier: BUSL-1.1
"""The checks: each a function whose name is the sentence that is to be true.

A check gets the subject, raises `Failed` or `Skipped` with a reason, and may return a note.
"""
