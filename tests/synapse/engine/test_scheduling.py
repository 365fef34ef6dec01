# SPDX-License-Identifier: BUSL-1.1
"""Many requests at once, on an executor that notices every mistake in the books."""

import random

import pytest
from fake_llm import Rig, greedy, logits_after, text_input, tokens_input

from mlos_core.errors import InvalidInput, MlosError, Overloaded
from mlos_core.synapse.engine.pace import Pace


def prompt_of(rng, longest):
    """Some prompts begin alike, some are equal."""
    base = [(7 * i + rng.randrange(3)) % 250 for i in range(rng.randrange(1, longest))]
    common = list(range(rng.choice([0, 16, 40, 64])))
    return (common + base)[:longest]


@pytest.mark.parametrize("seed", range(30))
def test_every_request_gets_what_it_gets_alone(seed):
    """Batches, chunks, cache hits, preemptions, pauses and cancellations in random order."""
    rng = random.Random(seed)
    block_size = rng.choice([4, 16, 32])
    rig = Rig(
        max_num_seqs=rng.choice([1, 3, 8]),
        tokens=rng.choice([8, 33, 64]),
        mixed=rng.choice([9, 20, 64]),
        kv_blocks=rng.choice([200, 300, 600]) // block_size,
        block_size=block_size,
        context_length=180,
    )
    asked, cancelled, paused = {}, set(), set()
    for _ in range(rng.randrange(8, 25)):
        for _ in range(rng.randrange(4)):
            prompt, count = prompt_of(rng, 120), rng.randrange(1, 50)
            owner = rng.choice(["a", "b"])
            asked[rig.submit(prompt, temperature=0, max_tokens=count, owner=owner)] = prompt, count
        for _ in range(rng.randrange(12)):
            rig.step()
        if rig.running and rng.random() < 0.3:
            victim = rng.choice(sorted(rig.running))
            cancelled.add(victim)
            rig.cancel(victim)
        if rig.running and rng.random() < 0.4:
            one = rng.choice(sorted(rig.running))
            (rig.engine.resume if one in paused else rig.engine.pause)(one)
            paused ^= {one}
    for one in paused:
        rig.engine.resume(one)
    rig.run()
    for id, (prompt, count) in asked.items():
        expected = greedy(prompt, count)
        got = rig.tokens(id)
        assert got == (expected[: len(got)] if id in cancelled else expected)
    assert rig.engine.scheduler.blocks.used == 0


def test_a_prompt_that_was_there_before_is_not_computed_again():
    rig, prompt = Rig(), list(range(100))
    rig.ask(prompt, max_tokens=2, temperature=0)
    before = rig.executor.rows
    final = rig.ask(prompt, max_tokens=1, temperature=0)
    assert final.parameters["usage"]["cached_tokens"] == 96
    assert rig.executor.rows == before + 4


def test_generated_tokens_are_found_by_the_next_turn_of_a_chat():
    rig, prompt = Rig(), list(range(50))
    answer = greedy(prompt, 60)
    rig.ask(prompt, max_tokens=60, temperature=0)
    final = rig.ask(prompt + answer + [1, 2], max_tokens=1)
    assert final.parameters["usage"]["cached_tokens"] == (50 + len(answer) - 1) // 32 * 32


def test_what_one_owner_sent_makes_nothing_faster_for_another():
    rig, prompt = Rig(), list(range(100))
    rig.ask(prompt, max_tokens=1, owner="a")
    assert rig.ask(prompt, max_tokens=1, owner="b").parameters["usage"]["cached_tokens"] == 0
    salted = rig.ask(prompt, max_tokens=1, owner="a", cache_salt="s")
    assert salted.parameters["usage"]["cached_tokens"] == 0
    assert rig.ask(prompt, max_tokens=1, owner="a").parameters["usage"]["cached_tokens"] == 96


def test_a_long_prompt_holds_up_nobody_who_generates():
    rig = Rig(tokens=64, mixed=16, context_length=1024)
    short = rig.submit([1, 2, 3], temperature=0, max_tokens=30, ignore_eos=True)
    rig.step()
    rig.submit([i % 200 for i in range(800)], temperature=0, max_tokens=2)
    for _ in range(20):
        before = len(rig.events[short])
        rig.step()
        assert len(rig.events[short]) == before + 1
        assert rig.executor.widths[-1] <= 16
    rig.run()
    assert max(rig.executor.widths) == 64


def test_prompts_are_cut_so_that_a_step_ends_in_time():
    pace = Pace(0.02, most=512)
    assert pace.rows() == 512
    pace.learn(4, 1.0)
    assert pace.rows() == 512
    pace.learn(100, 0.01)
    assert pace.rows() == 200
    for _ in range(40):
        pace.learn(200, 0.1)
    assert pace.rows() == 40
    pace.learn(40, 60.0)
    assert pace.rows() == 32
    for _ in range(100):
        pace.learn(512, 0.001)
    assert pace.rows() == 512


def test_a_slow_machine_still_gets_on_with_prompts():
    rig = Rig(tokens=64, mixed=64, mixed_seconds=1e-9)
    rig.submit([1], temperature=0, max_tokens=60, ignore_eos=True)
    rig.ask(list(range(60)), max_tokens=1)
    prompt = list(range(100, 200))
    assert rig.tokens(rig.submit_and_run(prompt, temperature=0, max_tokens=4)) == greedy(prompt, 4)


def test_a_step_computes_no_more_tokens_than_its_budget():
    rig = Rig(tokens=40, mixed=24)
    for length in (90, 30, 70, 5, 64):
        rig.submit(list(range(length)), max_tokens=20)
    rig.run()
    assert max(rig.executor.widths) <= 40


def test_who_came_first_is_let_in_first():
    rig = Rig(max_num_seqs=2)
    ids = [rig.submit([i + 1], temperature=0, max_tokens=5, ignore_eos=True) for i in range(6)]
    ended = []
    while rig.running:
        ended += [event.id for event in rig.step() if event.final]
    assert ended == ids


def test_when_blocks_run_out_the_youngest_waits_and_loses_nothing():
    rig = Rig(kv_blocks=10, block_size=4, context_length=40)
    prompts = [[i * 9 + j for j in range(9)] for i in range(3)]
    ids = [rig.submit(p, temperature=0, max_tokens=25, ignore_eos=True) for p in prompts]
    ended = []
    while rig.running:
        ended += [event.id for event in rig.step() if event.final]
    assert ended == ids
    assert rig.engine.scheduler.preemptions > 0
    for id, prompt in zip(ids, prompts, strict=True):
        expected = list(prompt)
        for _ in range(25):
            expected.append(int(logits_after(expected).argmax()))
        assert rig.tokens(id) == expected[9:]


def test_one_request_may_fill_the_whole_cache():
    rig = Rig(kv_blocks=4, block_size=8, context_length=500)
    id = rig.submit_and_run([1, 2, 3], ignore_eos=True)
    assert len(rig.tokens(id)) == 29
    assert rig.ended[id].parameters["finish_reasons"] == ["length"]


def test_what_can_never_fit_is_refused_with_the_numbers():
    rig = Rig(kv_blocks=4, block_size=8, context_length=20)
    with pytest.raises(InvalidInput, match="has 20 tokens; the model's context has 20"):
        rig.submit(list(range(20)))
    rig = Rig(kv_blocks=4, block_size=8, context_length=500)
    with pytest.raises(InvalidInput, match="has 32 tokens; the KV cache holds 32"):
        rig.submit(list(range(32)))
    assert len(rig.tokens(rig.submit_and_run(list(range(31))))) == 1


def test_a_full_line_is_overloaded_and_has_room_again_later():
    rig = Rig(max_num_seqs=2, max_waiting=3)
    ids = [rig.submit([1], max_tokens=3) for _ in range(5)]
    with pytest.raises(Overloaded, match="5 sequences"):
        rig.submit([1])
    with pytest.raises(Overloaded):
        rig.submit([1], n=4)
    rig.cancel(ids[0])
    rig.submit([1], max_tokens=1)
    rig.run()
    rig.submit_and_run([1], max_tokens=1)


def test_a_slow_reader_gives_its_place_up_to_those_who_can_go_on():
    rig = Rig(max_num_seqs=1)
    slow = rig.submit([1, 2], temperature=0, max_tokens=10)
    rig.step()
    rig.engine.pause(slow)
    other = rig.submit([3, 4], temperature=0, max_tokens=10)
    while other in rig.running:
        rig.step()
    assert len(rig.events[slow]) == 1
    rig.engine.resume(slow)
    rig.run()
    assert rig.tokens(slow) == greedy([1, 2], 10)


def test_a_paused_stream_holds_no_blocks_that_others_need():
    rig = Rig(kv_blocks=4, block_size=8, context_length=32)
    slow = rig.submit(list(range(20)), temperature=0, max_tokens=10, ignore_eos=True)
    rig.step()
    rig.engine.pause(slow)
    other = rig.submit(list(range(30)), temperature=0, max_tokens=2)
    while other in rig.running:
        rig.step()
    rig.engine.resume(slow)
    rig.run()
    assert len(rig.tokens(slow)) == 10


def test_a_request_may_be_paused_before_it_began_and_cancelled_while_paused():
    rig = Rig()
    one, two = rig.submit([1], max_tokens=3), rig.submit([2], max_tokens=3)
    rig.engine.pause(one)
    rig.engine.pause(two)
    assert list(rig.step()) == []
    rig.cancel(two)
    rig.engine.resume(one)
    rig.run()
    assert len(rig.events[two]) == 0
    assert rig.engine.scheduler.parked == set()


@pytest.mark.parametrize("steps", range(12))
def test_a_cancelled_request_leaves_nothing_behind_at_any_step(steps):
    rig = Rig(tokens=16, mixed=16)
    other = rig.submit([9], temperature=0, max_tokens=30)
    id = rig.submit(list(range(70)), n=2, max_tokens=8)
    for _ in range(steps):
        rig.step()
    rig.cancel(id)
    rig.cancel(id)
    rig.cancel(12345)
    rig.run()
    assert rig.tokens(other) == greedy([9], 30)
    assert rig.engine.scheduler.blocks.used == 0


def test_choices_share_the_blocks_of_their_prompt():
    rig = Rig()
    final = rig.ask(list(range(96)), n=4, max_tokens=5, ignore_eos=True)
    assert rig.executor.rows == 96 + 3 * 32 + 4 * 4
    assert final.parameters["usage"]["completion_tokens"] == 20
    assert len(final.outputs["text"]) == 4


def test_choices_differ_and_each_is_the_same_in_every_run():
    rig = Rig()
    ids = [rig.submit_and_run([5, 6], n=3, seed=1, max_tokens=20) for _ in range(2)]
    answers = [[rig.tokens(id, choice) for choice in range(3)] for id in ids]
    assert answers[0] == answers[1]
    assert len({tuple(tokens) for tokens in answers[0]}) == 3


def test_a_failing_executor_hurts_nobody_after_it():
    rig = Rig()
    ids = [rig.submit([i], temperature=0, max_tokens=9) for i in range(3)]
    rig.step()
    rig.executor.fails = lambda: True
    with pytest.raises(RuntimeError, match="on fire"):
        rig.step()
    for id in ids:
        rig.cancel(id)
    rig.executor.fails = lambda: False
    assert rig.tokens(rig.submit_and_run([1], temperature=0, max_tokens=9)) == greedy([1], 9)


def test_logits_that_are_no_numbers_end_one_request_only():
    rig = Rig()
    rig.executor.broken = lambda tokens: tokens[0] == 66 and len(tokens) == 5
    bad = rig.submit([66, 1], max_tokens=9, temperature=0, ignore_eos=True)
    good = rig.submit([7, 1], max_tokens=9, temperature=0)
    rig.run()
    assert "not finite" in str(rig.ended[bad].error)
    assert isinstance(rig.ended[bad].error, MlosError)
    assert rig.tokens(good) == greedy([7, 1], 9)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "no input"),
        (tokens_input([1]) | text_input("a"), "text and tokens"),
        (tokens_input([259]), "token 259 is not in the vocabulary"),
        (tokens_input([5, -1]), "token -1"),
        (tokens_input([]), "empty"),
        (text_input(""), "empty"),
        (text_input(b"\xff"), "UTF-8"),
        (text_input("x" * 40000), "40000 characters"),
        (text_input("{", "messages"), "messages are not understood"),
        (text_input("[]", "messages"), "no messages"),
        (text_input("[3]", "messages"), "messages are not understood"),
        (text_input('[{"a":' + "[" * 5000, "messages"), "messages are not understood"),
    ],
)
def test_a_wrong_prompt_is_told_what_is_wrong(inputs, words):
    with pytest.raises(InvalidInput, match=words):
        Rig().submit(inputs)


def test_the_statistics_count_what_happened():
    rig = Rig(max_num_seqs=2)
    for _ in range(4):
        rig.submit(list(range(40)), temperature=0, max_tokens=3, ignore_eos=True)
    rig.step()
    busy = rig.engine.statistics()
    assert busy["num_requests_running"] == 2
    assert busy["num_requests_waiting"] == 2
    assert 0 < busy["kv_cache_usage_perc"] < 1
    rig.run()
    done = rig.engine.statistics()
    assert done["num_requests_running"] == done["num_requests_waiting"] == 0
    assert done["prompt_tokens"] == 160
    assert done["generation_tokens"] == 12
    assert done["prefix_cache_queries"] == 160
    assert done["prefix_cache_hits"] == 64
    assert done["request_success_length"] == 4
    assert done["time_to_first_token_seconds"].count == 4
    assert done["inter_token_latency_seconds"].count == 8


def test_choices_that_have_ended_wait_for_nothing_and_take_no_place():
    rig = Rig(max_num_seqs=1, max_waiting=3)
    id = rig.submit([1], n=4, max_tokens=3, ignore_eos=True)
    waiting = []
    while id in rig.running:
        rig.step()
        waiting.append(rig.engine.statistics()["num_requests_waiting"])
    assert waiting == [3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0]


def test_a_place_is_free_as_soon_as_a_choice_has_ended():
    rig = Rig(max_num_seqs=1, max_waiting=1)
    rig.submit([1], n=2, max_tokens=2, ignore_eos=True)
    for _ in range(2):
        rig.step()
    rig.submit([2], max_tokens=1)
    with pytest.raises(Overloaded):
        rig.submit([3], max_tokens=1)
    rig.run()


def one_after_the_other(rig):
    """Choices that wait for each other; of three the last is the shortest."""
    return rig.submit([1], n=3, max_tokens=500, key=1)


def test_choices_that_ran_one_after_the_other_send_their_events_in_portions():
    rig = Rig(max_num_seqs=1, context_length=2048)
    id = one_after_the_other(rig)
    most = 0
    while id in rig.running:
        most = max(most, len(rig.step()))
    assert [len(rig.tokens(id, choice)) for choice in range(3)] == [500, 500, 75]
    assert most <= 300


def test_a_paused_request_sends_nothing_even_if_its_choices_have_ended():
    rig = Rig(max_num_seqs=1, context_length=2048)
    id = one_after_the_other(rig)
    while not rig.events[id] or rig.engine.scheduler.running:
        rig.step()
    assert id in rig.running
    before = len(rig.events[id])
    rig.engine.pause(id)
    for _ in range(3):
        assert not rig.step()
    assert len(rig.events[id]) == before
    rig.engine.resume(id)
    rig.run()
    assert rig.ended[id].final
