"""The plan of the benchmark: scenes, the sides of each, and the targets."""

from __future__ import annotations

from dataclasses import dataclass

MAX_LENGTH = 128
# Number of served adapters of each method; the mixture has as many adapters as there are LoRAs.
COUNTS = {"lora": 64, "pfeiffer": 16, "ia3": 16, "bitfit": 16}
MIXED_EACH = 16
NEW_KINDS = ("loha", "parallel", "norm")

CONNECTIONS = 32
FAN_OUT = 20
# Share of the highest throughput, in the scenes with a constant load.
MODERATE = 0.4
# Seconds between reloads of another adapter.
PAUSES = {"busy": 0.0, "often": 0.1, "quiet": None}
LOADS = 20
# Number of adapters over which memory is measured, and number loaded before the measurement.
WEIGHED, NOT_WEIGHED = 200, 20


def name_of(method: str, number: int) -> str:
    """Returns the name of an adapter."""
    return f"{method}-{number:02d}"


def names_of(method: str, count: int) -> list[str]:
    """Returns the names of the first adapters of a method."""
    return [name_of(method, number) for number in range(count)]


ONE = name_of("lora", 0)
LORAS = names_of("lora", COUNTS["lora"])
MIXED = [name for method in COUNTS for name in names_of(method, MIXED_EACH)]
# The adapters of a fan-out request: the LoRAs share a trunk, the mixture does not entirely.
FANNED = LORAS[:FAN_OUT]
FANNED_MIXED = [name for method in COUNTS for name in names_of(method, FAN_OUT // len(COUNTS))]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One comparison.

    Attributes:
        name: Name on the command line and in the results.
        title: Title in the tables.
        sides: Titles of the sides, by their names in the results.
        figure: The figure to compare.
        asked: The side whose figure is compared.
        against: The side whose figure is the divisor; None uses the figure itself.
        limit: The target.
        is_most: Whether the target is a maximum rather than a minimum.
        form: Format of the figure.
        unit: Unit of the figure.
    """

    name: str
    title: str
    sides: dict[str, str]
    figure: str
    asked: str
    against: str | None
    limit: float
    is_most: bool = False
    form: str = "{:.2f}"
    unit: str = "times"


OURS, SEEN, PIPELINE, BATCHES, PEFT = "keras-peft", "keras-peft-seen", "pipeline", "pipeline-batches", "peft"
OURS_KERAS, OURS_INT8 = f"{OURS}-keras", f"{OURS}-int8"
# The same in bfloat16: the frozen products here, the whole model on PyTorch.
OURS_LOWERED, PIPELINE_LOWERED, PEFT_LOWERED = (f"{side}-bfloat16" for side in (OURS, PIPELINE, PEFT))
LOWERED = (OURS_LOWERED, PIPELINE_LOWERED, PEFT_LOWERED, OURS_INT8)

SCENES = (
    Scene(
        name="one-adapter",
        title=f"One LoRA adapter, {CONNECTIONS} connections",
        sides={
            OURS: "keras-peft, no features cached",
            SEEN: "keras-peft with its defaults, texts seen before",
            PIPELINE: "`transformers.pipeline`, a call for each request",
            BATCHES: "`transformers.pipeline`, a batching queue",
            OURS_INT8: "keras-peft with `--precision int8`, no features cached",
            OURS_KERAS: "keras-peft with `--engine keras`, no features cached",
            OURS_LOWERED: "keras-peft with `--precision bfloat16`, no features cached",
            PIPELINE_LOWERED: "`transformers.pipeline`, a call for each request, the model in bfloat16",
        },
        figure="throughput",
        asked=OURS,
        against=PIPELINE,
        limit=4,
    ),
    Scene(
        name="mixed",
        title=f"64 adapters of four methods at random, {CONNECTIONS} connections",
        sides={"mixed": "all adapters", "one": "one LoRA adapter"},
        figure="throughput",
        asked="mixed",
        against="one",
        limit=0.8,
    ),
    Scene(
        name="loras",
        title=f"64 LoRA adapters at random, {CONNECTIONS} connections",
        sides={
            OURS: "keras-peft",
            PEFT: "HF PEFT's `adapter_names`, a batching queue",
            OURS_INT8: "keras-peft with `--precision int8`",
            OURS_KERAS: "keras-peft with `--engine keras`",
            OURS_LOWERED: "keras-peft with `--precision bfloat16`",
            PEFT_LOWERED: "HF PEFT's `adapter_names`, the model in bfloat16",
        },
        figure="throughput",
        asked=OURS,
        against=PEFT,
        limit=4,
    ),
    Scene(
        name="fan-out",
        title=f"A text for {FAN_OUT} adapters",
        sides={
            "together": f"one request, {FAN_OUT} LoRAs",
            "in-turn": f"{FAN_OUT} requests one after another, LoRAs",
            "at-once": f"{FAN_OUT} requests at once, LoRAs",
            "together-mixed": f"one request, {FAN_OUT} adapters of four methods",
            "in-turn-mixed": f"{FAN_OUT} requests one after another, four methods",
            "at-once-mixed": f"{FAN_OUT} requests at once, four methods",
        },
        figure="throughput",
        asked="together",
        against="in-turn",
        limit=4,
    ),
    Scene(
        name="neighbours",
        title=f"One adapter at {MODERATE:.0%} of the highest throughput, while another is loaded and unloaded",
        sides={
            "busy": "loading and unloading without pauses",
            "often": "loading and unloading with pauses of 0.1 s",
            "quiet": "no loading",
        },
        figure="p99",
        asked="busy",
        against="quiet",
        limit=1.3,
        is_most=True,
    ),
    Scene(
        name="loading",
        title="Time from load request to first answer",
        sides={
            "known": "methods and options that the server has seen",
            "new": "methods and options that are new to the server",
        },
        figure="milliseconds",
        asked="known",
        against=None,
        limit=50,
        is_most=True,
        form="{:.0f}",
        unit="ms",
    ),
    Scene(
        name="memory",
        title="Memory that one more LoRA adapter takes",
        sides={"loaded": f"mean of {WEIGHED}"},
        figure="to_file",
        asked="loaded",
        against=None,
        limit=1.5,
        is_most=True,
        unit="times its file",
    ),
    Scene(
        name="equality",
        title="Rows in a mixed batch against each row alone",
        sides={"engine": "largest difference of a logit"},
        figure="difference",
        asked="engine",
        against=None,
        limit=1e-5,
        is_most=True,
        form="{:.1e}",
        unit="",
    ),
)
BY_NAME = {scene.name: scene for scene in SCENES}

# The configurations of PyTorch, tried briefly on each machine; the fastest is measured.
THREADS = (("--threads", "2", "--at-once", "1"), ("--threads", "1", "--at-once", "2"))
_LOWERED = ("--dtype", "bfloat16")
ROWS = (("--batch", "8"), ("--batch", "32"))
PROGRAMS = {
    PIPELINE: ("serve_pipeline.py", THREADS),
    BATCHES: ("serve_pipeline_batches.py", tuple((*threads, *rows) for threads in THREADS for rows in ROWS)),
    # PEFT runs one batch at a time.
    PEFT: ("serve_peft.py", tuple((*THREADS[0], *rows) for rows in ROWS)),
    PIPELINE_LOWERED: ("serve_pipeline.py", tuple((*threads, *_LOWERED) for threads in THREADS)),
    PEFT_LOWERED: ("serve_peft.py", tuple((*THREADS[0], *rows, *_LOWERED) for rows in ROWS)),
}
