/* SPDX-License-Identifier: BUSL-1.1 */
/* The channel's segment, byte by byte. docs/protocol.md is the prose to this file.
 *
 * Guarantees: fixed-width fields, no pointers, every offset asserted. A layout that
 * changes gets a new MLOS_LAYOUT_VERSION.
 * Assumes: a 64-byte cache line for speed, never for correctness.
 */
#ifndef MLOS_LAYOUT_H
#define MLOS_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define MLOS_MAGIC UINT64_C(0x3148434c534f4c4d) /* "MLOSLCH1", little endian */
#define MLOS_LAYOUT_VERSION 3u

#define MLOS_LINE 64u
#define MLOS_PAGE 4096u
#define MLOS_MAX_SLOTS 1024u
#define MLOS_MAX_BLOCKS 4096u
#define MLOS_MAX_LANES 32u
#define MLOS_MAX_ATTEMPTS 15u

/* Areas inside a slot. A header that is larger lies in the arena of its writer. */
#define MLOS_HEADER_BYTES 1024u
#define MLOS_SMALL_BYTES 1024u
#define MLOS_REASON_BYTES 512u

/* A journal that misses a note takes no later one: what it holds is always a beginning. */
#define MLOS_JOURNAL_SHUT (UINT64_C(1) << 63)
/* A note: the low byte of its event's number, its length, its bytes. */
#define MLOS_NOTE_HEAD 2u
#define MLOS_NOTE_BYTES 255u

/* channel state */
#define MLOS_OPEN 1u
#define MLOS_CLOSED 2u

/* slot states */
#define MLOS_FREE 0u
#define MLOS_FILLED 1u
#define MLOS_TAKEN 2u
#define MLOS_DONE 3u

/* The slot's word: generation:32 | owner:24 | attempts:4 | state:4.
 * One compare-and-swap on it is the only way a slot changes hands. The generation grows
 * when the client frees the slot, so that whoever is late finds another word. */
static inline uint64_t mlos_word(uint64_t generation, uint64_t owner, uint64_t attempts,
                                 uint64_t state) {
    return (generation & 0xffffffffu) << 32 | (owner & 0xffffffu) << 8 | (attempts & 0xfu) << 4 |
           (state & 0xfu);
}
static inline uint32_t mlos_word_generation(uint64_t word) { return (uint32_t)(word >> 32); }
static inline uint32_t mlos_word_owner(uint64_t word) { return (uint32_t)(word >> 8) & 0xffffffu; }
static inline uint32_t mlos_word_attempts(uint64_t word) { return (uint32_t)(word >> 4) & 0xfu; }
static inline uint32_t mlos_word_state(uint64_t word) { return (uint32_t)word & 0xfu; }

typedef struct mlos_header {
    /* line 0 and 1: geometry, written once by the daemon; magic is stored last. */
    _Atomic uint64_t magic;
    uint32_t version;
    uint32_t slot_count;
    uint64_t total_size;
    uint64_t ring_off;
    uint64_t blocks_off;
    uint64_t slots_off;
    uint64_t events_off;
    uint64_t arena_c_off;
    uint64_t arena_c_size;
    uint64_t arena_w_off;
    uint64_t arena_w_size;
    uint32_t ring_size;   /* entries, a power of two >= slot_count */
    uint32_t event_bytes; /* per slot, a power of two */
    uint32_t block_count; /* blocks of arena W */
    uint32_t block_shift; /* log2 of a block's size */
    uint8_t pad0[128 - 104];
    /* line 2: written by the daemon when it closes the channel, but for `lanes` */
    _Atomic uint32_t state;
    uint32_t reason_len;
    _Atomic uint32_t lanes; /* the workers that serve this channel, by their bit in the doorbell */
    uint8_t pad1[52];
    /* line 3: written by the client */
    _Atomic uint64_t tail;
    uint8_t pad2[56];
    /* line 4: written by workers */
    _Atomic uint64_t head;
    uint8_t pad3[56];
    /* line 5: completion; `done_seq` is a futex word */
    _Atomic uint32_t done_seq;
    _Atomic uint32_t done_waiters;
    _Atomic uint32_t notify; /* 1: the client waits on its eventfd */
    uint8_t pad4[52];
    /* one bit per slot that was answered or has a new event since the client looked */
    _Atomic uint64_t done_bits[MLOS_MAX_SLOTS / 64];
    char reason[MLOS_REASON_BYTES];
} mlos_header;

static_assert(offsetof(mlos_header, version) == 8, "layout");
static_assert(offsetof(mlos_header, total_size) == 16, "layout");
static_assert(offsetof(mlos_header, arena_c_off) == 56, "layout");
static_assert(offsetof(mlos_header, ring_size) == 88, "layout");
static_assert(offsetof(mlos_header, state) == 128, "layout");
static_assert(offsetof(mlos_header, lanes) == 136, "layout");
static_assert(offsetof(mlos_header, tail) == 192, "layout");
static_assert(offsetof(mlos_header, head) == 256, "layout");
static_assert(offsetof(mlos_header, done_seq) == 320, "layout");
static_assert(offsetof(mlos_header, done_bits) == 384, "layout");
static_assert(offsetof(mlos_header, reason) == 512, "layout");
static_assert(sizeof(mlos_header) == 1024, "layout");

typedef struct mlos_slot {
    /* line 0: written by the client, but for `word` */
    _Atomic uint64_t word;
    _Atomic uint64_t sequence; /* position in the submission ring */
    uint64_t deadline_ns;
    uint64_t submitted_ns;
    uint64_t header_off;
    uint32_t header_len;
    uint32_t client_cpu;
    _Atomic uint64_t cancel; /* generation + 1 that is cancelled */
    uint8_t pad0[8];
    /* line 1: written by the worker that holds the slot */
    uint64_t reply_off;
    uint32_t reply_len;
    uint32_t worker_cpu;
    uint64_t taken_ns;
    uint64_t answered_ns;
    uint8_t pad1[32];
    /* line 2: event ring, producer. count:32 | position:32, stored together */
    _Atomic uint64_t event_head;
    _Atomic uint64_t journal; /* bytes used; MLOS_JOURNAL_SHUT besides once a note did not fit */
    uint8_t pad2[48];
    /* line 3: event ring, consumer position */
    _Atomic uint64_t event_tail;
    uint8_t pad3[56];
    uint8_t request[MLOS_HEADER_BYTES];
    uint8_t reply[MLOS_HEADER_BYTES];
    uint8_t small_c[MLOS_SMALL_BYTES];
    uint8_t small_w[MLOS_SMALL_BYTES];
} mlos_slot;

static_assert(offsetof(mlos_slot, header_off) == 32, "layout");
static_assert(offsetof(mlos_slot, cancel) == 48, "layout");
static_assert(offsetof(mlos_slot, reply_off) == 64, "layout");
static_assert(offsetof(mlos_slot, event_head) == 128, "layout");
static_assert(offsetof(mlos_slot, journal) == 136, "layout");
static_assert(offsetof(mlos_slot, event_tail) == 192, "layout");
static_assert(offsetof(mlos_slot, request) == 256, "layout");
static_assert(sizeof(mlos_slot) == 256 + 4096, "layout");

/* Arena W is cut into blocks. A block belongs to (slot, generation) while its tag says so
 * and that slot still has that generation; otherwise it is free. So nobody has to free a
 * block, and none can leak: a slot that moves on frees its blocks by moving on.
 * tag: generation:32 | slot + 1:32, 0 = never used. */
static inline uint64_t mlos_tag(uint32_t generation, uint32_t slot) {
    return (uint64_t)generation << 32 | (slot + 1u);
}

/* The doorbell of a model: a sealed memfd of one page, shared by all its clients. */
typedef struct mlos_bell {
    _Atomic uint32_t seq; /* futex word */
    uint8_t pad0[60];
    _Atomic uint32_t sleepers; /* bit per lane */
    uint8_t pad1[60];
} mlos_bell;

static_assert(sizeof(mlos_bell) == 128, "layout");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "atomics must be lock-free");

#endif
