/* SPDX-License-Identifier: BUSL-1.1 */
/* The few tile instructions the kernel uses, and the same in plain C for machines without them.
 *
 * One configuration serves everything: sums 16 rows x 16 int32, activations 16 rows x 32 bytes,
 * weights 8 rows (four inputs each) x 16 outputs x 4 bytes. */
#ifndef SYN_AMX_TILES_H
#define SYN_AMX_TILES_H

#include <stdint.h>
#include <string.h>

/* Tiles by number: the instructions want constants. */
#define TILE_SUM(i) (i)     /* 0 .. 3 */
#define TILE_ACT(i) (4 + i) /* 4, 5 */
#define TILE_WGT(i) (6 + i) /* 6, 7 */

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16]; /* of a row */
    uint8_t rows[16];
} tile_config;

_Static_assert(sizeof(tile_config) == 64, "as ldtilecfg reads it");

static inline tile_config tile_shapes(void) {
    tile_config config = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        config.bytes[t] = t == TILE_ACT(0) || t == TILE_ACT(1) ? 32 : 64;
        config.rows[t] = t >= TILE_WGT(0) ? 8 : 16;
    }
    return config;
}

#ifdef SYN_TILES_EMULATED

static _Thread_local uint8_t tiles[8][16][64];
static _Thread_local tile_config tiles_set;

static inline void tile_configure(void) { tiles_set = tile_shapes(); }
static inline void tile_release(void) { memset(&tiles_set, 0, sizeof tiles_set); }
static inline void tile_zero(int t) { memset(tiles[t], 0, sizeof tiles[t]); }

/* Bytes beyond a tile's columns become zero. */
static inline void tile_load(int t, const void *from, size_t stride) {
    memset(tiles[t], 0, sizeof tiles[t]);
    for (int i = 0; i < tiles_set.rows[t]; i++)
        memcpy(tiles[t][i], (const uint8_t *)from + (size_t)i * stride, tiles_set.bytes[t]);
}

static inline void tile_store(int t, void *to, size_t stride) {
    for (int i = 0; i < tiles_set.rows[t]; i++)
        memcpy((uint8_t *)to + (size_t)i * stride, tiles[t][i], tiles_set.bytes[t]);
}

/* sum[i][n] += sum over k, j of a[i][4k + j] * b[k][4n + j]; b is signed */
static inline void tile_dot(int sum, int a, int b, int a_is_signed) {
    for (int i = 0; i < tiles_set.rows[sum]; i++) {
        for (int n = 0; n < tiles_set.bytes[sum] / 4; n++) {
            int32_t total;
            memcpy(&total, &tiles[sum][i][4 * n], 4);
            for (int k = 0; k < tiles_set.bytes[a]; k++) {
                uint8_t byte = tiles[a][i][k];
                int left = a_is_signed ? (int8_t)byte : byte;
                total += left * (int8_t)tiles[b][k / 4][4 * n + k % 4];
            }
            memcpy(&tiles[sum][i][4 * n], &total, 4);
        }
    }
}

static inline void tile_dot_us(int sum, int a, int b) { tile_dot(sum, a, b, 0); }
static inline void tile_dot_ss(int sum, int a, int b) { tile_dot(sum, a, b, 1); }

#else

/* The whole structure is the instruction's input: gcc 12's own _tile_loadconfig declares 8 bytes
 * of it, and the stores to the rest may then be dropped. Loads say that they read memory, which
 * gcc's do not. */
static inline void tile_configure(void) {
    tile_config config = tile_shapes();
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
}
static inline void tile_release(void) { __asm__ volatile("tilerelease" : : : "memory"); }

/* Tile numbers are literals after inlining; "i" puts them into the name of the register. */
#define tile_zero(t) __asm__ volatile("tilezero %%tmm%c0" : : "i"(t))
#define tile_load(t, from, stride)                                                                 \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2"                                               \
                     :                                                                             \
                     : "r"((const void *)(from)), "r"((size_t)(stride)), "i"(t)                    \
                     : "memory")
#define tile_store(t, to, stride)                                                                  \
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)"                                              \
                     :                                                                             \
                     : "r"((void *)(to)), "r"((size_t)(stride)), "i"(t)                            \
                     : "memory")
#define tile_dot_us(sum, a, b)                                                                     \
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(a), "i"(b))
#define tile_dot_ss(sum, a, b)                                                                     \
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(a), "i"(b))

#endif

#endif
