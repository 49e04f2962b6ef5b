"""Faults of recipes, data, heads and rates that elsewhere pass in silence."""

import json
from typing import Any

import torch
from fault import fault, refused
from ground import Ground, Outcome, labelled, patched
from safetensors.torch import load_file

from lightune import assembly, pipeline
from lightune.methods.base import methods, train_copies
from lightune.methods.beside import train_new_modules
from lightune.models.tiny import build
from lightune.tasks.base import Task
from lightune.tasks.classification import Classification
from lightune.train.optimizer import Optimizer
from lightune.types import HeadSpec

CLASSES = HeadSpec("sequence_classification", ("neg", "pos"))


# Targets and heads


@fault("one target of two is misspelt", "before", "vlaue", "value")
def _(ground: Ground) -> Outcome:
    return ground.train({"name": "lora", "targets": ["query", "vlaue"]})


@fault("a module to train whole is misspelt", "before", "classifer", "classifier")
def _(ground: Ground) -> Outcome:
    model, _ = build("bert", CLASSES)
    return refused("before", lambda: train_new_modules(model.requires_grad_(False), ["classifer"]))


@fault("two methods on the same layers", "before", "cannot both change the same layers")
def _(ground: Ground) -> Outcome:
    both = [{"name": "lora", "targets": ["query"]}, {"name": "lora_plus", "targets": ["query"]}]
    return ground.train({"name": "combined", "methods": both})


@fault("a method that the model cannot take", "before", "prefix_tuning", "mend")
def _(ground: Ground) -> Outcome:
    return ground.train({"name": "prefix_tuning", "tokens": 4}, model=ground.model("deberta"))


def nothing_beside(model: Any, paths: Any) -> Any:
    return train_copies(model, [], "tensors", [])


@fault("the new head stays frozen and random", "before", "not trained")
def _(ground: Ground) -> Outcome:
    with patched(assembly, "train_new_modules", nothing_beside):
        return ground.train({"name": "lora", "targets": ["query"]})


@fault("the new head gets no more than a low-rank update", "before", "not trained")
def _(ground: Ground) -> Outcome:
    with patched(assembly, "train_new_modules", nothing_beside):
        return ground.train()


@fault("the head's classes are in another order than the data's", "before", "classes")
def _(ground: Ground) -> Outcome:
    attach = assembly._attach

    def turned(given: Any, base: Any, manifest: Any) -> Any:
        base.model.config.id2label = {0: "pos", 1: "neg"}
        return attach(given, base, manifest)

    with patched(assembly, "_attach", turned):
        return ground.train()


@fault("the trained tensors are not in the model", "warning", "no_gradient")
def _(ground: Ground) -> Outcome:
    attach = assembly._attach

    def undone(given: Any, base: Any, manifest: Any) -> Any:
        parts = attach(given, base, manifest)
        for _, module in list(base.model.named_modules()):
            if hasattr(module, "scale") and isinstance(module.scale, float):
                module.scale = 0.0
        return parts

    with patched(assembly, "_attach", undone):
        return ground.train()


@fault("the head is left out of the adapter", "seal", "missing", "classifier.weight")
def _(ground: Ground) -> Outcome:
    save = pipeline.save_adapter

    def without(folder: Any, model: Any, parts: Any, manifest: Any, tokenizer: Any) -> Any:
        return save(folder, model, parts[:1], manifest, tokenizer)

    with patched(pipeline, "save_adapter", without):
        return ground.train()


# Labels and targets


@fault("one class only", "before", "two different labels")
def _(ground: Ground) -> Outcome:
    return ground.train(data=[row | {"label": "pos"} for row in labelled()])


@fault("a class with one row", "before", "'rare'")
def _(ground: Ground) -> Outcome:
    return ground.train(data=[*labelled(), {"text": "a rare one", "label": "rare"}])


@fault("the label column holds texts", "before", "looks like text")
def _(ground: Ground) -> Outcome:
    rows = [{"text": row["label"], "label": f"{row['text']} and more"} for row in labelled()]
    return ground.train(data=rows)


@fault("all labels are masked", "before", "nything to learn")
def _(ground: Ground) -> Outcome:
    def masked(self: Any, examples: Any, state: Any, width: int) -> torch.Tensor:
        return torch.full((len(examples),), -100)

    with patched(Classification, "targets", masked):
        return ground.train()


@fault("some labels are masked", "warning", "targets", "nothing to learn")
def _(ground: Ground) -> Outcome:
    targets = Classification.targets

    def masked(self: Any, examples: Any, state: Any, width: int) -> torch.Tensor:
        found = targets(self, examples, state, width)
        found[[i for i, example in enumerate(examples) if example.index % 5 == 0]] = -100
        return found

    with patched(Classification, "targets", masked):
        return ground.train()


@fault("every label stands one row too low", "warning", "guessing")
def _(ground: Ground) -> Outcome:
    rows = labelled(600)
    labels = [row["label"] for row in rows]
    shifted = [r | {"label": x} for r, x in zip(rows, labels[-1:] + labels, strict=False)]
    return ground.train(data={"train": shifted, "test": 0.5}, max_steps=80)


@fault("the wrong column is read as the text", "warning", "guessing")
def _(ground: Ground) -> Outcome:
    rows = [
        row | {"note": f"{OPENING[i % 5]} {i * 7919 % 1000}"} for i, row in enumerate(labelled(600))
    ]
    task = {"name": "classification", "text": "note", "label": "label"}
    return ground.train(task=task, data={"train": rows, "test": 0.5}, max_steps=80)


OPENING = ("first", "second", "third", "fourth", "fifth")


@fault("a number that is none", "before", "finite")
def _(ground: Ground) -> Outcome:
    rows = [{"text": row["text"], "score": float(i)} for i, row in enumerate(labelled(40))]
    lines = ["text,score", *(f"{row['text']},{row['score']}" for row in rows), "one more,inf"]
    return ground.train(task="regression", data=ground.write("numbers.csv", "\n".join(lines)))


# Texts


@fault("test rows are trained on", "before", "trained on too")
def _(ground: Ground) -> Outcome:
    rows = labelled()
    data = {"train": ground.rows("train", rows), "test": ground.rows("test", rows[:20])}
    return ground.train(data=data)


@fault("test rows are almost as those of train", "warning", "near_duplicates")
def _(ground: Ground) -> Outcome:
    rows = [row | {"text": f"{row['text']} and that is all there is to say"} for row in labelled()]
    near = [row | {"text": f"{row['text']}!"} for row in rows[:40]]
    data = {"train": ground.rows("train", rows), "test": ground.rows("test", near)}
    return ground.train(data=data)


@fault("texts in a language that the model does not know", "warning", "unknown_tokens")
def _(ground: Ground) -> Outcome:
    words = {"neg": "плохой", "pos": "хороший"}
    rows = [
        {"text": f"этот {words[row['label']]} фильм ещё раз {i}", "label": row["label"]}
        for i, row in enumerate(labelled())
    ]
    return ground.train(data={"train": rows, "test": 0.3})


@fault("an encoding read as another", "before", "encoding")
def _(ground: Ground) -> Outcome:
    content = "text,label\n" + "这部电影很好看,好\n剧情拖沓,坏\n" * 20
    return ground.train(data=ground.write("chinese.csv", content.encode("gb18030")))


@fault("most of the texts is cut off", "warning", "truncation")
def _(ground: Ground) -> Outcome:
    return ground.train(max_length=5)


@fault("the model reads the padding", "warning", "padding")
def _(ground: Ground) -> Outcome:
    def without_mask(self: Any, model: Any, batch: Any, state: Any) -> Any:
        inputs = {name: tensor for name, tensor in batch.inputs.items() if name != "attention_mask"}
        return model(**inputs)

    rows = [r | {"text": r["text"] + " so it is" * (i % 6)} for i, r in enumerate(labelled())]
    with patched(Task, "forward", without_mask):
        return ground.train(data={"train": rows, "test": 0.3})


@fault("a chat template that drops answers", "before", "template")
def _(ground: Ground) -> Outcome:
    folder = ground.model("llama-lm", own=True)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config["chat_template"] = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}"
        "{% endfor %}"
    )
    file.write_text(json.dumps(config))
    rows = [{"prompt": f"what is {i}?", "completion": f"it is {i}"} for i in range(30)]
    return ground.train(model=folder, task="instruct", data=rows)


@fault("padding with the end token hides the end from the loss", "no effect", "same adapter")
def _(ground: Ground) -> Outcome:
    rows = [{"prompt": f"what is {i}?", "completion": f"it is {i}" * (i % 3)} for i in range(30)]
    rows = [row for row in rows if row["completion"]]
    adapters = []
    for pad in ("eos_token", "unk_token"):
        folder = ground.model("llama-lm", own=True)
        file = folder / "tokenizer_config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {"pad_token": config[pad]}))
        said = ground.train(model=folder, task="instruct", data=rows, max_steps=6)
        if any(where != "warning" for where, _ in said):
            return said
        adapters.append(load_file(ground.out / "adapter" / "adapter_model.safetensors"))
    same = all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
    return [("no effect", "same adapter")] if same else []


# Rates and steps


@fault("a learning rate 1,000 times too high", "warning", "learning_rate", "times")
def _(ground: Ground) -> Outcome:
    return ground.train(learning_rate=1000 * methods()["lora"].learning_rate)


@fault("a learning rate far too low", "warning", "loss_still")
def _(ground: Ground) -> Outcome:
    return ground.train(learning_rate=1e-9)


@fault("a warm-up as long as the run", "warning", "warmup")
def _(ground: Ground) -> Outcome:
    return ground.train(optimizer={"warmup": 100})


@fault("an optimiser that does nothing", "seal", "as they were before training")
def _(ground: Ground) -> Outcome:
    with patched(Optimizer, "step", lambda self, rate: None):
        return ground.train()
