# SPDX-License-Identifier: BUSL-1.1
import sys

import numpy as np
import pytest

from mlos_core.errors import InvalidInput, LoadFailed, ModelFailed

from .conftest import ask, scalar

DOUBLE = "class A:\n    def predict(self, x: float) -> float:\n        return 2 * x\n"


def number(model, value=1.0):
    return ask(model, x=scalar(value, np.float64))["output"].item()


def test_a_folder_or_its_file_may_be_named(write, load):
    folder = write(DOUBLE)
    assert number(load(folder)) == number(load(folder / "model.py")) == 2.0


def test_a_file_may_be_a_link_to_one_with_any_name(write, load, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    folder = write(DOUBLE.replace("2 * x", "2 * x + __import__('helper').more"), helper="more = 1")
    (folder / "model.py").rename(store / "0123abcd")
    (folder / "model.py").symlink_to(store / "0123abcd")
    assert number(load(folder)) == 3.0


def test_the_only_class_or_the_one_called_model_or_the_one_named_is_taken(write, load):
    folder = write(DOUBLE + DOUBLE.replace("A", "B").replace("2", "3"))
    with pytest.raises(LoadFailed, match=r"several classes.*A, B"):
        load(folder)
    assert number(load(folder, cls="B")) == 3.0
    with pytest.raises(LoadFailed, match="'C'"):
        load(folder, cls="C")
    folder = write(DOUBLE + DOUBLE.replace("A", "Model").replace("2", "4"))
    assert number(load(folder)) == 4.0


def test_a_file_without_a_model_shows_how_one_looks(write, load, tmp_path):
    with pytest.raises(LoadFailed) as caught:
        load(write("x = 1"))
    assert "def predict(self" in caught.value.hint
    with pytest.raises(LoadFailed, match=r"no .*model\.py"):
        load(tmp_path)


def test_a_missing_module_is_named(write, load):
    with pytest.raises(LoadFailed, match=r"model\.py line 8 needs the module 'no_such_module'"):
        load(write("import no_such_module"))


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("class A(:", r"model\.py line 8 raised SyntaxError"),
        ("x = 1 / 0", r"model\.py line 8 raised ZeroDivisionError: division by zero"),
        ("import helper", r"helper\.py line 2 raised KeyError: 'k'"),
        ("raise SystemExit(3)", r"model\.py line 8 raised SystemExit: 3"),
        (DOUBLE + "    def setup(self):\n        open('/none')", "line 12 raised FileNotFound"),
    ],
)
def test_what_fails_while_loading_is_told_with_its_line(write, load, code, word):
    with pytest.raises(LoadFailed, match=word):
        load(write(code, helper="\n{}['k']"))


def test_what_predict_raises_is_told_with_its_line_and_logged(served, caplog):
    model = served(DOUBLE.replace("return 2 * x", "return [][int(x)]"))
    with pytest.raises(ModelFailed, match=r"^model\.py line 10 raised IndexError: list index"):
        number(model)
    assert "Traceback" in caplog.text


def test_predict_may_say_that_the_caller_is_wrong(served):
    model = served(
        """
        from mlos_core.errors import InvalidInput
        class A:
            def predict(self, x: float) -> float:
                raise InvalidInput("too small", hint="give more")
        """
    )
    with pytest.raises(InvalidInput, match="too small"):
        number(model)


# --- options ----------------------------------------------------------------------------------

SETUP = """
class A:
    def setup(self, factor: float, name: str = "n", *, folder, threads, device):
        self.factor, self.name = factor, name
        assert folder.joinpath("model.py").is_file()
        assert (threads, device) == (3, "cuda:1")
    def predict(self, x: float) -> str:
        return f"{self.name} {x * self.factor:g}"
"""


def test_setup_gets_the_options_and_what_it_asks_for(write, load):
    model = load(write(SETUP), device="cuda:1", threads=3, factor="2.5")
    assert number(model, 2.0) == "n 5"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"factor": 1, "fakctor": 2}, "did you mean 'factor'"),
        ({}, "factor"),
        ({"factor": "many"}, "factor"),
        ({"factor": 1, "folder": "."}, "no option 'folder'"),
    ],
)
def test_bad_options_are_refused(write, load, options, word):
    with pytest.raises(LoadFailed, match=word):
        load(write(SETUP.replace('"cuda:1"', '"cpu"').replace("3", "0")), **options)


def test_a_model_without_setup_has_no_options_and_only_the_cpu(write, load):
    with pytest.raises(LoadFailed, match="no option 'factor'"):
        load(write(DOUBLE), factor=2)
    with pytest.raises(LoadFailed, match="cuda:0"):
        load(write(DOUBLE), device="cuda:0")


def test_a_setup_with_keywords_takes_any_option(write, load):
    code = DOUBLE + "    def setup(self, **all):\n        assert all == {'k': [1]}\n"
    assert number(load(write(code), k=[1])) == 2.0


# --- imports ----------------------------------------------------------------------------------

HELPED = """
from .helper import factor
import helper
class A:
    def predict(self, x: float) -> float:
        from .late import more
        return x * factor + helper.factor + more
    def close(self):
        helper.closed = True
"""


def test_models_with_the_same_module_names_do_not_collide(write, load):
    first = load(write(HELPED, "one", helper="factor = 2", late="more = 0.5"))
    second = load(write(HELPED, "two", helper="factor = 10", late="more = 0.25"))
    assert number(first, 3.0) == 8.5
    assert number(second, 3.0) == 40.25
    assert number(first, 3.0) == 8.5


def test_loading_again_sees_what_has_changed_and_writes_nothing(write, load):
    folder = write(HELPED, helper="factor = 2", late="more = 0")
    load(folder)
    write(HELPED, helper="factor = 3", late="more = 0")
    assert number(load(folder)) == 6.0
    assert not list(folder.rglob("__pycache__"))


def test_a_closed_model_leaves_nothing_in_the_interpreter(write):
    from mlos_plugin_python import PythonPlugin

    from mlos_core.smi import ModelPackage

    before = (list(sys.path), sys.dont_write_bytecode)
    folder = write(HELPED, helper="factor = 2", late="more = 0")
    PythonPlugin().load(ModelPackage("m", "1", folder), "cpu", {}).close()
    assert (sys.path, sys.dont_write_bytecode) == before
    assert not [name for name in sys.modules if name.startswith("mlos_model_")]
    assert sys.modules["helper"].closed


def test_the_example_answers(load, tmp_path):
    from mlos_plugin_python import PythonPlugin

    model = load(PythonPlugin().example(tmp_path).path, factor=3)
    assert ask(model, x=np.ones((2, 3), np.float32))["output"].tolist() == [[3.0] * 3] * 2
