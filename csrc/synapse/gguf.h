/* SPDX-License-Identifier: BUSL-1.1 */
/* Inside the GGUF parser: a cursor that cannot leave the file, and the tables it fills. */
#ifndef SYN_GGUF_H
#define SYN_GGUF_H

#include "base.h"
#include "synapse/gguf_api.h"

/* More than any model has, and little enough that a hostile file is refused at once. */
enum {
    GGUF_MAX_VALUES = 1 << 16,
    GGUF_MAX_TENSORS = 1 << 16,
    GGUF_MAX_KEY = 256,
    GGUF_MAX_NAME = 64,
    GGUF_MAX_DIMENSIONS = 4,
    GGUF_MAX_ALIGNMENT = 1 << 20,
};

struct syn_gguf {
    syn_gguf_value *values;
    syn_gguf_tensor *tensors;
    uint64_t value_count, tensor_count;
};

/* The unread rest of a file is [at, bytes). */
typedef struct gguf_cursor {
    const unsigned char *data;
    uint64_t bytes, at;
} gguf_cursor;

/* A key's or tensor's name as the two arguments of "%.*s", short enough for any message. */
#define GGUF_NAME(c, item)                                                                         \
    (int)((item)->name_bytes < 64 ? (item)->name_bytes : 64), (const char *)(c)->data + (item)->name

static inline uint64_t gguf_left(const gguf_cursor *c) { return c->bytes - c->at; }

/* 1 and moves on; 0 where the file ends before. Unaligned, little-endian. */
int gguf_read(gguf_cursor *c, void *out, uint64_t bytes);
int gguf_skip(gguf_cursor *c, uint64_t bytes);

/* A string's length and text: 1, with where the text begins, and the cursor behind it. */
int gguf_read_string(gguf_cursor *c, uint64_t *begin, uint64_t *bytes);

/* A name: a string of 1 to `most` printable ASCII characters. `what` and `index` say whose. */
int gguf_read_name(gguf_cursor *c, uint32_t most, const char *what, uint64_t index,
                   uint64_t *begin, uint32_t *bytes);

/* One key with its value; one tensor's description, its offset still relative. */
int gguf_read_value(gguf_cursor *c, uint64_t index, syn_gguf_value *value);
int gguf_read_tensor(gguf_cursor *c, uint64_t index, uint32_t alignment, syn_gguf_tensor *tensor);

/* Names must differ, data must not overlap: SYN_OK, or what is wrong. */
int gguf_check_unique(const gguf_cursor *c, const struct syn_gguf *gguf);
int gguf_place_tensors(const gguf_cursor *c, uint32_t alignment, struct syn_gguf *gguf);

#endif
