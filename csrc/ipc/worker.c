/* SPDX-License-Identifier: BUSL-1.1 */
/* A worker's end of all channels of its model.
 *
 * Guarantees: nothing in a segment is trusted; whatever a client writes, the worst that
 * happens here is a request that is answered with an error or a channel that is given up.
 * Assumes: one thread claims and answers (others only interrupt); indices are the caller's.
 */
#include <stdlib.h>
#include <string.h>

#include "bell.h"
#include "channel.h"
#include "error.h"

#define MAX_CHANNELS 4096u
#define MAX_HEADER (1u << 20)

typedef struct seat {
    mlos_channel *channel;
    mlos_task *tasks;
    uint32_t slot_count;
    uint32_t held; /* claimed and not answered */
    bool given_up; /* its client broke it */
    bool leaving;  /* to be removed once nothing is held */
} seat;

typedef struct orphan {
    uint32_t index, slot;
} orphan;

struct mlos_port {
    mlos_bell *bell;
    uint32_t owner, lane, max_attempts;
    waiter wait;
    int64_t patience_ns;
    atomic_uint interrupted;
    seat *seats[MAX_CHANNELS];
    uint32_t active[MAX_CHANNELS]; /* indices of the seats taken */
    uint32_t active_count;
    uint32_t cursor; /* where the next look starts: no channel starves another */
    uint32_t peer_cpu;
    uint64_t parted_ns;
    mlos_port_stats stats;
    orphan *orphans;
    uint32_t orphan_count, orphan_room;
};

/* --- life ---------------------------------------------------------------------------------- */

mlos_port *mlos_port_new(mlos_bell *bell, uint32_t owner, uint32_t lane, int mode,
                         uint64_t poll_max_ns, uint32_t max_attempts) {
    if (!owner || owner > 0xffffffu || lane >= MLOS_MAX_LANES || !max_attempts ||
        max_attempts > MLOS_MAX_ATTEMPTS) {
        FAIL(MLOS_E_ARGUMENT, "owner %u, lane %u, %u attempts", owner, lane, max_attempts);
        return NULL;
    }
    mlos_port *p = calloc(1, sizeof *p);
    if (!p) {
        FAIL(MLOS_E_SYSTEM, "out of memory");
        return NULL;
    }
    p->bell = bell;
    p->owner = owner;
    p->lane = lane;
    p->max_attempts = max_attempts;
    p->patience_ns = -1;
    waiter_init(&p->wait, mode, poll_max_ns);
    return p;
}

static void seat_free(seat *s) {
    for (uint32_t i = 0; s->tasks && i < s->slot_count; i++) {
        free(s->tasks[i].header);
        free(s->tasks[i].reply);
    }
    free(s->tasks);
    free(s);
}

void mlos_port_free(mlos_port *p) {
    if (!p) return;
    for (uint32_t i = 0; i < MAX_CHANNELS; i++)
        if (p->seats[i]) seat_free(p->seats[i]);
    /* The doorbell may be gone already; a port that does not sleep has no lane to clear. */
    free(p->orphans);
    free(p);
}

int mlos_port_add(mlos_port *p, uint32_t index, mlos_channel *channel) {
    if (index >= MAX_CHANNELS || p->seats[index])
        return FAIL(MLOS_E_ARGUMENT, "seat %u is no free one", index);
    seat *s = calloc(1, sizeof *s);
    if (s) s->tasks = calloc(channel->slot_count, sizeof *s->tasks);
    if (!s || !s->tasks) {
        free(s);
        return FAIL(MLOS_E_SYSTEM, "out of memory");
    }
    s->channel = channel;
    s->slot_count = channel->slot_count;
    for (uint32_t i = 0; i < s->slot_count; i++)
        s->tasks[i] = (mlos_task){.port = p, .index = index, .slot = i};
    p->seats[index] = s;
    p->active[p->active_count++] = index;
    return 0;
}

static void drop_orphans(mlos_port *p, uint32_t index) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->orphan_count; i++)
        if (p->orphans[i].index != index) p->orphans[kept++] = p->orphans[i];
    p->orphan_count = kept;
}

int mlos_port_remove(mlos_port *p, uint32_t index, int force) {
    if (index >= MAX_CHANNELS || !p->seats[index])
        return FAIL(MLOS_E_ARGUMENT, "seat %u is empty", index);
    seat *s = p->seats[index];
    s->leaving = true;
    drop_orphans(p, index);
    /* Whoever holds a request knows it by (index, slot), which must not come to mean another's. */
    if (s->held && !force) return FAIL(MLOS_E_AGAIN, "%u requests of seat %u are held", s->held, index);
    seat_free(s);
    p->seats[index] = NULL;
    for (uint32_t i = 0; i < p->active_count; i++) {
        if (p->active[i] != index) continue;
        p->active[i] = p->active[--p->active_count];
        break;
    }
    return 0;
}

void mlos_port_interrupt(mlos_port *p) {
    atomic_store(&p->interrupted, 1);
    /* SYNC POINT with port_sleep(), as in bell_ring(). */
    atomic_fetch_add(&p->bell->seq, 1);
    futex_wake(&p->bell->seq, INT_MAX, 1u << p->lane);
}

/* --- claiming ------------------------------------------------------------------------------ */

static int64_t key_of(uint32_t index, uint32_t slot, bool fault, bool same) {
    return (int64_t)index << 12 | (int64_t)slot << 2 | (fault ? 2 : 0) | (same ? 1 : 0);
}

/* Keep a private copy of the header. Returns whether it equals the one kept before. */
static bool copy_header(mlos_channel *c, mlos_task *t, uint64_t off, uint32_t length) {
    if (length > MAX_HEADER || !channel_has(c, off, length)) {
        t->fault = MLOS_FAULT_HEADER;
        return false;
    }
    const uint8_t *shared = c->base + off;
    if (t->header && t->header_len == length && !memcmp(t->header, shared, length)) return true;
    if (t->header_room < length) {
        char *grown = realloc(t->header, length);
        if (!grown) {
            t->fault = MLOS_FAULT_HEADER;
            return false;
        }
        t->header = grown;
        t->header_room = length;
    }
    if (length) memcpy(t->header, shared, length);
    t->header_len = length;
    return false;
}

static bool cancelled(mlos_slot *slot, uint64_t word) {
    return atomic_load_explicit(&slot->cancel, memory_order_acquire) ==
           (uint64_t)mlos_word_generation(word) + 1;
}

/* The slot is ours: read it once, into private memory. */
static int64_t begin(mlos_port *p, uint32_t index, uint32_t number, uint64_t word) {
    seat *s = p->seats[index];
    mlos_slot *slot = &s->channel->slots[number];
    mlos_task *t = &s->tasks[number];
    if (!t->held) s->held++;
    t->held = 1;
    t->word = word;
    t->fault = MLOS_FAULT_NONE;
    t->taken_ns = now_ns();
    t->submitted_ns = READ_ONCE(slot->submitted_ns);
    if (t->submitted_ns > t->taken_ns) t->submitted_ns = t->taken_ns;
    t->deadline_ns = READ_ONCE(slot->deadline_ns);
    t->attempts = mlos_word_attempts(word);
    t->events_sent = t->attempts ? atomic_load(&slot->event_head) >> 32 : 0;
    p->peer_cpu = READ_ONCE(slot->client_cpu);
    bool same = copy_header(s->channel, t, READ_ONCE(slot->header_off),
                            READ_ONCE(slot->header_len));
    if (t->fault) {
        free(t->header); /* nothing may be taken for equal to a header that was not read */
        t->header = NULL;
        t->header_len = t->header_room = 0;
        same = false;
    } else if (t->attempts >= p->max_attempts) {
        t->fault = MLOS_FAULT_QUARANTINED;
    } else if (cancelled(slot, word)) {
        t->fault = MLOS_FAULT_CANCELLED;
    } else if (t->deadline_ns && t->taken_ns >= t->deadline_ns) {
        t->fault = MLOS_FAULT_EXPIRED;
    }
    return key_of(index, number, t->fault != MLOS_FAULT_NONE, same);
}

static void give_up(mlos_port *p, uint32_t index, const char *why) {
    p->seats[index]->given_up = true;
    FAIL(MLOS_E_BROKEN, "%s", why);
}

/* Take the next slot number out of one channel's ring and claim it. Looks at no more entries
 * than the ring has, or a client that keeps writing nonsense would keep the worker here. */
static int64_t pop(mlos_port *p, uint32_t index) {
    seat *s = p->seats[index];
    mlos_channel *c = s->channel;
    mlos_header *h = c->header;
    uint64_t head = atomic_load_explicit(&h->head, memory_order_acquire);
    for (uint32_t looked = 0; looked <= c->ring_mask; looked++) {
        /* SYNC POINT: ring entry and slot are visible to whoever sees the tail (mlos_submit). */
        uint64_t tail = atomic_load_explicit(&h->tail, memory_order_acquire);
        if (head == tail) return MLOS_E_AGAIN;
        if (tail - head > (uint64_t)c->ring_mask + 1) {
            /* Honest where another worker has popped since: a head that stands still tells. */
            uint64_t before = head;
            head = atomic_load_explicit(&h->head, memory_order_acquire);
            if (head != before) continue;
            give_up(p, index, "the submission ring contradicts itself");
            return MLOS_E_AGAIN;
        }
        uint32_t number = atomic_load_explicit(&c->ring[head & c->ring_mask], memory_order_relaxed);
        if (!atomic_compare_exchange_strong(&h->head, &head, head + 1)) continue;
        CRASH_POINT(CRASH_POPPED);
        head++;
        if (number >= c->slot_count) continue;
        mlos_slot *slot = &c->slots[number];
        uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire);
        if (mlos_word_state(word) != MLOS_FILLED) continue; /* a successor adopted it */
        uint64_t mine = mlos_word(mlos_word_generation(word), p->owner, mlos_word_attempts(word),
                                  MLOS_TAKEN);
        if (slot_move(slot, T_TAKE, word, mine)) return begin(p, index, number, mine);
    }
    return MLOS_E_TICK; /* there may be more: after the other channels */
}

/* The next slot that was taken over; MLOS_E_AGAIN when there is none. */
static int64_t next_orphan(mlos_port *p) {
    while (p->orphan_count) {
        orphan o = p->orphans[0];
        p->orphan_count--;
        memmove(p->orphans, p->orphans + 1, p->orphan_count * sizeof *p->orphans);
        uint64_t word = atomic_load(&p->seats[o.index]->channel->slots[o.slot].word);
        /* The client may have scribbled on it since. */
        if (mlos_word_state(word) == MLOS_TAKEN && mlos_word_owner(word) == p->owner)
            return begin(p, o.index, o.slot, word);
    }
    return MLOS_E_AGAIN;
}

/* Look once at every channel. */
static int64_t look(mlos_port *p) {
    for (uint32_t i = 0; i < p->active_count; i++) {
        if (++p->cursor >= p->active_count) p->cursor = 0;
        uint32_t index = p->active[p->cursor];
        seat *s = p->seats[index];
        if (s->given_up || s->leaving) continue;
        if (mlos_channel_broken(s->channel)) {
            give_up(p, index, "the segment was truncated");
            return MLOS_E_TICK;
        }
        int64_t key = pop(p, index);
        if (key != MLOS_E_AGAIN) return key;
        if (s->given_up) return MLOS_E_TICK;
    }
    return MLOS_E_AGAIN;
}

int64_t mlos_port_poll(mlos_port *p) {
    int64_t orphan = next_orphan(p);
    return orphan == MLOS_E_AGAIN ? look(p) : orphan;
}

typedef struct port_watch {
    mlos_port *port;
    int64_t key;
} port_watch;

static bool port_ready(void *context) {
    port_watch *w = context;
    w->key = look(w->port);
    if (w->key != MLOS_E_AGAIN) return true;
    if (atomic_load_explicit(&w->port->interrupted, memory_order_relaxed)) {
        w->key = MLOS_E_TICK;
        return true;
    }
    return false;
}

/* Sleep on the doorbell. SYNC POINT with bell_ring(): lane, seq, rings, sleep. */
static void port_sleep(mlos_port *p, port_watch *watch, uint64_t deadline) {
    uint32_t lane = 1u << p->lane;
    atomic_fetch_or(&p->bell->sleepers, lane);
    for (;;) {
        uint32_t seq = atomic_load(&p->bell->seq);
        if (port_ready(watch)) break;
        int error = futex_wait(&p->bell->seq, seq, deadline, lane);
        /* The clock is asked too: a client that keeps changing seq must not keep us here. */
        if (error == ETIMEDOUT || error == EINTR || now_ns() >= deadline) {
            if (!port_ready(watch)) watch->key = error == EINTR ? MLOS_E_TICK : MLOS_E_TIMEOUT;
            break;
        }
    }
    atomic_fetch_and(&p->bell->sleepers, ~lane);
}

#define PART_EVERY_NS 1000000u

/* The client runs on this very processor: go to another one. Two ends that take turns in
 * microseconds look cache-hot to the scheduler, which leaves them together for good when no
 * processor is idle; apart they answer four times as fast even beside a third busy thread. */
static void part(mlos_port *p, uint64_t now) {
    uint32_t cpu = this_cpu();
    if (!cpu || now - p->parted_ns < PART_EVERY_NS) return;
    p->parted_ns = now;
    cpu_set_t allowed, others;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    others = allowed;
    CPU_CLR(cpu - 1, &others);
    if (!CPU_COUNT(&others) || sched_setaffinity(0, sizeof others, &others)) return;
    sched_setaffinity(0, sizeof allowed, &allowed);
}

int64_t mlos_port_next(mlos_port *p, int64_t timeout_ns) {
    int64_t orphan = next_orphan(p);
    if (orphan != MLOS_E_AGAIN) return orphan;
    if (atomic_exchange(&p->interrupted, 0)) return MLOS_E_TICK;
    port_watch watch = {.port = p};
    if (port_ready(&watch)) return watch.key;
    uint64_t start = now_ns();
    uint64_t end = timeout_ns < 0 ? UINT64_MAX : start + (uint64_t)timeout_ns;
    uint64_t window = waiter_window(&p->wait);
    if (window && p->wait.mode == MLOS_WAIT_ADAPTIVE && p->peer_cpu == this_cpu()) part(p, start);
    if (window > end - start) window = end - start;
    if (waiter_poll(&p->wait, window, p->peer_cpu, port_ready, &watch)) return watch.key;
    if (p->wait.mode == MLOS_WAIT_SPIN) return now_ns() >= end ? MLOS_E_TIMEOUT : MLOS_E_TICK;
    uint64_t slice = start + WAIT_SLICE_NS;
    port_sleep(p, &watch, end < slice ? end : slice);
    uint64_t now = now_ns();
    if (p->wait.mode == MLOS_WAIT_ADAPTIVE) waiter_slept(&p->wait, now - start);
    return watch.key == MLOS_E_TIMEOUT && now < end ? MLOS_E_TICK : watch.key;
}

void mlos_port_patience(mlos_port *p, int64_t timeout_ns) { p->patience_ns = timeout_ns; }

int64_t mlos_port_receive(mlos_port *p) { return mlos_port_next(p, p->patience_ns); }

static mlos_task *task_at(mlos_port *p, uint32_t index, uint32_t slot) {
    if (index >= MAX_CHANNELS || !p->seats[index]) return NULL;
    seat *s = p->seats[index];
    return slot < s->slot_count ? &s->tasks[slot] : NULL;
}

mlos_task *mlos_port_task(mlos_port *p, uint32_t index, uint32_t slot) {
    return task_at(p, index, slot);
}

int mlos_port_take_broken(mlos_port *p) {
    for (uint32_t i = 0; i < p->active_count; i++) {
        seat *s = p->seats[p->active[i]];
        if (!s->leaving && (s->given_up || mlos_channel_broken(s->channel))) {
            s->given_up = true;
            return (int)p->active[i];
        }
    }
    return MLOS_E_AGAIN;
}

/* --- answering ----------------------------------------------------------------------------- */

#define TASK_OR_LOST(p, index, slot)                                                               \
    mlos_task *t = task_at(p, index, slot);                                                        \
    if (!t) return FAIL(MLOS_E_LOST, "channel %u is gone", index);                                 \
    mlos_channel *c = (p)->seats[index]->channel

int mlos_task_stop(mlos_port *p, uint32_t index, uint32_t slot) {
    mlos_task *t = task_at(p, index, slot);
    if (!t || p->seats[index]->given_up || p->seats[index]->leaving) return 1;
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

static void unclaim(mlos_channel *c, uint32_t from, uint32_t to, uint64_t tag) {
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
            unclaim(c, begin, begin + run, tag);
            run = 0;
        }
        if (!claim_block(c, block, tag)) {
            unclaim(c, begin, begin + run, tag);
            run = 0;
            continue;
        }
        CRASH_POINT(CRASH_ALLOCATED);
        if (!run++) begin = block;
        if (run == count) return begin;
    }
    if (run) unclaim(c, begin, begin + run, tag);
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

static void count(mlos_port *p, const mlos_task *t, uint64_t started, uint64_t ended,
                  uint64_t now) {
    mlos_port_stats *s = &p->stats;
    if (started < t->taken_ns) started = t->taken_ns;
    if (!ended || ended > now) ended = now;
    if (started > ended) started = ended;
    s->answered++;
    s->queue_ns += t->taken_ns - t->submitted_ns;
    s->input_ns += started - t->taken_ns;
    s->infer_ns += ended - started;
    s->output_ns += now - ended;
}

static void let_go(mlos_port *p, uint32_t index, mlos_task *t) {
    p->seats[index]->held -= t->held;
    t->held = 0;
}

static int lose(mlos_port *p, uint32_t index, mlos_task *t) {
    let_go(p, index, t);
    p->stats.lost++;
    return FAIL(MLOS_E_LOST, "the slot went to somebody else");
}

int mlos_answer(mlos_port *p, uint32_t index, uint32_t number, const char *header,
                uint32_t length, uint64_t started_ns, uint64_t ended_ns) {
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
    channel_notify(c, number);
    let_go(p, index, t);
    count(p, t, started_ns, ended_ns, now);
    return 0;
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

const mlos_port_stats *mlos_port_statistics(mlos_port *p) { return &p->stats; }

/* --- streams ------------------------------------------------------------------------------- */

static void ring_write(uint8_t *ring, uint32_t size, uint32_t at, const void *data, uint32_t n) {
    uint32_t first = size - (at & (size - 1));
    if (first > n) first = n;
    memcpy(ring + (at & (size - 1)), data, first);
    memcpy(ring, (const uint8_t *)data + first, n - first);
}

int mlos_emit(mlos_port *p, uint32_t index, uint32_t number, const char *data, uint32_t length) {
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

/* --- recovery ------------------------------------------------------------------------------ */

static bool is_alive(const uint32_t *alive, uint32_t count, uint32_t owner) {
    for (uint32_t i = 0; i < count; i++)
        if (alive[i] == owner) return true;
    return false;
}

static int remember(mlos_port *p, uint32_t index, uint32_t slot) {
    if (p->orphan_count == p->orphan_room) {
        uint32_t room = p->orphan_room ? 2 * p->orphan_room : 64;
        orphan *grown = realloc(p->orphans, room * sizeof *grown);
        if (!grown) return FAIL(MLOS_E_SYSTEM, "out of memory");
        p->orphans = grown;
        p->orphan_room = room;
    }
    p->orphans[p->orphan_count++] = (orphan){.index = index, .slot = slot};
    return 0;
}

/* Take one slot over if its worker is dead. 1: taken, 0: nothing to do. */
static bool take_over(mlos_port *p, mlos_channel *c, uint32_t number, uint64_t head,
                      uint32_t limit, const uint32_t *alive, uint32_t alive_count) {
    mlos_slot *slot = &c->slots[number];
    uint64_t word = atomic_load(&slot->word);
    uint32_t generation = mlos_word_generation(word), attempts = mlos_word_attempts(word);
    uint32_t owner = mlos_word_owner(word);
    if (mlos_word_state(word) == MLOS_TAKEN && owner < limit && owner != p->owner &&
        !is_alive(alive, alive_count, owner)) {
        if (attempts < MLOS_MAX_ATTEMPTS) attempts++;
        if (!slot_move(slot, T_RECLAIM, word, mlos_word(generation, p->owner, attempts, MLOS_TAKEN)))
            return false;
        unclaim(c, 0, c->block_count, mlos_tag(generation, number)); /* its half-made reply */
        return true;
    }
    /* Out of the ring and not claimed: its taker died in between, or is just about to claim
     * it, in which case one of the two loses the exchange. */
    if (mlos_word_state(word) == MLOS_FILLED &&
        atomic_load_explicit(&slot->sequence, memory_order_relaxed) < head)
        return slot_move(slot, T_ADOPT, word, mlos_word(generation, p->owner, attempts, MLOS_TAKEN));
    if (mlos_word_state(word) == MLOS_DONE) /* answered, but perhaps not told */
        atomic_fetch_or(&c->header->done_bits[number / 64], UINT64_C(1) << (number % 64));
    return false;
}

static void wake_everyone(mlos_channel *c) {
    atomic_fetch_add(&c->header->done_seq, 1);
    futex_wake(&c->header->done_seq, INT_MAX, FUTEX_BITSET_MATCH_ANY);
    channel_signal(c);
}

int mlos_port_recover(mlos_port *p, uint32_t index, uint32_t limit, const uint32_t *alive,
                      uint32_t alive_count) {
    if (index >= MAX_CHANNELS || !p->seats[index])
        return FAIL(MLOS_E_ARGUMENT, "seat %u is empty", index);
    mlos_channel *c = p->seats[index]->channel;
    uint64_t head = atomic_load(&c->header->head);
    int taken = 0;
    for (uint32_t i = 0; i < c->slot_count; i++) {
        if (!take_over(p, c, i, head, limit, alive, alive_count)) continue;
        int status = remember(p, index, i);
        if (status) return status;
        taken++;
    }
    p->stats.recovered += (uint64_t)taken;
    wake_everyone(c);
    return taken;
}
