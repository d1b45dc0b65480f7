"""Paths of groups, clouds and metadata."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from ...common.app import CallerDep
from ..catalog.catalog import Catalog
from ..catalog.schemas import NAME, ChangeResponse, CloudRequest, GroupRequest, MetadataRequest

GroupName = Annotated[str, Path(pattern=NAME, description="name of a group")]
CloudName = Annotated[str, Path(pattern=NAME, description="name of a cloud within its group")]
PartName = Annotated[str, Path(pattern=NAME, description="name of a metadata part")]
DryRun = Annotated[bool, Query(description="tell what would change, change nothing")]


def catalog_router(catalog: Catalog) -> APIRouter:
    """Routes over a catalogue."""
    router = APIRouter(prefix="/v1")
    _groups(router, catalog)
    _clouds(router, catalog)
    _metadata(router, catalog)
    return router


def _groups(router: APIRouter, catalog: Catalog) -> None:
    path = "/groups/{group}"

    @router.get("/groups", tags=["groups"], summary="All groups that the token sees")
    async def list_groups(caller: CallerDep) -> list[dict[str, Any]]:
        return await catalog.groups(caller)

    @router.get(path, tags=["groups"], summary="One group")
    async def get_group(caller: CallerDep, group: GroupName) -> dict[str, Any]:
        return await catalog.group(caller, group)

    @router.put(path, tags=["groups"], summary="Create (cloud_admin) or change a group")
    async def put_group(caller: CallerDep, group: GroupName, patch: GroupRequest, dry_run: DryRun = False) -> ChangeResponse:
        return await catalog.put_group(caller, group, patch.explicit_fields(), dry_run=dry_run)

    @router.delete(path, tags=["groups"], summary="Delete a group that has no clouds (cloud_admin)")
    async def delete_group(caller: CallerDep, group: GroupName, dry_run: DryRun = False) -> ChangeResponse:
        return await catalog.delete_group(caller, group, dry_run=dry_run)


def _clouds(router: APIRouter, catalog: Catalog) -> None:
    path = "/groups/{group}/clouds/{cloud}"

    @router.get("/groups/{group}/clouds", tags=["clouds"], summary="The clouds of a group")
    async def list_clouds(caller: CallerDep, group: GroupName) -> list[dict[str, Any]]:
        return await catalog.clouds(caller, group)

    @router.get(path, tags=["clouds"], summary="One cloud")
    async def get_cloud(caller: CallerDep, group: GroupName, cloud: CloudName) -> dict[str, Any]:
        return await catalog.cloud(caller, group, cloud)

    @router.put(path, tags=["clouds"], summary="Create (disabled) or change a cloud")
    async def put_cloud(
        caller: CallerDep, group: GroupName, cloud: CloudName, patch: CloudRequest, dry_run: DryRun = False
    ) -> ChangeResponse:
        return await catalog.put_cloud(caller, group, cloud, patch.explicit_fields(), dry_run=dry_run)

    @router.delete(path, tags=["clouds"], summary="Delete a cloud that has no VMs")
    async def delete_cloud(caller: CallerDep, group: GroupName, cloud: CloudName, dry_run: DryRun = False) -> ChangeResponse:
        return await catalog.delete_cloud(caller, group, cloud, dry_run=dry_run)


def _metadata(router: APIRouter, catalog: Catalog) -> None:
    """The same four operations for the parts of a group and for those of a cloud."""
    of_group = "/groups/{group}/metadata"
    of_cloud = "/groups/{group}/clouds/{cloud}/metadata"

    @router.get(of_group, tags=["metadata"], summary="The cloud-init parts of a group")
    async def list_group_parts(caller: CallerDep, group: GroupName) -> list[dict[str, Any]]:
        return await catalog.parts(caller, group, "")

    @router.get(of_group + "/{name}", tags=["metadata"], summary="One part of a group")
    async def get_group_part(caller: CallerDep, group: GroupName, name: PartName) -> dict[str, Any]:
        return await catalog.part(caller, group, "", name)

    @router.put(of_group + "/{name}", tags=["metadata"], summary="Create or change a part of a group")
    async def put_group_part(
        caller: CallerDep, group: GroupName, name: PartName, patch: MetadataRequest, dry_run: DryRun = False
    ) -> ChangeResponse:
        return await catalog.put_part(caller, group, "", name, patch.explicit_fields(), dry_run=dry_run)

    @router.delete(of_group + "/{name}", tags=["metadata"], summary="Delete a part of a group")
    async def delete_group_part(caller: CallerDep, group: GroupName, name: PartName, dry_run: DryRun = False) -> ChangeResponse:
        return await catalog.delete_part(caller, group, "", name, dry_run=dry_run)

    @router.get(of_cloud, tags=["metadata"], summary="The cloud-init parts of a cloud")
    async def list_cloud_parts(caller: CallerDep, group: GroupName, cloud: CloudName) -> list[dict[str, Any]]:
        return await catalog.parts(caller, group, cloud)

    @router.get(of_cloud + "/{name}", tags=["metadata"], summary="One part of a cloud")
    async def get_cloud_part(caller: CallerDep, group: GroupName, cloud: CloudName, name: PartName) -> dict[str, Any]:
        return await catalog.part(caller, group, cloud, name)

    @router.put(of_cloud + "/{name}", tags=["metadata"], summary="Create or change a part of a cloud")
    async def put_cloud_part(
        caller: CallerDep, group: GroupName, cloud: CloudName, name: PartName, patch: MetadataRequest, dry_run: DryRun = False
    ) -> ChangeResponse:
        return await catalog.put_part(caller, group, cloud, name, patch.explicit_fields(), dry_run=dry_run)

    @router.delete(of_cloud + "/{name}", tags=["metadata"], summary="Delete a part of a cloud")
    async def delete_cloud_part(
        caller: CallerDep, group: GroupName, cloud: CloudName, name: PartName, dry_run: DryRun = False
    ) -> ChangeResponse:
        return await catalog.delete_part(caller, group, cloud, name, dry_run=dry_run)
