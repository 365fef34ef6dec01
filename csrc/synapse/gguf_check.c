/* SPDX-License-Identifier: BUSL-1.1 */
/* What the items of a GGUF header must be together: names once each, data side by side. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gguf.h"

typedef struct name {
    const unsigned char *text;
    uint64_t bytes;
} name;

static int compare_names(const void *left, const void *right) {
    const name *a = left, *b = right;
    if (a->bytes != b->bytes) return a->bytes < b->bytes ? -1 : 1;
    return memcmp(a->text, b->text, a->bytes);
}

static int check_names(name *names, uint64_t count, const char *what) {
    qsort(names, count, sizeof *names, compare_names);
    for (uint64_t i = 1; i < count; i++)
        if (!compare_names(&names[i - 1], &names[i]))
            return FAIL(SYN_E_FORMAT, "the %s %.*s is there twice", what, (int)names[i].bytes,
                        (const char *)names[i].text);
    return SYN_OK;
}

int gguf_check_unique(const gguf_cursor *c, const syn_gguf *gguf) {
    uint64_t values = gguf->value_count, tensors = gguf->tensor_count;
    name *names = calloc((values > tensors ? values : tensors) + 1, sizeof *names);
    if (!names) return FAIL(SYN_E_MEMORY, "no memory for the file's names");
    for (uint64_t i = 0; i < values; i++)
        names[i] = (name){c->data + gguf->values[i].name, gguf->values[i].name_bytes};
    int status = check_names(names, values, "key");
    for (uint64_t i = 0; !status && i < tensors; i++)
        names[i] = (name){c->data + gguf->tensors[i].name, gguf->tensors[i].name_bytes};
    if (!status) status = check_names(names, tensors, "tensor");
    free(names);
    return status;
}

static int compare_places(const void *left, const void *right) {
    const syn_gguf_tensor *a = *(syn_gguf_tensor *const *)left,
                          *b = *(syn_gguf_tensor *const *)right;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static int check_apart(const gguf_cursor *c, syn_gguf_tensor **order, uint64_t count) {
    qsort(order, count, sizeof *order, compare_places);
    for (uint64_t i = 1; i < count; i++) {
        const syn_gguf_tensor *a = order[i - 1], *b = order[i];
        if (b->offset - a->offset < a->bytes)
            return FAIL(SYN_E_FORMAT, "the data of tensors %.*s and %.*s overlap at byte %" PRIu64,
                        GGUF_NAME(c, a), GGUF_NAME(c, b), b->offset);
    }
    return SYN_OK;
}

/* Make offsets count from the start of the file: the data begin behind the header, aligned. */
static int make_absolute(const gguf_cursor *c, uint32_t alignment, syn_gguf *gguf) {
    uint64_t begin = c->at + (alignment - c->at % alignment) % alignment;
    uint64_t room = begin < c->bytes ? c->bytes - begin : 0;
    for (uint64_t i = 0; i < gguf->tensor_count; i++) {
        syn_gguf_tensor *t = &gguf->tensors[i];
        if (t->offset > room || t->bytes > room - t->offset)
            return FAIL(SYN_E_FORMAT,
                        "the %" PRIu64 " bytes of tensor %.*s at %" PRIu64
                        " of the data go beyond the file's end",
                        t->bytes, GGUF_NAME(c, t), t->offset);
        t->offset += begin;
    }
    return SYN_OK;
}

int gguf_place_tensors(const gguf_cursor *c, uint32_t alignment, syn_gguf *gguf) {
    int status = make_absolute(c, alignment, gguf);
    if (status) return status;
    syn_gguf_tensor **order = calloc(gguf->tensor_count + 1, sizeof *order);
    if (!order) return FAIL(SYN_E_MEMORY, "no memory for the file's tensors");
    for (uint64_t i = 0; i < gguf->tensor_count; i++) order[i] = &gguf->tensors[i];
    status = check_apart(c, order, gguf->tensor_count);
    free(order);
    return status;
}
