/* SPDX-License-Identifier: BUSL-1.1 */
/* The client's arena and the blocks of replies. */
#include <string.h>

#include "check.h"
#include "rig.h"

static void memory_is_aligned_disjoint_and_comes_back(void) {
    rig r = rig_make(1, 65536, 4096);
    const uint64_t low = r.header->arena_c_off, high = low + r.header->arena_c_size;
    int64_t at[64];
    uint64_t size[64];
    for (int round = 0; round < 20; round++) {
        int count = 0;
        for (; count < 64; count++) {
            size[count] = (uint64_t)((count * 37 + round * 11) % 3000);
            at[count] = mlos_arena_alloc(r.client, size[count]);
            if (at[count] == MLOS_E_AGAIN) break;
            CHECK_EQUAL((at[count] - (int64_t)low) % 64, 0);
            CHECK((uint64_t)at[count] >= low && (uint64_t)at[count] + size[count] <= high);
            for (int i = 0; i < count; i++)
                CHECK((uint64_t)at[i] + size[i] <= (uint64_t)at[count] ||
                      (uint64_t)at[count] + size[count] <= (uint64_t)at[i]);
        }
        CHECK(count > 3);
        for (int i = round % 2; i < count; i += 2)
            CHECK_EQUAL(mlos_arena_free(r.client, (uint64_t)at[i]), 0);
        for (int i = 1 - round % 2; i < count; i += 2)
            CHECK_EQUAL(mlos_arena_free(r.client, (uint64_t)at[i]), 0);
        CHECK_EQUAL(mlos_arena_used(r.client), 0);
        int64_t whole = mlos_arena_alloc(r.client, 65536); /* all joined again */
        CHECK_EQUAL(whole, low);
        CHECK_EQUAL(mlos_arena_free(r.client, (uint64_t)whole), 0);
    }
    rig_end(&r);
}

static void a_full_and_a_small_arena_are_told_apart(void) {
    rig r = rig_make(1, 8192, 4096);
    CHECK_EQUAL(mlos_arena_alloc(r.client, 8193), MLOS_E_TOO_BIG);
    CHECK(mlos_arena_alloc(r.client, 8192) > 0);
    CHECK_EQUAL(mlos_arena_alloc(r.client, 1), MLOS_E_AGAIN);
    rig_end(&r);
}

static void what_was_not_given_cannot_come_back(void) {
    rig r = rig_make(1, 8192, 4096);
    int64_t at = mlos_arena_alloc(r.client, 100);
    CHECK_EQUAL(mlos_arena_free(r.client, (uint64_t)at + 64), MLOS_E_ARGUMENT);
    CHECK_EQUAL(mlos_arena_free(r.client, 0), MLOS_E_ARGUMENT);
    CHECK_EQUAL(mlos_arena_free(r.client, (uint64_t)at), 0);
    CHECK_EQUAL(mlos_arena_free(r.client, (uint64_t)at), MLOS_E_ARGUMENT);
    rig_end(&r);
}

static void the_number_of_allocations_is_bounded(void) {
    rig r = rig_make(1, 1 << 20, 4096);
    int count = 0;
    while (mlos_arena_alloc(r.client, 1) >= 0) count++;
    CHECK(count > 8000 && count <= 8192);
    rig_end(&r);
}

/* Submit slot, claim it. */
static void begin(rig *r, uint32_t slot) {
    CHECK_EQUAL(mlos_slot_acquire(r->client), slot);
    CHECK_EQUAL(rig_submit(r, slot, "x", -1), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r->port)), slot);
}

static void reply_blocks_are_disjoint_until_the_slot_moves_on(void) {
    rig r = rig_make(4, 4096, 8 * 4096);
    const int64_t low = (int64_t)r.header->arena_w_off;
    begin(&r, 0);
    begin(&r, 1);
    int64_t a = mlos_reply_alloc(r.port, 0, 0, 3 * 4096), b = mlos_reply_alloc(r.port, 0, 1, 5 * 4096);
    CHECK_EQUAL(a, low);
    CHECK_EQUAL(b, low + 3 * 4096);
    CHECK_EQUAL(mlos_reply_alloc(r.port, 0, 0, 1), MLOS_E_AGAIN);
    CHECK_EQUAL(mlos_reply_alloc(r.port, 0, 0, 9 * 4096), MLOS_E_TOO_BIG);
    CHECK_EQUAL(rig_answer(r.port, 0, "y"), 0);
    begin(&r, 2);
    CHECK_EQUAL(mlos_reply_alloc(r.port, 0, 2, 1), MLOS_E_AGAIN); /* the client may still read */
    CHECK_EQUAL(mlos_wait(r.client, 0, 0), 1);
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0); /* moves on */
    CHECK_EQUAL(mlos_reply_alloc(r.port, 0, 2, 3 * 4096), low);
    rig_end(&r);
}

static void a_run_of_blocks_does_not_go_over_the_end(void) {
    rig r = rig_make(4, 4096, 4 * 4096);
    const int64_t low = (int64_t)r.header->arena_w_off;
    begin(&r, 0);
    begin(&r, 1);
    CHECK_EQUAL(mlos_reply_alloc(r.port, 0, 0, 4096), low);
    CHECK_EQUAL(mlos_reply_alloc(r.port, 0, 1, 2 * 4096), low + 4096);
    CHECK_EQUAL(rig_answer(r.port, 0, "y"), 0);
    CHECK_EQUAL(mlos_slot_release(r.client, 0), 0);
    /* free: the first and the last block, which are no neighbours */
    CHECK_EQUAL(mlos_reply_alloc(r.port, 0, 1, 2 * 4096), MLOS_E_AGAIN);
    CHECK_EQUAL(mlos_reply_alloc(r.port, 0, 1, 4096), low + 3 * 4096);
    CHECK_EQUAL(mlos_reply_alloc(r.port, 0, 1, 4096), low);
    rig_end(&r);
}

static void a_long_reply_header_lies_in_the_arena(void) {
    rig r = rig_make(1, 4096, 4 * 4096);
    static char text[6000];
    memset(text, 'z', sizeof text);
    begin(&r, 0);
    CHECK_EQUAL(mlos_answer(r.port, 0, 0, text, sizeof text, 0, 0), 0);
    CHECK_EQUAL(mlos_wait(r.client, 0, 0), sizeof text);
    uint32_t length;
    const uint8_t *reply = mlos_reply(r.client, 0, &length);
    CHECK(reply && length == sizeof text && !memcmp(reply, text, length));
    rig_end(&r);
}

static void a_long_reply_header_without_room_is_not_lost(void) {
    rig r = rig_make(2, 4096, 4096);
    static char text[2000];
    begin(&r, 0);
    begin(&r, 1);
    CHECK(mlos_reply_alloc(r.port, 0, 0, 4096) > 0);
    CHECK_EQUAL(mlos_answer(r.port, 0, 1, text, sizeof text, 0, 0), MLOS_E_AGAIN);
    CHECK_EQUAL(rig_answer(r.port, 1, "no room"), 0); /* still ours to answer */
    CHECK(rig_says(&r, 1, "no room"));
    rig_end(&r);
}

static void forged_tags_only_fill_the_forgers_arena(void) {
    rig r = rig_make(2, 4096, 4 * 4096);
    _Atomic uint64_t *tags = (void *)((uint8_t *)r.header + r.header->blocks_off);
    begin(&r, 0);
    for (int i = 0; i < 4; i++) atomic_store(&tags[i], UINT64_MAX);
    CHECK(mlos_reply_alloc(r.port, 0, 0, 4 * 4096) > 0); /* slots that do not exist keep nothing */
    for (uint32_t i = 0; i < 4; i++) atomic_store(&tags[i], mlos_tag(0, 0));
    CHECK_EQUAL(mlos_reply_alloc(r.port, 0, 0, 1), MLOS_E_AGAIN);
    rig_end(&r);
}

static void a_reply_outside_the_segment_is_none(void) {
    rig r = rig_make(1, 4096, 4096);
    begin(&r, 0);
    CHECK_EQUAL(rig_answer(r.port, 0, "y"), 0);
    const uint64_t size = mlos_channel_size(r.client);
    const uint64_t offs[] = {size, size - 1, UINT64_MAX, 0};
    const uint32_t lens[] = {1, 2, 1, UINT32_MAX};
    uint32_t length;
    for (int i = 0; i < 4; i++) {
        r.slots[0].reply_off = offs[i];
        r.slots[0].reply_len = lens[i];
        CHECK(!mlos_reply(r.client, 0, &length));
        CHECK(mlos_poll(r.client, 0) >= 0);
    }
    rig_end(&r);
}

int main(void) {
    RUN(memory_is_aligned_disjoint_and_comes_back);
    RUN(a_full_and_a_small_arena_are_told_apart);
    RUN(what_was_not_given_cannot_come_back);
    RUN(the_number_of_allocations_is_bounded);
    RUN(reply_blocks_are_disjoint_until_the_slot_moves_on);
    RUN(a_run_of_blocks_does_not_go_over_the_end);
    RUN(a_long_reply_header_lies_in_the_arena);
    RUN(a_long_reply_header_without_room_is_not_lost);
    RUN(forged_tags_only_fill_the_forgers_arena);
    RUN(a_reply_outside_the_segment_is_none);
    return 0;
}
