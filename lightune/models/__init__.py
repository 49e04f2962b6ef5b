"""Base models: the catalogue, where their weights come from, how they are loaded, tiny ones.

    name --sources.resolve--> folder of safetensors --load.load--> Base (model, tokenizer, notes)

Importing this package loads nothing; `catalogue` and `sources` need no torch.
"""
