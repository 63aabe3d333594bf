"""Generation back end for an OpenAI-compatible HTTP endpoint: POST .../chat/completions or .../completions.

Requests to busy, failing and silent servers are retried with exponential backoff; a malformed reply is an error that
names what is missing. The key comes from the environment variable OPENAI_API_KEY and is sent to the given address only:
redirections are not followed, and no message shows it.
"""

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from probing.world_facts.backend import STOP_STRING
from synth.errors import UserError

CHAT, PLAIN = "/chat/completions", "/completions"
RETRY_STATUSES = (408, 425, 429, 500, 502, 503, 504, 529)
MAX_REPLY_BYTES = 1 << 22  # a normal reply has a few hundred bytes
LONGEST_PAUSE = 60.0  # seconds, also where a server asks for more
STATUS_HINTS = {
    401: "set OPENAI_API_KEY to a key that it takes",
    403: "set OPENAI_API_KEY to a key that may use this model",
    404: "check the address and --name",
}


class _TransientError(Exception):
    """An error that a retry may resolve. after: seconds to wait, from the server's Retry-After header."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirections, which would send the key to another address."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass
class OpenAIBackend:
    """A model at an endpoint.

    url: the address; /chat/completions is added unless it ends with /completions. name: of the model. timeout: seconds
    per request. tries: number of attempts. pause: seconds before the second attempt, doubled before each further one.
    max_concurrency: number of simultaneous requests.
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
        if set("@?#") & set(self.url):  # these may come with a key, which messages would show
            raise UserError("--endpoint holds a user name, ? or #; give the bare address, and a key in OPENAI_API_KEY")
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
        self.identity = {"model": self.name, "endpoint": self.url, "tokens": self.max_new_tokens}
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._stopped = threading.Event()

    def generate(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield (index, response) of concurrent requests as they complete.

        When one fails for good no further requests start; those that are running are still yielded before UserError.
        """
        self._stopped.clear()
        errors: list[UserError] = []
        with ThreadPoolExecutor(self.max_concurrency) as pool:
            futures = {pool.submit(self._request_with_retries, prompt): i for i, prompt in enumerate(prompts)}
            try:
                for future in as_completed(futures):
                    try:
                        response = future.result()
                    except UserError as error:
                        errors.append(error)
                        self._stopped.set()
                        continue
                    if response is not None:
                        yield futures[future], response
            finally:  # also after an interruption
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
        if errors:
            raise errors[0]

    def _request_with_retries(self, prompt: str) -> str | None:
        """The response, after at most `tries` attempts; None if another request failed in the meantime."""
        for attempt in range(1, self.tries + 1):
            if self._stopped.is_set():
                return None
            try:
                return self._parse_reply(self._post(prompt))
            except _TransientError as error:
                if attempt == self.tries:
                    raise UserError(f"{self.url} {error}, {self.tries} times; try again later") from error
                self._stopped.wait(min(LONGEST_PAUSE, max(error.after, self.pause * 2 ** (attempt - 1))))
        return None

    def _post(self, prompt: str) -> bytes:
        body: dict[str, Any] = {"model": self.name, "max_tokens": self.max_new_tokens, "temperature": 0}
        if self.url.endswith(CHAT):
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body |= {"prompt": prompt, "stop": [STOP_STRING]}
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        try:
            with self._opener.open(request, timeout=self.timeout) as reply:
                return self._read_body(reply)
        except urllib.error.HTTPError as error:
            with error:  # closes the connection
                raise self._error_from_status(error) from error
        except (TimeoutError, urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise _TransientError(self._describe_connection_error(error)) from error

    def _read_body(self, reply: Any) -> bytes:
        """The body of a reply. The timeout holds for all of it: a server may send single bytes without end."""
        deadline, parts, size = time.monotonic() + self.timeout, [], 0
        while part := reply.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:
                raise TimeoutError
            if size > MAX_REPLY_BYTES:
                most = f"{MAX_REPLY_BYTES >> 20} MiB"
                raise UserError(f"{self.url} sends more than {most} for one answer; check the address")
        return b"".join(parts)

    def _describe_connection_error(self, error: Exception) -> str:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return f"did not answer within {self.timeout:g} s"
        return f"cannot be reached ({reason or type(reason).__name__})"

    def _error_from_status(self, error: urllib.error.HTTPError) -> Exception:
        """_TransientError for a status that may be retried, else UserError."""
        if error.code in RETRY_STATUSES:
            after = str(error.headers.get("Retry-After", ""))
            return _TransientError(f"answered with status {error.code}", float(after) if after.isdecimal() else 0.0)
        hint = STATUS_HINTS.get(error.code, "check the address, --name and --max-new-tokens")
        if 300 <= error.code < 400:
            location = self._redact_key(str(error.headers.get("Location")))
            hint = f"give the address that it points to, if you trust it: {location}"
        message = self._redact_key(self._error_message(error))
        return UserError(f"{self.url} answered with status {error.code}{message}; {hint}")

    def _error_message(self, error: urllib.error.HTTPError) -> str:
        """The server's error message in parentheses; empty if the body is not an OpenAI error object."""
        try:
            message = json.loads(self._read_body(error))["error"]
            return f" ({message['message'] if isinstance(message, dict) else message})"
        except (ValueError, RecursionError, KeyError, TypeError, OSError, http.client.HTTPException):
            return ""

    def _parse_reply(self, reply: bytes) -> str:
        """The response text in a reply. Raises UserError that names what is missing."""
        try:
            data = json.loads(reply)
        except (ValueError, RecursionError) as error:
            content = "HTML" if reply.lstrip()[:1] == b"<" else "no JSON"
            raise UserError(f"{self.url} answered with {content}; give the address of its completions") from error
        keys: list[str | int] = ["choices", 0, *(["message", "content"] if self.url.endswith(CHAT) else ["text"])]
        value, path = data, ""
        for key in keys:
            path += f"[{key}]" if isinstance(key, int) else f"{'.' if path else ''}{key}"
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError) as error:
                actual = self._redact_key(_describe_json(value))
                raise UserError(f"the reply of {self.url} has no {path}{actual}") from error
        if not isinstance(value, str):
            advice = "should it think first, give more --max-new-tokens"
            raise UserError(f"the reply of {self.url} has no text at {path}; {advice}")
        return value

    def _redact_key(self, text: str) -> str:
        """A server's text for use in a message: on one line, at most 300 characters, without the key."""
        text = text.replace(self.key, "[key]") if self.key else text
        return "".join(c if c.isprintable() else " " for c in text)[:300]


def _describe_json(value: Any) -> str:
    """What a reply contains where an expected key is missing."""
    if isinstance(value, dict):
        error = value.get("error")
        return f": it says {json.dumps(error)}" if error else f"; it has {', '.join(map(str, value)) or 'nothing'}"
    return f"; there is {'an empty list' if value == [] else f'a {type(value).__name__}'}"
