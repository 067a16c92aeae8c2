"""`motley traffic --counters`: what routers counted as the traffic of a Model."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from motley_operator.cli import main

Json = dict[str, Any]
Run = Callable[..., tuple[int, str, str]]
Sizes = Mapping[tuple[int, int | str], int]


def scrape(
    seconds: float, sizes: Sizes, prompt: int = 0, cached: int = 0, router: str = "a", model: str = "default/chat"
) -> str:
    labels = f'router="{router}",model="{model}"'
    lines = [f'motley_router_uptime_seconds{{router="{router}"}} {seconds}']
    lines += [
        f'motley_router_offered_requests_total{{{labels},input_tokens="{inputs}",output_tokens="{outputs}"}} {number}'
        for (inputs, outputs), number in sizes.items()
    ]
    lines += [f"motley_router_prompt_tokens_total{{{labels}}} {prompt}"]
    lines += [f"motley_router_cached_prompt_tokens_total{{{labels}}} {cached}"]
    return "# TYPE motley_router_offered_requests_total counter\n" + "\n".join(lines) + "\n"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(before: str, after: str, *options: str) -> tuple[int, str, str]:
        Path("before.txt").write_text(before)
        Path("after.txt").write_text(after)
        code = main(["traffic", "--counters", "before.txt", "after.txt", *options])
        return code, *capsys.readouterr()

    return run


def seen(run: Run, before: str, after: str, *options: str) -> Json:
    code, out, err = run(before, after, "-o", "json", *options)
    assert (code, err) == (0, "")
    found: Json = json.loads(out)
    return found


def sizes(found: Json) -> dict[tuple[int, int], float]:
    return {(s["inputTokens"], s["outputTokens"]): float(s["weight"]) for s in found["traffic"]["sizes"]}


BEFORE = scrape(1000, {(108, 20): 50, (2048, 512): 10}, 10_000, 5000)
AFTER = scrape(4600, {(108, 20): 770, (2048, 512): 280, (2048, "rejected"): 90}, 700_000, 212_000)


def test_counters_are_a_traffic_block_with_what_it_was_made_from(run: Run) -> None:
    assert run(BEFORE, AFTER) == (
        0,
        """\
  # From after.txt since before.txt: 1080 requests of default/chat in 60 minutes.
  # 90 of them, without an output, are counted like the others of their input.
  # Rate: 0.3/s on average.
  # Burstiness 1 (Poisson arrivals) is assumed: the source has no times.
  # Mean tokens: input planned 755, output planned 184: a size counts as the largest request in it.
  # contextLength must be at least 2560.
  traffic:
    rate: "0.3"
    burstiness: "1" # CV of the times between requests, within a minute; vLLM's --burstiness is 1/CV^2
    prefixReuse: "0.3" # share of the input tokens that were cached
    sizes:
    - {inputTokens: 108, outputTokens: 20, weight: "0.6667"}
    - {inputTokens: 2048, outputTokens: 512, weight: "0.3333"}
""",
        "",
    )


def test_a_rate_replaces_the_one_that_was_counted(run: Run) -> None:
    _, out, _ = run(BEFORE, AFTER, "--rate", "2.5")
    assert "  # Rate: 0.3/s on average, 2.5/s as given." in out.splitlines()
    assert yaml.safe_load(out)["traffic"]["rate"] == "2.5"


def test_sizes_are_cut_to_the_context_of_the_model(run: Run) -> None:
    found = seen(run, BEFORE, AFTER, "--context-length", "2304")
    assert sizes(found) == {(108, 20): 0.6667, (1792, 512): 0.3333}
    assert found["leastContextLength"] == 2304
    cut = "contextLength must be at least 2304: sizes of 33.33% of the requests were cut to it."
    assert f"  # {cut}" in run(BEFORE, AFTER, "--context-length", "2304")[1].splitlines()
    assert "were cut" not in run(BEFORE, AFTER, "--context-length", "8192")[1]


def test_routers_add_up_each_over_its_own_time(run: Run) -> None:
    before = scrape(100, {(64, 16): 100}) + scrape(900, {(64, 16): 800}, router="b")
    after = scrape(200, {(64, 16): 150}) + scrape(1000, {(64, 16): 810, (64, "rejected"): 40}, router="b")
    found = seen(run, before, after)
    assert (found["traffic"]["rate"], sizes(found)) == ("1", {(64, 16): 1.0})
    assert (found["measured"]["requests"], found["measured"]["rejected"], found["measured"]["routers"]) == (100, 40, 2)
    assert found["measured"]["routersStarted"] == 0


def test_a_router_that_fell_was_started_again_and_a_new_one_counts_since_it_started(run: Run) -> None:
    before = scrape(1000, {(64, 16): 500}) + scrape(1000, {(64, 16): 500}, router="gone")
    after = scrape(50, {(64, 16): 100}) + scrape(10, {(64, 16): 10}, router="new")
    assert seen(run, before, after)["traffic"]["rate"] == "3"
    note = "  # 2 of 2 routers started in between, and count from then."
    assert note in run(before, after)[1].splitlines()
    assert note not in run(BEFORE, AFTER)[1]


def test_sizes_become_those_of_the_planner_s_grid(run: Run) -> None:
    """Other ones than a router's cannot be too many, and none is larger than a Model takes."""
    after = scrape(4600, {(100, 17): 1, (101, 18): 1, (108, 20): 1, (11_863_283, 1_048_576): 1})
    assert set(sizes(seen(run, scrape(1000, {}), after))) == {(108, 20), (9_000_000, 1_000_000)}


def test_one_of_several_models_is_chosen(run: Run) -> None:
    before = scrape(0, {})
    after = before.replace(" 0\n", " 10\n", 1) + "\n".join(
        line
        for model in ("b/code", "a/chat")
        for line in scrape(10, {(64, 16): len(model)}, model=model).splitlines()[2:]
    )
    assert seen(run, before, after, "--model", "b/code")["traffic"]["rate"] == "0.6"
    assert run(before, after) == (
        2,
        "",
        "after.txt: counts requests of several Models; choose with --model: a/chat, b/code\n",
    )
    assert run(before, after, "--model", "b/chat") == (
        2,
        "",
        "after.txt: counts no requests of b/chat, only of: a/chat, b/code\n",
    )


def test_what_else_is_in_the_text_does_not_matter(run: Run) -> None:
    others = 'up 1\nmotley_router_requests_total{model="default/chat",code="200"} -3\n'
    assert seen(run, others + BEFORE, AFTER + others)["traffic"]["rate"] == "0.3"


SERVED = scrape(2000, {(64, 16): 5})
NOT = "not what a router's /metrics/sizes says"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("", SERVED, "before.txt: empty"),
        ("<html>not here</html>\n", SERVED,
         f"before.txt: {NOT}: invalid metric name:<html>not here</html>; save it again"),
        ("up 1\n", SERVED, "before.txt: holds no router's counters; save what its /metrics/sizes says"),
        (SERVED, SERVED + SERVED, f"after.txt: {NOT}: router a is in it twice; save it again"),
        (SERVED, SERVED.replace('router="a",', ""), f"after.txt: {NOT}: no label 'router'; save it again"),
        (SERVED, SERVED.replace('"16"', '"many"'),
         f"after.txt: {NOT}: invalid literal for int() with base 10: 'many'; save it again"),
        (SERVED, SERVED.replace(" 5\n", " NaN\n"),
         f"after.txt: {NOT}: motley_router_offered_requests_total is nan; save it again"),
        (SERVED, SERVED.replace(" 5\n", " -5\n"),
         f"after.txt: {NOT}: motley_router_offered_requests_total is -5; save it again"),
        (SERVED, SERVED.replace('"16"', '"0"'), f"after.txt: {NOT}: a size of 0 tokens; save it again"),
        (SERVED, SERVED.replace(" 5\n", " 0.5\n"),
         f"after.txt: {NOT}: motley_router_offered_requests_total is 0.5; save it again"),
        (SERVED, SERVED.replace(" 2000\n", f" {'9' * 20}\n"),
         f"after.txt: {NOT}: motley_router_uptime_seconds is {'9' * 20}; save it again"),
        (SERVED, SERVED, "after.txt: default/chat since before.txt: no time passed in between; count for longer"),
        (SERVED, scrape(3000, {(64, 16): 10**13 + 5}),
         "after.txt: default/chat since before.txt: 1e+10 requests per second; a Model takes at most 1e+09"),
        (scrape(0, {}), scrape(5e-324, {(64, 16): 5}),
         "after.txt: default/chat since before.txt: no time passed in between; count for longer"),
        (SERVED, scrape(3000, {(64, 16): 5}),
         "after.txt: default/chat since before.txt: no request came in between; count for longer"),
        (SERVED, scrape(3000, {(64, 16): 5, (64, "rejected"): 5}),
         "after.txt: default/chat since before.txt: every request was rejected: nothing is known of their outputs"),
        (SERVED, scrape(3000, {}), "after.txt: no request has come to these routers yet"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_file(run: Run, before: str, after: str, said: str) -> None:
    assert run(before, after) == (2, "", f"{said}\n")


def test_a_file_that_is_not_there_is_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run(BEFORE, AFTER)
    assert main(["traffic", "--counters", "before.txt", "nowhere.txt"]) == 2
    assert capsys.readouterr().err == "nowhere.txt: no such file or directory\n"


@pytest.mark.parametrize(("option", "least"), [("--context-length", 16), ("--block-tokens", 1)])
@pytest.mark.parametrize("tokens", ["0", "-5", "many", "1e3", "10000001", "9" * 5000])
def test_tokens_are_whole_numbers(
    run: Run, capsys: pytest.CaptureFixture[str], option: str, least: int, tokens: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(BEFORE, AFTER, f"{option}={tokens}")
    said = f"{option}: must be a whole number of tokens from {least} to 10000000, not '{tokens}'"
    assert said in capsys.readouterr().err


def test_a_context_as_short_or_as_long_as_a_model_may_have_it_is_taken(run: Run) -> None:
    assert seen(run, BEFORE, AFTER, "--context-length", "16")["leastContextLength"] == 16
    assert seen(run, BEFORE, AFTER, "--context-length", "10000000")["leastContextLength"] == 2560
