"""Tiny random models of every family, and a tiny tokenizer, for tests that need no network.

    model, tokenizer = FAMILIES["bert"](HeadSpec("sequence_classification", ("no", "yes")), 0)
    folder = save_tiny(tmp_path / "m", "bert")        # a base checkpoint, to load by its path

Two blocks of width 32, texts up to 128 tokens, each family with the quirks of its real ones:
RoBERTa's position offset, GPT-2's Conv1D, ALBERT's shared block, grouped keys, no pad token in
decoders (set by `FAMILIES`, missing in `save_tiny`).

To add a family, add one line to `CONFIGS`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, PreTrainedConfig, PreTrainedTokenizerFast

from lightune.models.heads import auto_class, configure
from lightune.models.quiet import quiet
from lightune.models.tokenizer import complete_pad
from lightune.types import HeadSpec

MAX_LENGTH = 128
_VOCABULARY = 400
_TEXT = (
    "the film is good and a great joy to watch",
    "a bad dull boring film that is not worth your time",
    "free prize call now to win cash, text back to stop",
    "see you at home later, what time are you coming",
    "the market shares of the company rose after the report",
    "这 部 电影 很 好 看 , 非常 喜欢",
)

_DECODER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
_HEADS = {"num_attention_heads": 4}
_GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
_ENCODER = _DECODER | _HEADS
_T5 = {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4}
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}

CONFIGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "cls", _ENCODER),
    "distilbert": (
        "DistilBertConfig",
        "cls",
        {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
    ),
    "roberta": ("RobertaConfig", "roberta", _ENCODER),
    "albert": ("AlbertConfig", "cls", _ENCODER | {"embedding_size": 16}),
    "electra": ("ElectraConfig", "cls", _ENCODER | {"embedding_size": 16}),
    "deberta": (
        "DebertaV2Config",
        "cls",
        _ENCODER
        | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16},
    ),
    "modernbert": ("ModernBertConfig", "cls", _ENCODER | {"global_attn_every_n_layers": 2}),
    "gpt2": ("GPT2Config", "decoder", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
    "llama": ("LlamaConfig", "decoder", _DECODER | _GROUPED),
    "qwen2": (
        "Qwen2Config",
        "decoder",
        _DECODER | {"num_attention_heads": 4, "num_key_value_heads": 2},
    ),
    "qwen3": ("Qwen3Config", "decoder", _DECODER | _GROUPED),
    "gemma": ("GemmaConfig", "decoder", _DECODER | _GROUPED),
    "mistral": ("MistralConfig", "decoder", _DECODER | _GROUPED),
    "phi3": (
        "Phi3Config",
        "decoder",
        _DECODER | {"num_attention_heads": 4, "num_key_value_heads": 2},
    ),
    "gpt_neox": ("GPTNeoXConfig", "decoder", _DECODER | _HEADS),
    "t5": ("T5Config", "seq2seq", _T5),
    "bart": ("BartConfig", "seq2seq", BART),
}
"""`{family: (class of its config, kind of its tokenizer, its sizes)}`."""

_SPECIAL = {
    "cls": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "roberta": {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"},
    "decoder": {"unk": "<unk>", "bos": "<s>", "eos": "</s>"},
    "seq2seq": {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"},
}


def tiny_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer that can encode any text; built in milliseconds.

    Args:
        kind: `cls`, `roberta`, `decoder` (without a pad token) or `seq2seq`.
    """
    special = _SPECIAL[kind]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY - 8,
        special_tokens=list(special.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_TEXT * 4, trainer)
    template = {
        "cls": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
        "roberta": ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
        "decoder": ("<s> $A", "<s> $A $B"),
        "seq2seq": ("$A </s>", "$A $B </s>"),
    }[kind]
    ids = [(token, core.token_to_id(token)) for token in special.values()]
    core.post_processor = processors.TemplateProcessing(
        single=template[0], pair=template[1], special_tokens=ids
    )
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"]
        if kind == "cls"
        else names,
        **{f"{name}_token": token for name, token in special.items()},
    )


def tiny_config(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """Return the tiny configuration of `family`, its special ids taken from the tokenizer."""
    class_name, kind, sizes = CONFIGS[family]
    ids: dict[str, Any] = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id")
        for name in (
            ("bos", "eos", "pad", "cls", "sep") if kind == "cls" else ("bos", "eos", "pad")
        )
    }
    if kind == "seq2seq":
        ids |= {"decoder_start_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    if family != "t5":  # T5 has relative positions and no such field
        offset = tokenizer.pad_token_id + 1 if kind == "roberta" else 0
        ids["max_position_embeddings"] = MAX_LENGTH + offset
    return getattr(transformers, class_name)(vocab_size=_VOCABULARY, **sizes, **ids)


def build(family: str, head: HeadSpec, seed: int = 0) -> tuple[Any, PreTrainedTokenizerFast]:
    """Return a random model with `head`, frozen and in eval mode, and its tokenizer.

    The global random state is left as it was.

    Raises:
        ModelError: the family has no such head.
    """
    tokenizer = tiny_tokenizer(CONFIGS[family][1])
    config = tiny_config(family, tokenizer)
    auto = auto_class(config, head)
    configure(config, head)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = auto.from_config(config)
    complete_pad(tokenizer, model.config)
    return model.eval().requires_grad_(False), tokenizer


def save_tiny(folder: Path, family: str, head: HeadSpec | None = None, seed: int = 0) -> Path:
    """Write a random checkpoint of `family` that `load` takes; return its folder.

    Args:
        head: saved with the model; None saves the base alone, so that a head must be created.
    """
    tokenizer = tiny_tokenizer(CONFIGS[family][1])
    if head is None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = AutoModel.from_config(tiny_config(family, tokenizer))
    else:
        model, _ = build(family, head, seed)
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def _builder(family: str) -> Callable[..., tuple[Any, PreTrainedTokenizerFast]]:
    return lambda head, seed=0: build(family, head, seed)


FAMILIES = {name: _builder(name) for name, entry in CONFIGS.items() if entry[1] != "seq2seq"}
"""`{family: function (head, seed) -> (model, tokenizer)}`: encoders and decoders."""

ENCODER_DECODERS = {
    name: _builder(name) for name, entry in CONFIGS.items() if entry[1] == "seq2seq"
}
"""The same for encoder–decoders. Their classifiers want every text to end with `</s>`."""
