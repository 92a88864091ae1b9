"""``python -m cardionets.simulate``: write the SIMULATED centres of a preset to ``data/``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cardionets.config import Study, StudyError
from cardionets.simulate.write import write_study


def parser() -> argparse.ArgumentParser:
    """The arguments and their help."""
    top = argparse.ArgumentParser(
        prog="python -m cardionets.simulate",
        description="Write five SIMULATED centres, each in its own file layout, to data/, their truth to data/truth/.",
        epilog="A finished centre of the same preset, seed and simulator is kept; an interrupted one starts again.",
    )
    top.add_argument("--preset", help="a file of presets/ without .yaml (default: the one params.yaml names)")
    top.add_argument("--workers", type=int, default=2, help="processes (default 2); the bytes do not depend on it")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Write the study's centres; a fault of the input ends in its sentence and exit code 2."""
    args = parser().parse_args(argv)
    try:
        study = Study()
        if args.preset is not None:
            study.protocol = study.protocol.model_copy(update={"preset": args.preset})
        write_study(study, workers=args.workers)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was kept; run the same command to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
