/* SPDX-License-Identifier: BUSL-1.1 */
/* The items of a GGUF header, one at a time. Nothing is read that was not compared with the rest
 * of the file first, and no sum or product is formed that could wrap. */
#include <inttypes.h>
#include <string.h>

#include "gguf.h"
#include "gguf_type.h"

int gguf_skip(gguf_cursor *c, uint64_t bytes) {
    if (bytes > gguf_left(c)) return 0;
    c->at += bytes;
    return 1;
}

int gguf_read(gguf_cursor *c, void *out, uint64_t bytes) {
    if (bytes > gguf_left(c)) return 0;
    memcpy(out, c->data + c->at, bytes);
    c->at += bytes;
    return 1;
}

int gguf_read_string(gguf_cursor *c, uint64_t *begin, uint64_t *bytes) {
    if (!gguf_read(c, bytes, sizeof *bytes)) return 0;
    *begin = c->at;
    return gguf_skip(c, *bytes);
}

static int printable(const unsigned char *text, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; i++)
        if (text[i] < 0x21 || text[i] > 0x7e) return 0;
    return 1;
}

int gguf_read_name(gguf_cursor *c, uint32_t most, const char *what, uint64_t index,
                   uint64_t *begin, uint32_t *bytes) {
    uint64_t start = c->at, length;
    if (!gguf_read_string(c, begin, &length))
        return FAIL(SYN_E_FORMAT,
                    "the file ends within the name of %s %" PRIu64 " at byte %" PRIu64, what, index,
                    start);
    if (length == 0 || length > most || !printable(c->data + *begin, length))
        return FAIL(SYN_E_FORMAT,
                    "the name of %s %" PRIu64 " at byte %" PRIu64
                    " is not one of 1 to %" PRIu32 " printable characters",
                    what, index, start, most);
    *bytes = (uint32_t)length;
    return SYN_OK;
}

/* Bytes of a value of fixed size; 0: it has none. */
static uint64_t kind_bytes(uint32_t kind) {
    switch (kind) {
    case SYN_GGUF_UINT8:
    case SYN_GGUF_INT8:
    case SYN_GGUF_BOOL:
        return 1;
    case SYN_GGUF_UINT16:
    case SYN_GGUF_INT16:
        return 2;
    case SYN_GGUF_UINT32:
    case SYN_GGUF_INT32:
    case SYN_GGUF_FLOAT32:
        return 4;
    case SYN_GGUF_UINT64:
    case SYN_GGUF_INT64:
    case SYN_GGUF_FLOAT64:
        return 8;
    default:
        return 0;
    }
}

/* How the value of a key is wrong. */
static int value_wrong(const gguf_cursor *c, const syn_gguf_value *value, const char *how) {
    return FAIL(SYN_E_FORMAT, "the value of %.*s at byte %" PRIu64 " %s", GGUF_NAME(c, value),
                value->offset, how);
}

static int skip_strings(gguf_cursor *c, uint64_t count) {
    uint64_t begin, bytes;
    /* Each needs eight bytes at least, so a count that the file cannot hold ends at once. */
    if (count > gguf_left(c) / sizeof bytes) return 0;
    while (count--)
        if (!gguf_read_string(c, &begin, &bytes)) return 0;
    return 1;
}

static int booleans(const gguf_cursor *c, uint64_t offset, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        if (c->data[offset + i] > 1) return 0;
    return 1;
}

/* The elements of `kind` at the cursor, counted in value->count. */
static int skip_elements(gguf_cursor *c, const syn_gguf_value *value) {
    if (value->element == SYN_GGUF_STRING)
        return skip_strings(c, value->count) ? SYN_OK
                                             : value_wrong(c, value, "goes beyond the file's end");
    uint64_t size = kind_bytes((uint32_t)value->element);
    if (value->count > gguf_left(c) / size)
        return value_wrong(c, value, "goes beyond the file's end");
    if (value->element == SYN_GGUF_BOOL && !booleans(c, c->at, value->count))
        return value_wrong(c, value, "is a boolean that is neither 0 nor 1");
    c->at += value->count * size;
    return SYN_OK;
}

static int read_array(gguf_cursor *c, syn_gguf_value *value) {
    uint32_t element;
    if (!gguf_read(c, &element, sizeof element) ||
        !gguf_read(c, &value->count, sizeof value->count))
        return value_wrong(c, value, "goes beyond the file's end");
    if (element == SYN_GGUF_ARRAY)
        return FAIL(SYN_E_UNSUPPORTED,
                    "the value of %.*s at byte %" PRIu64 " is an array of arrays",
                    GGUF_NAME(c, value), value->offset);
    if (element != SYN_GGUF_STRING && !kind_bytes(element))
        return value_wrong(c, value, "is an array of an unknown kind");
    value->element = (int32_t)element;
    value->offset = c->at;
    return skip_elements(c, value);
}

int gguf_read_value(gguf_cursor *c, uint64_t index, syn_gguf_value *value) {
    uint32_t kind;
    int status =
        gguf_read_name(c, GGUF_MAX_KEY, "key", index, &value->name, &value->name_bytes);
    if (status) return status;
    value->offset = c->at;
    if (!gguf_read(c, &kind, sizeof kind))
        return value_wrong(c, value, "goes beyond the file's end");
    value->kind = value->element = (int32_t)kind;
    value->count = 1;
    if (kind == SYN_GGUF_ARRAY) return read_array(c, value);
    if (kind == SYN_GGUF_STRING)
        return gguf_read_string(c, &value->offset, &value->count)
                   ? SYN_OK
                   : value_wrong(c, value, "goes beyond the file's end");
    if (!kind_bytes(kind)) return value_wrong(c, value, "is of an unknown kind");
    value->offset = c->at;
    return skip_elements(c, value);
}

/* How a tensor's description is wrong. */
static int tensor_wrong(const gguf_cursor *c, const syn_gguf_tensor *t, uint64_t at,
                        const char *how) {
    return FAIL(SYN_E_FORMAT, "tensor %.*s, described at byte %" PRIu64 ", %s", GGUF_NAME(c, t),
                at, how);
}

/* rows and columns from the file's dimensions: fastest first. */
static int read_shape(gguf_cursor *c, syn_gguf_tensor *t, uint64_t start) {
    uint32_t dimensions;
    if (!gguf_read(c, &dimensions, sizeof dimensions))
        return tensor_wrong(c, t, start, "goes beyond the file's end");
    if (dimensions < 1 || dimensions > GGUF_MAX_DIMENSIONS)
        return tensor_wrong(c, t, start, "does not have 1 to 4 dimensions");
    t->dimensions = (int32_t)dimensions;
    t->rows = t->columns = 1;
    for (uint32_t i = 0; i < dimensions; i++) {
        uint64_t size;
        if (!gguf_read(c, &size, sizeof size))
            return tensor_wrong(c, t, start, "goes beyond the file's end");
        if (size < 1 || size > INT64_MAX)
            return tensor_wrong(c, t, start, "has a dimension that is not positive");
        int64_t *factor = i ? &t->rows : &t->columns;
        if (__builtin_mul_overflow(*factor, (int64_t)size, factor))
            return tensor_wrong(c, t, start, "has more elements than can be counted");
    }
    return SYN_OK;
}

/* bytes from type and shape. */
static int size_tensor(const gguf_cursor *c, syn_gguf_tensor *t, uint32_t number, uint64_t start) {
    const gguf_type *type = gguf_type_of(number);
    if (!type)
        return FAIL(SYN_E_UNSUPPORTED, "tensor %.*s is of the unknown type %" PRIu32,
                    GGUF_NAME(c, t), number);
    t->type = (int32_t)number;
    if (t->columns % type->block)
        return tensor_wrong(c, t, start, "has rows that are not a multiple of its type's block");
    uint64_t row;
    if (__builtin_mul_overflow((uint64_t)(t->columns / type->block), (uint64_t)type->bytes, &row) ||
        __builtin_mul_overflow(row, (uint64_t)t->rows, &t->bytes))
        return tensor_wrong(c, t, start, "has more elements than can be counted");
    return SYN_OK;
}

int gguf_read_tensor(gguf_cursor *c, uint64_t index, uint32_t alignment, syn_gguf_tensor *t) {
    uint64_t start = c->at;
    uint32_t type;
    int status = gguf_read_name(c, GGUF_MAX_NAME, "tensor", index, &t->name, &t->name_bytes);
    if (status || (status = read_shape(c, t, start))) return status;
    if (!gguf_read(c, &type, sizeof type) || !gguf_read(c, &t->offset, sizeof t->offset))
        return tensor_wrong(c, t, start, "goes beyond the file's end");
    if ((status = size_tensor(c, t, type, start))) return status;
    if (t->offset % alignment) return tensor_wrong(c, t, start, "has data that are not aligned");
    return SYN_OK;
}
