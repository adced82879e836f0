"""The kinds of objects that endpoints consist of, for either engine: each removes objects that the other has left. Pure."""

from __future__ import annotations

from pelagos.engines.kubernetes.objects import Collection

DEPLOYMENTS = Collection("apps/v1", "Deployment", "deployments")
AUTOSCALERS = Collection("autoscaling/v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
"""Version 1 has all that is needed here, and every server supports it."""
BUDGETS = Collection("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
OLD_BUDGETS = Collection("policy/v1beta1", "PodDisruptionBudget", "poddisruptionbudgets")
"""For servers before Kubernetes 1.21."""
SERVICES = Collection("v1", "Service", "services")
INFERENCE_SERVICES = Collection("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
BY_DEPLOYMENT = (DEPLOYMENTS, AUTOSCALERS, BUDGETS, OLD_BUDGETS, SERVICES)
"""Kinds that only the engine deployment creates, the main one first."""
BY_KSERVE = (INFERENCE_SERVICES,)
"""Kinds that only the engine kserve creates."""
