"""A model's tokenizer: loaded without foreign code, with a pad token, and no longer than it may.

Invariants: every id the tokenizer can give has a row in the embeddings; `pad_token_id` is set on
            the tokenizer and on the configuration, and equal; a model that was trained to tell the
            two texts of a pair apart by `token_type_ids` is given them.
Not here:   turning records into token ids (`tasks/`).
"""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from lightune.errors import MissingExtra, ModelError
from lightune.models.folder import read_json
from lightune.models.quiet import quiet

NO_LIMIT = 1_000_000
"""The longest text of a model that declares no limit (relative positions, such as T5's)."""

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "spm.model",
    "source.spm",
)


def load_tokenizer(folder: Path, config: PreTrainedConfig) -> Any:
    """Load the tokenizer of a model's folder.

    Raises:
        ModelError: the folder has none, or it cannot be read.
        MissingExtra: it needs a package that is not installed (SentencePiece …).
    """
    if not any((folder / name).is_file() for name in _FILES):
        raise ModelError(
            f"{folder}: there is no tokenizer",
            found=", ".join(sorted(path.name for path in folder.iterdir())[:8]),
            mend="copy tokenizer.json and tokenizer_config.json beside the weights",
        )
    try:
        with quiet(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*sacremoses")  # `not_normalised` says it
            if _is_complete(folder):
                return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
            return AutoTokenizer.from_pretrained(
                folder, config=config, local_files_only=True, trust_remote_code=False
            )
    except ImportError as error:
        package = next((p for p in ("sentencepiece", "tiktoken") if p in str(error).lower()), "")
        raise MissingExtra(
            f"{folder}: the tokenizer needs a package that is not installed",
            found=package or str(error).strip().splitlines()[0],
            mend=f"pip install {package or 'sentencepiece tiktoken protobuf'}",
        ) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{folder}: the tokenizer cannot be read",
            found=f"{type(error).__name__}: {error}"[:300],
            mend="fetch the model again, or copy the tokenizer files of the model it came from",
        ) from None


def not_normalised(tokenizer: Any) -> list[str]:
    """Return a note where a tokenizer cannot do all that it did when its model was trained."""
    if hasattr(tokenizer, "punc_normalizer") and find_spec("sacremoses") is None:
        return ["punctuation is read as it stands: `pip install sacremoses` evens it out"]
    return []


def _is_complete(folder: Path) -> bool:
    """Say whether tokenizer.json tells everything, so that no class need be guessed.

    For some architectures (Qwen2) `AutoTokenizer` puts the family's own splitting and end tokens in
    place of those in the file, so that a tokenizer made by the user would give other ids.
    """
    settings, core = folder / "tokenizer_config.json", folder / "tokenizer.json"
    if not (settings.is_file() and core.is_file()):
        return False
    generic = ("TokenizersBackend", "PreTrainedTokenizerFast")
    return read_json(settings).get("tokenizer_class") in generic


def complete_segments(tokenizer: Any, config: PreTrainedConfig) -> list[str]:
    """Let the tokenizer say which of two texts a token is of, where the model reads that.

    A generic tokenizer class (`PreTrainedTokenizerFast`) leaves `token_type_ids` out unless its
    settings ask for them; BERT would then read a pair as one text. Returns a note if so.
    """
    kinds = getattr(config, "type_vocab_size", None) or 0
    names = list(tokenizer.model_input_names)
    if kinds < 2 or "token_type_ids" in names:
        return []
    pair = tokenizer("a", "a", return_token_type_ids=True).get("token_type_ids") or [0]
    if max(pair) == 0 or max(pair) >= kinds:
        return []
    tokenizer.model_input_names = [*names, "token_type_ids"]
    return ["the tokenizer's settings leave out which of two texts a token is of: it is added"]


def complete_pad(tokenizer: Any, config: PreTrainedConfig) -> list[str]:
    """Give tokenizer and configuration one pad token; return notes of what was set.

    A decoder without one pads with its end token, else with its unknown token: padding is masked,
    and the classifier reads the last token that is not padding.

    Raises:
        ModelError: there is no token that could serve.
    """
    notes = []
    if tokenizer.pad_token is None:
        chosen = tokenizer.eos_token or tokenizer.unk_token
        if chosen is None:
            raise ModelError(
                "the tokenizer has no pad token, and no end or unknown token to pad with",
                found=f"special tokens: {tokenizer.special_tokens_map}",
                mend="set `pad_token` in the model's tokenizer_config.json",
            )
        tokenizer.pad_token = chosen
        notes.append(f"the model has no pad token: texts are padded with {chosen!r}")
    if config.pad_token_id != tokenizer.pad_token_id:
        if config.pad_token_id is not None:
            notes.append(
                f"the configuration's pad token {config.pad_token_id} is not the tokenizer's: "
                f"{tokenizer.pad_token_id} is used"
            )
        config.pad_token_id = tokenizer.pad_token_id
    return notes


def check_fit(tokenizer: Any, model: PreTrainedModel) -> None:
    """Refuse a tokenizer that can give ids the embeddings have no row for.

    Raises:
        ModelError: the two do not belong together.
    """
    rows, largest = (
        model.get_input_embeddings().weight.shape[0],
        max(tokenizer.get_vocab().values()),
    )
    if largest >= rows:
        raise ModelError(
            "the tokenizer does not belong to this model",
            found=f"token ids up to {largest}, embeddings for {rows}",
            mend="use the tokenizer files that came with the weights",
        )


def longest(model: PreTrainedModel, tokenizer: Any) -> tuple[int, list[str]]:
    """Return the most tokens a text may have, special tokens included, and notes."""
    limits = [int(tokenizer.model_max_length)]
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        limits.append(positions - _position_offset(model, positions))
    least = min(limits)
    if least >= NO_LIMIT:
        return NO_LIMIT, ["the model declares no longest text"]
    return least, []


def _position_offset(model: PreTrainedModel, positions: int) -> int:
    """Return how many rows of the position table are never a token's place.

    RoBERTa and its kin count positions from `padding_idx + 1`; their table says so.
    """
    for module in model.modules():
        table = isinstance(module, nn.Embedding) and module.num_embeddings == positions
        if table and module.padding_idx is not None and module is not model.get_input_embeddings():
            return module.padding_idx + 1
    return 0
