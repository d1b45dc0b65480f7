"""Role htcondor, job guard: the estimate of an expression's work, the queue's log, and what the guard does about a job over the limit."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).resolve().parents[3] / "roles" / "htcondor" / "files" / "jobguard"
sys.path.insert(0, str(FOLDER))

import job_queue  # noqa: E402
import schedd  # noqa: E402
from expression_size import LITERAL, UNBOUNDED, Text, parse, sizes  # noqa: E402

_SPEC = importlib.util.spec_from_file_location("jobguard_main", FOLDER / "__main__.py")
assert _SPEC and _SPEC.loader
guard_main = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(guard_main)

COUNT = 8
LEVELS = [f"103 01.-1 A{level} a{level + 1} + MY.a{level + 1}" for level in range(24)]
BOMB = [
    '103 0.2 User "alice@example.org"',
    "105 ",
    "101 01.-1 Job Machine",
    '103 01.-1 User "alice@example.org"',
    *LEVELS,
    "103 01.-1 a24 TARGET.Cpus",
    "103 01.-1 Requirements (a0 < 0)",
    "101 1.0 Job Machine",
    "103 1.0 JobStatus 1",
    "106 ",
]


def size(**attributes: str) -> dict[str, int]:
    return sizes({name: parse(text) for name, text in attributes.items()})


def expressions(below: int) -> st.SearchStrategy[Any]:
    """Trees that refer to attributes from `below` on, so that no cycle arises."""
    leaves: st.SearchStrategy[Any] = st.sampled_from([("1",), ('"a1 a2"',), ("undefined",)])
    if below < COUNT:
        leaves = leaves | st.builds(
            lambda prefix, number: ("ref", prefix, number), st.sampled_from(["", "MY.", "TARGET.", "my . "]), st.integers(below, COUNT - 1)
        )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(st.sampled_from(["{} + {}", "({} && {})", "({} ?: {})", "ifThenElse({}, {})", "{{{}, {}}}"]), inner, inner),
            st.tuples(st.sampled_from(["-{}", "!({})", "isUndefined({})", "[x = {}].x"]), inner),
        ),
        max_leaves=6,
    )


def text_of(tree: Any) -> str:
    if tree[0] == "ref":
        return f"{tree[1]}{'a' if tree[2] % 2 else 'A'}{tree[2]}"
    return str(tree[0]).format(*map(text_of, tree[1:])) if len(tree) > 1 else str(tree[0])


def steps(tree: Any, ad: list[Any]) -> int:
    """Nodes that an evaluator without memory or short cuts visits."""
    if tree[0] == "ref":
        return 1 + steps(ad[tree[2]], ad)
    return 1 + sum(steps(part, ad) for part in tree[1:])


@settings(max_examples=60, deadline=None)
@given(st.tuples(*(expressions(number + 1) for number in range(COUNT))))
def test_estimate_is_at_least_the_steps_of_evaluation(ad: tuple[Any, ...]) -> None:
    found = size(**{f"a{number}": text_of(tree) for number, tree in enumerate(ad)})
    for number, tree in enumerate(ad):
        assert found[f"a{number}"] >= steps(tree, list(ad))


@pytest.mark.parametrize(
    "attributes",
    [
        {"a": "a + a"},
        {"a": "b", "b": "a + MY.A"},
        {"a": "[b0 = b1 + b1; b1 = b0].b0"},
        {"a": "[b0 = /* x */ b1 + b1; b1 = 1].b0"},
        {"a": 'eval(strcat("b", "1"))'},
        {"a": "evalInEachContext(" * 12 + "1" + ", {[x = 1], [x = 2]})" * 12},
        {"a": 'regexps(".*", ' * 12 + '"x"' + r', "\0\0")' * 12},
        {"a": "TARGET.Start", "requestcpus": "a + a"},
        {"a": r"'\142' + 'b'", "b": "a + a"},
        {"a": r'"$$([a + a])"'},
        {"a": r'"\\" + a + "\\" + a + ""'},
        {"a": 'MY["a"]'},
        {"a": 'MY[strcat("b", "1")] + 1'},
        {"a": '[x = 1][strcat("x", "")]'},
        {"a": 'MY /* x */ ["b"]'},
        {"a": "[ '-1' = '-2' + '-2'; '-2' = 1 ].'-1'"},
        {"a": r'"$$([ strcat(\"])\", eval(\"b\")) ])"'},
        {"s": '"' + "a " * 480 + '"', "b": "join(s, split(s))", "c": "join(b, split(s))", "a": "join(c, split(s))"},
    ],
)
def test_endless_expressions_are_unbounded(attributes: dict[str, str]) -> None:
    assert size(**attributes)["a"] == UNBOUNDED


@pytest.mark.parametrize(
    ("attributes", "limit"),
    [
        ({"requirements": '(TARGET.Arch == "X86_64") && (TARGET.Memory >= RequestMemory)', "requestmemory": "MemoryUsage * 3 / 2"}, 100),
        ({"a": "{" + ", ".join(f'"node{number}.example.org"' for number in range(1000)) + "}"}, 10_000),
        ({"a": 'regexp("' + "|".join(f"node{number}" for number in range(500)) + '", Machine)'}, 3_000),
        ({"a": "countMatches(MY.RequireGPUs, TARGET.AvailableGPUs) >= RequestGPUs", "requiregpus": "Capability > 4"}, 1_000),
        ({"a": "[x = 1; y = 2]"}, 20),
        ({"a": 'split(AuthenticatedIdentity, "+@")[1] =?= "atlas"'}, 60),
        ({"a": r'regexp("^node[0-9]+\.[a-z]+$", Machine) && regexps("(.*)x[0-9]", Machine, "\1") == "eval"'}, 3_000),
        (
            {"a": "".join(f'Machine == "n{n}" || ' for n in range(300)) + "countMatches(x, AvailableGPUs) > 1", "x": "Capability > 4"},
            3_000,
        ),
        ({"requestmemory": 'ifThenElse(regexp("failed to start|preempt", LastHoldReason ?: ""), 4000, 2000)'}, 100),
        # Arguments and environments are strings, whatever words they have.
        ({"a": r'"--threads=$$([Cpus]) --input=root://eos.example.org//store/a.root --memory=$$([Memory])"'}, 100),
        ({"a": r'"MKL=$$([Cpus]) URI=http://mlflow.example.org:5000 OMP=$$([Cpus])"'}, 100),
        ({"a": r'"--mode eval --pattern \'run\\d+\' --json {\"a\":1}"'}, 20),
        ({"a": r'"-l -b -q \'macro.C(\"a\\tb\",\"eval\")\'"'}, 20),
        ({"environment": r'"CFG={\"environment\":\"x\",\"re\":\"a\\.b\",\"environment\":1}"'}, 20),
    ],
)
def test_ordinary_expressions_stay_far_below_the_limit(attributes: dict[str, str], limit: int) -> None:
    assert max(size(**attributes).values()) < limit


@pytest.mark.parametrize("text", ["12", "-1.5e3", "TRUE", '"a b"', r'"say \"a\""', r'"C:\\a\\"', '"$$(Arch)"'])
def test_constants_have_no_references(text: str) -> None:
    assert parse(text) is LITERAL


@pytest.mark.parametrize("unit", ["$$([", '\\"', '"', "'", "a[", "(", "join(", "\\\\", "/*", "a + ", "[a=", "join(1)+"])
def test_time_is_linear_in_the_text(unit: str) -> None:
    """A quadratic step would take many minutes."""
    parse('"' + unit * (2**18 // len(unit)) + '"')
    parse(unit * (2**18 // len(unit)))


def test_long_chain_needs_no_recursion() -> None:
    chain = {f"a{number}": Text(3, {f"a{number + 1}": 2}) for number in range(20_000)}
    assert sizes(chain)["a0"] == UNBOUNDED


def test_long_cycle_takes_linear_time() -> None:
    """Without a second reference in it, so that it does not branch."""
    count = 20_000
    cycle = {f"a{number}": Text(1, {f"a{(number + 1) % count}": 1}) for number in range(count)}
    assert sizes(cycle)["a0"] == count * 400


def queue_of(lines: list[str], limit: int = 10_000) -> job_queue.JobQueue:
    queue = job_queue.JobQueue(limit)
    data = "".join(f"{line}\n" for line in lines).encode()
    for start in range(0, len(data), 7):
        queue.feed(data[start : start + 7])
    return queue


def test_job_over_the_limit_is_found_once() -> None:
    queue = queue_of(BOMB)
    (found,) = queue.offenders()
    assert (found.job, found.status, found.user) == ("1.0", job_queue.IDLE, '"alice@example.org"')
    assert {"a0", "requirements"} < found.attributes and "a24" not in found.attributes
    assert list(queue.offenders()) == []


def test_uncommitted_records_have_no_effect() -> None:
    queue = queue_of(BOMB[:-1])
    assert list(queue.offenders()) == []
    assert queue.offset == len(BOMB[0]) + 1


def test_later_edit_is_found() -> None:
    queue = queue_of(["101 01.-1 Job Machine", "101 1.0 Job Machine", "103 1.0 Rank 1"])
    assert list(queue.offenders()) == []
    queue.feed(b"105 \n103 1.0 Rank Rank + Rank\n106 \n")
    assert [found.attributes for found in queue.offenders()] == [{"rank"}]
    queue.feed(b"104 1.0 Rank\n")
    assert list(queue.offenders()) == []
    queue.feed(b"103 01.-1 x x + x\n102 1.0\n102 01.-1\n")
    assert list(queue.offenders()) == []


def test_records_bring_the_queue_below_the_limit() -> None:
    queue = queue_of(BOMB)
    offenders = list(queue.offenders())
    text = job_queue.records(offenders, queue.users, "too large", 1000)
    # Without the space after the number HTCondor takes the next line for a part of the record, and does not start.
    assert text.startswith("105 \n") and text.endswith("\n106 \n")
    for line in ("103 1.0 JobStatus 5", "103 1.0 requirements false", "103 1.0 a0 undefined", '103 1.0 HoldReason "too large"'):
        assert f"\n{line}\n" in text
    assert "\n103 0.2 Enabled false\n" in text
    queue.feed(text.encode())
    queue.check_again(offenders)
    assert list(queue.offenders()) == []


def test_running_job_is_edited_and_not_held() -> None:
    queue = queue_of([*BOMB, "103 1.0 JobStatus 2"])
    assert "JobStatus" not in job_queue.records(list(queue.offenders()), queue.users, "too large", 1000)


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def test_replaced_log_is_read_again(tmp_path: Path) -> None:
    path, new = tmp_path / "job_queue.log", tmp_path / "new"
    reader = guard_main.LogReader(path, 10_000)
    reader.read()
    write(path, BOMB)
    reader.read()
    assert len(list(reader.queue.offenders())) == 1
    write(new, ["107 2 CreationTimestamp 1", *BOMB[2:-1]])
    new.rename(path)
    reader.read()
    assert len(list(reader.queue.offenders())) == 1


def test_guard_edits_through_the_schedd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "job_queue.log"
    write(path, BOMB)
    calls: list[tuple[str, ...]] = []

    def tool(*command: str) -> str:
        calls.append(command)
        if command[0] == "condor_qedit":
            edits = zip(command[3::2], command[4::2], strict=True)
            with path.open("a") as log:
                log.write("".join(["105 \n", *(f"103 1.0 {name} {text}\n" for name, text in edits), "106 \n"]))
        return ""

    monkeypatch.setattr(schedd, "tool", tool)
    guard = guard_main.Guard(guard_main.LogReader(path, 10_000), "condor.service")
    guard.step()
    assert [call[0] for call in calls] == ["condor_hold", "condor_qedit"] and calls[0][-1] == "1.0"
    assert not guard.pending
    guard.step()
    assert len(calls) == 2


def offender(*names: str) -> job_queue.Offender:
    return job_queue.Offender(1, 0, frozenset(names), UNBOUNDED, job_queue.IDLE, '"alice@example.org"')


def test_one_immutable_attribute_does_not_protect_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    edited: list[str] = []

    def tool(*command: str) -> str:
        names = command[3::2] if command[0] == "condor_qedit" else ()
        if "globaljobid" in names:
            return "Update of immutable attribute globaljobid not allowed. Transaction failed."
        edited.extend(names)
        return ""

    monkeypatch.setattr(schedd, "tool", tool)
    schedd.hold_and_edit([offender("a", "b", "globaljobid")], "too large")
    assert edited == ["a", "b"]


def test_long_names_are_edited_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(schedd, "tool", lambda *command: calls.append(sum(map(len, command))) or "")
    schedd.hold_and_edit([offender(*(f"{'b' * 60_000}{number}" for number in range(30)))], "too large")
    assert len(calls) == 31 and max(calls) < 100_000


def test_arguments_that_no_program_takes_are_no_crash() -> None:
    assert "true: " in schedd.tool("true", "x" * 2**21)


def test_guard_edits_the_log_if_the_schedd_takes_no_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path := tmp_path / "job_queue.log", BOMB)
    repaired: list[bool] = []
    monkeypatch.setattr(guard_main, "hold_and_edit", lambda *_: "not allowed")
    monkeypatch.setattr(guard_main, "RETRY_SECONDS", -1)
    monkeypatch.setattr(guard_main.Guard, "repair", lambda _: repaired.append(True))
    guard = guard_main.Guard(guard_main.LogReader(path, 10_000), "condor.service")
    for _turn in range(guard_main.ATTEMPTS - 1):
        guard.step()
    assert not repaired and guard.pending
    guard.step()
    assert repaired


def test_job_that_comes_during_an_edit_stays_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path := tmp_path / "job_queue.log", BOMB)

    def another_job(*_: object) -> str:
        with path.open("a") as log:
            log.write("101 02.-1 Job Machine\n101 2.0 Job Machine\n103 2.0 x x + x\n")
        return "not allowed"

    monkeypatch.setattr(guard_main, "hold_and_edit", another_job)
    monkeypatch.setattr(guard_main, "ATTEMPTS", 1)
    monkeypatch.setattr(guard_main, "main_pid", lambda _: 0)  # condor_master is gone: nothing can be repaired now
    guard = guard_main.Guard(guard_main.LogReader(path, 10_000), "condor.service")
    guard.step()
    assert set(guard.pending) == {"1.0", "2.0"}


def test_guard_ends_a_blocked_schedd_and_edits_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "job_queue.log"
    # The schedd was writing when it was ended.
    write(path, [*BOMB, "105 ", "103 1.0 x 1"])
    alive = [4711]

    def end(pids: list[int]) -> bool:
        assert pids == [4711]
        alive.clear()
        return True

    def unanswered(*_: object) -> None:
        raise schedd.Unanswered("condor_hold took too long")

    monkeypatch.setattr(guard_main, "hold_and_edit", unanswered)
    monkeypatch.setattr(guard_main, "main_pid", lambda _: 1)
    monkeypatch.setattr(guard_main, "children_of", lambda *_: list(alive))
    monkeypatch.setattr(guard_main, "end", end)
    monkeypatch.setattr(guard_main, "RETRY_SECONDS", -1)
    guard = guard_main.Guard(guard_main.LogReader(path, 10_000), "condor.service")
    guard.step()
    text = path.read_text()
    assert not alive and "103 1.0 x 1" not in text and text.endswith("106 \n") and "103 0.2 Enabled false" in text
    assert list(queue_of(text.splitlines()).offenders()) == []
    assert not guard.pending
