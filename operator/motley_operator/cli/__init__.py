"""The `motley` command, also `kubectl motley`. Only the command line is read here; what a command needs is imported
when it runs, so that help is there at once."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

PLANNED, INVALID, INCOMPLETE, UNSOLVED = 0, 2, 3, 4

_EXAMPLES = """\
examples:
  {prog} plan -f models.yaml -f pools.yaml       what would run where, and what it would cost
  {prog} plan -f deploy/ --plot plan.html        and a picture of it
  {prog} plan -f deploy/ -o json                 every .yaml, .yml and .json file of a folder
  kubectl get fleets,gpupools,models,profiles -A -o yaml | {prog} plan -f -
                                                 plan anew for what a cluster declares
  {prog} solve --melange config.json -o json     the cheapest mix for an input of Mélange's solver
  {prog} traffic trace.csv                       the traffic of a Model from a trace of requests
  {prog} traffic --counters before.txt after.txt
                                                 or from what the routers counted
  {prog} profile import a100.json --gpu A100-80GB --model config.json
                                                 a throughput table of Mélange or AIBrix as a Profile
"""
_PLAN = """\
Decide on which GPUs the Models run, from the files that kubectl applies and without a cluster: validate as the API
server does, plan as the operator does (and prefill and decode apart, where that is cheaper, which it does not deploy
yet), and print where everything runs, what it costs per hour, what each GPU type alone would cost, and what is not
served and why.
"""
_EXIT = """\
exit codes:
  0  everything is planned
  2  bad input: nothing on standard output, every mistake with file, line and field on standard error
  3  infeasible, or something is not served or left out; the plan is printed all the same
  4  no plan was found within the time limit
"""
_SOLVE = """\
Find how many instances of each GPU type serve a workload at the least cost, for the JSON that Mélange's released solver
reads:

  gpu_info                {NAME: {cost, tputs[i][j], max?}}: price per hour, requests/s of one instance for each size
                          bucket (0: does not fit), and at most how many instances
  workload_distribution   [i][j]: the share of each bucket
  total_request_rate      requests/s
  headroom                optional: 0.1 plans for 10 % more load
  slice_factor            accepted and not needed: buckets are split as finely as it pays
"""
_IMPORT = """\
Print Profiles for `kubectl apply -f -` or `plan -f -`, with the throughput tables of other programs:

  Mélange   gpu_info: {NAME: {tputs[input][output]}}; the edges of the size buckets must be given
  AIBrix    gpu, tputs[output][input], indexes: [output tokens, input tokens], slos

Throughputs are requests/s of one replica within the SLO that they were measured at. A plan takes them as they are,
whatever the Model's own SLO: import a table that was measured at that SLO or a tighter one. The annotation
motley.dev/slo says which it was. Cells of 0 are left out: such a size cannot be served. Prices are not imported.
"""
_TRAFFIC = """\
Print the `traffic` of a Model, to be pasted below its `spec`: rate, burstiness, prefix reuse and request sizes with
their weights, and as comments what they were made from.

TRACE is CSV with a header, or JSON Lines: a request per line, with at least its input and output tokens. The columns of
the traces of Azure, Mooncake, AIBrix, BurstGPT and Vidur are found by their names, others are named by options. Times
are dates or numbers. A request without an output, or with one of 0 tokens, was rejected or failed: it counts all the
same, since it was asked for.

BEFORE and AFTER are what the routers' /metrics/sizes said at two times, all routers of a time in one file, one after
the other. They count offered requests by size, rejected ones included; the rate is the mean in between.
"""
_TRAFFIC_EXAMPLES = """\
examples:
  {prog} traffic trace.csv
  {prog} traffic trace.jsonl --time-unit ms --rate 40
  zcat day.csv.gz | {prog} traffic - --input-column in --output-column out -o json
  {prog} traffic --counters monday.txt tuesday.txt --model default/chat
  {prog} traffic --input-quantiles p50=1000,p95=7000,max=16000 --output-quantiles p50=150,max=1000 --rate 5

exit codes:
  0  printed
  2  bad input: nothing on standard output, one line with file, line and column on standard error
"""
_SOLVE_EXIT = """\
exit codes:
  0  solved: status optimal, or feasible if the time limit came first
  2  bad input: nothing on standard output, one line on standard error
  3  infeasible: not all load can be served; reason names the buckets or the caps
  4  unsolved: nothing was found within the time limit
"""


def main(arguments: Sequence[str] | None = None) -> int:
    prog = "kubectl motley" if os.path.basename(sys.argv[0]).startswith("kubectl-") else "motley"
    options = _parser(prog).parse_args(arguments)
    if sys.stdout is None:
        print(f"{prog}: standard output is closed", file=sys.stderr)
        return 1
    try:
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # of standard output: what reads files says itself what is wrong with them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever read the output has seen enough
            return 141
        print(f"{prog}: {error}", file=sys.stderr)
        return 1


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Plan large language models onto a heterogeneous GPU fleet.",
        epilog=_EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_plan(commands, prog)
    _add_solve(commands, prog)
    _add_traffic(commands, prog)
    _add_profile(commands)
    commands.add_parser("version", help="print the version").set_defaults(run=_version)
    return parser


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _add_plan(commands: "Commands", prog: str) -> None:
    plan = commands.add_parser(
        "plan",
        help="what would run where, and what it would cost, without a cluster",
        description=_PLAN,
        epilog=f"{_EXAMPLES.format(prog=prog)}\n{_EXIT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    plan.set_defaults(run=_plan)
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
    plan.add_argument(
        "--plot",
        type=_picture,
        metavar="FILE",
        help="also draw which GPU serves which request size, and the cost; a name that ends with .png, .svg or .html",
    )
    plan.add_argument("--against", metavar="CURRENT.json", help="what would change from an earlier output of -o json")


def _add_solve(commands: "Commands", prog: str) -> None:
    solve = commands.add_parser(
        "solve",
        help="the cheapest mix of GPUs for an input of Mélange's solver",
        description=_SOLVE,
        epilog=_SOLVE_EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    solve.set_defaults(run=_solve)
    solve.add_argument("--melange", required=True, metavar="CONFIG.json", help="the input; - is standard input")
    solve.add_argument("-o", "--output", choices=("table", "json"), default="table", help="default: %(default)s")
    solve.add_argument(
        "--time-limit",
        type=_seconds,
        metavar="SECONDS",
        help="stop then with the best mix found; without it the answer is exact, however long that takes",
    )


def _add_traffic(commands: "Commands", prog: str) -> None:
    traffic = commands.add_parser(
        "traffic",
        help="the traffic of a Model, from a trace of requests, routers' counters, or quantiles of sizes",
        description=_TRAFFIC,
        epilog=_TRAFFIC_EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    traffic.set_defaults(run=_traffic)
    traffic.add_argument("trace", nargs="?", metavar="TRACE", help="CSV or JSON Lines; - is standard input")
    traffic.add_argument(
        "--counters", nargs=2, metavar=("BEFORE", "AFTER"), help="instead of a trace: what routers counted in between"
    )
    traffic.add_argument("--model", metavar="NAMESPACE/NAME", help="of the counters, where they are of several Models")
    traffic.add_argument(
        "--context-length",
        type=lambda text: _tokens(text, 16),
        metavar="N",
        help="of the Model: sizes, which are rounded up, are cut to it",
    )
    traffic.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="default: %(default)s")
    traffic.add_argument(
        "--rate", type=_rate, metavar="R", help="requests/s to plan for; default: the mean of the time"
    )
    for role, what in (
        ("input", "tokens of a prompt"),
        ("output", "tokens of an answer"),
        ("time", "time of arrival"),
        ("cached", "tokens of the prompt that a prefix cache held"),
    ):
        traffic.add_argument(f"--{role}-column", metavar="NAME", help=f"column with the {what}")
    traffic.add_argument("--time-unit", choices=("s", "ms", "us", "ns"), help="of times that are numbers")
    traffic.add_argument(
        "--block-tokens",
        type=_tokens,
        default=512,
        metavar="N",
        help="size of the blocks that a trace counts as cached (prefix_hit_blocks) or names (hash_ids: cached once "
        "they came, as if nothing were evicted); default: %(default)s, as with Mooncake",
    )
    for role in ("input", "output"):
        traffic.add_argument(
            f"--{role}-quantiles",
            type=_quantiles,
            metavar="pN=TOKENS,…",
            help=f"instead of a trace: {role} tokens by percentile, the last one max=TOKENS",
        )


def _add_profile(commands: "Commands") -> None:
    profile = commands.add_parser("profile", help="what is known of a GPU's speed")
    verbs = profile.add_subparsers(dest="verb", required=True, metavar="VERB")
    plain = argparse.RawDescriptionHelpFormatter
    imports = verbs.add_parser(
        "import", help="throughput tables of others as Profiles", description=_IMPORT, formatter_class=plain
    )
    imports.set_defaults(run=_import)
    imports.add_argument(
        "files", nargs="+", metavar="FILE", help="a JSON file of Mélange or AIBrix; - is standard input"
    )
    imports.add_argument(
        "--model", required=True, metavar="PATH", help="whose speed it is: a config.json, or a Model as YAML"
    )
    imports.add_argument(
        "--gpu",
        action="append",
        default=[],
        metavar="TYPE",
        help="for a name in the files: the GPU type that GPUPools call it; once per table, in order",
    )
    imports.add_argument(
        "--tensor-parallel", type=int, default=1, metavar="GPUS", help="of one replica; default: %(default)s"
    )
    imports.add_argument("--dtype", help="of the weights; default: the Model's, with a config.json bfloat16")
    imports.add_argument(
        "--date", default="", metavar="YYYY-MM-DD", help="of the measurement; default: as the file says"
    )
    imports.add_argument(
        "--slo", default="", metavar="TEXT", help="that the throughputs hold for, where the file does not say"
    )
    imports.add_argument(
        "--input-tokens",
        type=_edges,
        metavar="N,N,…",
        help="upper edges of the first index of Mélange's tputs, which the file lacks",
    )
    imports.add_argument("--output-tokens", type=_edges, metavar="N,N,…", help="upper edges of the second index")


def _edges(text: str) -> tuple[int, ...]:
    edges = tuple(int(part) if part.strip().isdecimal() else 0 for part in text.split(","))
    if edges[0] < 1 or any(high <= low for low, high in pairwise(edges)):
        raise argparse.ArgumentTypeError(
            f"must be rising whole numbers of tokens, for example 25,100,500, not {text!r}"
        )
    return edges


def _quantiles(text: str) -> tuple[tuple[float, int], ...]:
    """Tokens by probability."""
    found = []
    for part in text.split(","):
        parsed = re.fullmatch(r"\s*(?:p(\d{1,2}(?:\.\d{1,6})?)|(max))\s*=\s*(\d{1,8})\s*", part, re.ASCII)
        found.append((float(parsed[1]) / 100 if parsed[1] else 1.0, int(parsed[3])) if parsed else (0.0, 0))
    rising = all(p < q and low <= high for (p, low), (q, high) in pairwise(found))
    if not rising or found[0][1] < 1 or found[-1][0] < 1:
        raise argparse.ArgumentTypeError(
            f"must be rising tokens by percentile up to max, for example p50=1000,p95=7000,max=16000, not {text!r}"
        )
    return tuple(found)


def _tokens(text: str, least: int = 1) -> int:
    found = int(text) if re.fullmatch(r"\d{1,8}", text, re.ASCII) else 0
    if not least <= found <= 10_000_000:
        raise argparse.ArgumentTypeError(f"must be a whole number of tokens from {least} to 10000000, not {text!r}")
    return found


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1e-9 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"must be requests per second above 0, for example 5 or 0.2, not {text!r}")
    return value


def _picture(text: str) -> str:
    if not text.endswith((".png", ".svg", ".html")):
        raise argparse.ArgumentTypeError(f"must end with .png, .svg or .html, not {text!r}")
    return text


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, for example 20, not {text!r}")
    return min(value, 86400.0)


def _version(options: argparse.Namespace) -> int:
    from motley_operator import __version__

    print(f"motley {__version__}")
    return PLANNED


def _plan(options: argparse.Namespace) -> int:
    from motley_operator.cli.plan import run

    return run(options.filename, options.output, options.time_limit, options.explain, options.against, options.plot)


def _solve(options: argparse.Namespace) -> int:
    from motley_operator.cli.melange import run

    return run(options.melange, options.output, options.time_limit)


def _traffic(options: argparse.Namespace) -> int:
    from motley_operator.cli.traffic import run

    return run(options)


def _import(options: argparse.Namespace) -> int:
    from motley_operator.cli.profile import run

    return run(options)
