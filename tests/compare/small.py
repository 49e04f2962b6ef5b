"""A comparison of a fraction of a second each: tiny random model, few rows, few steps."""

from small_runs import recipe, rows

from lightune.compare.bench import Bench
from lightune.compare.contenders import Contender
from lightune.compare.folds import stratified
from lightune.compare.trials import Trial
from lightune.data.load import load_splits
from lightune.recipe import load_recipe


def prepared(model, folder, kind="binary", count=40, method="lora", **changes):
    """Return a recipe, a bench with all of its records, and four folds."""
    made = load_recipe(recipe(model, method, data=rows(kind, count), **changes))
    spec = made.data.model_copy(update={"test": 0.0})
    task = made.task
    splits = load_splits(spec, task.fields, task.columns(), multi_label=task.several_labels())
    return made, Bench(splits.train, folder), stratified(splits.train, 4, 0)


def trial(made, fold, number=0, seed=0, name="lora", **changes):
    """Return a trial of one fold."""
    return Trial(Contender(name, made, **changes), number, seed, "all", fold.train, fold.test)
