"""Routes of groups, clouds and metadata."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from ...common.http.app import CallerDep
from ...common.http.resources import DryRun
from ...common.http.router import Router
from ...common.http.schemas import NAME
from ..catalog.catalog import Catalog
from ..catalog.schemas import (
    CloudChange,
    CloudRequest,
    CloudResponse,
    GroupChange,
    GroupRequest,
    GroupResponse,
    MetadataChange,
    MetadataRequest,
    MetadataResponse,
)

GroupName = Annotated[str, Path(pattern=NAME, description="name of a group")]
CloudName = Annotated[str, Path(pattern=NAME, description="name of a cloud, unique within its group")]
PartName = Annotated[str, Path(pattern=NAME, description="name of a metadata part")]


def catalog_router(catalog: Catalog) -> Router:
    """Create the routes of a catalog."""
    router = Router(prefix="/v1")
    _groups(router, catalog)
    _clouds(router, catalog)
    _metadata(router, catalog)
    return router


def _groups(router: Router, catalog: Catalog) -> None:
    path = "/groups/{group}"

    @router.get("/groups", tags=["catalog"], summary="List the groups that the token may read")
    async def list_groups(caller: CallerDep) -> list[GroupResponse]:
        return await catalog.groups(caller)

    @router.get(path, tags=["catalog"], summary="Get a group")
    async def get_group(caller: CallerDep, group: GroupName) -> GroupResponse:
        return await catalog.group(caller, group)

    @router.put(path, tags=["catalog"], summary="Create (cloud_admin only) or update a group")
    async def put_group(caller: CallerDep, group: GroupName, patch: GroupRequest, dry_run: DryRun = False) -> GroupChange:
        return await catalog.put_group(caller, group, patch.explicit_fields(), dry_run=dry_run)

    @router.delete(path, tags=["catalog"], summary="Delete a group without clouds (cloud_admin only)")
    async def delete_group(caller: CallerDep, group: GroupName, dry_run: DryRun = False) -> GroupChange:
        return await catalog.delete_group(caller, group, dry_run=dry_run)


def _clouds(router: Router, catalog: Catalog) -> None:
    path = "/groups/{group}/clouds/{cloud}"

    @router.get("/groups/{group}/clouds", tags=["catalog"], summary="List the clouds of a group")
    async def list_clouds(caller: CallerDep, group: GroupName) -> list[CloudResponse]:
        return await catalog.clouds(caller, group)

    @router.get(path, tags=["catalog"], summary="Get a cloud")
    async def get_cloud(caller: CallerDep, group: GroupName, cloud: CloudName) -> CloudResponse:
        return await catalog.cloud(caller, group, cloud)

    @router.put(path, tags=["catalog"], summary="Create (disabled) or update a cloud")
    async def put_cloud(caller: CallerDep, group: GroupName, cloud: CloudName, patch: CloudRequest, dry_run: DryRun = False) -> CloudChange:
        return await catalog.put_cloud(caller, group, cloud, patch.explicit_fields(), dry_run=dry_run)

    @router.delete(path, tags=["catalog"], summary="Delete a cloud without VMs")
    async def delete_cloud(caller: CallerDep, group: GroupName, cloud: CloudName, dry_run: DryRun = False) -> CloudChange:
        return await catalog.delete_cloud(caller, group, cloud, dry_run=dry_run)


def _metadata(router: Router, catalog: Catalog) -> None:
    """The same four operations for the metadata parts of a group and of a cloud."""
    of_group = "/groups/{group}/metadata"
    of_cloud = "/groups/{group}/clouds/{cloud}/metadata"

    @router.get(of_group, tags=["catalog"], summary="List the metadata parts of a group")
    async def list_group_parts(caller: CallerDep, group: GroupName) -> list[MetadataResponse]:
        return await catalog.parts(caller, group, "")

    @router.get(of_group + "/{name}", tags=["catalog"], summary="Get a metadata part of a group")
    async def get_group_part(caller: CallerDep, group: GroupName, name: PartName) -> MetadataResponse:
        return await catalog.part(caller, group, "", name)

    @router.put(of_group + "/{name}", tags=["catalog"], summary="Create or update a metadata part of a group")
    async def put_group_part(
        caller: CallerDep, group: GroupName, name: PartName, patch: MetadataRequest, dry_run: DryRun = False
    ) -> MetadataChange:
        return await catalog.put_part(caller, group, "", name, patch.explicit_fields(), dry_run=dry_run)

    @router.delete(of_group + "/{name}", tags=["catalog"], summary="Delete a metadata part of a group")
    async def delete_group_part(caller: CallerDep, group: GroupName, name: PartName, dry_run: DryRun = False) -> MetadataChange:
        return await catalog.delete_part(caller, group, "", name, dry_run=dry_run)

    @router.get(of_cloud, tags=["catalog"], summary="List the metadata parts of a cloud")
    async def list_cloud_parts(caller: CallerDep, group: GroupName, cloud: CloudName) -> list[MetadataResponse]:
        return await catalog.parts(caller, group, cloud)

    @router.get(of_cloud + "/{name}", tags=["catalog"], summary="Get a metadata part of a cloud")
    async def get_cloud_part(caller: CallerDep, group: GroupName, cloud: CloudName, name: PartName) -> MetadataResponse:
        return await catalog.part(caller, group, cloud, name)

    @router.put(of_cloud + "/{name}", tags=["catalog"], summary="Create or update a metadata part of a cloud")
    async def put_cloud_part(
        caller: CallerDep, group: GroupName, cloud: CloudName, name: PartName, patch: MetadataRequest, dry_run: DryRun = False
    ) -> MetadataChange:
        return await catalog.put_part(caller, group, cloud, name, patch.explicit_fields(), dry_run=dry_run)

    @router.delete(of_cloud + "/{name}", tags=["catalog"], summary="Delete a metadata part of a cloud")
    async def delete_cloud_part(
        caller: CallerDep, group: GroupName, cloud: CloudName, name: PartName, dry_run: DryRun = False
    ) -> MetadataChange:
        return await catalog.delete_part(caller, group, cloud, name, dry_run=dry_run)
