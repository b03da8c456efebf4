"""Makes the stored reference files with Hugging Face PEFT; the tests do not need it.

    python -m venv /tmp/reference && /tmp/reference/bin/pip install torch transformers peft
    /tmp/reference/bin/python tests/reference/make_peft.py [CASE ...]

Needs the checkpoints and `outputs.safetensors` that `make.py` stored, and no network. Writes
`peft/CASE.safetensors` next to this file, each from one adapter on a tiny checkpoint in evaluation mode:

    adapter/NAME      the tensors of `adapter_model.safetensors`, under PEFT's names
    initial/NAME      the same just after initialisation, if that changes the base's weights (PiSSA, OLoRA)
    converted/NAME    the same adapter as PEFT converts it to a plain LoRA on the untouched base
    encoder/NAME      the live prompt encoder's weights, which PEFT does not save
    projection/NAME   VeRA's shared matrices, if PEFT does not save them
    inputs/NAME       `input_ids` and `attention_mask` (int32), rows of 24, 17 and 9 tokens, then padding
    outputs/last_hidden_state    all positions, including those of prepended virtual tokens

and the metadata `base` (the checkpoint's folder), `config` (`adapter_config.json`), `converted_config`,
`trainable` (PEFT's count for a new adapter) and `versions`. Before a file is written, PEFT loads the adapter
on a new base, and the output must be the same.

Also writes `peft_folders/TASK_CASE`, complete folders of PEFT with an adapter of a text or token classifier,
without README.md, and `peft_folders/logits.safetensors`: the logits of each classifier for the `texts` in its
metadata, and the `ids/BASE` and `mask/BASE` of these texts.

What peft 0.21.2 computes
-------------------------

W (out, in) and b are the base's weight and bias in torch's layout, y = x Wᵀ + b; a Keras kernel is Wᵀ.
ΔW is what a method adds to W; `±c` is uniform between -c and c; N(s) is normal with deviation s.
PEFT's `kaiming_uniform(a=√5)` on a matrix is ±1/√(number of its columns). Dropout, if a method has it,
applies to x before the added path only and is 0 by default.

Targets
    target_modules   a list matches a module whose whole name, or whose end after a dot, is an entry; a
                     string is a regular expression on the whole name. PEFT has no defaults for DistilBERT.
    rank_pattern, alpha_pattern   a key matches as the regular expression `(.*\\.)?KEY$`; the first key wins.

LORA       r 8, lora_alpha 8
    shapes     lora_A.weight (r, in), lora_B.weight (out, r)
    forward    y + s · B(A x),  ΔW = s B A,  s = alpha / r, or alpha / √r with use_rslora; r and alpha are
               the layer's values after the patterns
    init       A ±1/√in (with "gaussian": N(1/r)), B 0
    lora_bias  lora_B.bias (out,), starts at 0: the scale applies to it too, y + s (B(A x) + bias)
    bias       "lora_only": the targets' own biases train, saved whole as base_layer.bias; "all": every bias
    embedding  lora_embedding_A (r, vocabulary), lora_embedding_B (dim, r): row + s · A[:, id]ᵀ Bᵀ;
               init A 0 and B N(1), the reverse of a Linear
  use_dora     lora_magnitude_vector (out,)
    forward    V = W + s B A;  y = (m / ‖V‖) ⊙ (x Vᵀ) + b, with the norm of each *row* of V, one per output.
               The bias is not scaled. No gradient goes through the norm, and it has no epsilon.
    dropout    in training: y = xWᵀ + b + (m/‖V‖ - 1) ⊙ d(x)Wᵀ + (m/‖V‖) ⊙ s B A d(x), one draw d
    init       A, B as LoRA, m = ‖W + s B A‖ of the initial A and B
  init "pissa" U S Vᵀ = W, the r largest:  A = √(S/s) Vᵀ,  B = U √(S/s),  so s B A is W's best rank-r part
               (signs as the SVD gives them); the base becomes W - s B₀ A₀. "pissa_niter_N": randomised SVD.
  init "olora" Q R = W:  B = Q[:, :r],  A = R[:r], no division by s; the base becomes W - s B₀ A₀.
               If s ≠ 1, the base loses s times the projection of W on the first r columns of Q.
    both       x (W - s B₀ A₀)ᵀ + s B(A x). Saved as trained: a reader repeats the initialisation on the base,
               so the file alone is not enough. Converted: A' = [A; A₀] by rows, B' = [B, -B₀] by columns,
               r' = 2 r, alpha' = 2 alpha (√2 alpha with use_rslora), init_lora_weights True, base W.

ADALORA    init_r 12, target_r 8, lora_alpha 8, tinit 0, tfinal 0, deltaT 1, beta1 = beta2 0.85,
           orth_reg_weight 0.5; total_step has no default; `r` is ignored
    shapes     lora_A (r, in), lora_E (r, 1), lora_B (out, r), all without `.weight`
    forward    y + ((x (A ⊙ E)ᵀ) Bᵀ) · alpha / (ranknum + 1e-5)
    ranknum    init_r as a float, never saved and never changed: it stays init_r after pruning, and after
               reading a file without the pruned rows. The scale is therefore always
               alpha / (init_r + 1e-5), even if alpha / r differs; with alpha <= 0 it is
               init_r / (init_r + 1e-5).
    init       A N(0.02), B N(0.02), E 0
    loss       + orth_reg_weight · mean over all A and B of ‖A Aᵀ - I‖_F, ‖Bᵀ B - I‖_F (not squared)
    budget     in total ranks, init = init_r · layers, target = target_r · layers, at step t:
               t <= tinit: init, no pruning;  t > total - tfinal: target;  else
               int((init - target) · (1 - (t - tinit) / (total - tfinal - tinit))³ + target),
               pruned if t is a multiple of deltaT
    importance per element, until total - tfinal:  I = |w · gradient|,  Ī = β₁ Ī + (1 - β₁) I,
               U = β₂ U + (1 - β₂) |I - Ī| with the new Ī, score = Ī U.  Of a rank: score(E) +
               mean score of its row of A + mean score of its column of B.
    pruning    the threshold is the (init - budget)-th smallest score of all layers' ranks; E is set to 0
               where the score <= threshold. E continues to train, so a pruned rank can come back until the
               budget is final (step total - tfinal, which prunes once more); after that, the final mask is
               applied at every step. PEFT's search for the threshold fails if target_r is not below init_r.
    saved      with rank_pattern {"MODULE.lora_E": [true, false, ...]}, the file lacks the pruned rows,
               down to shapes (0, in) and (out, 0)

IA3        no hyperparameters
    shapes     ia3_l (out, 1), of a feed-forward module (1, in)
    forward    (x Wᵀ + b) ⊙ l  (the bias is scaled too), feed-forward: (x ⊙ l) Wᵀ + b
    init       1

VERA       r 256, d_initial 0.1, projection_prng_key 0, save_projection True; no alpha
    shapes     vera_lambda_d (r,), vera_lambda_b (out,) per layer; shared, frozen: base_model.vera_A
               (r, widest in), base_model.vera_B (widest out, r), with separate maxima over all targets
    forward    y + λ_b ⊙ ((λ_d ⊙ (x A[:, :in]ᵀ)) B[:out]ᵀ): a layer takes A's first columns, B's first rows
    init       λ_d = d_initial, λ_b = 0;  A ±√(6 / widest in), B ±√(6 / r), both from one torch generator
               seeded with the key, A first. That generator is MT19937 with the classic seeding: value i is
               (word i mod 2²⁴) / 2²⁴, scaled to the range, row by row. NumPy's MT19937 seeded by
               `_legacy_seeding(key)` gives the same words with `random_raw`, without torch.

LOHA       r 8, alpha 8, rank_dropout 0, module_dropout 0
    shapes     hada_w1_a (out, r), hada_w1_b (r, in), hada_w2_a (out, r), hada_w2_b (r, in)
    forward    y + x ΔWᵀ,  ΔW = (alpha / r) · (w1_a w1_b) ⊙ (w2_a w2_b)
    init       w1_a, w2_a ±1/√r, w1_b ±1/√in, w2_b 0
    dropout    rank_dropout zeroes whole *outputs* (rows of ΔW) and divides by the mean of the mask;
               module_dropout skips the whole ΔW in a call; both in training only

LOKR       r 8, alpha 8, decompose_both False, decompose_factor -1, the dropouts 0, rank_dropout_scale False
    sizes      out = o1 · o2 and in = i1 · i2, each by `split(size, decompose_factor)`: with a positive factor
               that divides the size, (factor, size / factor), even if the first is then the larger;
               otherwise the largest divisor <= √size (and <= factor, if positive) and its partner
    shapes     lokr_w1 (o1, i1); with decompose_both and r < max(o1, i1) / 2: lokr_w1_a (o1, r), _b (r, i1).
               lokr_w2 (o2, i2); with r < max(o2, i2) / 2: lokr_w2_a (o2, r), lokr_w2_b (r, i2)
    forward    y + x ΔWᵀ,  ΔW = (alpha / r) · kron(w1, w2): ΔW[a·o2 + c, b·i2 + d] = s w1[a, b] w2[c, d].
               The scale is alpha / r even if neither is decomposed and r has no other meaning.
    init       w1 0 (or w1_a 0, w1_b ±1/√i1);  w2 ±1/√i2 (or w2_a ±1/√r, w2_b ±1/√i2).
               init_weights "lycoris": the reverse, w1 drawn as above, w2 (or w2_b) 0
    dropout    as LoHa, divided by the mask's mean only with rank_dropout_scale

OFT        oft_block_size 32, r 0 (blocks; set one of the two to 0), use_cayley_neumann True,
           num_cayley_neumann_terms 5, coft False, eps 6e-5, block_share False
    blocks     of the *input*: in = blocks · size. A size (or r) that does not divide `in` is replaced by the
               nearest divisor, the smaller of two that are equally near, and by `in` if it is not below `in`
               (32 on 16 inputs: 16). The configuration keeps the requested size, so read it from the shape.
    shapes     oft_R.weight (blocks, size (size - 1) / 2); (1, …) with block_share: one rotation for all
    skew       Q[i, j] = value for i < j in row order (0,1), (0,2), …, (1,2), …;  Q[j, i] = -Q[i, j]
    rotation   use_cayley_neumann with k >= 4 terms: R = I + 2 (Q + … + Q^(k-2)) + Q^(k-1), for 5:
               I + 2 Q + 2 Q² + 2 Q³ + Q⁴; 3 gives what 4 gives; 2: I + 2 Q; 1: I. It approximates
               (I + Q)(I - Q)⁻¹ and is orthogonal only for small Q.
               Otherwise R = (I - Q)(I + Q)⁻¹, exact, but the *inverse* of the matrix that the series
               approximates: the same weights rotate in the opposite direction.
    forward    only the input is rotated, before the base's projection: x_g → x_g R_g for every block g of
               consecutive inputs, y = x' Wᵀ + b. W' = W blockdiag(R)ᵀ, a Keras kernel: blockdiag(R) kernel.
               Outputs and bias are not rotated. No scale.
    coft       before every forward the weights are overwritten: a block whose ‖Q‖_F exceeds eps / √blocks
               (rows of the weight, so 1 with block_share) is scaled down to that norm
    init       0. module_dropout is accepted, but no Linear applies it.

LN_TUNING  shapes ln_tuning_layers.weight, .bias: a copy of each targeted layer that replaces it; starts equal
BEFT       beft_bias (1, out): y + beft_bias; init 0

Virtual tokens: n of them; num_transformer_submodules is 1 for encoders. token_dim and num_attention_heads
must be given for DistilBERT, whose configuration uses other names; task_type must be given.

PROMPT_TUNING   prompt_embeddings (n, dim); prompt_tuning_init RANDOM
    forward    rows [prompt; word embeddings of the ids] enter the embedding layer as `inputs_embeds`:
               positions are 0 … n+length-1, so the text is shifted by n, and prompt rows get positions, the
               layer norm and dropout like words. n + length must fit the base's positions.
    mask       ones for the prompt before the given mask. Feature extraction drops given token types, so all
               are 0 (BERT's type 0 row is also added to prompt rows); sequence classification puts zeros
               before the given ones. Given position ids are dropped.
    output     n + length positions. A classifier that takes position 0 takes the first *virtual* token.
    init       RANDOM: N(1); SAMPLE_VOCAB: rows of random words; TEXT: rows of a text's ids, repeated or cut
P_TUNING        the same with prompt = encoder(0 … n-1); encoder_hidden_size h is dim if not given,
                encoder_num_layers 2, encoder_dropout 0, encoder_reparameterization_type MLP
    MLP        embedding (n, dim) → Linear h → ReLU → Linear h → ReLU → Linear dim, encoder_num_layers ignored
    LSTM       embedding → bidirectional LSTM of h each way, encoder_num_layers layers (gates in the order
               input, forget, cell, output; two biases), over the n tokens as one sequence
               → Linear 2h → ReLU → Linear dim
    init       embedding N(1), Linear ±1/√in (bias also), LSTM ±1/√h
    saved      the encoder's output only, as prompt_embeddings; `trainable` counts the encoder's weights
PREFIX_TUNING   prompt_embeddings (n, layers · 2 · dim)
    forward    viewed as (n, layers, 2, heads, head_dim): [:, l, 0] are n additional keys of layer l and
               [:, l, 1] n additional values, prepended to the layer's own after the projections, the same for
               each row of the batch. Only the text has queries; n ones are prepended to the mask; scores are
               scaled as usual. Positions of the text start at n, as after a cache of n tokens. The output has
               no additional rows.
    projection with prefix_projection: embedding (n, dim) → Linear h → tanh → Linear layers · 2 · dim, h is
               encoder_hidden_size, or dim if not given; only the result is saved
    init       embedding N(1), Linear as above; init_weights "zero": the output 0 (zero keys still receive
               attention, so the base's output changes)
    DistilBERT does not accept a cache: with a mask, torch fails on its size (36 against 32); without one, the
               prefix is silently ignored; sequence classification refuses. The cases here are on BERT.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import safetensors
import tokenizers
import torch
import transformers
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
FOLDER = HERE / "peft"
LENGTHS = (24, 17, 9)
LONGEST = 48
PADDING = {"roberta": 1}
ATTENTION = ["q_lin", "k_lin", "v_lin", "out_lin"]
ALL = [*ATTENTION, "lin1", "lin2"]
QV = ["q_lin", "v_lin"]
NORMS = ["LayerNorm", "sa_layer_norm", "output_layer_norm"]
PROMPTS = {"num_virtual_tokens": 4, "token_dim": 16, "num_attention_heads": 2, "num_layers": 3}

# Parameters with a meaningful initial value get noise added to it; all others are redrawn.
MOVED = ("classifier", "ia3_l", "ln_tuning_layers", "lora_magnitude_vector", "base_layer.bias")


@dataclass
class Case:
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: str = "distilbert"
    std: float = 0.2
    moved: bool = False  # noise is added to the initial value of every weight
    prepare: Callable[[PeftModel], None] = lambda model: None


def prune(model: PeftModel) -> None:
    """Zeroes singular values and records the remaining ones, as AdaLoRA's allocator does in training."""
    keep = [[True] * 6, [True, False, True, True, False, False], [False] * 6]
    values = [(n, p) for n, p in model.base_model.model.named_parameters() if ".lora_E." in n]
    pattern = {name: keep[index % len(keep)] for index, (name, _) in enumerate(values)}
    for name, value in values:
        value[~torch.tensor(pattern[name])] = 0.0
    model.peft_config["default"].rank_pattern = pattern


LOW = {"r": 4, "lora_alpha": 8}
VERA = {"r": 6, "target_modules": ["q_lin", "lin1", "lin2"], "projection_prng_key": 7}
ADA = {"init_r": 6, "target_r": 3, "lora_alpha": 12, "total_step": 10, "target_modules": [*QV, "lin1"]}
LOKR = {"alpha": 4, "target_modules": ["v_lin", "lin1", "lin2"]}
OFT = {"oft_block_size": 4, "target_modules": ["q_lin", "lin1", "lin2"]}
DENSE = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]

CASES = {
    "lora": Case("Lora", {**LOW, "target_modules": QV}),
    "lora_all": Case("Lora", {**LOW, "target_modules": ALL}),
    "lora_rslora": Case("Lora", {**LOW, "target_modules": QV, "use_rslora": True}),
    "lora_dora": Case("Lora", {**LOW, "target_modules": [*QV, "lin1", "lin2"], "use_dora": True}),
    "lora_pissa": Case(
        "Lora", {**LOW, "target_modules": [*QV, "lin1"], "init_lora_weights": "pissa"}, std=0.1, moved=True
    ),
    "lora_olora": Case(
        "Lora", {**LOW, "target_modules": [*QV, "lin1"], "init_lora_weights": "olora"}, std=0.1, moved=True
    ),
    "lora_patterns": Case(
        "Lora",
        {
            **LOW,
            "target_modules": QV,
            "layers_to_transform": [1, 2],
            "rank_pattern": {"layer.2.attention.v_lin": 2},
            "alpha_pattern": {"q_lin": 3},
        },
    ),
    "lora_lora_bias": Case("Lora", {**LOW, "target_modules": QV, "lora_bias": True}),
    "lora_base_bias": Case("Lora", {**LOW, "target_modules": QV, "bias": "lora_only"}),
    "lora_embedding": Case("Lora", {"r": 2, "lora_alpha": 4, "target_modules": ["word_embeddings", "v_lin"]}),
    "lora_bert": Case("Lora", {**LOW, "target_modules": DENSE}, base="bert"),
    "lora_roberta": Case("Lora", {**LOW, "target_modules": DENSE}, base="roberta"),
    "adalora": Case("AdaLora", ADA, std=0.5),
    "adalora_pruned": Case("AdaLora", ADA, std=0.5, prepare=prune),
    "ia3": Case(
        "IA3", {"target_modules": ["k_lin", "v_lin", "lin2"], "feedforward_modules": ["lin2"]}, std=0.4
    ),
    "ia3_roberta": Case(
        "IA3",
        {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]},
        base="roberta",
        std=0.4,
    ),
    "vera": Case("Vera", {**VERA, "save_projection": True}, std=0.5),
    "vera_drawn": Case("Vera", {**VERA, "save_projection": False}, std=0.5),
    "loha": Case("LoHa", {"r": 3, "alpha": 6, "target_modules": ["v_lin", "lin1", "lin2"]}, std=0.4),
    "lokr_full": Case("LoKr", {**LOKR, "r": 8}),
    "lokr_second": Case("LoKr", {**LOKR, "r": 2, "decompose_factor": 2}),
    "lokr_both": Case("LoKr", {**LOKR, "r": 1, "decompose_both": True}, std=0.3),
    "lokr_first": Case("LoKr", {**LOKR, "r": 3, "decompose_both": True, "decompose_factor": 8}),
    "oft": Case("OFT", OFT),
    "oft_cayley": Case("OFT", {**OFT, "use_cayley_neumann": False}),
    "oft_terms": Case("OFT", {**OFT, "num_cayley_neumann_terms": 7}),
    "oft_blocks": Case("OFT", {**OFT, "oft_block_size": 0, "r": 2}),
    "oft_adjusted": Case("OFT", {**OFT, "oft_block_size": 7}, std=0.1),
    "oft_share": Case("OFT", {**OFT, "block_share": True}),
    "oft_coft": Case("OFT", {**OFT, "coft": True, "eps": 0.5}),
    "ln_tuning": Case("LNTuning", {"target_modules": NORMS}),
    "beft": Case("Beft", {"target_modules": ["v_lin", "lin1"]}),
    "prompt_tuning": Case("PromptTuning", PROMPTS, std=0.4),
    "prompt_tuning_bert": Case("PromptTuning", PROMPTS, base="bert", std=0.4),
    "p_tuning_mlp": Case("PromptEncoder", {**PROMPTS, "encoder_hidden_size": 8}, std=0.6),
    "p_tuning_lstm": Case(
        "PromptEncoder",
        {**PROMPTS, "encoder_hidden_size": 8, "encoder_reparameterization_type": "LSTM"},
        std=0.6,
    ),
    "prefix_tuning": Case("PrefixTuning", PROMPTS, base="bert", std=0.5),
    "prefix_tuning_projection": Case(
        "PrefixTuning",
        {**PROMPTS, "prefix_projection": True, "encoder_hidden_size": 8},
        base="bert",
        std=0.5,
    ),
}


# Complete folders: text classifiers, or token classifiers if a text classifier would read a virtual token.
FOLDERS = {f"text_{name}": name for name, case in CASES.items() if "Pr" not in case.method}
FOLDERS |= {f"text_{name}": name for name in ("prefix_tuning", "prefix_tuning_projection")}
FOLDERS |= {f"token_{name}": name for name, case in CASES.items() if "Pr" in case.method}
FOLDERS |= {f"token_{name}": name for name in ("lora", "lora_bert", "lora_roberta")}
LABELS = ("alpha", "beta", "gamma")
TEXTS = [row["text"] for row in map(json.loads, (HERE / "../../examples/conversations.jsonl").open())][:4]


def inputs(base: str) -> dict[str, torch.Tensor]:
    """Returns the first rows of the reference batch, truncated to different lengths and padded."""
    kept = load_file(HERE / "outputs.safetensors")
    ids = kept[f"{base}.ids"][: len(LENGTHS), : max(LENGTHS)].long()
    mask = (torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]).long()
    ids[torch.arange(len(LENGTHS)), torch.tensor(LENGTHS) - 1] = kept[f"{base}.ids"][0, -1].long()
    return {"input_ids": ids.where(mask.bool(), PADDING.get(base, 0)), "attention_mask": mask}


def load(base: str) -> torch.nn.Module:
    return transformers.AutoModel.from_pretrained(HERE / base, dtype=torch.float32).eval()


def fill(model: PeftModel, case: Case) -> None:
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = case.std * torch.randn(parameter.shape, generator=generator)
            stays = case.moved or any(part in name for part in MOVED)
            parameter.copy_(parameter + noise if stays else noise)


def saved(
    model: PeftModel, folder: Path, initial: Path | None = None
) -> tuple[dict[str, torch.Tensor], dict]:
    """Returns the tensors and the configuration as PEFT writes them."""
    model.save_pretrained(
        folder,
        save_embedding_layers=False,
        path_initial_model_for_weight_conversion=initial and str(initial),
    )
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    for key in ("target_modules", "feedforward_modules"):
        if isinstance(config.get(key), list):
            config[key].sort()
    return load_file(folder / "adapter_model.safetensors"), config


def read_back(base: str, folder: Path, batch: dict[str, torch.Tensor], after: torch.Tensor) -> None:
    again = PeftModel.from_pretrained(load(base), folder).eval()(**batch).last_hidden_state
    if not torch.allclose(after, again, atol=1e-4):
        sys.exit(f"{folder.name}: read back, the output differs by {(after - again).abs().max():.2g}")


def encoder(model: PeftModel) -> dict[str, torch.Tensor]:
    """Returns the weights of the prompt encoder, which the adapter's file lacks."""
    if not hasattr(model, "prompt_encoder"):
        return {}
    return model.prompt_encoder["default"].state_dict()


def projections(model: PeftModel) -> dict[str, torch.Tensor]:
    """Returns VeRA's shared matrices if the adapter's file lacks them."""
    tuner = model.base_model
    if getattr(model.peft_config["default"], "save_projection", True):
        return {}
    return {name: getattr(tuner, name)["default"] for name in ("vera_A", "vera_B")}


def named(folder: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{folder}/{name}": tensor.clone().contiguous() for name, tensor in tensors.items()}


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Saves the same bytes for the same content: safetensors does not fix the metadata's order."""
    save_file(tensors, path, metadata)
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[end:])


def make(name: str, case: Case, work: Path) -> None:
    batch = inputs(case.base)
    base = load(case.base)
    before = base(**batch).last_hidden_state
    torch.manual_seed(1)
    config = getattr(peft, f"{case.method}Config")(task_type="FEATURE_EXTRACTION", **case.settings)
    model = get_peft_model(base, config).eval()
    metadata = {"base": case.base, "trainable": str(model.get_nb_trainable_parameters()[0])}
    tensors = {}
    if case.moved:
        tensors |= named("initial", saved(model, work / "initial")[0])
        start = model(**batch).last_hidden_state
        if not torch.allclose(start, before, atol=1e-4):
            sys.exit(f"{name}: a new adapter changes the output by {(start - before).abs().max():.2g}")
    fill(model, case)
    case.prepare(model)
    after = model(**batch).last_hidden_state
    adapter, settings = saved(model, work / name)
    read_back(case.base, work / name, batch, after)
    tensors |= named("adapter", adapter)
    tensors |= named("encoder", encoder(model)) | named("projection", projections(model))
    metadata["config"] = json.dumps(settings, sort_keys=True)
    if case.moved:
        adapter, settings = saved(model, work / "converted", work / "initial")
        read_back(case.base, work / "converted", batch, after)
        tensors |= named("converted", adapter)
        metadata["converted_config"] = json.dumps(settings, sort_keys=True)
    tensors |= named("inputs", {key: tensor.int() for key, tensor in batch.items()})
    tensors |= named("outputs", {"last_hidden_state": after})
    versions = {module.__name__: module.__version__ for module in (peft, transformers, torch, safetensors)}
    metadata["versions"] = json.dumps(versions, sort_keys=True)
    write(FOLDER / f"{name}.safetensors", tensors, metadata)
    change = (after[:, -max(LENGTHS) :] - before)[batch["attention_mask"].bool()].abs().mean()
    if change < 0.05:
        sys.exit(f"{name}: the adapter changes the output by {change:.2g} only")


def classifier(name: str, base: str) -> torch.nn.Module:
    """Returns a classifier on a tiny checkpoint, with a head large enough to affect the logits."""
    kind = "SequenceClassification" if name.startswith("text") else "TokenClassification"
    torch.manual_seed(3)
    made = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(
        HERE / base, num_labels=len(LABELS), dtype=torch.float32
    )
    generator = torch.Generator().manual_seed(3)
    for key, parameter in made.named_parameters():
        if "classifier" in key:
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return made.eval()


def texts(base: str) -> dict[str, torch.Tensor]:
    tokenizer = tokenizers.Tokenizer.from_file(str(HERE / base / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding(pad_id=PADDING.get(base, 0))
    encodings = tokenizer.encode_batch(TEXTS)
    found = {"input_ids": [e.ids for e in encodings], "attention_mask": [e.attention_mask for e in encodings]}
    return {key: torch.tensor(value) for key, value in found.items()}


def answer(model: PeftModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Returns the logits. PEFT does not detect that BERT accepts a prefix, so this passes it directly."""
    if model.active_peft_config.peft_type != "PREFIX_TUNING":
        return model(**batch).logits
    rows, mask = len(batch["input_ids"]), batch["attention_mask"]
    before = torch.ones(rows, model.active_peft_config.num_virtual_tokens, dtype=mask.dtype)
    given = {"input_ids": batch["input_ids"], "attention_mask": torch.cat([before, mask], dim=1)}
    return model.base_model(**given, past_key_values=model.get_prompt(rows)).logits


def make_folder(name: str, case: Case) -> dict[str, torch.Tensor]:
    """Writes an adapter of a classifier as PEFT does, and returns the classifier's logits."""
    torch.manual_seed(1)
    kind = "SEQ_CLS" if name.startswith("text") else "TOKEN_CLS"
    config = getattr(peft, f"{case.method}Config")(task_type=kind, **case.settings)
    model = get_peft_model(classifier(name, case.base), config).eval()
    fill(model, case)
    case.prepare(model)
    folder = HERE / "peft_folders" / name
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = f"tests/reference/{case.base}"
    for key in ("target_modules", "feedforward_modules"):
        if isinstance(settings.get(key), list):
            settings[key].sort()
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    batch = texts(case.base)
    logits = answer(model, batch)
    again = answer(PeftModel.from_pretrained(classifier(name, case.base), folder).eval(), batch)
    if not torch.allclose(logits, again, atol=1e-4):
        sys.exit(f"{name}: read back, the logits differ by {(logits - again).abs().max():.2g}")
    return {
        name: logits,
        f"ids/{case.base}": batch["input_ids"].int(),
        f"mask/{case.base}": batch["attention_mask"].int(),
    }


def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    with torch.no_grad(), tempfile.TemporaryDirectory() as work:
        for name in names or CASES:
            make(name, CASES[name], Path(work))
        if not names:
            logits = {}
            for name, case in FOLDERS.items():
                logits |= make_folder(name, CASES[case])
            metadata = {"texts": json.dumps(TEXTS), "labels": json.dumps(LABELS)}
            write(HERE / "peft_folders" / "logits.safetensors", logits, metadata)


if __name__ == "__main__":
    main(sys.argv[1:])
