"""P-tuning against PEFT's prompt encoder, weight by weight; only what it makes is saved."""

import copy

import pytest
import torch

from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import HeadId, Manifest, describe_method
from lightune.adapters.save import save_adapter
from lightune.adapters.tensors import header
from lightune.methods.beside import train_new_modules
from lightune.methods.p_tuning import PTuning
from lightune.models.tiny import FAMILIES
from lightune.types import HeadSpec
from tests.methods.prompted import IDS, assert_gradients_are_those_of_peft

HEAD = HeadSpec("sequence_classification", ("no", "yes"))
MASK = torch.ones_like(IDS)
READS = {"bert": "prompt", "llama": "text"}
HEADS = {"bert": "classifier", "llama": "score"}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("family", READS)
@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_output_and_gradients_match_peft(family, encoder):
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    model = FAMILIES[family](HEAD, 0)[0]
    config = peft.PromptEncoderConfig(
        task_type="SEQ_CLS", num_virtual_tokens=3, encoder_hidden_size=8,
        encoder_reparameterization_type=encoder.upper(),
    )  # fmt: skip
    oracle = peft.get_peft_model(copy.deepcopy(model), config).eval()
    theirs = oracle.prompt_encoder["default"]
    method = PTuning(tokens=3, encoder=encoder, hidden=8, reads=READS[family])
    part = method.attach(model)
    pairs = []
    for path, mine in part.trainable.items():
        inner = path.partition(".prompt.")[2]
        name = {"weight": "embedding.weight"}.get(inner, inner)
        name = name.replace("layers.", "mlp_head.").replace("lstm.", "lstm_head.")
        other = theirs.get_parameter(name)
        mine.data = other.detach().clone()
        pairs.append((mine, other))
    assert len(pairs) == len(list(theirs.parameters()))
    outputs = [m(input_ids=IDS, attention_mask=MASK).logits for m in (model, oracle)]
    assert_gradients_are_those_of_peft(outputs, pairs)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("reads", ["prompt", "text"])
@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_only_the_vectors_are_saved_and_they_are_what_was_trained(encoder, reads, tmp_path):
    plain = FAMILIES["bert"](HEAD, 0)[0]
    model = copy.deepcopy(plain)
    method = PTuning(tokens=3, encoder=encoder, hidden=8, reads=reads)
    beside = train_new_modules(model, ["classifier"])
    parts = [method.attach(model), beside]
    manifest = Manifest(
        method=describe_method(method), head=HeadId(kind="sequence_classification", labels=("a",))
    )
    save_adapter(tmp_path / "a", model, parts, manifest)
    weights = header(tmp_path / "a" / "adapter_model.safetensors")
    name = "prompt_embeddings" if reads == "prompt" else "bert.prompt.weight"
    assert {n: s for n, s in weights.items() if "classifier" not in n} == {name: (3, 32)}
    again = copy.deepcopy(plain)
    loaded, manifest = load_adapter(tmp_path / "a", again, None)
    assert manifest.method["encoder"] == encoder
    assert list(loaded[0].trainable) == ["bert.prompt.weight"]
    expected = model(input_ids=IDS, attention_mask=MASK).logits
    torch.testing.assert_close(again(input_ids=IDS, attention_mask=MASK).logits, expected)
    if reads == "prompt":
        peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
        theirs = peft.PeftModel.from_pretrained(plain, str(tmp_path / "a")).eval()
        logits = theirs(input_ids=IDS, attention_mask=MASK).logits
        torch.testing.assert_close(logits, expected)


def test_the_network_stays_float32_in_a_low_precision_plan():
    from lightune.engine.plan import Plan
    from lightune.engine.prepare import prepare

    model = FAMILIES["bert"](HEAD, 0)[0]
    part = PTuning(tokens=3, encoder="lstm", hidden=8).attach(model)
    prepared = prepare(model, Plan(dtype="bfloat16", attention="lightune"))
    assert not prepared.pairs
    assert all(p.dtype is torch.float32 for p in part.trainable.values())
    assert model(input_ids=IDS, attention_mask=MASK).logits.dtype is torch.bfloat16
