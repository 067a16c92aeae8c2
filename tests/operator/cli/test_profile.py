"""`motley profile import`: throughput tables of Mélange and AIBrix as Profiles that a cluster takes."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from commandline import CHAT, CONFIG, SHAPE, pool

from motley_operator.cli import main
from motley_operator.cli.validate import checked
from motley_operator.cli.yamltree import parsed

Json = dict[str, Any]

AIBRIX: Json = {  # three sizes of output by two of input
    "gpu": "sim-a100",
    "cost": 1.0,
    "tputs": [[9.0, 6.5], [4.25, 2.0], [1.0, 0.0]],
    "indexes": [[16, 64, 256], [128, 2048]],
    "created": 1748888478.25,
    "e2e": [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]],
    "slos": {"percentile": 99, "e2e": 5.0},
}
MELANGE: Json = {
    "gpu_info": {
        "L4": {"cost": 0.7, "tputs": [[2.0, 1.0, 0.5], [1.0, 0.25, 0]]},
        "A100-80GB": {"cost": 3.67, "tputs": [[9.0, 5.0, 2.0], [6.0, 2.5, 1.0]]},
    },
    "workload_distribution": [[1, 0, 0], [0, 0, 0]],
    "total_request_rate": 1,
}
EDGES = ("--input-tokens", "128,2048", "--output-tokens", "16,64,256")
QUANTIZED = CHAT.replace(SHAPE, f"{SHAPE}  quantization: awq\n  kvDtype: fp8\n")


class Import:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._capsys = folder, capsys
        self.file("config.json", json.dumps(CONFIG))

    def file(self, name: str, text: str) -> str:
        (self._folder / name).write_text(text)
        return str(self._folder / name)

    def __call__(self, tables: Json | Iterable[Json], *options: str, model: str = "config.json") -> tuple[int, str]:
        """Exit code, and standard error with the folder's name cut out."""
        tables = [tables] if isinstance(tables, dict) else list(tables)
        files = [self.file(f"{i}.json", json.dumps(table)) for i, table in enumerate(tables)]
        code = main(["profile", "import", *files, "--model", str(self._folder / model), *options])
        self.out, err = self._capsys.readouterr()
        return code, err.replace(f"{self._folder}/", "")

    @property
    def profiles(self) -> list[Json]:
        assert checked(parsed("out", self.out.encode())[0]).mistakes == ()
        return list(yaml.safe_load_all(self.out))


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Import:
    return Import(tmp_path, capsys)


def rates(profile: Json) -> dict[tuple[int, int], str]:
    return {(e["inputTokens"], e["outputTokens"]): e["requestsPerSecond"] for e in profile["spec"]["throughput"]}


def test_aibrix_tables_are_output_by_input_and_cells_of_zero_are_left_out(imported: Import) -> None:
    assert imported(AIBRIX, "--gpu", "A100-80GB") == (0, "")
    (profile,) = imported.profiles
    assert rates(profile) == {(128, 16): "9", (128, 64): "4.25", (128, 256): "1", (2048, 16): "6.5", (2048, 64): "2"}
    spec = profile["spec"]
    assert (spec["gpu"], spec["tensorParallel"], spec["dtype"]) == ("A100-80GB", 1, "bfloat16")
    assert (spec["source"], spec["date"], spec["shape"]["layers"]) == ("Imported", "2025-06-02", 32)


def test_the_slo_of_the_measurement_is_kept_as_the_file_states_it(imported: Import) -> None:
    imported(AIBRIX, "--gpu", "A100-80GB", "--slo", "another")
    (profile,) = imported.profiles
    assert profile["metadata"]["annotations"] == {"motley.dev/slo": '{"percentile": 99, "e2e": 5.0}'}


def test_melange_tables_are_input_by_output_with_edges_from_the_command_line(imported: Import) -> None:
    assert imported(MELANGE, *EDGES, "--slo", "mean TPOT 120 ms", "--date", "2026-11-20") == (0, "")
    l4, a100 = imported.profiles
    assert rates(l4) == {(128, 16): "2", (128, 64): "1", (128, 256): "0.5", (2048, 16): "1", (2048, 64): "0.25"}
    assert [one["spec"]["gpu"] for one in (l4, a100)] == ["L4", "A100-80GB"]
    assert l4["metadata"]["annotations"] == {"motley.dev/slo": "mean TPOT 120 ms"}
    assert l4["spec"]["date"] == "2026-11-20"
    assert l4["metadata"]["name"] != a100["metadata"]["name"]


def test_a_model_gives_shape_and_types(imported: Import) -> None:
    imported.file("model.yaml", QUANTIZED)
    code, _ = imported(AIBRIX, "--gpu", "L4", "--tensor-parallel", "2", model="model.yaml")
    assert code == 0
    (profile,) = imported.profiles
    spec = profile["spec"]
    assert (spec["dtype"], spec["kvDtype"], spec["tensorParallel"]) == ("int4", "fp8", 2)
    assert profile["metadata"]["name"].startswith("l4-tp2-int4-")


def test_an_imported_profile_is_what_a_plan_is_made_of(imported: Import, capsys: pytest.CaptureFixture[str]) -> None:
    short = QUANTIZED.replace("Tokens: 4000", "Tokens: 128").replace("Tokens: 200", "Tokens: 64")
    model = imported.file("model.yaml", short.replace("outputTokens: 100", "outputTokens: 60"))
    assert imported(AIBRIX, "--gpu", "L40S", model="model.yaml")[0] == 0
    profile = imported.file("profile.yaml", imported.out)
    assert main(["plan", "-o", "json", "-f", model, profile, imported.file("pool.yaml", pool("L40S", "2", 4))]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["costPerHour"] == 4.0  # 4 requests/s and a tenth of headroom, and one replica serves 4.25
    assert report["models"][0]["predicted"]["estimated"] is False


def test_what_nobody_knows_yet_is_noted(imported: Import) -> None:
    assert imported({**AIBRIX, "slos": None, "created": None}) == (
        0,
        "note: sim-a100: the file does not say which SLO the throughputs hold for; say it with --slo\n"
        "note: sim-a100: not in the catalogue of GPUs; if GPUPools call it otherwise, give that with --gpu\n",
    )
    assert "date" not in imported.profiles[0]["spec"]


def changed(table: Json, **changes: Any) -> Json:
    return {**json.loads(json.dumps(table)), **changes}


BAD: dict[str, tuple[Callable[[], Json | list[Json]], tuple[str, ...], str]] = {
    "neither form": (lambda: {"a": 1}, (), "0.json: holds neither gpu_info (Mélange) nor indexes (AIBrix)"),
    "no edges": (lambda: MELANGE, (), "0.json: gpu_info: has no size edges; give --input-tokens and --output-tokens"),
    "other edges": (
        lambda: MELANGE,
        ("--input-tokens", "1,2,3", "--output-tokens", "1,2"),
        "0.json: gpu_info.L4.tputs: is 2 by 3, the edges are 3 by 2",
    ),
    "no tputs": (lambda: {"gpu_info": {"L4": {}}}, EDGES, "0.json: gpu_info.L4.tputs: is missing"),
    "nothing fits": (
        lambda: {"gpu_info": {"L4": {"tputs": [[0, 0, 0], [0, 0, 0]]}}},
        EDGES,
        "0.json: gpu_info.L4.tputs: every throughput is 0",
    ),
    "a cell below zero": (
        lambda: changed(AIBRIX, tputs=[[1, 1], [1, -1], [1, 1]]),
        (),
        "0.json: tputs[1][1]: must not be negative",
    ),
    "transposed": (
        lambda: changed(AIBRIX, indexes=AIBRIX["indexes"][::-1]),
        (),
        "0.json: tputs: is 3 by 2, indexes are 2 by 3",
    ),
    "one index": (lambda: changed(AIBRIX, indexes=[[1]]), (), "0.json: indexes: must be two lists"),
    "falling": (
        lambda: changed(AIBRIX, indexes=[[64, 16, 256], [128, 2048]]),
        (),
        "0.json: indexes[0]: must be rising whole numbers of tokens",
    ),
    "half a token": (
        lambda: changed(AIBRIX, indexes=[[16, 64, 256], [128.5, 2048]]),
        (),
        "0.json: indexes[1][0]: must be a whole number, not 128.5",
    ),
    "a nameless gpu": (lambda: changed(AIBRIX, gpu=7), (), "0.json: gpu: must be the name of a GPU type"),
    "an SLO in words": (lambda: changed(AIBRIX, slos="p99"), (), "0.json: slos: must be an object, not text"),
    "a name too few": (
        lambda: MELANGE,
        (*EDGES, "--gpu", "L4"),
        "--gpu: 1 given, the files hold 2 tables: L4, A100-80GB",
    ),
    "one type twice": (lambda: [AIBRIX, AIBRIX], (), "two tables are for GPU type sim-a100"),
    "a degree that is none": (lambda: AIBRIX, ("--tensor-parallel", "3"), "spec.tensorParallel: must be one of"),
    "a type that is none": (lambda: AIBRIX, ("--dtype", "bf16"), "spec.dtype: must be one of bfloat16"),
    "a date that is none": (lambda: AIBRIX, ("--date", "today"), "spec.date: must match"),
    "a gpu without end": (lambda: AIBRIX, ("--gpu", "x" * 64), "spec.gpu: must have at most 63 characters"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_the_key_and_prints_nothing(case: str, imported: Import) -> None:
    tables, options, message = BAD[case]
    code, err = imported(tables(), *options)
    assert (code, imported.out) == (2, "")
    assert err.startswith(message)
    assert len(err.splitlines()) == 1


BAD_MODELS = {
    "none": ("", "--model: none.json: no such file or directory"),
    "config": (json.dumps({**CONFIG, "vocab_size": 0}), "--model: config: config.json: vocab_size is missing"),
    "endless": (
        json.dumps({**CONFIG, "hidden_size": float("inf")}),
        "--model: endless: config.json: hidden_size is missing or not a positive whole number",
    ),
    "deep": (
        json.dumps({**CONFIG, "num_hidden_layers": 3200}),
        "--model: deep: config.json: num_hidden_layers is above",
    ),
    "wide": (
        json.dumps({**CONFIG, "hidden_size": 10**9}),
        "--model: wide: config.json: hidden_size: Input should be less",
    ),
    "unlisted": (
        json.dumps({**CONFIG, "num_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": 5}),
        "--model: unlisted: config.json: mlp_only_layers is not a list",
    ),
    "list": ("[]", "--model: list: config.json is not a JSON object"),
    "pool.yaml": ("kind: GPUPool", "--model: pool.yaml:1: apiVersion: is missing"),
    "two.yaml": (
        f"{QUANTIZED}---\n{QUANTIZED.replace('chat}', 'code}')}",
        "--model: two.yaml: holds 2 Models; give a file",
    ),
    "far.yaml": (CHAT.replace("  shape: {", "  other: {"), "--model: far.yaml:6: spec.other: unknown field"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_model_that_says_no_shape_is_bad_input(name: str, imported: Import) -> None:
    text, message = BAD_MODELS[name]
    if text:
        imported.file(name, text)
    code, err = imported(AIBRIX, model=name if text else "none.json")
    assert (code, imported.out) == (2, "")
    assert err.startswith(message)
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("edges", ["", "0,5", "5,5", "10,5", "a", "1.5,2"])
def test_edges_that_do_not_rise_are_a_wrong_command_line(edges: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["profile", "import", "a.json", "--model", "m", f"--input-tokens={edges}"])
    assert exit.value.code == 2
    assert "must be rising whole numbers of tokens, for example 25,100,500" in capsys.readouterr().err
