/* SPDX-License-Identifier: BUSL-1.1 */
/* Answering: room for replies, the answer, streamed events. */
#include <stdlib.h>
#include <string.h>

#include "port.h"

/* --- answering ----------------------------------------------------------------------------- */

int mlos_task_stop(mlos_port *p, uint32_t index, uint32_t slot) {
    mlos_task *t = task_at(p, index, slot);
    if (!t || p->seats[index]->given_up || p->seats[index]->cancelled) return 1;
    if (t->deadline_ns && now_ns() >= t->deadline_ns) return 1;
    return cancelled(&p->seats[index]->channel->slots[slot], t->word);
}

/* Does that tag keep its block? Only a slot that still has the generation does. */
static bool tag_in_force(mlos_channel *c, uint64_t tag) {
    uint32_t slot = (uint32_t)tag;
    if (!slot || slot > c->slot_count) return false;
    uint64_t word = atomic_load_explicit(&c->slots[slot - 1].word, memory_order_acquire);
    return mlos_word_state(word) != MLOS_FREE && mlos_word_generation(word) == (uint32_t)(tag >> 32);
}

static bool claim_block(mlos_channel *c, uint32_t block, uint64_t tag) {
    uint64_t old = atomic_load_explicit(&c->tags[block], memory_order_acquire);
    return !tag_in_force(c, old) && atomic_compare_exchange_strong(&c->tags[block], &old, tag);
}

void blocks_unclaim(mlos_channel *c, uint32_t from, uint32_t to, uint64_t tag) {
    for (uint32_t i = from; i < to; i++) {
        uint64_t mine = tag;
        atomic_compare_exchange_strong(&c->tags[i], &mine, 0);
    }
}

/* Claim `count` neighbouring blocks, looking from `start` round the whole arena once. */
static int64_t claim_run(mlos_channel *c, uint32_t start, uint32_t count, uint64_t tag) {
    uint32_t run = 0, begin = 0;
    for (uint32_t i = 0; i < c->block_count + count; i++) {
        uint32_t block = (start + i) % c->block_count;
        if (!block && run) { /* a run does not go over the end */
            blocks_unclaim(c, begin, begin + run, tag);
            run = 0;
        }
        if (!claim_block(c, block, tag)) {
            blocks_unclaim(c, begin, begin + run, tag);
            run = 0;
            continue;
        }
        CRASH_POINT(CRASH_ALLOCATED);
        if (!run++) begin = block;
        if (run == count) return begin;
    }
    if (run) blocks_unclaim(c, begin, begin + run, tag);
    return MLOS_E_AGAIN;
}

uint64_t mlos_reply_small_off(mlos_port *p, uint32_t index, uint32_t slot) {
    mlos_channel *c = p->seats[index]->channel;
    return (uint64_t)(c->slots[slot].small_w - c->base);
}

int64_t mlos_reply_alloc(mlos_port *p, uint32_t index, uint32_t slot, uint64_t bytes) {
    TASK_OR_LOST(p, index, slot);
    if (!bytes) bytes = 1;
    if (bytes > c->arena_w_size)
        return FAIL(MLOS_E_TOO_BIG, "the reply arena has %lu bytes", (long)c->arena_w_size);
    uint32_t count = (uint32_t)((bytes + (1ull << c->block_shift) - 1) >> c->block_shift);
    uint32_t start = t->block_hint < c->block_count ? t->block_hint : 0;
    int64_t block = claim_run(c, start, count, mlos_tag(mlos_word_generation(t->word), slot));
    if (block < 0) return FAIL(MLOS_E_AGAIN, "the reply arena is full");
    t->block_hint = (uint32_t)block;
    return (int64_t)(c->arena_w_off + ((uint64_t)block << c->block_shift));
}

/* Where a reply header goes: into the slot, or into arena W when it is long. */
static int64_t place_reply(mlos_port *p, uint32_t index, uint32_t slot, uint32_t length) {
    mlos_channel *c = p->seats[index]->channel;
    if (length <= MLOS_HEADER_BYTES) return c->slots[slot].reply - c->base;
    return mlos_reply_alloc(p, index, slot, length);
}

enum kind { ANSWER, REFUSAL, PONG };

typedef struct span {
    uint64_t started_ns, ended_ns; /* of the computation; 0: claimed, and now */
    enum kind kind;
} span;

static void count(mlos_port *p, const mlos_task *t, span run, uint64_t now) {
    mlos_port_stats *s = &p->stats;
    if (run.kind == PONG) return;
    COUNT(s->answered, 1);
    if (run.kind == REFUSAL) {
        COUNT(s->failed, 1);
        COUNT(s->failed_ns, now - t->submitted_ns);
        return;
    }
    uint64_t started = run.started_ns, ended = run.ended_ns;
    if (started < t->taken_ns) started = t->taken_ns;
    if (!ended || ended > now) ended = now;
    if (started > ended) started = ended;
    COUNT(s->queue_ns, t->taken_ns - t->submitted_ns);
    COUNT(s->input_ns, started - t->taken_ns);
    COUNT(s->infer_ns, ended - started);
    COUNT(s->output_ns, now - ended);
    count_time(&s->request, now - t->submitted_ns);
    count_time(&s->queue, t->taken_ns - t->submitted_ns);
    count_time(&s->infer, ended - started);
}

static void let_go(mlos_port *p, uint32_t index, mlos_task *t) {
    p->seats[index]->held -= t->held;
    COUNT(p->stats.held, -(uint64_t)t->held);
    t->held = 0;
}

static int lose(mlos_port *p, uint32_t index, mlos_task *t) {
    let_go(p, index, t);
    COUNT(p->stats.lost, 1);
    return FAIL(MLOS_E_LOST, "the slot went to somebody else");
}

static int publish(mlos_port *p, uint32_t index, uint32_t number, const char *header,
                   uint32_t length, span run) {
    TASK_OR_LOST(p, index, number);
    mlos_slot *slot = &c->slots[number];
    /* Before anything is written: the client may be reading an earlier answer there. */
    if (atomic_load_explicit(&slot->word, memory_order_relaxed) != t->word)
        return lose(p, index, t);
    int64_t at = place_reply(p, index, number, length);
    if (at < 0) return (int)at;
    uint64_t now = now_ns();
    /* Mostly the same header lies there from the last answer; not writing it again spares
     * the client two cache lines. */
    if (memcmp(c->base + at, header, length)) memcpy(c->base + at, header, length);
    slot->reply_off = (uint64_t)at;
    slot->reply_len = length;
    slot->worker_cpu = this_cpu();
    slot->taken_ns = t->taken_ns;
    slot->answered_ns = now;
    uint64_t done = mlos_word(mlos_word_generation(t->word), p->owner, t->attempts, MLOS_DONE);
    /* SYNC POINT: the reply is visible to whoever sees DONE (answer_ready). A worker that
     * comes late finds another word here and changes nothing. */
    if (!slot_move(slot, T_ANSWER, t->word, done)) return lose(p, index, t);
    /* A client that polls has its answer already. One that has to be woken, which takes much
     * longer, finds it counted. */
    let_go(p, index, t);
    count(p, t, run, now);
    channel_notify(c, number);
    return 0;
}

int mlos_answer(mlos_port *p, uint32_t index, uint32_t number, const char *header,
                uint32_t length, uint64_t started_ns, uint64_t ended_ns) {
    return publish(p, index, number, header, length, (span){started_ns, ended_ns, ANSWER});
}

int mlos_refuse(mlos_port *p, uint32_t index, uint32_t number, const char *header,
                uint32_t length) {
    return publish(p, index, number, header, length, (span){.kind = REFUSAL});
}

int mlos_pong(mlos_port *p, uint32_t index, uint32_t number, const char *header, uint32_t length) {
    return publish(p, index, number, header, length, (span){.kind = PONG});
}

int mlos_remember(mlos_task *t, const char *header, uint32_t length) {
    t->reply_len = 0;
    if (length > MLOS_HEADER_BYTES)
        return FAIL(MLOS_E_TOO_BIG, "a reply header of %u bytes is not kept", length);
    /* In private memory: the slot's own area may be another worker's next time. */
    if (!t->reply) t->reply = malloc(MLOS_HEADER_BYTES);
    if (!t->reply) return FAIL(MLOS_E_SYSTEM, "out of memory");
    memcpy(t->reply, header, length);
    t->reply_len = length;
    return 0;
}

int mlos_again(mlos_task *t) {
    if (!t->reply_len) return FAIL(MLOS_E_ARGUMENT, "slot %u has no reply to repeat", t->slot);
    return mlos_answer(t->port, t->index, t->slot, t->reply, t->reply_len, 0, 0);
}

/* --- statistics ---------------------------------------------------------------------------- */

void mlos_port_statistics(mlos_port *p, mlos_port_stats *into) { statistics_copy(into, &p->stats); }

uint64_t mlos_bucket_from(uint32_t bucket) {
    const uint32_t steps = 1u << BUCKET_STEPS;
    if (bucket < steps) return (uint64_t)bucket << BUCKET_UNIT;
    return (uint64_t)(steps + bucket % steps) << (bucket / steps + BUCKET_UNIT - 1);
}

/* --- streams ------------------------------------------------------------------------------- */

static void ring_write(uint8_t *ring, uint32_t size, uint32_t at, const void *data, uint32_t n) {
    uint32_t first = size - (at & (size - 1));
    if (first > n) first = n;
    memcpy(ring + (at & (size - 1)), data, first);
    memcpy(ring, (const uint8_t *)data + first, n - first);
}

/* Append a note of the event that comes next. */
static void keep_note(mlos_channel *c, uint32_t number, uint8_t event, const char *note,
                      uint32_t length) {
    mlos_slot *slot = &c->slots[number];
    uint64_t used = atomic_load_explicit(&slot->journal, memory_order_relaxed);
    if (used & MLOS_JOURNAL_SHUT) return;
    if (length > MLOS_NOTE_BYTES || used > c->event_bytes ||
        c->event_bytes - used < MLOS_NOTE_HEAD + length) {
        atomic_store_explicit(&slot->journal, used | MLOS_JOURNAL_SHUT, memory_order_relaxed);
        return;
    }
    uint8_t *at = channel_journal(c, number) + used;
    at[0] = event;
    at[1] = (uint8_t)length;
    memcpy(at + MLOS_NOTE_HEAD, note, length);
    /* SYNC POINT: the note's bytes come before its length counts (mlos_journal). */
    atomic_store_explicit(&slot->journal, used + MLOS_NOTE_HEAD + length, memory_order_release);
    CRASH_POINT(CRASH_NOTED);
}

int64_t mlos_journal_bytes(mlos_port *p, uint32_t index) {
    return p->seats[index]->channel->event_bytes;
}

int64_t mlos_journal(mlos_port *p, uint32_t index, uint32_t number, char *into, uint64_t room) {
    TASK_OR_LOST(p, index, number);
    (void)t;
    /* SYNC POINT: keep_note of a worker that is dead. */
    uint64_t used = atomic_load_explicit(&c->slots[number].journal, memory_order_acquire);
    used &= ~MLOS_JOURNAL_SHUT;
    if (used > c->event_bytes) used = 0; /* the client wrote nonsense there */
    if (used > room) return FAIL(MLOS_E_TOO_BIG, "a journal of %lu bytes", (unsigned long)used);
    memcpy(into, channel_journal(c, number), used);
    return (int64_t)used;
}

int mlos_emit(mlos_port *p, uint32_t index, uint32_t number, const char *data, uint32_t length) {
    return mlos_emit_noted(p, index, number, data, length, NULL, 0);
}

int mlos_emit_noted(mlos_port *p, uint32_t index, uint32_t number, const char *data,
                    uint32_t length, const char *note, uint32_t note_length) {
    TASK_OR_LOST(p, index, number);
    if (length > c->event_bytes / 2)
        return FAIL(MLOS_E_TOO_BIG, "an event of %u bytes, the limit is %u", length,
                    c->event_bytes / 2);
    mlos_slot *slot = &c->slots[number];
    uint64_t head = atomic_load_explicit(&slot->event_head, memory_order_relaxed);
    /* SYNC POINT: the client has read what it says it has read (take_event). */
    uint32_t tail = (uint32_t)atomic_load_explicit(&slot->event_tail, memory_order_acquire);
    uint32_t position = (uint32_t)head, used = position - tail;
    if (used > c->event_bytes || c->event_bytes - used < length + 4) return 0;
    /* Before the event: what the client has seen is noted. */
    if (note) keep_note(c, number, (uint8_t)(head >> 32), note, note_length);
    uint8_t prefix[4] = {(uint8_t)length, (uint8_t)(length >> 8), (uint8_t)(length >> 16),
                         (uint8_t)(length >> 24)};
    uint8_t *ring = channel_event_ring(c, number);
    ring_write(ring, c->event_bytes, position, prefix, 4);
    ring_write(ring, c->event_bytes, position + 4, data, length);
    CRASH_POINT(CRASH_EMITTING);
    /* SYNC POINT: position and count change together, after the bytes (take_event; begin). */
    uint64_t next = ((head >> 32) + 1) << 32 | (uint32_t)(position + 4 + length);
    atomic_store_explicit(&slot->event_head, next, memory_order_release);
    CRASH_POINT(CRASH_EMITTED);
    channel_notify(c, number);
    return 1;
}
