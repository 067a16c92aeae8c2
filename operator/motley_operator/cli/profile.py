"""`motley profile import`: throughput tables of Mélange and AIBrix → Profiles, ready to apply. It changes the form of
figures and judges none of them; prices are left behind."""

import json
import re
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from motley_operator.api import Model, Shape
from motley_operator.cli import INVALID, PLANNED
from motley_operator.cli.jsoninput import BadInput, key, mapping, matrix, number, object_in, required, said, whole
from motley_operator.cli.loading import loaded
from motley_operator.cli.shapes import shape_in, shaped
from motley_operator.cli.validate import API_VERSION, checked
from motley_operator.cli.yamltree import parsed
from motley_operator.speeds import weight_dtype
from motley_solver.hardware import gpu_named
from motley_solver.problem import fingerprint

SLO_ANNOTATION = "motley.dev/slo"

Json = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Requests per second of one replica by (input tokens, output tokens); sizes that do not fit are not in it."""

    gpu: str
    rates: Mapping[tuple[int, int], float]
    slo: str = ""
    date: str = ""


@dataclass(frozen=True)
class Subject:
    """Whose speed it is."""

    shape: Shape
    dtype: str = "bfloat16"
    kv_dtype: str = "auto"


def run(options: Namespace) -> int:
    try:
        subject = _subject(options.model)
        tables = _named([table for file in options.files for table in _tables(file, options)], options.gpu)
    except BadInput as error:
        print(error, file=sys.stderr)
        return INVALID
    text = yaml.safe_dump_all((_profile(table, subject, options) for table in tables), sort_keys=False)
    if mistakes := checked(parsed("", text.encode())[0]).mistakes:
        for mistake in mistakes:
            print(f"{mistake.field}: {mistake.message}", file=sys.stderr)
        return INVALID
    for note in _notes(tables, options.slo):
        print(f"note: {note}", file=sys.stderr)
    print(text, end="", flush=True)
    return PLANNED


# --- the tables ---


def _tables(file: str, options: Namespace) -> list[Table]:
    """BadInput names the file and the key."""
    try:
        given = object_in(file)
        if "gpu_info" in given:
            return list(of_melange(given, options.input_tokens, options.output_tokens))
        if "indexes" in given:
            return [of_aibrix(given)]
        raise BadInput("holds neither gpu_info (Mélange) nor indexes (AIBrix)")
    except BadInput as error:
        raise BadInput(said(file, error)) from error


def of_melange(given: Json, input_tokens: Sequence[int] | None, output_tokens: Sequence[int] | None) -> Iterator[Table]:
    """tputs[input][output]; the form has no place for the edges of its buckets."""
    if not input_tokens or not output_tokens:
        raise BadInput("gpu_info: has no size edges; give --input-tokens and --output-tokens")
    for name, value in mapping(given["gpu_info"], "gpu_info").items():
        where = ("gpu_info", name)
        tputs = matrix(required(mapping(value, *where), "tputs", *where), *where, "tputs")
        if (len(tputs), len(tputs[0])) != (len(input_tokens), len(output_tokens)):
            message = f"is {len(tputs)} by {len(tputs[0])}, the edges are {len(input_tokens)} by {len(output_tokens)}"
            raise BadInput(f"{key(*where, 'tputs')}: {message}")
        yield Table(name, _rates(input_tokens, output_tokens, tputs, *where))


def of_aibrix(given: Json) -> Table:
    """tputs[output][input], and indexes in that order: transposed relative to Mélange."""
    gpu = required(given, "gpu")
    if not isinstance(gpu, str) or not gpu:
        raise BadInput("gpu: must be the name of a GPU type")
    tputs = matrix(required(given, "tputs"), "tputs")
    indexes = given["indexes"]
    if not isinstance(indexes, list) or len(indexes) != 2:
        raise BadInput("indexes: must be two lists, of output tokens and of input tokens")
    output_tokens, input_tokens = (_index(value, part) for part, value in enumerate(indexes))
    if (len(tputs), len(tputs[0])) != (len(output_tokens), len(input_tokens)):
        message = f"is {len(tputs)} by {len(tputs[0])}, indexes are {len(output_tokens)} by {len(input_tokens)}"
        raise BadInput(f"tputs: {message}")
    created = number(given["created"], "created") if given.get("created") is not None else None
    return Table(
        gpu,
        _rates(input_tokens, output_tokens, list(zip(*tputs, strict=True))),
        slo=json.dumps(mapping(given["slos"], "slos")) if given.get("slos") else "",
        date=f"{datetime.fromtimestamp(min(created, _LAST_DAY), UTC):%Y-%m-%d}" if created is not None else "",
    )


_LAST_DAY = 253_402_300_799  # of the year 9999, in seconds


def _index(value: Any, part: int) -> list[int]:
    if not isinstance(value, list) or not value:
        raise BadInput(f"indexes[{part}]: must be a list of numbers of tokens")
    edges = [whole(edge, "indexes", part, position) for position, edge in enumerate(value)]
    if edges[0] < 1 or any(high <= low for low, high in pairwise(edges)):
        raise BadInput(f"indexes[{part}]: must be rising whole numbers of tokens")
    return edges


def _rates(
    input_tokens: Sequence[int], output_tokens: Sequence[int], tputs: Sequence[Sequence[float]], *where: str
) -> dict[tuple[int, int], float]:
    rates = {
        (i, o): tput
        for i, row in zip(input_tokens, tputs, strict=True)
        for o, tput in zip(output_tokens, row, strict=True)
        if _decimal(tput) != "0"
    }
    if not rates:
        raise BadInput(f"{key(*where, 'tputs')}: every throughput is 0")
    return rates


def _named(tables: list[Table], gpus: Sequence[str]) -> list[Table]:
    """With the GPU types' names as GPUPools have them."""
    if gpus and len(gpus) != len(tables):
        names = ", ".join(table.gpu for table in tables)
        raise BadInput(f"--gpu: {len(gpus)} given, the files hold {len(tables)} tables: {names}")
    named = [replace(table, gpu=gpu) for table, gpu in zip(tables, gpus or [t.gpu for t in tables], strict=True)]
    twice = {table.gpu for table in named if [other.gpu for other in named].count(table.gpu) > 1}
    if twice:
        raise BadInput(f"two tables are for GPU type {min(twice)}; import one, or name them with --gpu")
    return named


# --- the model ---


def _subject(path: str) -> Subject:
    """From a Hugging Face config.json or a file with one Model; BadInput says what is in the way."""
    documents, mistakes = loaded([path])
    if mistakes:
        raise BadInput(f"--model: {mistakes[0]}")
    if not any(isinstance(one.value, dict) and "kind" in one.value for one in documents):
        try:
            return Subject(shape_in(Path(path)))
        except (OSError, ValueError) as error:
            raise BadInput(f"--model: {path}: {error}") from error
    found = checked(documents)
    given, shapeless = shaped(one for one in found.given if one.kind is Model)
    for mistake in (*found.mistakes, *shapeless.values()):
        raise BadInput(f"--model: {mistake}")
    if len(given) != 1:
        raise BadInput(f"--model: {path}: holds {len(given)} Models; give a file with one")
    model = Model.model_validate(given[0].value)
    shape = model.spec.shape or (model.status.shape if model.status else None)
    assert shape is not None
    return Subject(shape, weight_dtype(model), model.spec.kv_dtype)


# --- the profiles ---


def _profile(table: Table, subject: Subject, options: Namespace) -> Json:
    dtype = options.dtype or subject.dtype
    slo = table.slo or options.slo
    name = f"{re.sub('[^a-z0-9]+', '-', table.gpu.lower()).strip('-')}-tp{options.tensor_parallel}-{dtype}"
    return {
        "apiVersion": API_VERSION,
        "kind": "Profile",
        "metadata": {
            "name": f"{name}-{fingerprint(subject.shape.to_json())[:6]}",
            **({"annotations": {SLO_ANNOTATION: slo}} if slo else {}),
        },
        "spec": {
            "shape": {name: value for name, value in subject.shape.to_json().items() if value},
            "gpu": table.gpu,
            "tensorParallel": options.tensor_parallel,
            "dtype": dtype,
            "kvDtype": subject.kv_dtype,
            "source": "Imported",
            **({"date": options.date or table.date} if options.date or table.date else {}),
            "throughput": [
                {"inputTokens": i, "outputTokens": o, "requestsPerSecond": _decimal(rate)}
                for (i, o), rate in sorted(table.rates.items())
            ],
        },
    }


def _decimal(rate: float) -> str:
    """As the API takes it: nine places."""
    return f"{rate:.9f}".rstrip("0").rstrip(".")


def _notes(tables: Sequence[Table], slo: str) -> Iterator[str]:
    for table in tables:
        if not table.slo and not slo:
            yield f"{table.gpu}: the file does not say which SLO the throughputs hold for; say it with --slo"
        try:
            gpu_named(table.gpu)
        except ValueError:
            yield f"{table.gpu}: not in the catalogue of GPUs; if GPUPools call it otherwise, give that with --gpu"
