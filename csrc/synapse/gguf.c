/* SPDX-License-Identifier: BUSL-1.1 */
/* A GGUF header as two tables: keys with their values, tensors with their places. */
#include "gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char MAGIC[4] = {'G', 'G', 'U', 'F'};
static const uint32_t DEFAULT_ALIGNMENT = 32;
/* The least that a key with its value, or a tensor's description, can take in a file. */
static const uint64_t LEAST_VALUE = 8 + 1 + 4 + 1, LEAST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8;

/* Magic, version and the two counts, compared with what the file can hold. */
static int read_start(gguf_cursor *c, syn_gguf *gguf) {
    char magic[4];
    uint32_t version;
    if (!gguf_read(c, magic, sizeof magic) || memcmp(magic, MAGIC, sizeof magic))
        return FAIL(SYN_E_FORMAT, "this is not a GGUF file: it does not begin with \"GGUF\"");
    if (!gguf_read(c, &version, sizeof version))
        return FAIL(SYN_E_FORMAT, "the file ends within its first %" PRIu64 " bytes", c->bytes);
    if (version != 2 && version != 3)
        return FAIL(SYN_E_UNSUPPORTED, "GGUF version %" PRIu32 " is unknown%s; 2 and 3 are known",
                    version, version && !(version & 0xffff) ? " (a big-endian file?)" : "");
    if (!gguf_read(c, &gguf->tensor_count, 8) || !gguf_read(c, &gguf->value_count, 8))
        return FAIL(SYN_E_FORMAT, "the file ends within its first %" PRIu64 " bytes", c->bytes);
    if (gguf->value_count > GGUF_MAX_VALUES || gguf->value_count > gguf_left(c) / LEAST_VALUE)
        return FAIL(SYN_E_FORMAT, "the file cannot hold the %" PRIu64 " keys it announces",
                    gguf->value_count);
    if (gguf->tensor_count > GGUF_MAX_TENSORS || gguf->tensor_count > gguf_left(c) / LEAST_TENSOR)
        return FAIL(SYN_E_FORMAT, "the file cannot hold the %" PRIu64 " tensors it announces",
                    gguf->tensor_count);
    return SYN_OK;
}

static int named(const gguf_cursor *c, const syn_gguf_value *value, const char *name) {
    return value->name_bytes == strlen(name) &&
           !memcmp(c->data + value->name, name, value->name_bytes);
}

static int read_alignment(const gguf_cursor *c, const syn_gguf *gguf, uint32_t *alignment) {
    *alignment = DEFAULT_ALIGNMENT;
    for (uint64_t i = 0; i < gguf->value_count; i++) {
        const syn_gguf_value *value = &gguf->values[i];
        if (!named(c, value, "general.alignment")) continue;
        if (value->kind != SYN_GGUF_UINT32)
            return FAIL(SYN_E_FORMAT, "general.alignment at byte %" PRIu64 " is not a uint32",
                        value->offset);
        memcpy(alignment, c->data + value->offset, sizeof *alignment);
    }
    if (*alignment < 8 || *alignment > GGUF_MAX_ALIGNMENT || (*alignment & (*alignment - 1)))
        return FAIL(SYN_E_FORMAT, "general.alignment is %" PRIu32 ", not a power of two from 8 on",
                    *alignment);
    return SYN_OK;
}

static int parse(gguf_cursor *c, syn_gguf *gguf) {
    uint32_t alignment;
    int status = read_start(c, gguf);
    if (status) return status;
    gguf->values = calloc(gguf->value_count + 1, sizeof *gguf->values);
    gguf->tensors = calloc(gguf->tensor_count + 1, sizeof *gguf->tensors);
    if (!gguf->values || !gguf->tensors)
        return FAIL(SYN_E_MEMORY, "no memory for the file's tables");
    for (uint64_t i = 0; i < gguf->value_count; i++)
        if ((status = gguf_read_value(c, i, &gguf->values[i]))) return status;
    if ((status = read_alignment(c, gguf, &alignment))) return status;
    for (uint64_t i = 0; i < gguf->tensor_count; i++)
        if ((status = gguf_read_tensor(c, i, alignment, &gguf->tensors[i]))) return status;
    if ((status = gguf_check_unique(c, gguf))) return status;
    return gguf_place_tensors(c, alignment, gguf);
}

int syn_gguf_open(syn_gguf **out, const void *data, uint64_t bytes) {
    *out = NULL;
    syn_gguf *gguf = calloc(1, sizeof *gguf);
    if (!gguf) return FAIL(SYN_E_MEMORY, "no memory for the file's tables");
    gguf_cursor cursor = {data, bytes, 0};
    int status = parse(&cursor, gguf);
    if (status) {
        syn_gguf_free(gguf);
        return status;
    }
    *out = gguf;
    return SYN_OK;
}

void syn_gguf_free(syn_gguf *gguf) {
    if (!gguf) return;
    free(gguf->values);
    free(gguf->tensors);
    free(gguf);
}

int64_t syn_gguf_values(const syn_gguf *gguf) { return (int64_t)gguf->value_count; }

int64_t syn_gguf_tensors(const syn_gguf *gguf) { return (int64_t)gguf->tensor_count; }

const syn_gguf_value *syn_gguf_value_at(const syn_gguf *gguf, int64_t index) {
    return index >= 0 && (uint64_t)index < gguf->value_count ? &gguf->values[index] : NULL;
}

const syn_gguf_tensor *syn_gguf_tensor_at(const syn_gguf *gguf, int64_t index) {
    return index >= 0 && (uint64_t)index < gguf->tensor_count ? &gguf->tensors[index] : NULL;
}

int syn_gguf_strings(const syn_gguf_value *array, const void *data, uint64_t bytes,
                     uint64_t *begins, uint64_t *ends) {
    if (array->kind != SYN_GGUF_ARRAY || array->element != SYN_GGUF_STRING)
        return FAIL(SYN_E_ARGUMENT, "the value at byte %" PRIu64 " is no array of strings",
                    array->offset);
    gguf_cursor c = {data, bytes, 0};
    int inside = gguf_skip(&c, array->offset);
    for (uint64_t i = 0; inside && i < array->count; i++) {
        inside = gguf_read_string(&c, &begins[i], &ends[i]);
        ends[i] += begins[i];
    }
    if (!inside) return FAIL(SYN_E_FORMAT, "the file has changed since it was opened");
    return SYN_OK;
}
