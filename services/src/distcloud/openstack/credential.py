"""The data needed to log in to one project of one OpenStack region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import CloudError, ErrorKind


@dataclass(frozen=True, slots=True)
class Credential:
    """`auth` has the keys of clouds.yaml without secrets, `secrets` the password or application_credential_secret.

    `label` names the cloud in errors. `ca_certificate` is PEM text (None: the system's CAs). `project` is the id of the only project
    that the credential may log in to (empty: any).
    """

    label: str
    auth: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    region: str = ""
    ca_certificate: str | None = None
    project: str = ""

    def check_project(self, project: str) -> None:
        """Raises CloudError for a login to another project than the credential is bound to.

        A credential determines its project, so anyone who may change the credential could otherwise move a cloud to another project.
        """
        if self.project and project != self.project:
            raise CloudError(
                ErrorKind.AUTH,
                self.label,
                f"its credential belongs to project {project}, but the cloud was enabled for project {self.project}; "
                "give it a credential of that project, or have a cloud_admin disable it and enable it again",
                no_effect=True,
            )
