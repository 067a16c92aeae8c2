"""`python -m bench`: all benchmarks one after the other; `--list`, `--only NAME`; what stands after `--` goes to it."""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = {
    "melange": "mixes of GPUs: against Mélange's formulation, enumeration and awkward inputs (ten minutes)",
    "savings": "what a mix saves, in the shape of Mélange's tables (a quarter of an hour; reads ../shared/data)",
    "savings-fleets": "what a mix of whole instances saves, three models at once (some minutes; ../shared/data)",
    "router": "what the router adds to a call of the engine (a minute)",
    "capacity": "the replay against a measured engine, mixes of sizes, luck, speed (ten minutes; ../shared/data)",
    "planner": "the optimisation on made-up fleets of 1 to 300 models (some minutes)",
    "steptime": "how far off estimated step times are (half a minute; reads ../shared/data where it is)",
    "control-plane": "the operator on a real API server with fake nodes (a quarter of an hour)",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--list", action="store_true", help="names them")
    parser.add_argument("--only", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("rest", nargs="*", help="arguments of the one benchmark, after --")
    chosen = parser.parse_args()
    if chosen.rest and not chosen.only:
        parser.error("arguments of a benchmark need --only")
    names = [chosen.only] if chosen.only else list(BENCHMARKS)
    failed = []
    for name in names:
        if chosen.list:
            print(f"{name:<14} {BENCHMARKS[name]}")
            continue
        print(f"\n== {name}: {BENCHMARKS[name]}\n", flush=True)
        script = HERE / f"{name.replace('-', '_')}.py"
        if subprocess.run([sys.executable, str(script), *chosen.rest], cwd=HERE.parent).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
