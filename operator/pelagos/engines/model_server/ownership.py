"""Determines which ModelService an object belongs to. Anybody can write labels, so an owner reference is required too. Pure."""

from __future__ import annotations

from pelagos.api import meta
from pelagos.engines.kubernetes.objects import Body


def uid_of(body: Body) -> str:
    """The uid in the object's label; empty without one."""
    return str((body["metadata"].get("labels") or {}).get(meta.UID_LABEL, ""))


def is_owned(body: Body, uid: str) -> bool:
    """Whether the ModelService ``uid`` owns the object, by owner reference and not only by label."""
    owners = body["metadata"].get("ownerReferences") or ()
    return any(owner.get("kind") == "ModelService" and owner.get("uid") == uid for owner in owners)
