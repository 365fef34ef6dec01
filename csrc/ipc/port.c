/* SPDX-License-Identifier: BUSL-1.1 */
/* A worker's end of all channels of its model.
 *
 * Guarantees: nothing in a segment is trusted; whatever a client writes, the worst that
 * happens here is a request that is answered with an error or a channel that is given up.
 * Assumes: one thread claims and answers (others only interrupt); indices are the caller's.
 */
#include "port.h"

#include <stdlib.h>
#include <string.h>

#include "bell.h"

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
    atomic_fetch_or(&channel->header->lanes, 1u << p->lane);
    return 0;
}

static void drop_orphans(mlos_port *p, uint32_t index) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->orphan_count; i++)
        if (p->orphans[i].index != index) p->orphans[kept++] = p->orphans[i];
    p->orphan_count = kept;
}

static bool has_orphans(const mlos_port *p, uint32_t index) {
    for (uint32_t i = 0; i < p->orphan_count; i++)
        if (p->orphans[i].index == index) return true;
    return false;
}

/* Clients ring others from now on. One may have rung us for what we shall not look at. */
static void leave_lane(mlos_port *p, mlos_channel *c) {
    atomic_fetch_and(&c->header->lanes, ~(1u << p->lane));
    bell_ring(p->bell, c->header);
}

void mlos_port_leave(mlos_port *p) {
    for (uint32_t i = 0; i < p->active_count; i++) leave_lane(p, p->seats[p->active[i]]->channel);
}

int mlos_port_remove(mlos_port *p, uint32_t index, int how) {
    if (index >= MAX_CHANNELS || !p->seats[index])
        return FAIL(MLOS_E_ARGUMENT, "seat %u is empty", index);
    seat *s = p->seats[index];
    /* Once: asked again, the lane may be that of another seat of the same segment, which was
     * given back to us meanwhile. */
    if (!s->leaving) leave_lane(p, s->channel);
    s->leaving = true;
    if (how != MLOS_REMOVE_FINISH) {
        s->cancelled = true;
        drop_orphans(p, index);
    }
    /* Whoever holds a request knows it by (index, slot), which must not come to mean another's.
     * Orphans count as held: they carry our number, so nobody else would take them over. */
    if (how != MLOS_REMOVE_NOW && (s->held || has_orphans(p, index)))
        return FAIL(MLOS_E_AGAIN, "%u requests of seat %u are held", s->held, index);
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

/* The slot is ours: read it once, into private memory. */
static int64_t begin(mlos_port *p, uint32_t index, uint32_t number, uint64_t word) {
    seat *s = p->seats[index];
    mlos_slot *slot = &s->channel->slots[number];
    mlos_task *t = &s->tasks[number];
    if (!t->held) {
        s->held++;
        COUNT(p->stats.held, 1);
    }
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
    p->seats[index]->why = why;
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

uint64_t mlos_channel_pending(mlos_channel *c) {
    /* The head first: it never passes the tail, which only grows. */
    uint64_t head = atomic_load_explicit(&c->header->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&c->header->tail, memory_order_acquire);
    if (tail <= head) return 0; /* a client may write what it likes there */
    return tail - head < c->slot_count ? tail - head : c->slot_count;
}

uint64_t mlos_channel_unanswered(mlos_channel *c) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < c->slot_count; i++) {
        uint64_t word = atomic_load_explicit(&c->slots[i].word, memory_order_acquire);
        uint32_t state = mlos_word_state(word);
        count += state == MLOS_FILLED || state == MLOS_TAKEN;
    }
    return count;
}

uint64_t mlos_port_pending(mlos_port *p) {
    uint64_t pending = 0;
    for (uint32_t i = 0; i < p->active_count; i++) {
        mlos_channel *c = p->seats[p->active[i]]->channel;
        if (!mlos_channel_broken(c)) pending += mlos_channel_pending(c);
    }
    return pending;
}

/* SYNC POINT with bell_ring(), as in port_sleep(). */
int mlos_port_watch(mlos_port *p, int64_t timeout_ns) {
    uint32_t lane = 1u << p->lane;
    uint64_t start = now_ns();
    uint64_t end = timeout_ns < 0 ? UINT64_MAX : start + (uint64_t)timeout_ns;
    int status;
    atomic_fetch_or(&p->bell->sleepers, lane);
    for (;;) {
        uint32_t seq = atomic_load(&p->bell->seq);
        status = 0;
        if (mlos_port_pending(p)) break;
        status = MLOS_E_TICK;
        if (atomic_exchange(&p->interrupted, 0)) break;
        int error = futex_wait(&p->bell->seq, seq, end, lane);
        if (error == EINTR) break;
        status = mlos_port_pending(p) ? 0 : MLOS_E_TIMEOUT;
        if (error == ETIMEDOUT || now_ns() >= end) break;
    }
    atomic_fetch_and(&p->bell->sleepers, ~lane);
    return status;
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

mlos_task *mlos_port_task(mlos_port *p, uint32_t index, uint32_t slot) {
    return task_at(p, index, slot);
}

int mlos_port_take_broken(mlos_port *p) {
    for (uint32_t i = 0; i < p->active_count; i++) {
        seat *s = p->seats[p->active[i]];
        if (!s->leaving && (s->given_up || mlos_channel_broken(s->channel))) {
            s->given_up = true;
            FAIL(MLOS_E_BROKEN, "%s", s->why ? s->why : "the segment was truncated");
            return (int)p->active[i];
        }
    }
    return MLOS_E_AGAIN;
}
