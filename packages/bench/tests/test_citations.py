"""Whom to cite for what a run used."""

import pytest

from regathlon import datasets, plugins
from regathlon.citations import bibliography, citation, split, to_bibtex
from regathlon.cli import main
from regathlon.papers import papers
from regathlon.results import read_results
from regathlon_core.errors import UserError


def well_formed(bibtex):
    entries = split(bibtex)
    return entries and len(entries) == bibtex.count("\n@") + bibtex.startswith("@")


# Nothing here asks for plugins while tests are collected: what is installed is read once, and the toys are not there yet.


def test_what_cards_cite_is_well_formed():
    for name, declared in plugins.load_all("regularizer")[0].items():
        bibtex = citation(declared)
        assert not bibtex or well_formed(bibtex), name


def test_the_papers_of_the_ledger_are_cited_by_their_cards():
    for paper in papers():
        (entry,) = split(citation(plugins.load("regularizer", paper.card))).values()
        assert paper.title.lower() in entry.lower()


def test_every_data_set_says_whom_to_cite():
    for name in set(datasets.names()) - {"toy-files"}:
        assert well_formed(datasets.citation(name)), name


def test_every_model_that_cites_has_the_entry():
    cited = 0
    for task in plugins.load_all("task")[0].values():
        for model in task.models:
            cited += bool(split(citation(model)))  # raises where a key is not in references.bib
    assert cited or not any(task.startswith("vision/") for task in plugins.registered("task"))


def test_a_run_cites_each_thing_once_and_says_what_for(made_run, capsys):
    scores = {
        (task, name): {0: 0.5}
        for task in ("toy/a", "toy/b")
        for name in ("none", "gsnr+cutmix", "meta_gsnr", "gone")
    }
    folder = made_run(scores)
    found = bibliography(read_results(folder))
    assert found.used["michalkiewicz2023domain"] == ("gsnr", "meta_gsnr")
    assert found.used["yun2019cutmix"] == ("cutmix",)
    assert "regathlon" in found.entries
    assert found.missing == ("data set made", "mlp", "gone")
    assert main(["export", str(folder), "--format", "bibtex"]) == 0
    text = capsys.readouterr().out
    assert text == to_bibtex(read_results(folder))
    assert set(split(text)) == set(found.entries)
    assert "% gsnr, meta_gsnr\n@inproceedings{michalkiewicz2023domain," in text


def test_a_key_that_is_not_there_is_one_message(monkeypatch):
    declared = plugins.load("regularizer", "cutmix")
    monkeypatch.setattr(declared, "citation", "nobody2020", raising=False)
    with pytest.raises(UserError, match="nobody2020"):
        citation(declared)
