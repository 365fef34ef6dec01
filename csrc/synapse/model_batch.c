/* SPDX-License-Identifier: BUSL-1.1 */
/* A batch before anything is computed: every index is checked, rows are cut into spans and
 * tiles. */
#include <stdlib.h>

#include "model.h"

static int outside(int64_t n, int64_t limit) { return n < 0 || n >= limit; }

static const int32_t *table_of(const syn_batch *b, int64_t row) {
    return b->tables + (int64_t)b->sequences[row] * b->tables_columns;
}

static int check_counts(const syn_batch *b) {
    if (b->rows < 1 || b->rows > MAX_BATCH)
        return FAIL(SYN_E_ARGUMENT, "%lld rows are not between 1 and %d", (long long)b->rows,
                    MAX_BATCH);
    if (b->tables_rows < 1 || b->tables_rows > MAX_BATCH || b->tables_columns < 1)
        return FAIL(SYN_E_ARGUMENT, "tables of %lld x %lld blocks", (long long)b->tables_rows,
                    (long long)b->tables_columns);
    if (outside(b->wanted_count, b->rows + 1))
        return FAIL(SYN_E_ARGUMENT, "%lld wanted rows of %lld", (long long)b->wanted_count,
                    (long long)b->rows);
    return 0;
}

static int check_row(const syn_model *m, const syn_batch *b, int64_t row) {
    int32_t token = b->tokens[row], position = b->positions[row], sequence = b->sequences[row];
    if (outside(token, m->config.vocab))
        return FAIL(SYN_E_ARGUMENT, "token %d of row %lld is not in the vocabulary of %lld", token,
                    (long long)row, (long long)m->config.vocab);
    if (outside(position, m->config.context))
        return FAIL(SYN_E_ARGUMENT, "position %d of row %lld is not within the context of %lld",
                    position, (long long)row, (long long)m->config.context);
    if (outside(sequence, b->tables_rows))
        return FAIL(SYN_E_ARGUMENT, "row %lld is of sequence %d of %lld", (long long)row, sequence,
                    (long long)b->tables_rows);
    if (position / BLOCK >= b->tables_columns)
        return FAIL(SYN_E_ARGUMENT, "position %d of row %lld needs more than %lld blocks", position,
                    (long long)row, (long long)b->tables_columns);
    return 0;
}

/* Rows of a sequence stand together and go up by one. */
static int check_order(const syn_batch *b, char *seen) {
    for (int64_t row = 0; row < b->rows; row++) {
        int32_t sequence = b->sequences[row];
        if (row && b->sequences[row - 1] == sequence) {
            if (b->positions[row] == b->positions[row - 1] + 1) continue;
            return FAIL(SYN_E_ARGUMENT, "position %d follows %d in sequence %d", b->positions[row],
                        b->positions[row - 1], sequence);
        }
        if (seen[sequence]++)
            return FAIL(SYN_E_ARGUMENT, "the rows of sequence %d do not stand together", sequence);
    }
    return 0;
}

static int check_wanted(const syn_batch *b) {
    for (int64_t i = 0; i < b->wanted_count; i++) {
        if (outside(b->wanted[i], b->rows) || (i && b->wanted[i] <= b->wanted[i - 1]))
            return FAIL(SYN_E_ARGUMENT, "wanted row %d: they must ascend and be below %lld",
                        b->wanted[i], (long long)b->rows);
    }
    return 0;
}

/* The row after the last one of the same sequence. */
static int64_t sequence_end(const syn_batch *b, int64_t row) {
    int64_t end = row + 1;
    while (end < b->rows && b->sequences[end] == b->sequences[row]) end++;
    return end;
}

/* The table is right as far as the sequence reaches. */
static int check_table(const syn_model *m, const syn_batch *b, int64_t row, int64_t end) {
    const int32_t *table = table_of(b, row);
    for (int64_t i = 0; i <= b->positions[end - 1] / BLOCK; i++) {
        if (outside(table[i], m->kv.blocks))
            return FAIL(SYN_E_ARGUMENT, "block %lld of sequence %d is %d: there are %lld",
                        (long long)i, b->sequences[row], table[i], (long long)m->kv.blocks);
    }
    return 0;
}

/* writers[block]: one more than the first row that writes it. */
static int note_writer(syn_model *m, const syn_batch *b, int64_t row) {
    int32_t block = table_of(b, row)[b->positions[row] / BLOCK];
    int32_t writer = m->writers[block];
    if (writer && b->sequences[writer - 1] != b->sequences[row])
        return FAIL(SYN_E_ARGUMENT, "block %d is written by the sequences %d and %d", block,
                    b->sequences[writer - 1], b->sequences[row]);
    if (!writer) m->writers[block] = (int32_t)row + 1;
    return 0;
}

static int check_readers(syn_model *m, const syn_batch *b, int64_t row, int64_t end) {
    const int32_t *table = table_of(b, row);
    for (int64_t i = 0; i <= b->positions[end - 1] / BLOCK; i++) {
        int32_t writer = m->writers[table[i]];
        if (!writer || b->sequences[writer - 1] == b->sequences[row]) continue;
        if (writer - 1 > row)
            return FAIL(SYN_E_ARGUMENT, "block %d is read by row %lld before row %d writes it",
                        table[i], (long long)row, writer - 1);
        m->rows.shared = 1;
    }
    return 0;
}

static int check_blocks(syn_model *m, const syn_batch *b) {
    int status = 0;
    int64_t end, noted = 0;
    for (int64_t row = 0; row < b->rows && !status; row = end) {
        end = sequence_end(b, row);
        status = check_table(m, b, row, end);
    }
    if (status) return status;
    m->rows.shared = 0;
    for (; noted < b->rows && !status; noted++) status = note_writer(m, b, noted);
    for (int64_t row = 0; row < b->rows && !status; row = end) {
        end = sequence_end(b, row);
        status = check_readers(m, b, row, end);
    }
    for (int64_t row = 0; row < noted; row++)
        m->writers[table_of(b, row)[b->positions[row] / BLOCK]] = 0;
    return status;
}

int syn_batch_check(syn_model *m, const syn_batch *b) {
    int status = check_counts(b);
    for (int64_t row = 0; !status && row < b->rows; row++) status = check_row(m, b, row);
    if (status) return status;
    char *seen = calloc((size_t)b->tables_rows, 1);
    if (!seen) return FAIL(SYN_E_MEMORY, "no memory for %lld sequences", (long long)b->tables_rows);
    status = check_order(b, seen);
    free(seen);
    if (!status) status = check_wanted(b);
    return status ? status : check_blocks(m, b);
}

/* Tiles of the rows [row, end), which are of one sequence; their results lie from `out` on. */
static int64_t cut(const syn_model *m, int64_t row, int64_t end, int64_t out, syn_tile *tiles) {
    int64_t group = m->config.heads / m->config.kv_heads, count = 0;
    int64_t most = TILE_ROWS / group ? TILE_ROWS / group : 1;
    for (; row < end; row += most, out += most)
        tiles[count++] = (syn_tile){row, end - row < most ? end - row : most, out};
    return count;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t span_tiles(const syn_model *m, const syn_batch *b, syn_span *s, syn_tile *tiles) {
    int64_t count = 0, end;
    s->alone = !m->rows.shared;
    for (int64_t row = s->begin; row < s->end; row = end) {
        end = least(sequence_end(b, row), s->end);
        if (end - row > 1) s->alone = 0;
        count += cut(m, row, end, row - s->begin, tiles + count);
    }
    return count;
}

/* The last layer: runs of wanted rows. */
static int64_t last_tiles(const syn_model *m, const syn_batch *b, const syn_span *s,
                          syn_tile *tiles) {
    int64_t count = 0, end;
    for (int64_t i = s->wanted; i < s->wanted_end; i = end) {
        for (end = i + 1; end < s->wanted_end; end++) {
            int64_t row = b->wanted[end];
            if (row != b->wanted[end - 1] + 1 || b->sequences[row] != b->sequences[row - 1]) break;
        }
        count += cut(m, b->wanted[i], b->wanted[end - 1] + 1, i - s->wanted, tiles + count);
    }
    return count;
}

int syn_batch_plan(syn_model *m, const syn_batch *b) {
    int64_t tiles = 0, wanted = 0;
    int count = 0;
    for (int64_t row = 0; row < b->rows; row += SPAN) {
        syn_span *s = &m->rows.spans[count++];
        *s = (syn_span){.begin = row, .end = least(row + SPAN, b->rows), .wanted = wanted};
        while (wanted < b->wanted_count && b->wanted[wanted] < s->end) wanted++;
        s->wanted_end = wanted;
        s->tiles = tiles;
        s->tiles_end = s->last = tiles += span_tiles(m, b, s, m->rows.tiles + tiles);
        s->last_end = tiles += last_tiles(m, b, s, m->rows.tiles + tiles);
    }
    return count;
}
