#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mariadb_accounts
short_description: Manage databases and the accounts that own them in one call
description:
  - Creates databases and one account for each owner. The account has all privileges on its own databases and on no others.
  - Connects to MariaDB through its local socket as the user who runs the module, so it needs no administrator password.
  - The server checks whether an account has the given password; passwords never appear in logged statements.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
requirements:
  - pymysql
options:
  accounts:
    description: The accounts and their databases.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The account's name.
        type: str
        required: true
      host:
        description: Host from which the account may log in.
        type: str
        default: 127.0.0.1
      password:
        description: The account's password.
        type: str
        required: true
      databases:
        description: The databases that the account owns.
        type: list
        elements: str
        required: true
  login_unix_socket:
    description: Path of the server's socket.
    type: path
    default: /run/mysqld/mysqld.sock
"""

EXAMPLES = r"""
- name: Databases of the compute service
  hep.distcloud.mariadb_accounts:
    accounts:
      - name: nova
        password: "{{ database_password }}"
        databases: [nova, nova_api, nova_cell0]
"""

RETURN = r"""
accounts:
  description: The accounts afterwards (in check mode, as predicted), without passwords.
  returned: always
  type: list
  elements: dict
  sample: [{name: nova, host: 127.0.0.1, databases: [nova, nova_api, nova_cell0]}]
"""

import re
import typing as t

from ..module_utils._core.module import Failure, ResourceModule
from ..module_utils._core.reconcile import Plan

NAME = re.compile(r"^[A-Za-z0-9_]{1,64}$")


class MariadbAccounts(ResourceModule):
    """Reads accounts and databases from the server's own tables, and creates what is missing."""

    service = "mariadb"
    plural_key = "accounts"
    secrets = ("password",)

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "accounts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "host": {"type": "str", "default": "127.0.0.1"},
                    "password": {"type": "str", "required": True, "no_log": True},
                    "databases": {"type": "list", "elements": "str", "required": True},
                },
            },
            "login_unix_socket": {"type": "path", "default": "/run/mysqld/mysqld.sock"},
        }

    def connect(self) -> None:
        for account in self.params["accounts"]:
            for name in (account["name"], *account["databases"]):
                if not NAME.match(name):
                    raise Failure(f"accounts: {name!r} is not a valid name; use letters, digits and underscores", self.service, "name")
        try:
            import pymysql
        except ImportError as error:
            raise Failure("python3-pymysql is missing on this host; install it", self.service, "pymysql") from error
        self.cursor: t.Any = None
        try:
            self.cursor = pymysql.connect(unix_socket=self.params["login_unix_socket"], user="root", autocommit=True).cursor()
        except pymysql.err.OperationalError as error:
            # Before the first run there is no server yet, and check mode has started none.
            if not self.module.check_mode:
                raise Failure(
                    f"MariaDB does not answer on {self.params['login_unix_socket']}: {error.args[-1]}",
                    self.service,
                    error.args[0],
                ) from error

    def ask(self, statement: str, *values: t.Any) -> t.Any:
        self.cursor.execute(statement, values)
        return self.cursor.fetchall()

    def find(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        if self.cursor is None or not self.ask("SELECT 1 FROM mysql.global_priv WHERE User = %s AND Host = %s", item["name"], item["host"]):
            return None
        there = {row[0] for row in self.ask("SELECT schema_name FROM information_schema.schemata")}
        owned = {
            row[0].replace("\\_", "_")
            for row in self.ask("SELECT Db FROM mysql.db WHERE User = %s AND Host = %s AND Drop_priv = 'Y'", item["name"], item["host"])
        }
        return {"name": item["name"], "host": item["host"], "databases": sorted(there & owned)}

    def desired(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        return {"name": item["name"], "host": item["host"], "databases": sorted(item["databases"])}

    def changed_secrets(self, item: dict[str, t.Any], current: dict[str, t.Any] | None) -> t.Collection[str]:
        if current is None:
            return ("password",)
        same = self.ask(
            "SELECT JSON_VALUE(Priv, '$.authentication_string') = PASSWORD(%s) FROM mysql.global_priv WHERE User = %s AND Host = %s",
            item["password"],
            item["name"],
            item["host"],
        )
        return () if same and same[0][0] else ("password",)

    def apply(self, item: dict[str, t.Any], plan: Plan) -> dict[str, t.Any] | None:
        who = (item["name"], item["host"])
        if plan.action == "create":
            self.ask("CREATE USER %s@%s IDENTIFIED BY %s", *who, item["password"])
        elif "password" in plan.secrets:
            self.ask("ALTER USER %s@%s IDENTIFIED BY %s", *who, item["password"])
        surplus = set((plan.before or {}).get("databases", ())) - set(item["databases"])
        for name in sorted(surplus):
            self.ask(f"REVOKE ALL ON `{name}`.* FROM %s@%s", *who)
        for name in item["databases"]:
            self.ask(f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4")
            self.ask(f"GRANT ALL ON `{name}`.* TO %s@%s", *who)
        return plan.after


def main() -> None:
    MariadbAccounts.main()


if __name__ == "__main__":
    main()
