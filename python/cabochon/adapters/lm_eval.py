"""lm-eval (EleutherAI's lm-evaluation-harness, extra `[lm-eval]`) on a `Model`.

    from cabochon.adapters.lm_eval import CabochonLM
    lm_eval.simple_evaluate(model=CabochonLM(model), tasks=["arc_easy"])

or on the command line, where lm-eval's own arguments follow:

    python -m cabochon.adapters.lm_eval run --model cabochon --model_args path=DIR,weights=int4 \
        --tasks arc_easy
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .. import __version__, load
from ..errors import CabochonWarning, EvaluationError, InvalidArgument, MissingExtra
from ..model import Model
from ..scoring import rolling

try:
    # Before ours is added: lm-eval fills an empty list of models alone.
    importlib.import_module("lm_eval.models")
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ImportError as error:
    raise MissingExtra(
        f"lm-eval cannot be imported ({error}): pip install 'cabochon[lm-eval]'", extra="lm-eval"
    ) from error

# Options of lm-eval's requests: name there, name here.
_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "seed": "seed",
}
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_DEFAULT_TOKENS = 256  # lm-eval's own
_BEAM = ("num_beams", "do_sample", "use_cache", "until")
_FINGERPRINT = "cabochon: fingerprint of the model"


@register_model("cabochon")
class CabochonLM(LM):  # type: ignore[misc]
    """A `Model` as lm-eval sees one.

    Raw text stands behind one BOS, also where it begins with the text of one. Text that
    `apply_chat_template` gave is known again by its ids, so what a task's text spells is never a
    control token; scores then keep the template's ids as they are.
    """

    def __init__(
        self,
        model: Model | None = None,
        *,
        path: str | None = None,
        thinking: bool = False,
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: Any = None,
        **options: Any,
    ) -> None:
        """model: a loaded one, or path and options: as for `cabochon.load`.

        thinking: chat templates ask for thoughts, which are no part of an answer; batch_size,
        max_batch_size, device: lm-eval's own, which it always gives: without effect. Results do not
        depend on a batch, and its device is "cuda:0" also where nobody asked for one.

        Raises:
            InvalidArgument: both or none of model and path.
        """
        super().__init__()
        options = {name: value for name, value in options.items() if value is not None}
        if (model is None) == (path is None):
            raise InvalidArgument("CabochonLM: give a model, or path=FOLDER in --model_args")
        if model is None:
            assert path is not None
            model = load(path, **options)
        elif options:
            raise InvalidArgument(f"CabochonLM: {sorted(options)} are for a model that is loaded")
        self.model = model
        self._thinking = thinking
        self._templated: dict[str, list[int]] = {}  # text of apply_chat_template: its ids
        self._unknown_templates = 0
        self._default_lengths = 0

    # --- requests --------------------------------------------------------------------------------

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """(log-likelihood, is it greedy) of each (context, continuation)."""
        by_context: dict[str, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            by_context[request.args[0]].append(index)
        answers: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        raw: list[str] = []
        templated: list[str] = []
        for context in by_context:
            (templated if self._known(context) else raw).append(context)
        for contexts, is_raw in ((raw, True), (templated, False)):
            if not contexts:
                continue
            results = self.model.score(
                [self._prompt(context) for context in contexts],
                [[requests[i].args[1] for i in by_context[context]] for context in contexts],
                raw=is_raw,
                boundary="joint" if is_raw else "separate",
            )
            for context, scores in zip(contexts, results, strict=True):
                for index, score in zip(by_context[context], scores.scores, strict=True):
                    answers[index] = (score.logprob, score.is_greedy)
        self._remember("loglikelihood", requests, answers)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Log-likelihood of each text, in windows of the context, each behind its own BOS."""
        scores = rolling(self.model, [request.args[0] for request in requests])
        answers = [score.logprob for score in scores]
        self._remember("loglikelihood_rolling", requests, answers)
        return answers

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answer to each (context, options), up to the first of `until`."""
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            options = self._options(request.args[1])
            groups[tuple(sorted(options.items()))].append(index)
        answers = [""] * len(requests)
        for key, indices in groups.items():
            contexts = [requests[i].args[0] for i in indices]
            for is_raw in (True, False):
                chosen = [
                    (index, context)
                    for index, context in zip(indices, contexts, strict=True)
                    if (self._known(context) is None) is is_raw
                ]
                if not chosen:
                    continue
                results = self.model.generate(
                    [self._prompt(context) for _, context in chosen], raw=is_raw, **dict(key)
                )
                for (index, _), result in zip(chosen, results, strict=True):
                    answers[index] = result.text
        self._remember("generate_until", requests, answers)
        return answers

    def _options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What `generate` takes, of what a task asks for."""
        if unknown := sorted(given.keys() - {*_OPTIONS, *_LENGTHS, *_BEAM}):
            raise InvalidArgument(
                f"generation_kwargs: {unknown[0]!r} is not known, "
                f"expected some of {sorted({*_OPTIONS, *_LENGTHS, *_BEAM})}"
            )
        if given.get("num_beams", 1) != 1:
            raise InvalidArgument(f"generation_kwargs: num_beams is {given['num_beams']}, only 1")
        length = next((given[name] for name in _LENGTHS if given.get(name) is not None), None)
        if length is None:
            length = _DEFAULT_TOKENS
            self._default_lengths += 1
            if self._default_lengths == 1:
                warnings.warn(
                    f"lm-eval: a task names no max_gen_toks, so its answers end after "
                    f"{_DEFAULT_TOKENS} tokens; a cut answer counts as wrong: set it with "
                    "--gen_kwargs max_gen_toks=1024",
                    CabochonWarning,
                    stacklevel=4,
                )
        until = given.get("until") or ()
        options = {_OPTIONS[name]: given[name] for name in _OPTIONS if given.get(name) is not None}
        # A task that does not ask for samples is greedy, whatever the checkpoint would do.
        if not given.get("do_sample", options.get("temperature", 0) > 0):
            options = {"temperature": 0.0}
        stops = (until,) if isinstance(until, str) else tuple(until)
        return {**options, "max_tokens": int(length), "stop": tuple(s for s in stops if s)}

    # --- texts and ids ---------------------------------------------------------------------------

    def _known(self, context: str) -> tuple[list[int], str] | None:
        """Ids of the longest templated text that a context begins with, and what follows it."""
        if context in self._templated:
            return self._templated[context], ""
        known = [text for text in self._templated if context.startswith(text)]
        if known:
            text = max(known, key=len)
            return self._templated[text], context[len(text) :]
        if context.startswith("<bos>") and "<|turn>" in context:
            # Made by another copy of the template: read as one, and said so in the results.
            self._unknown_templates += 1
            return self.model.encode(context, special=True), ""
        return None

    def _prompt(self, context: str) -> str | list[int]:
        known = self._known(context)
        if known is None:
            return context.removeprefix("<bos>")  # BOS stands before raw text in any case
        ids, rest = known
        return [*ids, *self.model.encode(rest)] if rest else ids

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The published template's text of a conversation; its ids are remembered."""
        rendered = self.model.render(
            chat_history,
            thinking=self._thinking,
            add_generation_prompt=add_generation_prompt,
            continue_final=not add_generation_prompt,
        )
        self._templated[rendered.text] = rendered.token_ids.tolist()
        return rendered.text

    @property
    def tokenizer_name(self) -> str:
        """Names the template in lm-eval's caches of requests."""
        return f"{self.model.name}-{self.model.fingerprint}".replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Name and hash of the model's template, "" without one.

        Raises:
            InvalidArgument: another template is asked for by name.
        """
        if isinstance(chat_template, str):
            raise InvalidArgument(
                f"lm-eval: chat template {chat_template!r}, expected none: the model has its own"
            )
        return self.model.info().template or ""

    # --- what lm-eval keeps ----------------------------------------------------------------------

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Refuses a cache of answers that another model gave: its keys do not name the model.

        Raises:
            EvaluationError: the cache is of another model, or not ours.
        """
        answers = getattr(cache_hook, "dbdict", None)
        if answers is not None:
            owner = answers.get(_FINGERPRINT)
            if owner is None and len(answers) == 0:
                answers[_FINGERPRINT] = self._identity()
            elif owner != self._identity():
                raise EvaluationError(
                    f"--use_cache: its answers are of {owner or 'a model that is not named'}, "
                    f"and this is {self._identity()}: name another file"
                )
        super().set_cache_hook(cache_hook)

    def _identity(self) -> str:
        formats = self.model.info().formats
        return f"{self.model.fingerprint} {' '.join(f'{k}={v}' for k, v in formats.items())}"

    def _remember(self, method: str, requests: Sequence[Any], answers: Iterable[Any]) -> None:
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial(method, request.args, answer)

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes into its results beside the task's own configuration."""
        info = self.model.info()
        return {
            "cabochon_version": __version__,
            "fingerprint": self.model.fingerprint,
            "formats": dict(info.formats),
            "kv": info.kv,
            "device": info.device,
            "tier": info.tier,
            "context": info.context,
            "thinking": self._thinking,
            "boundary": "joint on raw text, separate behind a chat template",
            "bos": "once, and at the front of every rolling window",
            "requests_without_max_gen_toks": self._default_lengths,
            "templates_not_made_here": self._unknown_templates,
        }


def main() -> None:
    """lm-eval's command line, with `--model cabochon`."""
    from lm_eval.__main__ import cli_evaluate

    sys.argv[0] = "python -m cabochon.adapters.lm_eval"
    cli_evaluate()


if __name__ == "__main__":
    main()
