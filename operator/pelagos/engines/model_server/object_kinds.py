"""The kinds of objects that endpoints are made of, by either engine: each removes what the other has left. Pure."""

from __future__ import annotations

from pelagos.engines.kubernetes.objects import Collection

DEPLOYMENTS = Collection("apps/v1", "Deployment", "deployments")
AUTOSCALERS = Collection("autoscaling/v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
"""Version 1 can all that is needed here, and every server has it."""
BUDGETS = Collection("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
OLD_BUDGETS = Collection("policy/v1beta1", "PodDisruptionBudget", "poddisruptionbudgets")
"""Of servers before Kubernetes 1.21."""
SERVICES = Collection("v1", "Service", "services")
INFERENCE_SERVICES = Collection("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
BY_DEPLOYMENT = (DEPLOYMENTS, AUTOSCALERS, BUDGETS, OLD_BUDGETS, SERVICES)
"""What only the engine deployment makes, the main one first."""
BY_KSERVE = (INFERENCE_SERVICES,)
"""What only the engine kserve makes."""
