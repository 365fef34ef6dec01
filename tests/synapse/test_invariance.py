# SPDX-License-Identifier: BUSL-1.1
"""Logits depend on the text before them and on nothing else.

`INVARIANCE_SCHEDULES` runs more of them; tests/synapse/invariance.py does so on real models.
"""

import os

import pytest
import tiny_llm

from mlos_core.synapse.executor import Executor
from mlos_core.synapse.native import ISAS

from .invariance import instruction_sets, run_schedules

SCHEDULES = int(os.environ.get("INVARIANCE_SCHEDULES", "25"))
MODELS = {
    "Q4_1": {},
    "bfloat16": {"kind": tiny_llm.BF16, "embedding": tiny_llm.BF16},
    "gemma-like": {"activation": "gelu_tanh", "logit_softcap": 4.0, "embedding_scale": 8.0},
}


def wanted_by(model, isas, schedules, *, threads=2, **options):
    """Run schedules on each instruction set; all must agree on every logit."""
    wanted = {}
    for number, isa in enumerate(isas):
        executor = Executor(
            tiny_llm.make(**model), threads=threads, isa=ISAS[isa], kv_blocks=60, **options
        )
        run_schedules(executor, schedules, wanted, seed=number % 2, widest=300)
        executor.close()
    return wanted


@pytest.mark.parametrize("isa", [name for name in instruction_sets() if name != "reference"])
@pytest.mark.parametrize("name", MODELS)
def test_no_schedule_changes_a_bit(name, isa):
    assert len(wanted_by(MODELS[name], [isa], SCHEDULES)) > 50


@pytest.mark.parametrize("name", MODELS)
def test_instruction_sets_agree_to_the_last_bit(name):
    sets = [isa for isa in instruction_sets() for _ in range(2)]
    assert len(wanted_by(MODELS[name], sets, 2)) > 50


@pytest.mark.parametrize("kv_dtype", ["float16", "int8", "float32"])
def test_no_schedule_changes_a_bit_whatever_the_cache_is_made_of(kv_dtype):
    sets = [isa for isa in instruction_sets() if isa != "reference"] or ["reference"]
    assert len(wanted_by({}, sets, 5, kv_dtype=kv_dtype)) > 50


@pytest.mark.parametrize("precision", ["int8", "int16"])
def test_no_schedule_changes_a_bit_at_any_precision(precision):
    sets = [isa for isa in instruction_sets() if isa != "reference"] or ["reference"]
    assert len(wanted_by({}, sets, 5, precision=precision)) > 50


def test_the_number_of_threads_changes_no_bit():
    best = ISAS[instruction_sets()[-1]]
    wanted = {}
    for threads in (1, 2, 3, 5):
        executor = Executor(tiny_llm.make(), threads=threads, isa=best, kv_blocks=60)
        run_schedules(executor, 4, wanted, widest=300)
        executor.close()
    assert len(wanted) > 50
