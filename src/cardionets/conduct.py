"""Run the pipeline with independent stages side by side: DVC decides what is stale and runs it, this decides the order.

``dvc repro`` takes one stage after the other. A small network cannot keep two cores busy, two stages can. Every stage
is one ``dvc repro --single-item`` of its own, so caching, locks and what a killed run leaves behind are DVC's.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from graphlib import TopologicalSorter
from pathlib import Path

from cardionets.errors import StudyError
from cardionets.progress import clock
from cardionets.sources import FOLDER as SOURCES

Graph = Mapping[str, set[str]]  # stage -> the stages it needs
Process = subprocess.Popen[str]
DVC = (sys.executable, "-m", "dvc", "--wait-for-lock")
EDGE = re.compile(r'^"(?P<before>[^"]+)"(?: -> "(?P<after>[^"]+)")?;$', re.MULTILINE)


def conduct(root: Path, jobs: int, targets: Sequence[str] = ()) -> int:
    """Bring ``targets`` (all stages when empty) up to date with at most ``jobs`` stages at once; the number that ran.

    Raises StudyError that names the stage that failed; what was running is finished first, nothing new is started. An
    interruption is passed on to what is running.
    """
    begin, changed = time.monotonic(), _changed(root)
    if SOURCES in changed:  # first of all: the code of most stages may turn out to be what it was
        _run_all(root, {SOURCES: set()}, jobs)
        changed = _changed(root)
    graph = _graph(root) if changed or targets else {}
    unknown = sorted(set(targets) - graph.keys())
    if unknown:
        raise StudyError(f"dvc.yaml: no stage {', '.join(unknown)}; `dvc stage list` shows the known ones.")
    wanted = _closure(graph, targets) if targets else set(graph)
    stale = wanted & _downstream(graph, changed)
    if not stale:
        print("Everything is up to date: no stage has to run.", flush=True)
        return 0
    _run_all(root, {stage: graph[stage] & stale for stage in graph if stage in stale}, jobs)
    print(f"{len(stale)} stages in {clock(time.monotonic() - begin)}", flush=True)
    return len(stale)


def _dvc(root: Path, *arguments: str) -> str:
    done = subprocess.run([*DVC, *arguments], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise StudyError(f"dvc {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _graph(root: Path) -> dict[str, set[str]]:
    """The stages of ``dvc.yaml`` and what each needs."""
    needs: dict[str, set[str]] = {}
    for edge in EDGE.finditer(_dvc(root, "dag", "--dot")):
        needs.setdefault(edge["before"], set())
        if edge["after"]:
            needs.setdefault(edge["after"], set()).add(edge["before"])
    return {stage: before for stage, before in needs.items() if _here(stage)}


def _here(stage: str) -> bool:
    """Pipelines in folders of their own are run by their own commands."""
    return "/" not in stage


def _changed(root: Path) -> set[str]:
    """Stages whose inputs, outputs, settings or command differ from ``dvc.lock``."""
    return set(filter(_here, json.loads(_dvc(root, "status", "--json"))))


def _closure(graph: Graph, stages: Sequence[str]) -> set[str]:
    """The stages and everything they need."""
    found, open_ = set[str](), list(stages)
    while open_:
        stage = open_.pop()
        if stage not in found:
            found.add(stage)
            open_ += graph[stage]
    return found


def _downstream(graph: Graph, stages: set[str]) -> set[str]:
    """The stages and everything that needs them."""
    found = stages & graph.keys()
    for stage in TopologicalSorter(graph).static_order():
        if graph[stage] & found:
            found.add(stage)
    return found


def _urgency(graph: Graph) -> dict[str, int]:
    """Place of every stage when all are free to run: what holds up most goes first, then what dvc.yaml names first.

    The paired cohort stands first there and takes longest; started last, it would run beside an idle core.
    """
    return {s: i for i, s in enumerate(sorted(graph, key=lambda stage: -len(_downstream(graph, {stage}))))}


def _run_all(root: Path, graph: Graph, jobs: int) -> None:
    urgency = _urgency(graph)
    sorter, ready, failed = TopologicalSorter(graph), list[str](), list[str]()
    running: dict[Future[int], str] = {}
    environment = _shared_out(jobs)
    sorter.prepare()
    with ThreadPoolExecutor(jobs) as pool, _interrupted_together() as started:
        while sorter.is_active() and not (failed and not running):
            ready = sorted([*ready, *sorter.get_ready()], key=urgency.__getitem__, reverse=True)
            while ready and len(running) < jobs and not failed:
                stage = ready.pop()
                started.append(_start(root, stage, environment))
                running[pool.submit(_follow, started[-1], stage)] = stage
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                stage = running.pop(done)
                sorter.done(stage)
                failed += [stage] if done.result() else []
    if failed:
        logs = "its message is above, its state in logs/"
        raise StudyError(f"dvc.yaml: {', '.join(failed)} failed ({logs}); mend the cause and run the same again.")


def _shared_out(jobs: int) -> dict[str, str]:
    """The environment of one of ``jobs`` stages: its share of the cores, unless the caller has said otherwise."""
    share = str(max(1, (os.cpu_count() or 1) // jobs))
    return {"OMP_NUM_THREADS": share, "CARDIONETS_WORKERS": share} | dict(os.environ)


@contextmanager
def _interrupted_together() -> Iterator[list[Process]]:
    """When the block is broken off, so is what it has put into the list, each with all that it has started.

    As Ctrl-C does, which DVC puts in order; what a shell has started in the background may not hear it.
    """
    started: list[Process] = []
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    try:
        yield started
    except BaseException:
        for process in started:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM if deaf else signal.SIGINT)
        raise


def _start(root: Path, stage: str, environment: Mapping[str, str]) -> Process:
    """One stage through DVC, in a process group of its own: whatever ends this process is passed on by it alone."""
    return subprocess.Popen(
        [*DVC, "repro", "--single-item", stage],
        cwd=root,
        env=environment,
        process_group=0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


_printing = threading.Lock()


def _follow(process: Process, stage: str) -> int:
    """Print every line with the stage's name. Returns the exit code."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip():
            with _printing:
                print(f"[{stage}] {line.rstrip()}", flush=True)
    return process.wait()
