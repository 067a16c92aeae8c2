"""`motley traffic`: traces and quantiles as the traffic of a Model."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from motley_operator.cli import main

Json = dict[str, Any]
Run = Callable[..., tuple[int, str, str]]

MODEL = """\
apiVersion: motley.dev/v1alpha1
kind: Model
metadata: {name: chat}
spec:
  source: {uri: hf://example/chat-8b}
  shape: {layers: 32, hiddenSize: 4096, attentionHeads: 32, kvHeads: 8, headDim: 128, intermediateSize: 14336,
          vocabSize: 128256}
  slo: {ttft: 2s, ttftPerThousandInputTokens: 300ms, tpot: 80ms, attainment: "0.95"}
"""
POOL = """\
---
apiVersion: motley.dev/v1alpha1
kind: GPUPool
metadata: {name: h100}
spec:
  gpu: H100
  node: {gpus: 1, cpu: "8", memory: 64Gi}
  pricePerNodeHour: "6.88"
  maxNodes: 100
  nodeSelector: {motley.dev/pool: h100}
"""


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(trace: str | bytes | None, *options: str, name: str = "trace.csv") -> tuple[int, str, str]:
        if trace is not None:
            Path(name).write_bytes(trace if isinstance(trace, bytes) else trace.encode())
        code = main(["traffic", *([name] if trace is not None else []), *options])
        return code, *capsys.readouterr()

    return run


def seen(run: Run, trace: str | None, *options: str, name: str = "trace.csv") -> Json:
    code, out, err = run(trace, "-o", "json", *options, name=name)
    assert (code, err) == (0, "")
    found: Json = json.loads(out)
    return found


def sizes(found: Json) -> dict[tuple[int, int], float]:
    return {(s["inputTokens"], s["outputTokens"]): float(s["weight"]) for s in found["traffic"]["sizes"]}


# --- traces ---


AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.4799600,90,10
2023-11-16 18:17:05.9799600,90,200
"""


def test_a_trace_is_a_traffic_block_with_what_it_was_made_from(run: Run) -> None:
    assert run(AZURE) == (
        0,
        """\
  # From trace.csv: 3 requests in 2 seconds.
  # Rate: 1/s on average, 1/s in the busiest minute.
  # Mean tokens: input 1663, planned 1663, output 73, planned 77: a size counts as the largest request in it.
  # contextLength must be at least 4824.
  traffic:
    rate: "1"
    burstiness: "1" # CV of the times between requests, within a minute; vLLM's --burstiness is 1/CV^2
    prefixReuse: "0" # share of the input tokens that were cached
    sizes:
    - {inputTokens: 91, outputTokens: 16, weight: "0.3333"}
    - {inputTokens: 91, outputTokens: 200, weight: "0.3333"}
    - {inputTokens: 4808, outputTokens: 16, weight: "0.3333"}
""",
        "",
    )


def lines(*rows: Json) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("trace", "options"),
    [
        ("timestamp_ms,prompt_tokens,output_tokens\n0,4808,16\n2000,91,200\n", ()),
        ("num_prefill_tokens,num_decode_tokens,arrived_at\n4808,16,0\n91,200,2\n", ("--time-unit", "s")),
        ('"Timestamp","Model","Request tokens","Response tokens"\r\n5,"a, b",4808,16\r\n7,c,91,200\r\n',
         ("--time-unit", "s")),
        ("timestamp_ms,input_length,output_length,blocks512,prefix_hit_blocks\n0,4808,16,10,0\n2000,91,200,1,0\n", ()),
        ("\ufeff when , in , out \n2026-11-20T12:00:00Z,4808.0,16\n\n2026-11-20T13:00:02+01:00,91, 200\n",
         ("--time-column", "when", "--input-column", "in", "--output-column", "out")),
        (lines({"timestamp": 0, "input_length": 4808, "output_length": 16, "hash_ids": list(range(10))},
               {"timestamp": 2000, "input_length": 91, "output_length": 200, "hash_ids": [77]}), ("--time-unit", "ms")),
        (lines({"timestamp": 9, "requests": [{"prompt": "…", "prompt_length": 4808, "output_length": 16}]},
               {"timestamp": 1009, "requests": []},
               {"timestamp": 2009, "requests": [{"prompt_length": 91, "output_length": 200}]}), ("--time-unit", "ms")),
    ],
    ids=["aibrix-csv", "vidur", "burstgpt", "mooncake-csv", "named", "mooncake", "aibrix"],
)  # fmt: skip
def test_the_shapes_of_published_traces_are_known(run: Run, trace: str, options: tuple[str, ...]) -> None:
    found = seen(run, trace, *options)
    assert sizes(found) == {(91, 200): 0.5, (4808, 16): 0.5}
    assert (found["traffic"]["rate"], found["traffic"]["prefixReuse"]) == ("0.5", "0")
    assert found["leastContextLength"] == 4824


def test_a_trace_comes_from_standard_input_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(AZURE.encode())))
    code, out, _ = run(None, "-")
    assert code == 0
    assert "# From <stdin>: 3 requests" in out


def test_a_rate_scales_a_trace_and_replaces_missing_times(run: Run) -> None:
    _, out, _ = run(AZURE, "--rate", "40")
    assert "  # Rate: 1/s on average, 1/s in the busiest minute, 40/s as given." in out.splitlines()
    assert yaml.safe_load(out)["traffic"]["rate"] == "40"
    _, out, _ = run("input_tokens,output_tokens\n5,6\n", "--rate", "0.25")
    assert "  # Rate: 0.25/s as given." in out.splitlines()
    assert "  # Burstiness 1 (Poisson arrivals) is assumed: the source has no times." in out.splitlines()


def test_requests_without_an_output_count(run: Run) -> None:
    trace = "input_tokens,output_tokens\n64,16\n64,\n64,200\n"
    assert sizes(seen(run, trace, "--rate", "1")) == {(64, 16): 0.5, (64, 200): 0.5}
    assert (
        "  # 1 of them, without an output, are counted like the others of their input." in run(trace, "--rate", "1")[1]
    )


def test_a_request_whose_output_has_no_token_failed(run: Run) -> None:
    """BurstGPT writes these so: 0 response tokens."""
    trace = "Timestamp,Request tokens,Response tokens\n0,64,16\n5,64,0\n9,64,200\n"
    found = seen(run, trace, "--time-unit", "s")
    assert sizes(found) == {(64, 16): 0.5, (64, 200): 0.5}
    assert (found["measured"]["rejected"], found["measured"]["outputTokens"]) == (1, 108)


@pytest.mark.parametrize("gap", ["5e-324", "1e-310", "1e-9", "0"])
def test_times_too_close_to_tell_a_rate_are_none(run: Run, gap: str) -> None:
    trace = "arrived_at,input_tokens,output_tokens\n" + "0,5,5\n" * 20 + f"{gap},5,5\n"
    code, out, err = run(trace, "--time-unit", "s", "--rate", "3", "-o", "json")
    assert (code, err) == (0, "")
    found = json.loads(out, parse_constant=pytest.fail)
    assert found["traffic"]["burstiness"] == "1"
    assert "rate" not in found["measured"]


def test_bursts_beyond_what_a_model_takes_are_cut_and_told(run: Run) -> None:
    times = [n * 1e-6 for n in range(400)] + [50.0]
    trace = "t_s,input_tokens,output_tokens\n" + "".join(f"{time:f},10,10\n" for time in times)
    _, out, _ = run(trace, "--time-column", "t_s")
    assert yaml.safe_load(out)["traffic"]["burstiness"] == "9.99"
    assert "  # Burstiness: 20, of which a Model takes 9.99." in out.splitlines()


# --- what was cached ---


def test_cached_tokens_become_prefix_reuse_and_sizes_are_of_whole_prompts(run: Run) -> None:
    found = seen(run, "prompt_tokens,completion_tokens,cached_tokens\n400,10,100\n400,10,\n", "--rate", "1")
    assert found["traffic"]["prefixReuse"] == "0.125"
    assert sizes(found) == {(400, 10): 1.0}


def test_counted_blocks_are_cached_up_to_the_prompt(run: Run) -> None:
    trace = "input_length,output_length,prefix_hit_blocks\n1000,10,2\n600,10,1\n"
    assert seen(run, trace, "--rate", "1")["traffic"]["prefixReuse"] == "0.945"  # (1000 + 512) / 1600
    assert seen(run, trace, "--rate", "1", "--block-tokens", "16")["traffic"]["prefixReuse"] == "0.03"


def test_leading_blocks_that_came_before_in_time_are_cached(run: Run) -> None:
    later = {"timestamp": 5, "input_length": 30, "output_length": 1, "hash_ids": ["a", "b", "z"]}
    first = {"timestamp": 0, "input_length": 25, "output_length": 1, "hash_ids": ["a", "b", "c"]}
    other = {"timestamp": 9, "input_length": 15, "output_length": 1, "hash_ids": ["y", "a"]}
    found = seen(run, lines(later, first, other), "--time-unit", "s", "--block-tokens", "10")
    assert found["traffic"]["prefixReuse"] == "0.2857"  # a and b of the later one, of 70 tokens


def test_a_prompt_that_was_cached_whole_leaves_a_little(run: Run) -> None:
    trace = "input_tokens,output_tokens,cached_tokens\n100,10,100\n"
    assert seen(run, trace, "--rate", "1")["traffic"]["prefixReuse"] == "0.999"


# --- quantiles ---


def test_quantiles_do_where_there_is_no_trace(run: Run) -> None:
    options = ("--input-quantiles", "p50=1000,p95=7000,max=16000", "--output-quantiles", "p50=150,max=1000")
    found = seen(run, None, *options, "--rate", "5")
    assert found["traffic"]["rate"] == "5"
    weights = sizes(found)
    assert max(weights) == (16000, 1000)
    assert sum(n for (inputs, _), n in weights.items() if inputs <= 1024) == pytest.approx(0.5, abs=0.05)
    _, out, _ = run(None, *options, "--rate", "5")
    assert "# contextLength must be at least 17000." in out
    assert "# From quantiles; input and output lengths are assumed to be independent." in out


def test_the_largest_sizes_are_cut_to_the_longest_context_of_a_model(run: Run) -> None:
    options = ("--input-quantiles", "p50=9,max=10000000", "--output-quantiles", "p50=9,max=1000000", "--rate", "5")
    found = seen(run, None, *options)
    assert found["leastContextLength"] == 10_000_000
    assert 0 < found["measured"]["cut"] < 0.5
    assert len(found["traffic"]["sizes"]) <= 60


def test_quantiles_beyond_what_a_model_takes_are_refused(run: Run) -> None:
    for inputs, outputs, said in (
        ("10000001", "5", "--input-quantiles: a Model takes at most 10000000 tokens, not 10000001"),
        ("5", "1000001", "--output-quantiles: a Model takes at most 1000000 tokens, not 1000001"),
    ):
        options = ("--input-quantiles", f"max={inputs}", "--output-quantiles", f"max={outputs}", "--rate", "5")
        assert run(None, *options) == (2, "", f"{said}\n")


@pytest.mark.parametrize(
    ("text", "valid"),
    [("max=9", True), ("p0=1,p99.9=9,max=9", True), ("", False), ("p50=9", False), ("p95=9,p50=5,max=10", False),
     ("p50=9,max=5", False), ("p50=0,max=5", False), ("p50=1e3,max=5000", False), ("p50=1,p50=2,max=3", False),
     ("max=5,max=6", False), ("p100=5", False), ("p50:9,max=9", False), ("max=-5", False)],
)  # fmt: skip
def test_quantiles_must_rise_to_the_largest(
    run: Run, capsys: pytest.CaptureFixture[str], text: str, valid: bool
) -> None:
    def outcome() -> int:
        return run(None, f"--input-quantiles={text}", "--output-quantiles", "max=9", "--rate", "1")[0]

    if valid:
        assert outcome() == 0
        return
    with pytest.raises(SystemExit, match="2"):
        outcome()
    assert "--input-quantiles: must be rising tokens by percentile up to max" in capsys.readouterr().err


# --- mistakes ---


HEAD = "timestamp_ms,input_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        (HEAD + "0,abc,5\n", "trace.csv:2: input_tokens: must be a whole number from 0 to 10000000, not 'abc'"),
        (HEAD + "0,5,5\n1,-1,5\n", "trace.csv:3: input_tokens: must be a whole number from 0 to 10000000, not '-1'"),
        (HEAD + "0,5,1.5\n", "trace.csv:2: output_tokens: must be a whole number from 0 to 1000000, not '1.5'"),
        (HEAD + "0,5,1e7\n", "trace.csv:2: output_tokens: must be a whole number from 0 to 1000000, not '1e7'"),
        (HEAD + "0,nan,1\n", "trace.csv:2: input_tokens: must be a whole number from 0 to 10000000, not 'nan'"),
        (HEAD + "0,,5\n", "trace.csv:2: input_tokens: is missing"),
        (HEAD + "0,5\n", "trace.csv:2: has 2 values, the header has 3"),
        (HEAD + '0,5,"5\n', "trace.csv:2: not CSV: unexpected end of data"),
        (HEAD + "soon,5,5\n", "trace.csv:2: timestamp_ms: must be a number or a time such as 2026-11-20 12:00:00.5, "
                              "not 'soon'"),
        (HEAD + ",5,5\n", "trace.csv:2: timestamp_ms: must be a number or a time such as 2026-11-20 12:00:00.5, "
                          "not ''"),
        (HEAD, "trace.csv: holds no requests"),
        ("", "trace.csv: empty"),
        (b"\xff\xfe", "trace.csv: not UTF-8: byte 0 is 0xff"),
        (HEAD + "0,5,\n9,5,\n", "trace.csv: every request was rejected: nothing is known of their outputs"),
        (HEAD + "7,5,5\n", "trace.csv: does not tell how many requests come in what time; say it with --rate"),
        (HEAD + "0,5,5\n1e-9,5,5\n",
         "trace.csv: does not tell how many requests come in what time; say it with --rate"),
        ("input_tokens,output_tokens\n5,5\n",
         "trace.csv: does not tell how many requests come in what time; say it with --rate"),
        ("timestamp,input_tokens,output_tokens\n17,5,5\n",
         "trace.csv:2: timestamp: the unit of '17' is unknown; say it with --time-unit"),
        ("a,b\n1,2\n",
         "trace.csv:1: no column is known to hold the input tokens; name it with --input-column, of: a, b"),
        ("prompt_tokens,input_tokens,output_tokens\n1,2,3\n",
         "trace.csv:1: prompt_tokens and input_tokens may each be the input; choose with --input-column"),
        ("input_tokens,input_tokens\n1,2\n", "trace.csv:1: input_tokens: is the name of two columns"),
        ("input_tokens,output_tokens,cached_tokens\n5,5,9\n",
         "trace.csv:2: cached_tokens: 9 of 5 input tokens cannot be cached"),
        ('{"input_length": 5, "output_length": 5}\n{"input_length": 5,\n',
         "trace.csv:2: not JSON: Expecting property name enclosed in double quotes"),
        ('{"input_length": 5, "output_length": 5}\n[5, 5]\n', "trace.csv:2: must be a JSON object"),
        ('{"input_length": true, "output_length": 5}\n',
         "trace.csv:1: input_length: must be a whole number from 0 to 10000000, not true"),
        ('{"input_length": 1e400, "output_length": 5}\n',
         "trace.csv:1: input_length: must be a whole number from 0 to 10000000, not Infinity"),
        ('{"input_length": 5, "output_length": 5, "requests": 5}\n',
         "trace.csv:1: requests: must be a list of objects"),
        ('{"input_length": 600, "output_length": 5, "hash_ids": [1]}\n',
         "trace.csv:1: hash_ids: 1 blocks of 512 tokens do not hold 600 tokens; say --block-tokens"),
        ('{"input_length": 600, "output_length": 5, "hash_ids": [[1]]}\n',
         "trace.csv:1: hash_ids: must be a list of block identities"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_line_and_column(run: Run, trace: str | bytes, said: str) -> None:
    assert run(trace) == (2, "", f"{said}\n")


def test_a_mistake_is_one_line_that_can_be_read_whatever_it_quotes(run: Run) -> None:
    code, out, err = run(",".join(f"c{n}" for n in range(9999)) + "\n" + "1," * 9998 + "1\n")
    assert (code, out, len(err)) == (2, "", 1002)
    assert err.endswith("…\n")
    assert run("a\x1b[2Jb,c\n1,2\n", name="a\nb\x07")[2].splitlines() == [
        '"a\\nb\\u0007":1: no column is known to hold the input tokens; name it with --input-column, of: '
        '"a\\u001b[2Jb", c'
    ]
    routers = 'motley_router_uptime_seconds{router=\x1b\r"a"} 1\n'
    Path("counters.txt").write_text(routers)
    _, _, err = run(None, "--counters", "counters.txt", "counters.txt")
    assert err.isascii() and err[:-1].isprintable()


def test_a_column_or_file_that_is_not_there_is_named(run: Run) -> None:
    assert run(AZURE, "--input-column", "in") == (
        2,
        "",
        "trace.csv:1: has no column in, only: TIMESTAMP, ContextTokens, GeneratedTokens\n",
    )
    assert run(None, "nowhere.csv") == (2, "", "nowhere.csv: no such file or directory\n")


def test_a_trace_or_quantiles_must_be_given_and_not_both(run: Run) -> None:
    both = "give a TRACE, or --counters, or both --input-quantiles and --output-quantiles\n"
    assert run(None) == (2, "", both)
    assert run(None, "--input-quantiles", "max=5", "--rate", "1") == (2, "", both)
    assert run(AZURE, "--input-quantiles", "max=5", "--output-quantiles", "max=5") == (2, "", both)
    assert run(AZURE, "--counters", "before.txt", "after.txt") == (2, "", both)
    code, out, err = run(None, "--input-quantiles", "max=5", "--output-quantiles", "max=5")
    assert (code, out) == (2, "")
    assert "say it with --rate" in err


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "many", "1e-12"])
def test_a_rate_must_be_above_zero(run: Run, rate: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(AZURE, f"--rate={rate}")


# --- into a Model ---


def varied(count: int) -> str:
    """Sizes over the whole range, more than a Model may hold."""
    rows = (f"{20 * n},{1 + 7 ** (n % 5) * 40 % 100_000},{1 + n * n % 900}" for n in range(count))
    return "timestamp_ms,input_tokens,output_tokens\n" + "\n".join(rows)


@pytest.mark.parametrize(
    "options",
    [("--rate", "0.000000001"), ("--rate", "3"), ("--rate", "1000000000")],
    ids=" ".join,
)
def test_what_is_printed_is_valid_in_a_model_whose_context_holds_it(
    run: Run, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    trace = varied(700)
    found = seen(run, trace, *options)
    assert 40 < len(sizes(found)) <= 64
    assert sum(sizes(found).values()) == pytest.approx(1.0, abs=1e-3)
    code, block, _ = run(trace, *options)
    assert code == 0
    for context, valid in ((found["leastContextLength"], True), (found["leastContextLength"] - 1, False)):
        Path("model.yaml").write_text(f"{MODEL}  contextLength: {context}\n{block}{POOL}")
        code = main(["plan", "-f", "model.yaml", "-o", "json", "--time-limit", "5"])
        err = capsys.readouterr().err
        assert (code == 2) is not valid, err
        assert ("exceeds contextLength" in err) is not valid


def test_a_model_with_it_is_planned_whole(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code, block, _ = run(varied(700), "--rate", "3")
    assert code == 0
    Path("model.yaml").write_text(f"{MODEL}  contextLength: 131072\n{block}{POOL}")
    assert main(["plan", "-f", "model.yaml", "-o", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "Planned"
    assert sum(one["rate"] for one in report["models"]) == pytest.approx(3.0)
