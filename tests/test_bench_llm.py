# SPDX-License-Identifier: BUSL-1.1
"""The arithmetic of `bench/llm.py`; that it measures at all is seen by running it."""

from pathlib import Path

import pytest

MACHINE = (10e9, 1e12)
WORK = (60_000_000, 40_000_000, 100_000_000, 30_000_000, 20_000)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "bench"))
    import llm_limits
    import llm_plot
    import llm_rows

    return llm_limits, llm_rows, llm_plot


def test_one_stream_is_bound_by_memory_and_a_prompt_by_arithmetic(bench):
    limits, _, _ = bench
    machine, work = limits.Machine(*MACHINE), limits.Work(*WORK)
    rate, by = limits.limit(machine, work, "decode-1")
    assert by == "memory"
    assert rate == pytest.approx(10e9 / (100e6 + 40 * 20_000))
    rate, by = limits.limit(machine, work, "prefill-512")
    assert by == "int8"
    assert rate == pytest.approx(512 / (2 * (100e6 * 512 + 30e6) / 1e12))


def test_rows_have_a_rate_a_ratio_and_a_part_of_the_limit(bench):
    limits, rows, plot = bench
    ours = rows.throughput("synapse", "decode-4", [[20_000_000, 40_000_000, 40_000_000]])
    theirs = rows.throughput("llama.cpp", "decode-4", [[80_000_000]])
    slow = rows.plain("synapse", "start-daemon", "s", [0.5])
    base = rows.plain("llama.cpp", "start", "s", [1.0])
    made = [ours, theirs, slow, base]
    rows.compare(made, against={"start-daemon": "start"})
    rows.bound(made, limits.Machine(*MACHINE), limits.Work(*WORK))
    assert (ours["median"], ours["unit"], ours["n"]) == (100.0, "tok/s", 3)
    assert (ours["ratio"], theirs["ratio"], slow["ratio"]) == (2.0, 1.0, 0.5)
    assert ours["of_limit"] == pytest.approx(ours["median"] / ours["limit"], rel=1e-3)
    assert "limit" not in slow
    table = plot.markdown({"rows": made})
    assert "| decode-4 | tok/s | 100 | 50 | 2.00 |" in table
