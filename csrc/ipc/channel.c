/* SPDX-License-Identifier: BUSL-1.1 */
#include "channel.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "arena.h"
#include "error.h"
#include "guard.h"

uint64_t mlos_now(void) { return now_ns(); }

/* --- geometry ------------------------------------------------------------------------------ */

static uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

static uint32_t power_of_two_from(uint32_t n) {
    uint32_t p = 1;
    while (p < n) p *= 2;
    return p;
}

#define MAX_ARENA (UINT64_C(1) << 40)
#define MIN_BLOCK_SHIFT 12u

/* Fill in everything that follows from the four numbers a channel is made of. */
static int plan(mlos_header *h, const mlos_geometry *g) {
    if (!g->slots || g->slots > MLOS_MAX_SLOTS)
        return FAIL(MLOS_E_ARGUMENT, "%u slots, not 1 to %u", g->slots, MLOS_MAX_SLOTS);
    if (g->event_bytes < 256 || g->event_bytes > 1u << 24 ||
        g->event_bytes != power_of_two_from(g->event_bytes))
        return FAIL(MLOS_E_ARGUMENT, "%u is no size for an event ring", g->event_bytes);
    if (!g->request_bytes || g->request_bytes > MAX_ARENA || !g->reply_bytes ||
        g->reply_bytes > MAX_ARENA)
        return FAIL(MLOS_E_ARGUMENT, "an arena has no size");
    h->version = MLOS_LAYOUT_VERSION;
    h->slot_count = g->slots;
    h->ring_size = power_of_two_from(g->slots);
    h->event_bytes = g->event_bytes;
    uint32_t shift = MIN_BLOCK_SHIFT;
    while ((g->reply_bytes + (1ull << shift) - 1) >> shift > MLOS_MAX_BLOCKS) shift++;
    h->block_shift = shift;
    h->block_count = (uint32_t)((g->reply_bytes + (1ull << shift) - 1) >> shift);
    h->ring_off = sizeof(mlos_header);
    h->blocks_off = round_up(h->ring_off + 4ull * h->ring_size, MLOS_LINE);
    h->slots_off = round_up(h->blocks_off + 8ull * h->block_count, MLOS_LINE);
    h->events_off = round_up(h->slots_off + sizeof(mlos_slot) * g->slots, MLOS_PAGE);
    /* the rings, and behind them as many journals of the same size */
    h->arena_c_off = round_up(h->events_off + 2ull * g->event_bytes * g->slots, MLOS_PAGE);
    h->arena_c_size = round_up(g->request_bytes, MLOS_PAGE);
    h->arena_w_off = h->arena_c_off + h->arena_c_size;
    h->arena_w_size = (uint64_t)h->block_count << shift;
    h->total_size = h->arena_w_off + h->arena_w_size;
    return 0;
}

int64_t mlos_segment_size(const mlos_geometry *g) {
    mlos_header h = {0};
    int status = plan(&h, g);
    return status ? status : (int64_t)h.total_size;
}

int mlos_segment_format(int fd, const mlos_geometry *g) {
    mlos_header h = {0};
    int status = plan(&h, g);
    if (status) return status;
    void *base = mmap(NULL, h.arena_c_off, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) return FAIL(MLOS_E_SYSTEM, "mmap: %s", strerror(errno));
    atomic_store(&h.state, MLOS_OPEN);
    memcpy(base, &h, sizeof h);
    /* SYNC POINT: geometry visible to whoever sees the magic (mlos_channel_map). */
    atomic_store_explicit(&((mlos_header *)base)->magic, MLOS_MAGIC, memory_order_release);
    munmap(base, h.arena_c_off);
    return 0;
}

/* The geometry in a header equals what its own four numbers give: nothing overlaps and
 * nothing lies outside. */
static int check(const mlos_header *h, uint64_t file_size) {
    if (h->version != MLOS_LAYOUT_VERSION)
        return FAIL(MLOS_E_BROKEN, "layout version %u, this build speaks %u", h->version,
                    MLOS_LAYOUT_VERSION);
    mlos_geometry g = {.slots = h->slot_count,
                       .event_bytes = h->event_bytes,
                       .request_bytes = h->arena_c_size,
                       .reply_bytes = h->arena_w_size};
    mlos_header want = {0};
    if (plan(&want, &g)) return FAIL(MLOS_E_BROKEN, "impossible geometry");
    const size_t from = offsetof(mlos_header, version), to = offsetof(mlos_header, pad0);
    if (memcmp((const uint8_t *)&want + from, (const uint8_t *)h + from, to - from))
        return FAIL(MLOS_E_BROKEN, "the geometry contradicts itself");
    if (want.total_size > file_size) return FAIL(MLOS_E_BROKEN, "the segment is cut short");
    return 0;
}

/* The daemon reserves every page. A file with holes was made longer afterwards, and mapping
 * it would fill /dev/shm. */
static int check_reserved(const mlos_header *h, uint64_t reserved) {
    if (reserved < h->total_size) return FAIL(MLOS_E_BROKEN, "the segment has holes");
    return 0;
}

/* --- mapping ------------------------------------------------------------------------------- */

static int read_header(int fd, mlos_header *h, uint64_t *size) {
    struct stat st;
    if (fstat(fd, &st)) return FAIL(MLOS_E_SYSTEM, "fstat: %s", strerror(errno));
    ssize_t got = pread(fd, h, sizeof *h, 0); /* no mapping yet, so no SIGBUS either */
    if (got != sizeof *h) return FAIL(MLOS_E_BROKEN, "the segment is shorter than its header");
    if (h->magic != MLOS_MAGIC) return FAIL(MLOS_E_BROKEN, "the segment is not formatted");
    *size = (uint64_t)st.st_size;
    int status = check(h, *size);
    return status ? status : check_reserved(h, 512 * (uint64_t)st.st_blocks);
}

static int fill_client_side(mlos_channel *c) {
    c->words = calloc(c->slot_count, sizeof *c->words);
    c->free_slots = calloc(c->slot_count, sizeof *c->free_slots);
    c->book = arena_new(c->arena_c_size);
    c->busy = calloc(c->slot_count, sizeof *c->busy);
    if (!c->busy || !c->words || !c->free_slots || !c->book) return FAIL(MLOS_E_SYSTEM, "out of memory");
    for (uint32_t i = 0; i < c->slot_count; i++) {
        c->free_slots[i] = c->slot_count - 1 - i;
        c->words[i] = atomic_load(&c->slots[i].word);
    }
    c->free_count = c->slot_count;
    return 0;
}

static int fill(mlos_channel *c, const mlos_header *h, int fd, int guarded) {
    c->size = h->total_size;
    void *base = mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (base == MAP_FAILED) return FAIL(MLOS_E_SYSTEM, "mmap: %s", strerror(errno));
    c->base = base;
    if (guarded && (c->guard = guard_add(c->base, c->size)) < 0) return c->guard;
    c->header = base;
    c->ring = (void *)(c->base + h->ring_off);
    c->tags = (void *)(c->base + h->blocks_off);
    c->slots = (void *)(c->base + h->slots_off);
    c->events = c->base + h->events_off;
    c->arena_c_off = h->arena_c_off;
    c->arena_c_size = h->arena_c_size;
    c->arena_w_off = h->arena_w_off;
    c->arena_w_size = h->arena_w_size;
    c->slot_count = h->slot_count;
    c->ring_mask = h->ring_size - 1;
    c->event_bytes = h->event_bytes;
    c->block_count = h->block_count;
    c->block_shift = h->block_shift;
    return guarded ? 0 : fill_client_side(c);
}

mlos_channel *mlos_channel_map(int fd, int event_fd, int guarded) {
    mlos_header h;
    uint64_t size;
    if (read_header(fd, &h, &size)) return NULL;
    mlos_channel *c = calloc(1, sizeof *c);
    if (!c) {
        FAIL(MLOS_E_SYSTEM, "out of memory");
        return NULL;
    }
    c->guard = -1;
    c->event_fd = event_fd;
    pthread_mutex_init(&c->lock, NULL);
    waiter_init(&c->wait, MLOS_WAIT_ADAPTIVE, 100000);
    if (fill(c, &h, fd, guarded)) {
        mlos_channel_unmap(c);
        return NULL;
    }
    return c;
}

void mlos_channel_unmap(mlos_channel *c) {
    if (!c) return;
    if (c->guard >= 0) guard_remove(c->guard);
    if (c->base) munmap(c->base, c->size);
    if (c->book) arena_delete(c->book);
    pthread_mutex_destroy(&c->lock);
    free((void *)c->busy);
    free(c->words);
    free(c->free_slots);
    free(c);
}

uint8_t *mlos_channel_base(mlos_channel *c) { return c->base; }
uint64_t mlos_channel_size(mlos_channel *c) { return c->size; }
uint32_t mlos_channel_slots(mlos_channel *c) { return c->slot_count; }
uint64_t mlos_channel_request_bytes(mlos_channel *c) { return c->arena_c_size; }
uint64_t mlos_channel_reply_bytes(mlos_channel *c) { return c->arena_w_size; }

int mlos_channel_broken(mlos_channel *c) { return c->guard >= 0 && guard_hit(c->guard); }

/* --- closing ------------------------------------------------------------------------------- */

int mlos_segment_shut(int fd, const char *reason, uint32_t length) {
    mlos_channel *c = mlos_channel_map(fd, -1, 1);
    if (!c) return MLOS_E_BROKEN;
    mlos_header *h = c->header;
    if (length > MLOS_REASON_BYTES) length = MLOS_REASON_BYTES;
    memcpy(h->reason, reason, length);
    h->reason_len = length;
    /* SYNC POINT: the reason is visible to a client that sees CLOSED. */
    atomic_store(&h->state, MLOS_CLOSED);
    atomic_fetch_add(&h->done_seq, 1);
    futex_wake(&h->done_seq, INT_MAX, FUTEX_BITSET_MATCH_ANY);
    mlos_channel_unmap(c);
    return 0;
}

int mlos_segment_clear_lane(int fd, uint32_t lane) {
    mlos_channel *c = mlos_channel_map(fd, -1, 1);
    if (!c) return MLOS_E_BROKEN;
    if (lane < MLOS_MAX_LANES) atomic_fetch_and(&c->header->lanes, ~(1u << lane));
    mlos_channel_unmap(c);
    return 0;
}

int mlos_channel_reason(mlos_channel *c, char *into, uint32_t room) {
    if (atomic_load(&c->header->state) == MLOS_OPEN) return 0;
    uint32_t length = READ_ONCE(c->header->reason_len);
    if (length > MLOS_REASON_BYTES) length = MLOS_REASON_BYTES;
    if (length > room) length = room;
    memcpy(into, c->header->reason, length);
    return (int)length;
}

/* --- completion ---------------------------------------------------------------------------- */

void channel_signal(mlos_channel *c) {
    if (c->event_fd < 0) return;
    /* A full counter already wakes the reader. It is not written to even where EAGAIN would
     * say the same: the client shares the descriptor's flags, and may have made it wait. */
    struct pollfd room = {.fd = c->event_fd, .events = POLLOUT};
    uint64_t one = 1;
    if (poll(&room, 1, 0) == 1 && room.revents == POLLOUT &&
        write(c->event_fd, &one, sizeof one) < 0)
        errno = 0;
}

void channel_notify(mlos_channel *c, uint32_t slot) {
    mlos_header *h = c->header;
    atomic_fetch_or(&h->done_bits[slot / 64], UINT64_C(1) << (slot % 64));
    /* SYNC POINT with client_sleep(): it registers in done_waiters, reads done_seq, looks at
     * the slot, sleeps on done_seq. Here: slot first, then done_seq, then the waiters. */
    atomic_fetch_add(&h->done_seq, 1);
    CRASH_POINT(CRASH_MARKED);
    if (atomic_load(&h->done_waiters)) futex_wake(&h->done_seq, INT_MAX, 1u << (slot % 32));
    if (atomic_load(&h->notify)) channel_signal(c);
    CRASH_POINT(CRASH_WOKEN);
}
