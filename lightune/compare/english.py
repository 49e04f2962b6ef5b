"""What a report says, in English; `chinese.py` has the same keys."""

TEXTS = {
    "title": "Comparison: {task}",
    "answer": "The answer",
    "scores": "How good each is",
    "matrix": "Every pair",
    "pairs_in_words": "All pairs in words",
    "front": "What it costs to be good",
    "curves": "How much data is enough",
    "classes": "Class by class",
    "cost": "Costs",
    "choices": "What a setting costs and brings",
    "method": "How this was computed",
    "notes": "To be known",
    "contender": "contender",
    "baseline": "baseline",
    "interval": "95 % interval",
    "trials": "trainings",
    "class": "class",
    "records": "records",
    "one": "first",
    "other": "second",
    "difference": "lead of the first",
    "adjusted": "p, all pairs",
    "detectable": "detectable",
    "verdict": "verdict",
    "seconds": "training time",
    "trained_weights": "trained weights",
    "adapter_bytes": "adapter",
    "peak_memory": "peak memory",
    "latency": "one record",
    "throughput": "records per second",
    "size": "training records",
    "value": "value",
    "other_tests": "other tests",
    "corrected_t": "corrected t",
    "bootstrap": "bootstrap",
    "mcnemar": "McNemar",
    "randomisation": "randomisation",
    "better": "better",
    "worse": "worse",
    "equivalent": "equal within {margin}",
    "same": "the same predictions",
    "undecided": "no detectable difference",
    "and": " and ",
    "comma": ", ",
    "to": "{low} to {high}",
    "points": "{number} points",
    "point": "{number} point",
    "lower_is_better": "{metric} (lower is better)",
    "one_only": "Only one contender was tried: {best}, with {metric} {value} ({interval}).",
    "crowned": "{best} is the best of {count}: {metric} {value} ({interval}), and the lead over "
    "every other contender is real. It leads {second} by {difference} ({apart}).",
    "crowned_baseline": "It is a baseline: on these records fine-tuning did not pay.",
    "no_winner": "No winner can be named: {best} has the best mean, {metric} {value} ({interval}), "
    "but no detectable difference sets it apart from {others}.",
    "trained_once": "No winner can be named: {best} has the best mean, {metric} {value} "
    "({interval}), but one training each decides nothing, and {others} may be as good. Train with "
    "several seeds, or on folds.",
    "once": "Between {best} and {others} one training each decides nothing.",
    "unseen": "A true difference of {detectable} would probably have been found; a smaller one may "
    "be there.",
    "blind": "This comparison could have shown no difference at all: it needs more folds, seeds or "
    "records.",
    "beyond": "more than there can be",
    "baseline_leads": "Only a baseline, yet nothing was shown to be better: {baselines}. That "
    "fine-tuning pays was not shown here.",
    "cheapest": "Of these, {best} trains fastest ({seconds} each time).",
    "equals": "{one} and {other} are equally good within {margin}.",
    "sames": "{one} and {other} predicted the same.",
    "over_baseline": "Against the best baseline, {baseline}, {best} is better by {difference} "
    "({apart}).",
    "not_over_baseline": "That it is better than the best baseline, {baseline}, was not shown "
    "(lead {difference}, {apart}).",
    "needs": "Not decided within the time given; about {minutes} more minutes are needed.",
    "undecided_in_time": "Not decided within the time given; how much longer it takes cannot be "
    "told.",
    "untried": "Not tried, for want of time: {contenders}.",
    "untrainable": "{contender} could not be trained, and is left out: {why}.",
    "pair_better": "{one} is better than {other}, by {difference} ({apart}; p {p}).",
    "pair_equivalent": "{one} and {other} are equally good within {margin} (difference "
    "{difference}, {apart}).",
    "pair_same": "{one} and {other} predicted the same.",
    "pair_undecided": "{one} and {other}: no detectable difference ({difference}, {apart}; a "
    "difference of {detectable} could have been detected).",
    "pair_once": "{one} and {other}: one training each decides nothing (difference {difference}, "
    "{apart}).",
    "pair_unknown": "{one} and {other} were never tried on the same records.",
    "scores_caption": "Mean over {folds} folds, {records} test records; the line is the 95 % "
    "interval. Intervals that overlap do not mean that there is no difference: see the pairs.",
    "matrix_caption": "How much better the row is than the column. ▲ better, ▼ worse, ≈ equal "
    "within {margin}, = the same, · no detectable difference.",
    "front_caption": "Up and left is better. The line joins those that nothing beats at as low a "
    "cost.",
    "not_drawn": "Not drawn, being far off: {contenders}.",
    "curves_caption": "Mean and 95 % interval by training records.",
    "classes_caption": "F1 of each class, folds and seeds together.",
    "classes_cut": "The {shown} largest of {count} classes; all are in report.json.",
    "cost_caption": "Measured on this machine. ★: nothing else is as good and as cheap in this. "
    "Peak memory is that of the whole process, with what earlier trainings left in it.",
    "choice_caption": "{setting}, all else equal ({among})",
    "note_undefined": "{metric} of {contender} is undefined in {trials} of its trainings; they are "
    "left out.",
    "note_one_seed": "Each contender was trained with one seed, so that the chance of training is "
    "seen through the folds alone, and intervals are wider for it. More seeds narrow them.",
    "note_one_training": "Each contender was trained once: a difference may be that of these two "
    "trainings and is not decided. Train with several seeds, or on folds.",
    "note_fewer_folds": "{contenders}: judged on fewer than {folds} folds. Their means are of "
    "these alone; ranks and pairs allow for it.",
    "note_fewer_seeds": "{contenders}: trained under fewer seeds than others, on some folds.",
    "note_unjudged": "{contenders}: nothing to judge.",
    "note_dropped": "{contender} was shown to be worse and dropped after round {round}.",
    "tuned": "{contender} chose inside each training part: {values}.",
    "how_design": "Every contender was trained and tested on the same parts of the same {records} "
    "records ({folds} folds, {seeds} seeds at most), and no score has seen its own test. Scores "
    "and pairs are of {size} training records.",
    "how_interval": "A mean's 95 % interval, and a difference's, count three things: which records "
    "were tested (jackknife over records or their groups), the chance of training (how seeds "
    "differ), and how folds differ, with Nadeau and Bengio's correction for training sets that "
    "overlap. Student's t with Satterthwaite's degrees of freedom.",
    "how_holm": "p-values hold for all {pairs} pairs together (Holm): if no contender differs from "
    "another, the chance that any is called better is 5 % or less in simulations with learners "
    "that are equal by construction; learners that hardly beat guessing can exceed it. A "
    "verdict needs a p below {alpha}.",
    "how_equivalence": "Equal within {margin}: two one-sided tests reject a difference of that "
    "much or more, for all pairs together (Holm).",
    "how_detectable": "Detectable: the true difference that is found with a probability of 80 % "
    "at this noise.",
    "how_others": "Other tests stand beside it and do not decide: the corrected resampled t-test "
    "over folds (Nadeau and Bengio 2003), a bootstrap over records, and on the first seed "
    "McNemar's exact test where records are right or wrong, else approximate randomisation.",
    "how_limits": "It holds for records like these, training sets of this size and these settings.",
    "files": "All numbers: report.json, scores.csv, pairs.csv. Made with Lightune {version}.",
    "all": "all",
    "log_scale": "{name}, logarithmic",
}

METRICS = {
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "weighted_f1": "weighted F1",
    "f1": "F1",
    "roc_auc": "ROC-AUC",
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "MAE",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "matthews": "Matthews correlation",
}
"""Others are said with blanks for underscores."""

NAMES: dict[str, str] = {}
"""Baselines' names as this language has them."""
