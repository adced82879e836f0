"""Objects that are created for a resource and removed with it: another resource, a Secret with a token, or a login in one."""

from __future__ import annotations

from pelagos.api.kinds import Kind
from pelagos.decisions import effects
from pelagos.ports.cluster import Resource
from pelagos.ports.errors import UnfinishedError
from pelagos.reconcilers.dependencies import Dependencies

Effect = effects.CreateOwned | effects.RemoveOwned | effects.IssueToken | effects.RevokeToken | effects.PublishLogin


async def act(effect: Effect, dependencies: Dependencies) -> None:
    """Carry out one effect, unless the owner was deleted, or its name belongs to another resource by now."""
    owner = dependencies.cache.get(effect.key)
    if owner is None or owner.uid != effect.uid:
        return
    match effect:
        case effects.CreateOwned():
            await dependencies.cluster.create_owned(owner, effect.kind, effect.name, effect.spec)
        case effects.RemoveOwned():
            await remove(owner, effect.kind, effect.name, dependencies)
        case effects.IssueToken():
            await dependencies.cluster.issue_token(owner, effect.name, effect.token)
        case effects.RevokeToken():
            await dependencies.cluster.revoke_token(owner, effect.name)
        case effects.PublishLogin():
            await dependencies.cluster.publish_login(owner, effect.login)


async def remove(owner: Resource, kind: Kind, name: str, dependencies: Dependencies) -> None:
    """Begin to delete a resource that ``owner`` owns. One of this name with another owner stays.

    Raises UnfinishedError when it was changed at the same moment: the next pass tries again.
    """
    found = await dependencies.cluster.read(kind, owner.namespace, name)
    if found is None or owner.uid not in found.owners or found.deleting:
        return
    if not await dependencies.cluster.delete_resource(found):
        raise UnfinishedError("kubernetes", f"{kind.kind} {name} is being changed, and is deleted after that")
