"""A model behind an address that speaks as OpenAI's does: POST .../chat/completions or .../completions.

Busy, failing and silent servers are asked again, with longer and longer pauses; a server that says something else than
it should is named with what was missing. The key comes from the environment variable OPENAI_API_KEY and goes nowhere
but to the address given: redirections are not followed, and no message shows it.
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

from probing.world_facts.hf_backend import END
from synth.errors import UserError

CHAT, PLAIN = "/chat/completions", "/completions"
AGAIN = (408, 425, 429, 500, 502, 503, 504, 529)
LARGEST = 1 << 22  # bytes of a reply: an answer has a few hundred
LONGEST_PAUSE = 60.0  # seconds, whatever a server asks for
MENDS = {
    401: "set OPENAI_API_KEY to a key that it takes",
    403: "set OPENAI_API_KEY to a key that may use this model",
    404: "check the address and --name",
}


class _Passing(Exception):
    """What may be gone at the next try. after: seconds that the server asks to be left alone."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection would take the key elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass
class EndpointAnswerer:
    """url: the address, with or without its last part (without, it is for chat); name: of the model; tokens: how many
    it may write; timeout: seconds for one reply; tries: how often in all; pause: seconds before the second try, doubled
    before each further one; at_once: requests at a time."""

    url: str
    name: str
    tokens: int = 64
    timeout: float = 60.0
    tries: int = 5
    pause: float = 1.0
    at_once: int = 4
    key: str = field(default_factory=lambda: os.environ.get("OPENAI_API_KEY", "").strip(), repr=False)

    def __post_init__(self) -> None:
        if set("@?#") & set(self.url):  # keys stand beside these, in bad addresses too, and would go into messages
            raise UserError("--endpoint holds a user name, ? or #; give the bare address, and a key in OPENAI_API_KEY")
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("http", "https") and parts.hostname
            parts.port  # noqa: B018  raises ValueError when it is no number
        except ValueError:
            good = None
        if not good or not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise UserError(f"--endpoint {self.url!r} is no address; it begins with http:// or https://")
        if not (self.key.isascii() and self.key.isprintable()):
            raise UserError("OPENAI_API_KEY holds characters that no key has; set it again")
        self.url = self.url.rstrip("/")
        self.url += "" if self.url.endswith(PLAIN) else CHAT
        self.identity = {"model": self.name, "endpoint": self.url, "tokens": self.tokens}
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._stopped = threading.Event()

    def answer(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """A few requests at a time; when one fails for good, the answers under way still come before UserError."""
        self._stopped.clear()
        failed: list[UserError] = []
        with ThreadPoolExecutor(self.at_once) as pool:
            waiting = {pool.submit(self._persist, prompt): number for number, prompt in enumerate(prompts)}
            try:
                for done in as_completed(waiting):
                    try:
                        said = done.result()
                    except UserError as error:
                        failed.append(error)
                        self._stopped.set()
                        continue
                    if said is not None:
                        yield waiting[done], said
            finally:  # an interruption ends here too
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
        if failed:
            raise failed[0]

    def _persist(self, prompt: str) -> str | None:
        """The answer, after as many tries as it takes; None when others have failed before it was begun."""
        for number in range(1, self.tries + 1):
            if self._stopped.is_set():
                return None
            try:
                return self._text(self._reply(prompt))
            except _Passing as problem:
                if number == self.tries:
                    raise UserError(f"{self.url} {problem}, {self.tries} times; try again later") from problem
                self._stopped.wait(min(LONGEST_PAUSE, max(problem.after, self.pause * 2 ** (number - 1))))
        return None

    def _reply(self, prompt: str) -> bytes:
        asked: dict[str, Any] = {"model": self.name, "max_tokens": self.tokens, "temperature": 0}
        if self.url.endswith(CHAT):
            asked["messages"] = [{"role": "user", "content": prompt}]
        else:
            asked |= {"prompt": prompt, "stop": [END]}
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.url, json.dumps(asked).encode(), headers)
        try:
            with self._opener.open(request, timeout=self.timeout) as reply:
                return self._read(reply)
        except urllib.error.HTTPError as error:
            with error:  # it holds the connection open
                raise self._refusal(error) from error
        except (TimeoutError, urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise _Passing(self._silence(error)) from error

    def _read(self, reply: Any) -> bytes:
        """A whole reply, but not for ever: a server may send a byte now and then and never come to an end."""
        until, parts, size = time.monotonic() + self.timeout, [], 0
        while part := reply.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if time.monotonic() > until:
                raise TimeoutError
            if size > LARGEST:
                raise UserError(f"{self.url} sends more than {LARGEST >> 20} MiB for one answer; check the address")
        return b"".join(parts)

    def _silence(self, error: Exception) -> str:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return f"did not answer within {self.timeout:g} s"
        return f"cannot be reached ({reason or type(reason).__name__})"

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """What a status other than 200 means: another try, or an end."""
        if error.code in AGAIN:
            after = str(error.headers.get("Retry-After", ""))
            return _Passing(f"answered with status {error.code}", float(after) if after.isdecimal() else 0.0)
        mend = MENDS.get(error.code, "check the address, --name and --tokens")
        if 300 <= error.code < 400:
            where = self._clean(str(error.headers.get("Location")))
            mend = f"give the address that it points to, if you trust it: {where}"
        return UserError(f"{self.url} answered with status {error.code}{self._clean(self._message(error))}; {mend}")

    def _message(self, error: urllib.error.HTTPError) -> str:
        """What the server says about it, if it says so as OpenAI does."""
        try:
            told = json.loads(self._read(error))["error"]
            return f" ({told['message'] if isinstance(told, dict) else told})"
        except (ValueError, RecursionError, KeyError, TypeError, OSError, http.client.HTTPException):
            return ""

    def _text(self, reply: bytes) -> str:
        """The text of a reply. Raises UserError that names what is missing in it."""
        try:
            data = json.loads(reply)
        except (ValueError, RecursionError) as error:
            what = "HTML" if reply.lstrip()[:1] == b"<" else "no JSON"
            raise UserError(f"{self.url} answered with {what}; give the address of its completions") from error
        steps: list[str | int] = ["choices", 0, *(["message", "content"] if self.url.endswith(CHAT) else ["text"])]
        here, path = data, ""
        for step in steps:
            path += f"[{step}]" if isinstance(step, int) else f"{'.' if path else ''}{step}"
            try:
                here = here[step]
            except (KeyError, IndexError, TypeError) as error:
                raise UserError(f"the reply of {self.url} has no {path}{self._clean(_has(here))}") from error
        if not isinstance(here, str):
            raise UserError(f"the reply of {self.url} has no text at {path}; should it think first, give more --tokens")
        return here

    def _clean(self, told: str) -> str:
        """What a server says, as a part of a line, without the key."""
        told = told.replace(self.key, "[key]") if self.key else told
        return "".join(c if c.isprintable() else " " for c in told)[:300]


def _has(value: Any) -> str:
    """What is there instead."""
    if isinstance(value, dict):
        told = value.get("error")
        return f": it says {json.dumps(told)}" if told else f"; it has {', '.join(map(str, value)) or 'nothing'}"
    return f"; there is {'an empty list' if value == [] else f'a {type(value).__name__}'}"
