import itertools
import math
import statistics as stdlib
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats as scipy_stats

from regathlon_core.errors import UserError
from regathlon_core.statistics import (
    average_ranks,
    cliques,
    compare_methods,
    confidence_interval,
    critical_difference,
    critical_difference_diagram,
    difference_interval,
    effect_size,
    friedman,
    holm,
    least_seeds,
    paired_test,
    seeds_needed,
    smallest_p,
    summarize,
)

METHODS = ["permutation", "wilcoxon", "t"]


def rng(*key):
    return np.random.default_rng(key)


def by_name(matrix):
    """[seed or task, method] as the mappings that the functions take."""
    return {f"m{j}": {f"s{i}": x for i, x in enumerate(column)} for j, column in enumerate(matrix.T.tolist())}


def coarse(generator, *shape):
    """Accuracies on twenty samples: many ties, all of them hidden by rounding."""
    return generator.binomial(20, 0.8, shape) / 20 + 0.1


def flips_by_hand(values):
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in flips(len(values))]
    return sum(total >= abs(sum(values)) - 1e-9 for total in sums) / len(sums)


def flips(n):
    return list(itertools.product((-1, 1), repeat=n))


# Summaries and intervals


@pytest.mark.parametrize("n", [2, 3, 10])
def test_summary_equals_the_standard_librarys(n):
    values = rng(n).normal(90, 2, n).tolist()
    summary = summarize(values)
    assert summary.n == n
    assert summary.mean == pytest.approx(stdlib.fmean(values))
    assert summary.std == pytest.approx(stdlib.stdev(values))


def test_too_few_values_give_nan_and_no_warning():
    assert math.isnan(summarize([]).mean)
    assert math.isnan(summarize([1.0]).std)
    for values in ([], [1.0], [0.3, 0.3, 0.3]):
        for method in ("t", "bca"):
            interval = confidence_interval(values, method=method)
            assert math.isnan(interval.low)
            assert math.isnan(interval.high)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
@pytest.mark.parametrize("n", [2, 3, 7, 30])
def test_t_interval_equals_scipys(n, level):
    x = rng(n).normal(size=n)
    interval = confidence_interval(x, level)
    want = scipy_stats.t.interval(level, n - 1, loc=x.mean(), scale=scipy_stats.sem(x))
    assert (interval.low, interval.high) == pytest.approx(want)
    assert interval.level == level


def bca_by_hand(x, level, generator, resamples):
    """Efron and Tibshirani 1993, "An Introduction to the Bootstrap", equations 14.9 to 14.15."""
    normal = scipy_stats.norm
    means = np.sort(x[generator.integers(0, x.size, (resamples, x.size))].mean(axis=1))
    z0 = normal.ppf(((means < x.mean()).mean() + (means <= x.mean()).mean()) / 2)
    jack = np.array([np.delete(x, i).mean() for i in range(x.size)])
    centred = jack.mean() - jack
    a = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
    z = z0 + normal.ppf([(1 - level) / 2, (1 + level) / 2])
    return np.quantile(means, normal.cdf(z0 + z / (1 - a * z)))


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("sizes", [(2, 3), (8, 5), (30, 100)])
def test_interval_for_two_samples_equals_scipys(sizes, level):
    first, second = (rng(21, n).normal(size=n) * n for n in sizes)
    found = difference_interval(summarize(first), summarize(second), level)
    want = scipy_stats.ttest_ind(first, second, equal_var=False).confidence_interval(level)
    assert (found.low, found.high) == pytest.approx((want.low, want.high))
    against = difference_interval(summarize(first), 3.0, level)
    want = scipy_stats.ttest_1samp(first - 3.0, 0).confidence_interval(level)
    assert (against.low, against.high) == pytest.approx((want.low, want.high))


def test_interval_for_two_samples_that_cannot_tell():
    alone, equal, spread = summarize([1.0]), summarize([1.0, 1.0]), summarize([1.0, 2.0])
    for first, second in (
        (alone, spread),
        (spread, alone),
        (equal, equal),
        (equal, 0.0),
        (summarize([]), 0.0),
    ):
        assert math.isnan(difference_interval(first, second).low)
    assert math.isfinite(difference_interval(equal, spread).low)


@pytest.mark.parametrize("n", [6, 25])
def test_bca_interval_equals_a_second_implementation(n):
    x = rng(n).exponential(size=n)
    interval = confidence_interval(x, method="bca", generator=rng(1))
    want = bca_by_hand(x, 0.95, rng(2), resamples=100_000)
    # A quantile of 9,999 resamples has standard error √(q (1 - q) / 9999) / density. The means are roughly
    # normal, and the acceleration moves no end further out than their 0.5 % point, where density is smallest.
    tail = 0.005
    density = scipy_stats.norm.pdf(scipy_stats.norm.ppf(tail)) / (x.std() / math.sqrt(n))
    tolerance = 5 * math.sqrt(tail * (1 - tail) / 9_999 * 1.1) / density
    assert (interval.low, interval.high) == pytest.approx(want, abs=tolerance)


def test_bca_follows_its_generator_and_has_a_fixed_one_by_default():
    x = rng(0).exponential(size=9)
    assert confidence_interval(x, method="bca") == confidence_interval(x, method="bca")
    other = confidence_interval(x, method="bca", generator=rng(7))
    assert other == confidence_interval(x, method="bca", generator=rng(7))
    assert other != confidence_interval(x, method="bca")


def test_t_interval_covers_the_mean_as_often_as_it_says():
    n, tables, level = 4, 2_000, 0.9
    x = rng(5).normal(size=(tables, n))
    intervals = [confidence_interval(row, level) for row in x]
    covered = sum(interval.low <= 0 <= interval.high for interval in intervals) / tables
    assert covered == pytest.approx(level, abs=5 * math.sqrt(level * (1 - level) / tables))


# Paired tests


@pytest.mark.parametrize("n", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("draw", [lambda g, n: g.normal(size=(2, n)), lambda g, n: coarse(g, 2, n)])
def test_permutation_equals_counting_all_flips_and_scipy(n, draw):
    for trial in range(6):
        a, b = draw(rng(n, trial), n)
        test = paired_test(a, b)
        assert test.exact
        assert test.p_value == pytest.approx(flips_by_hand((a - b).tolist()))
        if n > 1:
            want = scipy_stats.permutation_test(
                (a, b),
                lambda x, y, axis: (x - y).mean(axis=axis),
                permutation_type="samples",
                n_resamples=np.inf,
                vectorized=True,
            )
            assert test.p_value == pytest.approx(want.pvalue)
        assert test.difference == pytest.approx(a.mean() - b.mean())


@pytest.mark.parametrize("n", [4, 12, 32])
def test_wilcoxon_equals_scipys_exact_test_without_ties(n):
    a, b = rng(n).normal(size=(2, n))
    want = scipy_stats.wilcoxon(a, b, method="exact")
    test = paired_test(a, b, "wilcoxon")
    assert test.p_value == pytest.approx(want.pvalue)
    assert abs(test.statistic) == n * (n + 1) / 2 - 2 * want.statistic


def test_wilcoxon_is_exact_with_ties_and_zeros():
    for trial in range(10):
        a, b = coarse(rng(trial), 2, 9)
        d = np.round(a - b, 9)
        d = d[d != 0]
        ranks = np.sign(d) * scipy_stats.rankdata(np.abs(d))
        test = paired_test(a, b, "wilcoxon")
        assert test.p_value == pytest.approx(flips_by_hand(ranks.tolist()))
        assert test.statistic == ranks.sum()


@pytest.mark.parametrize("n", [2, 3, 10, 50])
def test_t_equals_scipys(n):
    a, b = rng(n).normal(size=(2, n))
    want = scipy_stats.ttest_rel(a, b)
    test = paired_test(a, b, "t")
    assert (test.statistic, test.p_value) == pytest.approx((want.statistic, want.pvalue))


@pytest.mark.parametrize("method", ["permutation", "wilcoxon"])
def test_drawn_flips_agree_with_counted_ones(method):
    """A seed on which both are equal changes no p-value, but takes 32 seeds over the exact test's bound."""
    a, b = rng(3).normal(size=(2, 32))
    a += 0.4
    counted = paired_test(a, b, method)
    drawn = paired_test(np.append(a, 1.0), np.append(b, 1.0), method, generator=rng(4))
    assert (counted.exact, drawn.exact) == (True, False)
    p = counted.p_value
    assert 0.001 < p < 0.9
    assert drawn.p_value == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 99_999) + 1e-5)


def test_drawn_flips_agree_with_scipys_exact_wilcoxon():
    a, b = rng(5).normal(size=(2, 45))
    p = scipy_stats.wilcoxon(a, b, method="exact").pvalue
    drawn = paired_test(a, b, "wilcoxon")
    assert not drawn.exact
    assert drawn.p_value == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 99_999) + 1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_identical_scores_give_p_one(method):
    x = [0.1, 0.7, 0.2, 0.4]
    test = paired_test(x, list(x), method)
    assert (test.p_value, test.statistic, test.difference) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_no_shared_seed_is_no_evidence(method):
    test = paired_test({0: 1.0}, {1: 2.0}, method)
    assert (test.n, test.p_value) == (0, 1.0)
    assert math.isnan(test.difference)
    assert paired_test({0: 1.0}, {0: 2.0}, method).p_value == 1.0


def test_t_does_not_trust_differences_without_spread():
    """Three coarse scores that differ by the same 0.05 give Student's t = ∞."""
    a, b = [0.85, 0.90, 0.80], [0.80, 0.85, 0.75]
    assert paired_test(a, b, "t").p_value == paired_test(a, b).p_value == 0.25
    assert paired_test(a, b, "t").statistic == math.inf


def test_rounding_breaks_no_ties():
    """0.3 - 0.1 and 0.5 - 0.3 differ in the last bit, yet flipping one against the other is a tie."""
    a, b = [0.3, 0.3, 0.9], [0.1, 0.5, 0.7]
    assert len({abs(x - y) for x, y in zip(a, b, strict=True)}) > 1
    for method in ("permutation", "wilcoxon"):
        assert paired_test(a, b, method).p_value == 1.0


def test_only_shared_seeds_are_used_whatever_their_order():
    a = {0: 1.0, 1: 2.0, 2: 4.0, 5: 100.0}
    b = {9: -50.0, 2: 1.0, 1: 1.5, 0: 0.0}
    assert paired_test(a, b) == paired_test([1.0, 2.0, 4.0], [0.0, 1.5, 1.0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [3, 8])
def test_p_values_do_not_depend_on_unit_offset_direction_or_order(method, n):
    generator = rng(n)
    a, b = generator.normal(size=(2, n))
    p = paired_test(a, b, method).p_value
    common = generator.normal(size=n)
    order = generator.permutation(n)
    for other in (
        paired_test(b, a, method),
        paired_test(100 * a + 7, 100 * b + 7, method),
        paired_test(a + common, b + common, method),
        paired_test(-a, -b, method),
        paired_test(a[order], b[order], method),
    ):
        assert other.p_value == pytest.approx(p)


@pytest.mark.parametrize("method", METHODS)
def test_the_level_holds_on_equal_methods(method):
    n, tables, alpha = 7, 2_000, 0.1
    generator = rng(11)
    pairs = generator.lognormal(size=(tables, 2, n)) + 5 * generator.normal(size=(tables, 1, n))
    rejected = sum(paired_test(a, b, method).p_value <= alpha for a, b in pairs) / tables
    assert rejected <= alpha + 5 * math.sqrt(alpha * (1 - alpha) / tables)
    assert rejected > alpha / 3


@pytest.mark.parametrize("method", ["permutation", "wilcoxon"])
@pytest.mark.parametrize("n", [1, 3, 6, 20])
def test_smallest_p_is_reached_and_never_passed(method, n):
    clear = paired_test(np.arange(n) + 1.0, np.zeros(n), method)
    assert clear.p_value == pytest.approx(smallest_p(n, method))
    assert paired_test(*rng(n).normal(size=(2, n)), method).p_value >= smallest_p(n, method)


def test_smallest_p_of_drawn_flips():
    clear = paired_test(np.ones(40), np.zeros(40))
    assert clear.p_value == smallest_p(40) == 1e-5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("comparisons", [1, 3, 45])
def test_least_seeds_is_the_first_number_that_can_be_significant(method, comparisons):
    n = least_seeds(comparisons, 0.05, method)
    assert comparisons * smallest_p(n, method) <= 0.05
    assert comparisons * smallest_p(n - 1, method) > 0.05


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_refused(bad):
    scores = [1.0, bad]
    for call in (
        lambda: summarize(scores),
        lambda: confidence_interval(scores),
        lambda: paired_test(scores, [1.0, 2.0]),
        lambda: effect_size([1.0, 2.0], scores),
        lambda: average_ranks({"a": {"t": bad}}),
    ):
        with pytest.raises(UserError, match=f"hold.* {bad}, which no statistic can use"):
            call()
    with pytest.raises(UserError, match=r"^cutmix: .*nan"):
        compare_methods({"none": {0: 1.0}, "cutmix": {0: math.nan}})


def test_scores_that_cannot_be_paired_are_refused():
    with pytest.raises(UserError, match="3 scores cannot be paired with 2"):
        paired_test([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(UserError, match="seeds of both"):
        paired_test({0: 1.0}, [1.0])
    with pytest.raises(UserError, match="Did you mean 'permutation'"):
        paired_test([1.0], [1.0], "permutaton")
    with pytest.raises(UserError, match="no paired test"):
        smallest_p(3, "z")
    with pytest.raises(UserError, match="no interval 'b'"):
        confidence_interval([1.0], method="b")
    with pytest.raises(UserError, match="level must lie between 0 and 1"):
        confidence_interval([1.0, 2.0], 95)


# Holm


def holm_by_closure(p_values):
    """The closed test: a hypothesis falls when every set that it is in falls by Bonferroni."""
    names = list(p_values)
    sets = [s for size in range(1, len(names) + 1) for s in itertools.combinations(names, size)]
    return {
        name: max(min(1.0, len(s) * min(p_values[other] for other in s)) for s in sets if name in s)
        for name in names
    }


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_holm_equals_the_closed_test(count):
    for trial in range(5):
        p = rng(count, trial).random(count) ** 3
        if count > 2:
            p[1] = p[0]
        p_values = {f"h{i}": float(value) for i, value in enumerate(p)}
        assert holm(p_values) == pytest.approx(holm_by_closure(p_values))
        assert list(holm(p_values)) == list(p_values)


def test_holm_of_nothing_and_of_no_p_value():
    assert holm({}) == {}
    for bad in (math.nan, 1.5, -0.1):
        with pytest.raises(UserError, match="must lie in"):
            holm({"a": 0.2, "b": bad})


# One table


@pytest.mark.parametrize("method", METHODS)
def test_a_table_is_its_pairwise_tests_corrected_together(method):
    scores = by_name(rng(0).normal(size=(12, 4)) + np.array([0, 1.5, 0.2, 3]))
    table = compare_methods(scores, method=method, baseline="m0")
    means = {name: stdlib.fmean(column.values()) for name, column in scores.items()}
    ranked = sorted(means, key=lambda name: -means[name])
    assert list(table.summaries) == ranked
    p = {
        pair: paired_test(scores[pair[0]], scores[pair[1]], method).p_value
        for pair in itertools.combinations(ranked, 2)
    }
    adjusted = holm_by_closure(p)
    assert {(pair.first, pair.second): pair.adjusted_p for pair in table.pairs} == pytest.approx(adjusted)
    assert table.bold == tuple(n for n in ranked if n == ranked[0] or adjusted[ranked[0], n] > 0.05)
    assert 1 <= len(table.bold) < 4
    assert [gain.method for gain in table.gains] == [name for name in ranked if name != "m0"]
    for gain in table.gains:
        pair = (gain.method, "m0") if (gain.method, "m0") in p else ("m0", gain.method)
        d = np.subtract(list(scores[gain.method].values()), list(scores["m0"].values()))
        assert gain.gain == pytest.approx(means[gain.method] - means["m0"])
        assert (gain.p_value, gain.adjusted_p) == pytest.approx((p[pair], adjusted[pair]))
        assert gain.claimed == (adjusted[pair] <= 0.05)
        assert gain.interval == confidence_interval(d, 1 - 0.05 / 3)


def test_errors_turn_the_table_round():
    matrix = rng(1).normal(size=(10, 3)) + np.array([0, 2, 1])
    higher = compare_methods(by_name(matrix), baseline="m2")
    lower = compare_methods(by_name(-matrix), baseline="m2", lower_is_better=True)
    assert lower.bold == higher.bold
    assert list(lower.summaries) == list(higher.summaries)
    for one, other in zip(lower.gains, higher.gains, strict=True):
        assert (one.method, one.claimed) == (other.method, other.claimed)
        assert (one.gain, one.interval.low, one.adjusted_p) == pytest.approx(
            (other.gain, other.interval.low, other.adjusted_p)
        )
    assert any(gain.claimed for gain in lower.gains)


@pytest.mark.parametrize("method", METHODS)
def test_a_table_does_not_depend_on_unit_seed_effects_or_order(method):
    generator = rng(2)
    matrix = generator.normal(size=(9, 4)) + np.array([0, 0.5, 2, 2.1])
    seeds, methods = generator.permutation(9), generator.permutation(4)
    reordered = {name: by_name(matrix[seeds])[name] for name in (f"m{j}" for j in methods)}
    table = compare_methods(by_name(matrix), method=method, baseline="m0")
    for other in (
        compare_methods(by_name(100 * matrix - 3), method=method, baseline="m0"),
        compare_methods(reordered, method=method, baseline="m0"),
        compare_methods(by_name(matrix + 0.3 * generator.normal()), method=method, baseline="m0"),
    ):
        assert other.bold == table.bold
        assert [(pair.first, pair.second) for pair in other.pairs] == [
            (pair.first, pair.second) for pair in table.pairs
        ]
        assert [p.adjusted_p for p in other.pairs] == pytest.approx([p.adjusted_p for p in table.pairs])
    shifted = compare_methods(by_name(matrix + generator.normal(size=(9, 1))), method=method)
    assert shifted.bold == table.bold
    assert [p.adjusted_p for p in shifted.pairs] == pytest.approx([p.adjusted_p for p in table.pairs])


def clear_scores(n=10, count=3):
    return by_name(rng(6).normal(size=(n, count)) + 10 * np.arange(count))


def test_a_clear_difference_is_claimed():
    table = compare_methods(
        clear_scores(), baseline="m0", budgets=dict.fromkeys(["m0", "m1", "m2"], "20 epochs")
    )
    assert table.refusals == ()
    assert table.bold == ("m2",)
    assert all(gain.claimed and gain.interval.low > 0 for gain in table.gains)


def refused(scores, match, **options):
    table = compare_methods(scores, baseline=next(iter(scores)), **options)
    assert table.bold == ()
    assert not any(gain.claimed for gain in table.gains)
    assert not any(pair.distinguishable for pair in table.pairs)
    assert any(match in reason for reason in table.refusals), table.refusals
    return table


def test_no_claim_where_numbers_of_seeds_differ():
    scores = clear_scores()
    del scores["m1"]["s3"]
    table = refused(scores, "The numbers of seeds differ: 10 seeds (m0, m2); 9 seeds (m1).")
    assert [gain.n for gain in table.gains] == [10, 9]
    assert len(table.refusals) == 1


def test_no_claim_where_seeds_differ():
    scores = clear_scores(n=2) | {"m1": {"s0": 1.0, "s7": 2.0}}
    refused(scores, "The seeds differ: s0, s1 (m0, m2); s0, s7 (m1).")


def test_no_claim_where_budgets_or_tunings_differ():
    scores = clear_scores()
    budgets = {"m0": "20 epochs", "m1": "20 epochs", "m2": "30 epochs"}
    refused(scores, "The budgets differ: 20 epochs (m0, m1); 30 epochs (m2).", budgets=budgets)
    refused(
        scores, "The tunings differ: 16 settings (m0); not stated (m1, m2).", tunings={"m0": "16 settings"}
    )


def test_no_claim_where_seeds_are_too_few():
    reason = (
        "With 3 seeds no p-value of the permutation test can be below 0.25, and 3 comparisons at level 0.05 "
        "need 0.017: 7 seeds are the least that could show a difference."
    )
    assert refused(clear_scores(n=3), reason).refusals == (reason,)
    assert compare_methods(clear_scores(n=7)).refusals == ()
    assert compare_methods(clear_scores(n=3), method="t").refusals == ()


def test_methods_without_scores_stand_last_and_stop_claims():
    scores = clear_scores() | {"failed": {}}
    table = refused(scores, "0 seeds (failed)")
    assert list(table.summaries)[-1] == "failed"
    assert table.summaries["failed"].n == 0
    assert math.isnan(table.gains[-1].gain)
    nothing = compare_methods({"a": {}, "b": {}}, baseline="a")
    assert nothing.bold == ()
    assert nothing.refusals == (
        "With 0 seeds no p-value of the permutation test can be below 1, and 1 comparison at level 0.05 "
        "needs 0.05: 6 seeds are the least that could show a difference.",
    )


def test_one_method_is_no_comparison():
    refused({"none": {0: 1.0, 1: 2.0}}, "only one method")


def test_ranks_that_contradict_the_means_claim_nothing():
    """One lucky seed lifts the mean of a method that loses on all other seeds."""
    d = [*(-0.1 * i for i in range(1, 12)), 100.0]
    scores = {"lucky": dict(enumerate(d)), "steady": dict.fromkeys(range(12), 0.0)}
    table = compare_methods(scores, method="wilcoxon")
    assert table.pairs[0].adjusted_p < 0.05
    assert table.bold == ("lucky", "steady")


def test_wrong_names_in_a_table_are_refused():
    scores = {"none": {0: 1.0}, "cutmix": {0: 2.0}}
    for options in ({"baseline": "cutmx"}, {"budgets": {"cutmx": 1}}, {"tunings": {"cutmx": 1}}):
        with pytest.raises(UserError, match=r"no method in the table 'cutmx'\. Did you mean 'cutmix'"):
            compare_methods(scores, **options)
    with pytest.raises(UserError, match="no methods"):
        compare_methods({})
    with pytest.raises(UserError, match="alpha must lie"):
        compare_methods(scores, alpha=5)


def no_difference(kind, generator, shape):
    if kind == "normal with seed effects":
        return generator.normal(size=shape) + 3 * generator.normal(size=(*shape[:-1], 1))
    return generator.lognormal(size=shape) if kind == "skewed" else coarse(generator, *shape)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["normal with seed effects", "skewed", "coarse"])
def test_tables_without_a_difference_claim_one_at_most_as_often_as_alpha(method, kind):
    tables, n, count, alpha = 700, 8, 4, 0.05
    claims = uncorrected = 0
    for matrix in no_difference(kind, rng(8), (tables, n, count)):
        table = compare_methods(by_name(matrix), method=method, baseline="m0")
        claims += any(pair.distinguishable for pair in table.pairs)
        uncorrected += any(pair.test.p_value <= alpha for pair in table.pairs)
    tolerance = 5 * math.sqrt(alpha * (1 - alpha) / tables)
    assert claims / tables <= alpha + tolerance
    # The same tables show what the correction is for.
    assert uncorrected / tables > alpha + tolerance


def test_intervals_of_all_gains_hold_together():
    tables, alpha = 600, 0.05
    wrong = 0
    for matrix in rng(9).normal(size=(tables, 5, 5)):
        gains = compare_methods(by_name(matrix), baseline="m0").gains
        wrong += any(not gain.interval.low <= 0 <= gain.interval.high for gain in gains)
    assert wrong / tables <= alpha + 5 * math.sqrt(alpha * (1 - alpha) / tables)


@pytest.mark.parametrize("method", METHODS)
def test_power_grows_with_the_difference(method):
    tables, n = 60, 10
    shares = []
    for difference in (0.5, 1.5, 4.0):
        found = 0
        for noise in rng(10).normal(size=(tables, n, 3)):
            noise[:, 0] += difference * math.sqrt(2)
            found += compare_methods(by_name(noise), method=method).bold == ("m0",)
        shares.append(found / tables)
    assert shares[0] < 0.3 < shares[1] < shares[2]
    assert shares[2] > 0.95


# Effect sizes and seeds needed


@pytest.mark.parametrize("n", [3, 8])
def test_effect_sizes_by_hand(n):
    a, b = np.round(rng(n).normal(size=(2, n)), 1)
    d = (a - b).tolist()
    size = effect_size(a, b)
    assert size.n == n
    assert size.d_z == pytest.approx(stdlib.fmean(d) / stdlib.stdev(d))
    m = n - 1
    exact = math.gamma(m / 2) / (math.sqrt(m / 2) * math.gamma((m - 1) / 2))
    assert size.g_z == pytest.approx(size.d_z * exact)
    wins = sum(1 if x > 1e-9 else 0.5 if abs(x) < 1e-9 else 0 for x in d)
    assert size.superiority == pytest.approx(wins / n)
    turned = effect_size(a, b, lower_is_better=True)
    assert (turned.d_z, turned.superiority) == pytest.approx((-size.d_z, 1 - size.superiority))


def test_hedges_correction_takes_the_bias_away():
    n, tables, true = 5, 20_000, 0.8
    d = rng(12).normal(true, 1, (tables, n))
    raw = d.mean(axis=1) / d.std(axis=1, ddof=1)
    ratio = effect_size(d[0], np.zeros(n)).g_z / effect_size(d[0], np.zeros(n)).d_z
    tolerance = 5 * raw.std() / math.sqrt(tables)
    assert raw.mean() * ratio == pytest.approx(true, abs=tolerance)
    assert raw.mean() - true > tolerance


def test_effect_sizes_where_there_is_little_to_measure():
    assert math.isnan(effect_size({}, {}).superiority)
    one = effect_size([1.0], [0.0])
    assert math.isnan(one.d_z)
    assert one.superiority == 1.0
    two = effect_size([1.0, 2.0], [0.0, 0.5])
    assert math.isfinite(two.d_z)
    assert math.isnan(two.g_z)
    assert effect_size([1.0, 2.0, 3.0], [0.0, 1.0, 2.0]).d_z == math.inf
    assert effect_size([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).d_z == 0.0


def power_by_hand(n, effect, level):
    """Average over the sample deviation s of P(mean > t s / √n), s being √(χ²(n - 1) / (n - 1))."""
    t = scipy_stats.t.isf(level / 2, n - 1)
    s = np.sqrt(scipy_stats.chi2.ppf((np.arange(20_000) + 0.5) / 20_000, n - 1) / (n - 1))
    return scipy_stats.norm.sf(t * s - effect * math.sqrt(n)).mean()


@pytest.mark.parametrize("effect", [0.3, 0.9, 2.5])
@pytest.mark.parametrize("comparisons", [1, 10])
@pytest.mark.parametrize("power", [0.5, 0.9])
def test_seeds_needed_is_the_first_number_with_enough_power(effect, comparisons, power):
    needed = seeds_needed(effect * 2, 2.0, power, 0.05, comparisons=comparisons)
    n = needed.by_power
    assert power_by_hand(n, effect, 0.05 / comparisons) >= power - 1e-3
    assert power_by_hand(n - 1, effect, 0.05 / comparisons) < power + 1e-3
    assert needed.by_test == least_seeds(comparisons)
    assert needed.total == max(n, needed.by_test)
    assert seeds_needed(-effect, 1.0, power, comparisons=comparisons) == needed


def test_seeds_needed_equals_published_sample_sizes():
    """Paired t test, two-sided 0.05, power 0.8: d_z of 0.2, 0.5 and 0.8 take 199, 34 and 15 pairs."""
    assert [seeds_needed(d, 1.0).by_power for d in (0.2, 0.5, 0.8)] == [199, 34, 15]


def test_seeds_needed_at_the_ends():
    assert seeds_needed(1.0, 0.0).total == seeds_needed(1e6, 1.0).total == 6
    assert seeds_needed(1.0, 0.0, method="t").total == 2
    nothing = seeds_needed(0.0, 1.0)
    assert nothing.total is None
    assert nothing.more(3) is None
    small = seeds_needed(0.001, 1.0)
    assert small.total == pytest.approx(7.85e6, rel=1e-3)
    # The normal approximation takes over without a step.
    assert seeds_needed(0.0280, 1.0).by_power == pytest.approx(7.849 / 0.0280**2, abs=4)
    assert seeds_needed(1.0, 1.0).more(have=100) == 0
    with pytest.raises(UserError, match="cannot be planned"):
        seeds_needed(1.0, -1.0)
    with pytest.raises(UserError, match="power must lie"):
        seeds_needed(1.0, 1.0, power=80)


# Ranks over tasks


@pytest.mark.parametrize("shape", [(5, 3), (12, 6), (30, 10)])
@pytest.mark.parametrize("draw", [lambda g, shape: g.normal(size=shape), lambda g, shape: coarse(g, *shape)])
def test_ranks_and_friedman_equal_scipys(shape, draw):
    matrix = draw(rng(*shape), shape)
    n, k = shape
    ranks = scipy_stats.rankdata(-np.round(matrix, 9), axis=1)
    table = by_name(matrix)
    got = average_ranks(table)
    assert got.average == pytest.approx({f"m{j}": mean for j, mean in enumerate(ranks.mean(axis=0))})
    assert list(got.average.values()) == sorted(got.average.values())
    assert sum(got.average.values()) == pytest.approx(k * (k + 1) / 2)
    want = scipy_stats.friedmanchisquare(*np.round(matrix, 9).T)
    test = friedman(table)
    assert (test.chi_square, test.chi_square_p) == pytest.approx((want.statistic, want.pvalue))
    # Iman and Davenport's F is the analysis of variance of the ranks by method and task.
    method_ms = n * ((ranks.mean(axis=0) - (k + 1) / 2) ** 2).sum() / (k - 1)
    residual_ms = ((ranks - ranks.mean(axis=0)) ** 2).sum() / ((k - 1) * (n - 1))
    assert test.f == pytest.approx(method_ms / residual_ms)
    assert test.f_p == pytest.approx(scipy_stats.f.sf(test.f, k - 1, (k - 1) * (n - 1)))


def test_ranks_depend_on_order_within_a_task_alone():
    matrix = rng(13).normal(size=(6, 4))
    table = by_name(matrix)
    stretched = np.exp(matrix) * 10.0 ** np.arange(6)[:, None]
    assert average_ranks(by_name(stretched)) == average_ranks(table)
    assert friedman(by_name(stretched)) == friedman(table)
    matrix[[1, 4]] *= -1
    assert average_ranks(by_name(matrix), lower_is_better={"s1", "s4"}) == average_ranks(table)
    assert friedman(by_name(matrix), lower_is_better={"s1", "s4"}) == friedman(table)


def test_tasks_with_missing_scores_are_left_out_by_name():
    table = {"a": {"t1": 1.0, "t2": 2.0}, "b": {"t2": 1.0, "t3": 5.0}}
    ranks = average_ranks(table)
    assert (ranks.tasks, ranks.left_out) == (("t2",), ("t1", "t3"))
    assert ranks.average == {"a": 1.0, "b": 2.0}
    apart = {"a": {"t1": 1.0}, "b": {"t2": 1.0}}
    assert average_ranks(apart).average == {}
    diagram = critical_difference_diagram(apart)
    assert (diagram.cliques, diagram.difference, diagram.friedman.permutation_p) == ((), math.inf, 1.0)


def test_friedmans_permutation_p_equals_counting_all_orders():
    matrix = coarse(rng(19), 4, 3)
    ranks = scipy_stats.rankdata(-np.round(matrix, 9), axis=1)

    def spread(rows):
        return np.var(np.sum(rows, axis=0))

    orders = itertools.product(*(itertools.permutations(row) for row in ranks))
    hits = [spread(rows) > spread(ranks) - 1e-9 for rows in orders]
    p = sum(hits) / len(hits)
    assert 0.01 < p < 0.99
    assert friedman(by_name(matrix), generator=rng(1)).permutation_p == pytest.approx(
        p, abs=5 * math.sqrt(p * (1 - p) / 9_999) + 1e-4
    )


def test_friedman_where_all_tasks_agree_or_all_methods_tie():
    agreed = friedman(by_name(np.tile([3.0, 2.0, 1.0], (3, 1))))
    assert (agreed.f, agreed.f_p) == (math.inf, 0.0)
    p = 1 / 6**2
    assert agreed.permutation_p == pytest.approx(p, abs=5 * math.sqrt(p / 9_999) + 1e-4)
    tied = friedman(by_name(np.ones((4, 3))))
    assert (tied.chi_square, tied.chi_square_p, tied.f_p, tied.permutation_p) == (0.0, 1.0, 1.0, 1.0)
    one_method, one_task = friedman(by_name(np.ones((4, 1)))), friedman(by_name(np.eye(3)[:1]))
    assert one_method.permutation_p == one_task.permutation_p == 1.0


def test_two_methods_seven_to_one_are_no_claim():
    """Nemenyi's normal approximation says p < 0.05; the sign test's exact 18 / 256 does not."""
    matrix = np.tile([1.0, 0.0], (8, 1))
    matrix[3] = [0.0, 1.0]
    diagram = critical_difference_diagram(by_name(matrix))
    worst, best = diagram.ranks.average["m1"], diagram.ranks.average["m0"]
    assert worst - best >= diagram.difference
    assert diagram.cliques == (("m0", "m1"),)


@pytest.mark.parametrize(("tasks", "count"), [(8, 2), (4, 3)])
def test_diagrams_without_a_difference_claim_one_at_most_as_often_as_alpha(tasks, count):
    tables, alpha = 150, 0.05
    wrong = 0
    for matrix in rng(20).normal(size=(tables, tasks, count)):
        diagram = critical_difference_diagram(by_name(matrix))
        wrong += [len(group) for group in diagram.cliques] != [count]
    assert wrong / tables <= alpha + 5 * math.sqrt(alpha * (1 - alpha) / tables)


def test_critical_values_equal_those_of_demsar():
    """Demšar 2006, table 5 (a): the two-tailed Nemenyi test for 2 to 10 methods."""
    published = {
        0.05: [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164],
        0.10: [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920],
    }
    for alpha, values in published.items():
        for k, q in enumerate(values, start=2):
            n = 14
            assert critical_difference(k, n, alpha) / math.sqrt(k * (k + 1) / (6 * n)) == pytest.approx(
                q, abs=1e-3
            )
    for k, n in ((1, 5), (3, 0)):
        with pytest.raises(UserError, match="no critical difference"):
            critical_difference(k, n)


def cliques_by_hand(average, difference):
    close = [
        set(names)
        for size in range(2, len(average) + 1)
        for names in itertools.combinations(average, size)
        if max(average[a] for a in names) - min(average[a] for a in names) < difference
    ]
    return {frozenset(names) for names in close if not any(names < other for other in close)}


def test_cliques_equal_all_largest_sets_of_close_methods():
    for trial in range(40):
        generator = rng(14, trial)
        average = {f"m{i}": r for i, r in enumerate(np.round(generator.uniform(1, 7, 7), 1).tolist())}
        difference = float(generator.uniform(0.2, 4))
        found = cliques(average, difference)
        assert len(set(found)) == len(found)
        assert {frozenset(group) for group in found} == cliques_by_hand(average, difference)


def test_diagram_joins_all_methods_unless_friedman_rejects():
    quiet = critical_difference_diagram(by_name(rng(15).normal(size=(6, 4))))
    assert quiet.friedman.permutation_p > 0.05
    assert [sorted(group) for group in quiet.cliques] == [["m0", "m1", "m2", "m3"]]
    clear = critical_difference_diagram(by_name(rng(15).normal(size=(12, 4)) + np.array([0, 0, 9, 9.5])))
    assert clear.friedman.permutation_p < 0.05
    assert sorted(map(sorted, clear.cliques)) == [["m0", "m1"], ["m2", "m3"]]
    assert clear.difference == critical_difference(4, 12)
    with pytest.raises(UserError, match="alpha must lie"):
        critical_difference_diagram(by_name(np.eye(3)), alpha=0)
    with pytest.raises(UserError, match="no methods"):
        critical_difference_diagram({})


# Against scikit-posthocs


def test_nemenyi_equals_scikit_posthocs():
    posthocs = pytest.importorskip("scikit_posthocs", reason="scikit-posthocs is in core's test group")
    for trial in range(5):
        n, k = 10, 5
        matrix = rng(16, trial).normal(size=(n, k)) + np.linspace(0, 2, k)
        p = posthocs.posthoc_nemenyi_friedman(matrix).to_numpy()
        average = average_ranks(by_name(matrix)).average
        for alpha in (0.01, 0.05, 0.2):
            difference = critical_difference(k, n, alpha)
            for i, j in itertools.combinations(range(k), 2):
                assert (abs(average[f"m{i}"] - average[f"m{j}"]) >= difference) == (p[i, j] <= alpha)


def test_a_table_equals_scikit_posthocs():
    posthocs = pytest.importorskip("scikit_posthocs", reason="scikit-posthocs is in core's test group")
    for trial in range(5):
        matrix = rng(17, trial).normal(size=(11, 4)) + np.array([0, 0.5, 1, 2])
        want = posthocs.posthoc_wilcoxon(list(matrix.T), p_adjust="holm").to_numpy()
        for pair in compare_methods(by_name(matrix), method="wilcoxon").pairs:
            assert pair.adjusted_p == pytest.approx(want[int(pair.first[1:]), int(pair.second[1:])])


def test_the_module_needs_no_torch():
    code = (
        "import sys, regathlon_core.statistics as s; "
        "[getattr(s, name) for name in s.__all__]; "
        "s.compare_methods({'a': {0: 1.0, 1: 2.0}, 'b': {0: 1.5, 1: 2.0}}, baseline='a', method='t'); "
        "print([name for name in ('torch', 'scipy.stats') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
