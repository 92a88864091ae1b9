"""The strict runner: typed parameters, byte-stable results, failures that say what failed."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardionets import screen
from cardionets.config import OUT_VARIABLE, StudyError
from cardionets.places import unplaced
from cardionets.run import resolve, run, typed

NotebookWriter = Callable[[str, str], Path]
PARAMETERS = '# %% tags=["parameters"]\ncohort = "ukb"\nepochs = 2\nrate = 0.5\nfast = True\nviews = ["sax"]\n\n'


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [("7", 1, 7), ("1e-3", 0.5, 1e-3), ("false", True, False), ("007", "x", "007"), ("['4ch']", ["sax"], ["4ch"])],
)
def test_text_takes_the_type_of_the_default(text: str, default: object, value: object) -> None:
    result = typed("p", text, default)
    assert result == value
    assert type(result) is type(default)


@pytest.mark.parametrize(("text", "default"), [("yes", True), ("1.5", 1), ("fast", 0.1), ("{}", ["sax"])])
def test_misfit_is_refused(text: str, default: object) -> None:
    with pytest.raises(StudyError, match="parameter p: expected"):
        typed("p", text, default)


@given(st.integers())
def test_every_integer_survives_the_command_line(number: int) -> None:
    assert typed("p", str(number), 0) == number


def test_all_faults_at_once() -> None:
    with pytest.raises(StudyError) as caught:
        resolve({"epocs": 3, "fast": "maybe"}, {"epochs": 2, "fast": True}, "train")
    message = str(caught.value)
    assert "'epocs' does not exist; known ones: epochs, fast" in message
    assert "fast: expected bool" in message


def test_runs_are_byte_equal_and_typed(notebook: NotebookWriter, tiny_root: Path) -> None:
    notebook("probe", PARAMETERS + "# %%\nprint(cohort, epochs, rate, fast, views)\n")
    out = run("probe", "mimic", {"epochs": "5", "fast": "false"})
    first = {p.name: p.read_bytes() for p in out.iterdir()}
    assert out == tiny_root / "reports" / "mimic" / "probe"
    assert set(first) == {"probe.ipynb", "probe.html"}
    assert b"mimic 5 0.5 False ['sax']" in first["probe.ipynb"]
    run("probe", "mimic", {"epochs": "5", "fast": "false"})
    assert {p.name: p.read_bytes() for p in out.iterdir()} == first
    status = json.loads((tiny_root / "logs/mimic/probe/status.json").read_text())
    assert status["state"] == "finished"


def test_a_failing_cell_is_shown_and_nothing_is_published(notebook: NotebookWriter, tiny_root: Path) -> None:
    notebook("probe", PARAMETERS + "# %%\nlimit = 3\nassert epochs > limit, 'too few epochs'\n")
    with pytest.raises(StudyError, match="too few epochs"):
        run("probe", "ukb")
    assert not (tiny_root / "reports" / "ukb" / "probe").exists()
    status = json.loads((tiny_root / "logs/ukb/probe/status.json").read_text())
    assert status["state"] == "failed"
    assert "assert epochs > limit" in status["error"]
    assert (tiny_root / "logs/ukb/probe/probe.failed.ipynb").is_file()


@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize(
    ("cell", "state", "error"),
    [
        ("os.kill(os.getpid(), 9)", "failed", StudyError),
        ("os.kill(os.getppid(), signal.SIGINT); time.sleep(60)", "interrupted", KeyboardInterrupt),
    ],
)
def test_a_dead_kernel_and_an_interruption_end_soon_and_are_written_down(
    notebook: NotebookWriter, tiny_root: Path, cell: str, state: str, error: type[BaseException]
) -> None:
    notebook("probe", f"{PARAMETERS}# %%\nimport os, signal, time\n{cell}\n")
    begin = time.monotonic()
    with pytest.raises(error, match=r"notebooks/probe\.py: the kernel died .*JOBS=1" if error is StudyError else None):
        run("probe", "ukb")
    assert time.monotonic() - begin < 40
    status = json.loads((tiny_root / "logs/ukb/probe/status.json").read_text())
    assert status["state"] == state and status["error"]
    assert list((tiny_root / "reports" / "ukb").iterdir()) == []


def test_an_error_of_the_runner_itself_is_written_down(
    notebook: NotebookWriter, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cardionets.run.to_html", lambda notebook, title: 1 / 0)
    notebook("probe", PARAMETERS)
    with pytest.raises(ZeroDivisionError):
        run("probe", "ukb")
    status = json.loads((tiny_root / "logs/ukb/probe/status.json").read_text())
    assert (status["state"], status["error"]) == ("failed", "division by zero")


def test_a_page_names_its_folder_as_it_will_be(notebook: NotebookWriter) -> None:
    notebook("probe", f"{PARAMETERS}# %%\nimport os\nprint(os.environ['{OUT_VARIABLE}'])\n")
    assert "reports/ukb/probe\\n" in (run("probe", "ukb") / "probe.ipynb").read_text()


def test_neither_pages_nor_logs_name_folders_or_times(notebook: NotebookWriter, tiny_root: Path) -> None:
    said = "import sys, warnings, pathlib\nwarnings.warn('odd')\nprint(pathlib.Path.cwd())\n"
    notebook("probe", PARAMETERS + "# %%\n" + said + "pathlib.Path.cwd()\n\n# %%\npathlib.Path('none').read_text()\n")
    with pytest.raises(StudyError, match="No such file"):
        run("probe", "ukb")
    private = screen.Private(places=(str(tiny_root), str(Path.home()), tempfile.gettempdir(), sys.prefix))
    assert screen.search_files([tiny_root / "logs"], private) == []
    notebook("probe", PARAMETERS + "# %%\n" + said)
    run("probe", "ukb")
    assert not (tiny_root / "logs/ukb/probe/probe.failed.ipynb").exists()
    assert screen.search_files([tiny_root / "logs", tiny_root / "reports"], private) == []


def test_what_a_killed_run_would_leave_names_nothing(notebook: NotebookWriter, tiny_root: Path) -> None:
    warns = "import os, shutil, warnings, pathlib\nwarnings.warn('odd')\nprint(pathlib.Path.cwd())\n\n# %%\n"
    notebook("probe", f"{PARAMETERS}# %%\n{warns}shutil.copytree(os.environ['{OUT_VARIABLE}'], 'left')\n")
    run("probe", "ukb")
    assert [path.name for path in (tiny_root / "left").iterdir()] == ["source.ipynb"]
    private = screen.Private(places=(str(tiny_root), str(Path.home()), tempfile.gettempdir(), sys.prefix))
    assert screen.search_files([tiny_root / "left"], private) == []


def test_a_folder_is_replaced_as_a_whole_and_never_inside_a_picture() -> None:
    here = {"/home/miller/study": ".", "/home/miller": "~", "/tmp": "tmp"}
    said = "file:///home/miller/study/x and '/home/miller/a' of /tmp, /home/miller2/b"
    assert unplaced(said, here) == "file://./x and '~/a' of tmp, /home/miller2/b"
    assert unplaced("data:image/png;base64,iVBO/tmpAAA+/tmp+aa/tmp", here).count("/tmp") == 3


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("# %%\nx = 1\n", "expected one cell tagged 'parameters', found 0"),
        ('# %% tags=["parameters"]\nx = open("f")\n', "not a plain literal"),
        ('# %% tags=["parameters"]\nimport os\n', "no plain"),
    ],
)
def test_parameters_cell_holds_literals_only(notebook: NotebookWriter, text: str, match: str) -> None:
    notebook("probe", text)
    with pytest.raises(StudyError, match=match):
        run("probe")


def test_unknown_names(notebook: NotebookWriter) -> None:
    notebook("probe", PARAMETERS)
    with pytest.raises(StudyError, match=r"notebooks/prob\.py: no such stage; choose one of probe"):
        run("prob")
    with pytest.raises(StudyError, match=r"cohorts\.yaml: cohorts\.ukbb: no such cohort; known: ukb"):
        run("probe", "ukbb")
