"""The operations against slow loops that follow their definitions, and their invariants."""

import pytest
import torch

from regathlon_core.errors import UserError
from regathlon_points.ops import ball_query, farthest_point_sampling, gather, knn


def random_points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grid_points(*shape, seed=0):
    """Few places for many points: full of twins and of equal distances, all of them exact in float32."""
    return torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(seed)).float()


def squared_distance(a, b):
    return float(((a - b) ** 2).sum())


def slow_knn(points, k, queries):
    return [
        [
            sorted(range(cloud.shape[1]), key=lambda n: (squared_distance(query, cloud[:, n]), n))[:k]
            for query in asked.T
        ]
        for cloud, asked in zip(points, queries, strict=True)
    ]


def slow_ball(cloud, query, radius, k):
    distances = [squared_distance(query, point) for point in cloud.T]
    inside = [n for n, distance in enumerate(distances) if distance <= radius**2]
    found = inside or [distances.index(min(distances))]
    return [found[j] if j < min(len(found), k) else found[0] for j in range(k)]


def slow_farthest(cloud, count, start):
    chosen = [start]
    while len(chosen) < count:
        left = [n for n in range(cloud.shape[1]) if n not in chosen]
        gaps = {n: min(squared_distance(cloud[:, n], cloud[:, c]) for c in chosen) for n in left}
        chosen.append(max(left, key=lambda n: (gaps[n], -n)))
    return chosen


@pytest.mark.parametrize("make", [random_points, grid_points])
@pytest.mark.parametrize(
    ("batch", "channels", "total", "asked", "k"), [(2, 3, 40, 7, 5), (1, 3, 5, 5, 5), (2, 1, 130, 3, 2)]
)
def test_knn_is_the_slow_loop(make, batch, channels, total, asked, k):
    points, queries = make(batch, channels, total), make(batch, channels, asked, seed=1)
    assert knn(points, k, queries).tolist() == slow_knn(points, k, queries)


@pytest.mark.parametrize("total", [8, 63, 64, 65, 200])
def test_knn_in_groups_takes_the_lower_index_of_equal_distances(total):
    points = grid_points(2, 3, total)
    distances = (points[:, :, :, None] - points[:, :, None, :]).square().sum(1)
    for k in (1, 3, 7):
        assert torch.equal(knn(points, k), distances.sort(dim=2, stable=True).indices[:, :, :k])


def test_knn_of_many_channels_finds_the_nearest():
    points = random_points(2, 64, 100)
    distances = torch.cdist(points.mT.double(), points.mT.double())
    index = knn(points, 9)
    assert torch.equal(index[:, :, 0], torch.arange(100).expand(2, 100))
    torch.testing.assert_close(distances.gather(2, index), distances.topk(9, largest=False).values)


def test_knn_measures_points_far_from_the_origin():
    points = 0.01 * random_points(1, 3, 50) + 100.0
    assert knn(points, 4).tolist() == slow_knn(points, 4, points)


def test_knn_follows_the_points_when_they_are_permuted():
    points = random_points(2, 3, 90)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    permuted = knn(points[:, :, order], 5, queries=points)
    assert torch.equal(order[permuted], knn(points, 5))


@pytest.mark.parametrize("k", [0, 6])
def test_knn_refuses_more_neighbours_than_points(k):
    with pytest.raises(UserError, match=f"{k} neighbours in a cloud of 5"):
        knn(random_points(1, 3, 5), k)


@pytest.mark.parametrize("make", [random_points, grid_points])
@pytest.mark.parametrize(("total", "k", "radius"), [(40, 4, 1.0), (40, 64, 1.0), (6, 10, 0.1), (40, 1, 2.0)])
def test_ball_query_is_the_slow_loop(make, total, k, radius):
    points, queries = make(2, 3, total), make(2, 3, 9, seed=1) + 0.5
    expected = [
        [slow_ball(cloud, query, radius, k) for query in asked.T]
        for cloud, asked in zip(points, queries, strict=True)
    ]
    assert ball_query(points, queries, radius, k).tolist() == expected


def test_ball_query_counts_the_border_and_answers_an_empty_ball_with_the_nearest():
    line = torch.tensor([[[0.0, 2.0, 4.0]]])
    assert ball_query(line, torch.tensor([[[1.0, 9.0]]]), radius=1.0, k=3).tolist() == [
        [[0, 1, 0], [2, 2, 2]]
    ]


@pytest.mark.parametrize(("radius", "k"), [(0.0, 3), (-1.0, 3), (float("nan"), 3), (1.0, 0)])
def test_ball_query_refuses_what_makes_no_sense(radius, k):
    with pytest.raises(UserError, match="must be positive"):
        ball_query(random_points(1, 3, 5), random_points(1, 3, 2), radius, k)


@pytest.mark.parametrize("make", [random_points, grid_points])
@pytest.mark.parametrize(("batch", "total", "count"), [(2, 30, 12), (1, 9, 9), (3, 20, 1)])
def test_farthest_points_are_the_slow_loop(make, batch, total, count):
    points = make(batch, 3, total)
    start = torch.arange(batch)
    expected = [slow_farthest(cloud, count, int(first)) for cloud, first in zip(points, start, strict=True)]
    assert farthest_point_sampling(points, count, start=start).tolist() == expected


def test_farthest_points_start_far_from_the_centroid_whatever_the_order():
    points = random_points(4, 3, 50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    chosen = farthest_point_sampling(points, 10)
    assert torch.equal(order[farthest_point_sampling(points[:, :, order], 10)], chosen)
    from_centroid = (points - points.mean(2, keepdim=True)).norm(dim=1)
    assert torch.equal(chosen[:, 0], from_centroid.argmax(1))


def test_farthest_points_never_repeat_even_where_all_points_are_one():
    chosen = farthest_point_sampling(torch.ones(2, 3, 12), 12, start=5)
    assert chosen[:, 0].tolist() == [5, 5]
    assert chosen.sort(dim=1).values.tolist() == [list(range(12))] * 2


def test_farthest_points_take_every_place_before_a_twin():
    places = random_points(1, 3, 6)
    twins = torch.cat([places, places, places], dim=2)
    assert sorted((farthest_point_sampling(twins, 6) % 6)[0].tolist()) == list(range(6))


@pytest.mark.parametrize(
    ("count", "start", "words"), [(0, None, "from 1 to 5"), (6, None, "from 1 to 5"), (2, 5, "start=5")]
)
def test_farthest_points_refuse_what_is_not_there(count, start, words):
    with pytest.raises(UserError, match=words):
        farthest_point_sampling(random_points(1, 3, 5), count, start=start)


@pytest.mark.parametrize("shape", [(4,), (4, 6), (2, 3, 2)])
def test_gather_is_indexing_and_its_gradient_adds_up(shape):
    features = random_points(2, 5, 9).double().requires_grad_()
    index = torch.randint(0, 9, (2, *shape), generator=torch.Generator().manual_seed(2))
    taken = gather(features, index)
    assert taken.shape == (2, 5, *shape)
    for b in range(2):
        assert torch.equal(taken[b], features[b][:, index[b]])
    taken.sum().backward()
    times = torch.stack([row.flatten().bincount(minlength=9) for row in index])
    assert torch.equal(features.grad, times[:, None].expand(2, 5, 9).double())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_give_the_indices_of_float32(dtype):
    points = grid_points(1, 3, 30)
    assert torch.equal(knn(points.to(dtype), 4), knn(points, 4))
    assert torch.equal(farthest_point_sampling(points.to(dtype), 6), farthest_point_sampling(points, 6))
    assert torch.equal(
        ball_query(points.to(dtype), points.to(dtype), 1.0, 4), ball_query(points, points, 1.0, 4)
    )
