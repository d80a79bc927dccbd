"""Attention for decoder layers that are masked or unmasked by a flag, packed or dense.

``attention`` is the operator, ``plan_pack`` prepares a pack once for all layers, and
``reference_attention`` is the eager specification that everything else is tested against.
"""

from lmsl_kernels.api import IMPLEMENTATIONS, attention, explain
from lmsl_kernels.plan import PackPlan, plan_pack
from lmsl_kernels.reference import reference_attention

__all__ = [
    "IMPLEMENTATIONS",
    "PackPlan",
    "attention",
    "explain",
    "plan_pack",
    "reference_attention",
]
