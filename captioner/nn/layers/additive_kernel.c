/* The energies of additive attention and their gradients: see additive_kernel.py, which compiles and calls this file.

   e_np = sum_a w_a - 2 w_a s_npa,   s_npa = 1 / (1 + k_bpa q_na),   b = images[n]

   k: exp(2 keys), (B, P, A); q: exp(2 query), (N, A); w: (A). Every value is computed by one thread and in one order,
   so results do not depend on the number of threads, nor those of a row on the other rows. */

#include <stdint.h>

#define LINE 16 /* columns: a thread's share in the backward pass is a multiple of it, whole cache lines */

#define KERNELS(REAL, NAME)                                                                                           \
    void NAME##_energies(const REAL *keys, const REAL *score, const REAL *query, const int64_t *images, REAL *energies,\
                         int64_t rows, int64_t regions, int64_t dim, int threads) {                                   \
        REAL total = 0;                                                                                               \
        for (int64_t a = 0; a < dim; a++) total += score[a];                                                          \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                             \
        for (int64_t place = 0; place < rows * regions; place++) {                                                    \
            const int64_t row = place / regions, region = place % regions;                                            \
            const REAL *k = keys + (images[row] * regions + region) * dim, *q = query + row * dim;                    \
            REAL sum = 0;                                                                                             \
            for (int64_t a = 0; a < dim; a++) sum += score[a] / (1 + k[a] * q[a]);                                    \
            energies[place] = total - 2 * sum;                                                                        \
        }                                                                                                             \
    }                                                                                                                 \
                                                                                                                      \
    /* Adds to weighted (N, A) the sums over p of g s, to slopes (N, A) and keys_sum (B, P, A) those of g s (1 - s). */\
    void NAME##_gradients(const REAL *keys, const REAL *query, const int64_t *images, const REAL *gradient,           \
                          REAL *weighted, REAL *slopes, REAL *keys_sum, int64_t rows, int64_t regions, int64_t dim,   \
                          int threads) {                                                                              \
        const int64_t share = ((dim + threads - 1) / threads + LINE - 1) / LINE * LINE;                               \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                             \
        for (int64_t first = 0; first < dim; first += share) {                                                        \
            const int64_t count = dim - first < share ? dim - first : share;                                          \
            for (int64_t row = 0; row < rows; row++) {                                                                \
                const REAL *restrict q = query + row * dim + first;                                                   \
                REAL *restrict u = weighted + row * dim + first, *restrict v = slopes + row * dim + first;            \
                for (int64_t region = 0; region < regions; region++) {                                                \
                    const int64_t at = (images[row] * regions + region) * dim + first;                                \
                    const REAL *restrict k = keys + at;                                                               \
                    REAL *restrict sums = keys_sum + at;                                                              \
                    const REAL g = gradient[row * regions + region];                                                  \
                    for (int64_t a = 0; a < count; a++) {                                                             \
                        const REAL s = 1 / (1 + k[a] * q[a]), gs = g * s, slope = gs - gs * s;                        \
                        u[a] += gs;                                                                                   \
                        v[a] += slope;                                                                                \
                        sums[a] += slope;                                                                             \
                    }                                                                                                 \
                }                                                                                                     \
            }                                                                                                         \
        }                                                                                                             \
    }

KERNELS(float, float32)
KERNELS(double, float64)
