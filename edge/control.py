"""Commands over MQTT: <base>/cmd/<verb> -> <base>/reply/<verb>.

The rules of this module:
- What is not on the list is refused, with an error reply. A retained command is ignored: it would be carried out again
  at every start.
- Whoever may publish to cmd/ must not gain more than the verbs: a response topic is honoured only where no other device
  can take the reply for a command.
- A flood costs the sender its replies, and this device neither memory nor time.
"""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from edge.complaints import Complaints
    from edge.mqtt_session import Incoming

    Verb = Callable[[Mapping[str, Any]], Iterable[Mapping[str, object]]]
    """Takes the request without its transaction; yields `data`, once per reply. Raises CommandError."""

MAX_PAYLOAD_BYTES = 4096
MAX_TRANSACTION_CHARACTERS = 64
MAX_CORRELATION_BYTES = 128
MAX_RESPONSE_TOPIC_BYTES = 256
BURST, PER_SECOND = 10, 2.0
_MOST_REPLIES = 16
_VERB = re.compile(r"[a-z][a-z0-9-]{0,31}")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")
_REPLY_LEVELS = {"reply", "replies", "response", "responses"}
_COMMAND_LEVELS = {"cmd", "cmnd", "command", "commands", "set", "rpc", "homeassistant"}


class CommandError(Exception):
    """A request that cannot be served; str() is the reply's `error`."""


@dataclass(slots=True)
class Reply:
    """Where the answers to one request go, and the answers still to be sent."""

    topic: str
    correlation: bytes | None
    payloads: Iterator[bytes] = field(repr=False)
    waiting: bytes | None = None

    def next_payload(self) -> bytes | None:
        """Return what is to be sent next, again and again until sent() is called; None at the end."""
        if self.waiting is None:
            self.waiting = next(self.payloads, None)
        return self.waiting

    def sent(self) -> None:
        """Go on to the next."""
        self.waiting = None


class Control:
    """Checks requests, has them served, keeps the replies until there is room to send them."""

    def __init__(self, base_topic: str, *, complaints: Complaints, clock: Callable[[], float]) -> None:
        self.subscription = f"{base_topic}/cmd/+"
        self.replies: deque[Reply] = deque()
        self._base = base_topic
        self._complaints, self._clock = complaints, clock
        self._tokens, self._refilled_s = float(BURST), clock()
        self._told = False

    def hear(self, message: Incoming, verbs: Mapping[str, Verb]) -> bool:
        """Take a message that is a command; return whether it was one. Raises nothing for what stands in it."""
        prefix = f"{self._base}/cmd/"
        if not message.topic.startswith(prefix):
            return False
        if message.retained:
            text = f"retained commands are ignored, such as {message.topic[:80]!r}: publish without retain, clear them"
            self._complaints.log(text, key="retained commands")  # whoever may publish could name thousands of topics
            return True
        if self._may_answer():
            verb = message.topic.removeprefix(prefix)
            topic, correlation, objection = self._destination(message, verb)
            self.replies.append(Reply(topic, correlation, self._answers(message.payload, verb, verbs, objection)))
        return True

    def _answers(self, payload: bytes, verb: str, verbs: Mapping[str, Verb], objection: str) -> Iterator[bytes]:
        """Carry the command out and return its replies; the work is done now, the writing when there is room."""
        transaction: object = None
        try:
            self._spend(objection)
            request = parse(payload)
            transaction = request.pop("transaction", None)
            answers = iter(_known(verb, verbs)(request))
            first = next(answers)  # whatever is wrong with the request shows here
        except CommandError as error:
            return iter([_reply(transaction, error=str(error))])
        return (_reply(transaction, data=data) for data in chain([first], answers))

    def _spend(self, objection: str) -> None:
        """Pay for a command, refused or not."""
        if self._tokens < 1.0:
            raise CommandError(f"too many commands: {PER_SECOND:g} a second at most; wait a little")
        self._tokens -= 1.0
        if objection:
            raise CommandError(objection)

    def _may_answer(self) -> bool:
        """Refill the bucket; say once that it is empty, then be silent until it is not."""
        now_s = self._clock()
        self._tokens = min(float(BURST), self._tokens + (now_s - self._refilled_s) * PER_SECOND)
        self._refilled_s = now_s
        if len(self.replies) >= _MOST_REPLIES:
            return False
        if self._tokens >= 1.0:
            self._told = False
            return True
        told, self._told = self._told, True
        if not told:
            self._complaints.log("too many commands over MQTT: most get no reply", key="too many commands")
        return not told

    def _destination(self, message: Incoming, verb: str) -> tuple[str, bytes | None, str]:
        """Return the topic of the reply, its correlation data, and what is wrong with those that were asked for."""
        usual = f"{self._base}/reply/{verb if _VERB.fullmatch(verb) else 'error'}"
        correlation = message.correlation
        if correlation is not None and len(correlation) > MAX_CORRELATION_BYTES:
            return (
                usual,
                None,
                f"the correlation data has {len(correlation)} bytes; {MAX_CORRELATION_BYTES} are the most",
            )
        if message.response_topic is None:
            return usual, correlation, ""
        if not is_harmless(message.response_topic, self._base):
            return usual, correlation, (
                "this response topic is not served: one of its levels must be reply or response, none a command's "
                f"({', '.join(sorted(_COMMAND_LEVELS))}), and of this device's own topics only .../reply/ will do"
            )  # fmt: skip
        return message.response_topic, correlation, ""


def is_harmless(topic: str, base_topic: str) -> bool:
    """Whether a reply on this topic can neither command another device nor pass for one of our own messages."""
    levels = topic.split("/")
    if not topic or len(topic.encode(errors="replace")) > MAX_RESPONSE_TOPIC_BYTES:
        return False
    if _PRINTABLE.fullmatch(topic) is None or set("+#") & set(topic) or any(level.startswith("$") for level in levels):
        return False
    if topic == base_topic or topic.startswith(f"{base_topic}/"):
        return topic.startswith(f"{base_topic}/reply/")
    # Beside our own base topic lie those of other devices.
    beside = base_topic.split("/")[:-1]
    inside, rest = levels[: len(beside)], levels[len(beside) :]
    if beside and inside == beside and not (rest and rest[0].casefold() in _REPLY_LEVELS):
        return False
    names = {level.casefold() for level in levels}
    return bool(names & _REPLY_LEVELS) and not names & _COMMAND_LEVELS


def parse(payload: bytes) -> dict[str, Any]:
    """Read a request: nothing, or a JSON object of at most 4096 bytes; raises CommandError."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise CommandError(f"the command has {len(payload)} bytes; {MAX_PAYLOAD_BYTES} are the most")
    if not payload.strip():
        return {}
    try:
        value = json.loads(payload, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise CommandError('the command is no JSON object; for instance {"transaction":"1"}') from None
    if not isinstance(value, dict):
        raise CommandError('the command is no JSON object; for instance {"transaction":"1"}')
    transaction = value.get("transaction")
    is_text = isinstance(transaction, str) and len(transaction) <= MAX_TRANSACTION_CHARACTERS
    is_number = isinstance(transaction, int) and not isinstance(transaction, bool) and abs(transaction) < 2**53
    if transaction is not None and not is_number and not (is_text and _PRINTABLE.fullmatch(str(transaction))):
        value.pop("transaction")
        raise CommandError(
            f"transaction: allowed are text of at most {MAX_TRANSACTION_CHARACTERS} printable characters, "
            "a whole number, or null"
        )
    return value


def _known(verb: str, verbs: Mapping[str, Verb]) -> Verb:
    if verb not in verbs:
        raise CommandError(f"unknown command; there are: {', '.join(sorted(verbs))}")
    return verbs[verb]


def only(request: Mapping[str, Any], *names: str) -> None:
    """Refuse what a verb does not know."""
    if extra := set(request) - set(names):
        allowed = ", ".join(["transaction", *names])
        raise CommandError(f"unknown key {min(extra)[:40]!r}; allowed: {allowed}")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _reply(transaction: object, *, data: Mapping[str, object] | None = None, error: str | None = None) -> bytes:
    body = {"transaction": transaction, "status": "ok" if error is None else "error", "data": data, "error": error}
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
