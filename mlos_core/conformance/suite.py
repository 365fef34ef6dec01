# SPDX-License-Identifier: BUSL-1.1
"""The suite: every check, in the order in which they build on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from mlos_core.conformance import outcome
from mlos_core.conformance.checks import (
    answers,
    batching,
    contract,
    crashes,
    loading,
    mistakes,
    streams,
    unloading,
)
from mlos_core.conformance.outcome import Outcome
from mlos_core.conformance.subject import Daemon, Subject, Target

Check = Callable[[Subject], str | None]
CHECKS: Final[dict[str, tuple[Check, ...]]] = {
    "contract": (
        contract.it_imports_and_keeps_the_contract,
        contract.its_import_starts_no_threads,
        contract.a_host_of_the_daemon_imports_it,
        contract.it_brings_an_example_that_lies_in_its_folder,
        contract.the_model_loads,
        contract.its_signature_is_sound,
    ),
    "answers": (
        answers.outputs_are_what_the_signature_says,
        answers.the_same_question_has_the_same_answer_bit_for_bit,
        answers.other_questions_in_between_change_nothing,
        answers.concurrent_clients_get_each_their_own_answer,
        answers.answers_that_are_held_stay_right,
        answers.a_client_that_changes_its_input_afterwards_changes_no_answer,
    ),
    "mistakes": (
        mistakes.a_wrong_name_is_refused,
        mistakes.a_missing_input_is_refused,
        mistakes.a_wrong_dtype_is_refused,
        mistakes.a_wrong_shape_is_refused,
        mistakes.nan_and_infinity_do_not_end_the_worker,
        mistakes.extreme_numbers_do_not_end_the_worker,
        mistakes.odd_strings_do_not_end_the_worker,
        mistakes.odd_sizes_do_not_end_the_worker,
    ),
    "batching": (
        batching.rows_sent_together_are_answered_like_rows_sent_alone,
        batching.requests_that_the_runtime_joins_get_their_own_rows,
        batching.an_empty_batch_does_not_end_the_worker,
    ),
    "streams": (
        streams.a_stream_is_the_same_every_time,
        streams.streams_side_by_side_do_not_mix,
        streams.a_stream_that_is_left_early_is_cancelled,
        streams.a_stream_goes_on_behind_a_killed_worker,
    ),
    "loading": (
        loading.an_unknown_option_is_refused_by_name,
        loading.an_unknown_device_is_refused,
        loading.an_empty_folder_is_refused,
        loading.a_truncated_file_does_no_harm,
        loading.a_file_of_garbage_is_refused,
        loading.the_beginning_of_a_file_followed_by_garbage_does_no_harm,
    ),
    "crashes": (crashes.a_killed_worker_is_replaced_and_no_answer_is_lost,),
    "unloading": (
        unloading.close_gives_back_descriptors_threads_and_memory,
        unloading.unloading_ends_the_worker_and_gives_its_memory_back,
        unloading.no_file_is_left_behind,
    ),
}


def check_plugin(target: Target, daemon: Daemon) -> Iterator[Outcome]:
    """Run the suite on a daemon that nobody else uses; an outcome as each check ends.

    The daemon's folder for temporary files is `tmp` in its own folder.
    """
    subject = Subject(target, daemon)
    try:
        for group, checks in CHECKS.items():
            for check in checks:
                yield outcome.run(group, check, subject)
    finally:
        subject.close()
