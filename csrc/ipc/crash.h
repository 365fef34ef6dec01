/* SPDX-License-Identifier: BUSL-1.1 */
/* Crash points: places where the test build can end the process by SIGKILL.
 *
 * Every transition of a slot has one before and one behind it, made by slot_move() alone,
 * so that none can be without; STEPS are the other moments at which death leaves a trace.
 */
#ifndef MLOS_CRASH_H
#define MLOS_CRASH_H

/* name, from, to */
#define MLOS_TRANSITIONS(X)                                                                        \
    X(FILL, MLOS_FREE, MLOS_FILLED)     /* client: the request is complete */                      \
    X(TAKE, MLOS_FILLED, MLOS_TAKEN)    /* worker: popped from the ring */                         \
    X(ADOPT, MLOS_FILLED, MLOS_TAKEN)   /* worker: popped by a worker that died */                 \
    X(RECLAIM, MLOS_TAKEN, MLOS_TAKEN)  /* worker: claimed by a worker that died */                \
    X(ANSWER, MLOS_TAKEN, MLOS_DONE)    /* worker: the answer is complete */                       \
    X(RELEASE, MLOS_DONE, MLOS_FREE)    /* client: the answer is read */

#define MLOS_STEPS(X)                                                                              \
    X(PUSHED)    /* client: in the ring, doorbell not rung */                                      \
    X(RUNG)      /* client: doorbell rung */                                                       \
    X(POPPED)    /* worker: out of the ring, not yet claimed */                                    \
    X(ALLOCATED) /* worker: some blocks of a reply are tagged */                                   \
    X(NOTED)     /* worker: a note is kept, its event not yet written */                           \
    X(EMITTING)  /* worker: an event is written, not yet published */                              \
    X(EMITTED)   /* worker: an event is published, the client not yet woken */                     \
    X(MARKED)    /* worker: answered and marked in the bitmap, the client not yet woken */         \
    X(WOKEN)     /* worker: the client is woken */

enum transition {
#define X(name, from, to) T_##name,
    MLOS_TRANSITIONS(X)
#undef X
        TRANSITION_COUNT
};

enum crash_point {
#define X(name, from, to) CRASH_BEFORE_##name, CRASH_AFTER_##name,
    MLOS_TRANSITIONS(X)
#undef X
#define X(name) CRASH_##name,
        MLOS_STEPS(X)
#undef X
            CRASH_POINT_COUNT
};

#ifdef MLOS_CRASH_POINTS
void mlos_crash_pass(enum crash_point point);
#define CRASH_POINT(point) mlos_crash_pass(point)
#else
#define CRASH_POINT(point) ((void)(point))
#endif

#endif
