// Loops over points that tensor operations can only write out in full. Plain C functions on plain arrays, so that
// g++ or clang build them within seconds and no header of torch is needed.
//
// Distances are sums of squared differences in double precision, channel by channel, without fused operations: the
// same bits as those of tensors.py. Vectors of eight numbers become whatever the processor has.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

namespace {

constexpr int64_t LANES = 8;
constexpr int64_t BLOCK = 64;  // numbers that one 64-bit mask tells about
constexpr double INF = std::numeric_limits<double>::infinity();

template <class Number>
struct Eight {
    typedef Number type __attribute__((vector_size(LANES * sizeof(Number))));
};
typedef Eight<double>::type Doubles;
typedef Eight<int64_t>::type Integers;

template <class Number>
inline typename Eight<Number>::type load(const Number* from) {
    typename Eight<Number>::type out;
    std::memcpy(&out, from, sizeof(out));
    return out;
}

template <class Number>
inline void store(Number* to, typename Eight<Number>::type values) {
    std::memcpy(to, &values, sizeof(values));
}

inline int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Runs work(first, last) over [0, total) in equal parts, one per thread.
template <class Work>
void in_parallel(int64_t total, int64_t threads, Work work) {
    threads = std::max<int64_t>(1, std::min(threads, total));
    std::vector<std::thread> others;
    for (int64_t t = 1; t < threads; ++t)
        others.emplace_back(work, total * t / threads, total * (t + 1) / threads);
    work(0, total / threads);
    for (auto& other : others) other.join();
}

// Clouds [batch, channels, n], every row filled up to whole blocks with points that are far from everything.
struct Clouds {
    Clouds(const double* from, int64_t batch, int64_t channels, int64_t n)
        : channels(channels), n(n), width(rounded_up(n, BLOCK)), numbers(batch * channels * width, INF) {
        for (int64_t row = 0; row < batch * channels; ++row)
            std::copy(from + row * n, from + (row + 1) * n, numbers.begin() + row * width);
    }
    const double* operator[](int64_t b) const { return numbers.data() + b * channels * width; }

    int64_t channels, n, width;
    std::vector<double> numbers;
};

// Squared distances of eight points of a cloud to one place. FIXED is the number of channels, or 0 for any.
template <int FIXED>
inline Doubles distances(const double* x, int64_t width, int64_t channels, int64_t first, const double* place) {
    Doubles d = load(x + first) - place[0];
    Doubles sum = d * d;
    for (int64_t c = 1; c < (FIXED ? FIXED : channels); ++c) {
        d = load(x + c * width + first) - place[c];
        sum += d * d;
    }
    return sum;
}

// Which of 64 numbers are at most a limit, as bits.
template <class Number, class Get>
inline uint64_t at_most(Number limit, Get get) {
    Integers bit = {1, 2, 4, 8, 16, 32, 64, 128};
    Integers found = {};
    for (int64_t i = 0; i < BLOCK; i += LANES) {
        found |= __builtin_convertvector(get(i) <= limit, Integers) & bit;
        bit <<= LANES;
    }
    uint64_t all = 0;
    for (int lane = 0; lane < LANES; ++lane) all |= static_cast<uint64_t>(found[lane]);
    return all;
}

// Writes the indices of the k smallest of n values in order of (value, index); NaN counts as the largest. Values are
// readable up to a whole block.
//
// They are dealt out to piles. At least k of them are as small as the k-th smallest of the piles' minima, and only few
// others are, so little is left to sort.
template <class Number>
class Smallest {
  public:
    Smallest(int64_t n, int64_t k)
        : n_(n), k_(k), blocks_(rounded_up(n, BLOCK) / BLOCK), minima_(piles()), values_(n), index_(n) {}

    void write(const Number* values, int64_t* out) {
        const Number infinite = std::numeric_limits<Number>::infinity();
        int64_t size = 0;
        const Number limit = k_ < piles() ? limit_of(values) : infinite;
        for (int64_t block = 0; block < blocks_; ++block) {
            const Number* here = values + block * BLOCK;
            uint64_t inside = at_most<Number>(limit, [here](int64_t i) { return load(here + i); });
            for (; inside; inside &= inside - 1) {
                const int64_t i = block * BLOCK + __builtin_ctzll(inside);
                if (i < n_) size = insert(values[i], i, size);
            }
        }
        for (int64_t i = 0; i < n_ && size < k_; ++i)  // not numbers
            if (!(values[i] <= infinite)) index_[size++] = i;
        std::copy(index_.begin(), index_.begin() + k_, out);
    }

  private:
    int64_t piles() const { return BLOCK * std::max<int64_t>(1, blocks_ / 16); }

    Number limit_of(const Number* values) {
        std::fill(minima_.begin(), minima_.end(), std::numeric_limits<Number>::infinity());
        const int64_t width = static_cast<int64_t>(minima_.size());
        for (int64_t first = 0; first + BLOCK <= blocks_ * BLOCK; first += BLOCK)
            for (int64_t i = 0; i < BLOCK; i += LANES) {
                if (first + i + LANES > n_) break;
                Number* pile = minima_.data() + (first % width) + i;
                const auto value = load(values + first + i), least = load(pile);
                store(pile, value < least ? value : least);
            }
        std::nth_element(minima_.begin(), minima_.begin() + (k_ - 1), minima_.end());
        return minima_[k_ - 1];
    }

    // Equal values arrive in the order of their indices and stay in it.
    int64_t insert(Number value, int64_t index, int64_t size) {
        if (size >= k_ && !(value < values_[k_ - 1])) return size;
        int64_t at = size < k_ ? size++ : k_ - 1;
        for (; at > 0 && value < values_[at - 1]; --at) {
            values_[at] = values_[at - 1];
            index_[at] = index_[at - 1];
        }
        values_[at] = value;
        index_[at] = index;
        return size;
    }

    int64_t n_, k_, blocks_;
    std::vector<Number> minima_, values_;
    std::vector<int64_t> index_;
};

template <int FIXED>
void farthest(const Clouds& clouds, int64_t b, int64_t start, int64_t count, int64_t* out) {
    const double* x = clouds[b];
    std::vector<double> nearest(clouds.width, -2.0), place(clouds.channels);
    std::fill(nearest.begin(), nearest.begin() + clouds.n, INF);
    int64_t latest = start;
    out[0] = latest;
    for (int64_t chosen = 1; chosen < count; ++chosen) {
        for (int64_t c = 0; c < clouds.channels; ++c) place[c] = x[c * clouds.width + latest];
        nearest[latest] = -1.0;  // below any distance, and stays: never chosen again
        // Two searches side by side: in one, every comparison would wait for the one before it.
        Doubles best[2] = {Doubles{} - 3.0, Doubles{} - 3.0};
        Integers where[2] = {}, index = {0, 1, 2, 3, 4, 5, 6, 7};
        for (int64_t i = 0; i < clouds.width; i += 2 * LANES)
            for (int64_t side = 0; side < 2; ++side) {
                double* gap = nearest.data() + i + side * LANES;
                const Doubles fresh =
                    distances<FIXED>(x, clouds.width, clouds.channels, i + side * LANES, place.data());
                Doubles near = load(gap);
                near = fresh < near ? fresh : near;
                store(gap, near);
                const Integers farther = near > best[side];
                best[side] = farther ? near : best[side];
                where[side] = farther ? index : where[side];
                index += LANES;
            }
        latest = where[0][0];
        double largest = best[0][0];
        for (int64_t side = 0; side < 2; ++side)
            for (int lane = 0; lane < LANES; ++lane)
                if (best[side][lane] > largest || (best[side][lane] == largest && where[side][lane] < latest)) {
                    largest = best[side][lane];
                    latest = where[side][lane];
                }
        out[chosen] = latest;
    }
}

template <int FIXED>
void ball(const Clouds& clouds, int64_t b, const double* center, double squared_radius, int64_t k, int64_t* out) {
    const double* x = clouds[b];
    const auto distance = [&](int64_t i) { return distances<FIXED>(x, clouds.width, clouds.channels, i, center); };
    int64_t size = 0;
    for (int64_t first = 0; first < clouds.n && size < k; first += BLOCK) {
        uint64_t inside = at_most<double>(squared_radius, [&](int64_t i) { return distance(first + i); });
        for (; inside && size < k; inside &= inside - 1) out[size++] = first + __builtin_ctzll(inside);
    }
    if (size == 0) {
        double smallest = INF;
        out[size++] = 0;
        for (int64_t first = 0; first < clouds.width; first += LANES) {
            const Doubles fresh = distance(first);
            for (int lane = 0; lane < LANES; ++lane)
                if (fresh[lane] < smallest) smallest = fresh[lane], out[0] = first + lane;
        }
    }
    std::fill(out + size, out + k, out[0]);
}

template <int FIXED>
void all_distances(const Clouds& clouds, int64_t b, const double* center, double* out) {
    for (int64_t i = 0; i < clouds.width; i += LANES)
        store(out + i, distances<FIXED>(clouds[b], clouds.width, clouds.channels, i, center));
}

template <class Number>
void smallest(const Number* values, int64_t rows, int64_t n, int64_t k, int64_t threads, int64_t* out) {
    const int64_t width = rounded_up(n, BLOCK);
    in_parallel(rows, threads, [=](int64_t from, int64_t to) {
        Smallest<Number> smallest(n, k);
        std::vector<Number> padded(width, std::numeric_limits<Number>::infinity());
        for (int64_t row = from; row < to; ++row) {
            const Number* here = values + row * n;
            if (width != n) {
                std::copy(here, here + n, padded.begin());
                here = padded.data();
            }
            smallest.write(here, out + row * k);
        }
    });
}

}  // namespace

extern "C" {

// cloud [batch, channels, n]; start [batch]; out [batch, count].
void regathlon_farthest(const double* cloud, const int64_t* start, int64_t batch, int64_t channels, int64_t n,
                        int64_t count, int64_t threads, int64_t* out) {
    const Clouds clouds(cloud, batch, channels, n);
    in_parallel(batch, threads, [&, out](int64_t from, int64_t to) {
        for (int64_t b = from; b < to; ++b)
            (channels == 3 ? farthest<3> : farthest<0>)(clouds, b, start[b], count, out + b * count);
    });
}

// cloud [batch, channels, n]; centers [batch, m, channels]; out [batch, m, k].
void regathlon_ball(const double* cloud, const double* centers, int64_t batch, int64_t channels, int64_t n,
                    int64_t m, int64_t k, double squared_radius, int64_t threads, int64_t* out) {
    const Clouds clouds(cloud, batch, channels, n);
    in_parallel(batch * m, threads, [&, out](int64_t from, int64_t to) {
        for (int64_t row = from; row < to; ++row)
            (channels == 3 ? ball<3> : ball<0>)(clouds, row / m, centers + row * channels, squared_radius, k,
                                                out + row * k);
    });
}

// cloud [batch, channels, n]; centers [batch, m, channels]; out [batch, m, k].
void regathlon_knn(const double* cloud, const double* centers, int64_t batch, int64_t channels, int64_t n,
                   int64_t m, int64_t k, int64_t threads, int64_t* out) {
    const Clouds clouds(cloud, batch, channels, n);
    in_parallel(batch * m, threads, [&, out](int64_t from, int64_t to) {
        Smallest<double> smallest(n, k);
        std::vector<double> fresh(clouds.width);
        for (int64_t row = from; row < to; ++row) {
            (channels == 3 ? all_distances<3> : all_distances<0>)(clouds, row / m, centers + row * channels,
                                                                   fresh.data());
            smallest.write(fresh.data(), out + row * k);
        }
    });
}

// values [rows, n]; out [rows, k].
void regathlon_smallest_float(const float* values, int64_t rows, int64_t n, int64_t k, int64_t threads,
                              int64_t* out) {
    smallest(values, rows, n, k, threads, out);
}

void regathlon_smallest_double(const double* values, int64_t rows, int64_t n, int64_t k, int64_t threads,
                               int64_t* out) {
    smallest(values, rows, n, k, threads, out);
}

}  // extern "C"
