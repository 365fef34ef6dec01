/* SPDX-License-Identifier: BUSL-1.1 */
/* The encoder's kernels in plain C: slow, and the judge of the others. */
#include "encoder_kernels.h"
#include "encoder_math.h"

/* Element i is added to lane i % 16, in order; then the lanes are added as a tree. */
static float sum_lanes(float lanes[16]) {
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++) lanes[j] += lanes[j + half];
    return lanes[0];
}

static float sum(const float *x, int64_t n) {
    float lanes[16] = {0};
    for (int64_t i = 0; i < n; i++) lanes[i % 16] += x[i];
    return sum_lanes(lanes);
}

static float sum_squares(const float *x, int64_t n) {
    float lanes[16] = {0};
    for (int64_t i = 0; i < n; i++) lanes[i % 16] = fmaf(x[i], x[i], lanes[i % 16]);
    return sum_lanes(lanes);
}

static void norm(float *x, int64_t rows, int64_t stride, int64_t width, const float *weight,
                 const float *bias, float eps) {
    for (int64_t row = 0; row < rows; row++, x += stride) {
        float mean = sum(x, width) / (float)width;
        for (int64_t i = 0; i < width; i++) x[i] -= mean;
        float scale = 1.0f / sqrtf(sum_squares(x, width) / (float)width + eps);
        for (int64_t i = 0; i < width; i++) x[i] = fmaf(x[i] * scale, weight[i], bias[i]);
    }
}

static void gelu(float *x, int64_t rows, int64_t stride, int64_t width) {
    for (int64_t row = 0; row < rows; row++, x += stride)
        for (int64_t i = 0; i < width; i++) x[i] = f32_gelu(x[i]);
}

/* scores[j] = exp(q . k[j] - their maximum); gives the sum. */
static float weigh(const float *q, const float *k, int64_t length, int64_t stride, int64_t width,
                   float scale, float *scores) {
    float most = -INFINITY;
    for (int64_t j = 0; j < length; j++) {
        float dot = 0.0f;
        for (int64_t d = 0; d < width; d++) dot = fmaf(q[d] * scale, k[j * stride + d], dot);
        scores[j] = dot;
        if (dot > most) most = dot;
    }
    for (int64_t j = 0; j < length; j++) scores[j] = f32_exp(scores[j] - most);
    return sum(scores, length);
}

static void attend(const float *q, const float *k, const float *v, float *out, int64_t length,
                   int64_t stride, int64_t width, float scale, float *room) {
    for (int64_t i = 0; i < length; i++) {
        float share = 1.0f / weigh(q + i * stride, k, length, stride, width, scale, room);
        for (int64_t d = 0; d < width; d++) {
            float value = 0.0f;
            for (int64_t j = 0; j < length; j++) value = fmaf(room[j], v[j * stride + d], value);
            out[i * stride + d] = value * share;
        }
    }
}

static void mean(const float *x, int64_t rows, int64_t stride, int64_t width, float *out) {
    for (int64_t i = 0; i < width; i++) {
        float total = 0.0f;
        for (int64_t row = 0; row < rows; row++) total += x[row * stride + i];
        out[i] = total / (float)rows;
    }
}

static void unit(float *x, int64_t width) {
    float length = sqrtf(sum_squares(x, width));
    if (!(length > SYN_ENCODER_SHORTEST)) length = SYN_ENCODER_SHORTEST;
    for (int64_t i = 0; i < width; i++) x[i] /= length;
}

const syn_encoder_kernels syn_encoder_reference = {norm, gelu, attend, mean, unit};
