"""llama.cpp in a process of its own, which is killed: ending its server within one may hang.

``python llama_peer.py FILE`` answers requests, a line of JSON each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

__all__ = ["Peer"]

_MARK = "answer: "


class Peer:
    """A GGUF file that llama.cpp has loaded, computing in float32 but for its tables.

    With the file of an adapter, this is added to its maps.
    """

    def __init__(self, path: Path, adapter: Path | None = None) -> None:
        paths = [str(path), *([str(adapter)] if adapter is not None else [])]
        self._process = subprocess.Popen(
            [sys.executable, __file__, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, kind: str, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([kind, request]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(_MARK):
                return json.loads(line.removeprefix(_MARK))
        raise AssertionError("llama.cpp has not loaded the file")

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text."""
        found: list[int] = self._ask("tokenize", {"content": text})["tokens"]
        return found

    def complete(self, prompt: str | list[int], n: int, **options: Any) -> dict[str, Any]:
        """Return the answer to a prompt of text or ids, greedily."""
        asked = {"prompt": prompt, "n_predict": n, "temperature": 0, "cache_prompt": False}
        found: dict[str, Any] = self._ask("complete", asked | options)["choices"][0]
        return found

    def log_probabilities(self, prompt: list[int], n_ids: int) -> dict[int, float]:
        """Return those of the next token by its id."""
        sampling = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
        found = self.complete(prompt, 1, ignore_eos=False, logprobs=n_ids, **sampling)
        (next_,) = found["logprobs"]["content"]
        return {one["id"]: one["logprob"] for one in next_["top_logprobs"]}


def _serve(path: str, *adapters: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 256, 1, False, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    loaded = []
    for adapter in adapters:
        loaded.append(xllamacpp.CommonAdapterLoraInfo())
        loaded[-1].path, loaded[-1].scale = adapter, 1.0
    params.lora_adapters = loaded
    server = xllamacpp.Server(params)
    for line in sys.stdin:
        kind, request = json.loads(line)
        if kind == "complete":
            found = server.handle_completions(request)
        else:
            asked = urllib.request.Request(
                f"{server.listening_address}/{kind}",
                data=json.dumps(request).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(asked, timeout=60) as answer:
                found = json.load(answer)
        print(_MARK + json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
