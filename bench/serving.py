"""."""

from bench.plan import Plan
from bench.results import Section


def measure(plan: Plan) -> Section:
    raise RuntimeError
