"""From an adapter of Hugging Face PEFT to methods, sites and tensors of this library.

One function for each `peft_type` turns what PEFT stores into pieces: a method with its
options, a site, and the tensors that the method holds there. What PEFT computes and how it
names and shapes its tensors is written down in `reference/make_peft.py`.

PEFT's matrices are (out, in), as PyTorch's; those here are (in, out).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np

import keras_peft
from keras_peft.bases import bert, distilbert
from keras_peft.core.adapter import Part
from keras_peft.core.method import Method
from keras_peft.core.projection import bias_of, projection
from keras_peft.core.selection import Selection
from keras_peft.core.sites import Site, own_variables, select_sites

Tensors = dict[str, np.ndarray]


class NotExpressible(Exception):
    """The adapter computes something that no method here computes."""


@dataclass
class Module:
    """A module of PEFT's base that the adapter changes."""

    name: str
    site: Site
    tensors: Tensors

    def take(self, name: str) -> np.ndarray:
        return self.tensors.pop(name)


@dataclass
class File:
    """An adapter's file, sorted by modules. What is understood is taken out of it."""

    config: Mapping
    modules: list[Module]
    rest: Tensors
    everywhere: Sequence[Site]
    initial: Tensors
    encoder: Tensors


@dataclass
class Piece:
    """What a method holds at one site or, without one, for all of them together."""

    method: Method
    site: Site | None
    tensors: Tensors


@dataclass
class Translated:
    """What `keras_peft.adapt` and `assign_adapter_tensors` take."""

    methods: list[Method | Part] = field(default_factory=list)
    tensors: Tensors = field(default_factory=dict)


def translate(
    config: Mapping,
    tensors: Tensors,
    everywhere: Sequence[Site],
    *,
    initial: Tensors | None = None,
    encoder: Tensors | None = None,
) -> Translated:
    """Turns an adapter of PEFT into methods and their tensors.

    Args:
        config: `adapter_config.json`.
        tensors: `adapter_model.safetensors`.
        everywhere: The sites of a base in DistilBERT's form.
        initial: What PiSSA and OLoRA started with; computed from the base where not given.
        encoder: What makes the virtual tokens, which PEFT does not save; without it the
            vectors themselves are taken.

    Raises:
        NotExpressible: If the methods here do not compute what the adapter does.
    """
    if config.get("bias") == "all":
        raise NotExpressible("bias='all' trains biases of layers that are not adapted")
    if config.get("modules_to_save"):
        raise NotExpressible("modules_to_save holds whole layers")
    file = _sorted(config, tensors, everywhere, dict(initial or {}), dict(encoder or {}))
    pieces = list(READERS[config["peft_type"]](file))
    left = [*file.rest, *(f"{m.name}.{name}" for m in file.modules for name in m.tensors)]
    if left:
        raise NotExpressible(f"no method holds {', '.join(left)}")
    result = Translated()
    for method in dict.fromkeys(piece.method for piece in pieces):
        own = [piece for piece in pieces if piece.method == method]
        sites = [piece.site for piece in own if piece.site is not None]
        places_itself = config["peft_type"] in PLACE_THEMSELVES
        result.methods.append(method if places_itself else Part(method, _selection(sites, everywhere)))
        for piece in own:
            path = method.name if piece.site is None else f"{piece.site.key}/{method.name}"
            result.tensors |= {
                f"{path}/{name}": np.asarray(value, np.float32) for name, value in piece.tensors.items()
            }
    return result


def lora(file: File) -> Iterator[Piece]:
    """LoRA, rsLoRA, PiSSA, OLoRA and DoRA; trained biases are BitFit beside them."""
    config = file.config
    for module in file.modules:
        if "lora_A.weight" not in module.tensors:
            raise NotExpressible(f"{module.name} is an embedding; LoRA here is for projections")
        a, b = module.take("lora_A.weight").T, module.take("lora_B.weight").T
        rank, alpha = a.shape[1], _alpha(config, module.name)
        scaling = alpha / (math.sqrt(rank) if config["use_rslora"] else rank)
        options = {"rank": rank, "dropout": float(config["lora_dropout"])}
        weights = {"a": a, "b": b}
        if config["use_dora"]:
            method = keras_peft.DoRA(alpha=scaling * rank, **options)
            weights["magnitude"] = module.take("lora_magnitude_vector")
        else:
            start = _start(config["init_lora_weights"])
            method = keras_peft.LoRA(
                alpha=alpha, rank_stabilized=config["use_rslora"], initialization=start, **options
            )
            if start != "default":
                weights |= _taken_out(file, module, method)
        yield Piece(method, module.site, weights)
        if "base_layer.bias" in module.tensors:
            before = keras.ops.convert_to_numpy(bias_of(module.site))
            yield Piece(keras_peft.BitFit(), module.site, {"bias": module.take("base_layer.bias") - before})
        if "lora_B.bias" in module.tensors:
            yield Piece(keras_peft.BitFit(), module.site, {"bias": scaling * module.take("lora_B.bias")})


def adalora(file: File) -> Iterator[Piece]:
    """Rows that were pruned are cut out of the file; here they are there and zero."""
    config, steps = file.config, file.config["total_step"]
    method = keras_peft.AdaLoRA(
        rank=config["target_r"],
        initial_rank=config["init_r"],
        alpha=float(config["lora_alpha"]),
        dropout=float(config["lora_dropout"]),
        orthogonality=float(config["orth_reg_weight"]),
        warmup=config["tinit"] / steps,
        settled=config["tfinal"] / steps,
        interval=config["deltaT"],
    )
    for module in file.modules:
        kept = (config["rank_pattern"] or {}).get(f"{module.name}.lora_E", [True] * config["init_r"])

        def widen(rows: np.ndarray, kept: Sequence[bool] = kept) -> np.ndarray:
            whole = np.zeros((len(kept), *rows.shape[1:]), rows.dtype)
            whole[np.flatnonzero(kept)] = rows
            return whole

        weights = {
            "a": widen(module.take("lora_A")).T,
            "e": widen(module.take("lora_E"))[:, 0],
            "b": widen(module.take("lora_B").T),
        }
        yield Piece(method, module.site, weights)


def ia3(file: File) -> Iterator[Piece]:
    """Whether inputs or outputs are scaled follows from the role here, from the shape there."""
    for module in file.modules:
        scale = module.take("ia3_l")
        if (len(scale) == 1) != (module.site.role in ("ffn.down", "attention.output")):
            raise NotExpressible(f"{module.name} is scaled on the other side than (IA)³ here does it")
        yield Piece(keras_peft.IA3(), module.site, {"scale": scale.ravel()})


def vera(file: File) -> Iterator[Piece]:
    """The random matrices are drawn again where the file does not hold them."""
    config = file.config
    method = keras_peft.VeRA(
        rank=config["r"], initial=float(config["d_initial"]), dropout=float(config["vera_dropout"])
    )
    if config["save_projection"]:
        a, b = (file.rest.pop(f"base_model.vera_{name}") for name in "AB")
    else:
        views = [projection(module.site) for module in file.modules]
        widest = max(view.inputs for view in views), max(view.outputs for view in views)
        a, b = vera_projections(config["projection_prng_key"], config["r"], *widest)
    yield Piece(method, None, {"a": a.T, "b": b.T})
    for module in file.modules:
        weights = {name: module.take(f"vera_lambda_{name[-1]}") for name in ("scale_d", "scale_b")}
        yield Piece(method, module.site, weights)


def vera_projections(key: int, rank: int, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws the matrices that PEFT draws: A (rank, inputs), then B (outputs, rank).

    The words are those of PyTorch's generator, of which a float takes the lower 24 bits.
    """
    words = np.random.RandomState(key)
    matrices = []
    for shape in ((rank, inputs), (outputs, rank)):
        drawn = words.randint(0, 2**32, shape, np.uint32) & (2**24 - 1)
        bound = np.float32(math.sqrt(6 / shape[1]))
        matrices.append(drawn.astype(np.float32) * np.float32(2**-24) * (2 * bound) - bound)
    return matrices[0], matrices[1]


def loha(file: File) -> Iterator[Piece]:
    method = keras_peft.LoHa(rank=file.config["r"], alpha=float(file.config["alpha"]))
    names = {"a1": "hada_w1_b", "b1": "hada_w1_a", "a2": "hada_w2_b", "b2": "hada_w2_a"}
    for module in file.modules:
        yield Piece(method, module.site, {ours: module.take(name).T for ours, name in names.items()})


def lokr(file: File) -> Iterator[Piece]:
    """The smaller matrix is whole here; where it is a product there, it is multiplied out."""
    config = file.config
    factor = config["decompose_factor"]
    method = keras_peft.LoKr(
        rank=config["r"], alpha=float(config["alpha"]), factor=factor if factor > 0 else None
    )
    for module in file.modules:
        if "lokr_w1" in module.tensors:
            small = module.take("lokr_w1")
        else:
            small = module.take("lokr_w1_a") @ module.take("lokr_w1_b")
        if "lokr_w2" in module.tensors:
            large = {"c": module.take("lokr_w2").T}
        else:
            large = {"a": module.take("lokr_w2_b").T, "b": module.take("lokr_w2_a").T}
        yield Piece(method, module.site, {"k": small.T, **large})


def oft(file: File) -> Iterator[Piece]:
    """Blocks that turn alike are repeated, and what is constrained is taken as it ended up."""
    config = file.config
    for module in file.modules:
        skew = module.take("oft_R.weight")
        size = (1 + math.isqrt(1 + 8 * skew.shape[1])) // 2
        if config["coft"]:
            # The norm is that of the skew matrix, which has each value twice.
            norms = np.sqrt(2) * np.linalg.norm(skew, axis=1, keepdims=True)
            skew = skew * np.minimum(1, config["eps"] / math.sqrt(len(skew)) / np.maximum(norms, 1e-30))
        if config["block_share"]:
            skew = np.repeat(skew, projection(module.site).inputs // size, axis=0)
        if config["use_cayley_neumann"]:
            # Three terms give there what four give.
            terms = 4 if config["num_cayley_neumann_terms"] == 3 else config["num_cayley_neumann_terms"]
        else:
            # The exact transform turns the other way there.
            terms, skew = 0, -skew
        yield Piece(keras_peft.OFT(block_size=size, terms=terms), module.site, {"skew": skew})


def norm(file: File) -> Iterator[Piece]:
    """There a norm's scale and shift are replaced; here its output is scaled and shifted."""
    for module in file.modules:
        before = {v.name: keras.ops.convert_to_numpy(v) for v in own_variables(module.site.layer)}
        gamma, beta = (module.take(f"ln_tuning_layers.{name}") for name in ("weight", "bias"))
        if not before["gamma"].all():
            raise NotExpressible(f"{module.name} has a scale of zero in the base, which no factor changes")
        scale = gamma / before["gamma"]
        yield Piece(
            keras_peft.NormTuning(), module.site, {"scale": scale, "shift": beta - before["beta"] * scale}
        )


def beft(file: File) -> Iterator[Piece]:
    for module in file.modules:
        yield Piece(keras_peft.BitFit(), module.site, {"bias": module.take("beft_bias")[0]})


def prompt(file: File) -> Iterator[Piece]:
    rows = file.rest.pop("prompt_embeddings")
    yield Piece(keras_peft.PromptTuning(tokens=len(rows)), _tokens(file), {"prompt": rows})


def p_tuning(file: File) -> Iterator[Piece]:
    """With what makes the vectors as P-tuning, else as the prompt tuning that it comes to."""
    if not file.encoder:
        yield from prompt(file)
        return
    rows, encoder = file.rest.pop("prompt_embeddings"), file.encoder
    kind, layers = file.config["encoder_reparameterization_type"].lower(), file.config["encoder_num_layers"]
    weights = {"embedding": encoder["embedding.weight"]}
    for number, name in enumerate(("dense_0", "dense_1", "dense_2")[: 3 if kind == "mlp" else 2]):
        weights[name] = encoder[f"mlp_head.{2 * number}.weight"].T
        weights[f"{name}_bias"] = encoder[f"mlp_head.{2 * number}.bias"]
    if kind == "mlp":
        method = keras_peft.PTuning(tokens=len(rows), hidden=weights["dense_1"].shape[0])
        yield Piece(method, _tokens(file), weights)
        return
    for layer, (way, ending) in itertools.product(range(layers), (("forward", ""), ("backward", "_reverse"))):
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        kernel, recurrent, bias, more = (encoder[f"lstm_head.{part}_l{layer}{ending}"] for part in parts)
        weights[f"{way}_{layer}"] = kernel.T
        weights[f"{way}_{layer}_recurrent"] = recurrent.T
        weights[f"{way}_{layer}_bias"] = bias + more
    hidden = weights["forward_0_recurrent"].shape[0]
    method = keras_peft.PTuning(tokens=len(rows), encoder="lstm", hidden=hidden, encoder_layers=layers)
    yield Piece(method, _tokens(file), weights)


def prefix(file: File) -> Iterator[Piece]:
    """With the perceptron that makes keys and values where it is given, else as they are."""
    rows, encoder = file.rest.pop("prompt_embeddings"), file.encoder
    sites = [site for site in file.everywhere if site.role == "attention"]
    projects = file.config["prefix_projection"] and bool(encoder)
    options = {"tokens": len(rows), "shift_positions": True}

    def split(values: np.ndarray, ending: str = "") -> list[Tensors]:
        """Of (…, layers · 2 · out), the keys and values of each layer."""
        values = values.reshape(*values.shape[:-1], len(sites), 2, -1)
        return [
            {f"{part}{ending}": values[..., layer, number, :] for number, part in enumerate(("key", "value"))}
            for layer in range(len(sites))
        ]

    if not projects:
        method = keras_peft.PrefixTuning(**options)
        for site, weights in zip(sites, split(rows), strict=True):
            yield Piece(method, site, weights)
        return
    inner, kernel = encoder["transform.0.weight"].T, encoder["transform.2.weight"].T
    method = keras_peft.PrefixTuning(projection=True, hidden=inner.shape[1], **options)
    shared = {
        "embedding": encoder["embedding.weight"],
        "inner": inner,
        "inner_bias": encoder["transform.0.bias"],
    }
    yield Piece(method, None, shared)
    both = zip(sites, split(kernel), split(encoder["transform.2.bias"], "_bias"), strict=True)
    for site, weights, biases in both:
        yield Piece(method, site, weights | biases)


READERS: dict[str, Callable[[File], Iterator[Piece]]] = {
    "LORA": lora,
    "ADALORA": adalora,
    "IA3": ia3,
    "VERA": vera,
    "LOHA": loha,
    "LOKR": lokr,
    "OFT": oft,
    "LN_TUNING": norm,
    "BEFT": beft,
    "PROMPT_TUNING": prompt,
    "P_TUNING": p_tuning,
    "PREFIX_TUNING": prefix,
}
# Virtual tokens go to fixed places, which the methods here know by themselves.
PLACE_THEMSELVES = ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING")


def _sorted(
    config: Mapping, tensors: Tensors, everywhere: Sequence[Site], initial: Tensors, encoder: Tensors
) -> File:
    sites = _sites_by_module(everywhere)
    modules: dict[str, Module] = {}
    rest: Tensors = {}
    for key, value in tensors.items():
        name = key.removeprefix("base_model.model.")
        found = next((module for module in _beginnings(name) if _in_distilbert(module) in sites), None)
        if found is None:
            rest[key] = value
            continue
        module = modules.setdefault(found, Module(found, sites[_in_distilbert(found)], {}))
        module.tensors[name.removeprefix(f"{found}.")] = value
    return File(config, list(modules.values()), rest, everywhere, initial, encoder)


def _beginnings(name: str) -> list[str]:
    """ "a.b.c" begins with "a.b" and "a"."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def _sites_by_module(everywhere: Sequence[Site]) -> dict[str, Site]:
    """The sites by the names that Hugging Face's DistilBERT has for them."""
    paths = {site.path: site for site in everywhere}
    blocks = len([site for site in everywhere if site.role == "block"])
    names = dict(distilbert._NAMES)
    for block in range(blocks):
        names |= {
            f"transformer.layer.{block}.{name}": f"transformer_layer_{block}/{path}"
            for name, path in distilbert._BLOCK_NAMES.items()
        }
    return {name.rpartition(".")[0]: paths[path.rpartition("/")[0]] for name, path in names.items()}


def _in_distilbert(module: str) -> str:
    """The name in DistilBERT of a module of DistilBERT or BERT, bare or below a head."""
    bare = re.sub(r"^(distil)?bert\.", "", module)
    for pattern, replacement in bert._RENAMED.items():
        if found := re.fullmatch(pattern, bare):
            return found.expand(replacement)
    return bare


def _selection(sites: Sequence[Site], everywhere: Sequence[Site]) -> Selection:
    """Names sites by roles and blocks where these give just them, else by their paths."""
    wanted = {site.key for site in sites}
    roles = tuple(dict.fromkeys(str(site.role) for site in sites))
    blocks = {site.block for site in sites}
    layers = ["all"] if None in blocks else ["all", tuple(sorted(blocks))]
    for selection in (Selection(roles, some) for some in layers):
        if {site.key for site in select_sites(everywhere, selection)} == wanted:
            return selection
    return Selection(tuple(f"^{re.escape(site.path)}$" for site in sites))


def _tokens(file: File) -> Site:
    (site,) = [site for site in file.everywhere if site.role == "embedding.token"]
    return site


def _alpha(config: Mapping, module: str) -> float:
    for key, value in (config["alpha_pattern"] or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return float(value)
    return float(config["lora_alpha"])


def _start(init_lora_weights: bool | str) -> str:
    """The initialisations that take a part out of the base have a name here as well."""
    word = str(init_lora_weights).lower()
    if word in ("true", "false", "gaussian", "orthogonal"):
        return "default"
    if re.fullmatch(r"pissa(_niter_\d+)?|olora", word):
        return word.partition("_")[0]
    raise NotExpressible(f"init_lora_weights={init_lora_weights!r} is not known here")


def _taken_out(file: File, module: Module, method: Method) -> Tensors:
    """What is subtracted from the base: A and B as they were before training."""
    if file.initial:
        path = f"base_model.model.{module.name}"
        return {"a0": file.initial[f"{path}.lora_A.weight"].T, "b0": file.initial[f"{path}.lora_B.weight"].T}
    if "_niter_" in str(file.config["init_lora_weights"]):
        raise NotExpressible("what a randomised SVD took out of the base cannot be computed again")
    weights = method.weights(module.site)
    return {name: np.asarray(weights[name].initializer(weights[name].shape)) for name in ("a0", "b0")}
