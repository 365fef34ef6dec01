/* SPDX-License-Identifier: BUSL-1.1 */
/* The life of a slot, the submission ring, and who may not touch either. */
#include <string.h>

#include "check.h"
#include "rig.h"

static void a_request_goes_round(void) {
    rig r = rig_make(4, 4096, 4096);
    int slot = mlos_slot_acquire(r.client);
    CHECK(slot >= 0);
    CHECK_EQUAL(rig_submit(&r, (uint32_t)slot, "ask", -1), 0);
    CHECK_EQUAL(mlos_poll(r.client, (uint32_t)slot), MLOS_E_AGAIN);
    int64_t key = mlos_port_poll(r.port);
    CHECK_EQUAL(rig_slot(key), slot);
    mlos_task *task = mlos_port_task(r.port, 0, (uint32_t)slot);
    CHECK_EQUAL(task->header_len, 3);
    CHECK(!memcmp(task->header, "ask", 3));
    CHECK_EQUAL(task->attempts, 0);
    CHECK_EQUAL(rig_answer(r.port, (uint32_t)slot, "reply"), 0);
    CHECK_EQUAL(mlos_wait(r.client, (uint32_t)slot, 0), 5);
    CHECK(rig_says(&r, (uint32_t)slot, "reply"));
    CHECK_EQUAL(mlos_slot_release(r.client, (uint32_t)slot), 0);
    CHECK_EQUAL(mlos_slots_free(r.client), 4);
    CHECK_EQUAL(mlos_port_poll(r.port), MLOS_E_AGAIN);
    rig_end(&r);
}

static void every_slot_is_given_once(void) {
    rig r = rig_make(3, 4096, 4096);
    bool seen[3] = {false};
    for (int i = 0; i < 3; i++) {
        int slot = mlos_slot_acquire(r.client);
        CHECK(slot >= 0 && slot < 3 && !seen[slot]);
        seen[slot] = true;
    }
    CHECK_EQUAL(mlos_slot_acquire(r.client), MLOS_E_AGAIN);
    CHECK_EQUAL(mlos_slot_release(r.client, 1), 0);
    CHECK_EQUAL(mlos_slot_acquire(r.client), 1);
    rig_end(&r);
}

static void requests_come_out_in_order_over_many_rounds_of_the_ring(void) {
    rig r = rig_make(3, 4096, 4096); /* a ring of 4 */
    for (uint32_t round = 0; round < 50; round++) {
        for (uint32_t i = 0; i < 3; i++) CHECK_EQUAL(rig_submit(&r, (i + round) % 3, "x", -1), 0);
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t slot = rig_slot(mlos_port_poll(r.port));
            CHECK_EQUAL(slot, (i + round) % 3);
            CHECK_EQUAL(rig_answer(r.port, slot, "y"), 0);
        }
        CHECK_EQUAL(mlos_port_poll(r.port), MLOS_E_AGAIN);
    }
    rig_end(&r);
}

static void a_slot_under_way_is_neither_submitted_nor_released(void) {
    rig r = rig_make(2, 4096, 4096);
    CHECK_EQUAL(rig_submit(&r, 0, "a", -1), 0);
    CHECK_EQUAL(rig_submit(&r, 0, "a", -1), MLOS_E_AGAIN);
    CHECK_EQUAL(mlos_slot_release(r.client, 0), MLOS_E_AGAIN);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
    CHECK_EQUAL(rig_submit(&r, 0, "a", -1), MLOS_E_AGAIN);
    CHECK_EQUAL(rig_answer(r.port, 0, "b"), 0);
    CHECK_EQUAL(rig_submit(&r, 0, "a", -1), 0); /* an answered one is freed in passing */
    rig_end(&r);
}

static void a_second_answer_changes_nothing(void) {
    rig r = rig_make(2, 4096, 4096);
    CHECK_EQUAL(rig_submit(&r, 0, "a", -1), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
    CHECK_EQUAL(rig_answer(r.port, 0, "first"), 0);
    CHECK_EQUAL(rig_answer(r.port, 0, "second"), MLOS_E_LOST);
    CHECK(rig_says(&r, 0, "first"));
    CHECK_EQUAL(rig_statistics(r.port).lost, 1);
    rig_end(&r);
}

static void a_stale_worker_loses_its_compare_and_swap(void) {
    rig r = rig_make(2, 4096, 4096);
    mlos_channel *server;
    mlos_port *successor = rig_port(&r, 2, &server);
    CHECK_EQUAL(rig_submit(&r, 0, "a", -1), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
    CHECK_EQUAL(mlos_port_recover(successor, 0, 2, NULL, 0), 1);
    CHECK_EQUAL(rig_slot(mlos_port_poll(successor)), 0);
    CHECK_EQUAL(rig_answer(r.port, 0, "stale"), MLOS_E_LOST);
    CHECK_EQUAL(mlos_poll(r.client, 0), MLOS_E_AGAIN);
    CHECK_EQUAL(rig_answer(successor, 0, "right"), 0);
    CHECK(rig_says(&r, 0, "right"));
    /* and again when the slot has moved on to another request */
    CHECK_EQUAL(rig_submit(&r, 0, "b", -1), 0);
    CHECK_EQUAL(rig_answer(r.port, 0, "stale"), MLOS_E_LOST);
    CHECK_EQUAL(rig_slot(mlos_port_poll(successor)), 0);
    CHECK_EQUAL(rig_answer(r.port, 0, "stale"), MLOS_E_LOST);
    CHECK_EQUAL(rig_answer(successor, 0, "again"), 0);
    CHECK(rig_says(&r, 0, "again"));
    mlos_port_free(successor);
    mlos_channel_unmap(server);
    rig_end(&r);
}

static void a_generation_wraps(void) {
    rig r = rig_make(1, 4096, 4096);
    mlos_channel_unmap(r.client);
    atomic_store(&((mlos_slot *)(mlos_channel_base(r.server) +
                                 ((mlos_header *)mlos_channel_base(r.server))->slots_off))->word,
                 mlos_word(UINT32_MAX, 0, 0, MLOS_FREE));
    r.client = mlos_channel_map(r.fd, r.event_fd, 0);
    r.header = (mlos_header *)mlos_channel_base(r.client);
    r.slots = (mlos_slot *)((uint8_t *)r.header + r.header->slots_off);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(rig_submit(&r, 0, "a", -1), 0);
        CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
        CHECK_EQUAL(rig_answer(r.port, 0, "b"), 0);
        CHECK_EQUAL(mlos_wait(r.client, 0, 0), 1);
    }
    CHECK_EQUAL(mlos_word_generation(atomic_load(&r.slots[0].word)), 1);
    rig_end(&r);
}

static void an_equal_header_is_told(void) {
    rig r = rig_make(2, 4096, 4096);
    const char *texts[] = {"one", "one", "two", "two", "one"};
    const int same[] = {0, 1, 0, 1, 0};
    for (int i = 0; i < 5; i++) {
        CHECK_EQUAL(rig_submit(&r, 1, texts[i], -1), 0);
        int64_t key = mlos_port_poll(r.port);
        CHECK_EQUAL(key & 1, same[i]);
        CHECK_EQUAL(rig_answer(r.port, 1, "y"), 0);
    }
    rig_end(&r);
}

static void the_caller_knows_an_equal_reply(void) {
    rig r = rig_make(1, 4096, 4096);
    const char *known = "reply";
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
        CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
        CHECK_EQUAL(rig_answer(r.port, 0, i ? "other" : "reply"), 0);
        uint32_t length;
        const uint8_t *reply = mlos_reply(r.client, 0, &length);
        CHECK_EQUAL(!memcmp(reply, known, length), !i);
    }
    rig_end(&r);
}

static void a_header_outside_the_segment_is_a_fault(void) {
    rig r = rig_make(1, 4096, 4096);
    const uint64_t size = mlos_channel_size(r.client);
    const struct {
        uint64_t off;
        uint32_t len;
    } bad[] = {{size, 1}, {size - 1, 2}, {UINT64_MAX, 1}, {0, UINT32_MAX}, {0, (1u << 20) + 1},
               {UINT64_MAX - 3, 8}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQUAL(mlos_submit(r.client, r.bell, 0, bad[i].off, bad[i].len, -1), 0);
        int64_t key = mlos_port_poll(r.port);
        CHECK(rig_fault(key));
        CHECK_EQUAL(mlos_port_task(r.port, 0, 0)->fault, MLOS_FAULT_HEADER);
        CHECK_EQUAL(rig_answer(r.port, 0, "no"), 0);
        CHECK_EQUAL(mlos_wait(r.client, 0, 0), 2);
    }
    CHECK_EQUAL(mlos_submit(r.client, r.bell, 0, size, 0, -1), 0); /* nothing, at the very end */
    CHECK(!rig_fault(mlos_port_poll(r.port)));
    rig_end(&r);
}

static void a_cancelled_request_does_not_start(void) {
    rig r = rig_make(1, 4096, 4096);
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
    mlos_cancel(r.client, 0);
    CHECK(rig_fault(mlos_port_poll(r.port)));
    CHECK_EQUAL(mlos_port_task(r.port, 0, 0)->fault, MLOS_FAULT_CANCELLED);
    CHECK_EQUAL(rig_answer(r.port, 0, "no"), 0);
    /* the next request in that slot is another one */
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
    CHECK(!rig_fault(mlos_port_poll(r.port)));
    CHECK_EQUAL(mlos_task_stop(r.port, 0, 0), 0);
    mlos_cancel(r.client, 0);
    CHECK_EQUAL(mlos_task_stop(r.port, 0, 0), 1);
    rig_end(&r);
}

static void an_expired_request_does_not_start(void) {
    rig r = rig_make(1, 4096, 4096);
    CHECK_EQUAL(rig_submit(&r, 0, "x", 0), 0);
    CHECK(rig_fault(mlos_port_poll(r.port)));
    CHECK_EQUAL(mlos_port_task(r.port, 0, 0)->fault, MLOS_FAULT_EXPIRED);
    CHECK_EQUAL(mlos_task_stop(r.port, 0, 0), 1);
    rig_end(&r);
}

static void a_ring_that_contradicts_itself_is_given_up(void) {
    rig r = rig_make(2, 4096, 4096);
    atomic_store(&r.header->tail, 1000);
    CHECK_EQUAL(mlos_port_poll(r.port), MLOS_E_TICK);
    CHECK_EQUAL(mlos_port_take_broken(r.port), 0);
    CHECK_EQUAL(mlos_port_poll(r.port), MLOS_E_AGAIN);
    rig_end(&r);
}

static void nonsense_in_the_ring_ends_after_one_round(void) {
    rig r = rig_make(4, 4096, 4096);
    _Atomic uint32_t *ring = (void *)((uint8_t *)r.header + r.header->ring_off);
    for (int i = 0; i < 4; i++) atomic_store(&ring[i], 77);
    atomic_store(&r.header->tail, 4);
    CHECK_EQUAL(mlos_port_poll(r.port), MLOS_E_TICK);
    CHECK_EQUAL(mlos_port_poll(r.port), MLOS_E_AGAIN);
    CHECK_EQUAL(mlos_port_take_broken(r.port), MLOS_E_AGAIN);
    rig_end(&r);
}

static void a_channel_leaves_with_its_last_held_request(void) {
    rig r = rig_make(2, 4096, 4096);
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
    CHECK_EQUAL(rig_submit(&r, 1, "x", -1), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
    CHECK_EQUAL(mlos_port_remove(r.port, 0, 0), MLOS_E_AGAIN);
    CHECK_EQUAL(mlos_port_poll(r.port), MLOS_E_AGAIN); /* nothing more is claimed */
    CHECK_EQUAL(mlos_task_stop(r.port, 0, 0), 1);
    CHECK_EQUAL(mlos_port_take_broken(r.port), MLOS_E_AGAIN);
    CHECK_EQUAL(rig_answer(r.port, 0, "y"), 0);
    CHECK_EQUAL(mlos_port_remove(r.port, 0, 0), 0);
    CHECK_EQUAL(rig_answer(r.port, 0, "y"), MLOS_E_LOST);
    CHECK(!mlos_port_task(r.port, 0, 0));
    CHECK_EQUAL(mlos_port_add(r.port, 0, r.server), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 1);
    CHECK_EQUAL(mlos_port_remove(r.port, 0, 1), 0); /* at the end of a worker */
    rig_end(&r);
}

static void a_channel_that_others_serve_is_left_with_its_requests_finished(void) {
    rig r = rig_make(2, 4096, 4096);
    CHECK_EQUAL(atomic_load(&r.header->lanes), 2); /* the rig sleeps on lane 1 */
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
    CHECK_EQUAL(rig_submit(&r, 1, "x", -1), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
    CHECK_EQUAL(mlos_port_pending(r.port), 1);
    CHECK_EQUAL(mlos_port_watch(r.port, -1), 0);
    CHECK_EQUAL(mlos_port_remove(r.port, 0, MLOS_REMOVE_FINISH), MLOS_E_AGAIN);
    CHECK_EQUAL(atomic_load(&r.header->lanes), 0);
    CHECK_EQUAL(mlos_task_stop(r.port, 0, 0), 0);
    CHECK_EQUAL(rig_answer(r.port, 0, "y"), 0);
    CHECK_EQUAL(mlos_port_remove(r.port, 0, MLOS_REMOVE_FINISH), 0);
    CHECK_EQUAL(mlos_port_watch(r.port, 1000), MLOS_E_TIMEOUT);
    rig_end(&r);
}

static void a_disowned_end_refuses_everything(void) {
    rig r = rig_make(2, 4096, 4096);
    mlos_client_disown(r.client);
    CHECK_EQUAL(mlos_slot_acquire(r.client), MLOS_E_FORKED);
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), MLOS_E_FORKED);
    CHECK_EQUAL(mlos_wait(r.client, 0, -1), MLOS_E_FORKED);
    CHECK_EQUAL(mlos_slot_release(r.client, 0), MLOS_E_FORKED);
    CHECK_EQUAL(mlos_arena_alloc(r.client, 1), MLOS_E_FORKED);
    CHECK_EQUAL(mlos_arena_free(r.client, 0), MLOS_E_FORKED);
    CHECK_EQUAL(mlos_port_poll(r.port), MLOS_E_AGAIN);
    rig_end(&r);
}

static void a_closed_channel_says_why(void) {
    rig r = rig_make(2, 4096, 4096);
    char reason[MLOS_REASON_BYTES];
    CHECK_EQUAL(mlos_channel_reason(r.client, reason, sizeof reason), 0);
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
    CHECK_EQUAL(mlos_segment_shut(r.fd, "because", 7), 0);
    CHECK_EQUAL(mlos_wait(r.client, 0, -1), MLOS_E_CLOSED);
    CHECK_EQUAL(mlos_channel_reason(r.client, reason, sizeof reason), 7);
    CHECK(!memcmp(reason, "because", 7));
    r.header->reason_len = UINT32_MAX; /* and a scribbled reason stays inside */
    CHECK_EQUAL(mlos_channel_reason(r.client, reason, sizeof reason), MLOS_REASON_BYTES);
    CHECK_EQUAL(mlos_channel_reason(r.client, reason, 5), 5);
    rig_end(&r);
}

static void slots_that_do_not_exist_are_refused(void) {
    rig r = rig_make(2, 4096, 4096);
    CHECK_EQUAL(mlos_submit(r.client, r.bell, 2, 0, 0, -1), MLOS_E_ARGUMENT);
    CHECK_EQUAL(mlos_poll(r.client, 2), MLOS_E_ARGUMENT);
    CHECK_EQUAL(mlos_poll(r.client, 0), MLOS_E_ARGUMENT); /* never submitted */
    CHECK_EQUAL(mlos_slot_release(r.client, 9), MLOS_E_ARGUMENT);
    CHECK_EQUAL(mlos_slot_release(r.client, 0), MLOS_E_ARGUMENT); /* nobody holds it */
    CHECK_EQUAL(mlos_port_add(r.port, 4096, r.server), MLOS_E_ARGUMENT);
    CHECK_EQUAL(mlos_port_add(r.port, 0, r.server), MLOS_E_ARGUMENT);
    CHECK_EQUAL(mlos_port_remove(r.port, 7, 0), MLOS_E_ARGUMENT);
    CHECK(!mlos_port_task(r.port, 0, 2));
    CHECK(!mlos_port_new(r.bell, 0, 0, 0, 0, 3));
    CHECK(!mlos_port_new(r.bell, 1u << 24, 0, 0, 0, 3));
    CHECK(!mlos_port_new(r.bell, 1, 32, 0, 0, 3));
    CHECK(!mlos_port_new(r.bell, 1, 0, 0, 0, 16));
    rig_end(&r);
}

int main(void) {
    RUN(a_request_goes_round);
    RUN(every_slot_is_given_once);
    RUN(requests_come_out_in_order_over_many_rounds_of_the_ring);
    RUN(a_slot_under_way_is_neither_submitted_nor_released);
    RUN(a_second_answer_changes_nothing);
    RUN(a_stale_worker_loses_its_compare_and_swap);
    RUN(a_generation_wraps);
    RUN(an_equal_header_is_told);
    RUN(the_caller_knows_an_equal_reply);
    RUN(a_header_outside_the_segment_is_a_fault);
    RUN(a_cancelled_request_does_not_start);
    RUN(an_expired_request_does_not_start);
    RUN(a_ring_that_contradicts_itself_is_given_up);
    RUN(nonsense_in_the_ring_ends_after_one_round);
    RUN(a_channel_leaves_with_its_last_held_request);
    RUN(a_channel_that_others_serve_is_left_with_its_requests_finished);
    RUN(a_disowned_end_refuses_everything);
    RUN(a_closed_channel_says_why);
    RUN(slots_that_do_not_exist_are_refused);
    return 0;
}
