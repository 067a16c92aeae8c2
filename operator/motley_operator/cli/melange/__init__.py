"""`motley solve --melange`: the input of Mélange's released solver → the ordinary optimisation → its counts, proven.
One model, one replica per instance; Kubernetes and the operator have no part in it."""

import json
import sys

from motley_operator.cli import INCOMPLETE, INVALID, PLANNED, UNSOLVED
from motley_operator.cli.jsoninput import BadInput, object_in, said
from motley_operator.cli.melange.answer import answer_of
from motley_operator.cli.melange.config import parsed, warnings
from motley_operator.cli.melange.table import lines
from motley_operator.cli.terminal import progress, standard_output_kept_clean

_EXIT = {"optimal": PLANNED, "feasible": PLANNED, "infeasible": INCOMPLETE, "unsolved": UNSOLVED}


def run(path: str, output: str, time_limit: float | None) -> int:
    try:
        given = object_in(path)
        config = parsed(given)
    except BadInput as error:
        print(said(path, error), file=sys.stderr)
        return INVALID
    for warning in warnings(given):
        print(f"warning: {warning}", file=sys.stderr)
    with progress() as tell, standard_output_kept_clean():
        tell("Looking for the cheapest mix")
        found = answer_of(config, time_limit)
    print(json.dumps(found, indent=2) if output == "json" else "\n".join(lines(found, config)), flush=True)
    return _EXIT[found["status"]]
