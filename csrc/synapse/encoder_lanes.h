/* SPDX-License-Identifier: BUSL-1.1 */
/* The encoder's kernels on 16 lanes; included after math_avx2.h or math_avx512.h and QUERIES.
 *
 * Against the reference: elements of a row lie side by side; in attention keys are copied with
 * the dimension outermost, so that lanes are positions, and QUERIES queries share each load.
 * Every lane does the reference's operations in the reference's order: the bits are the same. */
#include "encoder_kernels.h"
#include "encoder_math.h"
#include "math_lanes.h"

/* The row's last lanes, zero behind its end. */
static inline v16 load_part(const float *x, int64_t n) {
    float whole[16] = {0};
    memcpy(whole, x, (size_t)n * sizeof *x);
    return v_load(whole);
}

static inline void store_part(float *x, v16 value, int64_t n) {
    float whole[16];
    v_store(whole, value);
    memcpy(x, whole, (size_t)n * sizeof *x);
}

static inline v16 load_some(const float *x, int64_t n) {
    return n >= 16 ? v_load(x) : load_part(x, n);
}

static inline void store_some(float *x, v16 value, int64_t n) {
    if (n >= 16)
        v_store(x, value);
    else
        store_part(x, value, n);
}

static inline v16 gelu_of(v16 x) {
    v16 size = v_abs(x), z = v_min(size, v_set(GELU_END)), p = v_set(gelu_terms[0]);
    for (int i = 1; i < GELU_TERMS; i++) p = v_fma(p, z, v_set(gelu_terms[i]));
    v16 e = v_exp(v_neg(v_mul(z, p)));
    return v_fma(v_mul(v_set(-0.5f), size), e, v_max(x, v_set(0.0f)));
}

static void gelu(float *x, int64_t rows, int64_t stride, int64_t width) {
    for (int64_t row = 0; row < rows; row++, x += stride)
        for (int64_t i = 0; i < width; i += 16)
            store_some(x + i, gelu_of(load_some(x + i, width - i)), width - i);
}

static inline float sum(const float *x, int64_t n) {
    v16 total = v_set(0.0f);
    for (int64_t i = 0; i < n; i += 16) total = v_add(total, load_some(x + i, n - i));
    return v_sum(total);
}

static inline float sum_squares(const float *x, int64_t n) {
    v16 total = v_set(0.0f);
    for (int64_t i = 0; i < n; i += 16) {
        v16 value = load_some(x + i, n - i);
        total = v_fma(value, value, total);
    }
    return v_sum(total);
}

static void norm(float *x, int64_t rows, int64_t stride, int64_t width, const float *weight,
                 const float *bias, float eps) {
    for (int64_t row = 0; row < rows; row++, x += stride) {
        v16 mean = v_set(sum(x, width) / (float)width);
        for (int64_t i = 0; i < width; i += 16)
            store_some(x + i, v_sub(load_some(x + i, width - i), mean), width - i);
        v16 scale = v_set(1.0f / sqrtf(sum_squares(x, width) / (float)width + eps));
        for (int64_t i = 0; i < width; i += 16) {
            int64_t left = width - i;
            v16 value = v_mul(load_some(x + i, left), scale);
            value = v_fma(value, load_some(weight + i, left), load_some(bias + i, left));
            store_some(x + i, value, left);
        }
    }
}

static void mean(const float *x, int64_t rows, int64_t stride, int64_t width, float *out) {
    for (int64_t i = 0; i < width; i += 16) {
        v16 total = v_set(0.0f);
        for (int64_t row = 0; row < rows; row++)
            total = v_add(total, load_some(x + row * stride + i, width - i));
        store_some(out + i, v_div(total, v_set((float)rows)), width - i);
    }
}

static void unit(float *x, int64_t width) {
    float length = sqrtf(sum_squares(x, width));
    if (!(length > SYN_ENCODER_SHORTEST)) length = SYN_ENCODER_SHORTEST;
    for (int64_t i = 0; i < width; i += 16)
        store_some(x + i, v_div(load_some(x + i, width - i), v_set(length)), width - i);
}

/* --- attention ---------------------------------------------------------------------------- */

/* What one call works in; `tall` and `wide` are length and width in whole vectors. */
typedef struct {
    int64_t length, width, tall, wide;
    float *keys;    /* [width, tall] */
    float *values;  /* [length, wide] */
    float *queries; /* [QUERIES, wide], scaled */
    float *scores;  /* [QUERIES, tall] */
} Room;

static Room room_of(float *at, int64_t length, int64_t width) {
    Room room = {.length = length, .width = width};
    room.tall = syn_round16(length);
    room.wide = syn_round16(width);
    room.keys = at;
    room.values = room.keys + room.wide * room.tall;
    room.queries = room.values + length * room.wide;
    room.scores = room.queries + QUERIES * room.wide;
    return room;
}

static void copy_keys_values(const Room *room, const float *k, const float *v, int64_t stride) {
    for (int64_t j = 0; j < room->length; j++, k += stride, v += stride) {
        for (int64_t d = 0; d < room->width; d++) room->keys[d * room->tall + j] = k[d];
        for (int64_t d = 0; d < room->width; d += 16)
            v_store(room->values + j * room->wide + d, load_some(v + d, room->width - d));
    }
    for (int64_t d = 0; d < room->width; d++)
        for (int64_t j = room->length; j < room->tall; j++) room->keys[d * room->tall + j] = 0.0f;
}

static void copy_queries(const Room *room, const float *q, int64_t stride, int64_t count,
                         float scale) {
    for (int64_t i = 0; i < count; i++)
        for (int64_t d = 0; d < room->width; d++)
            room->queries[i * room->wide + d] = q[i * stride + d] * scale;
}

/* scores[i, j] = queries[i] . keys[j] */
static inline void score(const Room *room) {
    for (int64_t j = 0; j < room->tall; j += 16) {
        v16 dots[QUERIES];
        for (int i = 0; i < QUERIES; i++) dots[i] = v_set(0.0f);
        for (int64_t d = 0; d < room->width; d++) {
            v16 key = v_load(room->keys + d * room->tall + j);
            for (int i = 0; i < QUERIES; i++)
                dots[i] = v_fma(v_set(room->queries[i * room->wide + d]), key, dots[i]);
        }
        for (int i = 0; i < QUERIES; i++) v_store(room->scores + i * room->tall + j, dots[i]);
    }
}

/* Scores become weights whose sum is returned; behind the last position they are 0. */
static inline float weigh(const Room *room, float *scores) {
    for (int64_t j = room->length; j < room->tall; j++) scores[j] = -INFINITY;
    v16 top = v_set(-INFINITY);
    for (int64_t j = 0; j < room->tall; j += 16) top = v_max(v_load(scores + j), top);
    v16 best = v_set(v_largest(top));
    for (int64_t j = 0; j < room->tall; j += 16)
        v_store(scores + j, v_exp(v_sub(v_load(scores + j), best)));
    return sum(scores, room->tall);
}

/* out[i] = sum over j of scores[i, j] * values[j], times shares[i] */
static inline void gather(const Room *room, const float *shares, float *out, int64_t stride,
                          int64_t count) {
    for (int64_t d = 0; d < room->width; d += 16) {
        v16 totals[QUERIES];
        for (int i = 0; i < QUERIES; i++) totals[i] = v_set(0.0f);
        for (int64_t j = 0; j < room->length; j++) {
            v16 value = v_load(room->values + j * room->wide + d);
            for (int i = 0; i < QUERIES; i++)
                totals[i] = v_fma(v_set(room->scores[i * room->tall + j]), value, totals[i]);
        }
        for (int i = 0; i < QUERIES && i < count; i++)
            store_some(out + i * stride + d, v_mul(totals[i], v_set(shares[i])), room->width - d);
    }
}

static void attend(const float *q, const float *k, const float *v, float *out, int64_t length,
                   int64_t stride, int64_t width, float scale, float *at) {
    Room room = room_of(at, length, width);
    copy_keys_values(&room, k, v, stride);
    /* Fewer queries than QUERIES leave some rows unused, but never unset. */
    memset(room.queries, 0, (size_t)(QUERIES * (room.wide + room.tall)) * sizeof(float));
    for (int64_t i = 0; i < length; i += QUERIES) {
        int64_t count = length - i < QUERIES ? length - i : QUERIES;
        float shares[QUERIES] = {0};
        copy_queries(&room, q + i * stride, stride, count, scale);
        score(&room);
        for (int64_t n = 0; n < count; n++)
            shares[n] = 1.0f / weigh(&room, room.scores + n * room.tall);
        gather(&room, shares, out + i * stride, stride, count);
    }
}
