"""One sentence as a web page: its true tree, the tree that linear probes read from each layer, and its attention.

After Part 1 (arXiv 2305.13673), sections 4.2 to 4.4, Figures 5 to 8. The page is one file that asks for nothing from
anywhere. Its data stand in it as JSON and are only ever shown as text, so that a terminal may hold any characters.
"""

import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lm.inference.activations import names, read
from lm.inference.hooks import is_weights, look_inside
from lm.model import Decoder
from probing.grammar.parse_states import held_out
from probing.trained_runs import Finished
from probing.tree_view.parse_trees import Node, ancestors_of, links, parents, read_nodes, true_nodes
from probing.tree_view.tree_reader import TreeReader
from synth import Corpus, UserError, cfg
from synth.atomic_io import write_bytes
from synth.task import Example
from synth.tasks.cfg import Cfg

TEMPLATE = Path(__file__).with_name("page.html")
LEAST = 0.02  # attention below it is left out of the page: it could not be seen, and is most of the numbers
TRIES = 1000  # documents looked at for one that the probes did not learn on


def terminals_of(text: str, grammar: cfg.Grammar) -> list[str]:
    """The terminals in a text, where blanks part them; they may be left out where all are one character.

    Raises UserError that names a symbol that is none, and those that are.
    """
    words = text.split()
    if all(len(terminal) == 1 for terminal in grammar.terminals):
        words = list("".join(words))
    if not words:
        raise UserError("the sentence is empty; give terminals, with blanks between them")
    for place, word in enumerate(words, 1):
        if word not in grammar.terminals:
            known = " ".join(grammar.terminals[:40]) + (" ..." if len(grammar.terminals) > 40 else "")
            raise UserError(f"symbol {place} of the sentence, {word!r}, is no terminal of {grammar.name}: {known}")
    return words


def drawn(task: Cfg, data_seed: int, number: int) -> list[str]:
    """The first sentence of the test split from that number on that the probes never learn on."""
    if number < 0:
        raise UserError(f"--seed {number} is below 0; give 0 or more")
    corpus = Corpus(task, data_seed, "test")
    block = corpus.documents(number * TRIES, (number + 1) * TRIES)
    documents = (block[i] for i in range(len(block)))
    document = next((one for one in documents if held_out(one)), block[0])
    return corpus.vocab.decode(document.tokens[1:-1])


def check_length(model: nn.Module, grammar: cfg.Grammar, length: int) -> None:
    """Raises UserError on a sentence that the model or the probes have no room for."""
    look_inside(model).check_length(length + 1)
    room = model.config.context if isinstance(model, Decoder) else length + 1
    if length + 1 > room:
        raise UserError(f"{length} symbols and <bos> do not fit the model's context of {room}; give a shorter sentence")
    if length > grammar.max_length:
        most = f"no sentence of {grammar.name} has more than {grammar.max_length}"
        raise UserError(f"the sentence has {length} symbols and {most}, so no probe knows such places; shorten it")


def contents(found: Finished, model: nn.Module, reader: TreeReader, words: Sequence[str]) -> dict[str, Any]:
    """All that the page shows, ready for JSON."""
    grammar, vocab = found.task.world(), found.task.vocab()
    document = np.concatenate([[vocab.bos], vocab.encode(words)]).astype(np.int32)
    numbers = grammar.encode(words)
    derivation = cfg.derive(grammar, numbers)
    truth = true_nodes(derivation) if derivation else []
    whole = np.append(document, vocab.eos).astype(np.int32)
    return {
        "run": found.folder.name,
        "grammar": grammar.name,
        "tokens": list(words),
        "parses": str(cfg.count_parses(grammar, numbers, [0, len(numbers)])[0]),
        "learned": not held_out(Example(whole, np.ones(len(whole), bool))),
        "truth": drawable(grammar, truth, truth),
        "layers": read_trees(grammar, reader, document, truth),
        "attention": attention(model, document),
    }


def read_trees(
    grammar: cfg.Grammar, reader: TreeReader, document: np.ndarray, truth: Sequence[Node]
) -> list[dict[str, Any]]:
    """Of every layer: the tree read, shares of ancestors read right (here, and in sentences held out), and which of the
    true nodes it misses."""
    true_ancestors = ancestors_of(grammar, truth, len(document) - 1) if truth else None
    layers = []
    for name, score, ancestors, ends in zip(reader.layers, reader.score, *reader.read(document), strict=True):
        nodes = read_nodes(grammar, ancestors, ends)
        right = None if true_ancestors is None else float((ancestors == true_ancestors).mean())
        tree = drawable(grammar, nodes, truth)
        layers.append({"name": name, "right": right, "score": round(float(score), 4), "nodes": tree})
    return layers


def drawable(grammar: cfg.Grammar, nodes: Sequence[Node], truth: Sequence[Node]) -> list[dict[str, Any]]:
    """The nodes to draw, each with the place of its parent among them and whether it is in the true tree (None where
    there is none). The links of the true tree are left out; without one, those of the nodes."""
    hidden, true = links(grammar, truth or nodes), set(truth)
    kept = [node for node in nodes if node not in hidden]
    rights = [node in true if true else None for node in kept]
    return [
        {"level": n.level, "start": n.start, "stop": n.stop, "symbol": n.symbol, "parent": parent, "right": right}
        for n, parent, right in zip(kept, parents(kept), rights, strict=True)
    ]


def attention(model: nn.Module, document: np.ndarray) -> list[list[list[int]]]:
    """For each layer and head: query, key and weight in thousandths, one arc after another; positions count <bos> as 0.
    Empty for a model without attention weights; a layer without any has no heads."""
    wanted = [name for name in names(model) if is_weights(name)]
    if not wanted:
        return []
    batch = next(read(model, [document], wanted))
    return [[_arcs(head) for head in batch[name][0].float().cpu().numpy()] for name in wanted]


def _arcs(weights: np.ndarray) -> list[int]:
    queries, keys = np.nonzero(weights >= LEAST)
    thousandths = (1000 * weights[queries, keys]).round().astype(int)
    return np.stack([queries, keys, thousandths], 1).flatten().tolist()


def html(data: dict[str, Any]) -> str:
    """The page. Its policy lets its own script run, known by its hash, and nothing else: no request either."""
    before, rest = TEMPLATE.read_text("utf-8").split("<script>")
    script, after = rest.split("</script>")
    mark = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # ASCII alone, and nothing that could end the element or begin a comment in it
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    before = before.replace("HASH-OF-SCRIPT", f"sha256-{mark}")
    return f'{before}<script type="application/json" id="data">{text}</script>\n<script>{script}</script>{after}'


def check_writable(path: Path) -> None:
    """Raises UserError on a file that cannot be written, before the work is done."""
    folder = next((one for one in path.absolute().parents if one.exists()), path)
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        reason = "it is a folder" if path.is_dir() else f"{folder} is no folder that one can write to"
        raise UserError(f"cannot write {path}: {reason}; give another --out")


def write(path: Path, page: str) -> None:
    """Raises UserError where the disk does not take it."""
    try:
        write_bytes(path, page.encode())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; give another --out") from error
