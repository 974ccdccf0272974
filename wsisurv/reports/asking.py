"""One report through a language model: passages, questions, and a retry that fits the cause.

What counts as an answer, in this order: the last piece came (``done``), it ended by itself (``stop``), the counts of
tokens are plausible, there is content, it is strict JSON, of the schema. The proof follows in ``grounding``.

    cause                                    what is done
    cut at its token limit                   more room, then the passage in two halves, then what was complete
    cut while it said the same again         what was complete: more room would only hold more of the same
    prompt longer than the context           the passage in two halves
    broken off (endless repetition)          the passage in two halves
    the list is full                         the passage in two halves
    schema ignored by a thinking model       asked once more with ``think`` left to the server
    busy, restarting, connection dropped     wait and ask again, longer each time
    nothing came in time                     failed: it would take as long again
    no memory, no such model, it won't load  the run stops
    the model is not the one it was          the run stops
    anything else                            failed, in the server's words
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wsisurv.errors import BackendError, OllamaUnavailableError, SettingsError
from wsisurv.reports import passages
from wsisurv.reports.blotting import blotted
from wsisurv.reports.grounding import Extraction
from wsisurv.reports.ollama import Reply, Server
from wsisurv.reports.prompt import (
    MAX_STATEMENTS,
    Answer,
    Finding,
    Keep,
    Label,
    Part,
    answer_schema,
    label_messages,
    messages,
    parse,
    salvage_answer,
    to_extraction,
)
from wsisurv.reports.rules import cut_pieces
from wsisurv.reports.server_errors import PromptTooLongError, ServerBusyError, UnfinishedError
from wsisurv.reports.server_models import Model

PASSAGE_CHARS = 8000
"""Characters of a report that are asked at once: nine of ten reports are shorter, and a window of 8,192 tokens holds
it with the rules and the answer, which an 8-billion-parameter model on a small graphics card still has room for."""
OVERLAP_CHARS = 400
_SMALLEST_PASSAGE = 600
_CHARS_A_TOKEN = 2.5
"""Bytes of UTF-8 a token, low on purpose: reports in capitals with scan errors come to about three."""
_REPEATS = 3
"""Findings at the end of an answer that say nothing new: a loop, not a slip."""
_TEMPLATE_TOKENS = 64
"""Room for what a chat template puts around the messages."""

DEFAULT_OPTIONS: Mapping[str, int | float | bool] = {
    "temperature": 0,
    "seed": 0,
    "num_predict": 2048,
    "repeat_penalty": 1.0,  # a penalty on repetition keeps a model from copying the report's words
}

Exchange = Callable[[str, str], None]
"""Told a passage and the answer to it, word by word; only for ``--log-text``."""


@dataclass(frozen=True)
class Patience:
    """How long a busy server is waited for: seconds before each further try."""

    waits_s: tuple[float, ...] = (1, 2, 4, 8, 16, 30)


@dataclass(frozen=True)
class Plan:
    """How reports are put to a model; the same for all of a run."""

    options: Mapping[str, int | float | bool]  # the model's options, without ``num_ctx``
    num_ctx: int  # the model's window, tokens
    passage_chars: int  # the longest passage


def estimate_tokens(text: str) -> int:
    """Tokens of ``text``, rather too many than too few: a byte of UTF-8 each 2.5."""
    return math.ceil(len(text.encode()) / _CHARS_A_TOKEN)


def make_plan(model: Model, keep: Keep, texts: list[str], options: Mapping[str, int | float | bool]) -> Plan:
    """Choose one window for the run, from its longest passage.

    The window is a power of two from 4,096 up that holds the rules, the longest passage and an answer of
    ``num_predict`` tokens, and never more than the model's own context. Passages are shortened to fit a small context.
    ``options`` win over the defaults; ``num_ctx`` among them is taken as it is.

    Raises:
        SettingsError: the model's context has no room for a passage.
    """
    chosen = {**DEFAULT_OPTIONS, **options}
    answer = int(chosen["num_predict"])
    rules = estimate_tokens("".join(message["content"] for message in messages("", keep))) + _TEMPLATE_TOKENS
    largest = min(int(chosen.pop("num_ctx", model.context_length)), model.context_length)
    fitting = int((largest - rules - answer) * _CHARS_A_TOKEN)
    if fitting < _SMALLEST_PASSAGE:
        raise SettingsError(
            f"{model.name}: a context of {largest} tokens has no room for the rules ({rules}), an answer ({answer}) "
            "and a passage. Choose a model with a longer context."
        )
    passage_chars = min(PASSAGE_CHARS, fitting)
    if "num_ctx" in options:
        return Plan(chosen, largest, passage_chars)
    longest = max((estimate_tokens(passage) for text in texts for passage in _passages(text, passage_chars)), default=0)
    needed = rules + longest + answer
    return Plan(chosen, min(max(4096, 2 ** math.ceil(math.log2(needed))), largest), passage_chars)


def _goes_round(findings: Sequence[Finding]) -> bool:
    """True where the last findings of an answer were all said before in it: it would not have ended by itself."""
    before = set(findings[:-_REPEATS])
    return len(findings) > _REPEATS and all(finding in before for finding in findings[-_REPEATS:])


def _passages(text: str, longest: int) -> list[str]:
    return [text[part.start : part.end] for part in passages.split(text, longest, min(OVERLAP_CHARS, longest // 4))]


@dataclass
class Asker:
    """Puts reports to a model; may be called from several threads at once."""

    server: Server  # where the model is
    model: Model  # the model
    plan: Plan  # options, window and passages
    keep: Keep  # what is wanted
    labels: bool = False  # whether the rules cut pieces and the model labels each, instead of copying findings out
    patience: Patience = field(default_factory=Patience)  # how long a busy server is waited for
    exchange: Exchange | None = None  # told every passage and answer; None keeps them to itself
    _stop: threading.Event = field(default_factory=threading.Event)
    _window_seen: threading.Event = field(default_factory=threading.Event)
    _think_needed: threading.Event = field(default_factory=threading.Event)

    def extract(self, text: str) -> Extraction:
        """Findings of a report, from all of its passages, each once.

        Raises:
            OllamaUnavailableError: the server is not there, stays busy, or cuts what it is sent.
            BackendError: the model gives no answer that can be used.

        An error holds no word of the report, even where the server's words do.
        """
        try:
            return self._extract(text)
        except BackendError as error:
            raise type(error)(blotted(str(error), text)) from None

    def _extract(self, text: str) -> Extraction:
        if self.labels:
            labelled = [self._label(piece) for piece in cut_pieces(text)]
            return to_extraction(tuple(labelled), self.keep)
        found: dict[tuple[str, str, str], Finding] = {}
        cut: list[int] = []
        for passage in _passages(text, self.plan.passage_chars):
            for finding in self._ask(passage, cut):
                words = " ".join(finding.evidence.split()).casefold()
                found.setdefault((words, finding.category, finding.polarity), finding)
        return replace(to_extraction(tuple(found.values()), self.keep), salvaged=sum(cut) if cut else None)

    def give_up(self) -> None:
        """Drop what is under way in all threads."""
        self._stop.set()
        self.server.hang_up()

    def _ask(self, passage: str, cut: list[int]) -> tuple[Finding, ...]:
        """Findings of a passage; ``cut`` gets the number of those taken from each answer that was cut."""
        if not passage.strip():
            return ()
        think, room = self._think(), int(self.plan.options["num_predict"])
        while True:
            try:
                reply = self._patiently(messages(passage, self.keep), answer_schema(), think, room)
            except (PromptTooLongError, UnfinishedError) as error:
                return self._ask_halves(passage, error, cut)
            if reply.done_reason == "length":
                complete = salvage_answer(reply.content)
                larger = min(2 * room, self.plan.num_ctx - (reply.prompt_tokens or 0))
                if not _goes_round(complete):
                    if larger > room:
                        room = larger
                        continue
                    if len(passage) > _SMALLEST_PASSAGE or not complete:
                        return self._ask_halves(passage, BackendError(f"no end after {room} tokens"), cut)
                cut.append(len(set(complete)))
                return complete
            if reply.done_reason != "stop":
                raise BackendError(
                    f"{self.model.name}: ended with {reply.done_reason or 'no reason'!r}, not with 'stop'"
                )
            answer = self._parsed(Answer, reply, think)
            if answer is None:
                think, room = None, min(2 * room, self.plan.num_ctx)  # thinking takes tokens as well
                continue
            findings = answer.statements
            if len(findings) == MAX_STATEMENTS and len(passage) > _SMALLEST_PASSAGE:
                return self._ask_halves(passage, BackendError("the list of statements is full"), cut)
            return findings

    def _label(self, piece: str) -> Finding:
        """The piece as a finding, of the category and polarity that the model gives it."""
        think, room = self._think(), int(self.plan.options["num_predict"])
        label = None
        while label is None:
            reply = self._patiently(label_messages(piece), answer_schema(Label), think, room)
            label, think = self._parsed(Label, reply, think), None
        return Finding.model_construct(
            evidence=piece, category=label.category, polarity=label.polarity, text=" ".join(piece.split())
        )

    def _think(self) -> bool | None:
        """What a question says of thinking: False for a model that can, until that was seen to fail."""
        return False if self.model.thinks and not self._think_needed.is_set() else None

    def _parsed(self, shape: type[Part], reply: Reply, think: bool | None) -> Part | None:
        """The answer; None where it is none of the shape, and is to be asked for with ``think`` left to the server."""
        try:
            answer = parse(shape, reply.content)
        except ValueError as error:
            if think is False:
                return None
            raise BackendError(
                f"{self.model.name} does not keep to the JSON schema ({error}). Another model may, or a newer Ollama."
            ) from None
        if self.model.thinks and think is None:
            self._think_needed.set()  # some servers apply the schema only after thinking: don't ask all twice
        return answer

    def _ask_halves(self, passage: str, cause: BackendError, cut: list[int]) -> tuple[Finding, ...]:
        if self._stop.is_set() or len(passage) <= _SMALLEST_PASSAGE:
            raise BackendError(f"{self.model.name}: {cause}, and a passage of {len(passage)} characters is not split.")
        overlap = min(OVERLAP_CHARS, len(passage) // 8)
        first, second = passages.halves(passage, overlap)
        return self._ask(passage[first.start : first.end], cut) + self._ask(passage[second.start : second.end], cut)

    def _patiently(
        self, asked: list[dict[str, str]], schema: Mapping[str, Any], think: bool | None, room: int
    ) -> Reply:
        """Ask, wait while the server is busy, and check that what answered is the model and read all of it."""
        options = {**self.plan.options, "num_ctx": self.plan.num_ctx, "num_predict": room}
        waits = iter(self.patience.waits_s)
        while True:
            try:
                reply = self.server.chat(
                    self.model.name, asked, schema=schema, options=options, think=think, stopped=self._stop.is_set
                )
                break
            except ServerBusyError:
                wait_s = next(waits, None)
                if wait_s is None or self._stop.wait(wait_s):
                    raise
        if self.exchange:
            self.exchange(asked[-1]["content"], reply.content)
        self.server.require_same(self.model)
        self._check_counts(asked, reply)
        return reply

    def _check_counts(self, asked: list[dict[str, str]], reply: Reply) -> None:
        """Hold the server's own counts against what was sent: no token of a usual vocabulary spans two words.

        A prompt whose middle was dropped has about half of its tokens left, which are fewer than its words were.
        """
        words = sum(len(message["content"].split()) for message in asked)
        read = reply.prompt_tokens
        if read is None or read < words:
            raise OllamaUnavailableError(
                f"{self.server.url} says that it read {read} tokens, but was sent {words} words: they were cut, "
                "or this Ollama leaves cached tokens out of its count (0.30.0 did). Update Ollama."
            )
        if read > self.plan.num_ctx:
            raise OllamaUnavailableError(
                f"{self.server.url} says that it read {read} tokens with a window of {self.plan.num_ctx}: part of it "
                "was lost."
            )
        if not self._window_seen.is_set():
            loaded = self.server.loaded_context(self.model.name)
            if loaded is not None and loaded < self.plan.num_ctx:
                raise OllamaUnavailableError(
                    f"{self.server.url} loaded {self.model.name} with a window of {loaded} tokens, not the "
                    f"{self.plan.num_ctx} that were asked: long reports would be cut. Is there memory for it?"
                )
            self._window_seen.set()
