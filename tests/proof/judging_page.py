"""Write docs/judging.md from what the simulation printed.

    python tests/proof/false_alarms.py > alarms.json
    python tests/proof/judging_page.py alarms.json

The figures are those of the file, nothing is filled in; the sentences are here.
"""

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "judging.md"

TEXT = """\
# How a comparison is judged, and how often that errs

Written by `tests/proof/judging_page.py` from what `tests/proof/false_alarms.py` printed;
`make proof` counts again, and a small part is in `make test`.

A table of means names a winner every time. A comparison here says "better" only where the
evidence holds over all pairs together; else it says that no difference was detectable, and how
large a difference would have been found.

## What is computed

Every metric is a function of how much each test record counts. Leaving a record out shows how far
it moves the metric (the jackknife), for accuracy, F1, BLEU and correlations alike. The variance of
a mean, or of the difference of two contenders on the same folds, has three parts:

| part | from |
|---|---|
| which records were tested | the squared influences of the records, or of their groups |
| the chance of training | how seeds differ within a fold, less what records explain of it |
| what a training set does | how folds differ: few, and their training sets overlap |

With V the first two, F the variance of the mean from the fold means, and \
c = (2K − 1)/(K − 1), the
correction of Nadeau and Bengio (2003) for K folds, the variance taken is the largest of V,
(1 − a) V + a c F, and 0.7 F; a is 0.15 where seeds were repeated and 0.5 where not. Student's t
with Satterthwaite's degrees of freedom gives interval and p-value; those of the records are the
number of records that carry the sum, so that five lucky records are not a proof. Holm's step-down
makes the p-values hold over all pairs together, at 5 %. Two contenders are called equivalent where
two one-sided tests, Holm over all pairs too, reject a difference of one point or more. One
training each decides nothing: the difference may be that of the two trainings.

Beside it stand, and do not decide: the corrected resampled t-test, which sees five numbers; a
bootstrap over records and McNemar's test or approximate randomisation, which know nothing of the
chance of training.

## How often it errs

{comparisons:,} comparisons of each kind, four contenders (six pairs), five folds unless said,
judged by the package's own code. "Learners" are linear discriminants really trained in every fold,
each on features of its own, drawn alike: equal by construction. "Scores" are right or wrong by a
random variable, and each training moves its whole fold by a random step.

| no contender differs | any called better | 95 % intervals that hold 0 | by a plain t-test over \
trainings | by the corrected t-test | by McNemar |
|---|---|---|---|---|---|
{null}

Called better: any of the six pairs, Holm over the six, by each test. What a report calls
detectable, {planted:.1%} of accuracy there (1,000 records, three seeds, six pairs), was planted as
a true difference and found in {found:.0%} of the comparisons; computed are {computed:.0%}.

## What it does not cover

- Learners that hardly beat guessing on few records differ more between training sets than five
  folds can show: any is called better in {beyond:.0%} of such comparisons (200 records, accuracy
  between 50 and 60 %).
- One data set is one draw. What another draw of training records would do to all folds alike
  cannot be seen in it.
- A share near 0 or 1 on few records has an interval that is cut at the end of the scale.
"""


def page(counted: dict[str, Any]) -> str:
    """Return the page."""
    rows = [
        f"| {name} | **{numbers['false_alarms']:.1%}** | {numbers['coverage']:.1%} | "
        + " | ".join(f"{share:.1%}" for share in numbers["false_alarms_by"].values())
        + " |"
        for name, numbers in counted["null"].items()
    ]
    first = next(iter(counted["null"].values()))
    beyond = next(iter(counted["beyond"].values()))["false_alarms"]
    figures = {"comparisons": first["comparisons"], "null": "\n".join(rows), "beyond": beyond}
    return TEXT.format(**figures, **counted["power"])


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(Path(sys.argv[1]).read_text())), encoding="utf-8")
