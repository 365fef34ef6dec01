/* SPDX-License-Identifier: BUSL-1.1 */
/* Streams: the ring of events of a slot. The rig's rings have 256 bytes. */
#include <string.h>

#include "check.h"
#include "rig.h"

static void begin(rig *r) {
    CHECK_EQUAL(rig_submit(r, 0, "x", -1), 0);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r->port)), 0);
}

static int next(rig *r, char *into, uint32_t room) {
    return mlos_next_event(r->client, 0, into, room, 0);
}

static void events_come_in_order_round_the_ring(void) {
    rig r = rig_make(1, 4096, 4096);
    char in[128], out[128];
    begin(&r);
    for (uint32_t i = 0; i < 500; i++) {
        uint32_t length = 1 + i % 124;
        memset(in, (int)i, length);
        CHECK_EQUAL(mlos_emit(r.port, 0, 0, in, length), 1);
        CHECK_EQUAL(next(&r, out, sizeof out), length);
        CHECK(!memcmp(in, out, length));
        CHECK_EQUAL(next(&r, out, sizeof out), MLOS_E_AGAIN);
    }
    CHECK_EQUAL(rig_answer(r.port, 0, "end"), 0);
    CHECK_EQUAL(next(&r, out, sizeof out), 0);
    rig_end(&r);
}

static void a_full_ring_holds_the_worker_back_and_loses_nothing(void) {
    rig r = rig_make(1, 4096, 4096);
    char out[128];
    begin(&r);
    int sent = 0, seen = 0;
    while (mlos_emit(r.port, 0, 0, (char[]){(char)sent, 0, 0, 0}, 4) == 1) sent++;
    CHECK_EQUAL(sent, 256 / 8);
    CHECK_EQUAL(next(&r, out, sizeof out), 4);
    CHECK_EQUAL(out[0], seen++);
    CHECK_EQUAL(mlos_emit(r.port, 0, 0, (char[]){(char)sent++, 0, 0, 0}, 4), 1);
    CHECK_EQUAL(mlos_emit(r.port, 0, 0, "late", 4), 0);
    CHECK_EQUAL(rig_answer(r.port, 0, "end"), 0);
    while (next(&r, out, sizeof out) > 0) CHECK_EQUAL(out[0], seen++);
    CHECK_EQUAL(seen, sent);
    rig_end(&r);
}

static void an_event_larger_than_half_the_ring_is_refused(void) {
    rig r = rig_make(1, 4096, 4096);
    char text[200] = {0};
    begin(&r);
    CHECK_EQUAL(mlos_emit(r.port, 0, 0, text, 129), MLOS_E_TOO_BIG);
    CHECK_EQUAL(mlos_emit(r.port, 0, 0, text, 128), 1);
    CHECK_EQUAL(next(&r, text, 127), MLOS_E_TOO_BIG); /* and stays for a larger buffer */
    CHECK_EQUAL(next(&r, text, 128), 128);
    rig_end(&r);
}

static void a_ring_that_contradicts_itself_is_broken(void) {
    rig r = rig_make(1, 4096, 4096);
    char text[256];
    uint8_t *ring = (uint8_t *)r.header + r.header->events_off;
    begin(&r);
    CHECK_EQUAL(mlos_emit(r.port, 0, 0, "text", 4), 1);
    for (uint32_t i = 0; i < 4; i++) ring[i] = 0xff; /* an impossible length */
    CHECK_EQUAL(next(&r, text, sizeof text), MLOS_E_BROKEN);
    memset(ring, 0, 4); /* an event of nothing */
    CHECK_EQUAL(next(&r, text, sizeof text), MLOS_E_BROKEN);
    for (uint32_t there = 1; there < 4; there++) { /* less than a length */
        atomic_store(&r.slots[0].event_head, atomic_load(&r.slots[0].event_tail) + there);
        CHECK_EQUAL(next(&r, text, sizeof text), MLOS_E_BROKEN);
    }
    atomic_store(&r.slots[0].event_head, UINT64_MAX);
    CHECK_EQUAL(next(&r, text, sizeof text), MLOS_E_BROKEN);
    rig_end(&r);
}

static void a_forged_reader_only_stops_its_own_stream(void) {
    rig r = rig_make(1, 4096, 4096);
    begin(&r);
    atomic_store(&r.slots[0].event_tail, 12345);
    CHECK_EQUAL(mlos_emit(r.port, 0, 0, "text", 4), 0);
    atomic_store(&r.slots[0].event_tail, UINT64_MAX);
    CHECK_EQUAL(mlos_emit(r.port, 0, 0, "text", 4), 1);
    atomic_store(&r.slots[0].event_head, UINT64_MAX); /* wraps inside the ring */
    CHECK_EQUAL(mlos_emit(r.port, 0, 0, "text", 4), 1);
    CHECK_EQUAL(rig_answer(r.port, 0, "end"), 0);
    rig_end(&r);
}

static void the_next_request_starts_with_an_empty_ring(void) {
    rig r = rig_make(1, 4096, 4096);
    char text[64];
    begin(&r);
    CHECK_EQUAL(mlos_emit(r.port, 0, 0, "old", 3), 1);
    CHECK_EQUAL(rig_answer(r.port, 0, "end"), 0);
    begin(&r);
    CHECK_EQUAL(next(&r, text, sizeof text), MLOS_E_AGAIN);
    CHECK_EQUAL(mlos_emit(r.port, 0, 0, "new", 3), 1);
    CHECK_EQUAL(next(&r, text, sizeof text), 3);
    CHECK(!memcmp(text, "new", 3));
    rig_end(&r);
}

static void a_successor_finds_the_notes(void) {
    rig r = rig_make(1, 4096, 4096);
    mlos_channel *server;
    mlos_port *successor = rig_port(&r, 2, &server);
    char text[256], notes[256];
    begin(&r);
    CHECK_EQUAL(mlos_journal_bytes(r.port, 0), 256);
    CHECK_EQUAL(mlos_journal(r.port, 0, 0, notes, sizeof notes), 0);
    CHECK_EQUAL(mlos_emit_noted(r.port, 0, 0, "e", 1, "ab", 2), 1);
    CHECK_EQUAL(mlos_emit_noted(r.port, 0, 0, "e", 1, "", 0), 1);
    CHECK_EQUAL(mlos_port_recover(successor, 0, 2, NULL, 0), 1);
    CHECK_EQUAL(rig_slot(mlos_port_poll(successor)), 0);
    CHECK_EQUAL(mlos_journal(successor, 0, 0, notes, 3), MLOS_E_TOO_BIG);
    CHECK_EQUAL(mlos_journal(successor, 0, 0, notes, sizeof notes), 6);
    CHECK(!memcmp(notes, "\0\2ab\1\0", 6));
    /* One that does not fit shuts the journal: what it holds is a beginning. */
    memset(notes, 'x', sizeof notes);
    CHECK_EQUAL(mlos_emit_noted(successor, 0, 0, "e", 1, notes, 249), 1);
    CHECK_EQUAL(mlos_emit_noted(successor, 0, 0, "e", 1, "c", 1), 1);
    CHECK_EQUAL(mlos_journal(successor, 0, 0, notes, sizeof notes), 6);
    for (int i = 0; i < 4; i++) CHECK_EQUAL(next(&r, text, sizeof text), 1);
    CHECK_EQUAL(rig_answer(successor, 0, "end"), 0);
    begin(&r); /* the next request starts with an empty one */
    CHECK_EQUAL(mlos_journal(r.port, 0, 0, notes, sizeof notes), 0);
    mlos_port_free(successor);
    mlos_channel_unmap(server);
    rig_end(&r);
}

static void a_journal_that_the_client_forged_is_empty_or_its_own(void) {
    rig r = rig_make(1, 4096, 4096);
    char notes[256];
    begin(&r);
    mlos_slot *slot = (mlos_slot *)((uint8_t *)r.header + r.header->slots_off);
    atomic_store(&slot->journal, UINT64_MAX >> 2);
    CHECK_EQUAL(mlos_journal(r.port, 0, 0, notes, sizeof notes), 0);
    CHECK_EQUAL(mlos_emit_noted(r.port, 0, 0, "e", 1, "ab", 2), 1);
    CHECK_EQUAL(mlos_journal(r.port, 0, 0, notes, sizeof notes), 0);
    atomic_store(&slot->journal, 256);
    CHECK_EQUAL(mlos_journal(r.port, 0, 0, notes, sizeof notes), 256);
    rig_end(&r);
}

static void a_successor_knows_how_many_events_were_sent(void) {
    rig r = rig_make(1, 4096, 4096);
    mlos_channel *server;
    mlos_port *successor = rig_port(&r, 2, &server);
    begin(&r);
    for (int i = 0; i < 5; i++) CHECK_EQUAL(mlos_emit(r.port, 0, 0, "e", 1), 1);
    CHECK_EQUAL(mlos_port_recover(successor, 0, 2, NULL, 0), 1);
    CHECK_EQUAL(rig_slot(mlos_port_poll(successor)), 0);
    CHECK_EQUAL(mlos_port_task(successor, 0, 0)->attempts, 1);
    CHECK_EQUAL(mlos_port_task(successor, 0, 0)->events_sent, 5);
    CHECK_EQUAL(mlos_emit(successor, 0, 0, "f", 1), 1);
    char text[8];
    for (int i = 0; i < 6; i++) {
        CHECK_EQUAL(next(&r, text, sizeof text), 1);
        CHECK_EQUAL(text[0], i < 5 ? 'e' : 'f');
    }
    CHECK_EQUAL(rig_answer(successor, 0, "end"), 0);
    mlos_port_free(successor);
    mlos_channel_unmap(server);
    rig_end(&r);
}

int main(void) {
    RUN(events_come_in_order_round_the_ring);
    RUN(a_full_ring_holds_the_worker_back_and_loses_nothing);
    RUN(an_event_larger_than_half_the_ring_is_refused);
    RUN(a_ring_that_contradicts_itself_is_broken);
    RUN(a_forged_reader_only_stops_its_own_stream);
    RUN(the_next_request_starts_with_an_empty_ring);
    RUN(a_successor_finds_the_notes);
    RUN(a_journal_that_the_client_forged_is_empty_or_its_own);
    RUN(a_successor_knows_how_many_events_were_sent);
    return 0;
}
