"""Who is compared: a recipe for each method, model and value of the grid; and the baselines.

Names:      a contender is called by what sets it apart: its method, the values of the grid
            (`lora rank=2`), and its model where there are several (`lora, minilm`).
Invariants: every contender has the recipe's own settings but for what its name says. Names are
            distinct. A setting of the grid that no method has is a mistake; that some lack it
            leaves these as one contender.
Baselines:  always there, and by the kind of the task: what needs no model (the majority class or
            the mean; TF-IDF with a linear model), what needs no training of the model (a linear
            model on its frozen embeddings), and the model as it is, where it has an output layer
            for the task: one that was drawn at random says nothing of the model.
Errors:     `ConfigErrors` as a recipe's.
Not here:   running them (`trials.py`, `baselines.py`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path, PurePath
from typing import Any

from lightune.compare.spec import CompareSpec
from lightune.errors import ConfigError
from lightune.recipe import Recipe, load_recipe
from lightune.runs.files import to_json
from lightune.settings import keys

MAJORITY, MEAN = "majority class", "mean"
TFIDF, EMBEDDINGS = "TF-IDF + logistic regression", "frozen embeddings + logistic regression"
TFIDF_RIDGE, EMBEDDINGS_RIDGE = "TF-IDF + ridge", "frozen embeddings + ridge"
UNTUNED = "untuned model"
ZERO_SHOT = "zero-shot by label names"


@dataclass(frozen=True)
class Contender:
    """One thing that is compared with the others.

    Attributes:
        name: as reports show it.
        recipe: what it is trained by; of a baseline the task and the model count.
        baseline: which baseline it is; None for a method.
        grid: the values by which it differs from its neighbours, by dotted key.
        choices: recipes among which it chooses inside each training part, with what is chosen;
            empty where nothing is tuned.
    """

    name: str
    recipe: Recipe
    baseline: str | None = None
    grid: Mapping[str, Any] = field(default_factory=dict)
    choices: tuple[tuple[Mapping[str, Any], Recipe], ...] = ()

    def settings(self) -> dict[str, Any]:
        """Return what it is made of, JSON-ready."""
        method = self.recipe.method
        dump = {"name": method.name, **method.model_dump(mode="json")}
        without_model = self.baseline in (MAJORITY, MEAN, TFIDF, TFIDF_RIDGE)
        return {
            "kind": "baseline" if self.baseline else "method",
            "model": None if without_model else self.recipe.model,
            "method": None if self.baseline else dump,
            "grid": to_json(self.grid),
        }


def contenders(recipe: Recipe, spec: CompareSpec) -> list[Contender]:
    """Return every method on every model with every value of the grid, in the order given.

    Raises:
        ConfigErrors: a method, or a value of the grid, is wrong.
        ConfigError: a setting that no method has, or one contender twice.
    """
    methods: Sequence[Any] = spec.methods or [recipe.method]
    models = spec.models or [recipe.model]
    both = [key for key in spec.grid if key in spec.tune]
    if both:
        raise ConfigError(
            f"compare: {both[0]} is in `grid` and in `tune`",
            found=f"grid: {spec.grid[both[0]]}, tune: {spec.tune[both[0]]}",
            mend="keep it in one of them: `grid` makes contenders, `tune` lets each choose",
        )
    made = []
    used: set[str] = set()
    ends = _ends([_place(model) for model in models])
    for model, method in product(models, methods):
        base = load_recipe(recipe, {"model": _place(model), "method": _method(recipe, method)})
        grid = {key: values for key, values in spec.grid.items() if _has(base, key)}
        tune = {key: values for key, values in spec.tune.items() if _has(base, key)}
        used |= {*grid, *tune}
        for values in product(*grid.values()):
            chosen = dict(zip(grid, values, strict=True))
            one = load_recipe(base, chosen) if chosen else base
            choices = [
                dict(zip(tune, combination, strict=True)) for combination in product(*tune.values())
            ]
            made.append(
                Contender(
                    _name(method, chosen, ends[_place(model)] if len(models) > 1 else ""),
                    one,
                    grid=chosen,
                    choices=tuple((c, load_recipe(one, c)) for c in choices) if tune else (),
                )
            )
    for key in [*spec.grid, *spec.tune]:
        if key not in used:
            names = ", ".join(c.recipe.method.name for c in made)
            raise ConfigError(
                f"grid: no contender has a setting {key}",
                found=f"methods: {names}",
                mend="`lightune methods show NAME` lists the settings of a method",
            )
    _check_records(recipe, made)
    _check_names(made)
    return made


def baselines(
    head: str,
    tuned: Sequence[Contender],
    own_heads: Mapping[str, bool],
    writers: Collection[str] = (),
) -> list[Contender]:
    """Return the baselines of a task.

    Args:
        head: the kind of output layer that the task asks for.
        tuned: the contenders beside which they stand.
        own_heads: model -> whether its checkpoint brings that layer.
        writers: models that can be asked for the labels by their names.
    """
    first = tuned[0].recipe
    models = list(dict.fromkeys(contender.recipe.model for contender in tuned))
    by_model = {contender.recipe.model: contender.recipe for contender in reversed(tuned)}
    without = {
        "sequence_classification": (MAJORITY, TFIDF),
        "regression": (MEAN, TFIDF_RIDGE),
    }.get(head, ())
    with_model = {
        "sequence_classification": EMBEDDINGS,
        "regression": EMBEDDINGS_RIDGE,
    }.get(head)
    ends = _ends(models)
    made = [Contender(name, first, name) for name in without]
    for model in models:
        kinds = [with_model] if with_model else []
        kinds += [ZERO_SHOT] if model in writers else []
        kinds += [UNTUNED] if own_heads[model] else []
        for kind in kinds:
            name = f"{kind}, {ends[model]}" if len(models) > 1 else kind
            made.append(Contender(name, by_model[model], kind))
    return made


def _method(recipe: Recipe, method: Any) -> Any:
    """Return a method of the list; one that is only named keeps what the recipe says of it."""
    return recipe.method if method == recipe.method.name else method


def _has(recipe: Recipe, key: str) -> bool:
    """Return whether a recipe has the setting; only that of a method may be missing."""
    section, _, name = key.partition(".")
    return section != "method" or not name or name.partition(".")[0] in keys(type(recipe.method))


def _name(method: Any, grid: Mapping[str, Any], model: str) -> str:
    if isinstance(method, Mapping):
        given = dict(method)
        name = str(given.pop("name", "combined"))
        words = [name, *(f"{key}={_word(value)}" for key, value in given.items())]
    elif isinstance(method, list | tuple):
        words = ["+".join(str(part) for part in method)]
    else:
        words = [getattr(method, "name", str(method))]
    words += [f"{key.rpartition('.')[2]}={_word(value)}" for key, value in grid.items()]
    return " ".join(words) + (f", {model}" if model else "")


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(to_json(value), ensure_ascii=False)


def _ends(models: Sequence[str]) -> dict[str, str]:
    """Return the shortest end of each model's path that no other model's has."""
    found = {}
    for model in models:
        parts = PurePath(model).parts
        ends = [str(PurePath(*parts[-count:])) for count in range(1, len(parts) + 1)]
        others = [f"/{PurePath(other)}" for other in models if other != model]
        alone = (end for end in ends if not any(other.endswith(f"/{end}") for other in others))
        found[model] = next(alone, model)
    return found


def _place(model: str) -> str:
    """Return a model's folder by its full path, which does not depend on where one stands."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def _check_records(recipe: Recipe, made: Sequence[Contender]) -> None:
    """Refuse contenders that would read other records: all are trained and tested on the same."""
    for one in made:
        for said in (one.recipe, *(choice for _, choice in one.choices)):
            if said.task.name != recipe.task.name or said.task.columns() != recipe.task.columns():
                raise ConfigError(
                    f"compare: {one.name} would read other records than the recipe's task",
                    found=f"task: {said.task.name}, columns: {said.task.columns()}",
                    mend="compare columns by a recipe for each; keep them out of `grid` and `tune`",
                )


def _check_names(made: Sequence[Contender]) -> None:
    names = [contender.name for contender in made]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"compare: {twice!r} is named twice", found=", ".join(names), mend="name it once"
        )
