"""What a build will do, as pure data: the steps, what each reads, and the rows of the report.

Facts of targets become parameters here; a stage never sees a target. Steps that several targets share are one.
"""

from edgekit.plan.planner import LIKENESS, check_finetuning, plan

__all__ = ["LIKENESS", "check_finetuning", "plan"]
