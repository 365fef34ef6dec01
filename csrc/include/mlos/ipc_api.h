/* SPDX-License-Identifier: BUSL-1.1 */
/* Declarations only: compiled by C, and parsed as they stand by the Python binding.
 *
 * Functions return 0 or a count, or a negative mlos_status; mlos_error() then has the
 * sentence. Times are CLOCK_MONOTONIC nanoseconds, timeouts relative nanoseconds, a
 * negative timeout means none. */

enum mlos_status {
    MLOS_OK = 0,
    MLOS_E_AGAIN = -1,   /* nothing free or nothing there: full, empty, not answered yet */
    MLOS_E_TIMEOUT = -2, /* the deadline passed */
    MLOS_E_TICK = -3,    /* come back: a signal came, or it is time to look around */
    MLOS_E_CLOSED = -4,  /* the daemon closed the channel */
    MLOS_E_BROKEN = -5,  /* the segment cannot be trusted any more */
    MLOS_E_TOO_BIG = -6, /* larger than the arena */
    MLOS_E_LOST = -7,    /* the slot belongs to somebody else now */
    MLOS_E_SYSTEM = -8,  /* a system call failed */
    MLOS_E_ARGUMENT = -9, /* the caller is wrong */
    MLOS_E_FORKED = -10,  /* the channel belongs to the parent process */
    MLOS_E_BUSY = -11     /* another thread is using this slot */
};

/* Added to a reply's length when the reply header is the one the caller knows. */
enum { MLOS_SAME = 0x40000000 };

enum mlos_wait_mode { MLOS_WAIT_ADAPTIVE = 0, MLOS_WAIT_SPIN = 1, MLOS_WAIT_BLOCK = 2 };

/* why a claimed request must be answered without running it */
enum mlos_fault {
    MLOS_FAULT_NONE = 0,
    MLOS_FAULT_HEADER = 1,      /* the header lies outside the segment */
    MLOS_FAULT_QUARANTINED = 2, /* it ended max_attempts workers */
    MLOS_FAULT_CANCELLED = 3,
    MLOS_FAULT_EXPIRED = 4
};

const char *mlos_error(void);
uint64_t mlos_now(void);

/* --- the segment ------------------------------------------------------------------------ */

typedef struct mlos_geometry {
    uint32_t slots;         /* 1 .. 1024 */
    uint32_t event_bytes;   /* ring of streamed events per slot, a power of two */
    uint64_t request_bytes; /* arena C */
    uint64_t reply_bytes;   /* arena W */
} mlos_geometry;

typedef struct mlos_channel mlos_channel;

/* Size in bytes of a segment of that geometry, or a status. */
int64_t mlos_segment_size(const mlos_geometry *geometry);
/* Write the header and the empty slots into a segment that is all zero. */
int mlos_segment_format(int fd, const mlos_geometry *geometry);
/* Mark the channel closed for its client, with a reason, and wake it. */
int mlos_segment_shut(int fd, const char *reason, uint32_t length);
/* A worker died: its lane serves this channel no longer. */
int mlos_segment_clear_lane(int fd, uint32_t lane);

/* Map a segment. `guarded` turns a SIGBUS in it into a broken channel. NULL on error.
 * The caller keeps both descriptors, which must stay open until mlos_channel_unmap. */
mlos_channel *mlos_channel_map(int fd, int event_fd, int guarded);
void mlos_channel_unmap(mlos_channel *channel);
uint8_t *mlos_channel_base(mlos_channel *channel);
uint64_t mlos_channel_size(mlos_channel *channel);
uint32_t mlos_channel_slots(mlos_channel *channel);
uint64_t mlos_channel_request_bytes(mlos_channel *channel);
uint64_t mlos_channel_reply_bytes(mlos_channel *channel);
int mlos_channel_broken(mlos_channel *channel);
/* The daemon's reason when closed: its length, copied to `into` (MLOS_REASON_BYTES). 0: open. */
int mlos_channel_reason(mlos_channel *channel, char *into, uint32_t room);

/* --- the doorbell ----------------------------------------------------------------------- */

typedef struct mlos_bell mlos_bell;

mlos_bell *mlos_bell_map(int fd);
void mlos_bell_unmap(mlos_bell *bell);
/* A worker died: its lane no longer sleeps. */
void mlos_bell_clear_lane(mlos_bell *bell, uint32_t lane);

/* --- the client's end; thread-safe ------------------------------------------------------- */

/* poll_max_ns bounds the adaptive window. */
void mlos_client_wait_mode(mlos_channel *channel, int mode, uint64_t poll_max_ns);

/* In a forked child: every further call on this end is refused with MLOS_E_FORKED. */
void mlos_client_disown(mlos_channel *channel);
/* A free slot's number, or MLOS_E_AGAIN. Only mlos_slot_release makes it free again. */
int mlos_slot_acquire(mlos_channel *channel);
uint32_t mlos_slots_free(mlos_channel *channel);
/* Offsets of a slot's own areas, for headers and small tensors (1024 bytes each). */
uint64_t mlos_slot_request_off(mlos_channel *channel, uint32_t slot);
uint64_t mlos_slot_small_off(mlos_channel *channel, uint32_t slot);

/* Publish a slot whose header is in place; an answered one is freed first. */
int mlos_submit(mlos_channel *channel, mlos_bell *bell, uint32_t slot, uint64_t header_off,
                uint32_t header_len, int64_t timeout_ns);
/* Wait for the answer: the length of the reply header, or a status. */
int mlos_wait(mlos_channel *channel, uint32_t slot, int64_t timeout_ns);
/* Like mlos_wait, without waiting. */
int mlos_poll(mlos_channel *channel, uint32_t slot);
/* mlos_submit and mlos_wait in one; an answered slot is submitted anew. Adds MLOS_SAME when
 * the reply header equals `known`. After MLOS_E_TICK go on with mlos_wait. */
int mlos_call(mlos_channel *channel, mlos_bell *bell, uint32_t slot, uint64_t header_off,
              uint32_t header_len, int64_t timeout_ns, const char *known, uint32_t known_len);
/* A call that is made again and again, and the doorbell its channel rings. One argument
 * crosses from Python at a third of the price of eight. */
typedef struct mlos_request {
    mlos_channel *channel;
    uint64_t header_off;
    int64_t timeout_ns;
    const char *known;
    uint32_t known_len;
    uint32_t slot;
    uint32_t header_len;
    uint32_t reserved;
} mlos_request;

void mlos_client_bell(mlos_channel *channel, mlos_bell *bell);
int mlos_run(const mlos_request *request);
/* The reply header of an answered slot; NULL when it does not lie in the segment. */
const uint8_t *mlos_reply(mlos_channel *channel, uint32_t slot, uint32_t *length);
/* Nanoseconds in the queue and in the worker, for an answered slot. */
void mlos_reply_times(mlos_channel *channel, uint32_t slot, uint64_t *queue_ns, uint64_t *run_ns);
/* Ask workers not to begin, or to stop, what this slot holds. */
void mlos_cancel(mlos_channel *channel, uint32_t slot);
/* Give an answered or never submitted slot back. MLOS_E_AGAIN while a worker may hold it. */
int mlos_slot_release(mlos_channel *channel, uint32_t slot);
/* The next streamed event, copied to `into`: its length; 0 after the last one, when the slot
 * is answered; or a status (MLOS_E_TOO_BIG: larger than `room`). */
int mlos_next_event(mlos_channel *channel, uint32_t slot, char *into, uint32_t room,
                    int64_t timeout_ns);
/* asyncio: ask for a signal on the eventfd; then look at mlos_take_done once more. */
void mlos_arm(mlos_channel *channel, int armed);
/* Slots with news since the last call, as a bitmap of 16 words; the count of bits. */
int mlos_take_done(mlos_channel *channel, uint64_t *bits);

/* Arena C: 64-byte aligned, book in private memory. An offset, or a status. */
int64_t mlos_arena_alloc(mlos_channel *channel, uint64_t bytes);
int mlos_arena_free(mlos_channel *channel, uint64_t offset);
uint64_t mlos_arena_used(mlos_channel *channel);

/* --- a worker's end --------------------------------------------------------------------- */

typedef struct mlos_port mlos_port;

/* How many times fell into each bucket; the last one takes longer ones, too. */
enum { MLOS_BUCKETS = 280 };
typedef struct mlos_times {
    uint64_t max_ns;
    uint64_t counts[MLOS_BUCKETS];
} mlos_times;

/* Sums since the port was made. Of requests that failed there is only the whole time. */
typedef struct mlos_port_stats {
    uint64_t answered;
    uint64_t failed;    /* how many of these with an error */
    uint64_t failed_ns; /* submitted to answered */
    uint64_t queue_ns;  /* submitted to claimed */
    uint64_t input_ns;  /* claimed to the start of the computation */
    uint64_t infer_ns;
    uint64_t output_ns; /* end of the computation to answered */
    uint64_t recovered;
    uint64_t lost;
    uint64_t held;     /* now: claimed and not answered */
    mlos_times request; /* submitted to answered */
    mlos_times queue;
    mlos_times infer;
} mlos_port_stats;

/* The shortest time in nanoseconds that a bucket counts. */
uint64_t mlos_bucket_from(uint32_t bucket);

typedef struct mlos_task {
    mlos_port *port;
    uint64_t word;
    uint64_t deadline_ns;
    uint64_t submitted_ns;
    uint64_t taken_ns;
    uint64_t events_sent;
    uint32_t attempts;
    uint32_t fault;
    uint32_t header_len;
    uint32_t block_hint;
    uint32_t header_room;
    uint32_t held; /* claimed and not answered */
    char *header; /* a private copy */
    uint32_t index;
    uint32_t slot;
    uint32_t reply_len; /* of what mlos_remember kept; 0: nothing */
    char *reply;        /* a private copy */
} mlos_task;

mlos_port *mlos_port_new(mlos_bell *bell, uint32_t owner, uint32_t lane, int mode,
                         uint64_t poll_max_ns, uint32_t max_attempts);
void mlos_port_free(mlos_port *port);
/* Serve a channel under `index` (0 .. 4095). Same thread as mlos_port_next. */
int mlos_port_add(mlos_port *port, uint32_t index, mlos_channel *channel);
/* Nothing more is claimed there. MLOS_E_AGAIN, and nothing is removed yet, while a claimed
 * request of it is not answered: say it again, with the same or another `how`. */
enum mlos_remove {
    MLOS_REMOVE_CANCEL = 0, /* its client is gone: what is held sees that it is cancelled */
    MLOS_REMOVE_NOW = 1,    /* whatever is held */
    MLOS_REMOVE_FINISH = 2  /* others serve it now: what is held is finished */
};
int mlos_port_remove(mlos_port *port, uint32_t index, int how);
/* Claim nothing more in any channel: clients wake other workers. Claiming thread. */
void mlos_port_leave(mlos_port *port);
/* Any thread: mlos_port_next returns MLOS_E_TICK soon. */
void mlos_port_interrupt(mlos_port *port);
/* Claim the next request, waiting. A key: index << 12 | slot << 2 | fault << 1 | same,
 * where `same` says that the header equals the last one of this slot; or MLOS_E_TIMEOUT,
 * MLOS_E_TICK. */
int64_t mlos_port_next(mlos_port *port, int64_t timeout_ns);
/* mlos_port_next with the timeout that was set (none at first). */
void mlos_port_patience(mlos_port *port, int64_t timeout_ns);
int64_t mlos_port_receive(mlos_port *port);
/* Like mlos_port_next, without waiting: MLOS_E_AGAIN when there is none. */
int64_t mlos_port_poll(mlos_port *port);
/* How many submitted requests nobody has claimed. Any thread, while the channel is mapped. */
uint64_t mlos_channel_pending(mlos_channel *channel);
/* How many submitted requests have no answer yet, claimed or not. Likewise. */
uint64_t mlos_channel_unanswered(mlos_channel *channel);
/* The same for all channels of a port. Claiming thread. */
uint64_t mlos_port_pending(mlos_port *port);
/* Sleep until some channel has a request, and claim nothing: 0, MLOS_E_TIMEOUT or MLOS_E_TICK. */
int mlos_port_watch(mlos_port *port, int64_t timeout_ns);
mlos_task *mlos_port_task(mlos_port *port, uint32_t index, uint32_t slot);
/* The index of a channel that was found broken, with mlos_error() saying how, or
 * MLOS_E_AGAIN. */
int mlos_port_take_broken(mlos_port *port);

/* 1 when the client cancelled or the deadline passed. */
int mlos_task_stop(mlos_port *port, uint32_t index, uint32_t slot);
/* The slot's own area for small reply tensors (1024 bytes). */
uint64_t mlos_reply_small_off(mlos_port *port, uint32_t index, uint32_t slot);
/* Room for a reply tensor in arena W: an offset, or a status. */
int64_t mlos_reply_alloc(mlos_port *port, uint32_t index, uint32_t slot, uint64_t bytes);
/* Publish the answer: 0, or MLOS_E_LOST when the slot was taken away. `started_ns` and
 * `ended_ns` bound the computation; 0 means claimed and now. */
int mlos_answer(mlos_port *port, uint32_t index, uint32_t slot, const char *header,
                uint32_t length, uint64_t started_ns, uint64_t ended_ns);
/* Keep a reply header with the task, and publish it again: 0, or a status. */
int mlos_remember(mlos_task *task, const char *header, uint32_t length);
int mlos_again(mlos_task *task);
/* As mlos_answer, with an error: counted as a failure. */
int mlos_refuse(mlos_port *port, uint32_t index, uint32_t slot, const char *header,
                uint32_t length);
/* As mlos_answer, to a question whether anybody is there: not counted. */
int mlos_pong(mlos_port *port, uint32_t index, uint32_t slot, const char *header, uint32_t length);
/* Any thread. */
void mlos_port_statistics(mlos_port *port, mlos_port_stats *into);
/* Append a streamed event: 1, or 0 when the ring is full, or a status. */
int mlos_emit(mlos_port *port, uint32_t index, uint32_t slot, const char *data, uint32_t length);
/* The same, with a note for a successor (at most 255 bytes), which is kept until the answer. */
int mlos_emit_noted(mlos_port *port, uint32_t index, uint32_t slot, const char *data,
                    uint32_t length, const char *note, uint32_t note_length);
/* Copy out the notes so far: the number of bytes, or a status. A note is the low byte of its
 * event's number, its length in a byte, and its bytes. The last one may be of an event that was
 * not emitted any more. */
int64_t mlos_journal(mlos_port *port, uint32_t index, uint32_t slot, char *into, uint64_t room);
/* The most that it can hold. */
int64_t mlos_journal_bytes(mlos_port *port, uint32_t index);
/* Take over what dead workers left: the number of requests that mlos_port_next will
 * return first. A slot is orphaned when its owner is below `limit` and not in `alive`. */
int mlos_port_recover(mlos_port *port, uint32_t index, uint32_t limit, const uint32_t *alive,
                      uint32_t alive_count);

/* --- the test build ----------------------------------------------------------------------- */

/* Names of all crash points, then NULL; empty unless built with MLOS_CRASH_POINTS. */
const char *const *mlos_crash_points(void);
/* Die by SIGKILL at the count-th pass (1 = next) of that point. */
int mlos_crash_arm(const char *point, uint32_t count);
