"""Objects that must be refused, for whoever refuses them: the command line, the API server, the operator.

`REFUSED` breaks the schema: each case names the part of the field's path that the message must contain. `CONDITIONED`
is well-formed and still cannot be served as it stands: each case names the object that must get a condition, and why.
"""

from dataclasses import dataclass

FLEET = """\
apiVersion: motley.dev/v1alpha1
kind: Fleet
metadata:
  name: default
spec:
  budgetPerHour: "100"
  approval: Auto
  headroom: "0.1"
  replanHorizon: 2h
  startTime: 3m
"""

POOL = """\
apiVersion: motley.dev/v1alpha1
kind: GPUPool
metadata:
  name: l4
spec:
  gpu: L4
  device: gpu
  node:
    gpus: 1
    cpu: "8"
    memory: 32Gi
  pricePerNodeHour: "0.70"
  maxNodes: 4
  capacityType: OnDemand
  fabric:
    name: rack-1
    bandwidthGBs: "12.5"
  nodeSelector:
    motley.dev/pool: l4
  tolerations:
    - key: nvidia.com/gpu
      operator: Exists
      effect: NoSchedule
  resourceName: nvidia.com/gpu
"""

MODEL = """\
apiVersion: motley.dev/v1alpha1
kind: Model
metadata:
  name: chat
  namespace: default
spec:
  source:
    uri: hf://example/chat-8b
    revision: main
    secretName: hub
  cache:
    persistentVolumeClaim: weights
  shape:
    layers: 32
    hiddenSize: 4096
    attentionHeads: 32
    kvHeads: 8
    headDim: 128
    intermediateSize: 14336
    vocabSize: 128256
  dtype: bfloat16
  quantization: fp8
  kvDtype: auto
  contextLength: 4096
  servedName: chat
  slo:
    ttft: 1s
    ttftPerThousandInputTokens: 300ms
    tpot: 100ms
    attainment: "0.99"
  traffic:
    rate: "0.5"
    sizes:
      - inputTokens: 500
        outputTokens: 200
        weight: "3"
      - inputTokens: 1500
        outputTokens: 200
        weight: "1"
    prefixReuse: "0.2"
    burstiness: "1.25"
  placement:
    pools: [l4]
    tensorParallel: [1]
    modes: [Aggregated]
  scaling:
    minReplicas: 1
    maxReplicas: 4
    survivability: "0.25"
  resources:
    cpu: "4"
    memory: 16Gi
  engine:
    image: example.com/vllm:1
    args: [--enable-prefix-caching]
    env:
      - name: LEVEL
        value: info
      - name: TOKEN
        secretKey:
          name: hub
          key: token
  imagePullSecrets: [registry]
  priority: 1
"""

PROFILE = """\
apiVersion: motley.dev/v1alpha1
kind: Profile
metadata:
  name: chat-l4
spec:
  shape:
    layers: 32
    hiddenSize: 4096
    attentionHeads: 32
    kvHeads: 8
    headDim: 128
    intermediateSize: 14336
    vocabSize: 128256
  gpu: L4
  tensorParallel: 1
  dtype: fp8
  kvDtype: auto
  source: Measured
  date: "2025-01-31"
  error: "0.1"
  throughput:
    - inputTokens: 500
      outputTokens: 200
      requestsPerSecond: "1.5"
"""

GOOD = (FLEET, POOL, MODEL, PROFILE)


@dataclass(frozen=True)
class Refused:
    name: str
    text: str
    field: str


@dataclass(frozen=True)
class Conditioned:
    """`text` may hold several objects; `about` is the one that gets the reason."""

    name: str
    text: str
    about: str
    reason: str


def changed(text: str, old: str, new: str) -> str:
    """The text with one part replaced, which must be there exactly once."""
    if text.count(old) != 1:
        raise ValueError(f"{old!r} is in the text {text.count(old)} times")
    return text.replace(old, new)


def _fleet(name: str, old: str, new: str, field: str) -> Refused:
    return Refused(f"fleet: {name}", changed(FLEET, old, new), field)


def _pool(name: str, old: str, new: str, field: str) -> Refused:
    return Refused(f"pool: {name}", changed(POOL, old, new), field)


def _model(name: str, old: str, new: str, field: str) -> Refused:
    return Refused(f"model: {name}", changed(MODEL, old, new), field)


def _profile(name: str, old: str, new: str, field: str) -> Refused:
    return Refused(f"profile: {name}", changed(PROFILE, old, new), field)


_TWO_SIZES = """\
      - inputTokens: 500
        outputTokens: 200
        weight: "3"
      - inputTokens: 1500
        outputTokens: 200
        weight: "1"
"""
_INTERRUPTED = 'interruptionsPerHour: "0.05"'
_COEFFICIENTS = "  coefficients:\n    base: 0.02\n    perPrefillToken: 0.0001\n"
_TABLE = '  throughput:\n    - inputTokens: 500\n      outputTokens: 200\n      requestsPerSecond: "1.5"\n'

REFUSED: tuple[Refused, ...] = (
    # what the issue names
    _pool("a price that is no number", '"0.70"', "cheap", "spec.pricePerNodeHour"),
    _pool("a price that is not a string", '"0.70"', "0.70", "spec.pricePerNodeHour"),
    _pool("a price below zero", '"0.70"', '"-1"', "spec.pricePerNodeHour"),
    _model("a TTFT of zero", "ttft: 1s", "ttft: 0s", "spec.slo.ttft"),
    _model("a TPOT of zero", "tpot: 100ms", "tpot: 0ms", "spec.slo.tpot"),
    _model(
        "a TTFT per thousand tokens of zero",
        "ttftPerThousandInputTokens: 300ms",
        "ttftPerThousandInputTokens: 0.0s",
        "spec.slo.ttftPerThousandInputTokens",
    ),
    _model("a histogram with no weight", _TWO_SIZES, _TWO_SIZES.replace('"3"', '"0"').replace('"1"', '"0"'), "sizes"),
    _model("a histogram with no size", "sizes:\n" + _TWO_SIZES, "sizes: []\n", "spec.traffic.sizes"),
    # CEL rules
    _fleet("another name than default", "name: default", "name: other", "default"),
    _pool("no label to select nodes by", "nodeSelector:\n    motley.dev/pool: l4", "nodeSelector: {}", "nodeSelector"),
    _pool("a name that fits no label", "name: l4", f"name: {'l4' * 32}", "metadata.name"),
    _model("a name that fits no label", "  name: chat\n", f"  name: {'chat' * 16}\n", "metadata.name"),
    _model("a size beyond the context", "contextLength: 4096", "contextLength: 1600", "traffic.sizes"),
    _model("two caches", "persistentVolumeClaim: weights", "persistentVolumeClaim: w\n    hostPath: /w", "spec.cache"),
    _model("an attainment below one half", 'attainment: "0.99"', 'attainment: "0.49"', "spec.slo.attainment"),
    _model("an attainment of one", 'attainment: "0.99"', 'attainment: "1.0"', "spec.slo.attainment"),
    _model("an attainment in per cent", 'attainment: "0.99"', 'attainment: "99%"', "spec.slo.attainment"),
    _model("two equal sizes", _TWO_SIZES, _TWO_SIZES.replace("1500", "500"), "spec.traffic.sizes"),
    _model("more minimum than maximum replicas", "minReplicas: 1", "minReplicas: 5", "spec.scaling"),
    _pool("a spot pool that is never interrupted", "OnDemand", "Spot", "interruptionsPerHour"),
    _pool("no interruption", "OnDemand", 'Spot\n  interruptionsPerHour: "0"', "spec.interruptionsPerHour"),
    _pool("interruptions of no spot pool", "OnDemand", f"OnDemand\n  {_INTERRUPTED}", "interruptionsPerHour"),
    _pool("reserved nodes on demand", "OnDemand", "OnDemand\n  reservedNodes: 1", "reservedNodes"),
    _pool("more reserved nodes than nodes", "OnDemand", "Reserved\n  reservedNodes: 5", "reservedNodes"),
    _pool("a fabric between CPUs", "device: gpu", "device: cpu", "fabric"),
    _pool("a fabric that moves nothing", '"12.5"', '"0.0"', "spec.fabric.bandwidthGBs"),
    _profile(
        "a prefill token that takes no time",
        _TABLE,
        _COEFFICIENTS.replace("0.0001", "0"),
        "perPrefillToken",
    ),
    _profile("two kinds of figures", _TABLE, _TABLE + _COEFFICIENTS, "coefficients"),
    _profile("no figures", _TABLE, "", "coefficients"),
    # types, enums, patterns, bounds
    _fleet("an unknown approval", "approval: Auto", "approval: Maybe", "spec.approval"),
    _fleet("a budget that is a number", '"100"', "100", "spec.budgetPerHour"),
    _fleet("a headroom in per cent", '"0.1"', '"10%"', "spec.headroom"),
    _fleet("images that are no list", "headroom:", "allowedImages: example.com\n  headroom:", "spec.allowedImages"),
    _pool("no GPU type", "  gpu: L4\n", "", "spec.gpu"),
    _pool("an empty GPU type", "gpu: L4", 'gpu: ""', "spec.gpu"),
    _pool("an unknown device", "device: gpu", "device: tpu", "spec.device"),
    _pool("no GPU on a node", "gpus: 1", "gpus: 0", "spec.node.gpus"),
    _pool("too many GPUs on a node", "gpus: 1", "gpus: 65", "spec.node.gpus"),
    _pool("CPU that is a number", '"8"', "8", "spec.node.cpu"),
    _pool("memory with an unknown unit", "32Gi", "32GB", "spec.node.memory"),
    _pool("nodes as text", "maxNodes: 4", 'maxNodes: "4"', "spec.maxNodes"),
    _pool("nodes below zero", "maxNodes: 4", "maxNodes: -1", "spec.maxNodes"),
    _pool("a broken number of nodes", "maxNodes: 4", "maxNodes: 4.5", "spec.maxNodes"),
    _fleet("a horizon of zero", "replanHorizon: 2h", "replanHorizon: 0h", "spec.replanHorizon"),
    _fleet("a start without a unit", "startTime: 3m", "startTime: 3", "spec.startTime"),
    _pool("an unknown type of capacity", "OnDemand", "on-demand", "spec.capacityType"),
    _pool("interruptions in per cent", "OnDemand", "Spot\n  interruptionsPerHour: 5%", "spec.interruptionsPerHour"),
    _pool("reserved nodes below zero", "OnDemand", "Reserved\n  reservedNodes: -1", "spec.reservedNodes"),
    _pool("a fabric without a name", "    name: rack-1\n", "", "spec.fabric.name"),
    _pool("a fabric's name in capitals", "rack-1", "Rack1", "spec.fabric.name"),
    _pool("a bandwidth with a unit", '"12.5"', "12.5GB", "spec.fabric.bandwidthGBs"),
    _pool("a label's key that is none", "motley.dev/pool: l4", '"two words": l4', "nodeSelector"),
    _pool("a label's value that is none", "motley.dev/pool: l4", 'motley.dev/pool: "two words"', "spec.nodeSelector"),
    _pool("a label that is no text", "motley.dev/pool: l4", "motley.dev/pool: 4", "spec.nodeSelector"),
    _pool("an unknown taint effect", "NoSchedule", "NoSched", "spec.tolerations[0].effect"),
    _pool("an unknown toleration operator", "Exists", "exists", "spec.tolerations[0].operator"),
    _pool("a sheet without bandwidth", "device: gpu", "sheet: {memory: 24Gi, bf16TFLOPS: '120'}", "bandwidthGBs"),
    _pool("an unknown field", "maxNodes: 4", "maxNodes: 4\n  minNodes: 1", "spec.minNodes"),
    _pool("a field in Python's spelling", "maxNodes: 4", "maxNodes: 4\n  max_nodes: 4", "spec.max_nodes"),
    _model("no source", "uri: hf://example/chat-8b", "", "spec.source.uri"),
    _model("a source of an unknown kind", "hf://example/chat-8b", "https://example.com/x", "spec.source.uri"),
    _model("a source with a space", "hf://example/chat-8b", "hf://example/chat 8b", "spec.source.uri"),
    _model("a revision with a space", "revision: main", "revision: the main one", "spec.source.revision"),
    _model("a secret that is no DNS name", "secretName: hub", "secretName: The_Hub", "spec.source.secretName"),
    _model("a relative cache", "persistentVolumeClaim: weights", "hostPath: weights", "spec.cache.hostPath"),
    _model("no layers", "layers: 32", "layers: 0", "spec.shape.layers"),
    _model("a shape without its hidden size", "    hiddenSize: 4096\n", "", "spec.shape.hiddenSize"),
    _model("an unknown dtype", "dtype: bfloat16", "dtype: bf16", "spec.dtype"),
    _model("an unknown quantisation", "quantization: fp8", "quantization: int8", "spec.quantization"),
    _model("an unknown KV dtype", "kvDtype: auto", "kvDtype: int8", "spec.kvDtype"),
    _model("no context", "contextLength: 4096", "contextLength: 0", "spec.contextLength"),
    _model("a served name with a space", "servedName: chat", "servedName: my chat", "spec.servedName"),
    _model("a TTFT without a unit", "ttft: 1s", "ttft: 1", "spec.slo.ttft"),
    _model("a TTFT in days", "ttft: 1s", "ttft: 1d", "spec.slo.ttft"),
    _model("no TPOT", "    tpot: 100ms\n", "", "spec.slo.tpot"),
    _model("an attainment that is a number", 'attainment: "0.99"', "attainment: 0.99", "spec.slo.attainment"),
    _model("a rate below zero", 'rate: "0.5"', 'rate: "-0.5"', "spec.traffic.rate"),
    _model("a rate in another notation", 'rate: "0.5"', 'rate: "5e-1"', "spec.traffic.rate"),
    _model("a weight that is no number", 'weight: "3"', "weight: many", "spec.traffic.sizes[0].weight"),
    _model("a prompt of no tokens", "inputTokens: 500", "inputTokens: 0", "spec.traffic.sizes[0].inputTokens"),
    _model("no output", "inputTokens: 500\n        outputTokens: 200", "inputTokens: 500", "sizes[0].outputTokens"),
    _model("sizes that are no list", "sizes:\n" + _TWO_SIZES, "sizes: {}\n", "spec.traffic.sizes"),
    _model("a prompt that is cached as a whole", '"0.2"', '"1"', "spec.traffic.prefixReuse"),
    _model("a prefix reuse that is a number", '"0.2"', "0.2", "spec.traffic.prefixReuse"),
    _model("a burstiness of ten", '"1.25"', '"10"', "spec.traffic.burstiness"),
    _model("a burstiness below zero", '"1.25"', '"-1"', "spec.traffic.burstiness"),
    _model("an unknown mode", "[Aggregated]", "[Aggregate]", "spec.placement.modes[0]"),
    _model("more than all of the load", '"0.25"', '"1.5"', "spec.scaling.survivability"),
    _model("an odd tensor parallelism", "tensorParallel: [1]", "tensorParallel: [3]", "tensorParallel[0]"),
    _model("a tensor parallelism that is true", "tensorParallel: [1]", "tensorParallel: [true]", "tensorParallel[0]"),
    _model("replicas below zero", "minReplicas: 1", "minReplicas: -1", "spec.scaling.minReplicas"),
    _model("at most no replica", "maxReplicas: 4", "maxReplicas: 0", "spec.scaling.maxReplicas"),
    _model("memory without a number", "memory: 16Gi", "memory: Gi", "spec.resources.memory"),
    _model("an argument that is a number", "[--enable-prefix-caching]", "[7]", "spec.engine.args[0]"),
    _model("an unusable variable name", "name: LEVEL", "name: 1-LEVEL", "spec.engine.env[0].name"),
    _model("a variable that is a number", "value: info", "value: 7", "spec.engine.env[0].value"),
    _model("an unusable secret key", "key: token", "key: a/b", "spec.engine.env[1].secretKey.key"),
    _model("a pull secret that is no DNS name", "[registry]", "[The_Registry]", "spec.imagePullSecrets[0]"),
    _model("too high a priority", "priority: 1", "priority: 1001", "spec.priority"),
    _model("an unknown field", "priority: 1", "priority: 1\n  prioritty: 2", "spec.prioritty"),
    _model("an unknown field in a list", 'weight: "3"', 'wieght: "3"', "spec.traffic.sizes[0].wieght"),
    _model("a name in capitals", "  name: chat\n", "  name: Chat\n", "metadata.name"),
    _model("a name with an underscore", "  name: chat\n", "  name: my_chat\n", "metadata.name"),
    _profile("an odd tensor parallelism", "tensorParallel: 1", "tensorParallel: 6", "spec.tensorParallel"),
    _profile("an unknown dtype", "dtype: fp8", "dtype: int3", "spec.dtype"),
    _profile("an unknown source", "source: Measured", "source: Guessed", "spec.source"),
    _profile("a date in words", '"2025-01-31"', "yesterday", "spec.date"),
    _profile("an error in per cent", '"0.1"', "10%", "spec.error"),
    _profile("a step time below zero", _TABLE, _COEFFICIENTS.replace("0.02", "-0.02"), "spec.coefficients.base"),
    _profile("a step time as text", _TABLE, _COEFFICIENTS.replace("0.02", '"0.02"'), "spec.coefficients.base"),
    _profile("a rate that is a number", '"1.5"', "1.5", "spec.throughput[0].requestsPerSecond"),
)


def _second(text: str, name: str, new_name: str, *changes: tuple[str, str]) -> str:
    """A further object beside the good one."""
    text = changed(text, f"  name: {name}\n", f"  name: {new_name}\n")
    for old, new in changes:
        text = changed(text, old, new)
    return text


_BIG = ("layers: 32\n    hiddenSize: 4096", "layers: 500\n    hiddenSize: 16384")

CONDITIONED: tuple[Conditioned, ...] = (
    Conditioned("an unknown GPU", changed(POOL, "gpu: L4", "gpu: L5"), "GPUPool l4", "UnknownGPU"),
    Conditioned("two pools on the same nodes", f"{POOL}---\n{_second(POOL, 'l4', 'm4')}", "GPUPool m4", "NodesShared"),
    Conditioned(
        "two models with one served name",
        f"{POOL}---\n{MODEL}---\n{_second(MODEL, 'chat', 'talk')}",
        "Model default/talk",
        "ServedNameTaken",
    ),
    Conditioned(
        "a pool that is not there",
        f"{POOL}---\n{changed(MODEL, 'pools: [l4]', 'pools: [a100]')}",
        "Model default/chat",
        "NoPool",
    ),
    Conditioned(
        "weights on a node's disk that nobody allowed",
        f"{POOL}---\n{changed(MODEL, 'hf://example/chat-8b', 'file:///etc')}",
        "Model default/chat",
        "HostPathNotAllowed",
    ),
    Conditioned(
        "an image that the fleet does not allow",
        f"{FLEET}  allowedImages: [example.com/other]\n---\n{POOL}---\n{MODEL}",
        "Model default/chat",
        "ImageNotAllowed",
    ),
    Conditioned(
        "an argument that the fleet does not allow",
        f"{FLEET}  allowedArguments: [--seed]\n---\n{POOL}---\n{MODEL}",
        "Model default/chat",
        "ArgumentNotAllowed",
    ),
    Conditioned(
        "a model too big for any pool", f"{POOL}---\n{changed(MODEL, *_BIG)}", "Model default/chat", "NotPlanned"
    ),
    Conditioned(
        "pools that may have no node",
        f"{changed(POOL, 'maxNodes: 4', 'maxNodes: 0')}---\n{MODEL}",
        "Model default/chat",
        "NotPlanned",
    ),
    Conditioned(
        "a latency that no GPU meets",
        f"{POOL}---\n{changed(MODEL, 'tpot: 100ms', 'tpot: 1ms')}",
        "Model default/chat",
        "PartlyPlanned",  # the share of requests that may miss is served
    ),
    Conditioned(
        "one size that no GPU can serve",
        f"{POOL}---\n"
        + changed(
            changed(MODEL, "contextLength: 4096", "contextLength: 2000000"), "inputTokens: 1500", "inputTokens: 1500000"
        ),
        "Model default/chat",
        "PartlyPlanned",
    ),
    Conditioned(
        "more minimum replicas than the pools hold",
        f"{POOL}---\n"
        + changed(changed(MODEL, "minReplicas: 1", "minReplicas: 9"), "maxReplicas: 4", "maxReplicas: 9"),
        "Model default/chat",
        "Infeasible",
    ),
)
