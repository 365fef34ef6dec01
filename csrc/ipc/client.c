/* SPDX-License-Identifier: BUSL-1.1 */
/* The client's end of a channel.
 *
 * Guarantees: a slot is reused only after its answer was read, so arena memory of a request is
 * never given away while a worker may read it. Thread-safe.
 * Assumes: the slots, but for their words, are only written by this client while FREE, and by
 * one worker while TAKEN.
 */
#include <string.h>

#include "arena.h"
#include "bell.h"
#include "channel.h"
#include "error.h"

void mlos_client_wait_mode(mlos_channel *c, int mode, uint64_t poll_max_ns) {
    waiter_init(&c->wait, mode, poll_max_ns);
}

static bool valid(const mlos_channel *c, uint32_t slot) { return slot < c->slot_count; }

static bool is_disowned(mlos_channel *c) {
    return atomic_load_explicit(&c->disowned, memory_order_relaxed);
}

#define CHECK_SLOT(c, slot)                                                                        \
    if (is_disowned(c)) return MLOS_E_FORKED;                                                       \
    if (!valid(c, slot)) return FAIL(MLOS_E_ARGUMENT, "no slot %u", slot)

void mlos_client_disown(mlos_channel *c) { atomic_store(&c->disowned, true); }

/* --- slots --------------------------------------------------------------------------------- */

int mlos_slot_acquire(mlos_channel *c) {
    int slot = MLOS_E_AGAIN;
    if (is_disowned(c)) return MLOS_E_FORKED;
    pthread_mutex_lock(&c->lock);
    if (c->free_count) slot = (int)c->free_slots[--c->free_count];
    pthread_mutex_unlock(&c->lock);
    return slot;
}

uint32_t mlos_slots_free(mlos_channel *c) {
    if (is_disowned(c)) return 0;
    pthread_mutex_lock(&c->lock);
    uint32_t count = c->free_count;
    pthread_mutex_unlock(&c->lock);
    return count;
}

static uint64_t offset_of(const mlos_channel *c, const void *where) {
    return (uint64_t)((const uint8_t *)where - c->base);
}

uint64_t mlos_slot_request_off(mlos_channel *c, uint32_t slot) {
    return offset_of(c, c->slots[slot].request);
}

uint64_t mlos_slot_small_off(mlos_channel *c, uint32_t slot) {
    return offset_of(c, c->slots[slot].small_c);
}

static uint64_t next_generation(uint64_t word) {
    return mlos_word(mlos_word_generation(word) + 1u, 0, 0, MLOS_FREE);
}

/* Is what the client holds answered? The owner and the attempts are the workers' affair. */
static bool answered(const mlos_channel *c, uint32_t slot, uint64_t *word) {
    *word = atomic_load_explicit(&c->slots[slot].word, memory_order_acquire);
    return mlos_word_state(*word) == MLOS_DONE &&
           mlos_word_generation(*word) == mlos_word_generation(c->words[slot]);
}

/* DONE to FREE, one generation on. The client keeps the slot. */
static int free_answered(mlos_channel *c, uint32_t slot) {
    uint64_t word;
    if (!answered(c, slot, &word)) return MLOS_E_AGAIN;
    uint64_t next = next_generation(word);
    if (!slot_move(&c->slots[slot], T_RELEASE, word, next))
        return FAIL(MLOS_E_BROKEN, "somebody else freed slot %u", slot);
    c->words[slot] = next;
    return 0;
}

int mlos_slot_release(mlos_channel *c, uint32_t slot) {
    CHECK_SLOT(c, slot);
    if (mlos_word_state(c->words[slot]) != MLOS_FREE) {
        int status = free_answered(c, slot);
        if (status) return status;
    }
    pthread_mutex_lock(&c->lock);
    bool room = c->free_count < c->slot_count;
    if (room) c->free_slots[c->free_count++] = slot;
    pthread_mutex_unlock(&c->lock);
    return room ? 0 : FAIL(MLOS_E_ARGUMENT, "slot %u was released twice", slot);
}

/* --- submission ---------------------------------------------------------------------------- */

static int submit(mlos_channel *c, mlos_bell *bell, uint32_t index, uint64_t header_off,
                  uint32_t header_len, int64_t timeout_ns) {
    if (mlos_word_state(c->words[index]) != MLOS_FREE && free_answered(c, index))
        return FAIL(MLOS_E_AGAIN, "slot %u is not answered yet", index);
    mlos_slot *slot = &c->slots[index];
    uint64_t word = c->words[index], now = now_ns();
    slot->header_off = header_off;
    slot->header_len = header_len;
    slot->submitted_ns = now;
    slot->deadline_ns = timeout_ns < 0 ? 0 : now + (uint64_t)timeout_ns;
    slot->client_cpu = this_cpu();
    atomic_store_explicit(&slot->event_head, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->journal, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->event_tail, 0, memory_order_relaxed);
    uint64_t next = mlos_word(mlos_word_generation(word), 0, 0, MLOS_FILLED);
    pthread_mutex_lock(&c->lock);
    uint64_t tail = atomic_load_explicit(&c->header->tail, memory_order_relaxed);
    atomic_store_explicit(&slot->sequence, tail, memory_order_relaxed);
    bool moved = slot_move(slot, T_FILL, word, next);
    if (moved) {
        c->words[index] = next;
        atomic_store_explicit(&c->ring[tail & c->ring_mask], index, memory_order_relaxed);
        /* SYNC POINT: the ring entry is visible to the worker that sees the tail (pop). */
        atomic_store_explicit(&c->header->tail, tail + 1, memory_order_release);
    }
    pthread_mutex_unlock(&c->lock);
    if (!moved) return FAIL(MLOS_E_BROKEN, "slot %u is not as the client left it", index);
    CRASH_POINT(CRASH_PUSHED);
    bell_ring(bell, c->header);
    CRASH_POINT(CRASH_RUNG);
    return 0;
}

/* One thread at a time may use a slot; the second gets an error, never the other's answer. */
static bool enter(mlos_channel *c, uint32_t slot) {
    return !atomic_exchange_explicit(&c->busy[slot], 1, memory_order_acquire);
}

static void leave(mlos_channel *c, uint32_t slot) {
    atomic_store_explicit(&c->busy[slot], 0, memory_order_release);
}

int mlos_submit(mlos_channel *c, mlos_bell *bell, uint32_t slot, uint64_t header_off,
                uint32_t header_len, int64_t timeout_ns) {
    CHECK_SLOT(c, slot);
    if (!enter(c, slot)) return FAIL(MLOS_E_BUSY, "another thread uses slot %u", slot);
    int status = submit(c, bell, slot, header_off, header_len, timeout_ns);
    leave(c, slot);
    return status;
}

/* --- waiting ------------------------------------------------------------------------------- */

typedef struct answer_watch {
    mlos_channel *channel;
    mlos_slot *slot;
    uint32_t generation;
    uint64_t events; /* event_head that is no news */
    bool streaming;
} answer_watch;

static bool answer_ready(void *context) {
    answer_watch *w = context;
    /* SYNC POINT: the reply is visible to whoever sees DONE (mlos_answer). */
    uint64_t word = atomic_load_explicit(&w->slot->word, memory_order_acquire);
    if (mlos_word_state(word) == MLOS_DONE && mlos_word_generation(word) == w->generation)
        return true;
    return w->streaming &&
           atomic_load_explicit(&w->slot->event_head, memory_order_acquire) != w->events;
}

static bool closed(mlos_channel *c) {
    return atomic_load_explicit(&c->header->state, memory_order_acquire) != MLOS_OPEN;
}

/* Sleep until the slot has news or `deadline`. SYNC POINT with channel_notify(). */
static int client_sleep(mlos_channel *c, uint32_t slot, answer_watch *watch, uint64_t deadline) {
    mlos_header *h = c->header;
    int error = 0;
    bool ready;
    atomic_fetch_add(&h->done_waiters, 1);
    for (;;) {
        uint32_t seq = atomic_load(&h->done_seq);
        ready = answer_ready(watch);
        if (ready || closed(c) || error == EINTR || error == ETIMEDOUT) break;
        error = futex_wait(&h->done_seq, seq, deadline, 1u << (slot % 32));
    }
    atomic_fetch_sub(&h->done_waiters, 1);
    if (ready) return 0;
    return closed(c) ? MLOS_E_CLOSED : MLOS_E_TICK;
}

/* Sleep through the part of the wait that is certain, then poll. MLOS_E_AGAIN: not yet. */
static int client_nap(mlos_channel *c, uint32_t slot, answer_watch *watch, uint64_t start,
                      uint64_t end) {
    uint64_t poll_ns, nap = waiter_nap(&c->wait, &poll_ns);
    if (!nap || start + nap + poll_ns >= end) return MLOS_E_AGAIN;
    int status = client_sleep(c, slot, watch, start + nap);
    if (status != MLOS_E_TICK) return status;
    if (now_ns() < start + nap) return MLOS_E_TICK; /* a signal */
    bool ready = waiter_poll(&c->wait, poll_ns, hint32(&c->peer_cpu), answer_ready, watch);
    return ready ? 0 : MLOS_E_AGAIN;
}

static int client_wait(mlos_channel *c, uint32_t slot, answer_watch *watch, int64_t timeout_ns) {
    if (answer_ready(watch)) return 0;
    uint64_t start = now_ns();
    uint64_t slice = start + WAIT_SLICE_NS;
    uint64_t end = timeout_ns < 0 ? UINT64_MAX : start + (uint64_t)timeout_ns;
    uint64_t window = waiter_window(&c->wait);
    if (window > end - start) window = end - start;
    if (waiter_poll(&c->wait, window, hint32(&c->peer_cpu), answer_ready, watch)) {
        if (c->wait.mode == MLOS_WAIT_ADAPTIVE) waiter_learn(&c->wait, now_ns() - start);
        return 0;
    }
    if (closed(c)) return MLOS_E_CLOSED;
    if (c->wait.mode == MLOS_WAIT_SPIN)
        return now_ns() >= end ? MLOS_E_TIMEOUT : MLOS_E_TICK;
    int status = client_nap(c, slot, watch, start, end < slice ? end : slice);
    if (status == MLOS_E_AGAIN) status = client_sleep(c, slot, watch, end < slice ? end : slice);
    uint64_t now = now_ns();
    if (c->wait.mode == MLOS_WAIT_ADAPTIVE) {
        waiter_slept(&c->wait, now - start);
        waiter_learn(&c->wait, now - start);
    }
    return status == MLOS_E_TICK && now >= end ? MLOS_E_TIMEOUT : status;
}

static answer_watch watch_for(mlos_channel *c, uint32_t slot) {
    return (answer_watch){.channel = c,
                          .slot = &c->slots[slot],
                          .generation = mlos_word_generation(c->words[slot])};
}

int mlos_poll(mlos_channel *c, uint32_t slot) {
    CHECK_SLOT(c, slot);
    uint64_t word;
    if (mlos_word_state(c->words[slot]) == MLOS_FREE)
        return FAIL(MLOS_E_ARGUMENT, "slot %u was not submitted", slot);
    if (!answered(c, slot, &word)) return closed(c) ? MLOS_E_CLOSED : MLOS_E_AGAIN;
    HINT_SET(&c->peer_cpu, c->slots[slot].worker_cpu);
    return (int)(READ_ONCE(c->slots[slot].reply_len) & (MLOS_SAME - 1));
}

int mlos_wait(mlos_channel *c, uint32_t slot, int64_t timeout_ns) {
    CHECK_SLOT(c, slot);
    answer_watch watch = watch_for(c, slot);
    int status = client_wait(c, slot, &watch, timeout_ns);
    return status ? status : mlos_poll(c, slot);
}

static int same_reply(mlos_channel *c, uint32_t slot, const char *known, uint32_t length) {
    uint32_t got;
    const uint8_t *bytes = mlos_reply(c, slot, &got);
    return bytes && got == length && !memcmp(bytes, known, length) ? MLOS_SAME : 0;
}

int mlos_call(mlos_channel *c, mlos_bell *bell, uint32_t slot, uint64_t header_off,
              uint32_t header_len, int64_t timeout_ns, const char *known, uint32_t known_len) {
    CHECK_SLOT(c, slot);
    if (!enter(c, slot)) return FAIL(MLOS_E_BUSY, "another thread uses slot %u", slot);
    int status = submit(c, bell, slot, header_off, header_len, timeout_ns);
    if (!status) status = mlos_wait(c, slot, timeout_ns);
    if (status > 0 && known) status |= same_reply(c, slot, known, known_len);
    leave(c, slot);
    return status;
}

void mlos_client_bell(mlos_channel *c, mlos_bell *bell) { atomic_store(&c->bell, bell); }

int mlos_run(const mlos_request *r) {
    mlos_channel *c = r->channel;
    return mlos_call(c, atomic_load_explicit(&c->bell, memory_order_acquire), r->slot,
                     r->header_off, r->header_len, r->timeout_ns, r->known, r->known_len);
}

/* --- the answer ---------------------------------------------------------------------------- */

const uint8_t *mlos_reply(mlos_channel *c, uint32_t slot, uint32_t *length) {
    const mlos_slot *s = &c->slots[slot];
    uint64_t off = READ_ONCE(s->reply_off);
    *length = READ_ONCE(s->reply_len);
    return channel_has(c, off, *length) ? c->base + off : NULL;
}

void mlos_reply_times(mlos_channel *c, uint32_t slot, uint64_t *queue_ns, uint64_t *run_ns) {
    const mlos_slot *s = &c->slots[slot];
    *queue_ns = s->taken_ns - s->submitted_ns;
    *run_ns = s->answered_ns - s->taken_ns;
}

void mlos_cancel(mlos_channel *c, uint32_t slot) {
    if (is_disowned(c) || !valid(c, slot)) return;
    /* A free slot has the generation of the request that comes next. */
    if (mlos_word_state(c->words[slot]) == MLOS_FREE) return;
    atomic_store_explicit(&c->slots[slot].cancel,
                          (uint64_t)mlos_word_generation(c->words[slot]) + 1,
                          memory_order_release);
}

/* --- streams ------------------------------------------------------------------------------- */

static uint32_t ring_u32(const uint8_t *ring, uint32_t mask, uint32_t at) {
    uint8_t b[4];
    for (uint32_t i = 0; i < 4; i++) b[i] = ring[(at + i) & mask];
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static void ring_read(const uint8_t *ring, uint32_t size, uint32_t at, char *into, uint32_t n) {
    uint32_t first = size - (at & (size - 1));
    if (first > n) first = n;
    memcpy(into, ring + (at & (size - 1)), first);
    memcpy(into + first, ring, n - first);
}

/* Take one event out of the ring: its length, or MLOS_E_AGAIN. */
static int take_event(mlos_channel *c, uint32_t index, char *into, uint32_t room) {
    mlos_slot *slot = &c->slots[index];
    /* SYNC POINT: the event's bytes are visible to whoever sees the head (mlos_emit). */
    uint32_t head = (uint32_t)atomic_load_explicit(&slot->event_head, memory_order_acquire);
    uint32_t tail = (uint32_t)atomic_load_explicit(&slot->event_tail, memory_order_relaxed);
    uint32_t there = head - tail;
    if (!there) return MLOS_E_AGAIN;
    const uint8_t *ring = channel_event_ring(c, index);
    const uint32_t length = there < 4 ? 0 : ring_u32(ring, c->event_bytes - 1, tail);
    if (there > c->event_bytes || !length || length > there - 4)
        return FAIL(MLOS_E_BROKEN, "the event ring contradicts itself");
    if (length > room) return FAIL(MLOS_E_TOO_BIG, "an event of %u bytes", length);
    ring_read(ring, c->event_bytes, tail + 4, into, length);
    /* SYNC POINT: the bytes are read before the producer may write there again (mlos_emit). */
    atomic_store_explicit(&slot->event_tail, tail + 4 + length, memory_order_release);
    return (int)length;
}

int mlos_next_event(mlos_channel *c, uint32_t index, char *into, uint32_t room,
                    int64_t timeout_ns) {
    CHECK_SLOT(c, index);
    answer_watch watch = watch_for(c, index);
    watch.streaming = true;
    watch.events = atomic_load_explicit(&c->slots[index].event_head, memory_order_acquire);
    uint64_t word;
    bool last = answered(c, index, &word); /* before the look at the ring: no event is missed */
    int got = take_event(c, index, into, room);
    if (got != MLOS_E_AGAIN) return got;
    if (last) return 0;
    if (!timeout_ns) return MLOS_E_AGAIN;
    int status = client_wait(c, index, &watch, timeout_ns);
    return status ? status : mlos_next_event(c, index, into, room, 0);
}

/* --- asyncio ------------------------------------------------------------------------------- */

void mlos_arm(mlos_channel *c, int armed) {
    /* SYNC POINT with channel_notify(): the flag first, then the caller looks at the bits. */
    atomic_store(&c->header->notify, armed ? 1u : 0u);
}

int mlos_take_done(mlos_channel *c, uint64_t *bits) {
    int count = 0;
    for (uint32_t i = 0; i < MLOS_MAX_SLOTS / 64; i++) {
        bits[i] = i * 64 < c->slot_count && atomic_load(&c->header->done_bits[i])
                      ? atomic_exchange(&c->header->done_bits[i], 0)
                      : 0;
        count += __builtin_popcountll(bits[i]);
    }
    return count;
}

/* --- arena C ------------------------------------------------------------------------------- */

int64_t mlos_arena_alloc(mlos_channel *c, uint64_t bytes) {
    if (is_disowned(c)) return MLOS_E_FORKED;
    pthread_mutex_lock(&c->lock);
    int64_t at = arena_alloc(c->book, bytes);
    pthread_mutex_unlock(&c->lock);
    return at < 0 ? at : at + (int64_t)c->arena_c_off;
}

int mlos_arena_free(mlos_channel *c, uint64_t offset) {
    if (is_disowned(c)) return MLOS_E_FORKED;
    pthread_mutex_lock(&c->lock);
    int status = arena_free(c->book, offset - c->arena_c_off);
    pthread_mutex_unlock(&c->lock);
    return status;
}

uint64_t mlos_arena_used(mlos_channel *c) {
    if (is_disowned(c)) return 0;
    pthread_mutex_lock(&c->lock);
    uint64_t used = arena_used(c->book);
    pthread_mutex_unlock(&c->lock);
    return used;
}
