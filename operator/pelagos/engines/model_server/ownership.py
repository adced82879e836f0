"""Whose an object is. Labels can be written by anybody; so what is taken for ours is also owned by the ModelService. Pure."""

from __future__ import annotations

from pelagos.api import meta
from pelagos.engines.kubernetes.objects import Body


def uid_of(body: Body) -> str:
    """The uid that its label names; empty without one."""
    return str((body["metadata"].get("labels") or {}).get(meta.UID_LABEL, ""))


def is_owned(body: Body, uid: str) -> bool:
    """Whether the object belongs to the ModelService ``uid``, and not only says so in a label."""
    owners = body["metadata"].get("ownerReferences") or ()
    return any(owner.get("kind") == "ModelService" and owner.get("uid") == uid for owner in owners)
