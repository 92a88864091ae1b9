"""Command line of the study: ``python -m cardionets COMMAND --help``."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cardionets.errors import StudyError


def _run(args: argparse.Namespace) -> int:
    from cardionets.run import run

    pairs = [p.partition("=") for p in args.parameter]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise StudyError(f"--parameter {wrong[0]}: expected NAME=VALUE; add the value.")
    run(args.stage, args.cohort, {name: value for name, _, value in pairs})
    return 0


def _repro(args: argparse.Namespace) -> int:
    from cardionets.conduct import conduct
    from cardionets.files import find_root

    if args.jobs < 1:
        raise StudyError(f"--jobs {args.jobs}: give 1 or more stages at once.")
    conduct(find_root(), args.jobs, args.stage)
    return 0


def _simulate(args: argparse.Namespace) -> int:
    from cardionets.config import Study
    from cardionets.simulate.write import write_study

    write_study(Study(), workers=args.workers)
    return 0


def _prepare(args: argparse.Namespace) -> int:
    from cardionets.config import Study
    from cardionets.prepare import parse_shard, prepare

    print(prepare(Study(), args.cohort, args.workers, parse_shard(args.shard) if args.shard else None))
    return 0


def _pair(args: argparse.Namespace) -> int:
    from cardionets.config import Study
    from cardionets.run import pair

    print(f"{len(pair(Study()))} notebooks written beside their text form")
    return 0


def _sources(args: argparse.Namespace) -> int:
    from cardionets.files import find_root
    from cardionets.sources import write

    print(f"{write(find_root())} lists of code written to sources/")
    return 0


def _check(args: argparse.Namespace) -> int:
    from cardionets.cohorts.check import check, render
    from cardionets.config import Study

    findings = check(Study(), args.cohort, sample=args.sample)
    print(render(findings))
    return int((findings["level"] == "error").any())


def _patient(args: argparse.Namespace) -> int:
    from cardionets.beside import beside

    start = time.monotonic()
    with beside("cardionets.patient_models") as models:
        from cardionets.patient_run import run

        return run(args, models, start)


def _generate(args: argparse.Namespace) -> int:
    from cardionets.config import Study
    from cardionets.hearts import Order, generate
    from cardionets.prepare import parse_shard

    study, shard = Study(), parse_shard(args.shard) if args.shard else None
    names = ("iterations", "steps", "guidance", "temperature")
    sampling = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    formats, records = tuple(args.formats.split(",")), tuple(args.record)
    order = Order(args.samples, args.seed, sampling, formats, args.everybody, records)
    out = Path(args.out) if args.out else study.path("predictions", f"{args.cohort}_hearts")
    for sentence in generate(study, args.cohort, out, order, shard):
        print(sentence)
    print(f"Patient-level, stays here: {out}" + (f" (shard {args.shard})" if shard else ", listed in its index.csv"))
    return 0


def _share(args: argparse.Namespace) -> int:
    from cardionets.config import Study
    from cardionets.share import share

    return int(share(Study(), args.cohort, args.yes) is None)


def _release(args: argparse.Namespace) -> int:
    from cardionets.config import Study
    from cardionets.release import release

    print(f"Released to {release(Study(), Path(args.out) if args.out else None, args.wheelhouse)}")
    return 0


def _install(args: argparse.Namespace) -> int:
    from cardionets.config import Study
    from cardionets.release import install

    print(f"Installed {install(Study(), Path(args.release), args.replace)}. Next: python -m cardionets check COHORT")
    return 0


def _receive(args: argparse.Namespace) -> int:
    from cardionets.config import Study
    from cardionets.received import receive

    print("\n".join(receive(Study(), [Path(name) for name in args.bundle], args.replace)))
    print("Now: dvc repro pool report")
    return 0


def _plan(args: argparse.Namespace) -> int:
    from cardionets.plan import run

    print(run(args.preset, args.gpus, args.tflops, args.utilisation))
    return 0


def _export(args: argparse.Namespace) -> int:
    from cardionets.config import Study
    from cardionets.export import export

    print(f"{export(Study(), Path(args.out), args.arm, args.disease_arm)} written; research use only")
    return 0


def _add_generate(commands: Any) -> None:
    generate = commands.add_parser(
        "generate", help="draw a cohort's hearts from its ECGs: NIfTI, GIF, MP4; needs no CMR"
    )
    generate.add_argument("cohort", help="a key of cohorts.yaml that has been prepared")
    generate.add_argument("--out", help="folder (default predictions/COHORT_hearts); a killed run goes on there")
    generate.add_argument("--samples", type=int, default=1, help="above 1: so many posterior samples too, mean and SD")
    generate.add_argument("--seed", type=int, help="of the random numbers (default: the protocol's)")
    generate.add_argument("--shard", metavar="I/N", help="draw only part I of N; when all are drawn, call without it")
    generate.add_argument("--formats", default="nifti,gif", help="of nifti, gif, mp4 (default nifti,gif)")
    generate.add_argument("--everybody", action="store_true", help="training people too, whose hearts were learnt from")
    generate.add_argument("--record", action="append", default=[], help="this record alone; may be given again")
    generate.add_argument("--iterations", type=int, help="rounds in which a cine is revealed (default: the preset's)")
    generate.add_argument("--steps", type=int, help="steps per token (default: the preset's)")
    generate.add_argument(
        "--guidance", type=float, help="above 1 leans further towards the ECG (default: the preset's)"
    )
    generate.add_argument("--temperature", type=float, help="below 1 draws nearer the guess (default: the preset's)")
    generate.set_defaults(call=_generate)


def parser() -> argparse.ArgumentParser:
    """All commands and their help."""
    top = argparse.ArgumentParser(
        prog="python -m cardionets",
        description="From a 12-lead ECG to cardiac-MRI phenotypes, disease screening and a moving CMR image.",
        epilog="Start with `make study` (simulated centres) or `python -m cardionets check COHORT` (your own data).",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="execute one notebook as one stage (what dvc.yaml calls)")
    run.add_argument("stage", help="a notebook of notebooks/, e.g. validate")
    run.add_argument("--cohort", help="a key of cohorts.yaml; leave out for stages of the whole study")
    run.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="set a parameter")
    run.set_defaults(call=_run)

    repro = commands.add_parser("repro", help="bring stages up to date like `dvc repro`, independent ones side by side")
    repro.add_argument("stage", nargs="*", help="stages such as validate@ukb (default: all)")
    repro.add_argument("--jobs", type=int, default=2, help="stages at once, sharing the cores (default 2; GPU: 1)")
    repro.set_defaults(call=_repro)

    simulate = commands.add_parser("simulate", help="write the five SIMULATED centres of the preset to data/")
    simulate.add_argument("--workers", type=int, default=2, help="processes; the bytes written do not depend on it")
    simulate.set_defaults(call=_simulate)

    check = commands.add_parser("check", help="print what is understood of a cohort; exit code 1 on any error")
    check.add_argument("cohort", help="a key of cohorts.yaml")
    check.add_argument("--sample", type=int, default=50, help="records to read (default 50)")
    check.set_defaults(call=_check)

    prepare = commands.add_parser("prepare", help="a centre's files into its store, for job arrays; else use dvc repro")
    prepare.add_argument("cohort", help="a key of cohorts.yaml")
    prepare.add_argument("--workers", type=int, help="processes (default: all cores); the bytes do not depend on it")
    prepare.add_argument("--shard", metavar="I/N", help="read only part I of N; when all are read, call without it")
    prepare.set_defaults(call=_prepare)

    patient = commands.add_parser("patient", help="one ECG file of any supported format into one page; research only")
    patient.add_argument("file", help="the recording; of WFDB the .hea")
    patient.add_argument("--cohort", help="the site it comes from: its declarations (ecg:) and its own calibration")
    patient.add_argument("--unit", choices=("uV", "mV", "V"), help="where the file does not say")
    patient.add_argument("--rate", type=float, help="sampling rate in Hz, where the file does not say")
    patient.add_argument("--leads", metavar="I,II,...", help="stored order of the leads, where the file does not say")
    patient.add_argument("--age", type=float, help="years")
    patient.add_argument("--sex", choices=("F", "M"))
    patient.add_argument("--height", type=float, help="cm")
    patient.add_argument("--weight", type=float, help="kg")
    patient.add_argument("--out", default="patient.html", help="the page (default patient.html)")
    patient.add_argument("--pdf", metavar="FILE", help="the same as one A3 sheet to print at 100 %%: ECG true to scale")
    patient.set_defaults(call=_patient)

    _add_generate(commands)

    release = commands.add_parser("release", help="write the folder that sites need: weights, protocol, code, hashes")
    release.add_argument("out", nargs="?", help="new folder (default release/cardionets-VERSION)")
    release.add_argument("--wheelhouse", action="store_true", help="add every package, for sites without internet")
    release.set_defaults(call=_release)

    install = commands.add_parser("install", help="verify a release and put its weights in place")
    install.add_argument("release", help="the folder that the coordinator sent")
    install.add_argument("--replace", action="store_true", help="put it in the place of other weights that are here")
    install.set_defaults(call=_install)

    share = commands.add_parser("share", help="show what would leave this site, ask, and write the bundle")
    share.add_argument("cohort", help="a key of cohorts.yaml that has been validated")
    share.add_argument("--yes", action="store_true", help="do not ask (for scripts); every check is made all the same")
    share.set_defaults(call=_share)

    receive = commands.add_parser("receive", help="verify bundles of sites and take them into the pooled report")
    receive.add_argument("bundle", nargs="+", help="zip files that sites have sent")
    receive.add_argument("--replace", action="store_true", help="put a bundle in the place of the same site's last one")
    receive.set_defaults(call=_receive)
    plan = commands.add_parser("plan", help="parameters, memory, FLOPs, hours and storage of a preset, before paying")
    plan.add_argument("--preset", help="a file of presets/ (default: the one of params.yaml)")
    plan.add_argument("--gpus", type=int, default=1, help="accelerators that train together (default 1)")
    plan.add_argument("--tflops", type=float, default=312.0, help="peak of one at bf16, TFLOP/s (default 312, an A100)")
    plan.add_argument("--utilisation", type=float, default=0.35, help="assumed share of that peak (default 0.35)")
    plan.set_defaults(call=_plan)

    export = commands.add_parser("export", help="encoder and heads as one ONNX program, for use without Python")
    export.add_argument("out", nargs="?", default="cardionets.onnx", help="the file (default cardionets.onnx)")
    export.add_argument("--arm", default="aligned_teacher", help="of the phenotypes (default aligned_teacher)")
    export.add_argument("--disease-arm", default="aligned", help="of the diseases (default aligned)")
    export.set_defaults(call=_export)

    pair = commands.add_parser("pair", help="write the .ipynb of every notebook from its text form, without outputs")
    pair.set_defaults(call=_pair)

    sources = commands.add_parser("sources", help="write which code each stage rests on (the first stage of dvc.yaml)")
    sources.set_defaults(call=_sources)
    return top


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space and run the same command again: what is finished is kept."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "check who may read or write it and run the same command again."
    return "mend this and run the same command again: what is finished is kept."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a fault of the input ends in its sentence and exit code 2, without a traceback."""
    args = parser().parse_args(argv)
    try:
        return int(args.call(args))
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}; {_remedy(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was kept; run the same command to continue", file=sys.stderr)
        return 130


def _end_as_interrupted() -> None:
    """A scheduler's SIGTERM and a closed terminal end a command as Ctrl-C does, with everything put in order."""
    for told in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(told) is signal.SIG_DFL:
            signal.signal(told, signal.default_int_handler)


if __name__ == "__main__":
    _end_as_interrupted()
    sys.exit(main())
