/* SPDX-License-Identifier: BUSL-1.1 */
#include "kv.h"

#include <string.h>
#include <sys/mman.h>

int syn_kv_new(syn_kv *kv, int type, int64_t layers, int64_t blocks, int64_t heads,
               int64_t head_dim) {
    int64_t elements = 2 * BLOCK * head_dim * kv_element_bytes(type);
    int64_t scales = type == SYN_KV_INT8 ? 2 * BLOCK * (int64_t)sizeof(float) : 0;
    *kv = (syn_kv){.type = type, .layers = layers, .blocks = blocks, .heads = heads};
    kv->head_dim = head_dim;
    kv->unit = (elements + scales + 63) / 64 * 64;
    if (__builtin_mul_overflow((uint64_t)(layers * heads * kv->unit), (uint64_t)blocks, &kv->bytes))
        return FAIL(SYN_E_MEMORY, "%lld blocks of keys and values are too many", (long long)blocks);
    void *data = mmap(NULL, kv->bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED)
        return FAIL(SYN_E_MEMORY, "no memory for %llu bytes of keys and values",
                    (unsigned long long)kv->bytes);
    madvise(data, kv->bytes, MADV_DONTDUMP);
    kv->data = data;
    return 0;
}

void syn_kv_free(syn_kv *kv) {
    if (kv->data) munmap(kv->data, kv->bytes);
    kv->data = NULL;
}

void syn_kv_clear(const syn_kv *kv, int64_t layer, int64_t block) {
    memset(kv_unit(kv, layer, block, 0), 0, (size_t)(kv->heads * kv->unit));
}
