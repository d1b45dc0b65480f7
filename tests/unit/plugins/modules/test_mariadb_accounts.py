# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module mariadb_accounts against a stand-in for the server that understands only the statements for accounts."""

from __future__ import annotations

import re
import sys
import types

import pytest
from ansible_collections.hep.distcloud.plugins.modules import mariadb_accounts
from module_harness import run_module

ACCOUNT = {"name": "nova", "password": "verysecretword", "databases": ["nova", "nova_api"]}


class Server:
    """Accounts with their passwords and grants, and the databases."""

    def __init__(self):
        self.passwords, self.owned, self.databases, self.changes = {}, {}, set(), []
        self.down = False

    def cursor(self):
        return self

    def execute(self, statement, values):
        self.answer = []
        who = tuple(values[:2])
        database = next(iter(re.findall(r"`(\w+)`", statement)), None)
        if statement.startswith("SELECT 1 FROM mysql.global_priv"):
            self.answer = [(1,)] if who in self.passwords else []
        elif "schemata" in statement:
            self.answer = [(name,) for name in self.databases]
        elif "mysql.db" in statement:
            self.answer = [(name.replace("_", "\\_"),) for name in self.owned.get(who, ())]
        elif statement.startswith("SELECT JSON_VALUE"):
            self.answer = [(int(self.passwords[values[1:]] == values[0]),)]
        else:
            self.changes.append(statement.split()[0])
            if statement.startswith(("CREATE USER", "ALTER USER")):
                self.passwords[who] = values[2]
            elif statement.startswith("CREATE DATABASE"):
                self.databases.add(database)
            elif statement.startswith("GRANT ALL"):
                self.owned.setdefault(who, set()).add(database)
            elif statement.startswith("REVOKE ALL"):
                self.owned[who].discard(database)
            else:
                raise AssertionError("a statement nobody expected: " + statement)

    def fetchall(self):
        return self.answer


@pytest.fixture
def server(monkeypatch):
    known = Server()

    class OperationalError(Exception):
        pass

    def connect(**options):
        if known.down:
            raise OperationalError(2002, "no such socket")
        return known

    module = types.ModuleType("pymysql")
    module.connect = connect
    module.err = types.SimpleNamespace(OperationalError=OperationalError)
    monkeypatch.setitem(sys.modules, "pymysql", module)
    return known


def call(*accounts, **options):
    return run_module(mariadb_accounts.MariadbAccounts, {"accounts": list(accounts)}, **options)


def test_full_circle(server):
    checked = call(ACCOUNT, check=True, diff=True)
    assert checked.changed and server.changes == []
    made = call(ACCOUNT, diff=True)
    assert made.changed and made.data["diff"] == checked.data["diff"] and "verysecretword" not in made.raw
    assert server.owned == {("nova", "127.0.0.1"): {"nova", "nova_api"}} and server.databases == {"nova", "nova_api"}
    server.changes.clear()
    assert not call(ACCOUNT).changed and server.changes == []


def test_another_password_is_set_and_never_shown(server):
    call(ACCOUNT)
    other = dict(ACCOUNT, password="anothersecret")
    result = call(other, diff=True)
    assert result.changed and "anothersecret" not in result.raw and server.passwords["nova", "127.0.0.1"] == "anothersecret"
    assert not call(other).changed


def test_missing_database_created_and_surplus_grant_revoked(server):
    call(ACCOUNT)
    server.owned["nova", "127.0.0.1"].add("glance")
    server.databases.add("glance")
    server.databases.discard("nova_api")
    assert call(ACCOUNT).changed
    assert server.owned["nova", "127.0.0.1"] == {"nova", "nova_api"} and "nova_api" in server.databases


def test_without_server_only_check_mode_succeeds(server):
    server.down = True
    assert call(ACCOUNT, check=True).changed
    result = call(ACCOUNT)
    assert result.failed and "does not answer" in result.data["msg"]


def test_invalid_account_name_is_refused(server):
    result = call(dict(ACCOUNT, databases=["a`b"]))
    assert result.failed and "not a valid name" in result.data["msg"]
