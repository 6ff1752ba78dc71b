"""The operations against slow loops that follow their definitions, against SciPy, and their invariants."""

import math
import types

import numpy as np
import pytest
import torch

from regathlon_core.errors import UserError
from regathlon_points.ops import (
    ball_query,
    compiled,
    farthest_point_sample,
    knn,
    pyg,
    take,
    tensors,
    three_interpolate,
)

WAYS = ["compiled", "tensors"]


@pytest.fixture(params=WAYS, autouse=True)
def way(request, monkeypatch):
    """Every test runs on both ways."""
    if request.param == "tensors":
        monkeypatch.setattr(compiled, "library", lambda: None)
    elif compiled.library() is None:
        pytest.skip("no C++ compiler here")
    return request.param


def random_points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grid_points(*shape, seed=0):
    """Few places for many points: full of twins and of equal distances."""
    return torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(seed)).float()


def squared_distance(a, b):
    return float(((a.double() - b.double()) ** 2).sum())


def slow_knn(points, k, queries):
    return [
        [
            sorted(range(len(cloud)), key=lambda n: (squared_distance(query, cloud[n]), n))[:k]
            for query in asked
        ]
        for cloud, asked in zip(points, queries, strict=True)
    ]


def slow_ball(cloud, query, radius, k):
    distances = [squared_distance(query, point) for point in cloud]
    inside = [n for n, distance in enumerate(distances) if distance <= radius**2]
    found = inside or [distances.index(min(distances))]
    return [found[j] if j < min(len(found), k) else found[0] for j in range(k)]


def slow_farthest(cloud, count, start):
    chosen = [start]
    while len(chosen) < count:
        left = [n for n in range(len(cloud)) if n not in chosen]
        gaps = {n: min(squared_distance(cloud[n], cloud[c]) for c in chosen) for n in left}
        chosen.append(max(left, key=lambda n: (gaps[n], -n)))
    return chosen


@pytest.mark.parametrize("make", [random_points, grid_points])
@pytest.mark.parametrize(
    ("batch", "channels", "total", "asked", "k"),
    [(2, 3, 40, 7, 5), (1, 3, 5, 5, 5), (2, 1, 130, 3, 2), (1, 6, 71, 4, 8)],
)
def test_knn_is_the_slow_loop(make, batch, channels, total, asked, k):
    points, queries = make(batch, total, channels), make(batch, asked, channels, seed=1)
    assert knn(points, k, queries).tolist() == slow_knn(points, k, queries)


@pytest.mark.parametrize("total", [8, 63, 64, 65, 200])
@pytest.mark.parametrize("channels", [3, 12])
def test_knn_in_groups_takes_the_lower_index_of_equal_distances(total, channels):
    points = grid_points(2, total, channels)
    queries = grid_points(2, 9, channels, seed=5)
    distances = (queries[:, :, None] - points[:, None]).square().sum(3)
    for k in (1, 3, 7):
        assert torch.equal(knn(points, k, queries), distances.sort(dim=2, stable=True).indices[:, :, :k])


def test_knn_is_scipys_on_full_clouds():
    spatial = pytest.importorskip("scipy.spatial")
    points = random_points(32, 1024, 3)
    found = knn(points, 20)
    for cloud, rows in zip(points.double().numpy(), found.numpy(), strict=True):
        assert np.array_equal(rows, spatial.cKDTree(cloud).query(cloud, 20)[1])


def test_ball_query_finds_what_scipy_finds():
    spatial = pytest.importorskip("scipy.spatial")
    points = random_points(4, 1024, 3)
    centers = points[:, :300]
    found = ball_query(points, centers, 0.4, 24)
    for cloud, rows in zip(points.double().numpy(), found.tolist(), strict=True):
        balls = spatial.cKDTree(cloud).query_ball_point(cloud[:300], 0.4, return_sorted=True)
        for row, ball in zip(rows, balls, strict=True):
            assert row == (ball + [ball[0]] * 24)[:24]


def test_knn_of_many_channels_finds_the_nearest_and_itself_first():
    points = random_points(2, 100, 64)
    distances = torch.cdist(points.double(), points.double())
    index = knn(points, 9)
    assert torch.equal(index[:, :, 0], torch.arange(100).expand(2, 100))
    torch.testing.assert_close(distances.gather(2, index), distances.topk(9, largest=False).values)
    shifted = points + 1000.0  # where a matrix product cancels
    assert torch.equal(knn(shifted, 9)[:, :, 0], torch.arange(100).expand(2, 100))


def test_knn_measures_points_far_from_the_origin():
    points = 0.01 * random_points(1, 50, 3) + 100.0
    assert knn(points, 4).tolist() == slow_knn(points, 4, points)


def test_knn_follows_the_points_when_they_are_permuted():
    points = random_points(2, 90, 3)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    permuted = knn(points[:, order], 5, centers=points)
    assert torch.equal(order[permuted], knn(points, 5))


@pytest.mark.parametrize("k", [0, 6])
def test_knn_refuses_more_neighbours_than_points(k):
    with pytest.raises(UserError, match=f"{k} neighbours in a cloud of 5"):
        knn(random_points(1, 5, 3), k)


@pytest.mark.parametrize("make", [random_points, grid_points])
@pytest.mark.parametrize(("total", "k", "radius"), [(40, 4, 1.0), (40, 64, 1.0), (6, 10, 0.1), (140, 1, 2.0)])
def test_ball_query_is_the_slow_loop(make, total, k, radius):
    points, queries = make(2, total, 3), make(2, 9, 3, seed=1) + 0.5
    expected = [
        [slow_ball(cloud, query, radius, k) for query in asked]
        for cloud, asked in zip(points, queries, strict=True)
    ]
    assert ball_query(points, queries, radius, k).tolist() == expected


def test_ball_query_counts_the_border_and_answers_an_empty_ball_with_the_nearest():
    line = torch.tensor([[[0.0], [2.0], [4.0]]])
    assert ball_query(line, torch.tensor([[[1.0], [9.0]]]), radius=1.0, k=3).tolist() == [
        [[0, 1, 0], [2, 2, 2]]
    ]


@pytest.mark.parametrize(
    ("radius", "k"), [(0.0, 3), (-1.0, 3), (float("nan"), 3), (float("inf"), 3), (1.0, 0)]
)
def test_ball_query_refuses_what_makes_no_sense(radius, k):
    with pytest.raises(UserError, match="must be positive"):
        ball_query(random_points(1, 5, 3), random_points(1, 2, 3), radius, k)


@pytest.mark.parametrize("make", [random_points, grid_points])
@pytest.mark.parametrize(("batch", "total", "count"), [(2, 30, 12), (1, 9, 9), (3, 20, 1), (2, 150, 20)])
def test_farthest_points_are_the_slow_loop(make, batch, total, count):
    points = make(batch, total, 3)
    start = torch.arange(batch)
    expected = [slow_farthest(cloud, count, int(first)) for cloud, first in zip(points, start, strict=True)]
    assert farthest_point_sample(points, count, start=start).tolist() == expected


def test_farthest_points_start_far_from_the_centroid_whatever_the_order():
    points = random_points(4, 50, 3)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    chosen = farthest_point_sample(points, 10)
    assert torch.equal(order[farthest_point_sample(points[:, order], 10)], chosen)
    from_centroid = (points - points.mean(1, keepdim=True)).norm(dim=2)
    assert torch.equal(chosen[:, 0], from_centroid.argmax(1))


def test_farthest_points_never_repeat_even_where_all_points_are_one():
    chosen = farthest_point_sample(torch.ones(2, 12, 3), 12, start=5)
    assert chosen[:, 0].tolist() == [5, 5]
    assert chosen.sort(dim=1).values.tolist() == [list(range(12))] * 2


def test_farthest_points_take_every_place_before_a_twin():
    places = random_points(1, 6, 3)
    twins = torch.cat([places, places, places], dim=1)
    assert sorted((farthest_point_sample(twins, 6) % 6)[0].tolist()) == list(range(6))


@pytest.mark.parametrize(
    ("count", "start", "words"),
    [(0, None, "from 1 to 5"), (6, None, "from 1 to 5"), (2, 5, "start=5"), (2, torch.ones(2), "int64")],
)
def test_farthest_points_refuse_what_is_not_there(count, start, words):
    with pytest.raises(UserError, match=words):
        farthest_point_sample(random_points(1, 5, 3), count, start=start)


def test_both_ways_choose_the_same_on_full_clouds(way, monkeypatch):
    points, features = random_points(8, 1024, 3), random_points(4, 512, 64)

    def choose():
        return [
            farthest_point_sample(points, 256, start=0),
            ball_query(points, points[:, :256], 0.3, 32),
            knn(points, 20),
            knn(features, 20),
        ]

    here = choose()
    monkeypatch.setattr(compiled, "library", lambda: None)
    assert all(torch.equal(a, b) for a, b in zip(here, choose(), strict=True))


def test_one_point_and_equal_points():
    one, equal = torch.zeros(2, 1, 3), torch.ones(1, 7, 3)
    assert knn(one, 1).tolist() == [[[0]], [[0]]]
    assert ball_query(one, one, 0.1, 4).tolist() == [[[0] * 4]] * 2
    assert farthest_point_sample(one, 1).tolist() == [[0], [0]]
    assert knn(equal, 3).tolist() == [[[0, 1, 2]] * 7]
    assert ball_query(equal, equal[:, :1], 0.1, 3).tolist() == [[[0, 1, 2]]]
    assert bool(three_interpolate(equal, equal, equal).isfinite().all())


@pytest.mark.parametrize(
    "bad", [torch.zeros(4, 3), torch.zeros(1, 0, 3), torch.zeros(1, 4, 3, dtype=torch.int64)]
)
def test_what_is_no_cloud_is_refused(bad):
    for run in (
        lambda: knn(bad, 1),
        lambda: farthest_point_sample(bad, 1),
        lambda: ball_query(bad, bad, 1.0, 1),
        lambda: three_interpolate(bad, bad, bad),
    ):
        with pytest.raises(UserError):
            run()


def test_centres_of_another_space_are_refused():
    points = random_points(2, 5, 3)
    for centers in (random_points(2, 5, 2), random_points(1, 5, 3), random_points(5, 3)):
        with pytest.raises(UserError, match="centres are"):
            knn(points, 1, centers)
        with pytest.raises(UserError, match="centres are"):
            ball_query(points, centers, 1.0, 1)


def test_not_a_number_gives_some_index_and_no_crash():
    points = random_points(2, 40, 3)
    points[0, 3] = math.nan
    everything = points.clone().fill_(math.nan)
    for cloud in (points, everything):
        for index in (knn(cloud, 4), farthest_point_sample(cloud, 9), ball_query(cloud, cloud, 0.5, 4)):
            assert int(index.min()) >= 0
            assert int(index.max()) < 40


@pytest.mark.parametrize("shape", [(4,), (4, 6), (2, 3, 2)])
def test_take_is_indexing_and_its_gradient_adds_up(shape):
    features = random_points(2, 9, 5).double().requires_grad_()
    index = torch.randint(0, 9, (2, *shape), generator=torch.Generator().manual_seed(2))
    taken = take(features, index)
    assert taken.shape == (2, *shape, 5)
    for b in range(2):
        assert torch.equal(taken[b], features[b][index[b]])
    taken.sum().backward()
    times = torch.stack([row.flatten().bincount(minlength=9) for row in index])
    assert torch.equal(features.grad, times[..., None].expand(2, 9, 5).double())


def test_interpolation_is_the_slow_loop():
    x, centers, features = (
        random_points(2, 11, 3),
        random_points(2, 6, 3, seed=1),
        random_points(2, 6, 4, seed=2),
    )
    x[:, 0] = centers[:, 2]
    out = three_interpolate(x, centers, features)
    for b in range(2):
        assert torch.equal(out[b, 0], features[b, 2])
        for n in range(1, 11):
            near = slow_knn(centers[b : b + 1], 3, x[b : b + 1, n : n + 1])[0][0]
            weights = [1 / squared_distance(x[b, n], centers[b, i]) for i in near]
            wanted = sum(w * features[b, i] for w, i in zip(weights, near, strict=True)) / sum(weights)
            torch.testing.assert_close(out[b, n], wanted)


def test_interpolation_of_constants_linear_gradients_and_few_centres():
    x, centers = random_points(2, 11, 3).double(), random_points(2, 2, 3, seed=1).double()
    constant = torch.full((2, 2, 4), 3.0, dtype=torch.float64)
    torch.testing.assert_close(three_interpolate(x, centers, constant), constant[:, :1].expand(2, 11, 4))
    features = constant.clone().requires_grad_()
    three_interpolate(x, centers, features).sum().backward()
    torch.testing.assert_close(features.grad.sum((1, 2)), torch.full((2,), 44.0, dtype=torch.float64))
    with pytest.raises(UserError, match="not one per centre"):
        three_interpolate(x, centers, features[:, :1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_give_the_indices_of_float32(dtype):
    points = grid_points(1, 30, 3)
    assert torch.equal(knn(points.to(dtype), 4), knn(points, 4))
    assert torch.equal(farthest_point_sample(points.to(dtype), 6), farthest_point_sample(points, 6))
    assert torch.equal(
        ball_query(points.to(dtype), points.to(dtype), 1.0, 4), ball_query(points, points, 1.0, 4)
    )


def test_several_threads_change_nothing():
    points = random_points(5, 300, 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = knn(points, 6), farthest_point_sample(points, 30), ball_query(points, points, 0.5, 8)
        torch.set_num_threads(3)
        together = knn(points, 6), farthest_point_sample(points, 30), ball_query(points, points, 0.5, 8)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_without_a_compiler_or_when_told_so_there_is_no_library(way, monkeypatch, tmp_path):
    fresh = compiled.library.__wrapped__ if way == "compiled" else None
    if fresh is None:
        pytest.skip("asked once is enough")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setenv("REGATHLON_COMPILE", "0")
        assert fresh() is None
    with monkeypatch.context() as patch:
        patch.setattr(compiled.shutil, "which", lambda name: None)
        assert fresh() is None
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "_FLAGS", ("--no-such-flag",))
        assert fresh() is None
    assert list(tmp_path.rglob("*.so")) == []
    assert fresh() is not None
    (library,) = tmp_path.rglob("points-*.so")
    built = library.stat().st_mtime_ns
    assert fresh() is not None
    assert library.stat().st_mtime_ns == built


@pytest.mark.parametrize("start", [0, 7])
def test_pyg_lib_is_asked_for_its_first_point_and_checked(way, monkeypatch, start):
    def fps(points, ends, ratio, random_start):
        """What pyg-lib promises: the first point, then the farthest; points may repeat."""
        assert not random_start
        sizes = ends[1:] - ends[:-1]
        rows = []
        for first, size in zip(ends[:-1].tolist(), sizes.tolist(), strict=True):
            cloud, chosen = points[first : first + size], [0]
            while len(chosen) < math.ceil(ratio * size):
                gaps = torch.cdist(cloud, cloud[chosen]).amin(1)
                chosen.append(int(gaps.argmax()))
            rows.append(torch.tensor(chosen) + first)
        return torch.cat(rows)

    library = types.SimpleNamespace(ops=types.SimpleNamespace(fps=fps))
    monkeypatch.setattr(pyg.importlib, "import_module", lambda name: library)
    pyg.available.cache_clear()
    assert pyg.available()
    pyg.available.cache_clear()
    points = random_points(3, 20, 3).double().mT.contiguous()
    first = torch.full((3,), start)
    assert torch.equal(pyg.farthest(points, first, 8), tensors.farthest(points, first, 8))
    assert pyg.farthest(torch.ones(2, 3, 5, dtype=torch.float64), first[:2] % 5, 4) is None
