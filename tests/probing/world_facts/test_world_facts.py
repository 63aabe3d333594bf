"""Real-world facts and their questions, the judging of free answers, hostile endpoints and folders, answers kept."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from probing.__main__ import run
from probing.world_facts import openai_backend
from probing.world_facts.facts import (
    FOLDER,
    RELATIONS,
    CandidateNames,
    facts_of,
    load_facts,
    normalize_words,
    subject_candidates,
    value_candidates,
)
from probing.world_facts.grading import grade_response
from probing.world_facts.openai_backend import OpenAIBackend
from probing.world_facts.response_log import ResponseLog
from probing.world_facts.tasks import COMPARISON, INVERSE, RETRIEVAL, TASKS, YES_NO_TASKS, WorldQuestion
from probing.world_facts.tasks import build_questions as world_questions
from synth.errors import UserError

SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr"
).split()
ALL_QUESTIONS = world_questions()
SECRET = "sk-secret-0123456789"


# ---- the facts -------------------------------------------------------------------------------------------------
def test_the_file_of_facts() -> None:
    held = load_facts()
    assert len(held) >= 200 and len({(f.kind, f.subject, f.attribute) for f in held}) == len(held)
    assert all(part and part == part.strip() for f in held for part in (f.kind, f.subject, f.attribute, f.value))
    assert {(f.kind, f.attribute) for f in held} == {(about.kind, about.attribute) for about in RELATIONS}
    assert sum(f.unique for f in held) >= 200
    for about in RELATIONS:
        mine = facts_of(about)
        assert {f.unique for f in mine} == {about.invert is not None}
        if about.invert:  # the value leads back to one subject
            assert len({f.value for f in mine}) == len(mine)
        if about.classify:
            assert all(about.sort_key(f.value) >= 1 for f in mine)


def test_elements_planets_months_and_presidents() -> None:
    number, symbol, _, _, _, president, planet, month = map(facts_of, RELATIONS)
    assert [int(f.value) for f in number] == list(range(1, 104))
    assert all(SYMBOLS[[n.subject for n in number].index(f.subject)] == f.value for f in symbol)
    assert len(symbol) == 95 and not {"He", "In", "No"} & {f.value for f in symbol}
    assert [int(f.value) for f in planet] == list(range(1, 9)) and planet[2].subject == "Earth"
    assert [f.subject[:3] for f in month] == "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    numbers = {f.subject: int(f.value) for f in president}
    assert sorted(numbers.values()) == sorted(set(range(1, 47)) - {22, 24, 45})
    known = {
        "George Washington": 1,
        "Abraham Lincoln": 16,
        "Benjamin Harrison": 23,
        "Barack Obama": 44,
        "Joe Biden": 46,
    }
    assert known.items() <= numbers.items() and not {"Grover Cleveland", "Donald Trump"} & numbers.keys()


def test_every_other_spelling_is_of_somebody_and_of_nobody_else() -> None:
    held = {part for f in load_facts() for part in (f.subject, f.value)}
    lines = [line.split(",") for line in (FOLDER / "aliases.csv").read_text("utf-8").splitlines()[1:]]
    assert all(len(line) == 2 and line[0] in held and line[1] not in held for line in lines)
    for about in RELATIONS:
        for names in (value_candidates(about), subject_candidates(about)):
            forms = [(normalize_words(form), name) for form, name in names._spellings()]
            assert len({form for form, _ in forms}) == len(set(forms))  # no form means two candidates


# ---- the questions ---------------------------------------------------------------------------------------------
def test_the_questions() -> None:
    assert len({q.prompt for q in ALL_QUESTIONS}) == len(ALL_QUESTIONS)
    counts = Counter((q.task, q.with_steps) for q in ALL_QUESTIONS)
    assert counts[RETRIEVAL, False] == len(load_facts()) and counts[INVERSE, False] == sum(
        f.unique for f in load_facts()
    )
    assert {task for task, steps in counts if steps} == set(YES_NO_TASKS)
    for q in ALL_QUESTIONS:
        verdict = q.grade(f" {q.example_answer}\n\nQuestion: and now?\nAnswer: Nobody")
        assert verdict.is_correct and verdict.facts_stated is (True if q.with_steps else None), q
        assert q.prompt.endswith("Answer:") and 1 <= len(q.shots) <= 2
        told = {f.subject for shot in q.shots for f in shot.facts}
        assert not told & {f.subject for f in q.facts}  # the examples do not give it away
    pairs = [q for q in ALL_QUESTIONS if q.task == COMPARISON]
    for q in pairs:
        first, second = (q.relation.sort_key(f.value) for f in q.facts)
        assert first != second and q.truth == ("Yes" if first > second else "No")
    assert abs(sum(q.truth == "Yes" for q in pairs) / len(pairs) - 0.5) < 0.02


def test_fewer_questions_are_the_first_of_more_and_the_same_with_steps() -> None:
    few, more = world_questions(5), {q.prompt for q in world_questions(9)}
    assert len(few) == 6 * 5 and {q.prompt for q in few} < more < {q.prompt for q in ALL_QUESTIONS}
    for task in YES_NO_TASKS:
        assert [q.text for q in few if q.task == task and q.with_steps] == [
            q.text for q in few if q.task == task and not q.with_steps
        ]


def test_chance_is_the_commonest_answer() -> None:
    one = {(q.task, q.relation.name): q.chance for q in ALL_QUESTIONS}
    assert one[RETRIEVAL, "element, atomic number"] == one[INVERSE, "element, atomic number"] == 1 / 103
    assert one["classification", "element, atomic number"] == 52 / 103  # 52 odd numbers
    assert one[RETRIEVAL, "book, author"] == 4 / len(facts_of(RELATIONS[3]))  # Dickens has four


# ---- judging ---------------------------------------------------------------------------------------------------
NUMBER, SYMBOL, CAPITAL, AUTHOR, _, PRESIDENT, _, MONTH = RELATIONS
NESTED = CandidateNames(("Guinea", "Papua New Guinea"))


@pytest.mark.parametrize(
    ("said", "names", "read"),
    [
        ("26", value_candidates(NUMBER), "26"),
        ("**26**.\nIron has 26 protons, gold 79", value_candidates(NUMBER), "26"),
        ("The atomic number of Iron is 26.", value_candidates(NUMBER), "26"),
        ("26 (its mass is 55.85)", value_candidates(NUMBER), "26"),
        ("either 26 or 27", value_candidates(NUMBER), None),
        ("260", value_candidates(NUMBER), None),
        ("twenty-six", value_candidates(NUMBER), None),
        ("He was the 16th president", value_candidates(PRESIDENT), "16"),
        ("<think>27? 28?</think>\n\n26", value_candidates(NUMBER), "26"),
        ("<think>26", value_candidates(NUMBER), None),
        ("Is it 27? No.\n</think>\n\n26", value_candidates(NUMBER), "26"),  # the chat template opened the thought
        ("[THINK]27[/THINK]26", value_candidates(NUMBER), "26"),
        ("<thinking>27</thinking> 26", value_candidates(NUMBER), "26"),
        ("<think>a</think>27<think>b</think>26", value_candidates(NUMBER), "26"),
        (
            "<|channel|>analysis<|message|>27<|end|><|start|>assistant<|channel|>final<|message|>26<|return|>",
            value_candidates(NUMBER),
            "26",
        ),
        ("<|channel|>analysis<|message|>Surely 26", value_candidates(NUMBER), None),
        ("26<|im_end|>", value_candidates(NUMBER), "26"),
        ("Answer: 26", value_candidates(NUMBER), "26"),
        ("26\n\nQuestion: What is the atomic number of Gold?\nAnswer: 79", value_candidates(NUMBER), "26"),
        ("", value_candidates(NUMBER), None),
        ("aluminum", subject_candidates(NUMBER), "Aluminium"),
        ("It is lead.", subject_candidates(NUMBER), "Lead"),
        ("as", value_candidates(SYMBOL), None),
        ("fe", value_candidates(SYMBOL), "Fe"),
        ("As we all know, the symbol is Fe", value_candidates(SYMBOL), "Fe"),
        ("It may be March", subject_candidates(MONTH), "March"),
        ("may", subject_candidates(MONTH), "May"),
        ("bogota", value_candidates(CAPITAL), "Bogotá"),
        ("The capital is N\u2019Djamena", value_candidates(CAPITAL), "N'Djamena"),
        ("Kiev", value_candidates(CAPITAL), "Kyiv"),
        ("Papua New Guinea", NESTED, "Papua New Guinea"),
        ("I think Guinea, not Papua New Guinea", NESTED, None),
        ("Lincoln", subject_candidates(PRESIDENT), "Abraham Lincoln"),
        ("President Roosevelt", subject_candidates(PRESIDENT), None),
        ("FDR", subject_candidates(PRESIDENT), "Franklin D. Roosevelt"),
        ("John Quincy Adams", subject_candidates(PRESIDENT), "John Quincy Adams"),
        ("J.R.R. Tolkien", value_candidates(AUTHOR), "J. R. R. Tolkien"),
        ("It was written by F. Scott Fitzgerald", value_candidates(AUTHOR), "F. Scott Fitzgerald"),
        ("Gabriel Garcia Marquez", value_candidates(AUTHOR), "Gabriel García Márquez"),
        ("Yes", None, "Yes"),
        ("yes, there is no doubt", None, "Yes"),
        ("I would say no.", None, "No"),
        ("It is yes or no", None, None),
        ("Iron is even", None, None),
    ],
)
def test_what_an_answer_says(said: str, names: CandidateNames | None, read: str | None) -> None:
    assert grade_response(said, "x", names).parsed_answer == read


@pytest.mark.parametrize(
    ("said", "read", "stated"),
    [
        ("Iron: 26. Gold: 79. So: No", "No", True),
        ("Iron has 26.\nGold has 79.\n\n**So:** Yes", "Yes", True),
        ("Iron has 26 and gold 79.\nNo.", "No", True),
        ("Iron: 25. Gold: 79. So: No", "No", False),
        ("No", "No", False),
        ("Iron: 26. Gold: 79. So:", None, True),
        ("Iron: 26. Gold: 79. So: Yes</think>No", "No", False),  # facts in thoughts do not count
    ],
)
def test_what_an_answer_with_steps_says(said: str, read: str | None, stated: bool) -> None:
    names = value_candidates(NUMBER)
    verdict = grade_response(said, "No", None, [(names, "26"), (names, "79")])
    assert (verdict.parsed_answer, verdict.facts_stated) == (read, stated)


# ---- endpoints -------------------------------------------------------------------------------------------------
Reply = tuple[int, Any]  # a status and a body: bytes, or what becomes JSON


class Server:
    """A server on this machine; reply(prompt, number of the request) gives what it says. asked: all prompts."""

    def __init__(self, reply: Callable[[str, int], Reply], headers: dict[str, str] | None = None) -> None:
        self.asked: list[str] = []
        self.seen: list[tuple[str, str | None, dict[str, Any]]] = []
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = body["messages"][0]["content"] if "messages" in body else body["prompt"]
                with lock:
                    outer.asked.append(prompt)
                    outer.seen.append((self.path, self.headers["Authorization"], body))
                    number = len(outer.asked)
                status, said = reply(prompt, number)
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                try:
                    self.send_response(status)
                    for name, value in (headers or {}).items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:  # whoever asked has gone
                    pass

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Starts servers, without a key or proxies from outside."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    begun: list[Server] = []

    def start(*given: Any, **more: Any) -> Server:
        begun.append(Server(*given, **more))
        return begun[-1]

    yield start
    for server in begun:
        server.close()


def chat(text: Any) -> Reply:
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}


def asking(server: Server, **settings: Any) -> OpenAIBackend:
    return OpenAIBackend(server.url, "m", **{"pause": 0.01, "timeout": 5.0, **settings})


BY_PROMPT = {q.prompt: q for q in ALL_QUESTIONS}


def forward_only(prompt: str, _: int = 0) -> Reply:
    """Knows every fact from subject to value and works nothing out unless it is written; knows no way back."""
    q = BY_PROMPT[prompt]
    if q.task == INVERSE:
        return chat("I do not know.")
    return chat(q.example_answer if q.task == RETRIEVAL or q.with_steps else "No")


def command(server: Server, out: Path, *words: str) -> list[dict[str, Any]]:
    given = ["world-facts", "--endpoint", server.url, "--name", "m", "--output", str(out), "--json", *words]
    return [json.loads(line) for line in run(given).splitlines()]


def whole(rows: list[dict[str, Any]]) -> dict[tuple[str, bool], dict[str, Any]]:
    return {(row["task"], row["steps"]): row for row in rows if row["about"] == "all"}


def test_who_knows_the_way_forth_and_not_back(serve: Callable[..., Server], tmp_path: Path) -> None:
    server, out = serve(forward_only), tmp_path / "answers.jsonl"
    rows = whole(command(server, out, "--batch-size", "8", "--num-examples", "60"))
    assert [task for task, steps in rows if not steps] == list(TASKS)
    assert rows[RETRIEVAL, False]["accuracy"] == 1 and rows[INVERSE, False]["accuracy"] == 0
    assert rows[INVERSE, False]["unread"] == 1 and rows[INVERSE, False]["high"] == pytest.approx(0.0596, abs=1e-4)
    for task in YES_NO_TASKS:
        assert rows[task, True]["accuracy"] == rows[task, True]["stated"] == 1
        assert 0.3 < rows[task, False]["accuracy"] < 0.7 and rows[task, False]["stated"] is None
        assert 0.5 <= rows[task, False]["chance"] < 0.62
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 1 + len(server.asked) == 1 + 6 * 60
    assert {"question", "answer", "read", "right", "truth", "prompt"} <= lines[1].keys()
    text = run(["world-facts", "--endpoint", server.url, "--name", "m", "--output", str(out), "--num-examples", "60"])
    assert "inverse search  -" in text and "100.0%" in text and len(server.asked) == 360  # nothing was asked again


def test_the_other_protocol_and_the_key(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")
    server = serve(lambda *_: (200, {"choices": [{"text": "26"}]}))
    told = OpenAIBackend(f"{server.url}/completions/", "m")
    assert list(told.generate(["a"])) == [(0, "26")] and SECRET not in repr(told)
    path, key, body = server.seen[0]
    assert path == "/v1/completions" and key == f"Bearer {SECRET}" and body["stop"] == ["\n\n"]
    assert body["temperature"] == 0 and body["max_tokens"] == 64


@pytest.mark.parametrize("status", [429, 503])
def test_it_asks_again(serve: Callable[..., Server], status: int) -> None:
    server = serve(lambda _, n: (status, b"busy") if n <= 2 else chat("ok"))
    assert list(asking(server).generate(["a"])) == [(0, "ok")] and len(server.asked) == 3


def test_a_slow_server_is_asked_again_and_then_given_up(serve: Callable[..., Server]) -> None:
    def slow(_: str, n: int) -> Reply:
        time.sleep(0.6 if n == 1 else 0)
        return chat("late")

    assert list(asking(serve(slow), timeout=0.3).generate(["a"])) == [(0, "late")]
    never = serve(lambda *_: (time.sleep(1.5), chat("x"))[1])
    with pytest.raises(UserError, match=r"did not answer within 0.2 s, 2 times; try again later$"):
        list(asking(never, timeout=0.2, tries=2).generate(["a"]))


def test_what_the_server_asks_to_wait_is_waited(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_backend, "LONGEST_PAUSE", 0.3)
    server = serve(lambda _, n: (429, b"") if n == 1 else chat("ok"), headers={"Retry-After": "4000"})
    began = time.monotonic()
    assert list(asking(server).generate(["a"])) == [(0, "ok")] and 0.3 <= time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((200, b"<html>hello</html>"), "answered with HTML; give the address of its completions"),
        ((200, b"hello"), "answered with no JSON"),
        ((200, b"[" * 100_000), "answered with no JSON"),
        ((200, b"\xff\xfe"), "answered with no JSON"),
        ((200, {"choices": []}), r"has no choices\[0\]; there is an empty list"),
        ((200, {"result": "26"}), "has no choices; it has result"),
        ((200, {"error": {"message": "no such\nmodel"}}), "has no choices: it says .*no such"),
        ((200, {"choices": [{"text": "26"}]}), r"has no choices\[0\].message; it has text"),
        ((200, {"choices": [{"message": "26"}]}), r"has no choices\[0\].message.content; there is a str"),
        ((200, [1]), "has no choices; there is a list"),
        ((200, None), "has no choices; there is a NoneType"),
        (
            (200, {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}),
            r"has no text at choices\[0\].message.content; .* more --max-new-tokens",
        ),
        ((200, b'{"choices": [{"mess'), "sends JSON that is cut, 2 times; try again later"),
        ((522, b"x"), "answered with status 522, 2 times; try again later"),
        ((401, {"error": {"message": f"bad key {SECRET}"}}), r"status 401 \(bad key \[key\]\); set OPENAI_API_KEY"),
        ((404, b"nothing"), "status 404; check the address and --name"),
        ((400, {"error": "no\ntemperature"}), r"status 400 \(no temperature\)"),
        ((302, b""), "status 302; give the address that it points to"),
        ((500, b"x"), "answered with status 500, 2 times; try again later"),
    ],
)
def test_a_server_that_lies_is_named_in_one_line(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, reply: Reply, message: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(UserError, match=message) as caught:
        list(asking(serve(lambda *_: reply), tries=2).generate(["a"]))
    assert "\n" not in str(caught.value) and SECRET not in str(caught.value)


THINKS = {"message": {"content": ""}, "finish_reason": "length"}


@pytest.mark.parametrize(
    ("reply", "taken"),
    [
        ({"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}, "I cannot."),
        ({"message": {"refusal": "I cannot."}}, "I cannot."),
        ({"message": {"content": None}, "finish_reason": "content_filter"}, ""),
        ({"message": {"content": "  "}}, ""),
        ({"message": {"content": [{"type": "text", "text": "2"}, {"type": "image"}, {"text": "6"}]}}, "26"),
        ({"message": {"content": f"my key is {SECRET}"}}, "my key is [key]"),
    ],
)
def test_a_question_without_text_has_an_empty_answer(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, reply: dict, taken: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server = serve(lambda *_: (200, {"choices": [reply]}))
    assert list(asking(server, tries=2).generate(["a"])) == [(0, taken)]
    assert len(server.asked) == (1 if taken else 2), "what is empty is asked again"


def test_thoughts_beyond_the_limit_are_an_error_only_if_nothing_ever_comes(serve: Callable[..., Server]) -> None:
    server = serve(lambda prompt, _: (200, {"choices": [THINKS]}) if prompt == "hard" else chat("26"))
    told = asking(server, tries=1, max_concurrency=1)
    assert sorted(told.generate(["easy", "hard"])) == [(0, "26"), (1, "")]
    with pytest.raises(UserError, match="more --max-new-tokens"):
        list(asking(server, tries=1).generate(["hard"]))


def test_options_that_a_server_does_not_take_are_changed(serve: Callable[..., Server]) -> None:
    def reply(_: str, n: int) -> Reply:
        body = server.seen[-1][2]
        if "max_tokens" in body:
            return 400, {"error": {"message": "Unsupported parameter: use 'max_completion_tokens' instead."}}
        if "temperature" in body:
            return 400, {"error": {"message": "'temperature' does not support 0 with this model."}}
        return chat("26")

    server = serve(reply)
    told = asking(server, max_concurrency=1)
    assert list(told.generate(["a", "b"])) == [(0, "26"), (1, "26")] and len(server.asked) == 4
    assert server.seen[-1][2]["max_completion_tokens"] == 64


def test_options_are_changed_for_requests_under_way_too(serve: Callable[..., Server]) -> None:
    def reply(_: str, n: int) -> Reply:
        time.sleep(0.2 if n <= 4 else 0)  # so that four have been sent before the first is refused
        if "max_tokens" in server.seen[n - 1][2]:
            return 400, {"error": {"message": "use 'max_completion_tokens' instead."}}
        return chat("26")

    server = serve(reply)
    assert len(list(asking(server, max_concurrency=4).generate([*"abcdefgh"]))) == 8


def test_a_key_that_is_a_word_is_not_cut_from_answers(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    assert list(asking(serve(lambda *_: chat("Mexico"))).generate(["a"])) == [(0, "Mexico")]


def test_an_address_of_azure(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server = serve(lambda *_: chat("26"))
    told = OpenAIBackend(f"{server.url}/deployments/m?api-version=2024-10-21", "m")
    assert list(told.generate(["a"])) == [(0, "26")]
    assert server.seen[0][0] == "/v1/deployments/m/chat/completions?api-version=2024-10-21"
    for url in (f"{server.url}?key={SECRET}", f"{server.url}?api-version=1&key={SECRET}"):
        with pytest.raises(UserError, match="at most with [?]api-version=") as caught:
            OpenAIBackend(url, "m")
        assert SECRET not in str(caught.value)


def test_an_error_with_status_200_is_asked_again(serve: Callable[..., Server]) -> None:
    server = serve(lambda _, n: (200, {"error": {"message": "overloaded"}}) if n == 1 else chat("26"))
    assert list(asking(server).generate(["a"])) == [(0, "26")] and len(server.asked) == 2


def test_single_bytes_do_not_outlive_the_deadline_and_an_interruption_is_heard() -> None:
    def drip(listener: socket.socket, rest: bytes) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    for byte in rest:
                        connection.sendall(bytes([byte]))
                        time.sleep(0.05)

    for rest in (b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 400, b"HTTP/1.1 100 Continue\r\n\r\n" * 40):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=drip, args=(listener, rest), daemon=True).start()
            url, began = f"http://127.0.0.1:{listener.getsockname()[1]}", time.monotonic()
            with pytest.raises(UserError, match="did not answer within 0.5 s, 1 times"):
                list(OpenAIBackend(url, "m", timeout=0.5, tries=1).generate(["a"]))
            assert time.monotonic() - began < 3
            told = OpenAIBackend(url, "m", timeout=60.0).generate(["a"])
            began = time.monotonic()
            before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
            try:
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                with pytest.raises(KeyboardInterrupt):
                    next(told)
            finally:
                signal.signal(signal.SIGINT, before)
            assert time.monotonic() - began < 5


def test_answers_of_many_lines_are_graded_at_once() -> None:
    began = time.monotonic()
    grade_response("\n" * 100_000 + "26", "26", value_candidates(NUMBER))
    assert time.monotonic() - began < 2


def test_redirections_do_not_carry_the_key_away(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    thief = serve(lambda *_: chat("26"))
    with pytest.raises(UserError, match="status 307"):
        list(asking(serve(lambda *_: (307, b""), headers={"Location": thief.url})).generate(["a"]))
    assert not thief.asked


def test_nobody_there_and_no_address() -> None:
    with pytest.raises(UserError, match="cannot be reached .*, 2 times"):
        list(OpenAIBackend("http://127.0.0.1:9", "m", tries=2, pause=0.01).generate(["a"]))
    for url in ("file:///etc/passwd", "localhost:80", "http://", "http://[::1", "http://a b", "http://a\nb"):
        with pytest.raises(UserError, match="is no address"):
            OpenAIBackend(url, "m")


def test_a_reply_without_end_is_left(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_backend, "MAX_REPLY_BYTES", 1000)
    with pytest.raises(UserError, match="sends more than"):
        list(asking(serve(lambda *_: (200, b" " * 5000))).generate(["a"]))


# ---- answers that are kept -------------------------------------------------------------------------------------
def test_no_answer_is_lost_or_asked_for_twice(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenAIBackend, "pause", 0.0)
    broken = serve(lambda prompt, n: forward_only(prompt) if n <= 20 else (401, b""))
    out = tmp_path / "deep" / "answers.jsonl"
    with pytest.raises(UserError, match=r"status 401; .* \(20 answers are kept in .* same command goes on\)$"):
        command(broken, out, "--num-examples", "10")
    broken.close()
    with open(out, "ab") as file:
        file.write(b'{"prompt": "cut by a cra')
    server = serve(forward_only)
    server.url = broken.url  # the transcript knows the endpoint by its address; the answers come from elsewhere
    healthy = OpenAIBackend(f"{server.url}", "m")
    healthy.identity, asked = dict(healthy.identity), world_questions(10)
    with ResponseLog(out, healthy.identity) as transcript:
        assert len(transcript.responses) == 20
        kept = set(transcript.responses)
        healthy.url = f"http://127.0.0.1:{server._server.server_address[1]}/v1/chat/completions"
        transcript.collect(asked, healthy)
        assert not kept & set(server.asked) and len(server.asked) == 40
        with pytest.raises(UserError, match="another process is writing"):
            ResponseLog(out, healthy.identity)
    with ResponseLog(out, healthy.identity) as transcript:
        assert set(transcript.responses) == {q.prompt for q in asked}
        transcript.collect(asked, healthy)
    assert len(server.asked) == 40 and len(out.read_text().splitlines()) == 61


def test_the_answers_under_way_come_before_the_error(serve: Callable[..., Server]) -> None:
    def reply(prompt: str, _: int) -> Reply:
        time.sleep(0.3 if prompt == "good" else 0)
        return chat("yes") if prompt == "good" else (401, b"")

    told = asking(serve(reply), max_concurrency=2).generate(["good", "bad", "more", "more"])
    assert next(told) == (0, "yes")
    with pytest.raises(UserError, match="status 401"):
        next(told)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"version": 1, "model": "other", "tokens": 64}\n', r"another model \(other\)|another endpoint"),
        (b'{"version": 1, "model": "m", "endpoint": "e", "tokens": 9}\n', r"another tokens \(9\)"),
        (b'{"version": 7}\n', "is no file of answers"),
        (b"\nname,value\n", "is no file of answers"),
        (b"name,value\n", "is no file of answers"),
        (b"a text without an end", "is no file of answers"),
        (b'{"version": 1, "model": "m", "endpoint": "e", "tokens": 64}\n{"prompt": 3}\n', "was altered"),
    ],
)
def test_files_that_are_no_transcript_of_this_model(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        ResponseLog(path, {"model": "m", "endpoint": "e", "tokens": 64})
    assert path.read_bytes() == content
    with pytest.raises(UserError, match="cannot write to .*: Is a directory; give another --output"):
        ResponseLog(tmp_path, {})


def test_strange_answers_are_kept_too(tmp_path: Path) -> None:
    class Strange:
        name, identity = "strange", {"model": "strange"}

        def generate(self, prompts: Any) -> Iterator[tuple[int, str]]:
            yield from ((i, f"\ud800\u2028\0{i}\n") for i in range(len(prompts)))

    for _ in range(2):
        with ResponseLog(tmp_path / "file", Strange.identity) as transcript:
            transcript.collect(world_questions(2), Strange())
            assert len(transcript.responses) == 12 and all("\ud800" in said for said in transcript.responses.values())
    assert len((tmp_path / "file").read_bytes().splitlines()) == 13


# ---- models in folders -----------------------------------------------------------------------------------------
def texts(asked: list[WorldQuestion]) -> list[str]:
    return [q.prompt for q in asked]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model and a tokenizer of words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["<unk>", "<eos>"], show_progress=False)
    words.train_from_iterator(texts(world_questions(20)), trainer)
    path = tmp_path_factory.mktemp("models") / "tiny"
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<eos>").save_pretrained(path)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 192, "initializer_range": 0.5}
    config = GPT2Config(vocab_size=words.get_vocab_size(), bos_token_id=1, eos_token_id=1, **sizes)
    GPT2LMHeadModel(config).save_pretrained(path)
    return path


def altered(folder: Path, into: Path, *left_out: str) -> Path:
    into.mkdir()
    for path in folder.iterdir():
        if path.name not in left_out:
            (into / path.name).write_bytes(path.read_bytes())
    return into


def test_a_model_of_transformers_answers_alike_alone_and_in_batches(folder: Path, tmp_path: Path) -> None:
    from probing.world_facts.hf_backend import HFBackend

    prompts = texts(world_questions(4))
    batched = HFBackend(folder, max_new_tokens=6, batch_size=7)
    found = dict(batched.generate(prompts))
    batched.batch_size = 1
    assert sorted(found) == list(range(len(prompts))) and found == dict(batched.generate(prompts))
    assert len(set(found.values())) > 3
    with pytest.raises(UserError, match="exceed the model's context of 192; give fewer --max-new-tokens"):
        list(HFBackend(folder, max_new_tokens=180).generate(prompts))


def test_the_chat_template_is_used(folder: Path, tmp_path: Path) -> None:
    from probing.world_facts.hf_backend import HFBackend

    path = altered(folder, tmp_path / "chat")
    (path / "chat_template.jinja").write_text("{{ messages[0]['content'] }} Yes{{ raise_exception('no') if 0 }}")
    assert HFBackend(path)._apply_chat_template("Who?") == "Who? Yes"
    (path / "chat_template.jinja").write_text("{{ raise_exception('no such role') }}")
    with pytest.raises(UserError, match="chat template fails on a question: no such role"):
        list(HFBackend(path).generate(["Who?"]))


def test_a_folder_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    given = [
        "--model",
        str(folder),
        "--num-examples",
        "2",
        "--max-new-tokens",
        "4",
        "--output",
        str(tmp_path / "out"),
        "--json",
    ]
    rows = [json.loads(line) for line in run(["world-facts", *given]).splitlines()]
    assert whole(rows)[INVERSE, False]["n"] == 2
    again = run(["world-facts", *given, "--batch-size", "1"])
    assert [json.loads(line) for line in again.splitlines()] == rows


def test_folders_that_will_not_do(folder: Path, tmp_path: Path) -> None:
    from probing.world_facts.hf_backend import HFBackend, check_folder

    def refused(path: Path, message: str) -> None:
        with pytest.raises(UserError, match=message) as caught:
            HFBackend(path)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "nowhere", "holds no model")
    tokenizers = ("tokenizer.json", "tokenizer_config.json")
    refused(altered(folder, tmp_path / "mute", *tokenizers), "holds no tokenizer; save it there too")
    pickled = altered(folder, tmp_path / "pickled", "model.safetensors")
    refused(pickled, "holds no weights")
    (pickled / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    refused(pickled, "pickles only, which can run code; save them as safetensors")
    cut = altered(folder, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])
    refused(cut, "cannot load the model in")
    ours = altered(folder, tmp_path / "ours", *tokenizers)
    (ours / "config.json").write_text('{"model_type": "physics-lm"}')
    refused(ours, "without a tokenizer for real-world questions; .* python -m probing ask --run ID")
    code = altered(folder, tmp_path / "code")
    (code / "config.json").write_text('{"model_type": "x", "auto_map": {"AutoModelForCausalLM": "m.M"}}')
    (code / "m.py").write_text("raise SystemExit('code was run')")
    refused(code, "cannot load the model in")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    refused(adapter, "holds an adapter only")
    check_folder(folder)


def test_weights_that_lack_a_part_and_a_foreign_tokenizer(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from probing.world_facts.hf_backend import HFBackend

    weights = load_file(folder / "model.safetensors")
    partial = altered(folder, tmp_path / "partial")
    save_file({k: v for k, v in weights.items() if "h.1.mlp" not in k}, partial / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="lack transformer.h.1.mlp"):
        HFBackend(partial)
    small = altered(folder, tmp_path / "small")
    settings = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps(settings | {"vocab_size": 8}))
    cut = {k: v[:8].clone() if "wte" in k else v for k, v in weights.items()}
    save_file(cut, small / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"more tokens than the model \(8\); it is another model's"):
        list(HFBackend(small).generate(texts(world_questions(1))))


# ---- the command line ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--model", "x", "--num-examples", "0"], "--num-examples 0 must be above 0"),
        (["--model", "x", "--timeout", "nan"], "--timeout nan must be above 0"),
        (["--endpoint", "http://localhost:9"], "--endpoint needs --name"),
        (["--model", "x", "--name", "y"], "--name is for an --endpoint"),
        (["--endpoint", "ftp://x", "--name", "y"], "is no address"),
    ],
)
def test_settings_that_will_not_do(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(["world-facts", *given])


def test_from_the_shell(serve: Callable[..., Server], tmp_path: Path) -> None:
    """One line and status 2; an examination of an endpoint needs no torch."""
    server = serve(forward_only)
    given = [str(tmp_path / "none")]
    bad = subprocess.run(
        [sys.executable, "-m", "probing", "world-facts", "--model", *given], capture_output=True, text=True
    )
    assert bad.returncode == 2 and bad.stderr.startswith("error: ") and bad.stderr.count("\n") == 1
    code = (
        "import sys; from probing.__main__ import main; sys.argv = ['probing', *sys.argv[1:]]; assert main() == 0; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    words = ["world-facts", "--endpoint", server.url, "--name", "a/b c", "--num-examples", "1"]
    here = {**os.environ, "PYTHONPATH": f"{Path(__file__).resolve().parents[3]}:{os.environ.get('PYTHONPATH', '')}"}
    good = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, env=here)
    assert good.returncode == 0, good.stderr
    assert "retrieval" in good.stdout and "answers-a_b_c.jsonl" in good.stdout
    assert (tmp_path / "answers-a_b_c.jsonl").exists()
