/* SPDX-License-Identifier: BUSL-1.1 */
/* Packing all tensors with all threads, which take pieces of about the same size. */
#include <stdatomic.h>

#include "model.h"

#define PIECE_BYTES (256 * 1024)

typedef struct packing {
    const syn_pack_job *jobs;
    int64_t count;
    _Atomic int64_t next; /* piece to take, counted over all jobs */
    _Atomic int failed;   /* a status; the first one wins */
} packing;

/* Rows of a piece: whole panels. */
static int64_t piece_rows(const syn_pack_job *job) {
    int64_t row = (int64_t)(job->bytes / (uint64_t)job->rows) + 1;
    int64_t panels = PIECE_BYTES / (row * SYN_PANEL);
    return (panels ? panels : 1) * SYN_PANEL;
}

static int64_t pieces(const syn_pack_job *job) {
    return (job->rows + piece_rows(job) - 1) / piece_rows(job);
}

static int pack_piece(const syn_pack_job *job, int64_t piece) {
    int64_t begin = piece * piece_rows(job), end = begin + piece_rows(job);
    return syn_pack(job->type, job->data, job->bytes, job->rows, job->columns, begin,
                    end < job->rows ? end : job->rows, job->packed);
}

static void pack_some(void *arg, int thread, int threads) {
    packing *p = arg;
    int64_t before = 0, job = 0;
    (void)thread, (void)threads;
    while (!atomic_load(&p->failed)) {
        int64_t piece = atomic_fetch_add(&p->next, 1);
        while (job < p->count && piece - before >= pieces(&p->jobs[job]))
            before += pieces(&p->jobs[job++]);
        if (job == p->count) return;
        int status = pack_piece(&p->jobs[job], piece - before), none = 0;
        if (status) atomic_compare_exchange_strong(&p->failed, &none, status);
    }
}

int syn_pack_all(syn_pool *pool, const syn_pack_job *jobs, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (jobs[i].rows < 1 || jobs[i].columns < 1)
            return FAIL(SYN_E_FORMAT, "tensor %lld has no elements", (long long)i);
    }
    packing p = {.jobs = jobs, .count = count};
    int status = syn_pool_run(pool, pack_some, &p);
    if (status) return status;
    status = atomic_load(&p.failed);
    return status ? FAIL(status, "a tensor's bytes do not fit its shape") : 0;
}
