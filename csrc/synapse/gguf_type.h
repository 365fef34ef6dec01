/* SPDX-License-Identifier: BUSL-1.1 */
#ifndef SYN_GGUF_TYPE_H
#define SYN_GGUF_TYPE_H

#include <stdint.h>

/* How a tensor type lies in a file. */
typedef struct gguf_type {
    const char *name;
    uint16_t block; /* elements */
    uint16_t bytes; /* of a block */
} gguf_type;

/* The type of that number; NULL: nobody knows it. */
const gguf_type *gguf_type_of(uint32_t number);

#endif
