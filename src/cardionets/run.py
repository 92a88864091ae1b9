"""Run one notebook as one stage: strict parameters, live output, scrubbed and byte-stable results.

The only module that knows papermill. A notebook lives in ``notebooks/<stage>.py`` (percent format); its paired
``.ipynb`` is for people. Results go to ``reports/<cohort>/<stage>/``; the state of the run, also of a failed one, to
``logs/<cohort>/<stage>/status.json``.
"""

# ruff: noqa: E402
from __future__ import annotations

import ast
import json
import os
import re
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@contextmanager
def _without(*packages: str) -> Iterator[None]:
    """Hide optional packages from what is imported in the block: they take long to load, and no stage uses them."""
    hidden: dict[str, Any] = {name: None for name in packages if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


with _without("rfc3987_syntax", "jupyter_server"):  # a grammar of addresses (2 s), and what JupyterLab is made of
    import jupytext
    import nbformat

from cardionets.config import OUT_VARIABLE, STUDY, Study, StudyError
from cardionets.files import atomic_path
from cardionets.places import places, unplaced
from cardionets.progress import clock

Notebook = Any  # an nbformat.NotebookNode: a dictionary whose keys are attributes


def load(study: Study, stage: str) -> Notebook:
    """The stage's notebook from its text form; the ``.ipynb`` beside it is never read, so saving it reruns nothing."""
    path = study.path("notebooks", f"{stage}.py")
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.py")))
        raise StudyError(f"notebooks/{stage}.py: no such stage; choose one of {known}.")
    return jupytext.read(path)


def pair(study: Study) -> list[Path]:
    """Write the ``.ipynb`` beside every ``notebooks/*.py``, without outputs and with steady cell ids."""
    written = []
    for source in sorted(study.path("notebooks").glob("*.py")):
        notebook = load(study, source.stem)
        for position, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{position:03d}"
        nbformat.write(notebook, source.with_suffix(".ipynb"))
        written.append(source.with_suffix(".ipynb"))
    return written


def _parameters_cell(notebook: Notebook, stage: str) -> Notebook:
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise StudyError(f"notebooks/{stage}.py: expected one cell tagged 'parameters', found {len(cells)}; tag one.")
    return cells[0]


def defaults(notebook: Notebook, stage: str) -> dict[str, Any]:
    """Names and default values of the parameters cell, which may hold plain assignments of literals only."""
    found: dict[str, Any] = {}
    for node in ast.parse(_parameters_cell(notebook, stage).source).body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                found[name] = _literal(value, stage)
            case _:
                raise StudyError(
                    f"notebooks/{stage}.py: parameters: line {node.lineno} is no plain `name = literal`; make it one."
                )
    return found


def _literal(node: ast.expr, stage: str) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise StudyError(
            f"notebooks/{stage}.py: parameters: line {node.lineno} is not a plain literal; compute it in a later cell."
        ) from None


def typed(name: str, value: Any, default: Any) -> Any:
    """``value`` (text from a command line, or already typed) as the type of ``default``; refused when it does not fit.

    Raises:
        StudyError: when the text does not read as that type.
    """
    kind = type(default)
    if not isinstance(value, str) or kind is str:
        if default is not None and not isinstance(value, kind) and not (kind is float and isinstance(value, int)):
            raise StudyError(f"parameter {name}: expected {kind.__name__}, found {value!r}; give a {kind.__name__}.")
        return value
    if kind is bool and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        if kind in (int, float):
            return kind(value)
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        read = None
    if not isinstance(read, kind):
        raise StudyError(f"parameter {name}: expected {kind.__name__}, found {value!r}; give a {kind.__name__}.")
    return read


def resolve(given: Mapping[str, Any], known: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """Typed values of all parameters; every unknown name and every misfit is reported at once."""
    faults = [
        f"notebooks/{stage}.py: parameter {name!r} does not exist; known ones: {', '.join(known) or 'none'}."
        for name in given
        if name not in known
    ]
    values: dict[str, Any] = dict(known)
    for name in given.keys() & known.keys():
        try:
            values[name] = typed(name, given[name], known[name])
        except StudyError as error:
            faults.append(f"notebooks/{stage}.py: {error}")
    if faults:
        raise StudyError("\n".join(faults))
    return values


@contextmanager
def _own_kernel() -> Iterator[None]:
    """Make ``python3`` mean the running interpreter, whatever kernels other environments have registered."""
    with TemporaryDirectory() as folder:
        spec = Path(folder) / "kernels" / "python3"
        spec.mkdir(parents=True)
        argv = [
            sys.executable,
            "-m",
            "ipykernel_launcher",
            "--IPKernelApp.log_level=CRITICAL",
            "-f",
            "{connection_file}",
        ]
        about = {"argv": argv, "display_name": "python3", "language": "python", "env": _memory()}
        (spec / "kernel.json").write_text(json.dumps(about))
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = os.pathsep.join([folder, *([before] if before else [])])
        try:
            yield
        finally:
            if before is None:
                del os.environ["JUPYTER_PATH"]
            else:
                os.environ["JUPYTER_PATH"] = before


def _memory() -> dict[str, str]:
    """Let the C library keep freed blocks of up to 256 MB: batches come and go, and new pages cost a tenth of a step.

    Variables of glibc; others ignore them. What the user has set stays.
    """
    kept = {"MALLOC_MMAP_THRESHOLD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "536870912"}
    return {name: os.environ.get(name, value) for name, value in kept.items()}


def scrub(notebook: Notebook, here: Mapping[str, str]) -> Notebook:
    """Remove what differs between two equal runs: times, random cell ids, folders of this machine."""
    notebook.metadata = nbformat.from_dict({"language_info": {"name": "python"}, "kernelspec": _kernelspec()})
    _number(notebook)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {})
        for output in cell.get("outputs", []):
            output.get("metadata", {}).clear()
            if "text" in output:
                output["text"] = _without_clock(unplaced(str(output["text"]), here))
            if output.output_type == "error":
                output["evalue"] = unplaced(output["evalue"], here)
                output["traceback"] = [unplaced(line, here) for line in output["traceback"]]
            for kind, value in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output["data"][kind] = unplaced(str(value), here)
    return notebook


def _number(notebook: Notebook) -> None:
    """Plain ids in the place of random ones."""
    for position, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{position:03d}"


def _kernelspec() -> dict[str, str]:
    return {"name": "python3", "display_name": "Python 3", "language": "python"}


PROGRESS_LINE = re.compile(r"^.*(/s, .* left|/s, .* gone| done in [\d:]+)\s*$\n?", re.MULTILINE)


def _without_clock(text: str) -> str:
    """Drop progress lines: they time the machine, not the study, and are kept in the log."""
    return PROGRESS_LINE.sub("", text)


def to_html(notebook: Notebook, title: str) -> str:
    """The executed notebook as one HTML page that needs no network."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab", embed_images=True)
    exporter.mathjax_url = ""
    exporter.require_js_url = ""
    exporter.mermaid_js_url = ""
    html, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    return str(html)


def _failure(notebook: Notebook) -> str:
    """The failing cell and its error, as the terminal shows it."""
    outputs = ((cell, output) for cell in notebook.cells for output in cell.get("outputs", []))
    cell, error = next((cell, output) for cell, output in outputs if output.output_type == "error")
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback[-3:]))
    shown = "" if error.ename == "StudyError" else trace
    return f"{cell.source.strip()}\n\n{error.ename}: {error.evalue}\n{shown}"


class _Status:
    """``status.json`` of one run: running, finished, failed or interrupted; always readable, also after a crash."""

    def __init__(self, folder: Path, stage: str, cohort: str) -> None:
        self.path = folder / "status.json"
        self.fields: dict[str, Any] = {"stage": stage, "cohort": cohort}
        self.start = time.time()

    def write(self, state: str, **more: Any) -> None:
        done = {"state": state, "seconds": round(time.time() - self.start, 1), **_spent(), **more}
        with atomic_path(self.path) as aside:
            aside.write_text(json.dumps({**self.fields, **done}, indent=1) + "\n")

    @contextmanager
    def kept(self, here: Mapping[str, str]) -> Iterator[None]:
        """What becomes of the block is written, its error without the folders ``here`` and raised again."""
        self.write("running")
        try:
            yield
        except BaseException as error:
            state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self.write(state, error=unplaced(str(error) or type(error).__name__, here))
            raise
        self.write("finished")


def _spent() -> dict[str, float]:
    """CPU seconds of this process and of those it has waited for, and the largest memory that one of them held."""
    who = [resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu, held = sum(use.ru_utime + use.ru_stime for use in who), max(use.ru_maxrss for use in who)
    return {"cpu_seconds": round(cpu, 1), "peak_mb": round(held * (1 if sys.platform == "darwin" else 1024) / 1e6)}


def run(stage: str, cohort: str | None = None, parameters: Mapping[str, Any] | None = None) -> Path:
    """Execute ``notebooks/<stage>.py`` and publish it under ``reports/<cohort>/<stage>/``.

    Args:
        stage: name of the notebook.
        cohort: a key of ``cohorts.yaml`` for per-cohort stages; the study as a whole when absent.
        parameters: values for the notebook's parameters cell; text is read as the type of the default.

    Returns:
        The folder with the executed notebook, its HTML, figures and tables.

    Raises:
        StudyError: unknown stage, cohort or parameter, a failing cell, which is printed, or a kernel that died.
    """
    study = Study()
    notebook = load(study, stage)
    given = dict(parameters or {})
    if cohort is not None:
        study.cohort(cohort)
        given["cohort"] = cohort
    values = resolve(given, defaults(notebook, stage), stage)
    target = study.path("reports", cohort or STUDY, stage)
    logs = study.path("logs", cohort or STUDY, stage)
    logs.mkdir(parents=True, exist_ok=True)
    status, here = _Status(logs, stage, cohort or STUDY), places(study, cohort)
    with status.kept(here), atomic_path(target, lasting=True) as aside, ThreadPoolExecutor(1) as meanwhile:
        here = {str(aside): f"reports/{cohort or STUDY}/{stage}"} | here
        aside.mkdir(parents=True)
        meanwhile.submit(import_module, "nbconvert")  # while the kernel works
        try:
            executed = _execute(stage, notebook, values, aside, study.root)
        except _CellError as failed:
            nbformat.write(scrub(failed.notebook, here), logs / f"{stage}.failed.ipynb")
            raise StudyError(f"notebooks/{stage}.py: a cell failed; mend its cause, run again.\n\n{failed}") from None
        scrub(executed, here)
        nbformat.write(executed, aside / f"{stage}.ipynb")
        (aside / f"{stage}.html").write_text(to_html(executed, f"{cohort or STUDY} {stage}"), encoding="utf-8")
    (logs / f"{stage}.failed.ipynb").unlink(missing_ok=True)
    print(f"{stage}{'@' + cohort if cohort else ''}: finished in {clock(time.time() - status.start)}", flush=True)
    return target


DIED = (
    "the kernel died before any cell failed (out of memory, or killed); "
    "free some memory or run one stage at a time (make study JOBS=1), then run the same again."
)


class _CellError(Exception):
    def __init__(self, notebook: Notebook) -> None:
        super().__init__(_failure(notebook))
        self.notebook = notebook


def _execute(stage: str, notebook: Notebook, values: Mapping[str, Any], out: Path, root: Path) -> Notebook:
    """Run all cells with ``values``; figures and tables that the notebook saves go to ``out``.

    Nothing is written after single cells: a killed run leaves no outputs that were not scrubbed.
    """
    with _without("pyarrow"):  # for notebooks in a Hadoop file system
        import papermill
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError

    source, result = out / "source.ipynb", out / "result.ipynb"
    notebook.metadata["kernelspec"] = _kernelspec()
    _number(notebook)
    nbformat.write(notebook, source)
    os.environ[OUT_VARIABLE] = str(out)
    try:
        with _own_kernel():
            papermill.execute_notebook(
                source,
                result,
                parameters=dict(values),
                kernel_name="python3",
                cwd=root,
                progress_bar=False,
                log_output=False,
                request_save_on_cell_execute=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
            )
        return nbformat.read(result, as_version=4)
    except PapermillExecutionError:
        raise _CellError(nbformat.read(result, as_version=4)) from None
    except DeadKernelError:
        raise StudyError(f"notebooks/{stage}.py: {DIED}") from None
    finally:
        os.environ.pop(OUT_VARIABLE, None)
        source.unlink(missing_ok=True)
        result.unlink(missing_ok=True)
