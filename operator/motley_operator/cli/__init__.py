"""The `motley` command, also `kubectl motley`. Only the command line is read here; what a command needs is imported
when it runs, so that help is there at once."""

import argparse
import os
import sys
from collections.abc import Sequence

PLANNED, INVALID, INCOMPLETE, UNSOLVED = 0, 2, 3, 4

_EXAMPLES = """\
examples:
  {prog} plan -f models.yaml -f pools.yaml       what would run where, and what it would cost
  {prog} plan -f deploy/ -o json                 every .yaml, .yml and .json file of a folder
  kubectl get gpupools,models,profiles -A -o yaml | {prog} plan -f -
                                                 plan anew for what a cluster declares
"""
_PLAN = """\
Decide on which GPUs the Models run, from the files that kubectl applies and without a cluster: validate as the API
server does, plan as the operator does, and print where everything runs, what it costs per hour, what each GPU type
alone would cost, and what is not served and why.
"""
_EXIT = """\
exit codes:
  0  everything is planned
  2  bad input: nothing on standard output, every mistake with file, line and field on standard error
  3  infeasible, or something is not served or left out; the plan is printed all the same
  4  no plan was found within the time limit
"""


def main(arguments: Sequence[str] | None = None) -> int:
    prog = "kubectl motley" if os.path.basename(sys.argv[0]).startswith("kubectl-") else "motley"
    options = _parser(prog).parse_args(arguments)
    try:
        return _version() if options.command == "version" else _plan(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser(prog: str) -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Plan large language models onto a heterogeneous GPU fleet.",
        epilog=_EXAMPLES.format(prog=prog),
        formatter_class=plain,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    plan = commands.add_parser(
        "plan",
        help="what would run where, and what it would cost, without a cluster",
        description=_PLAN,
        epilog=f"{_EXAMPLES.format(prog=prog)}\n{_EXIT}",
        formatter_class=plain,
    )
    plan.add_argument(
        "-f",
        "--filename",
        nargs="+",
        action="extend",
        required=True,
        metavar="PATH",
        help="file or folder with Models, GPUPools, Profiles and the Fleet as YAML or JSON; - is standard input",
    )
    plan.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table", help="default: %(default)s")
    plan.add_argument(
        "--time-limit",
        type=_seconds,
        default=20.0,
        metavar="SECONDS",
        help="longest time to look for a better plan; default: %(default)g",
    )
    plan.add_argument(
        "--explain", action="store_true", help="why it is so, and what else could be: takes up to the time limit again"
    )
    plan.add_argument("--against", metavar="CURRENT.json", help="what would change from an earlier output of -o json")
    commands.add_parser("version", help="print the version")
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, for example 20, not {text!r}")
    return value


def _version() -> int:
    from motley_operator import __version__

    print(f"motley {__version__}")
    return PLANNED


def _plan(options: argparse.Namespace) -> int:
    from motley_operator.cli.plan import run

    return run(options.filename, options.output, options.time_limit, options.explain, options.against)
