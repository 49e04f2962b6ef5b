"""Write what AdapterHub's `adapters` 1.3 computes, as fixtures that the tests compare with.

Why:        `adapters` needs Transformers 4.57 and cannot be installed beside this project, so it
            runs once, in an environment of its own that this script makes in a temporary folder
            (it downloads about 300 MB), and leaves a few small files.
Makes:      adapterhub/<family>/              config.json and model.safetensors of a random base
            adapterhub/<family>/<method>/     the adapter folder as `save_adapter` writes it
                expected.safetensors          input ids, mask, logits, and the gradients of the
                                              sum of squared logits to the adapter's weights
Run:        python tests/oracles/make_adapterhub_fixtures.py [--python OTHER/bin/python]
            with `--python`, that environment is used, which must have `adapters` and safetensors.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

OUT = Path(__file__).with_name("adapterhub")
PACKAGES = ("adapters==1.3.0", "torch==2.13.0", "safetensors", "numpy")

WIDTHS = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
ENCODER = {**WIDTHS, "num_attention_heads": 2, "vocab_size": 20, "max_position_embeddings": 16}
BART = {
    "vocab_size": 20,
    "d_model": 8,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 12,
    "decoder_ffn_dim": 12,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
FAMILIES = {
    "bert": ("BertForSequenceClassification", ENCODER),
    "roberta": ("RobertaForSequenceClassification", {**ENCODER, "pad_token_id": 0}),
    "electra": ("ElectraForSequenceClassification", {**ENCODER, "embedding_size": 6}),
    "deberta": (
        "DebertaV2ForSequenceClassification",
        {**ENCODER, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "distilbert": (
        "DistilBertForSequenceClassification",
        {
            "vocab_size": 20,
            "dim": 8,
            "hidden_dim": 12,
            "n_layers": 2,
            "n_heads": 2,
            "max_position_embeddings": 16,
        },
    ),
    "albert": ("AlbertForSequenceClassification", {**ENCODER, "embedding_size": 6}),
    "gpt2": (
        "GPT2ForSequenceClassification",
        {
            "vocab_size": 20,
            "n_embd": 8,
            "n_inner": 12,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": 16,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
    "llama": (
        "LlamaForSequenceClassification",
        {**ENCODER, "num_key_value_heads": 1, "pad_token_id": 0},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        {
            "vocab_size": 20,
            "d_model": 8,
            "d_ff": 12,
            "d_kv": 4,
            "num_layers": 1,
            "num_decoder_layers": 2,
            "num_heads": 2,
            "decoder_start_token_id": 0,
        },
    ),
    "bart": ("BartForSequenceClassification", BART),
}
BOTTLENECKS = {
    "double_seq_bn": {"reduction_factor": 4},
    "seq_bn": {"reduction_factor": 4},
    "par_bn": {"reduction_factor": 4},
}
PREFIXES = {
    "prefix_flat": {"prefix_length": 3, "flat": True},
    "prefix_mlp": {"prefix_length": 3, "flat": False, "bottleneck_size": 4},
}
WITH_PREFIX = ("bert", "gpt2", "llama")
WITH_HEAD = ("bert", "gpt2")
MORE = {
    "bert": {
        "learned": ("seq_bn", {"reduction_factor": 4, "scaling": "learned"}),
        "channel": ("double_seq_bn", {"reduction_factor": 4, "scaling": "channel"}),
    },
    "bart": {"cross": ("double_seq_bn", {"reduction_factor": 4, "cross_adapter": True})},
}
ALBERT_LEFT_OUT = "double_seq_bn"  # there `adapters` 1.3 swaps the residual and the output


def inputs(torch, family: str) -> dict:
    """Two rows, the second padded (decoders on the right, as here all are)."""
    ids = torch.tensor([[5, 9, 13, 7, 3, 2], [8, 6, 11, 2, 0, 0]])
    batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    if family == "t5":
        batch["decoder_input_ids"] = torch.tensor([[0, 4, 9], [0, 7, 5]])
    return batch


def write(family: str) -> None:
    """Write one family's base and adapters. Runs in the environment that has `adapters`."""
    import adapters
    import torch
    import transformers
    from adapters import AdapterConfig, PrefixTuningConfig
    from safetensors.torch import save_file

    class_name, settings = FAMILIES[family]
    cls = getattr(transformers, class_name)
    configs = {name: AdapterConfig.load(name, **more) for name, more in BOTTLENECKS.items()}
    for name, (base, more) in MORE.get(family, {}).items():
        configs[name] = AdapterConfig.load(base, **more)
    if family in WITH_PREFIX:
        configs |= {name: PrefixTuningConfig(**more) for name, more in PREFIXES.items()}
    if family == "albert":
        del configs[ALBERT_LEFT_OUT]
    torch.manual_seed(0)
    plain = cls(cls.config_class(**settings, num_labels=3)).eval()
    with torch.no_grad():
        for parameter in plain.parameters():  # norms and biases would be ones and zeros
            parameter.add_(0.2 * torch.randn_like(parameter))
    folder = OUT / family
    folder.mkdir(parents=True)
    state = {name: t.detach().clone().contiguous() for name, t in plain.state_dict().items()}
    save_file(unshared(state), folder / "model.safetensors", metadata={"format": "pt"})
    values = {"class": class_name, "settings": {**settings, "num_labels": 3}}
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
    for name, config in configs.items():
        model = cls(cls.config_class(**settings, num_labels=3))
        model.load_state_dict(state)
        adapters.init(model)
        model.add_adapter("oracle", config=config)
        model.train_adapter("oracle")
        model.eval()
        torch.manual_seed(1)
        trained = {
            path: p
            for path, p in model.named_parameters(remove_duplicate=False)
            if ".oracle." in path and ".pool." not in path and p.requires_grad
        }
        with torch.no_grad():
            for path in sorted(trained):
                trained[path].copy_(0.4 * torch.randn_like(trained[path]))
        batch = inputs(torch, family)
        logits = model(**batch).logits
        logits.square().sum().backward()
        target = folder / name
        headed = family in WITH_HEAD and name in BOTTLENECKS
        shared = name in PREFIXES  # every layer names the one pool, which safetensors refuses
        model.save_adapter(str(target), "oracle", use_safetensors=not shared, with_head=headed)
        if shared:
            pickle = target / "pytorch_adapter.bin"
            weights = torch.load(pickle, weights_only=True)
            save_file(pooled(weights), target / "adapter.safetensors")
            pickle.unlink()
        expected = {**batch, "logits": logits.detach()}
        expected |= {f"grad.{path}": p.grad for path, p in trained.items() if p.grad is not None}
        save_file({k: t.contiguous() for k, t in expected.items()}, target / "expected.safetensors")


def pooled(weights: dict) -> dict:
    """Leave out each layer's own name for the pool of prefixes."""
    return {k: t.contiguous() for k, t in weights.items() if ".pool." not in k}


def unshared(state: dict) -> dict:
    """Drop the second names of tied tensors, which safetensors refuses."""
    seen: set[int] = set()
    return {k: t for k, t in state.items() if not (t.data_ptr() in seen or seen.add(t.data_ptr()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="an environment that has `adapters` already")
    parser.add_argument("--family", help="write this one, in this very environment")
    options = parser.parse_args(namespace=SimpleNamespace())
    if options.family:
        write(options.family)
        return
    if OUT.exists():
        sys.exit(f"{OUT} exists: remove it first, so that nothing old is left between new files")
    with tempfile.TemporaryDirectory() as temporary:
        python = options.python
        if python is None:
            subprocess.run([sys.executable, "-m", "venv", temporary], check=True)
            python = str(Path(temporary, "bin", "python"))
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        for family in FAMILIES:
            subprocess.run([python, __file__, "--family", family], check=True)


if __name__ == "__main__":
    main()
