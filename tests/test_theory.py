"""Every statement of the theory can fail: its row says what the functions that measured it found."""

import csv
import itertools
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from experiments import __main__ as command
from experiments import commands, layout, looks, plots, theory
from experiments.options import command_line
from experiments.theory import appendices, lemmas, normalized, pictures, propositions, sizes, theorem, window
from experiments.verdicts import Verdict
from minigrad.facts import FACTS

@pytest.fixture(autouse=True)
def one_thread():
    """As `make theory` has it: beside other work, more are slower."""
    with threadpool_limits(1):
        yield


# Places of statements that hold for every W.
EXACT = {
    "Lemma 1",
    "Eq. 13",
    "Lemma 2",
    "sharper than Lemma 2",
    "Eq. 23 and 24",
    "Lemma 2 without its assumption",
    "Eq. 6 to 9, Prop. 1",
    "Prop. 2, by Euler's identity",
    "Theorem 1, Eq. 10",
    "Section 3.2, unrolled",
    "Appendix D, Eq. 25",
    "Appendix E, rank constraint",
}

MEASURED = {
    lemmas: ["data", "lemma_1", "lemma_2", "without_detaching"],
    normalized: ["data", "lemma_2", "written_out"],
    theorem: ["load", "theorem_1", "rank_of_U_S", "train_epoch", "orthogonality", "judge_orthogonality"],
    window: ["data", "window", "counted"],
    propositions: [
        "binary",
        "descend",
        "prop_1",
        "converged",
        "at_kinks",
        "along",
        "balance",
        "zero_point",
        "exception",
        "almost_convergence",
    ],
    appendices: ["binary", "eq_25", "normalized_descent", "appendix_e", "stationary"],
}


def with_every_verdict(found, answer):
    """What a measuring function found, every truth value in it, at any depth, replaced by `answer`."""
    if isinstance(found, dict):
        return {key: with_every_verdict(value, answer) for key, value in found.items()}
    return answer if type(found) is bool else found


def recorded(tape, measure):
    """`measure` that keeps on the tape what it returns."""

    def recording(*a, **k):
        tape.append(measure(*a, **k))
        return tape[-1]

    return recording


def replayed(tape, answer):
    """A measuring function that returns what is on the tape, with every verdict replaced."""
    results = itertools.cycle(tape or [(0.1, 1)])  # at_kinks is asked only of what doesn't converge

    def replaying(*a, **k):
        return with_every_verdict(next(results), answer)

    return replaying


def verdicts_if(measure, tapes, answer, monkeypatch):
    """Whether each row of a chapter holds if what was measured is on the `tapes`, every verdict `answer`."""
    with monkeypatch.context() as patch:
        for (module, name), tape in tapes.items():
            patch.setattr(module, name, replayed(tape, answer))
        verdicts, _ = measure(sizes.SIZES["smoke"], None)
    return [verdict.verdict == "holds" for verdict in verdicts]


@pytest.mark.parametrize("chapter", theory.CHAPTERS.values(), ids=theory.CHAPTERS)
def test_what_holds_for_every_W_holds_and_every_row_says_what_its_functions_found(chapter, monkeypatch):
    """Also at the sizes of --preset smoke, where what is only expected of training may fail."""
    tapes = {}
    with monkeypatch.context() as patch:
        for module, names in MEASURED.items():
            for name in names:
                tape = tapes[module, name] = []
                patch.setattr(module, name, recorded(tape, getattr(module, name)))
        verdicts, numbers = chapter.measure(sizes.SIZES["smoke"], None)
    assert verdicts and {verdict.verdict for verdict in verdicts} <= {"holds", "does not hold"}
    exact = [verdict.verdict for verdict in verdicts if verdict.place in EXACT]
    assert exact and set(exact) == {"holds"}
    if chapter.picture:
        picture = chapter.picture(sizes.SIZES["smoke"], numbers)
        assert all(line.histories for column in picture.columns for line in column.lines)
        _assert_two_lines_of_text(chapter, numbers)
        _assert_grey_where_nothing_is_learned(chapter, numbers)

    none, every = (verdicts_if(chapter.measure, tapes, answer, monkeypatch) for answer in (False, True))
    assert not any(none) and every == [True] * len(verdicts)


def _assert_two_lines_of_text(chapter, numbers):
    """With both presets' words, whatever was found. Seen in the notes of Lemma 2 and Proposition 1."""
    smoke = sizes.SIZES["smoke"]
    for size in (smoke, replace(smoke, preset="quick", mnist="mnist", cifar10="cifar10")):
        for answer in (True, False, None):
            picture = chapter.picture(size, with_every_verdict(numbers, answer))
            drawn = plots.histories(picture.columns, picture.rows, picture.title, picture.note, "")
            texts = [*drawn.texts, *(axis.title for axis in drawn.axes)]
            assert max(text.get_text().count("\n") for text in texts) <= 1, picture.title


def lines_of(picture):
    return [line for column in picture.columns for line in column.lines]


def _assert_grey_where_nothing_is_learned(chapter, numbers):
    """Bounds that hold for every W keep their colour. Against the width only what has learned is drawn."""
    size = sizes.SIZES["smoke"]
    if chapter.measure in (lemmas.measure_lemma_1, lemmas.measure_lemma_2):
        return
    learned, failed = (chapter.picture(size, with_learned(numbers, answer)) for answer in (True, False))
    assert not any(line.grey for line in lines_of(learned)) and learned.grey
    along_training = [column for column in failed.columns if column.x != pictures.WIDTH]
    coloured = {line.label for column in along_training for line in column.lines if not line.grey}
    bounds = {"no W ≠ 0 gets below this, whatever the loss", "exp(−E)", "bound: sB, at most 8"}
    assert coloured <= bounds


def with_learned(numbers, answer):
    """The numbers of a picture as if all its networks, or none, had learned."""
    changed = {}
    for key, value in numbers.items():
        if key == "learned":
            changed[key] = with_every_verdict(value, answer)
        elif key == "accuracy":
            changed[key] = 0.9 if answer else 0.34
        else:
            changed[key] = with_learned(value, answer) if isinstance(value, dict) else value
    return changed


def alike(lines, side):
    """The sorted labels of the lines that are alike on this side of their looks, as a set."""
    found = {}
    for line in lines:
        found.setdefault(getattr(looks.look_of(line.style), side), set()).add(line.label)
    return {tuple(sorted(labels)) for labels in found.values()}


def test_theorem_1_s_dashes_say_what_is_drawn_and_its_colours_and_markers_of_which_rank():
    """The fault: the bound by 4 and the distance to rank 16 had the same dashes."""
    size = sizes.SIZES["quick"]
    made = np.ones((3, 2, 5, len(size.ranks)))
    found = {"left": made, "right": made, "size": made[..., 0], "ratio": made[:, :, 0], "accuracy": 0.9}
    settings = {"B": 16, "m": 640, "eta": 0.01, "lam": 0.08, "epochs": 240, "begun": np.arange(1, 4)}
    picture = pictures.theorem_1(size, settings | {"networks": {"MLP": found}})
    lines = lines_of(picture)
    kinds = ("bound / distance, B* = ", "bound by batches of ", "distance to rank ")
    of_rank = {tuple(f"{kind}{r}" for kind in kinds) for r in size.ranks}
    of_kind = {tuple(sorted(f"{kind}{r}" for r in size.ranks)) for kind in kinds}
    assert alike(lines, "colour") == alike(lines, "marker") == of_rank | {("‖W‖",)}
    assert alike(lines, "dash") == of_kind | {("‖W‖",)}
    drawn = plots.histories(picture.columns, picture.rows, "", "", None, keys=picture.keys)
    words = [text.get_text() for legend in drawn.legends for text in legend.get_texts()]
    assert words[:3] == ["B* = 4", "B* = 16", "B* = 64"]
    assert words[3:] == ["distance of W to rank B*", "bound by batches of B*", "bound / distance", "‖W‖"]
    said = {(key.look.colour, key.look.dash, key.look.marker) for row in picture.keys for key in row}
    assert len(said) == 7


def test_proposition_1_s_colours_say_lambda_and_its_dashes_and_markers_say_gd_or_sgd():
    size, made = sizes.SIZES["quick"], {name: np.ones(3) for name in ("step", "gradient", "residual")}
    case = {"histories": dict.fromkeys(propositions.RUNS, made), "c": 0.9, "on_kinks": False}
    case["learned"] = dict.fromkeys(propositions.RUNS, True)
    lines = lines_of(pictures.prop_1(size, {"digits": case}))
    bound = (lines[-1].label,)
    gd, sgd, gd_decayed, sgd_decayed = propositions.RUNS
    assert alike(lines, "colour") == {(gd, sgd), (gd_decayed, sgd_decayed), bound}
    assert alike(lines, "dash") == alike(lines, "marker") == {(gd, gd_decayed), (sgd, sgd_decayed), bound}


def test_the_binary_problem_is_balanced_centred_and_scaled():
    for classes in sizes.CLASSES.values():
        x, y = sizes.binary("synthetic-mnist", None, classes)
        assert x.shape == (40, 784) and (y == 1).sum() == (y == -1).sum() == 20
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
        assert (x**2).sum(axis=1).mean() == pytest.approx(1)


def test_the_longest_chapter_is_measured_first_and_told_in_its_place(monkeypatch):
    begun = []

    def chapter(name):
        return theory.Chapter(lambda size, folder: begun.append(name) or name)

    def one_by_one(work, items, pool, bar):
        return [work(item, bar.update) for item in items]

    monkeypatch.setattr(theory, "CHAPTERS", {name: chapter(name) for name in ("first", theory.LONGEST)})
    monkeypatch.setattr(theory.parallel, "in_parallel", one_by_one)
    assert list(theory.measure(None, None, 1)) == ["first", theory.LONGEST]
    assert begun == [theory.LONGEST, "first"]


def test_the_table_and_the_pictures_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    verdicts = [
        Verdict("W is low", "Theorem 9", "|1| < 2", "MLP", "holds"),
        Verdict("W is high", "Theorem 10", "2 < 1", "MLP", "does not hold"),
    ]
    found = {"appendix D": (verdicts, None)}
    monkeypatch.setattr(theory, "measure", lambda size, folder, jobs: found)
    assert command.main(["theory", "--preset", "smoke", "--figures", "out"]) == 0
    assert capsys.readouterr().out.splitlines() == ["out/theory-smoke.md", "out/theory-smoke.csv"]
    text = (tmp_path / "out/theory-smoke.md").read_text(encoding="utf-8")
    assert text.startswith("Preset smoke, which tests the program")
    assert "| W is high | Theorem 10 | 2 < 1 | MLP | **does not hold** |" in text
    assert "| \\|1\\| < 2 |" in text
    with open("out/theory-smoke.csv", encoding="utf-8") as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == ["holds", "does not hold"]
    chapter = {"appendix E": appendices.measure_appendix_e(sizes.SIZES["smoke"], None)}
    paths = theory.save(sizes.SIZES["smoke"], chapter, tmp_path)
    names = [path.name for path in paths]
    picture_names = [f"theory-smoke-appendixE.{kind}" for kind in ("png", "svg", "csv")]
    assert names == ["theory-smoke.md", "theory-smoke.csv", *picture_names]
    assert "no result)" in (tmp_path / "theory-smoke-appendixE.svg").read_text(encoding="utf-8")
    paths = theory.save(sizes.SIZES["quick"].on(["mnist"]), chapter, tmp_path)
    assert paths[0].name == "theory-synthetic.md"
    assert "stand-in)" in (tmp_path / "theory-synthetic-appendixE.svg").read_text(encoding="utf-8")


def test_every_chapter_but_two_gets_its_picture_s_three_files(tmp_path, monkeypatch):
    """From one made-up line each. The fault: one chapter's picture is left out."""

    def one_line(size, name):
        line = pictures.line("made up", 0, step=np.arange(3), rank=np.arange(3))
        column, row = plots.Column("made up", [line], pictures.STEPS), layout.Row("rank", "rank")
        return pictures.Picture(name, "made up", "made up", [column], [row], size.mnist)

    made_up = dict(theory.CHAPTERS)
    for name, chapter in theory.CHAPTERS.items():
        if chapter.picture:
            made_up[name] = chapter._replace(picture=one_line)
    monkeypatch.setattr(theory, "CHAPTERS", made_up)
    paths = theory.save(sizes.SIZES["smoke"], {name: ([], name) for name in made_up}, tmp_path)
    expected = {"theory-smoke.md", "theory-smoke.csv"}
    for name in made_up:
        if name not in ("appendix C", "appendix D"):
            expected |= {f"theory-smoke-{name}.{kind}" for kind in ("png", "svg", "csv")}
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths} == expected


def test_damaged_data_is_told_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(theory, "measure", lambda *a: pytest.fail("measured"))
    for file in FACTS["mnist"].files:
        (tmp_path / file).write_bytes(b"no data")
    with pytest.raises(SystemExit) as end:
        command.main(["theory", "--data", str(tmp_path), "--figures", str(tmp_path / "figures")])
    assert end.value.code == 2 and "found 7 bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--preset", "paper"], "invalid choice: 'paper'"),
        (["--backend", "cupy"], "unrecognized arguments: --backend"),
        (["--seeds", "3"], "unrecognized arguments: --seeds"),
        (["--set", "B=4"], "unrecognized arguments: --set"),
        (["--plot-only"], "unrecognized arguments: --plot-only"),
        (["--results", "x"], "unrecognized arguments: --results"),
        (["--jobs", "0"], "at least 1"),
    ],
)
def test_theory_refuses_what_it_does_not_take(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        command.main(["theory", *arguments])
    err = capsys.readouterr().err
    assert end.value.code == 2 and words in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("preset", sizes.SIZES)
def test_every_size_is_a_preset(preset):
    assert command_line().parse_args(["theory", "--preset", preset]).preset == preset


def test_a_folder_that_cannot_be_written_is_noticed_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(theory, "measure", lambda *a: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end:
        command.main(["theory", "--preset", "smoke", "--figures", str(tmp_path / "file")])
    assert end.value.code == 2 and "file can't be written" in capsys.readouterr().err


@pytest.mark.parametrize("place, name", [(theory, "measure"), (commands, "run"), (theory, "save")])
def test_ctrl_c_is_one_true_sentence(place, name, tmp_path, monkeypatch, capsys):
    def interrupted(*a):
        raise KeyboardInterrupt

    monkeypatch.setattr(theory, "measure", lambda *a: {})
    monkeypatch.setattr(place, name, interrupted)
    assert command.main(["theory", "--preset", "smoke", "--figures", str(tmp_path / "new")]) == 130
    told = "\ninterrupted: run the same command again, which trains no stored run anew\n"
    assert capsys.readouterr().err == told
    assert list(tmp_path.glob("*/*")) == []
