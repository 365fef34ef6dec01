/* SPDX-License-Identifier: BUSL-1.1 */
/* The header of a GGUF file, version 2 or 3, little-endian.
 *
 * The parser reads (pointer, bytes), believes nothing and keeps no pointer into the text: what it
 * hands out are offsets from the start of the file, each checked to lie inside. */

enum syn_gguf_kind {
    SYN_GGUF_UINT8 = 0,
    SYN_GGUF_INT8 = 1,
    SYN_GGUF_UINT16 = 2,
    SYN_GGUF_INT16 = 3,
    SYN_GGUF_UINT32 = 4,
    SYN_GGUF_INT32 = 5,
    SYN_GGUF_FLOAT32 = 6,
    SYN_GGUF_BOOL = 7,
    SYN_GGUF_STRING = 8,
    SYN_GGUF_ARRAY = 9,
    SYN_GGUF_UINT64 = 10,
    SYN_GGUF_INT64 = 11,
    SYN_GGUF_FLOAT64 = 12,
};

typedef struct syn_gguf syn_gguf;

/* A key and where its value lies. */
typedef struct syn_gguf_value {
    uint64_t name;       /* offset of the key */
    uint64_t offset;     /* of the value: a string's text, an array's first element */
    uint64_t count;      /* an array's elements, a string's bytes, else 1 */
    uint32_t name_bytes;
    int32_t kind;        /* enum syn_gguf_kind */
    int32_t element;     /* an array's kind of element, else the kind itself */
} syn_gguf_value;

/* A tensor: [rows, columns], columns being the dimension that lies together. */
typedef struct syn_gguf_tensor {
    uint64_t name;
    uint64_t offset;     /* of the data, from the start of the file */
    uint64_t bytes;
    int64_t rows;        /* the product of all dimensions but the first of the file */
    int64_t columns;
    uint32_t name_bytes;
    int32_t dimensions;  /* 1 to 4 */
    int32_t type;        /* GGUF's number */
} syn_gguf_tensor;

/* Parse a header. SYN_E_FORMAT: it is wrong, and the reason names key or tensor and the offset. */
int syn_gguf_open(syn_gguf **out, const void *data, uint64_t bytes);
void syn_gguf_free(syn_gguf *gguf);

int64_t syn_gguf_values(const syn_gguf *gguf);
int64_t syn_gguf_tensors(const syn_gguf *gguf);
/* The index must be less than the count; NULL if not. */
const syn_gguf_value *syn_gguf_value_at(const syn_gguf *gguf, int64_t index);
const syn_gguf_tensor *syn_gguf_tensor_at(const syn_gguf *gguf, int64_t index);

/* Where the strings of an array lie: begins[i] up to ends[i], for every element. `data` and
 * `bytes` are those of open; they are checked again, for the file may have changed. */
int syn_gguf_strings(const syn_gguf_value *array, const void *data, uint64_t bytes,
                     uint64_t *begins, uint64_t *ends);

/* A name for GGUF's tensor type, also for those the engine cannot compute with; "" if unknown. */
const char *syn_gguf_type_name(int type);
