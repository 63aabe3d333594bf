"""Generation back end for an OpenAI-compatible HTTP endpoint: POST .../chat/completions or .../completions.

Requests to busy, failing and silent servers are retried with exponential backoff, each within a total deadline; a
malformed reply is an error that names what is missing. The key comes from the environment variable OPENAI_API_KEY and
is sent to the given address only: redirections are not followed, and no message and no answer shows it.
"""

import asyncio
import json
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from probing.world_facts.backend import STOP_STRING
from synth.errors import UserError

if TYPE_CHECKING:
    import httpx

CHAT, PLAIN = "/chat/completions", "/completions"
RETRY_STATUSES = (408, 425, 429, 500, 502, 503, 504, 529, *range(520, 526))  # the last six: a proxy before the server
MAX_REPLY_BYTES = 1 << 22  # a normal reply has a few hundred bytes
MIN_SECRET = 16  # letters
LONGEST_PAUSE = 60.0  # seconds, also where a server asks for more
STATUS_HINTS = {
    401: "set OPENAI_API_KEY to a key that it takes",
    403: "set OPENAI_API_KEY to a key that may use this model",
    404: "check the address and --name",
}
QUERY = re.compile(r"api-version=[\w.-]+")  # of Azure; anything else may hold a key


class _TransientError(Exception):
    """An error that a retry may resolve. after: seconds to wait, from the server's Retry-After header; settled: the
    answer to take if it never does, None if there is none."""

    def __init__(self, message: str, after: float = 0.0, settled: str | None = None) -> None:
        super().__init__(message)
        self.after, self.settled = after, settled


@dataclass
class OpenAIBackend:
    """A model at an endpoint.

    url: the address; /chat/completions is added unless it ends with /completions, and ?api-version= may follow. name:
    of the model. timeout: seconds per request. tries: number of attempts. pause: seconds before the second attempt,
    doubled before each further one. max_concurrency: number of simultaneous requests.
    """

    url: str
    name: str
    max_new_tokens: int = 64
    timeout: float = 60.0
    tries: int = 5
    pause: float = 1.0
    max_concurrency: int = 4
    key: str = field(default_factory=lambda: os.environ.get("OPENAI_API_KEY", "").strip(), repr=False)

    def __post_init__(self) -> None:
        self.url, mark, query = self.url.partition("?")
        if set("@?#") & set(self.url + query) or (mark and not QUERY.fullmatch(query)):
            mend = "give the bare address, at most with ?api-version=, and a key in OPENAI_API_KEY"
            raise UserError(f"--endpoint holds a user name, ? or #, which messages would show; {mend}")
        try:
            parts = urlsplit(self.url)
            valid = parts.scheme in ("http", "https") and parts.hostname
            parts.port  # noqa: B018  raises ValueError if it is not a number
        except ValueError:
            valid = None
        if not valid or not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise UserError(f"--endpoint {self.url!r} is no address; it begins with http:// or https://")
        if not (self.key.isascii() and self.key.isprintable()):
            raise UserError("OPENAI_API_KEY holds characters that no key has; set it again")
        self.url = self.url.rstrip("/")
        self.url += "" if self.url.endswith(PLAIN) else CHAT
        self._is_chat = self.url.endswith(CHAT)
        self.url += mark + query
        self.identity = {"model": self.name, "endpoint": self.url, "tokens": self.max_new_tokens}
        self._options: dict[str, Any] = {"max_tokens": self.max_new_tokens, "temperature": 0}
        self._has_answered = False

    def generate(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield (index, response) of concurrent requests as they complete.

        When one fails for good no further requests start; those that are running are still yielded before UserError.
        An interruption ends them all at once.
        """
        if find_spec("httpx") is None:
            raise UserError("--endpoint needs httpx; install it with pip install 'physics-of-lms[endpoint]'")
        said: SimpleQueue[Any] = SimpleQueue()
        loop = asyncio.new_event_loop()
        requests = loop.create_task(self._request_all(list(prompts), said))
        requests.add_done_callback(lambda done: said.put(None if done.cancelled() else done.exception()))
        # a loop of its own in a thread of its own: a notebook has one already in this thread
        thread = threading.Thread(target=_run_until_done, args=(loop, requests), daemon=True)
        thread.start()
        try:
            while isinstance(answer := said.get(), tuple):
                yield answer
        finally:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(requests.cancel)
            thread.join()
        if answer is not None:
            raise answer

    async def _request_all(self, prompts: list[str], said: "SimpleQueue[Any]") -> None:
        """Put (index, response) of every prompt into the queue, in any order; then raise the first error, if any."""
        import httpx

        errors: list[UserError] = []
        waiting = iter(enumerate(prompts))
        async with httpx.AsyncClient(timeout=None, follow_redirects=False) as client:

            async def ask_in_turn() -> None:
                for index, prompt in waiting:
                    if errors:
                        return
                    try:
                        said.put((index, await self._request_with_retries(client, prompt, errors)))
                    except UserError as error:
                        errors.append(error)

            await asyncio.gather(*(ask_in_turn() for _ in range(self.max_concurrency)))
        if errors:
            raise errors[0]

    async def _request_with_retries(self, client: "httpx.AsyncClient", prompt: str, errors: list[UserError]) -> str:
        """The response, after at most `tries` attempts; the first error of another request ends the attempts."""
        for attempt in range(1, self.tries + 1):
            try:
                response = self._parse_reply(await self._post(client, prompt))
                self._has_answered = self._has_answered or bool(response)
                return response
            except _TransientError as error:
                if attempt == self.tries or errors:
                    if error.settled is not None:
                        return error.settled
                    raise UserError(f"{self.url} {error}, {attempt} times; try again later") from error
                await asyncio.sleep(min(LONGEST_PAUSE, max(error.after, self.pause * 2 ** (attempt - 1))))
        raise AssertionError("the last attempt returns or raises")

    async def _post(self, client: "httpx.AsyncClient", prompt: str) -> bytes:
        import httpx

        headers = {"Accept": "application/json"}
        if self.key:
            headers |= {"Authorization": f"Bearer {self.key}"} | ({"api-key": self.key} if "?" in self.url else {})
        try:
            async with asyncio.timeout(self.timeout):  # of all of it: a server may send single bytes without end
                for _ in range(1 + len(self._options)):
                    sent = dict(self._options)
                    async with client.stream("POST", self.url, json=self._body(prompt), headers=headers) as reply:
                        data = await self._read_body(reply)
                    if reply.status_code == 200:
                        return data
                    # another request may have changed them in the meantime
                    if sent == self._options and not self._adapt_options(reply.status_code, data):
                        break
        except TimeoutError as error:
            raise _TransientError(f"did not answer within {self.timeout:g} s") from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise UserError(f"--endpoint {self.url!r} is no address ({error}); check its host") from error
        except httpx.HTTPError as error:
            raise _TransientError(f"cannot be reached ({error or type(error).__name__})") from error
        raise self._error_from_status(reply, data)

    def _body(self, prompt: str) -> dict[str, Any]:
        asked: dict[str, Any] = {"prompt": prompt, "stop": [STOP_STRING]}
        if self._is_chat:
            asked = {"messages": [{"role": "user", "content": prompt}]}
        return {"model": self.name, **self._options, **asked}

    def _adapt_options(self, status: int, data: bytes) -> bool:
        """Whether the options were changed to what the server says it takes: newer models call the limit otherwise and
        have no temperature."""
        said = data.decode(errors="replace") if status in (400, 422) else ""
        if "max_completion_tokens" in said and "max_tokens" in self._options:
            self._options["max_completion_tokens"] = self._options.pop("max_tokens")
            return True
        return "temperature" in said and self._options.pop("temperature", None) is not None

    async def _read_body(self, reply: "httpx.Response") -> bytes:
        parts, size = [], 0
        async for part in reply.aiter_bytes():
            parts.append(part)
            size += len(part)
            if size > MAX_REPLY_BYTES:
                most = f"{MAX_REPLY_BYTES >> 20} MiB"
                raise UserError(f"{self.url} sends more than {most} for one answer; check the address")
        return b"".join(parts)

    def _error_from_status(self, reply: "httpx.Response", data: bytes) -> Exception:
        """_TransientError for a status that may be retried, else UserError."""
        status = reply.status_code
        if status in RETRY_STATUSES:
            after = reply.headers.get("Retry-After", "")
            return _TransientError(f"answered with status {status}", float(after) if after.isdecimal() else 0.0)
        hint = STATUS_HINTS.get(status, "check the address, --name and --max-new-tokens")
        if 300 <= status < 400:
            location = self._redact_key(str(reply.headers.get("Location")))
            hint = f"give the address that it points to, if you trust it: {location}"
        return UserError(f"{self.url} answered with status {status}{self._redact_key(_error_message(data))}; {hint}")

    def _parse_reply(self, reply: bytes) -> str:
        """The response text in a reply, without the key. Raises UserError that names what is missing, _TransientError
        for what another attempt may bring."""
        try:
            data = json.loads(reply)
        except (ValueError, RecursionError) as error:
            if reply.lstrip()[:1] == b"{":
                raise _TransientError("sends JSON that is cut") from error
            content = "HTML" if reply.lstrip()[:1] == b"<" else "no JSON"
            raise UserError(f"{self.url} answered with {content}; give the address of its completions") from error
        if isinstance(data, dict) and data.get("error") and not data.get("choices"):
            raise _TransientError(f"has no choices: it says {self._redact_key(json.dumps(data['error']))}")
        keys: list[str | int] = ["choices", 0, *(["message", "content"] if self._is_chat else ["text"])]
        value, path = data, ""
        for key in keys:
            path += f"[{key}]" if isinstance(key, int) else f"{'.' if path else ''}{key}"
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError) as error:
                if key == "content" and isinstance(value, dict) and value.get("refusal"):
                    value = None
                    break
                actual = self._redact_key(_describe_json(value))
                raise UserError(f"the reply of {self.url} has no {path}{actual}") from error
        text = _join_parts(value) or _refusal(data["choices"][0])
        if not text.strip():
            raise self._error_without_text(data["choices"][0], path)
        # what local servers take for a key may be a word, or a letter, of any answer
        return text.replace(self.key, "[key]") if len(self.key) >= MIN_SECRET else text

    def _error_without_text(self, choice: Any, path: str) -> Exception:
        """For a reply without text: that of a model that thinks beyond its limit is an error until it has answered
        something; a filter, and what stays empty, is an empty answer."""
        reason = choice.get("finish_reason") if isinstance(choice, dict) else None
        if reason == "length" and not self._has_answered:
            advice = "should it think first, give more --max-new-tokens"
            return UserError(f"the reply of {self.url} has no text at {path}; {advice}")
        return _TransientError(f"has no text at {path}", settled="")

    def _redact_key(self, text: str) -> str:
        """A server's text for use in a message: on one line, at most 300 characters, without the key."""
        text = text.replace(self.key, "[key]") if self.key else text
        return "".join(c if c.isprintable() else " " for c in text)[:300]


def _run_until_done(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    try:
        loop.run_until_complete(asyncio.wait([task]))
    finally:
        loop.close()


def _join_parts(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts, of which those with text count."""
    if isinstance(content, list):
        return "".join(str(part["text"]) for part in content if isinstance(part, dict) and part.get("text"))
    return content if isinstance(content, str) else ""


def _refusal(choice: Any) -> str:
    """The words with which a model refused to answer, "" if it did not."""
    message = choice.get("message") if isinstance(choice, dict) else None
    refusal = message.get("refusal") if isinstance(message, dict) else None
    return refusal if isinstance(refusal, str) else ""


def _error_message(data: bytes) -> str:
    """A server's error message in parentheses; empty if the body is not an OpenAI error object."""
    try:
        message = json.loads(data)["error"]
        return f" ({message['message'] if isinstance(message, dict) else message})"
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""


def _describe_json(value: Any) -> str:
    """What a reply contains where an expected key is missing."""
    if isinstance(value, dict):
        return f"; it has {', '.join(map(str, value)) or 'nothing'}"
    return f"; there is {'an empty list' if value == [] else f'a {type(value).__name__}'}"
