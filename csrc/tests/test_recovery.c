/* SPDX-License-Identifier: BUSL-1.1 */
/* What a successor finds, takes over, and leaves alone. */
#include "check.h"
#include "rig.h"

typedef struct heir {
    mlos_channel *server;
    mlos_port *port;
} heir;

static heir heir_of(rig *r, uint32_t owner) {
    heir h;
    h.port = rig_port(r, owner, &h.server);
    return h;
}

static void heir_end(heir *h) {
    mlos_port_free(h->port);
    mlos_channel_unmap(h->server);
}

static void claimed_slots_are_run_again(void) {
    rig r = rig_make(4, 4096, 4096);
    heir h = heir_of(&r, 2);
    for (uint32_t i = 0; i < 3; i++) CHECK_EQUAL(rig_submit(&r, i, "x", -1), 0);
    for (uint32_t i = 0; i < 2; i++) CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), i);
    CHECK_EQUAL(mlos_port_recover(h.port, 0, 2, NULL, 0), 2);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQUAL(rig_slot(mlos_port_poll(h.port)), i);
        CHECK_EQUAL(mlos_port_task(h.port, 0, i)->attempts, i < 2);
        CHECK_EQUAL(rig_answer(h.port, i, "y"), 0);
        CHECK_EQUAL(mlos_wait(r.client, i, 0), 1);
    }
    CHECK_EQUAL(mlos_port_poll(h.port), MLOS_E_AGAIN);
    CHECK_EQUAL(rig_statistics(h.port).recovered, 2);
    heir_end(&h);
    rig_end(&r);
}

static void the_living_keep_what_they_claimed(void) {
    rig r = rig_make(4, 4096, 4096);
    heir h = heir_of(&r, 5), other = heir_of(&r, 3);
    const uint32_t alive[] = {9, 1};
    for (uint32_t i = 0; i < 2; i++) CHECK_EQUAL(rig_submit(&r, i, "x", -1), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(other.port)), 1);
    CHECK_EQUAL(mlos_port_recover(h.port, 0, 3, alive, 2), 0); /* 1 lives, 3 is above the limit */
    CHECK_EQUAL(mlos_port_recover(h.port, 0, 4, alive, 2), 1);
    CHECK_EQUAL(rig_slot(mlos_port_poll(h.port)), 1);
    CHECK_EQUAL(mlos_port_recover(h.port, 0, 99, alive, 2), 0); /* its own is no orphan */
    CHECK_EQUAL(mlos_port_poll(h.port), MLOS_E_AGAIN);
    CHECK_EQUAL(rig_answer(h.port, 1, "y"), 0);
    CHECK_EQUAL(rig_answer(r.port, 0, "y"), 0);
    heir_end(&other);
    heir_end(&h);
    rig_end(&r);
}

static void what_was_popped_and_not_claimed_is_adopted(void) {
    rig r = rig_make(4, 4096, 4096);
    heir h = heir_of(&r, 2);
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
    CHECK_EQUAL(rig_submit(&r, 1, "x", -1), 0);
    atomic_store(&r.header->head, 1); /* a worker took the first number and died */
    CHECK_EQUAL(mlos_port_recover(h.port, 0, 2, NULL, 0), 1);
    CHECK_EQUAL(rig_slot(mlos_port_poll(h.port)), 0);
    CHECK_EQUAL(mlos_port_task(h.port, 0, 0)->attempts, 0); /* it never ran */
    CHECK_EQUAL(rig_slot(mlos_port_poll(h.port)), 1);
    heir_end(&h);
    rig_end(&r);
}

static void a_request_that_ends_its_workers_is_quarantined(void) {
    rig r = rig_make(1, 4096, 4096);
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
    for (uint32_t owner = 2; owner < 6; owner++) {
        heir h = heir_of(&r, owner);
        CHECK_EQUAL(mlos_port_recover(h.port, 0, owner, NULL, 0), 1);
        int64_t key = mlos_port_poll(h.port);
        CHECK_EQUAL(mlos_port_task(h.port, 0, 0)->attempts, owner - 1);
        CHECK_EQUAL(rig_fault(key), owner - 1 >= 3); /* max_attempts */
        if (rig_fault(key))
            CHECK_EQUAL(mlos_port_task(h.port, 0, 0)->fault, MLOS_FAULT_QUARANTINED);
        heir_end(&h);
    }
    rig_end(&r);
}

static void attempts_stop_at_what_the_word_can_hold(void) {
    rig r = rig_make(1, 4096, 4096);
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
    for (uint32_t owner = 2; owner < 20; owner++) {
        heir h = heir_of(&r, owner);
        CHECK_EQUAL(mlos_port_recover(h.port, 0, owner, NULL, 0), 1);
        mlos_port_poll(h.port);
        CHECK_EQUAL(mlos_port_task(h.port, 0, 0)->attempts,
                    owner - 1 < MLOS_MAX_ATTEMPTS ? owner - 1 : MLOS_MAX_ATTEMPTS);
        heir_end(&h);
    }
    rig_end(&r);
}

static void a_half_made_reply_gives_its_blocks_back(void) {
    rig r = rig_make(1, 4096, 2 * 4096);
    heir h = heir_of(&r, 2);
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
    CHECK(mlos_reply_alloc(r.port, 0, 0, 2 * 4096) > 0);
    CHECK_EQUAL(mlos_port_recover(h.port, 0, 2, NULL, 0), 1);
    CHECK_EQUAL(rig_slot(mlos_port_poll(h.port)), 0);
    CHECK(mlos_reply_alloc(h.port, 0, 0, 2 * 4096) > 0);
    heir_end(&h);
    rig_end(&r);
}

static void an_answer_that_was_not_told_is_told(void) {
    rig r = rig_make(1, 4096, 4096);
    heir h = heir_of(&r, 2);
    uint64_t bits[16];
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
    CHECK_EQUAL(rig_answer(r.port, 0, "y"), 0);
    CHECK_EQUAL(mlos_take_done(r.client, bits), 1); /* as if its worker had died before the mark */
    CHECK_EQUAL(mlos_port_recover(h.port, 0, 2, NULL, 0), 0);
    CHECK_EQUAL(mlos_take_done(r.client, bits), 1);
    CHECK_EQUAL(bits[0], 1);
    heir_end(&h);
    rig_end(&r);
}

static void an_orphan_that_was_scribbled_on_is_passed_over(void) {
    rig r = rig_make(2, 4096, 4096);
    heir h = heir_of(&r, 2);
    for (uint32_t i = 0; i < 2; i++) CHECK_EQUAL(rig_submit(&r, i, "x", -1), 0);
    for (uint32_t i = 0; i < 2; i++) CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), i);
    CHECK_EQUAL(mlos_port_recover(h.port, 0, 2, NULL, 0), 2);
    atomic_store(&r.slots[0].word, mlos_word(7, 1, 0, MLOS_DONE));
    CHECK_EQUAL(rig_slot(mlos_port_poll(h.port)), 1);
    CHECK_EQUAL(mlos_port_poll(h.port), MLOS_E_AGAIN);
    heir_end(&h);
    rig_end(&r);
}

int main(void) {
    RUN(claimed_slots_are_run_again);
    RUN(the_living_keep_what_they_claimed);
    RUN(what_was_popped_and_not_claimed_is_adopted);
    RUN(a_request_that_ends_its_workers_is_quarantined);
    RUN(attempts_stop_at_what_the_word_can_hold);
    RUN(a_half_made_reply_gives_its_blocks_back);
    RUN(an_answer_that_was_not_told_is_told);
    RUN(an_orphan_that_was_scribbled_on_is_passed_over);
    return 0;
}
