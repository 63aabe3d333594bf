"""Web page of one sentence: its true tree, the tree that linear probes decode from each layer, and its attention.

After Part 1 (arXiv 2305.13673), sections 4.2 to 4.4, Figures 5 to 8. The page is a single file that loads nothing else.
Its data are embedded as JSON and shown as text only, so terminals may contain any characters.
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

from lm.inference.activations import activation_names, iter_activations
from lm.inference.hooks import find_hook_points, is_weights
from lm.model import Decoder
from probing.grammar.parse_states import is_held_out
from probing.trained_runs import TrainedRun
from probing.tree_view.parse_trees import (
    Node,
    ancestors_of,
    nodes_of_derivation,
    nodes_of_predictions,
    parents,
    unary_links,
)
from probing.tree_view.tree_reader import TreeReader
from synth import Corpus, UserError, cfg
from synth.atomic_io import write_bytes
from synth.task import Example
from synth.tasks.cfg import Cfg

TEMPLATE = Path(__file__).with_name("tree_page.html")
MIN_ATTENTION = 0.02  # smaller weights are left out: they would be invisible, and are most of the numbers
TRIES = 1000  # documents searched for one that the probes are not trained on


def parse_terminals(text: str, grammar: cfg.Grammar) -> list[str]:
    """Split a text into terminals at blanks, which are optional if all terminals are single characters.

    Raises UserError for an unknown symbol; the message lists the terminals.
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


def sample_sentence(task: Cfg, data_seed: int, number: int) -> list[str]:
    """The first held-out sentence among TRIES documents of the test split, starting at number * TRIES."""
    if number < 0:
        raise UserError(f"--seed {number} is below 0; give 0 or more")
    corpus = Corpus(task, data_seed, "test")
    block = corpus.documents(number * TRIES, (number + 1) * TRIES)
    documents = (block[i] for i in range(len(block)))
    document = next((one for one in documents if is_held_out(one)), block[0])
    return corpus.vocab.decode(document.tokens[1:-1])


def check_length(model: nn.Module, grammar: cfg.Grammar, length: int) -> None:
    """Raise UserError for a sentence too long for the model or the probes."""
    find_hook_points(model).check_length(length + 1)
    room = model.config.max_seq_len if isinstance(model, Decoder) else length + 1
    if length + 1 > room:
        raise UserError(f"{length} symbols and <bos> do not fit the model's context of {room}; give a shorter sentence")
    if length > grammar.max_length:
        most = f"no sentence of {grammar.name} has more than {grammar.max_length}"
        raise UserError(f"the sentence has {length} symbols and {most}, so probes end before it; shorten it")


def build_page_data(
    found: TrainedRun, model: nn.Module, tree_reader: TreeReader, words: Sequence[str]
) -> dict[str, Any]:
    """All data of the page, ready for JSON."""
    grammar, vocab = found.task.world(), found.task.vocab()
    document = np.concatenate([[vocab.bos], vocab.encode(words)]).astype(np.int32)
    numbers = grammar.encode(words)
    derivation = cfg.derive(grammar, numbers)
    truth = nodes_of_derivation(derivation) if derivation else []
    whole = np.append(document, vocab.eos).astype(np.int32)
    return {
        "run": found.folder.name,
        "grammar": grammar.name,
        "tokens": list(words),
        "parses": str(cfg.count_parses(grammar, numbers, [0, len(numbers)])[0]),
        "learned": not is_held_out(Example(whole, np.ones(len(whole), bool))),
        "truth": nodes_to_json(grammar, truth, truth),
        "layers": layer_trees(grammar, tree_reader, document, truth),
        "attention": attention(model, document),
    }


def layer_trees(
    grammar: cfg.Grammar, tree_reader: TreeReader, document: np.ndarray, truth: Sequence[Node]
) -> list[dict[str, Any]]:
    """For each layer: the decoded tree, and the share of ancestors decoded correctly here ("right", None without a true
    tree) and in held-out sentences ("score")."""
    true_ancestors = ancestors_of(grammar, truth, len(document) - 1) if truth else None
    layers = []
    trees = zip(tree_reader.layers, tree_reader.accuracy, *tree_reader.predict(document), strict=True)
    for name, score, ancestors, ends in trees:
        nodes = nodes_of_predictions(grammar, ancestors, ends)
        right = None if true_ancestors is None else float((ancestors == true_ancestors).mean())
        tree = nodes_to_json(grammar, nodes, truth)
        layers.append({"name": name, "right": right, "score": round(float(score), 4), "nodes": tree})
    return layers


def nodes_to_json(grammar: cfg.Grammar, nodes: Sequence[Node], truth: Sequence[Node]) -> list[dict[str, Any]]:
    """The nodes to draw, each with the index of its parent and whether it is in the true tree (None without one). Unary
    links of the true tree, or without one of the nodes, are left out."""
    hidden, true = unary_links(grammar, truth or nodes), set(truth)
    shown = [node for node in nodes if node not in hidden]
    rights = [node in true if true else None for node in shown]
    return [
        {"level": n.level, "start": n.start, "stop": n.stop, "symbol": n.symbol, "parent": parent, "right": right}
        for n, parent, right in zip(shown, parents(shown), rights, strict=True)
    ]


def attention(model: nn.Module, document: np.ndarray) -> list[list[list[int]]]:
    """For each layer and head a flat list of query, key and weight in thousandths; <bos> is position 0. Empty for a
    model without attention weights; a layer without any has no heads."""
    wanted = [name for name in activation_names(model) if is_weights(name)]
    if not wanted:
        return []
    batch = next(iter_activations(model, [document], wanted))
    return [[_head_arcs(head) for head in batch[name][0].float().cpu().numpy()] for name in wanted]


def _head_arcs(weights: np.ndarray) -> list[int]:
    queries, keys = np.nonzero(weights >= MIN_ATTENTION)
    thousandths = (1000 * weights[queries, keys]).round().astype(int)
    return np.stack([queries, keys, thousandths], 1).flatten().tolist()


def html(data: dict[str, Any]) -> str:
    """Render the page. Its content security policy allows its own script, by hash, and nothing else, no requests."""
    before, rest = TEMPLATE.read_text("utf-8").split("<script>")
    script, after = rest.split("</script>")
    mark = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # ASCII only, without characters that could end the script element or begin a comment
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    before = before.replace("HASH-OF-SCRIPT", f"sha256-{mark}")
    return f'{before}<script type="application/json" id="data">{text}</script>\n<script>{script}</script>{after}'


def check_writable(path: Path) -> None:
    """Raise UserError for a file that cannot be written, before the work is done."""
    folder = next((one for one in path.absolute().parents if one.exists()), path)
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        reason = "it is a folder" if path.is_dir() else f"{folder} is no folder that one can write to"
        raise UserError(f"cannot write {path}: {reason}; give another --output")


def write_page(path: Path, page: str) -> None:
    """Write the page. Raises UserError if the file cannot be written."""
    try:
        write_bytes(path, page.encode())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; give another --output") from error
