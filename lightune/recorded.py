"""What a run records of machine, versions and inputs, for whoever repeats it.

Not here: the machine itself (`runs/environment.py`), the data (`data/report.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lightune.assembly import Job
from lightune.models.catalogue import catalogue
from lightune.runs.environment import environment


def environment_of(job: Job) -> dict[str, Any]:
    """Return what a repetition needs to know of machine, versions and inputs."""
    plan = job.predictor.prepared.plan
    return environment(
        {
            "plan": plan.model_dump(),
            "seed": job.recipe.train.seed,
            "base": _base(job),
            "gpu": torch.cuda.get_device_name() if plan.device == "cuda" else None,
        }
    )


def _base(job: Job) -> dict[str, Any]:
    """Return which base model it was: for the record, and for the model card."""
    entry, source = catalogue().get(job.base.name), job.manifest.base.source
    return {
        **job.manifest.base.model_dump(),
        "fetched_from": job.base.source,
        "weights_sha256": job.base.weights_sha256,
        "hub_id": None if Path(source).is_absolute() else source,
        "licence": entry.licence if entry else None,
    }
