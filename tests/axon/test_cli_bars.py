# SPDX-License-Identifier: BUSL-1.1
import io
import threading

import pytest
from rich.console import Console

from axon_client import render
from axon_client.bars import MOST_DONE, Bars, label
from axon_client.progress import silent


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def screen():
    return io.StringIO()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def bars(screen, clock):
    console = Console(file=screen, force_terminal=True, width=120)
    with Bars(console, clock) as bars:
        yield bars


def test_what_is_over_within_a_second_is_not_drawn(bars, screen, clock):
    bars.progress("download a", 10, 100)
    clock.now += 0.9
    bars.progress("download a", 100, 100)
    clock.now += 1
    bars.progress("download a", 100, 100)
    assert screen.getvalue() == ""


def test_what_takes_longer_is_drawn_with_size_and_speed(bars, screen, clock):
    bars.progress("download model.onnx", 1_000_000, 4_000_000)
    clock.now += 1.5
    bars.progress("download model.onnx", 2_000_000, 4_000_000)
    bars._bars.refresh()
    assert "downloading model.onnx" in screen.getvalue()
    assert "2.0/4.0 MB" in screen.getvalue()


def test_several_tasks_are_drawn_at_once_from_several_threads(bars, clock):
    clock.now += 2
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        for done in range(50):
            bars.progress(f"download {number}", done, 100)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bars._bars.tasks) == 8
    assert {task.completed for task in bars._bars.tasks} == {49}


def test_of_many_finished_tasks_a_few_stay(bars, clock):
    clock.now += 2
    bars.progress("hash", 1, 1000)
    for number in range(50):
        bars.progress(f"download {number}", 1, 10)
        bars.progress(f"download {number}", 10, 10)
    assert len(bars._bars.tasks) == MOST_DONE + 1


def test_a_task_that_begins_again_is_drawn_again(bars, clock):
    clock.now += 2
    bars.progress("verify", 1, 10)
    bars.progress("verify", 10, 10)
    bars.progress("verify", 1, 20)
    (task,) = bars._bars.tasks
    assert (task.completed, task.total) == (1, 20)


def test_a_name_from_a_package_cannot_drive_the_terminal():
    assert label("download \x1b[2Jx") == "downloading  [2Jx"
    assert label("copy") == "copying"
    assert label("something else") == "something else"


def test_without_a_terminal_nobody_listens(capsys):
    with render.progress_bars(True) as progress:
        assert progress is silent
    with render.progress_bars(False) as progress:
        assert progress is silent
